"""Poses of a kinematic tree nearest to measured markers: Levenberg-Marquardt, many frames at once.

All frames take their steps together, each with its own damping, and leave the
batch as they converge. Coordinates at a limit that the markers would push further
are held there (a projected active set). Markers of one body act through its
six degrees of freedom, so the normal equations are put together from bodies. Near
the end the residuals' own curvature is added (Newton's method): a forearm told by
two markers near its axis would take dozens of steps without.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.tree_motion import Placed, TreeMotion, cross

FloatArray = NDArray[np.float64]

# The end: a step of this many rad or m, or one that would lower the cost by this share (0.01 standard deviations of the
# solution: coordinates that markers hardly tell creep on for long).
STEP_DONE, GAIN_DONE = 1e-4, 1e-6
GAIN_NEAR = 0.1  # of the cost; after such a step the residuals' own curvature helps, far off it misleads
GAIN_ROUGH = 1e-3  # for a pose from which another search starts
STEP_MOST = 0.6  # rad or m, in one step
ROUNDS = 60
DAMPING, DAMPING_EASED, DAMPING_RAISED, DAMPING_HOPELESS = 1e-4, 0.1, 10.0, 1e4
# Weight of "as the reference", (1 mm / 1 rad)^2 of a marker's: decides what no marker tells, bends nothing else.
PULL = 1e-6
LEVERAGE_MOST = 0.95  # a marker that alone decides a coordinate has leverage 1: nothing contradicts it
SMALLEST_COST_GAIN = 1e-10  # of the cost: below it is rounding


@dataclasses.dataclass(frozen=True)
class Poses:
    """Solved frames: q (n, n_coordinates) rad and m, cost (n,) m^2, and iterations (n,)."""

    q: FloatArray
    cost: FloatArray
    iterations: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What single markers mean for a solution.

    Attributes
    ----------
    residual : (n, k, 3) m, measured less model.
    alone : (n, k, 3) m, measured less where all other markers would put it (to first order).
    inverse : (n, f, f) of the weighted information of the free coordinates.
    twists : (n, c, 6, f) of the carriers.
    on_model : (n, k, 3) m.
    """

    residual: FloatArray
    alone: FloatArray
    inverse: FloatArray
    twists: FloatArray
    on_model: FloatArray

    def with_rows(self, rows: NDArray[np.int64], other: Sensitivity) -> Sensitivity:
        """The same with some frames taken from another."""
        fields = {field.name: getattr(self, field.name).copy() for field in dataclasses.fields(self)}
        for name, values in fields.items():
            values[rows] = getattr(other, name)
        return Sensitivity(**fields)

    def misfit(self) -> FloatArray:
        """How far (n, k) m each marker is off, fairly: the fit follows a marker of much leverage and hides its error.

        The root of residual times deletion residual has the marker's noise as its
        standard deviation per axis, whatever the leverage.
        """
        return np.asarray(np.sqrt(np.maximum((self.residual * self.alone).sum(axis=2), 0.0)))


