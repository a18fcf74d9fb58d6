"""Lengths and moment arms of a model's leg muscles, sampled through OpenSim at given poses.

A moment arm is taken from differences of lengths, which cost a twentieth of a call of OpenSim's solver. The two are the
same thing only as long as a path is a true shortest one: where wrapping surfaces overlap (gastrocnemii near knee
extension) they differ. OpenSim's forces follow its solver, so muscles for which the two differ in probing poses are
sampled with the solver instead; so is a single pose in which a path just jumps from one side of a surface to another.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.loads import flexion_sign
from exo_twin.inverse.models import load_model
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

# Degrees, flexion positive: where people walk (Kadaba et al. 1990: hip flexion -15..40, adduction and rotation within
# 10, ankle -25..15), climb and descend stairs (Riener et al. 2002: hip flexion to 65, knee to 100, ankle -30..25) and
# sit down (hip and knee to about 95), with a margin for pathological gait and for errors of the angles. The model's own
# limits cut them further. They are no wider, for beyond them the wrapping surfaces of the hip fail: at 105 degrees of
# flexion the iliacus of a public model turns into an extensor, and in extension with 20 degrees of adduction or
# abduction the psoas jumps by 10 mm.
RANGES = {
    "hip_flexion": (-30.0, 95.0),
    "hip_adduction": (-20.0, 15.0),
    "hip_rotation": (-20.0, 20.0),
    "knee_angle": (-10.0, 110.0),
    "ankle_angle": (-40.0, 30.0),
    "subtalar_angle": (-20.0, 20.0),
    "mtp_angle": (-30.0, 30.0),
}
CROSSING_POSES = 6  # random poses, in each of which every coordinate is moved once
CROSSING_M = 1e-5  # a muscle crosses a coordinate that changes its length by more than this
STEP_RAD = 1e-3  # of the differences of lengths; OpenSim's lengths are good to 1e-9 m
DISAGREEMENT_M = 0.002  # between differences and solver, or forward and backward ones: the solver is asked


@dataclasses.dataclass(frozen=True)
class PathSamples:
    """Paths at n poses of c coordinates.

    Attributes
    ----------
    q : (n, c) rad.
    length : (n, m) m.
    arms : (n, m, c) m; zero where a muscle does not cross.
    """

    q: FloatArray
    length: FloatArray
    arms: FloatArray

    def part(self, rows: slice) -> PathSamples:
        """Some of the poses."""
        return PathSamples(self.q[rows], self.length[rows], self.arms[rows])


class PathSampler:
    """The leg muscles of a model file, ready to be sampled.

    Attributes
    ----------
    muscles, coordinates : names, as in MusclePaths.
    ranges : (c, 2) rad.
    crosses : (m, c) bool.
    """

    def __init__(self, osim: Path, tree: KinematicTree, seed: int) -> None:
        candidates, ranges = _leg_coordinates(tree)
        model = load_model(osim)
        every = tuple(muscle.getName() for muscle in model.getMuscles())
        probe = _Poser(model, candidates, every)
        crosses = _crossings(probe, ranges, np.random.default_rng(seed))
        rows, columns = np.flatnonzero(crosses.any(axis=1)), np.flatnonzero(crosses.any(axis=0))
        if not len(rows):
            raise ExoError(f"no muscle of {osim.name} crosses a hip, knee or ankle; use a model with leg muscles")
        self.muscles = tuple(every[i] for i in rows)
        self.coordinates = tuple(candidates[i] for i in columns)
        self.ranges = ranges[columns]
        self.crosses = crosses[np.ix_(rows, columns)]
        # Other muscles and forces only make OpenSim's states larger and its solver slower.
        self._poser = _Poser(_only(load_model(osim), self.muscles), self.coordinates, self.muscles)
        self._solver = np.zeros(len(self.muscles), dtype=bool)

    @property
    def from_solver(self) -> NDArray[np.bool_]:
        """(m,): muscles whose arms come from OpenSim's solver; see :meth:`probe`."""
        return self._solver

    def probe(self, q: FloatArray) -> None:
        """Find, at poses (n, c), the muscles for which lengths and OpenSim's moment arms contradict each other."""
        differences, jumps = self._differences(q, self.lengths(q))
        solved = self.solver_arms(q, np.ones(jumps.shape, dtype=bool))
        contradiction = np.where(jumps, 0.0, np.abs(differences - solved).max(axis=2))
        self._solver = contradiction.max(axis=0) > DISAGREEMENT_M

    def sample(self, q: FloatArray) -> PathSamples:
        """Lengths and moment arms at poses (n, c) rad."""
        length = self.lengths(q)
        differences, jumps = self._differences(q, length)
        wanted = jumps | self._solver
        return PathSamples(q, length, np.where(wanted[:, :, None], self.solver_arms(q, wanted), differences))

    def solver_arms(self, q: FloatArray, wanted: NDArray[np.bool_]) -> FloatArray:
        """(n, m, c) m from OpenSim's moment-arm solver where wanted (n, m), else zero."""
        arms = np.zeros((len(q), *self.crosses.shape))
        for n in np.flatnonzero(wanted.any(axis=1)):
            self._poser.go(q[n])
            for i in np.flatnonzero(wanted[n]):
                for k in np.flatnonzero(self.crosses[i]):
                    arms[n, i, k] = self._poser.solver_arm(int(i), int(k))
        return arms

    def lengths(self, q: FloatArray, which: NDArray[np.int64] | None = None) -> FloatArray:
        """(n, m) m of all muscles, or of some, at poses (n, c)."""
        length = np.empty((len(q), len(self.muscles) if which is None else len(which)))
        for row, pose in zip(length, q, strict=True):
            self._poser.go(pose)
            row[:] = self._poser.lengths(which)
        return length

    def _differences(self, q: FloatArray, length: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """-dL/dq (n, m, c) m, and where (n, m) it jumps; both legs move at once, for no muscle crosses both."""
        arms = np.zeros((len(q), *self.crosses.shape))
        jumps = np.zeros(length.shape, dtype=bool)
        joints = np.array([name[:-2] for name in self.coordinates])
        for joint in dict.fromkeys(joints):
            columns = np.flatnonzero(joints == joint)
            muscles = np.flatnonzero(self.crosses[:, columns].any(axis=1))
            own = columns[self.crosses[np.ix_(muscles, columns)].argmax(axis=1)]
            for n, pose in enumerate(q):
                slopes = []
                for step in (STEP_RAD, -STEP_RAD):
                    moved = pose.copy()
                    moved[columns] += step
                    self._poser.go(moved)
                    slopes.append((self._poser.lengths(muscles) - length[n, muscles]) / step)
                arms[n, muscles, own] = -0.5 * (slopes[0] + slopes[1])
                jumps[n, muscles] |= np.abs(slopes[0] - slopes[1]) > DISAGREEMENT_M
        return arms, jumps


class _Poser:
    """An initialised model with handles kept to what is asked thousands of times."""

    def __init__(self, model: Any, coordinates: tuple[str, ...], muscles: tuple[str, ...]) -> None:
        self._model = model
        self._state = model.initSystem()
        coordinate_set = model.getCoordinateSet()
        self._coordinates = [coordinate_set.get(name) for name in coordinates]
        self._muscles = [model.getMuscles().get(name) for name in muscles]
        self._coupled = []
        constraints = model.getConstraintSet()
        for i in range(constraints.getSize()):
            coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(i))
            if coupler is not None and coupler.get_isEnforced():
                driver = coupler.getIndependentCoordinateNames().get(0)
                if driver in coordinates:
                    driven = coordinate_set.get(coupler.getDependentCoordinateName())
                    self._coupled.append((coordinates.index(driver), driven, coupler.getFunction()))

    def go(self, q: FloatArray) -> None:
        """Set the coordinates (c,) and what they drive, without assembling (0.1 instead of 20 ms)."""
        for coordinate, value in zip(self._coordinates, q, strict=True):
            coordinate.setValue(self._state, float(value), False)
        for driver, driven, function in self._coupled:
            driven.setValue(self._state, function.calcValue(opensim.Vector(1, float(q[driver]))), False)
        self._model.realizePosition(self._state)

    def lengths(self, which: NDArray[np.int64] | None = None) -> FloatArray:
        """Path lengths of all or of some muscles, m."""
        chosen = self._muscles if which is None else [self._muscles[i] for i in which]
        return np.array([muscle.getLength(self._state) for muscle in chosen])

    def solver_arm(self, muscle: int, coordinate: int) -> float:
        """OpenSim's moment arm, m."""
        return float(self._muscles[muscle].computeMomentArm(self._state, self._coordinates[coordinate]))


