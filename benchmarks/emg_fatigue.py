"""Fatigue figures for bench emg: does a programmed fatigue come out as programmed, and is none seen where none is?

Two generators make the signals, sample by sample. `TiringWalk` of exo_emg is the plain case: the median frequency falls
on a straight line for 30 minutes. The one here is the hard case, tiring or not: muscles of three lengths of burst and
three signal-to-noise ratios (20, 12, 3 dB); amplitude scatters by 20 % from stride to stride and follows slow changes
of speed, as the stride time does; the spectrum wanders by 2 % with a time constant of 8 s. Truth is the programmed
factor; in the plain case that is the median over all frequencies, of which the band of EMG shows 3 % less.
Rested, the hard case is walked three times: with steady noise, with electrodes that settle and with some that dry out.
The peer is what is often done instead: median frequency of successive windows of the whole signal, least squares, no
phase windows, no noise correction. It calls a muscle tired by our own rule: looked at every minute, 5 % off, and
certain at 99.5 %.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, sosfilt
from scipy.stats import linregress, t

from exo_emg.chunks import Layout
from exo_emg.fatigue import INDEX_CONFIDENCE, TIRED_INDEX, FatigueConfig, FatigueMonitor, MuscleFatigue
from exo_emg.processing import ChainConfig, band_sos
from exo_emg.spectrum import Tiling, median_frequency
from exo_emg.synthesis import SPECTRUM_HIGH_HZ, SPECTRUM_LOW_HZ
from exo_emg.synthetic_fatigue import TiringWalk, WalkFatigue

RATE_HZ = 1000.0
TIRING_S, RESTED_S = 1800.0, 600.0
CHANGING_S, SETTLING_S = 1200.0, 600.0  # walks with changing noise; time constant of skin and gel
END = 0.7  # median frequency after TIRING_S, of the initial one
SLOPE_SEEDS = 4
PIECE = 512  # samples; the spectrum is constant over one piece of synthesis
PEER_WINDOW_S = 15.0
PEER_LEAST_S = 240.0  # of walking before the first verdict, as ours
# Fall of the median frequency, % of the initial one, at which our index counts a muscle as tired.
LEAST_FALL_PCT = 100.0 * (1.0 - (FatigueConfig().exhausted_pct / 100.0) ** TIRED_INDEX)
SPEED_SD = 0.05  # slow changes of speed
AMPLITUDE_SD = 0.2  # from stride to stride, logarithmic
SPECTRUM_SD, SPECTRUM_S = 0.02, 8.0  # wandering of the spectrum, and its time constant


@dataclasses.dataclass(frozen=True)
class Channel:
    """One synthetic muscle: when it bursts, and how far above the noise."""

    name: str
    centre: float  # phase of the burst's middle
    width: float  # of the stride, from start to end of a half sine
    snr_db: float  # RMS at the burst's peak over RMS of the white noise


CHANNELS = (
    Channel("tibialis_anterior_r", 0.85, 0.50, 20.0),
    Channel("soleus_r", 0.30, 0.40, 12.0),
    Channel("gastrocnemius_medialis_l", 0.83, 0.35, 3.0),
)
Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
# RMS of the white noise at (times,) s over RMS at a burst's peak, on every channel: 4 to 26 dB, and 26 to 8 dB.
NOISES: dict[str, Curve] = {
    "settling": lambda at: 0.05 + 0.55 * np.exp(-at / SETTLING_S),
    "drying": lambda at: 0.05 + 0.35 * at / CHANGING_S,
}
LAYOUT = Layout(tuple(channel.name for channel in CHANNELS), RATE_HZ)
BAND = band_sos(RATE_HZ, ChainConfig())


def slope_error() -> dict[str, float]:
    """How far the slope of the median frequency is off, % of the true one, over seeds and muscles; and the index.

    Returns
    -------
    fatigue_slope_error_pct : median over all, plain case. `_worst` is the worst of them, `_hard` and `_hard_worst` the
        hard case, `peer_` the peer on the same signals.
    fatigue_index_largest_fall : of the index from one minute to the next, over all.
    fatigue_detected_min : median time, minutes, at which a muscle counted as tired.
    """
    plain, hard, peer_plain, peer_hard, falls, detected = (list[float]() for _ in range(6))
    for seed in range(SLOPE_SEEDS):
        walk = TiringWalk(LAYOUT.muscles, seed, WalkFatigue(seconds=TIRING_S, end_pct=100.0 * END))
        plain_signal = sosfilt(BAND, np.concatenate([chunk.samples for chunk in walk.chunks()]), axis=0)
        hard_signal = cyclic_emg(TIRING_S, lambda at: 1.0 + (END - 1.0) * np.clip(at / TIRING_S, 0.0, 1.0), seed)
        for signal, errors, peers in ((plain_signal, plain, peer_plain), (hard_signal, hard, peer_hard)):
            monitor, reports = judge(signal)
            for channel in range(LAYOUT.channels):
                trend = monitor.session_trend(channel)
                if trend is None:
                    raise AssertionError(f"seed {seed}: {LAYOUT.muscles[channel]} was not judged")
                errors.append(off(trend.pct_per_minute, walk.slope_pct_per_min))
                peers.append(off(peer_slope(signal, channel), walk.slope_pct_per_min))
                index = np.array([report[channel].index for report in reports])
                falls.append(float(np.max(index[:-1] - index[1:], initial=0.0)))
                tired = [minute for minute, report in enumerate(reports, start=1) if report[channel].fatigued]
                detected.append(tired[0] if tired else np.inf)
    return {
        "fatigue_slope_error_pct": float(np.median(plain)),
        "fatigue_slope_error_pct_worst": max(plain),
        "fatigue_slope_error_pct_hard": float(np.median(hard)),
        "fatigue_slope_error_pct_hard_worst": max(hard),
        "peer_slope_error_pct": float(np.median(peer_plain)),
        "peer_slope_error_pct_hard": float(np.median(peer_hard)),
        "fatigue_index_largest_fall": max(falls),
        "fatigue_detected_min": float(np.median(detected)),
    }


def false_fatigue(seeds: int = 100) -> dict[str, float]:
    """Rested hard case: seeds (%) in which any muscle counted as tired at any minute, ours and the peer.

    Returns
    -------
    false_fatigue_pct : steady noise, 10 minutes. `_settling` and `_drying`: :data:`NOISES`, 20 minutes.
    false_fatigue_highest_index : at the end, over all.
    false_fatigue_interval_misses_pct : muscles, of all, whose 95 % interval at the end misses no change; the same for
        changing noise.
    """
    found = {"": rested(RESTED_S, None, seeds)}
    found |= {f"_{name}": rested(CHANGING_S, noise, seeds) for name, noise in NOISES.items()}
    figures = {f"false_fatigue_pct{name}": own.ours_pct for name, own in found.items()}
    figures |= {f"peer_false_fatigue_pct{name}": own.peer_pct for name, own in found.items()}
    figures |= {f"false_fatigue_interval_misses_pct{name}": own.misses_pct for name, own in found.items()}
    return figures | {"false_fatigue_highest_index": max(own.highest_index for own in found.values())}


@dataclasses.dataclass(frozen=True)
class Rested:
    """What was said of walks without fatigue, % of the seeds (of the muscles: `misses_pct`)."""

    ours_pct: float
    peer_pct: float
    misses_pct: float
    highest_index: float


def rested(seconds: float, noise: Curve | None, seeds: int) -> Rested:
    """Walk without fatigue so often."""
    ours = theirs = misses = 0
    highest = 0.0
    for seed in range(seeds):
        signal = cyclic_emg(seconds, np.ones_like, 1000 + seed, noise)
        _, reports = judge(signal)
        ours += any(muscle.fatigued for report in reports for muscle in report)
        misses += sum(not own.median_frequency_low_pct <= 100.0 <= own.median_frequency_high_pct for own in reports[-1])
        highest = max(highest, *(muscle.index for muscle in reports[-1]))
        theirs += any(peer_tired(signal, channel) for channel in range(LAYOUT.channels))
    return Rested(100.0 * ours / seeds, 100.0 * theirs / seeds, 100.0 * misses / (seeds * LAYOUT.channels), highest)


def off(slope: float, truth: float) -> float:
    """Error of a slope, % of the true one."""
    return 100.0 * abs(slope / truth - 1.0)


def judge(signal: NDArray[np.float64]) -> tuple[FatigueMonitor, list[list[MuscleFatigue]]]:
    """Feed a monitor second by second, and keep its report of every minute."""
    monitor, reports = FatigueMonitor(LAYOUT), []
    second = int(RATE_HZ)
    for start in range(0, len(signal), second):
        monitor.add(signal[start : start + second])
        if (start // second + 1) % 60 == 0:
            reports.append(monitor.report())
    monitor.finish()
    return monitor, reports


def peer_medians(signal: NDArray[np.float64], channel: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times, minutes, and median frequencies, Hz, of successive windows of the whole signal."""
    tiling = Tiling(RATE_HZ)
    size = int(PEER_WINDOW_S * RATE_HZ)
    starts = range(0, len(signal) - size + 1, size)
    spectra = [tiling.spectra(signal[a : a + size, channel : channel + 1]).mean(axis=(0, 1)) for a in starts]
    minutes = (np.arange(len(spectra)) + 0.5) * PEER_WINDOW_S / 60.0
    return minutes.astype(float), median_frequency(tiling.frequency_hz, np.array(spectra))


