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
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from exo_common.errors import ExoError
from exo_twin.inverse.activation_problem import Problem, Response, covariance, response, solve
from exo_twin.inverse.elastic_tendon import (
    PASSES_LIVE,
    PASSES_MAX,
    TOLERATED,
    Differences,
    agree,
    backward,
    central,
    long_tendons,
    none,
)
from exo_twin.inverse.muscle_inputs import checked, targets
from exo_twin.inverse.muscle_model import FibreState, MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths, PathState

FloatArray = NDArray[np.float64]

EXACT = 1e8


@dataclasses.dataclass(frozen=True)
class Weights:
    """Inverse variances of the three terms.

    Attributes
    ----------
    effort : of an activation about zero; positive.
    emg : of an activation about its measured target; one for all muscles, or (m,).
    moment : 1/Nm2, of a wanted moment; one for all coordinates, or (c,) of the paths' coordinates. At most `EXACT`
        times the effort: beyond that, rounding decides.

    Raises
    ------
    ExoError : for weights outside these limits.
    """

    effort: float
    emg: float | FloatArray
    moment: float | FloatArray

    def __post_init__(self) -> None:
        moment, emg = np.ravel(self.moment), np.ravel(self.emg)
        sound = np.all(np.isfinite([self.effort, *emg, *moment])) and self.effort > 0.0 and np.all(emg >= 0.0)
        if not sound or np.any(moment < 0.0) or np.any(moment > EXACT * self.effort):
            raise ExoError(
                f"muscle weights must be positive, of effort above zero and of moments at most {EXACT:g} times that; "
                f"they are {self.effort:g} (effort), {np.max(emg):g} (EMG), {np.max(moment):g} (moment)"
            )


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


UNSETTLED = {
    "slow": "moments or EMG change too abruptly for elastic tendons; their velocity is left out",
    "stiff": "fibres and elastic tendons find no agreement (moments beyond the muscles' strength?); tendons are rigid",
}
EVEN = 12.0  # one over the variance of what lies anywhere between 0 and 1
GAP_S = 0.1  # after a longer pause the tendons' velocity is unknown, and taken as none


@dataclasses.dataclass(frozen=True)
class MuscleSolution:
    """m muscles and c coordinates in n frames.

    Attributes
    ----------
    time : (n,) s.
    activation : (n, m) in 0..1; activation_sd : (n, m), from the curvature of the cost, and from the bounds as if every
        activation between them were as likely: 0.29 where nothing else is known.
    force : (n, m) N along the tendon.
    moment : (n, c) Nm, of the muscles together; moment_sd : (n, c).
    reserve : (n, c) Nm, wanted minus the muscles'; NaN where nothing was wanted.
    fibres : their state.
    tendon_length : (n, m) m.
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
    tendon_length: FloatArray
    price: FloatArray
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Block:
    """Muscles and coordinates (indices) that belong together; which of the muscles (places) have elastic tendons."""

    muscles: NDArray[np.int64]
    coordinates: NDArray[np.int64]
    model: MuscleModel
    elastic: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Frames:
    """What is asked in n frames: `Problem`'s terms for all muscles and coordinates."""

    time: FloatArray
    path: PathState
    moment: FloatArray
    weight: FloatArray
    wanted: NDArray[np.bool_]
    curvature: FloatArray
    pull: FloatArray


