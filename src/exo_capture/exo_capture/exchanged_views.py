"""Left and right leg exchanged in single cameras, found and mended with the help of the others.

An estimator that sees a walker from the side often takes one leg for the other. One
camera cannot tell; together with others the exchange shows, because the rays do not
meet, and over time, because legs do not jump. Every combination of exchanged cameras
is a state; the cheapest sequence of states is what happened.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.cameras import Camera
from exo_capture.landmarks import LEG_L, LEG_R, LOWER_L, LOWER_R
from exo_capture.triangulation import best_hypothesis, residuals, views

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MAX_FREE = 4  # cameras; up to here all combinations are states, above it one or two cameras at a time
LOWER = (*LOWER_L, *LOWER_R)
HALF = len(LOWER_L)
EXCHANGE_COST = 3.0  # per camera and frame, in units of half a squared standard deviation
GATE_SIGMAS = 4.0
STEP_M, SPEED_M_S, STEP_CAP = 0.03, 1.5, 3.0  # a joint's step costs (step / (STEP_M + SPEED_M_S dt))², capped


def mend_exchanged_legs(
    observations: FloatArray, cameras: Sequence[Camera], time: FloatArray, gate_px: float
) -> tuple[FloatArray, BoolArray]:
    """Give exchanged legs back their sides.

    Parameters
    ----------
    observations : (c, n, 33, 3) px, px, weight.
    time : (n,) s.
    gate_px : an observation this far off is surely wrong.

    Returns
    -------
    The observations with the legs in their places, and (c, n) where they had been exchanged.
    """
    count = len(cameras)
    states = _states(count)
    position, cost = _costs(observations, cameras, states, gate_px)
    sequence = _cheapest(position, cost, time)
    exchanged = states[sequence].T
    # A camera that does not see the legs has nothing to exchange.
    exchanged &= np.isfinite(observations[:, :, LOWER, 0]).any(axis=2)
    mended = observations.copy()
    other_leg = np.arange(observations.shape[2])
    other_leg[[*LEG_L, *LEG_R]] = (*LEG_R, *LEG_L)
    mended[exchanged] = observations[exchanged][:, other_leg]
    return mended, exchanged


def _states(count: int) -> BoolArray:
    """(states, c) which cameras are exchanged in each."""
    if count <= MAX_FREE:
        return np.array(list(itertools.product((False, True), repeat=count)))
    groups = [g for size in range(3) for g in itertools.combinations(range(count), size)]
    return np.array([[c in group for c in range(count)] for group in groups])


def _costs(
    observations: FloatArray, cameras: Sequence[Camera], states: BoolArray, gate_px: float
) -> tuple[FloatArray, FloatArray]:
    """Positions (states, n, joints, 3) m of the lower legs, and what the errors cost (states, n)."""
    legs = observations[:, :, LOWER]
    mirrored = np.concatenate([legs[:, :, HALF:], legs[:, :, :HALF]], axis=2)
    sigma = gate_px / GATE_SIGMAS
    positions = np.full((len(states), *legs.shape[1:3], 3), np.nan)
    costs = np.zeros((len(states), legs.shape[1]))
    done: dict[tuple[bool, ...], int] = {}
    for i, state in enumerate(states):
        twin = done.get(tuple(~state))
        if twin is not None:
            # All cameras the other way round: the same points with the sides' names exchanged.
            positions[i] = np.concatenate([positions[twin][:, HALF:], positions[twin][:, :HALF]], axis=1)
            costs[i] = costs[twin]
        else:
            seen = views(np.where(state[:, None, None, None], mirrored, legs), cameras)
            positions[i] = best_hypothesis(seen, np.full(len(cameras), gate_px))
            error = np.linalg.norm(residuals(seen, positions[i]), axis=3) / sigma
            costs[i] = 0.5 * np.nansum(np.minimum(error, GATE_SIGMAS) ** 2, axis=(0, 2))
        done[tuple(state)] = i
    return positions, costs + EXCHANGE_COST * states.sum(axis=1)[:, None]


def _cheapest(position: FloatArray, cost: FloatArray, time: FloatArray) -> NDArray[np.int64]:
    """Viterbi: the sequence (n,) of states with the least sum of errors and of the joints' steps."""
    states, n = cost.shape
    back = np.zeros((n, states), dtype=np.int64)
    total = cost[:, 0].copy()
    for t in range(1, n):
        reach = STEP_M + SPEED_M_S * (time[t] - time[t - 1])
        step = np.linalg.norm(position[:, None, t] - position[None, :, t - 1], axis=3) / reach
        change = 0.5 * np.where(np.isfinite(step), np.minimum(step, STEP_CAP), 0.0) ** 2
        ways = total[None, :] + change.sum(axis=2)
        back[t] = np.argmin(ways, axis=1)
        total = ways[np.arange(states), back[t]] + cost[:, t]
    sequence = np.empty(n, dtype=np.int64)
    sequence[-1] = int(np.argmin(total))
    for t in range(n - 1, 0, -1):
        sequence[t - 1] = back[t, sequence[t]]
    return sequence
