"""The wearer's own stride as three worn IMUs and two encoders should see it: what a calibration is laid beside."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from exo_common.errors import ExoError
from exo_common.frames import HIPS, OPENSIM_TO_ROS, SIDES
from exo_common.opensim_files import read_storage
from exo_twin.calibration import SEGMENTS
from exo_twin.inverse.body_motion import MovingTree, cross
from exo_twin.inverse.dynamics_files import read_coordinates
from exo_twin.inverse.kinematic_tree import KinematicTree, flexion_sign
from exo_twin.inverse.tree_file import tree_from_arrays
from exo_twin.periodic import Periodic
from exo_twin.twin import Twin

FloatArray = NDArray[np.float64]

GRID = 100  # samples of a stride
HARMONICS = 6
BODIES = {"pelvis": "pelvis", "thigh_l": "femur_l", "thigh_r": "femur_r"}
# Where the sensors sit on the bodies in OpenSim's axes, m, roughly: it matters only for how they swing forward.
PLACES = {"pelvis": (-0.12, 0.0, 0.0), "thigh_l": (0.0, -0.2, -0.08), "thigh_r": (0.0, -0.2, 0.08)}


# How well the mean posture over a stride repeats, about a segment's x, y, z, and a hip's mean flexion: set to what was
# seen between the comfortable and the fast walk of the 12 wearers of gait_speeds (0.7 to 0.8, 1.5 to 1.9, 1.8 and 2.6
# degrees RMS), so at one pace they are generous, and their coverage on those wearers is no independent test.
POSTURE_SD, HIP_SD = np.deg2rad([1.0, 1.8, 1.8]), np.deg2rad(2.5)
# A twin made from one camera knows the sagittal plane only. Assumed, not measured: how much people differ in the mean
# rotation and abduction of the hip, and how far one camera errs in the trunk's line.
SAGITTAL_SD, SAGITTAL_HIP_SD = np.deg2rad([3.0, 5.0, 6.0]), np.deg2rad(5.0)
PLANAR_RAD = np.deg2rad(1.0)  # range of a coordinate that was locked
# m per stride; a pelvis that travels less walked on a treadmill, along the model's x.
TRAVEL_M = 0.2
SAGITTAL = (
    "the twin knows the sagittal plane only: the hips' rotation and abduction and the pelvis' list and rotation are "
    "taken as zero"
)


@dataclasses.dataclass(frozen=True)
class ReferenceStride:
    """One mean stride over its phase; GRID samples, in the walking frame: x along the way, y left, z up.

    Attributes
    ----------
    stride_s : how long it takes, s.
    hips : (2, GRID) rad, left and right, flexion positive.
    turn : segment -> (GRID, 3, 3) from the segment's axes to the walking frame.
    swing : segment -> (GRID,) horizontal velocity of the sensor about its mean, x + iy, m per stride.
    posture_sd : segment -> (3,) rad, how well the mean posture repeats about the segment's x, y, z.
    hip_sd : rad, how well a hip's mean flexion repeats.
    warnings : sentences.
    """

    stride_s: float
    hips: FloatArray
    turn: Mapping[str, FloatArray]
    swing: Mapping[str, NDArray[np.complex128]]
    posture_sd: Mapping[str, FloatArray]
    hip_sd: float
    warnings: tuple[str, ...] = ()

    def rate(self, segment: str) -> FloatArray:
        """(GRID, 3) angular velocity in the segment's axes, rad per stride."""
        turns = Rotation.from_matrix(self.turn[segment])
        ahead = Rotation.from_matrix(np.roll(self.turn[segment], -1, axis=0))
        behind = Rotation.from_matrix(np.roll(self.turn[segment], 1, axis=0))
        return np.asarray(0.5 * GRID * ((turns.inv() * ahead).as_rotvec() + (behind.inv() * turns).as_rotvec()))

    def spin(self, segment: str) -> FloatArray:
        """(GRID, 3) angular velocity in the walking frame, rad per stride."""
        return np.einsum("gij,gj->gi", self.turn[segment], self.rate(segment))


def reference_of_twin(twin: Twin) -> ReferenceStride:
    """The mean stride of a twin's own walk.

    Raises
    ------
    ExoError : if the twin lacks its motion or its joints.
    """
    path = twin.folder / "coordinates.mot"
    if not path.is_file():
        raise ExoError(f"{twin.folder} holds no coordinates.mot; make the twin again with ./exo personalise <session>")
    tree, _ = tree_from_arrays(twin.model)
    table = read_storage(path)
    strides = [(float(s["start"]), float(s["end"])) for s in twin.gait.strides if s["side"] == SIDES[0]]
    if not strides or len(table.time) < GRID // 2:
        raise ExoError(f"{path} holds no stride of the left leg; make the twin again with ./exo personalise <session>")
    return reference_from_motion(tree, table.time, read_coordinates(table, tree), strides)


def reference_from_motion(
    tree: KinematicTree, time: FloatArray, q: FloatArray, strides: Sequence[tuple[float, float]]
) -> ReferenceStride:
    """The mean of recorded strides.

    Parameters
    ----------
    time, q : (n,) s and (n, n_coordinates) in the tree's order and signs, rad and m.
    strides : begin and end of each, s, all of the left leg.
    """
    at = np.linspace(0.0, 1.0, GRID + 1)
    mean = np.mean([[np.interp(a + (b - a) * at, time, column) for column in q.T] for a, b in strides], axis=0)
    phase = np.arange(GRID) / GRID
    loops = [Periodic.from_curve(curve, HARMONICS) for curve in mean]
    values, slopes = (np.column_stack([loop(phase, derivative=d) for loop in loops]) for d in (0, 1))
    ahead, aside = (mean[tree.index(name)][-1] - mean[tree.index(name)][0] for name in ("pelvis_tx", "pelvis_tz"))
    heading = np.arctan2(-aside, ahead) if np.hypot(ahead, aside) > TRAVEL_M else 0.0
    # OpenSim's ground to ROS, then about the vertical until x is the way.
    to_way = Rotation.from_euler("z", -heading).as_matrix() @ OPENSIM_TO_ROS
    moved = MovingTree(tree).at(values, slopes, np.zeros_like(slopes))
    turn, swing = {}, {}
    for name in SEGMENTS:
        body = tree.bodies.index(BODIES[name])
        turn[name] = to_way @ moved.turn[:, body] @ OPENSIM_TO_ROS.T
        reach = moved.turn[:, body] @ np.array(PLACES[name])
        speed = (moved.velocity[:, body] + cross(moved.spin[:, body], reach)) @ to_way.T
        flat = speed[:, 0] + 1j * speed[:, 1]
        swing[name] = flat - flat.mean()
    hips = np.array([flexion_sign(tree, name) * values[:, tree.index(name)] for name in HIPS])
    aside_of_plane = [f"hip_{word}_{side}" for word in ("adduction", "rotation") for side in SIDES]
    planar = all(np.ptp(values[:, tree.index(name)]) < PLANAR_RAD for name in aside_of_plane)
    return ReferenceStride(
        float(np.mean(np.diff(strides))),
        hips,
        turn,
        swing,
        dict.fromkeys(SEGMENTS, SAGITTAL_SD if planar else POSTURE_SD),
        float(SAGITTAL_HIP_SD if planar else HIP_SD),
        (SAGITTAL,) if planar else (),
    )