def peer_slope(signal: NDArray[np.float64], channel: int) -> float:
    """Slope of least squares through the whole signal's median frequencies, % of the initial value per minute."""
    minutes, medians = peer_medians(signal, channel)
    line = linregress(minutes, medians)
    return 100.0 * line.slope / (line.intercept + line.slope * minutes[0])


def peer_tired(signal: NDArray[np.float64], channel: int) -> bool:
    """Whether at any minute the upper end of the line's fall so far lies beyond the least fall."""
    minutes, medians = peer_medians(signal, channel)
    for count in range(round(PEER_LEAST_S / PEER_WINDOW_S), len(minutes) + 1, round(60.0 / PEER_WINDOW_S)):
        line = linregress(minutes[:count], medians[:count])
        highest = line.slope + line.stderr * t.ppf(0.5 + 0.5 * INDEX_CONFIDENCE, count - 2)
        change = highest * (minutes[count - 1] - minutes[0]) / (line.intercept + line.slope * minutes[0])
        if 100.0 * change <= -LEAST_FALL_PCT:
            return True
    return False


def cyclic_emg(seconds: float, compression: Curve, seed: int, noise: Curve | None = None) -> NDArray[np.float64]:
    """(n, channels) band-passed EMG of the hard case, V.

    Parameters
    ----------
    compression : the factor on frequencies at (times,) s.
    noise : RMS of the white noise over RMS at a burst's peak, at (times,) s; None takes each channel's own.
    """
    rng = np.random.default_rng(seed)
    length = int(seconds * RATE_HZ)
    times = np.arange(length) / RATE_HZ
    # Slow changes of speed: three sines with periods of 2 to 10 minutes.
    waves = [np.sin(2.0 * np.pi * (times / rng.uniform(120.0, 600.0) + rng.uniform())) for _ in range(3)]
    speed = 1.0 + SPEED_SD * np.sum(waves, axis=0) / np.sqrt(1.5)
    phase = strides(seconds, speed, rng)
    stride = phase.astype(int)
    samples = np.empty((length, len(CHANNELS)))
    for k, channel in enumerate(CHANNELS):
        from_middle = np.mod(phase - channel.centre + 0.5, 1.0) - 0.5
        burst = np.cos(np.pi * np.clip(from_middle / channel.width, -0.5, 0.5))
        strength = np.exp(AMPLITUDE_SD * rng.standard_normal(stride[-1] + 1))[stride] * speed**1.5
        muscle = carrier(length, compression, rng)
        level = 10.0 ** (-channel.snr_db / 20.0) if noise is None else noise(times)
        samples[:, k] = 1e-4 * (strength * burst * muscle + level * rng.standard_normal(length))
    return sosfilt(BAND, samples, axis=0)


