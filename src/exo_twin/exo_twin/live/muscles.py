"""Which muscles pull how hard, live: the wearer's reference moments at this phase, EMG and effort in one solver."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import HIPS, LEG_COORDINATES
from exo_twin.inverse.muscle_forces import EMG_ASSISTED, MuscleSolver, StreamingMuscles, Weights
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.live.samples import Pair
from exo_twin.periodic import PeriodicCurve
from exo_twin.phase import PhaseEstimate
from exo_twin.twin import CURVE_POINTS, Twin

FloatArray = NDArray[np.float64]

# One standard deviation of a reference moment beside what strides differ by: what inverse dynamics itself errs by
# (markers, plates, inertias), Nm.
MOMENT_SD_NM = 5.0
# No exo gives a hip as much torque as this, Nm: a report of more tells nothing.
EXO_TORQUE_MAX_NM = 200.0
# Below this confidence in the phase no moment is asked for.
LEAST_CONFIDENCE = 0.05
CURE = "make the twin again with ./exo personalise <session>"


@dataclasses.dataclass(frozen=True)
class MuscleState:
    """Muscles (m,) and leg coordinates (6,).

    Attributes
    ----------
    activation, activation_sd : 0..1. force : N along the tendon.
    moment, moment_sd : Nm of the muscles, order LEG_COORDINATES, flexion positive.
    """

    activation: FloatArray
    activation_sd: FloatArray
    force: FloatArray
    moment: FloatArray
    moment_sd: FloatArray


class LiveMuscles:
    """The muscles of one wearer.

    Raises
    ------
    ExoError : if the twin has no leg muscles (made by an earlier version), or they do not fit its coordinates.
    """

    def __init__(self, twin: Twin) -> None:
        paths = MusclePaths.from_arrays(twin.model)
        self._stream = StreamingMuscles(MuscleSolver(paths, MuscleModel.from_arrays(twin.model), EMG_ASSISTED))
        self.muscles = paths.muscles
        missing = [name for name in LEG_COORDINATES if name not in paths.coordinates]
        if missing:
            raise ExoError(f"the twin's muscles do not cross {', '.join(missing)}; {CURE}")
        names = paths.coordinates
        self._rows = np.array([names.index(name) for name in LEG_COORDINATES])
        self._rest, self._signs = _rest_and_signs(twin, names)
        self._sign = self._signs[self._rows]
        gait, still = twin.gait, np.zeros(CURVE_POINTS)
        self._moments = [
            (row, name, PeriodicCurve(gait.moment_curves[name]), PeriodicCurve(gait.moment_curves_sd.get(name, still)))
            for row, name in enumerate(names)
            if name in gait.moment_curves
        ]
        # What no sensor tells (hip adduction ...) follows the reference stride, where the twin holds it.
        self._untold = [
            (row, name, PeriodicCurve(gait.curves[name]))
            for row, name in enumerate(names)
            if name in gait.curves and name not in LEG_COORDINATES
        ]

    @property
    def knows_moments(self) -> bool:
        """Whether the twin holds the wearer's joint moments."""
        return bool(self._moments)

    def step(
        self,
        time: float,
        position: FloatArray,
        velocity: FloatArray,
        phase: PhaseEstimate,
        exo_torque: Pair,
        emg: FloatArray,
        borrowed: FloatArray,
    ) -> MuscleState:
        """Solve one tick.

        Parameters
        ----------
        position, velocity : (6,) rad and rad/s, order LEG_COORDINATES.
        exo_torque : Nm on the left and right hip; what the exo gives, the muscles need not. NaN counts as none;
            beyond `EXO_TORQUE_MAX_NM` it is not known, and that hip's moment not asked for.
        emg : (m,) activation that EMG asks for, NaN where not measured.
        borrowed : (m,) one standard deviation that adds to the EMG's own, for being another muscle's.
        """
        q, qd = self._rest.copy(), np.zeros_like(self._rest)
        for row, name, curve in self._untold:
            value, slope = curve.at(_phase_of(name, phase))
            q[row] += phase.confidence * (value - q[row])
            qd[row] = phase.confidence * slope * phase.rate
        q[self._rows], qd[self._rows] = self._sign * position, self._sign * velocity
        moment, weight = self._wanted(phase, exo_torque)
        weights = Weights(EMG_ASSISTED.effort, 1.0 / (1.0 / EMG_ASSISTED.emg + borrowed**2), weight)
        solved = self._stream.push(time, q, qd, moment, emg, weights)
        return MuscleState(
            solved.activation[0],
            solved.activation_sd[0],
            solved.force[0],
            self._sign * solved.moment[0, self._rows],
            solved.moment_sd[0, self._rows],
        )

    def _wanted(self, phase: PhaseEstimate, exo_torque: Pair) -> tuple[FloatArray, FloatArray]:
        """Reference moments (c,) Nm in the model's signs, and one over their variance; NaN and 0 where unknown."""
        moment, weight = np.full(len(self._rest), np.nan), np.zeros(len(self._rest))
        if phase.confidence < LEAST_CONFIDENCE:
            return moment, weight
        doubt = (1.0 - phase.confidence) / phase.confidence
        for row, name, curve, deviation in self._moments:
            at = _phase_of(name, phase)
            value, slope = curve.at(at)
            known = math.hypot(MOMENT_SD_NM, deviation.at(at)[0], slope * phase.phase_sd)
            torque = exo_torque[HIPS.index(name)] if name in HIPS else 0.0
            if abs(torque) > EXO_TORQUE_MAX_NM:
                continue
            moment[row] = self._signs[row] * (value - (torque if math.isfinite(torque) else 0.0))
            weight[row] = 1.0 / (known**2 + (doubt * curve.rms) ** 2)
        return moment, weight


def _phase_of(name: str, phase: PhaseEstimate) -> float:
    """Of the coordinate's own leg."""
    return phase.left if name.endswith("_l") else phase.right


def _rest_and_signs(twin: Twin, coordinates: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Of the paths' coordinates: default values in rad, and -1 for a knee that the model counts negative, else 1."""
    rest, signs = np.zeros(len(coordinates)), np.ones(len(coordinates))
    if "tree_coordinates" not in twin.model:
        return rest, signs
    names = [str(name) for name in twin.model["tree_coordinates"]]
    for i, name in enumerate(coordinates):
        if name in names:
            at = names.index(name)
            rest[i] = twin.model["tree_default"][at]
            extension = abs(twin.model["tree_lower"][at]) > abs(twin.model["tree_upper"][at])
            signs[i] = -1.0 if name.startswith("knee_angle") and extension else 1.0
    return rest, signs