def _leg_coordinates(tree: KinematicTree) -> tuple[tuple[str, ...], FloatArray]:
    """The free coordinates of the legs in the tree's order, and their ranges (c, 2) rad."""
    names, ranges = [], []
    for i, name in enumerate(tree.coordinates):
        if name[:-2] not in RANGES or name[-1] not in SIDES or tree.locked[i]:
            continue
        low, high = sorted(flexion_sign(tree, name) * np.deg2rad(RANGES[name[:-2]]))
        low, high = max(low, float(tree.lower[i])), min(high, float(tree.upper[i]))
        if low < high:
            names.append(name)
            ranges.append((low, high))
    return tuple(names), np.array(ranges).reshape(-1, 2)


def _crossings(poser: _Poser, ranges: FloatArray, random: np.random.Generator) -> NDArray[np.bool_]:
    """(m, c): which coordinate changes which muscle's length."""
    found: NDArray[np.bool_] = np.zeros((len(poser.lengths()), len(ranges)), dtype=bool)
    for _ in range(CROSSING_POSES):
        q = random.uniform(ranges[:, 0], ranges[:, 1])
        poser.go(q)
        before = poser.lengths()
        for k in range(len(ranges)):
            moved = q.copy()
            moved[k] = random.uniform(*ranges[k])
            poser.go(moved)
            found[:, k] |= np.abs(poser.lengths() - before) > CROSSING_M
    return found


def _only(model: Any, muscles: tuple[str, ...]) -> Any:
    """The model without any force but these muscles."""
    forces = model.updForceSet()
    for i in reversed(range(forces.getSize())):
        if forces.get(i).getName() not in muscles:
            forces.remove(i)
    model.finalizeFromProperties()
    return model
