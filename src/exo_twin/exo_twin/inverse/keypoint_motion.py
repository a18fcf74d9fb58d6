"""Keypoints of a walk, the wearer's height and strides in; joint angles, segment sizes and how sure they are out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import fill_gaps, smooth
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.keypoint_model import PELVIS_SD_RAD, KeypointModel
from exo_twin.inverse.trajectory import MIN_SAMPLES, fit_trajectory
from exo_twin.inverse.trajectory_types import KeypointNoise, Level, Trajectory

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
# The heel leaves the floor slowly: between mid-stance and the end of a rest the sole pitches by 8 degrees. Only this
# part of a rest is taken for level: after the forefoot has landed, before the heel rises.
LEVEL_PART = (0.1, 0.5)
# A keypoint of one camera errs by this share of stature on each axis: 8 px of drift and 5 px of jitter on a
# person 640 px tall. Cameras that are calibrated tell their own.
KEYPOINT_SD_OF_STATURE = 0.015
# A longer recording is solved in parts of about this length: the effort grows with the cube of it.
PART_S, OVERLAP_S = 3.0, 0.5
AT_LIMIT_RAD = np.deg2rad(0.5)
NOT_FLAT = "the {} foot does not stand flat on the floor; its ankle angle rests on the keypoints alone"


@dataclasses.dataclass(frozen=True)
class KeypointMotion:
    """What keypoints say of the wearer.

    Attributes
    ----------
    trajectory : of all coordinates.
    angles, angles_sd : LEG_COORDINATES -> (n,) rad, flexion and dorsiflexion positive, and standard deviations.
    miss : (n, k, 3) m, keypoints less model in what they can tell; NaN where not seen.
    marker_rms : (n,) m, root mean square of it over keypoints.
    warnings : sentences.
    """

    trajectory: Trajectory
    angles: dict[str, FloatArray]
    angles_sd: dict[str, FloatArray]
    miss: FloatArray
    marker_rms: FloatArray
    warnings: tuple[str, ...]

    def saturated(self, model: KeypointModel) -> dict[str, float]:
        """LEG_COORDINATES -> share of the frames at an end of the model's range."""
        shares = {}
        for name in LEG_COORDINATES:
            i = model.tree.index(name)
            q = self.trajectory.q[:, i]
            at_limit = (q < model.tree.lower[i] + AT_LIMIT_RAD) | (q > model.tree.upper[i] - AT_LIMIT_RAD)
            shares[name] = round(float(at_limit.mean()), 3)
        return shares


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
    phase = _phase(strides, keypoints.time)
    flat = {side: _flat(keypoints, side, planar) for side in SIDES}

    def part(rows: slice, known: Trajectory | None) -> Trajectory:
        levels = [Level((f"{s.upper()}Ball", f"{s.upper()}Sole"), flat[s][rows]) for s in SIDES]
        return fit_trajectory(
            tree,
            Markers(keypoints.time[rows], keypoints.names, keypoints.position[rows]),
            model.segments(height),
            KeypointNoise(sd=KEYPOINT_SD_OF_STATURE * height),
            covariance,
            planar,
            tuple(held),
            None if phase is None else phase[rows],
            [level for level in levels if level.during.any()],
            known,
        )

    found = _in_parts(keypoints, part)
    sign = {name: model.knee_sign if name.startswith("knee") else 1.0 for name in LEG_COORDINATES}
    # What the pelvis does apart from the trunk line is not seen: it belongs into the hips' uncertainty.
    unseen = {name: PELVIS_SD_RAD if name.startswith("hip") else 0.0 for name in LEG_COORDINATES}
    miss = found.residual * np.array([1.0, 1.0, 0.0 if planar else 1.0])
    squares = np.asarray(np.sum(miss**2, axis=2))
    seen: NDArray[np.bool_] = np.isfinite(squares).any(axis=1)
    rms = np.sqrt(np.nanmean(squares[seen], axis=1))
    words = {"l": "left", "r": "right"}
    return KeypointMotion(
        found,
        {name: sign[name] * found.coordinate(name) for name in LEG_COORDINATES},
        {name: np.hypot(found.q_sd[:, tree.index(name)], unseen[name]) for name in LEG_COORDINATES},
        miss,
        np.interp(found.time, found.time[seen], rms),
        tuple(NOT_FLAT.format(words[level.ends[0][0].lower()]) for level in found.not_level),
    )


def _phase(strides: Sequence[Mapping[str, Any]], time: FloatArray) -> FloatArray | None:
    """Gait phase in strides at every time, by the median stride; None where no stride is known."""
    if not strides:
        return None
    return np.asarray(time / float(np.median([stride["end"] - stride["start"] for stride in strides])))