class MuscleSolver:
    """Shares joint moments among the muscles of one wearer.

    Parameters
    ----------
    paths, model : of the same muscles, in the same order.
    weights : used where a call gives none.
    passive : whether stretched fibres pull passively.
    elastic : whether long tendons stretch (`elastic_tendon.long_tendons`); the others are rigid.

    Raises
    ------
    ExoError : if paths and model are of different muscles.
    """

    def __init__(
        self,
        paths: MusclePaths,
        model: MuscleModel,
        weights: Weights = STATIC_OPTIMISATION,
        passive: bool = True,
        elastic: bool = False,
    ) -> None:
        if paths.muscles != model.names:
            raise ExoError("the muscle paths and the muscles are of different models; read both from the same model")
        self.paths, self.model, self.weights, self.passive = paths, model, weights, passive
        self._blocks = _blocks(model, paths.crosses, elastic)

    def solve(
        self,
        time: FloatArray,
        q: FloatArray,
        qd: FloatArray,
        moment: FloatArray,
        emg: FloatArray | Mapping[str, FloatArray] | None = None,
        weights: Weights | None = None,
        previous: MuscleSolution | None = None,
    ) -> MuscleSolution:
        """Activations, forces and moments of n frames.

        Parameters
        ----------
        time : (n,) s, rising.
        q, qd : (n, c) of `paths.coordinates`, rad and rad/s, the model's signs.
        moment : (n, c) Nm that the muscles should add up to; NaN: not wanted.
        emg : (n, m) targets in 0..1, NaN where not measured; or muscle -> (n,).
        previous : one earlier frame that this single frame follows, where frames come one by one.

        Raises
        ------
        ExoError : for shapes that do not belong together, values that are not finite, or a muscle not in the model.
        """
        time = np.asarray(time, float)
        q, qd, moment = checked(self.paths.coordinates, time, q, qd, moment)
        target, warnings = targets(self.paths.muscles, len(time), emg)
        path = self.paths.evaluate(q, qd)
        given = weights or self.weights
        shape = moment.shape
        weight = np.broadcast_to(np.asarray(given.moment, float), shape)
        wanted = np.isfinite(moment) & (weight > 0.0)
        measured = np.isfinite(target)
        frames = _Frames(
            time,
            path,
            np.where(wanted, moment, 0.0),
            np.where(wanted, weight, 1.0),
            wanted,
            given.effort + given.emg * measured,
            given.emg * np.where(measured, target, 0.0),
        )
        unstretched = self._fibres(self.model, path.length, path.velocity)
        parts = [self._solve_block(block, frames, unstretched, previous) for block in self._blocks]
        order = np.argsort(np.concatenate([block.muscles for block in self._blocks]))
        joints = np.argsort(np.concatenate([block.coordinates for block in self._blocks]))

        def joined(name: str, columns: NDArray[np.int64] = order) -> FloatArray:
            return np.hstack([part[name] for part in parts])[:, columns]

        fibres = FibreState(**{field.name: joined(field.name) for field in dataclasses.fields(FibreState)})
        activation = joined("activation")
        force = fibres.active * activation + fibres.passive
        produced = np.matmul(force[:, None, :], path.arms)[:, 0]
        for name, sentence in UNSETTLED.items():
            if any(part[name].any() for part in parts):
                warnings = (*warnings, sentence)
        return MuscleSolution(
            time,
            activation,
            joined("activation_sd"),
            force,
            produced,
            joined("moment_sd", joints),
            moment - produced,
            fibres,
            joined("tendon_length"),
            joined("price", joints),
            warnings,
        )

    def _solve_block(
        self, block: _Block, frames: _Frames, unstretched: FibreState, previous: MuscleSolution | None
    ) -> dict[str, FloatArray]:
        """Muscles that share no coordinate with the others; `unstretched`: all muscles' fibres on rigid tendons."""
        muscles, coordinates = block.muscles, block.coordinates
        n = len(frames.time)
        length, velocity = frames.path.length[:, muscles], frames.path.velocity[:, muscles]
        arms = np.swapaxes(frames.path.arms[:, muscles][:, :, coordinates], 1, 2)
        asked = arms * frames.wanted[:, coordinates, None]
        low, high = np.tile(block.model.min_activation, (n, 1)), np.ones((n, len(muscles)))
        price = None if previous is None else previous.price[:, coordinates]

        def problem(fibres: FibreState) -> Problem:
            return Problem(
                frames.curvature[:, muscles],
                frames.pull[:, muscles],
                asked * fibres.active[:, None, :],
                frames.moment[:, coordinates] - np.matmul(asked, fibres.passive[:, :, None])[:, :, 0],
                frames.weight[:, coordinates],
                low,
                high,
            )

        fibres = FibreState(*(getattr(unstretched, field.name)[:, muscles] for field in dataclasses.fields(FibreState)))
        tendon = np.tile(block.model.tendon_slack_length, (n, 1))
        elastic, slow, stiff = block.elastic, 0.0, 0.0
        if len(elastic):
            own = block.model.select(elastic)

            def share(state: FibreState) -> tuple[FloatArray, Response]:
                nonlocal fibres, price
                fibres = self._replaced(fibres, elastic, state)
                found = problem(fibres)
                shared = solve(found, price)
                price = shared.price
                force = fibres.active[:, elastic] * shared.activation[:, elastic] + fibres.passive[:, elastic]
                return force, response(found, shared, fibres.active, asked, elastic)

            rigid, lengths = fibres, (length[:, elastic], velocity[:, elastic])
            start, differences = self._tendons_before(block, frames.time, previous)
            if start is None:
                start = share(FibreState(*(getattr(fibres, f.name)[:, elastic] for f in dataclasses.fields(fibres))))[0]
            passes = PASSES_MAX if previous is None else PASSES_LIVE
            agreed = agree(own, *lengths, differences, share, start, passes)
            if previous is None and agreed.disagreement > TOLERATED:
                slow, differences = 1.0, none(n, len(elastic))
                agreed = agree(own, *lengths, differences, share, start, passes)
            if previous is None and agreed.disagreement > TOLERATED:
                slow, stiff, fibres = 0.0, 1.0, rigid
            else:
                tendon[:, elastic] = agreed.tendon
                state = own.fibres(*lengths, agreed.force, differences.rate(agreed.tendon))
                fibres = self._replaced(fibres, elastic, state)
        found = problem(fibres)
        shared = solve(found, price)
        bounded = dataclasses.replace(found, curvature=found.curvature + EVEN / (high - low) ** 2)
        variance, spread = covariance(bounded, arms * fibres.active[:, None, :])
        return {
            "activation": shared.activation,
            "activation_sd": np.sqrt(variance),
            "moment_sd": np.sqrt(spread),
            "price": shared.price,
            "tendon_length": tendon,
            "slow": np.full((n, 1), slow),
            "stiff": np.full((n, 1), stiff),
            **{field.name: getattr(fibres, field.name) for field in dataclasses.fields(FibreState)},
        }

    def _fibres(self, model: MuscleModel, length: FloatArray, velocity: FloatArray) -> FibreState:
        fibres = model.fibres(length, velocity)
        return fibres if self.passive else dataclasses.replace(fibres, passive=np.zeros_like(fibres.passive))

    def _replaced(self, fibres: FibreState, muscles: NDArray[np.int64], state: FibreState) -> FibreState:
        """Fibres of a block with those of some muscles in another state."""
        found = {}
        for field in dataclasses.fields(FibreState):
            column = getattr(fibres, field.name).copy()
            column[:, muscles] = getattr(state, field.name)
            found[field.name] = column
        if not self.passive:
            found["passive"] = np.zeros_like(found["passive"])
        return FibreState(**found)

    def _tendons_before(
        self, block: _Block, time: FloatArray, previous: MuscleSolution | None
    ) -> tuple[FloatArray | None, Differences]:
        """Forces to begin with, and how the tendons' velocities follow from their lengths."""
        names = block.muscles[block.elastic]
        if previous is None:
            return None, central(time, len(names))
        step = float(time[0] - previous.time[-1])
        if not 0.0 < step <= GAP_S:
            return previous.force[-1:, names], central(time, len(names))
        return previous.force[-1:, names], backward(step, previous.tendon_length[-1, names])


