"""Calibrated muscles on a walk they have not seen: fitted on the comfortable one, tested on the fast one, and back.

The error is the RMS of what the muscles leave of hip, knee and ankle flexion moments on the unseen walk, Nm/kg, while
measured muscles pull as EMG says and the others by least effort; the weights of this are the same before and after.
Envelopes are fractions of the peaks of the walk that is fitted to, for both walks. Three baselines: generic muscles at
gain 1; generic muscles with the one gain that the twin has without calibration, the headline's; and the gains alone
fitted like everything else.

Fitting moments could make muscles worse otherwise. So beside it stand: the same fall with the weights of the
EMG-assisted solution; how static optimisation with calibrated muscles, which sees no EMG, agrees with the unseen walk's
EMG; and how alike two calibrations of one wearer, by one walk each, find the strengths of the muscles.

Seen while it was made: these walks. Chosen with them in sight, after calibrated muscles had agreed worse with EMG or a
mere increase of all strengths had done nearly as well: how closely EMG leads (of three values), that muscles without
EMG stay generic, and how far lengths and gains are believed to differ among people.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from muscle_emg import agreement, sagittal_reserve
from muscle_walks import JOBS, EmgWalk, gait_speeds
from numpy.typing import NDArray

from exo_twin.inverse.emg_muscles import EmgMap, pooled_gain
from exo_twin.inverse.muscle_calibration import EMG_LED, Calibrated, calibrate_muscles
from exo_twin.inverse.muscle_forces import EMG_ASSISTED, STATIC_OPTIMISATION, MuscleSolver, Weights
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_unknowns import FIBRE, GAIN, SHAPE, STRENGTH, TENDON

FloatArray = NDArray[np.float64]

ROUNDING = 1e-9  # of a factor at its bound


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One calibration on one walk of a wearer, judged on another; errors in Nm/kg, r with EMG."""

    unit_gain: float
    generic: float
    gains_alone: float
    calibrated: float
    assisted_generic: float
    assisted: float
    r_generic: float
    r_calibrated: float
    found: Calibrated
    seconds: float


def measure(data: Path, generic: Path, walks: Sequence[Sequence[EmgWalk]] | None = None) -> dict[str, float]:
    """Figures over `data`/gait_speeds; medians over wearers of the mean of both directions.

    Parameters
    ----------
    walks : if they were analysed already.

    Returns
    -------
    calibration_gain_pct : fall of the error on the unseen walk from that of generic muscles with one gain;
        _to_fast, _to_comfortable: one direction; _unit_gain: from generic muscles at gain 1; _over_gains: from gains
        fitted alone; _assisted: with the weights of the EMG-assisted solution.
    calibration_walks_worse_pct : share of the unseen walks on which the error rose.
    calibration_error_nm_kg, calibration_error_generic_nm_kg : means.
    calibration_inside_bounds : 1 if all numbers of all wearers are; calibration_at_bound_pct : share at a bound.
    calibration_strength_repeats_r : of the logarithms of strengths found by the two walks of a wearer.
    calibration_emg_r_generic, calibration_emg_r : static optimisation beside the unseen walk's EMG.
    calibration_s : of one calibration, and the longest.
    """
    recorded = gait_speeds(data, generic) if walks is None else walks
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(JOBS, mp_context=context) as pool:
        both = list(pool.map(both_ways, [list(own) for own in recorded if len(own) > 1]))
    every = [one for pair in both for one in pair]

    def fall(before: str, after: str = "calibrated", chosen: slice = slice(None)) -> float:
        falls = [[1.0 - getattr(one, after) / getattr(one, before) for one in pair[chosen]] for pair in both]
        return 100.0 * float(np.median(np.mean(falls, axis=1)))

    calibrations = [one.found for one in every]
    seconds = [one.seconds for one in every]
    return {
        "calibration_gain_pct": fall("generic"),
        "calibration_gain_to_fast_pct": fall("generic", chosen=slice(0, 1)),
        "calibration_gain_to_comfortable_pct": fall("generic", chosen=slice(1, 2)),
        "calibration_gain_unit_gain_pct": fall("unit_gain"),
        "calibration_gain_over_gains_pct": fall("gains_alone"),
        "calibration_gain_assisted_pct": fall("assisted_generic", "assisted"),
        "calibration_walks_worse_pct": 100.0 * float(np.mean([one.calibrated > one.generic for one in every])),
        "calibration_error_generic_nm_kg": float(np.mean([one.generic for one in every])),
        "calibration_error_nm_kg": float(np.mean([one.calibrated for one in every])),
        "calibration_inside_bounds": float(all(_inside(found) for found in calibrations)),
        "calibration_at_bound_pct": 100.0 * float(np.mean([_at_bound(found) for found in calibrations])),
        "calibration_strength_repeats_r": float(np.median([_repeats(*(one.found for one in pair)) for pair in both])),
        "calibration_emg_r_generic": float(np.mean([one.r_generic for one in every])),
        "calibration_emg_r": float(np.mean([one.r_calibrated for one in every])),
        "calibration_s": float(np.median(seconds)),
        "calibration_longest_s": float(np.max(seconds)),
    }


