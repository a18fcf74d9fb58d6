"""Whether a recorded effort may serve as a muscle's maximum: held, above rest, and of a good channel."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from exo_emg.normalisation import held_maximum
from exo_emg.offline import process_recording
from exo_emg.processing import ChainConfig
from exo_emg.quality import REASONS
from exo_emg.reasons import WORDS

FloatArray = NDArray[np.float64]

# An effort is held when the envelope stays above this share of it for this long.
PLATEAU_SHARE, PLATEAU_S = 0.7, 1.0
# The envelope of a steady effort jitters by some 15 %; the median over this time does not.
JITTER_S = 0.3
# Full effort reads 50 times a resting muscle and more; a fifth of that is already no full effort.
REST_PERCENTILE, EFFORT_OF_REST = 10.0, 10.0
# An offset is constant when the signal stays around it but for one sample in a hundred.
CONSTANT_PERCENTILE = 99.0
# What makes a channel unfit for a maximum. Neighbours may be heard: they are weaker than a muscle at full effort.
UNFIT = ("nan", "units", "offset", "saturated", "flat", "loose", "mains", "artefact")


@dataclasses.dataclass(frozen=True)
class Contraction:
    """An effort of one muscle.

    Attributes
    ----------
    maximum_v : envelope of the held effort, V.
    held_s : for how long it stayed near that.
    effort_of_rest : maximum over the resting level.
    problem : why it is no maximum, with the cure; '' when it is one.
    """

    maximum_v: float
    held_s: float
    effort_of_rest: float
    problem: str


def judge_contractions(samples: FloatArray, rate_hz: float, config: ChainConfig) -> list[Contraction]:
    """Look for a held effort in each channel.

    Parameters
    ----------
    samples : (n, channels) V: some rest and an effort.

    Raises
    ------
    ExoError : if the recording is too short or sampled too slowly.
    """
    done = process_recording([samples], rate_hz, config)
    offsets = offset_problems(samples, config)
    best = held_maximum(done.envelope, done.rate_hz)
    found = []
    for channel, maximum in enumerate(best):
        envelope = done.envelope[:, channel]
        rest = float(np.percentile(envelope, REST_PERCENTILE))
        ratio = float(maximum / rest) if rest > 0.0 else np.inf
        held = _longest_above(envelope, PLATEAU_SHARE * maximum, done.rate_hz)
        # The effort decides: while the wearer gets ready, a cable may well move.
        near = np.flatnonzero(envelope >= PLATEAU_SHARE * maximum) / done.rate_hz
        intervals = np.unique(np.minimum(near.astype(int), len(done.codes) - 1))
        seen = {REASONS[code] for code in done.codes[intervals, channel]} | {done.channels[channel].reason}
        fault = next((reason for reason in UNFIT if reason in seen), "")
        problem = (fault and offsets[channel]) or _problem(fault, held, ratio)
        found.append(Contraction(float(maximum), held, ratio, problem))
    return found


def offset_problems(samples: FloatArray, config: ChainConfig) -> list[str]:
    """What is wrong with (n, channels) samples that leave the amplifier's range by a constant only; '' for others.

    An amplifier that passes direct current shows the electrodes' own voltage, tens of mV, beside an EMG of
    mV: not a wrong unit, which would enlarge the EMG as well, but a range that is too small.
    """
    problems = []
    for column in samples.T:
        own = column[np.isfinite(column)]
        middle = float(np.median(own)) if len(own) else 0.0
        swing = float(np.percentile(np.abs(own - middle), CONSTANT_PERCENTILE)) if len(own) else 0.0
        constant = abs(middle) > config.full_scale_v > swing > config.flat_v
        problems.append(
            f"the electrodes hold a constant {1e3 * middle:.3g} mV, outside the range of {1e3 * config.full_scale_v:g} "
            "mV; give the amplifier's own range (full_scale_v)"
            if constant
            else ""
        )
    return problems


def _problem(fault: str, held_s: float, ratio: float) -> str:
    if fault:
        what, cure = WORDS[fault]
        return f"{what}; {cure}"
    if ratio < EFFORT_OF_REST:
        return f"the effort reads only {ratio:.1f} times rest; relax fully before, then push as hard as possible"
    if held_s < PLATEAU_S:
        return f"the effort was held for {held_s:.1f} s, {PLATEAU_S:.0f} s is the least; push steadily to the end"
    return ""


def _longest_above(envelope: FloatArray, level: float, rate_hz: float) -> float:
    """Longest stretch of the smoothed envelope above a level, s."""
    width = 2 * round(0.5 * JITTER_S * rate_hz) + 1
    above = np.concatenate([[False], median_filter(envelope, width, mode="nearest") >= level, [False]])
    edges = np.flatnonzero(np.diff(above.astype(int)))
    return float(np.max(edges[1::2] - edges[::2], initial=0)) / rate_hz
