"""Whether an EMG channel may be used, and if not, why.

The same figures are taken live and offline, over windows of one second: power of the mains, of slow wander,
of movement, of what is left for muscle. A channel is judged against its reference, the envelope
that full effort reads: 5 uV of hum harm a channel that reads 20 uV at best, and are nothing on one that reads 1 mV.

| reason | what was seen |
|---|---|
| nan | numbers that are none: the device says the channel is unplugged |
| units | beyond any amplifier's range: mV or uV given as V |
| offset | a constant voltage of the electrodes, which direct current brings along, leaves the range |
| saturated | at the edge of the amplifier's range |
| flat | no signal at all, not even noise |
| loose | the signature of a lifting electrode: slow wander and mains rise, the fast part of the signal is gone |
| mains | hum as large as the muscle, where a notch is in use what it leaves of it |
| artefact | electrode or cable moves: slow power far above the muscle's, or none of the fast power that muscle has |
| noisy | activity cannot be told from the noise floor |
| crosstalk | shares more than half of its power with a stronger channel |
| short | not one second to judge it by |
| settling | just started, or after lost samples |
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from exo_emg.mains import MAINS_HZ, without_lines

# Hard faults are judged over this window, and a channel stays invalid until a fault has left it.
WINDOW_S = 0.5
# The spectrum needs a longer one, with bins of 1 Hz; it is looked at twice in each.
SPECTRUM_S, HOP_S = 1.0, 0.5
# Peaks may touch the rail; a channel that spends more of the window there is saturated.
RAIL_FRACTION = 0.01
SATURATED_LEVEL = 0.99
# An amplifier's own overshoot stays below twice its range; a thousandfold unit does not.
BEYOND_RANGE = 2.0
# Electrodes hold less than this against each other, V; an amplifier for direct current shows it under the EMG.
OFFSET_MOST_V = 1.0
# Ordered by which reason is told when several hold.
REASONS = (
    "", "settling", "short", "crosstalk", "noisy", "artefact", "mains", "loose", "flat", "saturated", "offset",
    "units", "nan",
)  # fmt: skip
CODE = {reason: code for code, reason in enumerate(REASONS)}

# Bands, Hz: slow wander of the half-cell potential; movement (most of its power lies below 20 Hz and its skirt
# below 35: De Luca 2010); muscle without movement; the fast part that a lifted electrode loses.
WANDER_HZ = (1.0, 15.0)
MOVEMENT_HZ = (1.0, 35.0)
MUSCLE_HZ = (35.0, 450.0)
BAND_HZ = (20.0, 450.0)
FAST_HZ = (150.0, 450.0)

# Corners of the usual power spectrum of surface EMG, f^2 / ((f^2 + low^2) (f^2 + high^2)^2) (Shwedyk, Balasubramanian
# & Scott 1977): 24 % of the band's power lies in the fast part, 5 % at half the conduction velocity. With less than
# a 24th of its usual share something swings, however much of it lies above 20 Hz. A low sampling rate cuts the fast
# part short; with less than this usual share it tells nothing.
USUAL_SPECTRUM_HZ = (60.0, 120.0)
FAST_OF_USUAL_LEAST = 1.0 / 24.0
USUAL_FAST_LEAST = 0.05
ACTIVE_OF_REFERENCE = 0.3
# Thresholds as fractions of the reference (the envelope at full effort), or between parts of one signal.
MAINS_OF_REFERENCE, MAINS_SHARE = 0.3, 0.5
# Movement power must exceed the muscle's by this factor in amplitude and matter against full effort.
MOVEMENT_OF_MUSCLE, MOVEMENT_OF_REFERENCE = 2.0, 0.5
# A loose electrode's fast part is small beside the disturbance; the limit is for the usual share of the fast part (its
# amplitude is half of the muscle's) and follows the share that the sampling rate leaves.
LOOSE_WANDER_OF_REFERENCE, LOOSE_MAINS_OF_REFERENCE, LOOSE_MUSCLE_OF_DISTURBANCE = 0.3, 0.1, 0.6
# Peak of the normalised cross-correlation: sqrt(0.5), half of the power is common (Winter 1994 takes r^2 as the share).
CROSSTALK_PEAK = math.sqrt(0.5)
# Neighbouring electrodes see one motor unit within this time: 5 cm at the slowest conduction, 4 m/s.
CROSSTALK_LAG_S = 0.0125
CROSSTALK_EVERY = 4
# A muscle at rest always hears its neighbours; below this share of full effort that harms nobody.
CROSSTALK_OF_REFERENCE = 0.05
# A muscle that reads above half of its full effort without any pause for this long is noise (or a badly low maximum).
FLOOR_S, FLOOR_OF_MAXIMUM = 10.0, 0.5
# Live: a channel whose envelope stays below this multiple of its floor for this long shows no activity (noise: 2.5).
QUIET_S, QUIET_RATIO = 30.0, 3.5
# Offline: the 95th percentile of the envelope over the 5th. Envelopes of stationary noise reach 7 dB.
SNR_LEAST_DB = 9.0
SNR_PERCENTILES = (5.0, 95.0)


@dataclasses.dataclass(frozen=True)
class Bands:
    """What a sampling rate shows of the bands.

    Attributes
    ----------
    edge_hz : where the band of EMG ends.
    fast_hz : the fast part; the muscle's whole band where the rate cuts it off.
    fast_share : usual share of the fast part in the power of the band.
    has_fast : whether there is enough of a fast part to miss it.
    """

    edge_hz: float
    fast_hz: tuple[float, float]
    fast_share: float
    has_fast: bool

    @staticmethod
    def up_to(edge_hz: float) -> Bands:
        """Of signals whose band ends at `edge_hz` (:func:`exo_emg.processing.signal_band`)."""
        edge = min(edge_hz, BAND_HZ[1])
        share = _usual_share((FAST_HZ[0], edge), edge)
        if share >= USUAL_FAST_LEAST:
            return Bands(edge, (FAST_HZ[0], edge), share, True)
        return Bands(edge, (MUSCLE_HZ[0], edge), _usual_share((MUSCLE_HZ[0], edge), edge), False)


def _usual_share(part_hz: tuple[float, float], edge_hz: float) -> float:
    """Share of a part of the band in the band's power, for the usual spectrum of EMG."""
    frequency = np.arange(BAND_HZ[0], edge_hz + 1.0)
    low, high = USUAL_SPECTRUM_HZ
    power = frequency**2 / ((frequency**2 + low**2) * (frequency**2 + high**2) ** 2)
    inside = (frequency >= part_hz[0]) & (frequency <= part_hz[1])
    return float(power[inside].sum() / power.sum())


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """One window's RMS values per channel, (channels,) V each; `mains_v` as left by the notch, `hum_v` before it."""

    wander_v: NDArray[np.float64]
    movement_v: NDArray[np.float64]
    muscle_v: NDArray[np.float64]
    band_v: NDArray[np.float64]
    fast_v: NDArray[np.float64]
    hum_v: NDArray[np.float64]
    mains_v: NDArray[np.float64]
    mains_ratio: NDArray[np.float64]
    bands: Bands

    def codes(self, reference_v: NDArray[np.float64]) -> NDArray[np.int64]:
        """(channels,) index into :data:`REASONS`, judged against (channels,) reference in V."""
        share = self.bands.fast_share
        codes = np.zeros(len(reference_v), dtype=np.int64)
        mains = (self.mains_v > MAINS_OF_REFERENCE * reference_v) & (self.mains_ratio > MAINS_SHARE)
        swings = (self.movement_v > MOVEMENT_OF_MUSCLE * self.muscle_v) & (
            self.movement_v > MOVEMENT_OF_REFERENCE * reference_v
        )
        slow = (self.fast_v**2 < FAST_OF_USUAL_LEAST * share * self.band_v**2) & (
            self.band_v > ACTIVE_OF_REFERENCE * reference_v
        )
        slow &= self.bands.has_fast
        loose = (
            (self.wander_v > LOOSE_WANDER_OF_REFERENCE * reference_v)
            & (self.hum_v > LOOSE_MAINS_OF_REFERENCE * reference_v)
            & (self.fast_v < LOOSE_MUSCLE_OF_DISTURBANCE * math.sqrt(share) * np.hypot(self.wander_v, self.hum_v))
        )
        for reason, fault in (("artefact", swings | slow), ("mains", mains), ("loose", loose)):
            codes[fault] = CODE[reason]
        return codes


