"""How the moments that EMG-assisted muscles fail to deliver change with the muscles' own numbers, in closed form.

The solver's prices p of the moments fulfil p / w = b - A a(p) (see activation_problem). Where an activation is at a
bound it stays; elsewhere it follows price and EMG. So the derivative of that equation is linear in dp, one small system
per frame, and no muscle problem has to be solved again for any of the unknown numbers.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.activation_problem import Problem, solve
from exo_twin.inverse.emg_muscles import EmgMap
from exo_twin.inverse.muscle_forces import Weights
from exo_twin.inverse.muscle_model import FibreState, MuscleModel
from exo_twin.inverse.muscle_unknowns import Unknowns

FloatArray = NDArray[np.float64]

STEP = 1e-4  # of central differences, in logarithms of lengths and gains


@dataclasses.dataclass(frozen=True)
class Frames:
    """n frames of walking with m muscles, c coordinates and k channels.

    Attributes
    ----------
    length, velocity : (n, m) m and m/s, of the paths.
    arms : (n, m, c) m.
    moment : (n, c) Nm, NaN where not wanted.
    excitation : (n, k) fractions of the channels' maxima when the muscles feel them, NaN where not known.
    """

    length: FloatArray
    velocity: FloatArray
    arms: FloatArray
    moment: FloatArray
    excitation: FloatArray

    def rows(self, chosen: NDArray[np.bool_]) -> Frames:
        """Some of the frames."""
        return Frames(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class MomentError:
    """Reserves of the EMG-assisted solution as a function of the unknown numbers.

    Attributes
    ----------
    frames : of all trials, one after the other.
    generic : the muscles before calibration.
    emg : channels beside muscles.
    """

    frames: Frames
    generic: MuscleModel
    emg: EmgMap
    unknowns: Unknowns
    weights: Weights

    def rows(self, chosen: NDArray[np.bool_]) -> MomentError:
        """Of some of the frames."""
        return dataclasses.replace(self, frames=self.frames.rows(chosen))

    def reserve(self, x: FloatArray) -> FloatArray:
        """(n, c) Nm that the muscles do not deliver; 0 where nothing is wanted."""
        fibres = self._fibres(x)
        problem = self._problem(fibres, self._target(x))
        return np.asarray(solve(problem).price / problem.weight)

    def with_slopes(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Reserves (n, c) Nm and their derivatives (n, c, p)."""
        fibres = self._fibres(x)
        problem = self._problem(fibres, self._target(x))
        solved = solve(problem)
        a, price = solved.activation, solved.price
        follows = ((a > problem.low) & (a < problem.high)) / problem.curvature
        priced = np.matmul(self.frames.arms, price[:, :, None])[:, :, 0] * fibres.active * follows
        parts = []
        for kind in ("strength", "fibre", "tendon"):
            active, passive = self._fibre_slopes(x, kind, fibres)
            rise = self._rise(active * (a + priced) + passive)
            parts.append(_summed(rise, self.unknowns.group, self.unknowns.groups))
        drive = fibres.active * follows * np.asarray(self.weights.emg)
        targets = [drive * slope for slope in self._target_slopes(x)]
        parts.append(np.stack([self._rise(target).sum(axis=2) for target in targets], axis=2))
        effect = problem.effect
        slope = np.matmul(effect * follows[:, None, :], effect.swapaxes(1, 2))
        diagonal = np.arange(slope.shape[1])
        slope[:, diagonal, diagonal] += 1.0 / problem.weight
        moved = np.concatenate(parts, axis=2)
        return price / problem.weight, -np.linalg.solve(slope, moved) / problem.weight[:, :, None]

    def _fibres(self, x: FloatArray) -> FibreState:
        return self.unknowns.model(x, self.generic).fibres(self.frames.length, self.frames.velocity)

    def _target(self, x: FloatArray) -> FloatArray:
        return self.emg.activation(self.frames.excitation, self.unknowns.gain(x), self.unknowns.shape(x))

    def _problem(self, fibres: FibreState, target: FloatArray) -> Problem:
        wanted, measured = np.isfinite(self.frames.moment), np.isfinite(target)
        effect = np.swapaxes(self.frames.arms * fibres.active[:, :, None], 1, 2) * wanted[:, :, None]
        passive = np.matmul(fibres.passive[:, None, :], self.frames.arms)[:, 0]
        weight = np.broadcast_to(np.asarray(self.weights.moment, dtype=float), wanted.shape)
        return Problem(
            self.weights.effort + self.weights.emg * measured,
            self.weights.emg * np.where(measured, target, 0.0),
            effect,
            np.where(wanted, self.frames.moment - passive, 0.0),
            np.where(wanted, weight, 1.0),
            np.broadcast_to(self.generic.min_activation, target.shape),
            np.ones_like(target),
        )

    def _rise(self, force: FloatArray) -> FloatArray:
        """Moments (n, c, m) of forces (n, m) along the tendons, where moments are wanted."""
        wanted = np.isfinite(self.frames.moment)
        return np.asarray(np.swapaxes(self.frames.arms * force[:, :, None], 1, 2) * wanted[:, :, None])

    def _fibre_slopes(self, x: FloatArray, kind: str, fibres: FibreState) -> tuple[FloatArray, FloatArray]:
        """Derivatives (n, m) of active and passive force by the logarithm of each muscle's own factor."""
        if kind == "strength":
            return fibres.active, fibres.passive
        up, down = (self._fibres(self._stepped(x, self.unknowns.part(kind), step)) for step in (STEP, -STEP))
        return (up.active - down.active) / (2.0 * STEP), (up.passive - down.passive) / (2.0 * STEP)

    def _target_slopes(self, x: FloatArray) -> list[FloatArray]:
        """Derivatives (n, m) of the targets by each gain's logarithm and by the shape; 0 where not measured."""
        first, last = self.unknowns.part("gain").start, self.unknowns.part("shape").stop
        found = []
        for i in range(first, last):
            up, down = (self._target(self._stepped(x, slice(i, i + 1), step)) for step in (STEP, -STEP))
            found.append(np.nan_to_num((up - down) / (2.0 * STEP)))
        return found

    @staticmethod
    def _stepped(x: FloatArray, part: slice, step: float) -> FloatArray:
        moved = x.copy()
        moved[part] += step
        return moved


def _summed(values: FloatArray, group: NDArray[np.int64], groups: int) -> FloatArray:
    """(n, c, groups) sums over the muscles (n, c, m) of every group."""
    return np.asarray(values @ (group[:, None] == np.arange(groups)).astype(float))
