"""The convex problem that shares joint moments among muscles, for many frames at once.

    minimise  1/2 sum_i d_i a_i^2 - c_i a_i  +  1/2 sum_j w_j (b_j - A_j a)^2     subject to  low <= a <= high

with m activations and k moments, k small. Each activation is the bounded minimum of its own parabola once the prices
p_j = w_j (b_j - A_j a) of the moments are known: a = clip((c + A^T p) / d, low, high). What is left is a
piecewise-linear equation in the k prices, the slope of a strongly convex function (the problem's dual):

    g(p) = p / w - b + A a(p) = 0

Semi-smooth Newton steps, each as long as is best along its direction, reach its root in finitely many steps
(Facchinei & Pang 2003, ch. 8), for all frames together; a frame that rounding keeps from it is solved by bounded
least squares.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-10  # of g, relative to the largest it could be
STEPS_MAX = 60
FAR = 1e12  # a step so long changes nothing more


@dataclasses.dataclass(frozen=True)
class Problem:
    """n frames of m activations and k moments.

    Attributes
    ----------
    curvature : (n, m) d, positive.
    pull : (n, m) c.
    effect : (n, k, m) A, moment per unit of activation.
    wanted : (n, k) b.
    weight : (n, k) w, positive. A moment of no interest has a row of zeros in A, and zero in b.
    low, high : (n, m) bounds.
    """

    curvature: FloatArray
    pull: FloatArray
    effect: FloatArray
    wanted: FloatArray
    weight: FloatArray
    low: FloatArray
    high: FloatArray

    def frames(self, rows: NDArray[np.int64]) -> Problem:
        """Some of the frames."""
        return Problem(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def unbounded(self, price: FloatArray) -> FloatArray:
        """The activations (n, m) that prices (n, k) call for, bounds apart."""
        return np.asarray((self.pull + np.matmul(price[:, None, :], self.effect)[:, 0]) / self.curvature)

    def residual(self, price: FloatArray, activation: FloatArray) -> FloatArray:
        """g (n, k), in the unit of the moments."""
        return np.asarray(price / self.weight - self.wanted + self.moment(activation))

    def moment(self, activation: FloatArray) -> FloatArray:
        """A a (n, k)."""
        return np.asarray(np.matmul(self.effect, activation[:, :, None])[:, :, 0])


@dataclasses.dataclass(frozen=True)
class Sharing:
    """The solution: activation (n, m), prices (n, k), and the number of frames that needed bounded least squares."""

    activation: FloatArray
    price: FloatArray
    fallbacks: int


def solve(problem: Problem, start: FloatArray | None = None) -> Sharing:
    """Solve every frame.

    Parameters
    ----------
    start : (n, k) prices to begin with, e.g. those of the frame before; None: none.
    """
    price = np.zeros_like(problem.wanted) if start is None else start.copy()
    activation = np.empty_like(problem.pull)
    left, part, p = np.arange(len(price)), problem, price.copy()
    largest = np.matmul(np.abs(problem.effect), problem.high[:, :, None])[:, :, 0]
    limit = TOLERANCE * (1.0 + np.abs(problem.wanted) + largest)
    for _ in range(STEPS_MAX):
        call = part.unbounded(p)
        a = np.clip(call, part.low, part.high)
        g = part.residual(p, a)
        done = np.all(np.abs(g) <= limit[left], axis=1)
        if np.any(done):
            price[left[done]], activation[left[done]] = p[done], a[done]
            rows = np.flatnonzero(~done)
            left, part, p, call, a, g = left[rows], part.frames(rows), p[rows], call[rows], a[rows], g[rows]
        if not len(left):
            return Sharing(activation, price, 0)
        step = np.asarray(-np.linalg.solve(_slope(part, a == call), g[:, :, None])[:, :, 0], np.float64)
        # Where no activation reaches or leaves a bound on the way the equation is linear, and the full step its root.
        ahead = part.unbounded(p + step)
        same = ((call < part.low) == (ahead < part.low)) & ((call > part.high) == (ahead > part.high))
        whole = np.all(same, axis=1)
        if not np.all(whole):
            step *= np.where(whole, 1.0, _length(part, call, g, step))[:, None]
        p = p + step
    for row in left:
        activation[row], price[row] = _bounded_least_squares(problem, int(row))
    return Sharing(activation, price, len(left))


def covariance(problem: Problem, effect: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Variances (n, m) of the activations and (n, k) of the moments that they produce by `effect`, bounds apart.

    The cost is read as minus the logarithm of a probability: d and w are inverse variances.

    Parameters
    ----------
    effect : (n, k, m) A, with the rows of moments that are of no interest to the cost.
    """
    prior = 1.0 / problem.curvature
    known = problem.effect * prior[:, None, :]
    gain = np.linalg.solve(_slope(problem, np.ones(problem.pull.shape, bool)), known)
    produced = effect * prior[:, None, :]
    spread = np.sum(produced * effect, axis=2) - np.sum(
        np.matmul(effect, known.swapaxes(1, 2)) * np.matmul(effect, gain.swapaxes(1, 2)), axis=2
    )
    return prior - np.sum(known * gain, axis=1), np.maximum(spread, 0.0)


