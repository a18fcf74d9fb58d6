"""Points in the room that cannot belong to a body: wrong bone lengths, impossible jumps; and short gaps closed."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import fill_gaps
from exo_capture.landmarks import ANKLES, HEELS, HIPS, KNEES, SHOULDERS, TOES
from exo_capture.leg_repair import jumping_joints

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ELBOWS, WRISTS = (13, 14), (15, 16)
LEG_BONES = tuple(
    (a[side], b[side])
    for side in (0, 1)
    for a, b in ((HIPS, KNEES), (KNEES, ANKLES), (ANKLES, HEELS), (ANKLES, TOES), (HEELS, TOES))
)
ARM_BONES = tuple((a[side], b[side]) for side in (0, 1) for a, b in ((SHOULDERS, ELBOWS), (ELBOWS, WRISTS)))
BONES = (*LEG_BONES, *ARM_BONES, HIPS, SHOULDERS)
# A bone may seem longer or shorter by this, for an estimator's joint is not the anatomical one.
BONE_TOLERANCE, BONE_TOLERANCE_M = 0.15, 0.05
# Where the whole recording is noisy, the noise is not held against single frames.
TOLERATED_SIGMAS = 4.0
BONE_ROUNDS = 4
REACH_QUANTILE, REACH_MARGIN_M = 0.95, 0.2  # a limb's end is hardly ever further from the hips than it usually gets
SUPPORT_S, MIN_SUPPORT = 0.1, 0.3  # a point with fewer neighbours in time than this share cannot be judged
TYPICAL_STATURE_M = 1.7
MAD_TO_SIGMA = 1.4826


@dataclasses.dataclass(frozen=True)
class Repaired:
    """Points (n, 33, 3) m after repair; (n, 33) what was rejected, and what was interpolated."""

    position: FloatArray
    rejected: BoolArray
    filled: BoolArray


def repair_skeleton(position: FloatArray, uncertainty: FloatArray, rate_hz: float) -> Repaired:
    """Drop points that jump, stretch a bone or are out of reach, then close short gaps; nothing is extrapolated.

    Parameters
    ----------
    position : (n, 33, 3) m; NaN where missing.
    uncertainty : (n, 33) m; of the two ends of a wrong bone the more uncertain one goes.
    """
    kept = position.copy()
    kept[_out_of_reach(kept)] = np.nan
    kept[jumping_points(kept, rate_hz)] = np.nan
    kept[_stretched(kept, uncertainty)] = np.nan
    kept[_isolated(kept, rate_hz)] = np.nan
    rejected = np.isfinite(position[..., 0]) & ~np.isfinite(kept[..., 0])
    filled, added = fill_gaps(kept.reshape(len(kept), -1), rate_hz)
    return Repaired(filled.reshape(kept.shape), rejected, added.reshape(kept.shape)[:, :, 0])


def jumping_points(position: FloatArray, rate_hz: float) -> BoolArray:
    """(n, k) points (n, k, 3) m that lie off the smooth motion of their neighbours in time."""
    result = np.zeros(position.shape[:2], dtype=bool)
    present = np.isfinite(position[..., 0]).any(axis=0)
    # The test counts in body heights.
    result[:, present] = jumping_joints(position[:, present] / TYPICAL_STATURE_M, rate_hz)
    return result


def bone_lengths(position: FloatArray, bones: tuple[tuple[int, int], ...] = BONES) -> FloatArray:
    """(n, bones) m, NaN where an end is missing."""
    ends = np.array(bones)
    return np.asarray(np.linalg.norm(position[:, ends[:, 0]] - position[:, ends[:, 1]], axis=2))


def _out_of_reach(position: FloatArray) -> BoolArray:
    """(n, k) points further from the middle of the hips than they usually get."""
    distance = np.linalg.norm(position - position[:, HIPS].mean(axis=1, keepdims=True), axis=2)
    result = np.zeros(distance.shape, dtype=bool)
    for k in np.flatnonzero(np.isfinite(distance).any(axis=0)):
        usual = np.quantile(distance[np.isfinite(distance[:, k]), k], REACH_QUANTILE)
        result[:, k] = distance[:, k] > usual + REACH_MARGIN_M
    return result


def _stretched(position: FloatArray, uncertainty: FloatArray) -> BoolArray:
    """(n, k) ends of bones whose length is far from its median; the end of most wrong bones goes first."""
    length = bone_lengths(position)
    seen = np.isfinite(length).any(axis=0)
    typical, spread = np.full(length.shape[1], np.nan), np.full(length.shape[1], np.nan)
    typical[seen] = np.nanmedian(length[:, seen], axis=0)
    spread[seen] = MAD_TO_SIGMA * np.nanmedian(np.abs(length[:, seen] - typical[seen]), axis=0)
    tolerance = np.maximum(np.maximum(BONE_TOLERANCE * typical, BONE_TOLERANCE_M), TOLERATED_SIGMAS * spread)
    kept, result = position.copy(), np.zeros(position.shape[:2], dtype=bool)
    for _ in range(BONE_ROUNDS):
        wrong = np.abs(bone_lengths(kept) - typical) > tolerance
        frames = np.flatnonzero(wrong.any(axis=1))
        if not len(frames):
            break
        blame = np.zeros(position.shape[:2])
        for i, ends in enumerate(BONES):
            blame[:, ends] += wrong[:, i, None]
        # Uncertainty breaks ties: it is far below 1 m.
        blame += np.where(blame > 0.0, np.minimum(uncertainty, 0.99), 0.0)
        worst = np.argmax(blame[frames], axis=1)
        result[frames, worst] = True
        kept[frames, worst] = np.nan
    return result


def _isolated(position: FloatArray, rate_hz: float) -> BoolArray:
    known = np.isfinite(position[..., 0])
    width = 2 * max(1, round(SUPPORT_S * rate_hz)) + 1
    window = np.ones(width)
    near = np.stack([np.convolve(known[:, k], window, mode="same") for k in range(known.shape[1])], axis=1)
    possible = np.convolve(np.ones(len(known)), window, mode="same")[:, None]
    return np.asarray(known & (near < MIN_SUPPORT * possible))