def window_samples(sampling_rate_hz: float) -> int:
    """Samples of a window whose bins are 1 Hz wide."""
    return round(SPECTRUM_S * sampling_rate_hz)


def transform(window: NDArray[np.float64]) -> NDArray[np.complex128]:
    """(bins, channels) spectrum of an (n, channels) window, mean removed, Hann-weighted; bins of 1 Hz."""
    n = len(window)
    hann = np.hanning(n + 1)[:-1, None]
    spectrum: NDArray[np.complex128] = rfft((window - window.mean(axis=0)) * hann, axis=0)
    return spectrum * math.sqrt(2.0 / (n * float(np.sum(hann**2))))


def spectrum_of(power: NDArray[np.float64], bands: Bands, cleaned: NDArray[np.float64] | None = None) -> Spectrum:
    """The figures of one window from its (bins, channels) power, V^2 per bin of 1 Hz.

    Parameters
    ----------
    cleaned : the same of the signal behind the notch, where there is one.
    """

    clean, hum = without_lines(power, bands.edge_hz)
    left = hum if cleaned is None else without_lines(cleaned, bands.edge_hz)[1]

    def rms(edges: tuple[float, float]) -> NDArray[np.float64]:
        low, high = (round(min(edge, bands.edge_hz)) for edge in edges)
        return np.sqrt(clean[low : high + 1].sum(axis=0))

    band = rms(BAND_HZ)
    share = left / np.maximum(band**2 + left, np.finfo(float).tiny)
    parts = (rms(WANDER_HZ), rms(MOVEMENT_HZ), rms(MUSCLE_HZ), band, rms(bands.fast_hz))
    return Spectrum(*parts, np.sqrt(hum), np.sqrt(left), share, bands)


