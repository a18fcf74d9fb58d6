"""Reads an OpenSim model's muscles into plain arrays, each with its own curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from exo_common.errors import ExoError
from exo_twin.inverse.muscle_curves import Curves
from exo_twin.inverse.muscle_model import CURVES, MuscleModel
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]
Curve = Callable[[FloatArray], FloatArray]

# Where the curves are tabulated: fibres from nothing to twice their optimal length, half again as fast as they can
# contract, tendons up to four times the muscle's isometric force. Cubics between 400 points are right to about 1e-5.
LENGTHS = np.linspace(0.0, 2.0, 401)
VELOCITIES = np.linspace(-1.5, 1.5, 401)
ROOT_FORCES = np.linspace(0.0, 2.0, 401)
GRIDS = dict(zip(CURVES, (LENGTHS, VELOCITIES, LENGTHS, ROOT_FORCES), strict=True))
# A tendon's curve is turned about by interpolation between so fine steps of its strain; none is longer than this.
STRAINS = np.linspace(0.0, 0.5, 20001)


def muscle_model(model: Any, muscles: Sequence[str]) -> MuscleModel:
    """The named muscles of an OpenSim model.

    Parameters
    ----------
    model : opensim.Model on which initSystem() was called.

    Raises
    ------
    ExoError : naming a muscle that the model lacks, or whose class we have no curves of.
    """
    found = [_muscle(model, name) for name in muscles]
    values: dict[str, list[FloatArray]] = {name: [] for name in CURVES}
    for muscle in found:
        for name, curve in zip(CURVES, _curves_of(muscle), strict=True):
            values[name].append(curve(GRIDS[name]))
    return MuscleModel(
        tuple(muscles),
        max_isometric_force=np.array([muscle.getMaxIsometricForce() for muscle in found]),
        optimal_fiber_length=np.array([muscle.getOptimalFiberLength() for muscle in found]),
        tendon_slack_length=np.array([muscle.getTendonSlackLength() for muscle in found]),
        pennation_angle_at_optimal=np.array([muscle.getPennationAngleAtOptimalFiberLength() for muscle in found]),
        max_contraction_velocity=np.array([muscle.getMaxContractionVelocity() for muscle in found]),
        min_activation=np.array([muscle.getMinControl() for muscle in found]),
        **{name: _table(GRIDS[name], np.array(values[name])) for name in CURVES},
    )


def _table(grid: FloatArray, values: FloatArray) -> Curves:
    """Muscles of equal values share a row; slopes are those of the monotone cubic, which does not ring at corners."""
    rows, row = np.unique(values, axis=0, return_inverse=True)
    slopes = PchipInterpolator(grid, rows, axis=1).derivative()(grid)
    return Curves(float(grid[0]), float(grid[1] - grid[0]), rows, slopes, row.reshape(-1).astype(np.int64))


def _muscle(model: Any, name: str) -> Any:
    """The muscle as its concrete class."""
    if not model.getMuscles().contains(name):
        raise ExoError(f"the model has no muscle '{name}'; use muscles of this model")
    muscle = model.getMuscles().get(name)
    kind = muscle.getConcreteClassName()
    if kind not in _CURVES_BY_CLASS:
        raise ExoError(
            f"muscle '{name}' is of class {kind}, whose curves are not known here; replace it in the model by one of "
            f"{', '.join(_CURVES_BY_CLASS)}"
        )
    return getattr(opensim, kind).safeDownCast(muscle)


def _curves_of(muscle: Any) -> tuple[Curve, Curve, Curve, Curve]:
    return _CURVES_BY_CLASS[muscle.getConcreteClassName()](muscle)


def _sampled(function: Callable[[float], float]) -> Curve:
    return lambda points: np.array([function(float(x)) for x in points])


def _strain(force: Curve) -> Curve:
    """Strain over root force from force over length / slack length, by turning the curve about."""
    sampled = np.maximum(force(1.0 + STRAINS), 0.0)
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(sampled)) > 0.0])
    roots, strains = np.sqrt(sampled[rising]), STRAINS[rising]
    beyond = (strains[-1] - strains[-2]) / (roots[-1] - roots[-2])
    return lambda points: np.interp(points, roots, strains) + beyond * np.maximum(points - roots[-1], 0.0)


def _millard(muscle: Any) -> tuple[Curve, Curve, Curve, Curve]:
    return (
        _sampled(muscle.getActiveForceLengthCurve().calcValue),
        _sampled(muscle.getForceVelocityCurve().calcValue),
        _sampled(muscle.getFiberForceLengthCurve().calcValue),
        _strain(_sampled(muscle.getTendonForceLengthCurve().calcValue)),
    )


def _de_groote(muscle: Any) -> tuple[Curve, Curve, Curve, Curve]:
    return (
        _sampled(muscle.calcActiveForceLengthMultiplier),
        _sampled(muscle.calcForceVelocityMultiplier),
        _sampled(muscle.calcPassiveForceMultiplier),
        _strain(_sampled(muscle.calcTendonForceMultiplier)),
    )


def _thelen(muscle: Any) -> tuple[Curve, Curve, Curve, Curve]:
    """OpenSim keeps this class's curves to itself: eq. 1, 3, 4, 6 and 7 of Thelen 2003 (J Biomech Eng 125:70)."""
    width, af, most = muscle.get_KshapeActive(), muscle.get_Af(), muscle.get_Flen()
    passive_strain, passive_shape = muscle.get_FmaxMuscleStrain(), muscle.get_KshapePassive()

    def active(length: FloatArray) -> FloatArray:
        return np.exp(-((length - 1.0) ** 2) / width)

    def passive(length: FloatArray) -> FloatArray:
        return np.expm1(passive_shape * np.maximum(length - 1.0, 0.0) / passive_strain) / np.expm1(passive_shape)

    def velocity(speed: FloatArray) -> FloatArray:
        shortening, lengthening = np.clip(speed, -1.0, 0.0), np.maximum(speed, 0.0)
        per = (2.0 + 2.0 / af) / (most - 1.0)
        # Near its largest force the curve goes on as a straight line.
        threshold = muscle.get_fv_linear_extrap_threshold() * most
        start = (threshold - 1.0) / (per * (most - threshold))
        before = np.minimum(lengthening, start)
        slope = per * (most - 1.0) / (1.0 + per * start) ** 2
        eccentric = (1.0 + per * before * most) / (1.0 + per * before) + slope * np.maximum(lengthening - start, 0.0)
        return np.where(speed < 0.0, (1.0 + shortening) / (1.0 - shortening / af), eccentric)

    def tendon(length: FloatArray) -> FloatArray:
        at_one = muscle.get_FmaxTendonStrain()
        toe_shape, toe_force, linear = 3.0, 0.33, 0.67
        toe = 99.0 * at_one * np.exp(toe_shape) / (166.0 * np.exp(toe_shape) - 67.0)
        strain = np.maximum(length - 1.0, 0.0)
        curved = toe_force * np.expm1(toe_shape * np.minimum(strain, toe) / toe) / np.expm1(toe_shape)
        return np.asarray(curved + linear / (at_one - toe) * np.maximum(strain - toe, 0.0))

    return active, velocity, passive, _strain(tendon)


_CURVES_BY_CLASS: dict[str, Callable[[Any], tuple[Curve, Curve, Curve, Curve]]] = {
    "Millard2012EquilibriumMuscle": _millard,
    "DeGrooteFregly2016Muscle": _de_groote,
    "Thelen2003Muscle": _thelen,
}
