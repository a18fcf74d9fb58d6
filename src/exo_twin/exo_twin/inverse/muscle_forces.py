"""Which muscles pull how hard: one convex problem per frame, whose weights make it one of three known methods.

    1/2 effort sum a^2  +  1/2 emg sum_measured (a - e)^2  +  1/2 sum_j moment_j (wanted_j - muscles'_j)^2

with min_activation <= a <= 1 and the muscles' moments linear in a at the given lengths and velocities (force-length-
velocity, pennation and passive stretch included). A weight is one over the variance that it grants its term, so that
the cost is minus the logarithm of a probability and its curvature gives the uncertainty; for the solution only their
ratios count. What the muscles do not deliver of a wanted moment is the reserve.

OpenSim's static optimisation minimises sum a^2 too (its default exponent) and adds reserve actuators at the price of
(reserve / optimal force)^2, which is the moment term. It leaves out what stretched fibres pull passively
(`passive=False` does so here).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components

from exo_common.errors import ExoError
from exo_twin.inverse.activation_problem import Problem, covariance, solve
from exo_twin.inverse.muscle_model import FibreState, MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Inverse variances of the three terms.

    Attributes
    ----------
    effort : of an activation about zero; positive.
    emg : of an activation about its measured target.
    moment : 1/Nm2, of a wanted moment; one for all coordinates, or (c,) of the paths' coordinates.
    """

    effort: float
    emg: float
    moment: ArrayLike


# Activations spread over 0..1 have a standard deviation of 0.29.
EFFORT = 1.0 / 0.3**2
# Envelopes scaled to a maximum that was never quite reached, from one site of a muscle: a tenth.
EMG = 1.0 / 0.1**2

# Moments practically exact: 1 Nm of reserve costs as much as one muscle's full activation, OpenSim's usual setting.
STATIC_OPTIMISATION = Weights(EFFORT, 0.0, EFFORT)
# Moments from markers and plates are known to some Nm.
EMG_ASSISTED = Weights(EFFORT, EMG, 1.0 / 3.0**2)
# What is measured is taken as it is; what is not measured rests.
EMG_DRIVEN = Weights(1e-6 * EMG, EMG, 0.0)


@dataclasses.dataclass(frozen=True)
class MuscleSolution:
    """m muscles and c coordinates in n frames.

    Attributes
    ----------
    time : (n,) s.
    activation : (n, m) in 0..1; activation_sd : (n, m), from the curvature of the cost, bounds apart.
    force : (n, m) N along the tendon.
    moment : (n, c) Nm, of the muscles together; moment_sd : (n, c).
    reserve : (n, c) Nm, wanted minus the muscles'; NaN where nothing was wanted.
    fibres : their state.
    price : (n, c) of the moments, what the next frame starts with.
    warnings : sentences.
    """

    time: FloatArray
    activation: FloatArray
    activation_sd: FloatArray
    force: FloatArray
    moment: FloatArray
    moment_sd: FloatArray
    reserve: FloatArray
    fibres: FibreState
    price: FloatArray
    warnings: tuple[str, ...] = ()


