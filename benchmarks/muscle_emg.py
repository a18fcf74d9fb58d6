"""Static optimisation and EMG-assisted muscles beside the EMG itself, one electromechanical delay fixed beforehand.

The activation of a channel's muscles (mean weighted by their strength) is correlated with the channel's envelope after
40 ms and the lag of activation that exo_emg declares; no delay is fitted to anything. EMG assistance is judged on
held-out muscles: one channel after the other is hidden, neither its signal nor a gain made from it is used, and r of
its muscles is compared with static optimisation's. The unit of the statistics is the wearer.

Seen while it was made: these walks. That muscles follow their module, one gain for all channels, and that EMG passes
the lag of activation come from the literature and were chosen with their effect on these walks in sight. The solver's
weights were kept as they were after others had been looked at. So was the delay: 100 ms would agree best on average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from muscle_walks import SAGITTAL, EmgWalk, gait_speeds, walking_3d
from numpy.typing import NDArray
from scipy.stats import t as student

from exo_twin.inverse.emg_muscles import EmgMap, pooled_gain
from exo_twin.inverse.muscle_forces import EMG_ASSISTED, STATIC_OPTIMISATION, MuscleSolution, MuscleSolver

FloatArray = NDArray[np.float64]

CONFIDENCE = 0.975  # of a one-sided bound: the lower end of the two-sided 95 % interval


@dataclasses.dataclass(frozen=True)
class WalkAgreement:
    """r of every channel (k,), NaN where it must not be used; and RMS reserves of the sagittal moments, Nm/kg."""

    wearer: str
    channels: tuple[str, ...]
    static: FloatArray
    static_envelope: FloatArray
    static_elastic: FloatArray
    held_out: FloatArray
    held_out_envelope: FloatArray
    leaders: FloatArray
    alone: FloatArray
    tracked: FloatArray
    reserve_static: float
    reserve_assisted: float


def measure(data: Path, generic: Path, walks: Sequence[Sequence[EmgWalk]] | None = None) -> dict[str, float]:
    """Figures over `data`/walking_3d and `data`/gait_speeds.

    Parameters
    ----------
    walks : of gait_speeds, if they were analysed already.

    Returns
    -------
    emg_r_static : mean over wearers, of the mean over their muscles and walks; _walking_3d and _gait_speeds apart;
        _envelope: to the envelope without the lag of activation; _elastic: with elastic tendons.
    emg_r_assisted_heldout : of hidden muscles; emg_r_static_<muscle>, emg_r_heldout_<muscle> of gait_speeds.
    emg_heldout_delta : mean difference to static optimisation; _lower95: lower end of its 95 % interval over wearers;
        _alone, _alone_lower95: where no muscle follows another's channel.
    emg_heldout_delta_envelope, _envelope_lower95 : both to the envelope without the lag of activation.
    emg_r_leaders_alone : of the hidden channel with the mean of those that its muscles follow, without any model,
        where there are such; emg_r_assisted_heldout_led: of the same channels.
    emg_r_assisted_tracked : of muscles whose EMG is used.
    emg_reserve_static_nm_kg, emg_reserve_assisted_nm_kg : what either leaves of hip, knee and ankle moments.
    """
    recorded = gait_speeds(data, generic) if walks is None else walks
    single = judge(walking_3d(data))
    many = [judge(walk) for own in recorded for walk in own]
    every = [single, *many]
    delta = by_wearer(every, lambda found: found.held_out - found.static)
    alone = by_wearer(every, lambda found: found.alone - found.static)
    envelope = by_wearer(every, lambda found: found.held_out_envelope - found.static_envelope)
    return {
        "emg_wearers": float(len({found.wearer for found in every})),
        "emg_channels": float(sum(np.isfinite(found.static).sum() for found in every)),
        "emg_r_static": float(by_wearer(every, lambda found: found.static).mean()),
        "emg_r_static_walking_3d": float(np.nanmean(single.static)),
        "emg_r_static_gait_speeds": float(by_wearer(many, lambda found: found.static).mean()),
        "emg_r_static_envelope": float(by_wearer(every, lambda found: found.static_envelope).mean()),
        "emg_r_static_elastic": float(by_wearer(every, lambda found: found.static_elastic).mean()),
        "emg_r_assisted_heldout": float(by_wearer(every, lambda found: found.held_out).mean()),
        "emg_r_assisted_tracked": float(by_wearer(every, lambda found: found.tracked).mean()),
        "emg_heldout_delta": float(delta.mean()),
        "emg_heldout_delta_lower95": lower_bound(delta),
        "emg_heldout_delta_worst_wearer": float(delta.min()),
        "emg_heldout_delta_walking_3d": float(np.nanmean(single.held_out - single.static)),
        "emg_heldout_delta_envelope": float(envelope.mean()),
        "emg_heldout_delta_envelope_lower95": lower_bound(envelope),
        "emg_r_leaders_alone": float(by_wearer(every, lambda found: found.leaders).mean()),
        "emg_r_assisted_heldout_led": float(
            by_wearer(every, lambda found: np.where(np.isfinite(found.leaders), found.held_out, np.nan)).mean()
        ),
        "emg_heldout_delta_alone": float(alone.mean()),
        "emg_heldout_delta_alone_lower95": lower_bound(alone),
        "emg_reserve_static_nm_kg": float(np.mean([found.reserve_static for found in every])),
        "emg_reserve_assisted_nm_kg": float(np.mean([found.reserve_assisted for found in every])),
        **_per_muscle("emg_r_static", many, [found.static for found in many]),
        **_per_muscle("emg_r_heldout", many, [found.held_out for found in many]),
    }


def judge(walk: EmgWalk) -> WalkAgreement:
    """Solve a walk without EMG, with all of it, and with each channel hidden in turn."""
    solver = MuscleSolver(walk.paths, walk.model)
    static = solver.solve(walk.time, walk.q, walk.qd, walk.moment, weights=STATIC_OPTIMISATION)
    stretching = MuscleSolver(walk.paths, walk.model, elastic=True)
    elastic = stretching.solve(walk.time, walk.q, walk.qd, walk.moment, weights=STATIC_OPTIMISATION)
    usable = [k for k in range(len(walk.channels)) if np.isfinite(walk.peak[k])]

    def assisted(chosen: Sequence[int], followers: bool = True) -> tuple[MuscleSolution, FloatArray]:
        emg = EmgMap.of([walk.channels[k] for k in chosen], walk.paths.muscles, followers)
        share = walk.excitation[:, chosen] / walk.peak[chosen]
        strength = walk.model.max_isometric_force
        gain = pooled_gain(emg, emg.activation(share), static.activation, strength)
        target = emg.activation(share, gain)
        return solver.solve(walk.time, walk.q, walk.qd, walk.moment, target, EMG_ASSISTED), target

    whole, _ = assisted(usable)
    held_out, envelope, leaders, alone = np.full((4, len(walk.channels)), np.nan)
    for k in usable:
        others = [other for other in usable if other != k]
        hidden, target = assisted(others)
        held_out[k] = agreement(walk, hidden)[k]
        envelope[k] = agreement(walk, hidden, walk.envelope)[k]
        leaders[k] = _r(target[:, walk.paths.muscles.index(_own(walk)[walk.channels[k]][0])], walk.excitation[:, k])
        alone[k] = agreement(walk, assisted(others, followers=False)[0])[k]
    return WalkAgreement(
        walk.wearer,
        walk.channels,
        agreement(walk, static),
        agreement(walk, static, walk.envelope),
        agreement(walk, elastic),
        held_out,
        envelope,
        leaders,
        alone,
        agreement(walk, whole),
        sagittal_reserve(walk, static),
        sagittal_reserve(walk, whole),
    )


def agreement(walk: EmgWalk, solution: MuscleSolution, signal: FloatArray | None = None) -> FloatArray:
    """r (k,) of every channel's muscles with its excitation, NaN where it must not be used; 0 of a still muscle."""
    told = walk.excitation if signal is None else signal
    found = np.full(len(walk.channels), np.nan)
    for channel, names in _own(walk).items():
        k = walk.channels.index(channel)
        own = [walk.paths.muscles.index(name) for name in names]
        moved = solution.activation[:, own] @ walk.model.max_isometric_force[own]
        if np.isfinite(walk.peak[k]):
            found[k] = _r(moved, told[:, k])
    return found