class PoseSolver:
    """The solver of one tree.

    Parameters
    ----------
    free : indices of the coordinates that may move.
    lower, upper : (n_coordinates,) limits, infinite where there are none.
    """

    def __init__(self, motion: TreeMotion, free: NDArray[np.int64], lower: FloatArray, upper: FloatArray) -> None:
        self.motion = motion
        self.free = free
        self.lower, self.upper = lower[free], upper[free]
        self._gather = np.zeros((len(motion.carriers), len(motion.carrier)))
        self._gather[motion.carrier, np.arange(len(motion.carrier))] = 1.0
        rank = motion.order()[free]
        self._nearer = rank[:, None] <= rank[None, :]

    def solve(
        self,
        measured: FloatArray,
        weight: FloatArray,
        start: FloatArray,
        reference: FloatArray,
        gain_done: float = GAIN_DONE,
    ) -> Poses:
        """Solve n frames.

        Parameters
        ----------
        measured : (n, k, 3) m; anything finite where the weight is zero.
        weight : (n, k); 0 for a missing marker.
        start, reference : (n, n_coordinates); where to begin, and what holds for coordinates that no marker tells.
        gain_done : share of the cost; a step that gains less is the last.
        """
        q = start.copy()
        q[:, self.free] = np.clip(q[:, self.free], self.lower, self.upper)
        pull = self.pull(weight)
        iterations = np.zeros(len(q), dtype=np.int64)
        cost, placed, residual = self._cost(q, measured, weight, reference, pull)
        normal, bend, slope = self._normal(placed, residual, measured, weight)
        damping, near = np.full(len(q), DAMPING), np.zeros(len(q), dtype=bool)
        active = np.arange(len(q))
        for _ in range(ROUNDS):
            at = q[active][:, self.free]
            downhill = slope + pull[active, None] * (reference[active][:, self.free] - at)
            curvature = normal - near[active, None, None] * bend
            step = self._step(curvature, downhill, at, damping[active], pull[active])
            uphill = (downhill * step).sum(axis=1) < 0.0
            if uphill.any():
                step[uphill] = self._step(
                    normal[uphill], downhill[uphill], at[uphill], damping[active][uphill], pull[active][uphill]
                )
            trial = q[active]
            trial[:, self.free] = np.clip(at + step, self.lower, self.upper)
            moved = np.abs(trial[:, self.free] - at).max(axis=1)
            new, placed, residual = self._cost(trial, measured[active], weight[active], reference[active], pull[active])
            better = new <= cost[active] * (1.0 + SMALLEST_COST_GAIN)
            iterations[active] += 1
            kept = active[better]
            q[kept], cost[kept] = trial[better], new[better]
            damping[active] *= np.where(better, DAMPING_EASED, DAMPING_RAISED)
            gain = (downhill * (trial[:, self.free] - at)).sum(axis=1)
            near[active] = better & (gain < GAIN_NEAR * cost[active])
            going = (moved > STEP_DONE) & (gain > gain_done * cost[active])
            going &= better | (damping[active] < DAMPING_HOPELESS)
            if not going.any():
                break
            fresh = better & going
            if fresh.any():
                normal[fresh], bend[fresh], slope[fresh] = self._normal(
                    placed.rows(fresh), residual[fresh], measured[active][fresh], weight[active][fresh]
                )
            normal, bend, slope, active = normal[going], bend[going], slope[going], active[going]
        return Poses(q, cost, iterations)

    def sensitivity(self, q: FloatArray, measured: FloatArray, weight: FloatArray) -> Sensitivity:
        """Residuals, and how they would be had each marker been left out (Cook's deletion residuals)."""
        placed = self.motion.place(q)
        on_model = self.motion.markers(placed)
        residual = measured - on_model
        twists = np.ascontiguousarray(self.motion.twists(placed)[..., self.free])
        normal = self.information(twists, on_model, weight)
        diagonal = np.arange(len(self.free))
        normal[:, diagonal, diagonal] += self.pull(weight)[:, None]
        inverse = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        jacobian = self.motion.jacobian(twists, on_model)
        n, k, _, f = jacobian.shape
        spread = (jacobian.reshape(n, -1, f) @ inverse).reshape(n, k, 3, f) @ jacobian.transpose(0, 1, 3, 2)
        alone = np.linalg.solve(np.eye(3) - LEVERAGE_MOST * weight[..., None, None] * spread, residual[..., None])[
            ..., 0
        ]
        return Sensitivity(residual, np.asarray(alone, dtype=np.float64), inverse, twists, on_model)

    def information(self, twists: FloatArray, on_model: FloatArray, weight: FloatArray) -> FloatArray:
        """Sum over markers of J^T w J (n, f, f), from the carriers' twists (n, c, 6, f)."""
        inertia = self._inertia(on_model, weight)
        n, c, _, f = twists.shape
        return np.asarray(twists.reshape(n, 6 * c, f).transpose(0, 2, 1) @ (inertia @ twists).reshape(n, 6 * c, f))

    def _cost(
        self, q: FloatArray, measured: FloatArray, weight: FloatArray, reference: FloatArray, pull: FloatArray
    ) -> tuple[FloatArray, Placed, FloatArray]:
        placed = self.motion.place(q)
        residual = measured - self.motion.markers(placed)
        apart = (q - reference)[:, self.free]
        total = (weight * (residual * residual).sum(axis=2)).sum(axis=1) + pull * (apart * apart).sum(axis=1)
        return total, placed, residual

    def _normal(
        self, placed: Placed, residual: FloatArray, measured: FloatArray, weight: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """J^T W J (n, f, f), the residuals' own share of the curvature (n, f, f), and J^T W r (n, f)."""
        twists = np.ascontiguousarray(self.motion.twists(placed)[..., self.free])
        on_model = measured - residual
        force = weight[..., None] * residual
        wrench = np.concatenate([cross(on_model, force), force], axis=2)
        n, c, _, f = twists.shape
        wrenches = self._gather @ wrench
        slope = wrenches.reshape(n, 1, 6 * c) @ twists.reshape(n, 6 * c, f)
        bend = self._bend(twists, wrenches[..., 3:], on_model, force)
        return self.information(twists, on_model, weight), bend, slope[:, 0]

    def _bend(self, twists: FloatArray, total: FloatArray, on_model: FloatArray, force: FloatArray) -> FloatArray:
        """Sum over markers of w r . d2x/dq2 (n, f, f): a joint turns what hangs on it, derivatives included.

        d2x/dq_i dq_j = omega_i x dx/dq_j where i lies nearer to the ground; tables are taken as straight.
        """
        n, c, _, f = twists.shape
        turn, shift = twists[:, :, :3], twists[:, :, 3:]
        outer = (self._gather @ (on_model[..., None] * force[..., None, :]).reshape(n, -1, 9)).reshape(n, c, 3, 3)
        outer -= np.trace(outer, axis1=2, axis2=3)[..., None, None] * np.eye(3)
        moment = outer @ turn
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            moment[:, :, i] += shift[:, :, j] * total[:, :, k, None] - shift[:, :, k] * total[:, :, j, None]
        by = turn.reshape(n, 3 * c, f).transpose(0, 2, 1) @ moment.reshape(n, 3 * c, f)
        return np.where(self._nearer, by, by.transpose(0, 2, 1))

    def _inertia(self, on_model: FloatArray, weight: FloatArray) -> FloatArray:
        """Weighted markers of every carrier as a (n, c, 6, 6) matrix on its twist (like a rigid body's inertia)."""
        n, k = weight.shape
        x = on_model
        features = np.empty((n, k, 10))
        features[..., 0] = 1.0
        features[..., 1:4] = x
        for i, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)), start=4):
            features[..., i] = x[..., a] * x[..., b]
        features *= weight[..., None]
        total, px, py, pz, xx, yy, zz, xy, xz, yz = np.moveaxis(self._gather @ features, -1, 0)
        result = np.zeros((*total.shape, 6, 6))
        result[..., 0, 0], result[..., 1, 1], result[..., 2, 2] = yy + zz, xx + zz, xx + yy
        for i, j, value in ((0, 1, -xy), (0, 2, -xz), (1, 2, -yz), (0, 4, -pz), (0, 5, py), (1, 3, pz), (1, 5, -px),
                            (2, 3, -py), (2, 4, px)):  # fmt: skip
            result[..., i, j] = result[..., j, i] = value
        for i in (3, 4, 5):
            result[..., i, i] = total
        return result

    def _step(
        self, normal: FloatArray, slope: FloatArray, at: FloatArray, damping: FloatArray, pull: FloatArray
    ) -> FloatArray:
        held = ((at <= self.lower) & (slope < 0.0)) | ((at >= self.upper) & (slope > 0.0))
        system = normal.copy()
        diagonal = np.arange(normal.shape[1])
        system[:, diagonal, diagonal] *= 1.0 + damping[:, None]
        system[:, diagonal, diagonal] += pull[:, None]
        if held.any():
            system *= ~held[:, :, None] & ~held[:, None, :]
            system[:, diagonal, diagonal] += held
        step = np.linalg.solve(system, np.where(held, 0.0, slope)[..., None])[..., 0]
        largest = np.abs(step).max(axis=1, keepdims=True)
        return np.asarray(step * np.minimum(1.0, STEP_MOST / np.maximum(largest, STEP_DONE)))

    @staticmethod
    def pull(weight: FloatArray) -> FloatArray:
        """Weight (n,) of "as the reference", per rad^2 or m^2, beside the markers' (n, k)."""
        return PULL * np.maximum(weight.max(axis=1), np.finfo(float).tiny)
