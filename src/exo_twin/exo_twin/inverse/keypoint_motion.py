"""Keypoints of a walk, the wearer's height and strides in; joint angles, segment sizes and how sure they are out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.keypoint_model import PELVIS_SD_RAD, KeypointModel
from exo_twin.inverse.trajectory import KeypointNoise, Level, Trajectory, fit_trajectory

FloatArray = NDArray[np.float64]

# Coordinates that one side view can tell; all others are held, for a plane assumption invents up to 35 deg of them.
SAGITTAL_COORDINATES = (
    *LEG_COORDINATES,
    "pelvis_tilt",
    "pelvis_tx",
    "pelvis_ty",
    *(f"{name}_{side}" for name in ("arm_flex", "elbow_flex") for side in ("l", "r")),
)
# The middle of stance, as shares of it: the heel has come down by a third and rises after two thirds (Perry 1992).
FLAT = (0.25, 0.55)
# A keypoint of one camera errs by this share of stature on each axis: 8 px of drift and 5 px of jitter on a
# person 640 px tall. Cameras that are calibrated tell their own.
KEYPOINT_SD_OF_STATURE = 0.015
NOT_FLAT = "the {} foot is never flat on the floor in mid-stance; its ankle angle rests on the keypoints alone"
BOUNDED_S = 12.0  # a longer recording is solved in parts of this length


@dataclasses.dataclass(frozen=True)
class KeypointMotion:
    """What keypoints say of the wearer.

    Attributes
    ----------
    trajectory : of all coordinates.
    angles, angles_sd : LEG_COORDINATES -> (n,) rad, flexion and dorsiflexion positive, and standard deviations.
    marker_rms : (n,) m, root mean square distance of the keypoints from the model in what they can tell.
    warnings : sentences.
    """

    trajectory: Trajectory
    angles: dict[str, FloatArray]
    angles_sd: dict[str, FloatArray]
    marker_rms: FloatArray
    warnings: tuple[str, ...]


def solve_keypoints(
    model: KeypointModel,
    keypoints: Markers,
    height: float,
    strides: Sequence[Mapping[str, Any]] = (),
    covariance: FloatArray | None = None,
    planar: bool = False,
) -> KeypointMotion:
    """The most probable motion of the wearer.

    Parameters
    ----------
    keypoints : in OpenSim's frame, m, walking along +x; not smoothed, gaps NaN.
    height : standing, m.
    strides : complete strides (side, start, toe_off, end in s), where known.
    covariance : (k, 3, 3) m^2 of the keypoints' samples, where calibrated cameras know it.
    planar : one side view: depth carries no information.

    Raises
    ------
    ExoError : if too few keypoints are there or no motion explains them.
    """
    tree = model.tree
    held = [model.lumbar]
    if planar:
        held += [name for name in tree.coordinates if name not in SAGITTAL_COORDINATES]
    found = fit_trajectory(
        tree,
        keypoints,
        model.segments(height),
        KeypointNoise(sd=KEYPOINT_SD_OF_STATURE * height),
        covariance,
        planar,
        tuple(held),
        _phase(strides, keypoints.time),
        [level for side in SIDES if (level := _flat_foot(strides, side, keypoints.time)) is not None],
    )
    sign = {name: model.knee_sign if name.startswith("knee") else 1.0 for name in LEG_COORDINATES}
    # What the pelvis does apart from the trunk line is not seen: it belongs into the hips' uncertainty.
    unseen = {name: PELVIS_SD_RAD if name.startswith("hip") else 0.0 for name in LEG_COORDINATES}
    miss = found.residual[..., :2] if planar else found.residual
    distance = np.linalg.norm(miss, axis=2)
    words = {"l": "left", "r": "right"}
    return KeypointMotion(
        found,
        {name: sign[name] * found.coordinate(name) for name in LEG_COORDINATES},
        {name: np.hypot(found.q_sd[:, tree.index(name)], unseen[name]) for name in LEG_COORDINATES},
        np.sqrt(np.nanmean(distance**2, axis=1)),
        tuple(NOT_FLAT.format(words[level.ends[0][0].lower()]) for level in found.not_level),
    )


def _phase(strides: Sequence[Mapping[str, Any]], time: FloatArray) -> FloatArray | None:
    """Gait phase in strides at every time, by the mean stride; None where no stride is known."""
    if not strides:
        return None
    return np.asarray(time / float(np.median([stride["end"] - stride["start"] for stride in strides])))


def _flat_foot(strides: Sequence[Mapping[str, Any]], side: str, time: FloatArray) -> Level | None:
    """The sole on the floor in the middle of this leg's stances."""
    during = np.zeros(len(time), dtype=bool)
    for stride in strides:
        if stride["side"] == side:
            stance = stride["toe_off"] - stride["start"]
            during |= (time > stride["start"] + FLAT[0] * stance) & (time < stride["start"] + FLAT[1] * stance)
    s = side.upper()
    return Level((f"{s}Ball", f"{s}Sole"), during) if during.any() else None