def strides(seconds: float, speed: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Phase in strides of every sample: 1.1 s at unit speed, 3 % variation from stride to stride."""
    length = len(speed)
    now, starts = 0.0, [0.0]
    while now < seconds + 2.0:
        here = speed[min(int(now * RATE_HZ), length - 1)]
        now += 1.1 / np.sqrt(here) * (1.0 + 0.03 * rng.standard_normal())
        starts.append(now)
    return np.interp(np.arange(length) / RATE_HZ, starts, np.arange(len(starts)))


def carrier(length: int, compression: Curve, rng: np.random.Generator) -> NDArray[np.float64]:
    """Unit-variance noise with the usual spectrum of EMG, compressed and wandering: independent pieces, overlapped."""
    hop = PIECE // 2
    pieces = length // hop + 2
    keep = np.exp(-hop / RATE_HZ / SPECTRUM_S)
    wander = SPECTRUM_SD * lfilter([np.sqrt(1.0 - keep**2)], [1.0, -keep], rng.standard_normal(pieces))
    factor = compression(np.arange(pieces) * hop / RATE_HZ) * np.exp(wander)
    frequency = np.fft.rfftfreq(PIECE, 1.0 / RATE_HZ)
    scaled = frequency / factor[:, None]
    amplitude = scaled / (np.sqrt(scaled**2 + SPECTRUM_LOW_HZ**2) * (scaled**2 + SPECTRUM_HIGH_HZ**2))
    amplitude /= np.sqrt(np.sum(amplitude**2, axis=1, keepdims=True))
    drawn = rng.standard_normal((pieces, len(frequency))) + 1j * rng.standard_normal((pieces, len(frequency)))
    noise = np.fft.irfft(amplitude * drawn, axis=1) * PIECE / 2.0
    # Squares of the half-overlapping windows add up to one.
    noise *= np.sin(np.pi * (np.arange(PIECE) + 0.5) / PIECE)
    out = np.zeros((pieces + 1) * hop)
    out[: pieces * hop] += noise[:, :hop].ravel()
    out[hop:] += noise[:, hop:].ravel()
    return out[hop : hop + length]
