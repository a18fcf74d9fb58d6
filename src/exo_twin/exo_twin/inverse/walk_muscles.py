"""A walk's joint moments and EMG in; every muscle's activation and force over time out.

Long tendons (soleus, gastrocnemii, ...) stretch: in push-off they give back what they took up, so that the fibres
shorten slowly. With rigid ones the fibres would have to shorten as fast as the joint turns, and soleus runs into full
activation in fast walking. Over 24 walks of 12 wearers (gait_speeds; all were seen, nothing was fitted to them) elastic
tendons raise the correlation of static optimisation with EMG from .43 to .48 (calf and shin: .69 to .75), in every
walk, lower EMG-assisted reserves by a fifth, and settle in all of them, for 0.3 ms a frame. Calibration and the live
estimator keep rigid tendons: the one solves thousands of times, the other frame by frame.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Storage, write_storage
from exo_twin.inverse.analysis import WalkAnalysis, even_motion
from exo_twin.inverse.emg_muscles import EmgMap, emg_targets, excitations, pooled_gain, without_silent
from exo_twin.inverse.inverse_dynamics import Dynamics
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.muscle_calibration import Calibrated, CalibrationTrial
from exo_twin.inverse.muscle_forces import (
    EMG_ASSISTED,
    EXACT,
    STATIC_OPTIMISATION,
    MuscleSolution,
    MuscleSolver,
    Weights,
)
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths

FloatArray = NDArray[np.float64]

ACTIVATIONS, FORCES, MEASURED = "muscle_activations.sto", "muscle_forces.sto", "muscle_emg.sto"
# The ground pushes the whole foot in our inverse dynamics, so nothing is known of what the toes' joint bears. Of the
# subtalar joint little is: its axis differs by 10 degrees between people (Isman & Inman 1969), and the pressure's path
# across the foot is known to a centimetre, which is most of its lever.
UNKNOWN_MOMENTS = ("mtp_angle", "subtalar_angle")
TENDONS = "long tendons stretch; the others count as rigid, and all do in the calibration and live"
# Of a walk's frames: a channel that misses more is named. Delay and sync cost some at either end.
COVERED_SHARE = 0.9
# Nm, weight (N) times height (m) of a middling adult, whose moments are known as the solver's weights say. A child's
# forces and lever arms are smaller, and so are the errors of their product.
ADULT_SIZE_NM = 75.0 * 9.81 * 1.75
# Frames for calibration: what was low-passed at 6 Hz says nothing more at a higher rate.
CALIBRATION_HZ = 30.0


@dataclasses.dataclass(frozen=True)
class WalkEmg:
    """EMG of a walk.

    Attributes
    ----------
    time : (j,) s on the walk's clock.
    channels : k names of exo_emg.
    envelope : (j, k) fractions of each channel's maximum, without delay, NaN where not usable.
    full_effort : whether each channel's maximum is that of full effort; else it is that of this walk, and levels say
        nothing.
    maximum : (k,) what each channel's fractions are of, V, or whatever unit all walks of the wearer share.
    source : half a sentence: what the maxima are.
    """

    time: FloatArray
    channels: tuple[str, ...]
    envelope: FloatArray
    full_effort: tuple[bool, ...]
    maximum: FloatArray
    source: str

    def like(self, other: WalkEmg) -> WalkEmg:
        """The same as fractions of another walk's maxima, with its channels; NaN of those that this walk lacks."""
        envelope = np.full((len(self.time), len(other.channels)), np.nan)
        for k, name in enumerate(other.channels):
            if name in self.channels:
                own = self.channels.index(name)
                envelope[:, k] = self.envelope[:, own] * self.maximum[own] / other.maximum[k]
        return dataclasses.replace(other, time=self.time, envelope=envelope)


@dataclasses.dataclass(frozen=True)
class MeasuredActivation:
    """What EMG says of the muscles.

    Attributes
    ----------
    emg : which channel speaks for which muscle.
    gain : (channels,) activation per fraction of the channel's maximum.
    shape : of activation over excitation, see emg_muscles.shaped.
    target : (n, m) activations, NaN where not measured.
    """

    emg: EmgMap
    gain: FloatArray
    shape: float
    target: FloatArray


