"""Tendons that stretch: the force that fibre and tendon agree on, over a whole trajectory or frame by frame.

A stretched tendon makes its fibre shorter, and while its force changes, slower or faster than the path. So the force F
that the muscles are called to pull with depends on the force that stretched their tendons: F = called(F). Its root is
found by Newton's method over all frames at once. The called force answers to the fibres' state through the bounds,
the prices of the moments and the other muscles (`activation_problem.Response`), and the fibres' velocities tie
neighbouring frames together: the equations are banded, whatever the weights of the problem.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from exo_twin.inverse.activation_problem import Response
from exo_twin.inverse.muscle_model import FibreState, MuscleModel

FloatArray = NDArray[np.float64]

# Tendons stretch by about 5 % at a muscle's largest force (Zajac 1989): where the tendon is five times as long as the
# fibre, by a quarter of the fibre's optimal length, which its force answers to. In the Rajagopal family these are
# soleus, gastrocnemii and the long muscles of the shank.
LONG_TENDON = 5.0
PASSES_MAX = 20
PASSES_LIVE = 2
SETTLED = 1e-3  # of the maximal force, largest disagreement in any frame
TOLERATED = 0.02  # above it a result is not used
PROBE = 1e-4  # finite differences: of the maximal force, the optimal length, the largest velocity
STEP_MAX = 0.3  # of the maximal force, in one pass
PARTS = (1.0, 0.5, 0.25, 0.125, 0.0625)  # of a step, tried in turn until one brings agreement nearer


def long_tendons(model: MuscleModel) -> NDArray[np.int64]:
    """Indices of the muscles whose tendons are long enough to matter; one without strength stretches nothing."""
    long = model.tendon_slack_length / model.optimal_fiber_length >= LONG_TENDON
    return np.flatnonzero(long & (model.max_isometric_force > 0.0))


@dataclasses.dataclass(frozen=True)
class Differences:
    """How a rate follows from values: rate_i = before_i x_(i-1) + here_i x_i + after_i x_(i+1) + known_i.

    Attributes
    ----------
    before, here, after : (n,) 1/s.
    known : (n, e), of frames that are past.
    """

    before: FloatArray
    here: FloatArray
    after: FloatArray
    known: FloatArray

    def rate(self, x: FloatArray) -> FloatArray:
        """(n, e) per s of (n, e)."""
        found = self.here[:, None] * x + self.known
        found[1:] += self.before[1:, None] * x[:-1]
        found[:-1] += self.after[:-1, None] * x[1:]
        return found


def central(time: FloatArray, muscles: int) -> Differences:
    """Over a trajectory: across both neighbours, at its end from the frame before, at its start at rest.

    Fibres forget how they began, so their equation wants a start and no forward difference, which would be unstable.
    """
    n = len(time)
    found = none(n, muscles)
    before, here, after = found.before, found.here, found.after
    if n > 1:
        step = np.diff(time)
        span = step[1:] + step[:-1]
        after[1:-1], before[1:-1] = 1.0 / span, -1.0 / span
        here[-1], before[-1] = 1.0 / step[-1], -1.0 / step[-1]
    return found


def none(frames: int, muscles: int) -> Differences:
    """Tendons that stretch without haste: their velocity is left out."""
    return Differences(np.zeros(frames), np.zeros(frames), np.zeros(frames), np.zeros((frames, muscles)))


def backward(step: float, last: FloatArray) -> Differences:
    """Of one frame, from the one `step` s before it, whose values were (e,)."""
    return Differences(np.zeros(1), np.array([1.0 / step]), np.zeros(1), -last[None] / step)


@dataclasses.dataclass(frozen=True)
class Agreed:
    """What :func:`agree` found: force (n, e) N, tendon length (n, e) m, largest disagreement left (of max force)."""

    force: FloatArray
    tendon: FloatArray
    disagreement: float


def agree(
    model: MuscleModel,
    length: FloatArray,
    velocity: FloatArray,
    differences: Differences,
    share: Callable[[FibreState], tuple[FloatArray, Response]],
    start: FloatArray,
    passes: int = PASSES_MAX,
) -> Agreed:
    """The forces of e muscles with elastic tendons in n frames.

    Parameters
    ----------
    model : of the e muscles.
    length, velocity : (n, e) m and m/s, of their paths.
    differences : how the tendons' velocities follow from their lengths.
    share : forces (n, e) N that the problem calls for with the fibres in a state, and how they answer to it.
    start : (n, e) N to begin with.
    """
    largest = model.max_isometric_force
    force = np.maximum(start, 0.0)

    def called(at: FloatArray) -> tuple[FloatArray, Response, FloatArray]:
        tendon = model.tendon_length(at)
        found, response = share(model.fibres(length, velocity, at, differences.rate(tendon)))
        return found - at, response, tendon

    miss, response, tendon = called(force)
    for _ in range(passes):
        if _worst(miss / largest) < SETTLED:
            break
        step = _newton(model, length, velocity, differences, force, miss, response)
        step = np.clip(step, -STEP_MAX * largest, STEP_MAX * largest)
        # The shortest part is taken in any case: it gets over the corners that bounds make.
        for part in PARTS:
            tried = np.maximum(force + part * step, 0.0)
            outcome = called(tried)
            if _total(outcome[0] / largest) < _total(miss / largest):
                break
        force, (miss, response, tendon) = tried, outcome
    worst = _worst(miss / largest)
    return Agreed(force, tendon, worst)


def _worst(miss: FloatArray) -> float:
    return float(np.max(np.abs(miss), initial=0.0))


def _total(miss: FloatArray) -> float:
    return float(np.sum(np.square(miss)))


def _newton(
    model: MuscleModel,
    length: FloatArray,
    velocity: FloatArray,
    differences: Differences,
    force: FloatArray,
    miss: FloatArray,
    response: Response,
) -> FloatArray:
    """The step (n, e) N that would close the disagreement if everything were linear."""
    n, e = force.shape
    probe = PROBE * model.max_isometric_force
    tendon = model.tendon_length(force)
    compliance = (model.tendon_length(force + probe) - tendon) / probe
    rate = differences.rate(tendon)
    here = model.fibres(length, velocity, force, rate)
    shift, gust = (
        PROBE * model.optimal_fiber_length,
        PROBE * model.optimal_fiber_length * model.max_contraction_velocity,
    )
    moved = model.fibres(length + shift, velocity, force, rate)
    faster = model.fibres(length, velocity + gust, force, rate)
    # d called / d tendon length, and / d tendon velocity: (n, e, e), rows are the called forces.
    by_length = -response.to(moved.active - here.active, moved.passive - here.passive) / shift
    by_velocity = -response.to(faster.active - here.active, faster.passive - here.passive) / gust
    middle = by_length + by_velocity * differences.here[:, None, None]
    blocks = {
        0: middle,
        -1: by_velocity * differences.before[:, None, None],
        1: by_velocity * differences.after[:, None, None],
    }
    width = 2 * e - 1
    banded = np.zeros((2 * width + 1, n * e))
    frame, row, column = np.meshgrid(np.arange(n), np.arange(e), np.arange(e), indexing="ij")
    for offset, block in blocks.items():
        inside = (frame + offset >= 0) & (frame + offset < n)
        i, j = (frame * e + row)[inside], ((frame + offset) * e + column)[inside]
        banded[width + i - j, j] = block[inside] * compliance.ravel()[j]
    banded[width] -= 1.0
    return np.asarray(solve_banded((width, width), banded, -miss.ravel()).reshape(n, e))
