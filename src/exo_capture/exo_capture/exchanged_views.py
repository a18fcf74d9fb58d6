"""Left and right exchanged in single cameras, found and mended with the help of the others.

An estimator that sees a walker from the side often takes one leg for the other; one that
sees somebody from behind may take the back for the front, arms and legs. One camera
cannot tell; together with others the exchange shows, because the rays do not meet, and
over time, because limbs do not jump. Every combination of exchanged cameras is a state;
the cheapest sequence of states is what happened.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.cameras import Camera
from exo_capture.landmarks import EYES, LEG_L, LEG_R, LOWER_L, LOWER_R
from exo_capture.triangulation import best_hypothesis, residuals, views

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MAX_FREE = 4  # cameras; up to here all combinations are states, above it one or two cameras at a time
EXCHANGE_COST = 4.0  # per camera and frame, in units of half a squared standard deviation
GATE_SIGMAS = 4.0
DOUBT, NO_DOUBT = 3.0, 50.0  # cost above the usual that calls for a closer look; of a state not looked at
STEP_M, SPEED_M_S, STEP_CAP = 0.03, 1.5, 3.0  # a joint's step costs (step / (STEP_M + SPEED_M_S dt))², capped


@dataclasses.dataclass(frozen=True)
class Limbs:
    """Landmarks that change sides together, joint by joint, and those of them that tell."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    telling_left: tuple[int, ...]
    telling_right: tuple[int, ...]


LEGS = Limbs(LEG_L, LEG_R, LOWER_L, LOWER_R)
ARMS = Limbs((11, 13, 15, EYES[0]), (12, 14, 16, EYES[1]), (11, 13, 15), (12, 14, 16))


def mend_exchanged(
    observations: FloatArray, cameras: Sequence[Camera], time: FloatArray, gate_px: float, limbs: Limbs
) -> tuple[FloatArray, BoolArray]:
    """Give exchanged limbs back their sides.

    Parameters
    ----------
    observations : (c, n, 33, 3) px, px, weight.
    time : (n,) s.
    gate_px : an observation this far off is surely wrong.

    Returns
    -------
    The observations with the limbs in their places, and (c, n) where they had been exchanged.
    """
    count = len(cameras)
    states = _states(count)
    position, cost = _costs(observations, cameras, states, gate_px, limbs)
    sequence = _cheapest(position, cost, time)
    exchanged = states[sequence].T
    # A camera that does not see the limbs has nothing to exchange.
    exchanged &= np.isfinite(observations[:, :, (*limbs.telling_left, *limbs.telling_right), 0]).any(axis=2)
    mended = observations.copy()
    other_side = np.arange(observations.shape[2])
    other_side[[*limbs.left, *limbs.right]] = (*limbs.right, *limbs.left)
    mended[exchanged] = observations[exchanged][:, other_side]
    return mended, exchanged


def _states(count: int) -> BoolArray:
    """(states, c) which cameras are exchanged in each."""
    if count <= MAX_FREE:
        return np.array(list(itertools.product((False, True), repeat=count)))
    groups = [g for size in range(3) for g in itertools.combinations(range(count), size)]
    return np.array([[c in group for c in range(count)] for group in groups])


def _costs(
    observations: FloatArray, cameras: Sequence[Camera], states: BoolArray, gate_px: float, limbs: Limbs
) -> tuple[FloatArray, FloatArray]:
    """Positions (states, n, joints, 3) m of the telling joints, and what the errors cost (states, n)."""
    joints = observations[:, :, (*limbs.telling_left, *limbs.telling_right)]
    half = len(limbs.telling_left)
    mirrored = np.concatenate([joints[:, :, half:], joints[:, :, :half]], axis=2)
    sigma = gate_px / GATE_SIGMAS
    positions = np.full((len(states), *joints.shape[1:3], 3), np.nan)
    costs = np.zeros((len(states), joints.shape[1]))
    done: dict[tuple[bool, ...], int] = {}
    doubtful = np.ones(joints.shape[1], dtype=bool)
    for i, state in enumerate(states):
        twin = done.get(tuple(~state))
        if twin is not None:
            # All cameras the other way round: the same points with the sides' names exchanged.
            positions[i] = np.concatenate([positions[twin][:, half:], positions[twin][:, :half]], axis=1)
            costs[i] = costs[twin]
        else:
            positions[i], costs[i] = positions[0], costs[0] + NO_DOUBT
            seen = views(np.where(state[:, None, None, None], mirrored, joints)[:, doubtful], cameras)
            positions[i, doubtful] = best_hypothesis(seen, np.full(len(cameras), gate_px))
            error = np.linalg.norm(residuals(seen, positions[i, doubtful]), axis=3) / sigma
            costs[i, doubtful] = 0.5 * np.nansum(np.minimum(error, GATE_SIGMAS) ** 2, axis=(0, 2))
        if i == 0 and len(cameras) > 2:
            # Where three rays or more meet as well as they usually do, nothing is exchanged.
            expected = 0.5 * (2.0 * len(cameras) - 3.0) * joints.shape[2]
            doubtful = costs[0] > min(float(np.median(costs[0])), expected) + DOUBT
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
