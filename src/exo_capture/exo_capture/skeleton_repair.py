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
TYPICAL_STATURE_M = 1.7


@dataclasses.dataclass(frozen=True)
class Repaired:
    """Points (n, 33, 3) m after repair; (n, 33) what was rejected, and what was interpolated."""

    position: FloatArray
    rejected: BoolArray
    filled: BoolArray


def repair_skeleton(position: FloatArray, uncertainty: FloatArray, rate_hz: float) -> Repaired:
    """Drop points that jump or stretch a bone, then close short gaps; nothing is extrapolated.

    Parameters
    ----------
    position : (n, 33, 3) m, y up; NaN where missing.
    uncertainty : (n, 33) m; of the two ends of a wrong bone the more uncertain one goes.
    """
    centre = np.nanmedian(position, axis=1, keepdims=True) if position.size else position
    # The jump test counts in body heights.
    rejected = jumping_joints((position - centre) / TYPICAL_STATURE_M, rate_hz)
    kept = np.where(rejected[..., None], np.nan, position)
    stretched = _stretched(kept, uncertainty)
    kept[stretched] = np.nan
    filled, added = fill_gaps(kept.reshape(len(kept), -1), rate_hz)
    return Repaired(filled.reshape(kept.shape), rejected | stretched, added.reshape(kept.shape)[:, :, 0])


def bone_lengths(position: FloatArray, bones: tuple[tuple[int, int], ...] = BONES) -> FloatArray:
    """(n, bones) m, NaN where an end is missing."""
    ends = np.array(bones)
    return np.asarray(np.linalg.norm(position[:, ends[:, 0]] - position[:, ends[:, 1]], axis=2))


def _stretched(position: FloatArray, uncertainty: FloatArray) -> BoolArray:
    """(n, 33) ends of bones whose length is far from its median, the more uncertain end of each."""
    length = bone_lengths(position)
    known = np.isfinite(length).any(axis=0)
    typical = np.full(length.shape[1], np.nan)
    typical[known] = np.nanmedian(length[:, known], axis=0)
    wrong = np.abs(length - typical) > np.maximum(BONE_TOLERANCE * typical, BONE_TOLERANCE_M)
    result = np.zeros(position.shape[:2], dtype=bool)
    # An end of several wrong bones is the culprit of all of them.
    blame = np.zeros(position.shape[:2])
    for i, (a, b) in enumerate(BONES):
        blame[:, a] += wrong[:, i]
        blame[:, b] += wrong[:, i]
    for i, (a, b) in enumerate(BONES):
        first = (blame[:, a] > blame[:, b]) | ((blame[:, a] == blame[:, b]) & (uncertainty[:, a] > uncertainty[:, b]))
        result[wrong[:, i] & first, a] = True
        result[wrong[:, i] & ~first, b] = True
    return result