def crosstalk(spectrum: NDArray[np.complex128], sampling_rate_hz: float) -> NDArray[np.float64]:
    """Peak of the normalised cross-correlation of every pair of channels, over the muscle band.

    Mains lines are left out: hum is common to all channels and no crosstalk.

    Parameters
    ----------
    spectrum : (bins, channels) of one window, bins of 1 Hz.

    Returns
    -------
    (channels, channels) 0..1, symmetric, zero on the diagonal.
    """
    used = spectrum.copy()
    bins = np.arange(len(used))
    keep = (bins >= MUSCLE_HZ[0]) & (bins <= MUSCLE_HZ[1])
    for mains_hz in MAINS_HZ:
        keep &= np.abs(bins - mains_hz * np.round(bins / mains_hz)) > 1.5
    used = used[keep]
    norm = np.sqrt(np.sum(np.abs(used) ** 2, axis=0))
    used = used / np.where(norm > 0.0, norm, np.inf)
    lags = np.arange(0.0, CROSSTALK_LAG_S, 1.0 / max(sampling_rate_hz, 2.0 * MUSCLE_HZ[1]))
    turn = np.exp(2j * np.pi * bins[keep][:, None] * np.concatenate([-lags[:0:-1], lags]))
    channels = used.shape[1]
    peak = np.zeros((channels, channels))
    for i in range(channels - 1):
        pair = np.conj(used[:, i : i + 1]) * used[:, i + 1 :]
        peak[i, i + 1 :] = np.abs((pair.T @ turn).real).max(axis=1)
    return peak + peak.T


def crosstalk_faults(
    peak: NDArray[np.float64], strength: NDArray[np.float64], threshold: float = CROSSTALK_PEAK
) -> NDArray[np.bool_]:
    """(channels,) which channels hear a stronger one: of a pair above the threshold, the relatively weaker.

    Parameters
    ----------
    peak : (channels, channels) of :func:`crosstalk`.
    strength : (channels,) muscle RMS over the channel's reference.
    """
    louder = strength[None, :] > strength[:, None]
    # Two equally strong copies: the later one is marked, so that one of them stays.
    same = (strength[None, :] == strength[:, None]) & np.tri(len(strength), k=-1, dtype=bool)
    return np.any((peak > threshold) & (louder | same), axis=1)


def hard_codes(raw: NDArray[np.float64], full_scale_v: float, flat_v: float) -> NDArray[np.int64]:
    """(channels,) index into :data:`REASONS` for what a stretch of (n, channels) raw samples, V, cannot be."""
    return _hard(_hard_sums(raw, full_scale_v), len(raw), full_scale_v, flat_v)


