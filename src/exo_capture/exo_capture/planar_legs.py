"""Legs of constant bone lengths: what a pose estimator's points of one side view mean for a jointed leg.

The points of a leg wander independently; where the leg is hidden the knee slides
along it and the foot shrinks. Real bones do neither. Thigh, shank and foot of one
length each, the same for both legs, are laid through the points of every frame by
least squares, so that a knee too near to hip and ankle becomes a bent one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import LEG_L, LEG_R

ROUNDS = 8  # of Gauss-Newton; it starts within 0.3 rad
DAMPING = 1e-6
FOOT_WEIGHT = 0.5  # heel and toe jitter about twice as much as the joints above
INTERPOLATED_WEIGHT = 0.3

FloatArray = NDArray[np.float64]


def constant_bones(points: FloatArray, interpolated: NDArray[np.bool_]) -> FloatArray:
    """The points of both legs, moved onto legs of constant bone lengths.

    Parameters
    ----------
    points : (n, 33, 2) in units in which the walker has a constant size; NaN where missing.
    interpolated : (n, 33) which of them were not measured.

    Returns
    -------
    (n, 33, 2); a leg without all of hip, knee and ankle in a frame, and whatever is no leg, is left as it was.
    """
    shape = [_lengths(points[:, leg]) for leg in (LEG_L, LEG_R)]
    lengths = np.nanmean(shape, axis=0)
    result = points.copy()
    if np.isfinite(lengths).all():
        for leg in (LEG_L, LEG_R):
            weight = np.where(interpolated[:, leg], INTERPOLATED_WEIGHT, 1.0)
            result[:, leg] = _fit(points[:, leg], weight, lengths)
    return result


def _lengths(leg: FloatArray) -> FloatArray:
    """Median thigh, shank, and heel and toe seen from the ankle: along the foot (heel to toe) and across it, (6,)."""
    hip, knee, ankle, heel, toe = (leg[:, i] for i in range(5))
    along = (toe - heel) / np.linalg.norm(toe - heel, axis=1, keepdims=True)
    across = np.column_stack([-along[:, 1], along[:, 0]])
    measures = [np.linalg.norm(knee - hip, axis=1), np.linalg.norm(ankle - knee, axis=1)]
    measures += [np.sum((end - ankle) * axis, axis=1) for end in (heel, toe) for axis in (along, across)]
    known = np.asarray(np.isfinite(measures).all(axis=0))
    return np.median(np.array(measures)[:, known], axis=1) if known.any() else np.full(6, np.nan)


def _fit(leg: FloatArray, weight: FloatArray, lengths: FloatArray) -> FloatArray:
    """(n, 5, 2) points of a leg of these lengths nearest to the points given."""
    known = np.asarray(np.isfinite(leg).all(axis=2))
    rows = np.flatnonzero(known[:, :3].all(axis=1))
    target, weight = leg[rows], np.where(known[rows], weight[rows], 0.0)
    weight[:, 3:] *= FOOT_WEIGHT
    target = np.where(known[rows][:, :, None], target, 0.0)
    foot_known = known[rows][:, 3:].all(axis=1)
    shank = _direction(target[:, 2] - target[:, 1])
    state = np.column_stack(
        [
            target[:, 0],
            _direction(target[:, 1] - target[:, 0]),
            shank,
            # A foot that is not seen stays at a right angle to the shank; it moves nothing, for it has no weight.
            np.where(foot_known, _direction(target[:, 4] - target[:, 3]), shank + np.pi / 2.0),
        ]
    )
    for _ in range(ROUNDS):
        placed, slope = _leg(state, lengths)
        weighted = slope * weight[:, :, None, None]
        normal = np.einsum("npai,npaj->nij", slope, weighted) + DAMPING * np.eye(state.shape[1])
        gradient = np.einsum("npai,npa->ni", weighted, target - placed)
        state = state + np.linalg.solve(normal, gradient[:, :, None])[:, :, 0]
    result = leg.copy()
    result[rows] = np.where(known[rows][:, :, None], _leg(state, lengths)[0], np.nan)
    return result


def _leg(state: FloatArray, lengths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points (n, 5, 2) of states (n, 5: hip x, hip y, thigh, shank, foot direction) and their derivative (..., 5)."""
    thigh, shank, heel_along, heel_across, toe_along, toe_across = lengths
    unit = np.stack([np.cos(state[:, 2:]), np.sin(state[:, 2:])], axis=2)
    turned = np.stack([-unit[..., 1], unit[..., 0]], axis=2)
    knee = state[:, :2] + thigh * unit[:, 0]
    ankle = knee + shank * unit[:, 1]
    heel = ankle + heel_along * unit[:, 2] + heel_across * turned[:, 2]
    toe = ankle + toe_along * unit[:, 2] + toe_across * turned[:, 2]
    slope = np.zeros((len(state), 5, 2, 5))
    slope[:, :, 0, 0] = slope[:, :, 1, 1] = 1.0
    slope[:, 1:, :, 2] = (thigh * turned[:, 0])[:, None]
    slope[:, 2:, :, 3] = (shank * turned[:, 1])[:, None]
    slope[:, 3, :, 4] = heel_along * turned[:, 2] - heel_across * unit[:, 2]
    slope[:, 4, :, 4] = toe_along * turned[:, 2] - toe_across * unit[:, 2]
    return np.stack([state[:, :2], knee, ankle, heel, toe], axis=1), slope


def _direction(vector: FloatArray) -> FloatArray:
    return np.arctan2(vector[:, 1], vector[:, 0])