@dataclasses.dataclass(frozen=True)
class Response:
    """How the forces of e muscles answer to changes of their own active and passive forces, in n frames.

    A muscle pulls with active * a + passive, both of which change the problem.

    Attributes
    ----------
    activation : (n, e).
    direct : (n, e, e) N of force per N that a muscle would pull with more at the same activations.
    priced : (n, e, e) N of force per N of a muscle's active force, as it becomes better value.
    """

    activation: FloatArray
    direct: FloatArray
    priced: FloatArray

    def to(self, active: FloatArray, passive: FloatArray) -> FloatArray:
        """(n, e, e) N: change of each muscle's force (rows) by the changes (n, e) N of each muscle (columns)."""
        pulled = self.activation * active + passive
        return np.asarray(self.direct * pulled[:, None, :] + self.priced * active[:, None, :])


def response(
    problem: Problem, shared: Sharing, active: FloatArray, arms: FloatArray, muscles: NDArray[np.int64]
) -> Response:
    """Differentiates the solution, with the activations at their bounds held there.

    Parameters
    ----------
    active : (n, m) N per unit of activation.
    arms : (n, k, m) m; zero rows where no moment is wanted.
    muscles : (e,) whose answer is asked.
    """
    free = (shared.activation > problem.low) & (shared.activation < problem.high)
    per_curvature = (free / problem.curvature)[:, muscles]
    effect, arm = problem.effect[:, :, muscles], arms[:, :, muscles]
    slope = _slope(problem, free)
    gain = np.linalg.solve(slope, np.concatenate([arm, effect], axis=2))
    by_force, by_price = np.split(gain, 2, axis=2)
    outward = (active[:, muscles] * per_curvature)[:, :, None] * effect.swapaxes(1, 2)
    e = len(muscles)
    direct = np.eye(e) - np.matmul(outward, by_force)
    own = np.zeros((len(active), e, e))
    own[:, np.arange(e), np.arange(e)] = active[:, muscles] * per_curvature
    worth = np.sum(arm * shared.price[:, :, None], axis=1)
    priced = (own - np.matmul(outward, by_price) * per_curvature[:, None, :]) * worth[:, None, :]
    return Response(shared.activation[:, muscles], direct, priced)


def _slope(problem: Problem, free: NDArray[np.bool_]) -> FloatArray:
    """dg/dp (n, k, k) while the free activations follow the prices."""
    effect = problem.effect
    slope = np.matmul(effect * (free / problem.curvature)[:, None, :], effect.swapaxes(1, 2))
    k = np.arange(slope.shape[1])
    slope[:, k, k] += 1.0 / problem.weight
    return np.asarray(slope)


def _length(problem: Problem, call: FloatArray, g: FloatArray, step: FloatArray) -> FloatArray:
    """Length (n,) of the best step: where the slope of the dual along it, piecewise linear and rising, is zero."""
    along = np.matmul(step[:, None, :], problem.effect)[:, 0]
    rate = along / problem.curvature
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.stack([problem.low - call, problem.high - call]) / rate
    times = np.clip(np.nan_to_num(times, nan=FAR, posinf=FAR, neginf=FAR), 0.0, FAR)
    bend = along * rate
    begins, ends = times.min(axis=0), times.max(axis=0)
    corners = np.hstack([begins, ends])
    order = np.argsort(corners, axis=1)
    corners = np.take_along_axis(corners, order, axis=1)
    bends = np.take_along_axis(np.hstack([bend, -bend]), order, axis=1)
    steady = np.sum(step**2 / problem.weight, axis=1)
    slopes = steady[:, None] + np.maximum(np.cumsum(bends, axis=1), 0.0)
    rises = np.diff(corners, axis=1) * slopes[:, :-1]
    first = np.sum(g * step, axis=1) + steady * corners[:, 0]
    values = np.hstack([first[:, None], first[:, None] + np.cumsum(rises, axis=1)])
    # The last corner before the root; before the first one the slope is the steady one alone.
    last = np.sum(values < 0.0, axis=1) - 1
    rows = np.arange(len(step))
    later = corners[rows, last] - values[rows, last] / slopes[rows, last]
    return np.where(last < 0, -np.sum(g * step, axis=1) / steady, later)


def _bounded_least_squares(problem: Problem, row: int) -> tuple[FloatArray, FloatArray]:
    """Activations (m,) and prices (k,) of one frame."""
    d, root = problem.curvature[row], np.sqrt(problem.weight[row])
    left = np.vstack([np.diag(np.sqrt(d)), root[:, None] * problem.effect[row]])
    right = np.concatenate([problem.pull[row] / np.sqrt(d), root * problem.wanted[row]])
    found = lsq_linear(left, right, (problem.low[row], problem.high[row]), method="bvls").x
    return found, problem.weight[row] * (problem.wanted[row] - problem.effect[row] @ found)