def _hard_sums(raw: NDArray[np.float64], full_scale_v: float) -> NDArray[np.float64]:
    """(7, channels) counts of samples that are no numbers, at the rail, beyond it; sums of x and x^2, x within the
    range, and within what electrodes hold."""
    finite = np.isfinite(raw)
    known = raw if finite.all() else np.where(finite, raw, 0.0)
    size = np.abs(known)
    clean = np.clip(known, -full_scale_v, full_scale_v)
    wide = np.clip(known, -OFFSET_MOST_V, OFFSET_MOST_V)
    return np.stack(
        [
            (~finite).sum(axis=0),
            (size >= SATURATED_LEVEL * full_scale_v).sum(axis=0),
            (size > BEYOND_RANGE * full_scale_v).sum(axis=0),
            clean.sum(axis=0),
            np.square(clean).sum(axis=0),
            wide.sum(axis=0),
            np.square(wide).sum(axis=0),
        ]
    )


def _hard(sums: NDArray[np.float64], n: int, full_scale_v: float, flat_v: float) -> NDArray[np.int64]:
    broken, rail, beyond, x, xx, wide, wide2 = sums
    middle = np.abs(wide / n)
    steady = wide2 / n - middle**2 < full_scale_v**2
    offset = steady & (middle > (2.0 - SATURATED_LEVEL) * full_scale_v) & (middle < SATURATED_LEVEL * OFFSET_MOST_V)
    codes = np.zeros(len(x), dtype=np.int64)
    faults = {
        "flat": xx / n - (x / n) ** 2 < flat_v**2,
        "saturated": rail > RAIL_FRACTION * n,
        "offset": offset,
        "units": (beyond > RAIL_FRACTION * n) & ~offset,
        "nan": broken > 0,
    }
    for reason, fault in faults.items():
        codes[fault] = CODE[reason]
    return codes


