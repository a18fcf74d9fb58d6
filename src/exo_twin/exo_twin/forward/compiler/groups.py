"""From the forty muscles of a leg to nine sagittal groups: lengths, isometric forces, strength.

The rule. A group's path length is the F_max-weighted mean of its muscles'
lengths, hence its moment arm is the weighted mean of theirs; its force is the
sum of theirs. Muscles that act mainly out of the sagittal plane or across
groups (gluteus minimus, anterior and middle gluteus medius, gracilis,
sartorius, tensor fasciae latae, deep rotators, short adductors) are left out.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_twin.forward.compiler.skeleton import neutral_pose, set_pose
from exo_twin.opensim_runtime import opensim
from exo_twin.planar_muscles import GROUPS, MEMBERS, MUSCLES

FloatArray = NDArray[np.float64]

# rad; the paths are fitted where people walk, climb and sit down, inside the model's own limits.
FIT_RANGES = {"hip_flexion": (-0.5, 1.6), "knee_angle": (0.0, 1.9), "ankle_angle": (-0.75, 0.55)}
GRID_POINTS = {1: 25, 2: 11}  # per coordinate, for muscles crossing one and two
HELD_OUT_POSES = 100
FIBRE_GRID = np.linspace(0.2, 2.0, 181)  # optimal lengths, where the fibre curves are tabulated
VELOCITY_GRID = np.linspace(-1.0, 1.0, 101)  # maximum velocities


@dataclasses.dataclass(frozen=True)
class GroupSamples:
    """A group sampled on the OpenSim model.

    Attributes
    ----------
    name : group with side.
    coordinates : the one or two coordinates it crosses.
    ranges : per coordinate, (lowest, highest) rad.
    poses : (n, k) rad, a regular grid; `length` (n,) m, `arms` (n, k) m.
    active, passive : (n,) N, isometric tendon force at full activation and the passive part of it.
    held_out_* : the same at random poses that no fit sees.
    max_isometric_force : N.
    max_velocity : F_max-weighted mean, optimal lengths per s.
    optimal_length, slack_length : F_max-weighted means, m (slack includes tendon and pennation; a first guess).
    velocity_curve : (101,) active force over VELOCITY_GRID, of the isometric force.
    """

    name: str
    coordinates: tuple[str, ...]
    ranges: FloatArray
    poses: FloatArray
    length: FloatArray
    arms: FloatArray
    active: FloatArray
    passive: FloatArray
    held_out_poses: FloatArray
    held_out_length: FloatArray
    held_out_arms: FloatArray
    held_out_active: FloatArray
    held_out_passive: FloatArray
    max_isometric_force: float
    max_velocity: float
    optimal_length: float
    slack_length: float
    velocity_curve: FloatArray


@dataclasses.dataclass(frozen=True)
class _Fibre:
    """One OpenSim muscle with a rigid tendon."""

    muscle: Any
    peak: float
    optimal: float
    slack: float
    pennation: float
    active_curve: FloatArray
    passive_curve: FloatArray
    velocity_curve: FloatArray
    max_velocity: float

    def forces(self, length: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Active and passive tendon force, N, at path lengths, m; the fibre keeps its height (constant volume)."""
        along = np.maximum(length - self.slack, 1e-6)
        height = self.optimal * np.sin(self.pennation)
        fibre = np.hypot(along, height)
        cosine = along / fibre
        normal = fibre / self.optimal
        active = self.peak * cosine * np.interp(normal, FIBRE_GRID, self.active_curve)
        return active, self.peak * cosine * np.interp(normal, FIBRE_GRID, self.passive_curve)


def sample_groups(model: Any, state: Any, seed: int = 0) -> dict[str, GroupSamples]:
    """Sample all 18 groups of a scaled model on grids and on random held-out poses.

    Raises
    ------
    ExoError : naming the muscle that the model lacks.
    """
    set_pose(model, state, neutral_pose(model))
    rng = np.random.default_rng(seed)
    samples = {}
    for side in SIDES:
        for group in GROUPS:
            samples[f"{group}_{side}"] = _sample(model, state, group, side, rng)
    return {name: samples[name] for name in MUSCLES}