class StreamingMuscles:
    """The same frame by frame, each starting from the one before.

    With rigid tendons the same as all frames at once. With elastic ones a tendon's velocity comes from the frame
    before alone, and fibre and tendon agree only as closely as two passes bring them.

    Parameters
    ----------
    solver : of the wearer.
    """

    def __init__(self, solver: MuscleSolver) -> None:
        self.solver = solver
        self._previous: MuscleSolution | None = None

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
        frame = [np.asarray(values, float)[None] for values in (time, q, qd, moment)]
        aims = None if emg is None else np.asarray(emg, float)[None]
        self._previous = self.solver.solve(frame[0], frame[1], frame[2], frame[3], aims, weights, self._previous)
        return self._previous


def _blocks(model: MuscleModel, crosses: NDArray[np.bool_], elastic: bool) -> list[_Block]:
    """Parts that share no muscle: the two legs."""
    together = crosses.T.astype(np.int64) @ crosses
    count, part = connected_components(together, directed=False)
    found = []
    for i in range(count):
        coordinates = np.flatnonzero(part == i)
        muscles = np.flatnonzero(crosses[:, coordinates].any(axis=1))
        own = model.select(muscles)
        found.append(_Block(muscles, coordinates, own, long_tendons(own) if elastic else np.zeros(0, np.int64)))
    return found
