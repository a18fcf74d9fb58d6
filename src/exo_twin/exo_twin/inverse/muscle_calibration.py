"""A wearer's own muscle numbers from walks with EMG: strength, fibre and tendon lengths, gains, shape of activation.

What is made small is the moment that stays undelivered, the reserves, while measured muscles pull as their EMG says
and the others as static optimisation has them (weights `EMG_LED`, before and after). Muscles of which EMG does not
tell keep their generic numbers: stronger ones would serve any moment with less effort, which is no evidence that they
are strong. All numbers are drawn back to the generic ones, each by how much people differ in it; how strongly is chosen
by cross-validation inside the walks given. Tendons are taken as rigid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.muscles import side_of
from exo_twin.inverse.emg_muscles import EmgMap, pooled_gain, without_silent
from exo_twin.inverse.muscle_fit import BLOCK_S, fit_unknowns
from exo_twin.inverse.muscle_forces import EFFORT, EMG_ASSISTED, STATIC_OPTIMISATION, MuscleSolver, Weights
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscle_sensitivity import Frames, MomentError
from exo_twin.inverse.muscle_unknowns import GAIN, KINDS, Unknowns, functional_groups

FloatArray = NDArray[np.float64]

# Measured muscles do what EMG says, but for a few hundredths of full activation; the others try for what that leaves.
EMG_LED = Weights(EFFORT, 1.0 / 0.03**2, EMG_ASSISTED.moment)
SHORTEST_S = 0.5  # of walking with EMG and moments: half a stride


@dataclasses.dataclass(frozen=True)
class CalibrationTrial:
    """A walk to calibrate from.

    Attributes
    ----------
    time : (n,) s.
    q, qd : (n, c) of the paths' coordinates, rad and rad/s.
    moment : (n, c) Nm that muscles add up to, NaN where not known.
    excitation : (n, k) of the channels as `emg_muscles.excitations` has them; NaN where not usable.
    """

    time: FloatArray
    q: FloatArray
    qd: FloatArray
    moment: FloatArray
    excitation: FloatArray

    def part(self, rows: NDArray[np.bool_]) -> CalibrationTrial:
        """Some of the frames."""
        return CalibrationTrial(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A wearer's muscles.

    Attributes
    ----------
    model : calibrated; the generic one where that was not possible.
    gain : channel -> activation per fraction of its maximum.
    shape : A of activation over excitation.
    strength, fibre, tendon : (m,) factors on the generic muscles.
    pull : strength of the pull back to the generic numbers, by cross-validation; 0 without calibration.
    error_before, error_after : RMS reserve, Nm, of the walks given; before: generic muscles, one gain for all channels.
    error_unseen : the same of frames left out, by cross-validation.
    warnings : sentences.
    """

    model: MuscleModel
    gain: dict[str, float]
    shape: float
    strength: FloatArray
    fibre: FloatArray
    tendon: FloatArray
    pull: float = 0.0
    error_before: float = 0.0
    error_after: float = 0.0
    error_unseen: float = 0.0
    warnings: tuple[str, ...] = ()


def calibrate_muscles(
    trials: Sequence[CalibrationTrial],
    paths: MusclePaths,
    model: MuscleModel,
    channels: Sequence[str],
    weights: Weights = EMG_LED,
    mirror: bool = True,
    known_gain: Mapping[str, float] | None = None,
    kinds: Sequence[str] = KINDS,
    progress: Callable[[str], None] = lambda _: None,
) -> Calibrated:
    """Calibrate a wearer's muscles; whatever cannot be calibrated stays generic and costs a sentence.

    Parameters
    ----------
    trials : walks whose envelopes are fractions of the same maxima.
    channels : of exo_emg, one per column of the trials' excitations.
    mirror : whether a leg without EMG gets the other's factors; not for a wearer whose legs differ.
    known_gain : of channels whose maximum is that of full effort: 1, or what an earlier calibration found. The others
        begin at one gain for all, see `emg_muscles.pooled_gain`.
    kinds : what may change.
    progress : called with a short phrase.

    Raises
    ------
    ExoError : if a trial's arrays do not fit together.
    """
    usable = [_usable(trial, paths, channels) for trial in trials]
    excitation = np.concatenate([np.zeros((0, len(channels))), *(trial.excitation for trial in trials)])
    excitation, silent = without_silent(channels, excitation)
    alive = [name for name, column in zip(channels, excitation.T, strict=True) if np.isfinite(column).any()]
    emg = EmgMap.of(alive, model.names)
    kept = [list(channels).index(name) for name in emg.channels]
    warnings = (*silent, *emg.warnings)
    seconds = sum(len(part.time) * _step_s(trial) for part, trial in zip(usable, trials, strict=True))
    if not kept or seconds < SHORTEST_S:
        why = f"{seconds:.2g} s have EMG and joint moments, {SHORTEST_S:g} s are needed" if kept else "no EMG is usable"
        generic = np.ones(len(model.names))
        told = f"the muscles stay generic: {why}; record a stride or more"
        return Calibrated(
            model, dict.fromkeys(emg.channels, 1.0), 0.0, generic, generic, generic, warnings=(*warnings, told)
        )
    progress("calibrating muscles")
    trials = [dataclasses.replace(trial, excitation=trial.excitation[:, kept]) for trial in usable if len(trial.time)]
    leg = _Leg.of(paths, model, emg)
    frames = leg.frames(trials)
    gain = leg.first_gain(trials, frames, known_gain or {})
    groups = functional_groups(
        frames.arms.mean(axis=0), leg.coordinates, leg.emg.muscles, np.asarray(leg.emg.share.any(axis=0))
    )
    unknowns = Unknowns.of(groups, gain, kinds)
    error = MomentError(frames, leg.model, leg.emg, unknowns, weights)
    solved = fit_unknowns(error, _blocks(trials), seconds / len(frames.length))
    strength, fibre, tendon = (
        leg.spread(unknowns.factor(solved.x, kind), mirror) for kind in ("strength", "fibre", "tendon")
    )
    return Calibrated(
        model.scaled(strength, fibre, tendon),
        dict(zip(emg.channels, map(float, unknowns.gain(solved.x)), strict=True)),
        unknowns.shape(solved.x),
        strength,
        fibre,
        tendon,
        solved.pull,
        solved.before,
        solved.after,
        solved.unseen,
        warnings,
    )