class MuscleSolver:
    """Shares joint moments among the muscles of one wearer.

    Parameters
    ----------
    paths, model : of the same muscles, in the same order.
    weights : used where a call gives none.
    passive : whether stretched fibres pull passively.

    Raises
    ------
    ExoError : if paths and model are of different muscles.
    """

    def __init__(
        self, paths: MusclePaths, model: MuscleModel, weights: Weights = STATIC_OPTIMISATION, passive: bool = True
    ) -> None:
        if paths.muscles != model.names:
            raise ExoError("the muscle paths and the muscles are of different models; read both from the same model")
        self.paths, self.model, self.weights, self.passive = paths, model, weights, passive
        self._blocks = _blocks(paths.crosses)

    def solve(
        self,
        time: FloatArray,
        q: FloatArray,
        qd: FloatArray,
        moment: FloatArray,
        emg: FloatArray | Mapping[str, FloatArray] | None = None,
        weights: Weights | None = None,
        start: FloatArray | None = None,
    ) -> MuscleSolution:
        """Activations, forces and moments of n frames.

        Parameters
        ----------
        time : (n,) s.
        q, qd : (n, c) of `paths.coordinates`, rad and rad/s, the model's signs.
        moment : (n, c) Nm that the muscles should add up to; NaN: not wanted.
        emg : (n, m) targets in 0..1, NaN where not measured; or muscle -> (n,).
        start : (n, c) prices to begin with (`MuscleSolution.price`).

        Raises
        ------
        ExoError : for shapes that do not belong together, values that are not finite, or a muscle not in the model.
        """
        time = np.asarray(time, float)
        q, qd, moment = self._checked(time, q, qd, moment)
        target, warnings = self._targets(len(time), emg)
        path = self.paths.evaluate(q, qd)
        fibres = self.model.fibres(path.length, path.velocity)
        if not self.passive:
            fibres = dataclasses.replace(fibres, passive=np.zeros_like(fibres.passive))
        return self._share(time, path.arms, fibres, moment, target, weights or self.weights, start, warnings)

    def _share(
        self,
        time: FloatArray,
        arms: FloatArray,
        fibres: FibreState,
        moment: FloatArray,
        target: FloatArray,
        weights: Weights,
        start: FloatArray | None,
        warnings: tuple[str, ...],
    ) -> MuscleSolution:
        """The convex problem, block by block."""
        n, m, c = arms.shape
        activation, activation_sd = np.empty((n, m)), np.empty((n, m))
        price, moment_sd = np.zeros((n, c)), np.zeros((n, c))
        weight = np.broadcast_to(np.asarray(weights.moment, float), (n, c))
        wanted = np.isfinite(moment) & (weight > 0.0)
        measured = np.isfinite(target)
        curvature = weights.effort + weights.emg * measured
        pull = weights.emg * np.where(measured, target, 0.0)
        missing = np.where(wanted, moment - np.matmul(fibres.passive[:, None, :], arms)[:, 0], 0.0)
        for muscles, coordinates in self._blocks:
            effect = np.swapaxes(arms[:, muscles][:, :, coordinates] * fibres.active[:, muscles, None], 1, 2)
            asked = wanted[:, coordinates]
            problem = Problem(
                curvature[:, muscles],
                pull[:, muscles],
                effect * asked[:, :, None],
                missing[:, coordinates],
                np.where(asked, weight[:, coordinates], 1.0),
                np.tile(self.model.min_activation[muscles], (n, 1)),
                np.ones((n, len(muscles))),
            )
            shared = solve(problem, None if start is None else start[:, coordinates])
            activation[:, muscles], price[:, coordinates] = shared.activation, shared.price
            variance, spread = covariance(problem, effect)
            activation_sd[:, muscles], moment_sd[:, coordinates] = np.sqrt(variance), np.sqrt(spread)
        force = fibres.active * activation + fibres.passive
        produced = np.matmul(force[:, None, :], arms)[:, 0]
        return MuscleSolution(
            time, activation, activation_sd, force, produced, moment_sd, moment - produced, fibres, price, warnings
        )

    def _checked(
        self, time: FloatArray, q: FloatArray, qd: FloatArray, moment: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        shape = (len(time), len(self.paths.coordinates))
        found = []
        for what, values in (("coordinates", q), ("speeds", qd), ("moments", moment)):
            array = np.asarray(values, float)
            if array.shape != shape:
                raise ExoError(
                    f"the {what} have shape {array.shape} where {shape} is needed: "
                    f"one row per frame, columns {', '.join(self.paths.coordinates)}"
                )
            bad = ~np.isfinite(array) if what != "moments" else np.isinf(array)
            if np.any(bad):
                frame, column = np.argwhere(bad)[0]
                raise ExoError(
                    f"the {what} hold {array[frame, column]} for {self.paths.coordinates[column]} at "
                    f"{time[frame]:.3f} s; fill gaps before muscles are solved"
                )
            found.append(array)
        return found[0], found[1], found[2]

    def _targets(self, n: int, emg: FloatArray | Mapping[str, FloatArray] | None) -> tuple[FloatArray, tuple[str, ...]]:
        """Targets (n, m), and a warning about muscles whose signal is zero throughout: they count as not measured."""
        names = self.paths.muscles
        target = np.full((n, len(names)), np.nan)
        if isinstance(emg, Mapping):
            for name, values in emg.items():
                if name not in names:
                    raise ExoError(
                        f"EMG is given for muscle '{name}', which the model lacks; map the channel to another"
                    )
                target[:, names.index(name)] = values
        elif emg is not None:
            if np.shape(emg) != target.shape:
                raise ExoError(
                    f"EMG targets have shape {np.shape(emg)} where {target.shape} is needed: "
                    "one row per frame, one column per muscle of the paths"
                )
            target = np.array(emg, float)
        if np.any(np.isinf(target)):
            name = names[np.argwhere(np.isinf(target))[0][1]]
            raise ExoError(f"the EMG target of {name} is infinite; check its gain")
        dead = (n > 1) & np.all(target == 0.0, axis=0)
        if not np.any(dead):
            return target, ()
        target[:, dead] = np.nan
        silent = ", ".join(name for name, zero in zip(names, dead, strict=True) if zero)
        return target, (f"the EMG of {silent} is zero throughout; it counts as not measured",)


class StreamingMuscles:
    """The same frame by frame, each starting from the one before.

    Parameters
    ----------
    solver : of the wearer.
    """

    def __init__(self, solver: MuscleSolver) -> None:
        self.solver = solver
        self._price: FloatArray | None = None

    def push(
        self,
        time: float,
        q: FloatArray,
        qd: FloatArray,
        moment: FloatArray,
        emg: FloatArray | None = None,
        weights: Weights | None = None,
    ) -> MuscleSolution:
        """One frame's solution; the arguments of :meth:`MuscleSolver.solve` without their first axis.

        Raises
        ------
        ExoError : as there.
        """
        targets = None if emg is None else np.asarray(emg, float)[None]
        solved = self.solver.solve(
            np.array([time]),
            np.asarray(q)[None],
            np.asarray(qd)[None],
            np.asarray(moment)[None],
            targets,
            weights,
            self._price,
        )
        self._price = solved.price
        return solved


def _blocks(crosses: NDArray[np.bool_]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Muscles and coordinates (indices) of parts that share no muscle: the two legs."""
    together = crosses.T.astype(np.int64) @ crosses
    count, part = connected_components(together, directed=False)
    found = []
    for i in range(count):
        coordinates = np.flatnonzero(part == i)
        found.append((np.flatnonzero(crosses[:, coordinates].any(axis=1)), coordinates))
    return found