def both_ways(walks: Sequence[EmgWalk]) -> list[Transfer]:
    """Fitted to the first walk and tested on the second, and the reverse."""
    return [transfer(walks[0], walks[1]), transfer(walks[1], walks[0])]


def transfer(fitted: EmgWalk, unseen: EmgWalk) -> Transfer:
    """Calibrate on one walk, test on another of the same wearer."""
    trial = fitted.trial(fitted.peak)
    began = time.perf_counter()
    found = calibrate_muscles([trial], fitted.paths, fitted.model, fitted.channels)
    seconds = time.perf_counter() - began
    gains = calibrate_muscles([trial], fitted.paths, fitted.model, fitted.channels, kinds=("gain",))
    emg = EmgMap.of(tuple(found.gain), fitted.paths.muscles)
    kept = [fitted.channels.index(name) for name in emg.channels]
    solver = MuscleSolver(fitted.paths, fitted.model, STATIC_OPTIMISATION)
    static = solver.solve(trial.time, trial.q, trial.qd, trial.moment)
    one_gain = pooled_gain(
        emg, emg.activation(trial.excitation[:, kept]), static.activation, fitted.model.max_isometric_force
    )
    share = unseen.trial(fitted.peak).excitation[:, kept]

    def error(model: MuscleModel, gain: FloatArray | float, shape: float = 0.0, weights: Weights = EMG_LED) -> float:
        target = emg.activation(share, gain, shape)
        solved = MuscleSolver(unseen.paths, model, weights).solve(
            unseen.time, unseen.q, unseen.qd, unseen.moment, target
        )
        return sagittal_reserve(unseen, solved)

    def r_static(model: MuscleModel) -> float:
        solved = MuscleSolver(unseen.paths, model, STATIC_OPTIMISATION).solve(
            unseen.time, unseen.q, unseen.qd, unseen.moment
        )
        return float(np.nanmean(agreement(unseen, solved)))

    own = np.array(list(found.gain.values()))
    return Transfer(
        error(fitted.model, 1.0),
        error(fitted.model, one_gain),
        error(gains.model, np.array(list(gains.gain.values()))),
        error(found.model, own, found.shape),
        error(fitted.model, one_gain, weights=EMG_ASSISTED),
        error(found.model, own, found.shape, EMG_ASSISTED),
        r_static(fitted.model),
        r_static(found.model),
        found,
        seconds,
    )


def _numbers(found: Calibrated) -> list[tuple[FloatArray, float, float]]:
    """All numbers with their bounds."""
    return [
        (found.strength, STRENGTH.low, STRENGTH.high),
        (found.fibre, FIBRE.low, FIBRE.high),
        (found.tendon, TENDON.low, TENDON.high),
        (np.array(list(found.gain.values())), GAIN.low, GAIN.high),
        (np.array([found.shape]), SHAPE.low, SHAPE.high),
    ]


def _inside(found: Calibrated) -> bool:
    return all(
        bool(np.all((values >= low - ROUNDING) & (values <= high + ROUNDING))) for values, low, high in _numbers(found)
    )


def _at_bound(found: Calibrated) -> float:
    """Share of strengths, lengths and gains; a straight activation is at its bound, and no fault."""
    touching = [(values <= low + ROUNDING) | (values >= high - ROUNDING) for values, low, high in _numbers(found)[:-1]]
    return float(np.mean(np.concatenate(touching)))


def _repeats(one: Calibrated, other: Calibrated) -> float:
    solved = (one.strength != 1.0) & (other.strength != 1.0)
    return float(np.corrcoef(np.log(one.strength[solved]), np.log(other.strength[solved]))[0, 1])
