"""Keypoints of a walk, the wearer's height and strides in; joint angles, segment sizes and how sure they are out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_capture.filtering import fill_gaps, smooth
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
# A sole lies on the floor while heel and toe both rest, m/s; in swing they pass 2 m/s. Pose estimators' jitter,
# low-passed, stays below it. Shorter rests are turning points of the swing.
RESTING_M_S, SHORTEST_REST_S = 0.5, 0.1
# A keypoint of one camera errs by this share of stature on each axis: 8 px of drift and 5 px of jitter on a
# person 640 px tall. Cameras that are calibrated tell their own.
KEYPOINT_SD_OF_STATURE = 0.015
NOT_FLAT = "the {} foot does not stand flat on the floor; its ankle angle rests on the keypoints alone"


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
        [level for side in SIDES if (level := _flat_foot(keypoints, side, planar)) is not None],
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


def _flat_foot(keypoints: Markers, side: str, planar: bool) -> Level | None:
    """The sole on the floor while the heel and toe keypoints of this leg rest; None on a treadmill or without feet."""
    s = side.upper()
    names = [f"{s}Heel", f"{s}BigToe"]
    if any(name not in keypoints.names for name in names):
        return None
    ends = keypoints.position[:, [keypoints.names.index(name) for name in names], : 2 if planar else 3]
    rate = keypoints.rate_hz
    filled, _ = fill_gaps(ends.reshape(len(ends), -1), rate)
    path = smooth(filled, rate).reshape(ends.shape)
    speed = np.linalg.norm(np.gradient(path, keypoints.time, axis=0), axis=2)
    resting = np.nan_to_num(speed, nan=np.inf).max(axis=1) < RESTING_M_S
    edges = np.flatnonzero(np.diff(np.concatenate([[False], resting, [False]]).astype(int)))
    during = np.zeros(len(resting), dtype=bool)
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= SHORTEST_REST_S * rate:
            during[start:stop] = True
    return Level((f"{s}Ball", f"{s}Sole"), during) if during.any() else None