class LiveQuality:
    """Running judgement of every channel; as after a loss, nothing is valid until a first window has passed.

    Parameters
    ----------
    reference_v : (channels,) envelope at full effort, V. A reference above any muscle's (ones, for instance)
        leaves the judgements that need one out.
    band_edge_hz : where the band of EMG ends at this rate.
    full_scale_v : amplifier range, V.
    flat_v : standard deviation below which a channel is flat, V.

    Attributes
    ----------
    reference_v : may be set while running; infinite where it is not known (yet).
    """

    def __init__(
        self,
        sampling_rate_hz: float,
        reference_v: NDArray[np.float64],
        band_edge_hz: float,
        full_scale_v: float,
        flat_v: float,
    ) -> None:
        channels = len(reference_v)
        self._rate = sampling_rate_hz
        self.reference_v = np.asarray(reference_v, dtype=float)
        self._bands = Bands.up_to(band_edge_hz)
        self._window = max(2, round(WINDOW_S * sampling_rate_hz))
        self._full_scale_v, self._flat_v = full_scale_v, flat_v
        # Below this no sample can be anything but itself.
        self._plain_v = min(SATURATED_LEVEL * full_scale_v, OFFSET_MOST_V)
        # Per frame in the window: samples, and sums over them (broken, at the rail, beyond it, x, x^2).
        self._frames: deque[tuple[int, NDArray[np.float64]]] = deque()
        self._samples = 0
        self._sums = np.zeros((7, channels))
        self._settling = self._window
        self._ring = np.zeros((window_samples(sampling_rate_hz), channels))
        self._carrier = np.zeros_like(self._ring)
        self._notch_settling: int | None = None
        self._filled = 0
        self._hop = round(HOP_S * sampling_rate_hz)
        self._judged = 0
        self._soft = np.zeros(channels, dtype=np.int64)
        self._hears = np.zeros(channels, dtype=bool)
        # Lowest and highest envelope of each hop, V.
        self._lows: deque[NDArray[np.float64]] = deque(maxlen=round(FLOOR_S / HOP_S))
        self._highs: deque[NDArray[np.float64]] = deque(maxlen=round(QUIET_S / HOP_S))
        self._lowest, self._highest = np.full(channels, np.inf), np.zeros(channels)
        # Lowest envelope of the last FLOOR_S, V; zero before that.
        self._floor = np.zeros(channels)
        self.until_judgement = self._hop
        self.spectrum: Spectrum | None = None
        self.crosstalk = np.zeros((channels, channels))

    def add(
        self,
        raw: NDArray[np.float64],
        peak: float,
        clean: NDArray[np.float64],
        carrier: NDArray[np.float64],
        envelope_v: NDArray[np.float64],
    ) -> None:
        """Take in (n, channels) samples, V: as they came; bounded and without gaps; filtered; the envelope.

        `n` must not exceed `until_judgement`; `peak` is the largest size in `raw`, NaN where one is no number.
        """
        n = len(raw)
        sums = self._plain_sums(raw) if peak < self._plain_v else _hard_sums(raw, self._full_scale_v)
        self._frames.append((n, sums))
        self._samples += n
        self._sums += sums
        while self._samples - self._frames[0][0] >= self._window:
            gone, old = self._frames.popleft()
            self._samples -= gone
            self._sums -= old
        self._settling = max(0, self._settling - n)
        # The window is one hop old and one hop new; the new one is being filled.
        start = len(self._ring) - self.until_judgement
        self._ring[start : start + n] = clean
        self._carrier[start : start + n] = carrier
        if self._notch_settling is not None:
            self._notch_settling = max(0, self._notch_settling - n)
        self._lowest = np.minimum(self._lowest, envelope_v.min(axis=0))
        self._highest = np.maximum(self._highest, envelope_v.max(axis=0))
        self._filled = min(len(self._ring), self._filled + n)
        self.until_judgement -= n

    @staticmethod
    def _plain_sums(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """What :func:`_hard_sums` is where no sample is at the rail, beyond it or no number."""
        sums = np.zeros((7, raw.shape[1]))
        sums[3] = sums[5] = raw.sum(axis=0)
        sums[4] = sums[6] = np.square(raw).sum(axis=0)
        return sums

    def notched(self) -> None:
        """From now on the carrier is free of mains: once the notch has settled, what it leaves is judged."""
        self._notch_settling = len(self._ring)

    def judge(self) -> NDArray[np.float64]:
        """Look at the spectrum of the last second; returns its (bins, channels) power, V^2 per bin of 1 Hz."""
        spectrum = transform(self._ring)
        power = np.abs(spectrum) ** 2
        if self._filled >= len(self._ring):
            cleaned = np.abs(transform(self._carrier)) ** 2 if self._notch_settling == 0 else None
            self.spectrum = spectrum_of(power, self._bands, cleaned)
            self._judged += 1
            self._soft = self.spectrum.codes(self.reference_v)
            if self._judged % CROSSTALK_EVERY == 0:
                self.crosstalk = crosstalk(spectrum, self._rate)
                strength = self.spectrum.muscle_v / self.reference_v
                self._hears = crosstalk_faults(self.crosstalk, strength) & (strength > CROSSTALK_OF_REFERENCE)
        self._lows.append(self._lowest)
        self._highs.append(self._highest)
        if len(self._lows) == self._lows.maxlen:
            self._floor = np.min(self._lows, axis=0)
        self._lowest, self._highest = np.full(len(self.reference_v), np.inf), np.zeros(len(self.reference_v))
        for ring in (self._ring, self._carrier):
            ring[: -self._hop] = ring[self._hop :]
        self.until_judgement = self._hop
        return power

    def lose(self) -> None:
        """Samples were lost: nothing is valid until a window of good ones has passed."""
        self._settling = self._window

    def codes(self) -> NDArray[np.int64]:
        """(channels,) index into :data:`REASONS`; zero is good."""
        codes = np.full(len(self.reference_v), int(self._settling > 0), dtype=np.int64)
        codes[self._hears] = CODE["crosstalk"]
        codes[self._floor > FLOOR_OF_MAXIMUM * self.reference_v] = CODE["noisy"]
        hard = _hard(self._sums, max(1, self._samples), self._full_scale_v, self._flat_v)
        return np.maximum(np.maximum(codes, self._soft), hard)

    def quiet(self) -> NDArray[np.bool_]:
        """(channels,) whether no activity was seen lately: a resting muscle, or an electrode on none."""
        if len(self._highs) < (self._highs.maxlen or 0):
            return np.zeros(len(self.reference_v), dtype=bool)
        quiet: NDArray[np.bool_] = np.max(self._highs, axis=0) < QUIET_RATIO * np.min(self._lows, axis=0)
        return quiet