def _sample(model: Any, state: Any, group: str, side: str, rng: np.random.Generator) -> GroupSamples:
    muscle_names, joints = MEMBERS[group]
    fibres = [_fibre(model, f"{name}_{side}") for name in muscle_names]
    coordinates = tuple(f"{joint}_{side}" for joint in joints)
    ranges = np.array([_fit_range(model, joint, side) for joint in joints])
    axes = [np.linspace(low, high, GRID_POINTS[len(joints)]) for low, high in ranges]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    random = rng.uniform(ranges[:, 0], ranges[:, 1], (HELD_OUT_POSES, len(joints)))
    peaks = np.array([fibre.peak for fibre in fibres])
    weights = peaks / peaks.sum()

    def measure(poses: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        lengths, arms = _lengths_and_arms(model, state, coordinates, poses, fibres)
        forces = [fibre.forces(lengths[:, i]) for i, fibre in enumerate(fibres)]
        return (
            lengths @ weights,
            arms @ weights,
            np.sum([f[0] for f in forces], axis=0),
            np.sum([f[1] for f in forces], axis=0),
        )

    on_grid, held_out = measure(grid), measure(random)
    set_pose(model, state, dict.fromkeys(coordinates, 0.0))
    return GroupSamples(
        f"{group}_{side}",
        coordinates,
        ranges,
        grid,
        *on_grid,
        random,
        *held_out,
        float(peaks.sum()),
        float(weights @ [fibre.max_velocity for fibre in fibres]),
        float(weights @ [fibre.optimal * np.cos(fibre.pennation) for fibre in fibres]),
        float(weights @ [fibre.slack for fibre in fibres]),
        weights @ np.array([fibre.velocity_curve for fibre in fibres]),
    )


def _fit_range(model: Any, joint: str, side: str) -> tuple[float, float]:
    coordinate = model.getCoordinateSet().get(f"{joint}_{side}")
    low, high = FIT_RANGES[joint]
    return max(low, float(coordinate.getRangeMin())), min(high, float(coordinate.getRangeMax()))


def _lengths_and_arms(
    model: Any, state: Any, coordinates: tuple[str, ...], poses: FloatArray, fibres: list[_Fibre]
) -> tuple[FloatArray, FloatArray]:
    """Lengths (n, fibres) and moment arms (n, coordinates, fibres), m.

    The arms come from OpenSim's own solver: where two wrapping surfaces overlap (the
    gastrocnemii near knee extension) its lengths have a kink that its forces do not have.
    """
    lengths = np.empty((len(poses), len(fibres)))
    arms = np.empty((len(poses), len(coordinates), len(fibres)))
    about = [model.getCoordinateSet().get(name) for name in coordinates]
    for i, pose in enumerate(poses):
        set_pose(model, state, dict(zip(coordinates, pose, strict=True)))
        lengths[i] = [fibre.muscle.getLength(state) for fibre in fibres]
        arms[i] = [[fibre.muscle.computeMomentArm(state, c) for fibre in fibres] for c in about]
    return lengths, arms


def _fibre(model: Any, name: str) -> _Fibre:
    muscles = model.getMuscles()
    if not muscles.contains(name):
        raise ExoError(f"the model has no muscle '{name}'; use a model of the Rajagopal family (40 muscles per leg)")
    muscle = muscles.get(name)
    active, passive, velocity = _curves(muscle)
    return _Fibre(
        muscle,
        muscle.getMaxIsometricForce(),
        muscle.getOptimalFiberLength(),
        muscle.getTendonSlackLength(),
        muscle.getPennationAngleAtOptimalFiberLength(),
        active,
        passive,
        velocity,
        muscle.getMaxContractionVelocity(),
    )


def _curves(muscle: Any) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The muscle's own active, passive and velocity curves on FIBRE_GRID and VELOCITY_GRID."""
    degroote = opensim.DeGrooteFregly2016Muscle.safeDownCast(muscle)
    if degroote is not None:
        functions = (
            degroote.calcActiveForceLengthMultiplier,
            degroote.calcPassiveForceMultiplier,
            degroote.calcForceVelocityMultiplier,
        )
    else:
        millard = opensim.Millard2012EquilibriumMuscle.safeDownCast(muscle)
        if millard is None:
            raise ExoError(
                f"muscle '{muscle.getName()}' is a {muscle.getConcreteClassName()}; "
                "convert it to DeGrooteFregly2016Muscle or Millard2012EquilibriumMuscle"
            )
        functions = (
            millard.getActiveForceLengthCurve().calcValue,
            millard.getFiberForceLengthCurve().calcValue,
            millard.getForceVelocityCurve().calcValue,
        )
    grids = (FIBRE_GRID, FIBRE_GRID, VELOCITY_GRID)
    active, passive, velocity = (np.array([f(float(x)) for x in g]) for f, g in zip(functions, grids, strict=True))
    return active, passive, velocity