@dataclasses.dataclass(frozen=True)
class WalkMuscles:
    """Muscles over a walk.

    Attributes
    ----------
    solution : the best that is known: EMG-assisted where there is EMG, else static optimisation.
    static : static optimisation with muscles as scaled: no EMG has touched it.
    wanted : (n, c) Nm of `MusclePaths.coordinates`, NaN where not known.
    measured : None without EMG.
    warnings : sentences, also on tendons that had to be taken as rigid.
    """

    solution: MuscleSolution
    static: MuscleSolution
    wanted: FloatArray
    measured: MeasuredActivation | None
    warnings: tuple[str, ...]

    def save(self, folder: Path, muscles: tuple[str, ...]) -> None:
        """Write activations and forces over time, and what EMG said where it said something, as OpenSim reads them."""
        time = self.solution.time
        write_storage(folder / ACTIVATIONS, Storage(time, muscles, self.solution.activation, in_degrees=False))
        write_storage(folder / FORCES, Storage(time, muscles, self.solution.force, in_degrees=False))
        if self.measured is not None:
            names = tuple(name for own in self.measured.emg.measured.values() for name in own)
            target = self.measured.target[:, [muscles.index(name) for name in names]]
            write_storage(folder / MEASURED, Storage(time, names, target, in_degrees=False))


def walk_motion(analysis: WalkAnalysis, paths: MusclePaths) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Times (n,) s, and coordinates and speeds (n, c) of the paths, low-passed as for the moments."""
    time, q = even_motion(analysis.fit.kinematics.coordinates, analysis.tree)
    motion = derivatives(time, q)
    columns = [analysis.tree.index(name) for name in paths.coordinates]
    return time, motion.q[:, columns], motion.speed[:, columns]


def wanted_moments(dynamics: Dynamics, tree: KinematicTree, paths: MusclePaths) -> FloatArray:
    """Moments (n, c) Nm that muscles must add up to; NaN of joints that are locked or bear what nobody knows."""
    wanted = np.column_stack([dynamics.of(name) for name in paths.coordinates])
    unknown = [name.startswith(UNKNOWN_MOMENTS) or tree.locked[tree.index(name)] for name in paths.coordinates]
    wanted[:, unknown] = np.nan
    return wanted


def measured_activation(
    emg: WalkEmg, static: MuscleSolution, muscles: MuscleModel, calibrated: Calibrated | None = None
) -> tuple[MeasuredActivation | None, tuple[str, ...]]:
    """What a walk's EMG asks of the model's muscles at the motion's times, and a sentence for whatever it does not.

    Channels without a signal or without a muscle are left out; None if nothing is left. Where nothing is calibrated,
    channels whose maximum is not that of full effort have one gain, the one that fits the moments best.

    Parameters
    ----------
    static : the walk's static optimisation.
    calibrated : gains and shape to use.
    """
    envelope, silent = without_silent(emg.channels, emg.envelope)
    alive = [k for k in range(len(emg.channels)) if np.isfinite(envelope[:, k]).any()]
    if not alive:
        return None, (*silent, "no EMG channel is left; muscles are estimated from motion and moments alone")
    try:
        found = EmgMap.of([emg.channels[k] for k in alive], muscles.names)
        kept = [emg.channels.index(name) for name in found.channels]
        if not kept:
            return None, (*silent, *found.warnings)
        targets = functools.partial(emg_targets, static.time, found, emg.time, envelope[:, kept])
        shape = 0.0 if calibrated is None else calibrated.shape
        if calibrated is None:
            gain = _first_gain(found, [emg.full_effort[k] for k in kept], targets(), static, muscles)
        else:
            gain = np.array([calibrated.gain[name] for name in found.channels])
        measured = MeasuredActivation(found, gain, shape, targets(gain, shape))
    except ExoError as refusal:
        return None, (*silent, f"the muscles are estimated without EMG: {refusal}")
    return measured, (*silent, *found.warnings, *_gaps(measured, muscles.names))


def _gaps(measured: MeasuredActivation, muscles: Sequence[str]) -> list[str]:
    """One sentence on the channels that miss a good part of the walk."""
    known = np.isfinite(measured.target).mean(axis=0)
    share = {name: float(known[muscles.index(own[0])]) for name, own in measured.emg.measured.items()}
    missing = [f"{name} ({100.0 * part:.0f} %)" for name, part in share.items() if part < COVERED_SHARE]
    if not missing:
        return []
    return [
        f"EMG covers a part of the walk only: {', '.join(missing)}; in the rest these muscles are estimated without it "
        "and may jump where it begins or ends; mend the gaps, or record both for as long"
    ]


def _first_gain(
    emg: EmgMap, full_effort: Sequence[bool], target: FloatArray, static: MuscleSolution, muscles: MuscleModel
) -> FloatArray:
    """(channels,) gains: 1 of a maximum of full effort, else the one that fits the moments best."""
    unknown = {name: own for (name, own), full in zip(emg.measured.items(), full_effort, strict=True) if not full}
    others = dataclasses.replace(emg, measured=unknown)
    return np.where(full_effort, 1.0, pooled_gain(others, target, static.activation, muscles.max_isometric_force))


def calibration_trial(analysis: WalkAnalysis, paths: MusclePaths, emg: WalkEmg) -> CalibrationTrial:
    """The walk as muscles are calibrated from it, moments only where the force on that foot was measured.

    Raises
    ------
    ExoError : if the walk has no loads, or EMG and walk share no time.
    """
    if analysis.loads is None:
        raise ExoError("without joint moments nothing can be calibrated; give force plates")
    time, q, qd = walk_motion(analysis, paths)
    moment = wanted_moments(analysis.loads.dynamics, analysis.tree, paths)
    for column, name in enumerate(paths.coordinates):
        moment[~analysis.loads.measured[name[-1]], column] = np.nan
    excitation = excitations(time, emg.time, emg.envelope)
    every = slice(None, None, max(1, round(1.0 / (CALIBRATION_HZ * float(np.median(np.diff(time)))))))
    return CalibrationTrial(time[every], q[every], qd[every], moment[every], excitation[every])


def of_size(weights: Weights, size: float) -> Weights:
    """Weights of an adult's muscles for somebody whose weight times height is `size` Nm."""
    moment = np.minimum(np.asarray(weights.moment) * (ADULT_SIZE_NM / size) ** 2, EXACT * weights.effort)
    return dataclasses.replace(weights, moment=moment)