def _own(walk: EmgWalk) -> Mapping[str, tuple[str, ...]]:
    """Channel -> the model's muscles that it measures."""
    return EmgMap.of(walk.channels, walk.paths.muscles).measured


def _r(moved: FloatArray, signal: FloatArray) -> float:
    """Correlation over what is known; 0 of a still muscle, NaN where nothing is known."""
    known = np.isfinite(moved) & np.isfinite(signal)
    if not known.any():
        return float("nan")
    return float(np.corrcoef(moved[known], signal[known])[0, 1]) if np.ptp(moved[known]) > 0.0 else 0.0


def sagittal_reserve(walk: EmgWalk, solution: MuscleSolution) -> float:
    """RMS, Nm/kg, of what the muscles leave of hip, knee and ankle flexion moments."""
    columns = [walk.paths.coordinates.index(name) for name in SAGITTAL]
    return float(np.sqrt(np.mean(np.square(solution.reserve[:, columns])))) / walk.mass


def by_wearer(found: Sequence[WalkAgreement], figure: Callable[[WalkAgreement], FloatArray]) -> FloatArray:
    """(wearers,) means over muscles, then over the wearer's walks."""
    means: dict[str, list[float]] = {}
    for own in found:
        means.setdefault(own.wearer, []).append(float(np.nanmean(figure(own))))
    return np.array([np.mean(values) for values in means.values()])


def lower_bound(values: FloatArray) -> float:
    """Lower end of the 95 % interval of the mean, by Student's t."""
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return float(np.mean(values) - student.ppf(CONFIDENCE, len(values) - 1) * error)


def _per_muscle(label: str, found: Sequence[WalkAgreement], values: Sequence[FloatArray]) -> dict[str, float]:
    channels = found[0].channels
    return {f"{label}_{name[:-2]}": float(np.nanmean([own[k] for own in values])) for k, name in enumerate(channels)}