def _usable(trial: CalibrationTrial, paths: MusclePaths, channels: Sequence[str]) -> CalibrationTrial:
    """The frames with moments and EMG."""
    n, c = len(trial.time), len(paths.coordinates)
    shapes = {"q": (n, c), "qd": (n, c), "moment": (n, c), "excitation": (n, len(channels))}
    for name, shape in shapes.items():
        if getattr(trial, name).shape != shape:
            raise ExoError(f"{name} of a calibration trial has shape {getattr(trial, name).shape}, {shape} is needed")
    known = np.isfinite(trial.moment).any(axis=1) & np.isfinite(trial.excitation).any(axis=1)
    return trial.part(np.asarray(known))


def _step_s(trial: CalibrationTrial) -> float:
    """From frame to frame, s; 0 of a single one."""
    return float(np.median(np.diff(trial.time))) if len(trial.time) > 1 else 0.0


def _blocks(trials: Sequence[CalibrationTrial]) -> NDArray[np.int64]:
    """(n,) running number of the block of every frame of all trials."""
    return np.concatenate([np.floor((t.time - t.time[:1]) / BLOCK_S + 1e-9).astype(np.int64) for t in trials])


@dataclasses.dataclass(frozen=True)
class _Leg:
    """The legs that EMG tells of: their muscles and coordinates alone.

    Attributes
    ----------
    paths, whole : of all muscles.
    index, columns : which of all muscles and coordinates these are.
    model, emg : of these muscles.
    """

    paths: MusclePaths
    whole: MuscleModel
    index: NDArray[np.int64]
    columns: NDArray[np.int64]
    model: MuscleModel
    emg: EmgMap

    @staticmethod
    def of(paths: MusclePaths, model: MuscleModel, emg: EmgMap) -> _Leg:
        sides = {side_of(channel)[1] for channel in emg.channels}
        index = np.array([i for i, name in enumerate(paths.muscles) if side_of(name)[1] in sides])
        columns = np.array([i for i, name in enumerate(paths.coordinates) if side_of(name)[1] in sides])
        own = tuple(paths.muscles[i] for i in index)
        return _Leg(paths, model, index, columns, model.select(index), EmgMap.of(emg.channels, own))

    @property
    def coordinates(self) -> tuple[str, ...]:
        return tuple(self.paths.coordinates[i] for i in self.columns)

    def frames(self, trials: Sequence[CalibrationTrial]) -> Frames:
        """Of all trials, one after the other."""
        paths = [self.paths.evaluate(trial.q, trial.qd) for trial in trials]
        return Frames(
            np.concatenate([path.length for path in paths])[:, self.index],
            np.concatenate([path.velocity for path in paths])[:, self.index],
            np.concatenate([path.arms for path in paths])[:, self.index][:, :, self.columns],
            np.concatenate([trial.moment for trial in trials])[:, self.columns],
            np.concatenate([trial.excitation for trial in trials]),
        )

    def first_gain(self, trials: Sequence[CalibrationTrial], frames: Frames, known: Mapping[str, float]) -> FloatArray:
        """Of every channel (k,): what is known, else one for all, from static optimisation with generic muscles."""
        names = self.emg.channels
        others = [k for k, name in enumerate(names) if name not in known]
        emg = EmgMap.of([names[k] for k in others], self.emg.muscles)
        solver = MuscleSolver(self.paths, self.whole, STATIC_OPTIMISATION)
        static = [solver.solve(t.time, t.q, t.qd, t.moment).activation[:, self.index] for t in trials]
        target = emg.activation(frames.excitation[:, others])
        common = pooled_gain(emg, target, np.concatenate(static), self.model.max_isometric_force)
        return np.clip([known.get(name, common) for name in names], GAIN.low, GAIN.high)

    def spread(self, factor: FloatArray, mirror: bool) -> FloatArray:
        """Factors (m,) of all muscles; those of a leg that EMG does not tell of are the other's, or 1."""
        names = self.paths.muscles
        known = {names[i]: value for i, value in zip(self.index, factor, strict=True)}
        if mirror:
            known = {f"{name[:-1]}{'l' if name[-1] == 'r' else 'r'}": value for name, value in known.items()} | known
        return np.array([known.get(name, 1.0) for name in names])