def _flat(keypoints: Markers, side: str, planar: bool) -> NDArray[np.bool_]:
    """When the sole of this leg lies flat (n,): its heel and toe keypoints rest. Never on a treadmill."""
    s = side.upper()
    names = [f"{s}Heel", f"{s}BigToe"]
    during = np.zeros(len(keypoints.time), dtype=bool)
    if any(name not in keypoints.names for name in names):
        return during
    ends = keypoints.position[:, [keypoints.names.index(name) for name in names], : 2 if planar else 3]
    rate = keypoints.rate_hz
    filled, _ = fill_gaps(ends.reshape(len(ends), -1), rate)
    path = smooth(filled, rate).reshape(ends.shape)
    speed = np.linalg.norm(np.gradient(path, keypoints.time, axis=0), axis=2)
    resting = np.nan_to_num(speed, nan=np.inf).max(axis=1) < RESTING_M_S
    edges = np.flatnonzero(np.diff(np.concatenate([[False], resting, [False]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= SHORTEST_REST_S * rate:
            first, last = (start + round(share * (stop - start - 1)) for share in LEVEL_PART)
            during[first : last + 1] = True
    return during


def _in_parts(keypoints: Markers, solve: Callable[[slice, Trajectory | None], Trajectory]) -> Trajectory:
    """A long recording in parts that overlap: the best seen one tells the person's measures to the others."""
    n, overlap = len(keypoints.time), round(OVERLAP_S * keypoints.rate_hz)
    count = max(1, int(np.ceil(float(np.ptp(keypoints.time)) / PART_S)))
    edges = np.linspace(0, n, count + 1).round().astype(int)
    rows = [slice(max(0, a - overlap), min(n, b + overlap)) for a, b in itertools.pairwise(edges)]
    rows = [part for part in rows if _enough(keypoints, part)]
    if not rows:
        return solve(slice(0, n), None)  # refuses, with the reason
    count = len(rows)
    seen = [int(np.isfinite(keypoints.position[part, :, 0]).sum()) for part in rows]
    first = int(np.argmax(seen))
    known = solve(rows[first], None)
    if count == 1 and rows[0] == slice(0, n):
        return known
    parts = [known if i == first else _less_sure(solve(part, known), known) for i, part in enumerate(rows)]
    # Where parts overlap, one fades into the other.
    weight, full = np.zeros((count, n)), 2.0 * overlap + 1.0
    for i, part in enumerate(rows):
        ramp = np.minimum(np.arange(1.0, part.stop - part.start + 1), full)
        weight[i, part] = (ramp if part.start else full) * (ramp[::-1] if part.stop < n else full)
    covered = weight.sum(axis=0)
    weight = np.divide(weight, covered, out=weight, where=covered > 0.0)

    def blended(name: str) -> FloatArray:
        total = np.zeros((n, *getattr(known, name).shape[1:]))
        for i, (part, found) in enumerate(zip(rows, parts, strict=True)):
            own = getattr(found, name)
            total[part] += weight[i, part].reshape(-1, *[1] * (own.ndim - 1)) * own
        total[covered == 0.0] = np.nan
        return total

    return dataclasses.replace(
        known,
        time=keypoints.time,
        q=blended("q"),
        q_sd=blended("q_sd"),
        residual=_residual(keypoints, known, rows, parts, weight),
        dropped=float(np.mean([found.dropped for found in parts])),
        not_level=tuple({level.ends: level for found in parts for level in found.not_level}.values()),
    )


def _enough(keypoints: Markers, part: slice) -> bool:
    """Whether enough keypoints are seen often enough in a part."""
    often = np.isfinite(keypoints.position[part, :, 0]).sum(axis=0) >= MIN_SAMPLES
    return int(often.sum()) >= MIN_SAMPLES


def _less_sure(part: Trajectory, known: Trajectory) -> Trajectory:
    """A part that took the person's measures over is no surer of its angles than the part that found them."""
    return dataclasses.replace(part, q_sd=np.maximum(part.q_sd, known.q_sd.mean(axis=0)))


def _residual(
    keypoints: Markers, known: Trajectory, rows: Sequence[slice], parts: Sequence[Trajectory], weight: FloatArray
) -> FloatArray:
    """Each frame's residual from the part that weighs most there; NaN for a keypoint that part does not have."""
    result = np.full((len(keypoints.time), len(known.markers), 3), np.nan)
    chief = np.where(weight.sum(axis=0) > 0.0, weight.argmax(axis=0), -1)
    for i, (part, found) in enumerate(zip(rows, parts, strict=True)):
        own = np.flatnonzero(chief == i)
        for k, name in enumerate(known.markers):
            if name in found.markers:
                result[own, k] = found.residual[own - part.start, found.markers.index(name)]
    return result