def solve_walk(
    analysis: WalkAnalysis,
    paths: MusclePaths,
    scaled: MuscleModel,
    emg: WalkEmg | None = None,
    calibrated: Calibrated | None = None,
    size: float = ADULT_SIZE_NM,
) -> WalkMuscles:
    """Activations and forces over a walk whose loads are known.

    Parameters
    ----------
    scaled : muscles that no EMG has touched.
    calibrated : to this EMG, where that was possible.
    size : Nm, the wearer's weight times height.

    Raises
    ------
    ExoError : if the walk has no loads.
    """
    if analysis.loads is None:
        raise ExoError("without joint moments there is nothing to share among the muscles; give force plates")
    time, q, qd = walk_motion(analysis, paths)
    wanted = wanted_moments(analysis.loads.dynamics, analysis.tree, paths)
    static = MuscleSolver(paths, scaled, elastic=True).solve(
        time, q, qd, wanted, weights=of_size(STATIC_OPTIMISATION, size)
    )
    if emg is None:
        return WalkMuscles(static, static, wanted, None, static.warnings)
    measured, notes = measured_activation(emg, static, scaled, calibrated)
    if measured is None:
        return WalkMuscles(static, static, wanted, None, (*notes, *static.warnings))
    own = MuscleSolver(paths, scaled if calibrated is None else calibrated.model, elastic=True)
    assisted = own.solve(time, q, qd, wanted, measured.target, of_size(EMG_ASSISTED, size))
    unsettled = (f"static optimisation: {text}" for text in static.warnings)
    return WalkMuscles(assisted, static, wanted, measured, (*notes, *unsettled, *assisted.warnings))
