"""Recordings of any length to envelopes without delay, in flat memory, with a quality report per channel.

The filters are those of the causal chain with their phase taken away: each is applied as the magnitude of
its frequency response, block by block (overlap-save: one FFT, one product, one inverse FFT). The envelope is
therefore the causal one without its delay, and not, as after running a filter forwards and backwards, one
of a steeper filter. Notches are applied twice, as forwards and backwards would, for the magnitude
of one alone has a kink at its line that rings for minutes.

A block overlaps its neighbours by the time in which every filter forgets, so the result does not depend on
where the blocks lie; at both ends the recording is continued by its point reflection.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import sosfreqz

from exo_common.errors import ExoError
from exo_emg.mains import MainsDetector
from exo_emg.processing import ChainConfig, band_sos, notch_sos, signal_band, smooth_sos, whitening_sos
from exo_emg.quality import (
    FLOOR_OF_MAXIMUM,
    REASONS,
    SNR_LEAST_DB,
    SNR_PERCENTILES,
    Spectrum,
    crosstalk,
    crosstalk_faults,
    hard_codes,
    spectrum_of,
    transform,
    window_samples,
)

# The slowest filter, the low-pass, forgets by exp(-2 pi f_c t / sqrt(2)): to 2e-8 in four of its periods. The
# notches (3 Hz wide) need two seconds for as much.
OVERLAP_PERIODS, OVERLAP_LEAST_S = 4.0, 2.0
# Blocks of this length lose 12 % to the overlap at 6 Hz; 16 channels at 2 kHz then take some 100 MB.
BLOCK_S = 32.0
# The FFTs share two cores; more gain nothing on blocks of this size.
WORKERS = 2
# Rate of the envelope unless told otherwise: that of the live system.
OUTPUT_HZ = 100.0
# A channel is bad as a whole when it is bad for more than this share of the recording.
BAD_SHARE = 0.2
# Pairs of channels are compared in so many seconds of each block at most.
CROSSTALK_WINDOWS = 4
# Silence has no noise at all only in a file; a ratio above this says nothing more.
SNR_MOST_DB = 100.0


@dataclasses.dataclass(frozen=True)
class ChannelReport:
    """One channel over a whole recording.

    Attributes
    ----------
    reason : '' when good, otherwise why not, one of :data:`~exo_emg.quality.REASONS`.
    bad_share : share of the recording in which the channel must not be used.
    snr_db : 95th over 5th percentile of the envelope, dB.
    mains_ratio : share of hum in the power of the band.
    movement_ratio : slow (below 35 Hz) over muscle amplitude.
    crosstalk : peak normalised cross-correlation with the channel `crosstalk_with`, median over the recording.
    peak_v : 95th percentile of the envelope, V.
    """

    reason: str
    bad_share: float
    snr_db: float
    mains_ratio: float
    movement_ratio: float
    crosstalk: float
    crosstalk_with: int
    peak_v: float


@dataclasses.dataclass(frozen=True)
class Processed:
    """A processed recording.

    Attributes
    ----------
    rate_hz : of the envelope.
    envelope : (n, channels) V, or fraction of the maximum where maxima were given; sample k belongs to the
        recording's time k / rate_hz.
    valid : (n, channels) whether the channel may be used at that time.
    codes : (intervals, channels) index into :data:`~exo_emg.quality.REASONS`, one interval per second.
    channels : the verdict on each channel.
    mains_hz : the notch that was used; 0 for none.
    """

    rate_hz: float
    envelope: NDArray[np.float64]
    valid: NDArray[np.bool_]
    codes: NDArray[np.int64]
    channels: tuple[ChannelReport, ...]
    mains_hz: float


def envelope_offline(
    samples: NDArray[np.float64], sampling_rate_hz: float, maxima_v: NDArray[np.float64], config: ChainConfig
) -> NDArray[np.float64]:
    """Envelope of a whole array without delay, at the rate of the signal.

    Parameters
    ----------
    samples : (n, channels) V; NaN counts as no signal.
    maxima_v : (channels,) calibrated maxima, V.

    Returns
    -------
    (n, channels) fraction of the calibrated maximum.
    """
    processed = process_recording([samples], sampling_rate_hz, config, maxima_v, output_hz=sampling_rate_hz)
    return processed.envelope


def process_recording(
    chunks: Iterable[NDArray[np.float64]],
    sampling_rate_hz: float,
    config: ChainConfig,
    maxima_v: NDArray[np.float64] | None = None,
    output_hz: float = OUTPUT_HZ,
) -> Processed:
    """Envelope and quality of a recording that comes in pieces; memory holds one block and the result.

    Parameters
    ----------
    chunks : (n, channels) V each, consecutive, of any lengths; NaN counts as no signal.
    maxima_v : (channels,) calibrated maxima, V; None leaves the envelope in V.
    output_hz : rate of the envelope; the nearest whole fraction of the sampling rate is taken.

    Raises
    ------
    ExoError : if the rate is too low, the recording is empty, or a piece has another number of channels.
    """
    signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    step = max(1, round(sampling_rate_hz / output_hz))
    blocks = _blocks(chunks, sampling_rate_hz, config, step)
    first = next(blocks)
    mains_hz = config.mains_hz()
    if config.mains == "auto":
        mains_hz = _detect(first.clean, sampling_rate_hz)
    filters = _Filters(sampling_rate_hz, config, mains_hz)
    quality = _Intervals(sampling_rate_hz, config)
    pieces = []
    for block in _chain(first, blocks):
        envelope = filters.envelope(block.clean)
        own = envelope[:, block.before : block.before + block.own]
        pieces.append(own[:, ::step].T.copy())
        inner = slice(block.before, block.before + block.own)
        quality.add(block.clean[:, inner].T, block.raw)
    envelope_v = np.concatenate(pieces)
    del pieces
    codes, reports = quality.verdict(envelope_v, maxima_v)
    interval = np.minimum((np.arange(len(envelope_v)) * step) // window_samples(sampling_rate_hz), len(codes) - 1)
    if maxima_v is not None:
        envelope_v /= np.asarray(maxima_v, dtype=float)
    usable = (codes == 0) & [not report.reason for report in reports]
    return Processed(sampling_rate_hz / step, envelope_v, usable[interval], codes, reports, mains_hz)


@dataclasses.dataclass(frozen=True)
class _Block:
    clean: NDArray[np.float64]  # (channels, n) with the neighbourhood on both sides
    raw: NDArray[np.float64]  # (own, channels) as recorded
    before: int
    own: int


def _blocks(chunks: Iterable[NDArray[np.float64]], rate_hz: float, config: ChainConfig, step: int) -> Iterator[_Block]:
    """Cut the recording into blocks with their neighbourhood; each begins on a sample of the output."""
    overlap = math.ceil(max(OVERLAP_LEAST_S, OVERLAP_PERIODS / config.envelope_hz) * rate_hz)
    # Whole seconds, for the intervals of the quality, and whole steps of the output.
    unit = math.lcm(window_samples(rate_hz), step)
    own = max(unit, round(BLOCK_S * rate_hz / unit) * unit)
    held: list[NDArray[np.float64]] = []
    waiting = 0
    before: NDArray[np.float64] | None = None

    def block(raw: NDArray[np.float64], after: NDArray[np.float64] | None) -> _Block:
        clean = _clean(raw, config.full_scale_v)
        left = _reflected(clean, overlap)[0] if before is None else _clean(before, config.full_scale_v)
        right = _reflected(clean, overlap)[1] if after is None else _clean(after, config.full_scale_v)
        whole = np.concatenate([left, clean, right])
        return _Block(np.ascontiguousarray(whole.T), raw, len(left), len(raw))

    for chunk in chunks:
        if chunk.ndim != 2 or (held and chunk.shape[1] != held[0].shape[1]):
            raise ExoError(f"a piece of the EMG recording has shape {chunk.shape}; give (samples, channels) throughout")
        held.append(np.asarray(chunk, dtype=float))
        waiting += len(chunk)
        while waiting >= 2 * own + overlap:
            joined = np.concatenate(held)
            yield block(joined[:own], joined[own : own + overlap])
            before = joined[own - overlap : own]
            held, waiting = [joined[own:]], waiting - own
    joined = np.concatenate(held) if held else np.zeros((0, 0))
    if len(joined) < 2:
        raise ExoError("the EMG recording is empty; record or choose another file")
    # What is left is between one and two blocks long: in one piece if it fits in one, else in two.
    if len(joined) > own + overlap:
        yield block(joined[:own], joined[own : own + overlap])
        before = joined[own - overlap : own]
        joined = joined[own:]
    yield block(joined, None)


def _chain(first: _Block, rest: Iterator[_Block]) -> Iterator[_Block]:
    yield first
    yield from rest


def _clean(samples: NDArray[np.float64], full_scale_v: float) -> NDArray[np.float64]:
    finite = np.isfinite(samples)
    return np.clip(samples if finite.all() else np.where(finite, samples, 0.0), -full_scale_v, full_scale_v)


def _reflected(clean: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Continuation by point reflection at both ends, as often as a short recording needs."""
    padded = np.pad(clean, ((n, n), (0, 0)), mode="reflect", reflect_type="odd")
    return padded[:n], padded[-n:]


class _Filters:
    """The chain's magnitudes, for blocks of any length."""

    def __init__(self, rate_hz: float, config: ChainConfig, mains_hz: float) -> None:
        self._rate = rate_hz
        self._band = np.vstack([band_sos(rate_hz, config), whitening_sos(rate_hz, config)])
        self._notch = notch_sos(rate_hz, mains_hz, config)
        self._smooth = smooth_sos(rate_hz, config)
        self._length = 0
        self._carrier_gain = self._smooth_gain = np.zeros(0)

    def envelope(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """(channels, n) envelope, V, of a (channels, n) block."""
        n = next_fast_len(block.shape[1], real=True)
        if n != self._length:
            frequencies = np.fft.rfftfreq(n, 1.0 / self._rate).astype(np.float64)
            gain = _magnitude(self._band, frequencies, self._rate)
            if len(self._notch):
                gain = gain * _magnitude(self._notch, frequencies, self._rate) ** 2
            self._length, self._carrier_gain = n, gain
            self._smooth_gain = _magnitude(self._smooth, frequencies, self._rate)
        carrier = irfft(rfft(block, n, workers=WORKERS) * self._carrier_gain, n, workers=WORKERS)
        np.abs(carrier, out=carrier)
        smooth = irfft(rfft(carrier, n, workers=WORKERS) * self._smooth_gain, n, workers=WORKERS)
        result: NDArray[np.float64] = np.maximum(smooth[:, : block.shape[1]], 0.0)
        return result


def _magnitude(sos: NDArray[np.float64], frequencies: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    return np.abs(sosfreqz(sos, frequencies, fs=rate_hz)[1])


def _detect(clean: NDArray[np.float64], rate_hz: float) -> float:
    """Mains frequency that stands out of the first block, Hz; 0 if none does."""
    n = window_samples(rate_hz)
    detector = MainsDetector()
    found = 0.0
    for start in range(0, clean.shape[1] - n + 1, n // 2):
        found = detector.add(np.abs(transform(clean[:, start : start + n].T)) ** 2) or found
    return found


class _Intervals:
    """Quality of each second, and of the whole."""

    def __init__(self, rate_hz: float, config: ChainConfig) -> None:
        self._rate, self._config = rate_hz, config
        self._n = window_samples(rate_hz)
        self._hard: list[NDArray[np.int64]] = []
        self._spectra: list[Spectrum | None] = []
        # Sums over windows of the pairs' weighted peaks, and of the weights.
        self._peaks: NDArray[np.float64] | float = 0.0
        self._weights: NDArray[np.float64] | float = 0.0

    def add(self, clean: NDArray[np.float64], raw: NDArray[np.float64]) -> None:
        """Take in the next (n, channels) samples, V, and the same as they were recorded."""
        n = self._n
        starts = range(0, len(clean), n)
        heard = set(starts[:: max(1, math.ceil(len(starts) / CROSSTALK_WINDOWS))])
        for start in starts:
            self._hard.append(hard_codes(raw[start : start + n], self._config.full_scale_v, self._config.flat_v))
            # The last second of a recording may be a part of one: it is judged with what lies before it.
            window = clean[max(0, min(start, len(clean) - n)) : start + n]
            if len(window) < n:
                self._spectra.append(None)
                continue
            spectrum = transform(window)
            figures = spectrum_of(np.abs(spectrum) ** 2)
            self._spectra.append(figures)
            if start in heard:
                # Windows in which both muscles work say more than windows of common silence.
                weight = np.sqrt(np.outer(figures.muscle_v, figures.muscle_v))
                self._peaks = self._peaks + weight * crosstalk(spectrum, self._rate)
                self._weights = self._weights + weight

    def verdict(
        self, envelope_v: NDArray[np.float64], maxima_v: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.int64], tuple[ChannelReport, ...]]:
        """(intervals, channels) codes, and the report of each channel."""
        # Channel by channel: a percentile copies what it sorts.
        low, high = np.array([np.percentile(own, SNR_PERCENTILES) for own in envelope_v.T]).T
        reference = high if maxima_v is None else np.asarray(maxima_v, dtype=float)
        zeros = np.zeros(len(reference), dtype=np.int64)
        soft = [zeros if s is None else s.codes(reference) for s in self._spectra]
        codes = np.maximum(np.array(self._hard), np.array(soft))
        seen = [s for s in self._spectra if s is not None]
        shared = np.zeros((len(reference), len(reference)))
        if seen:
            np.divide(self._peaks, self._weights, out=shared, where=np.asarray(self._weights) > 0.0)
        tiny = np.finfo(float).tiny
        muscle = _rms([s.muscle_v for s in seen], zeros)
        mains = _rms([s.mains_v for s in seen], zeros)
        movement = _rms([s.movement_v for s in seen], zeros)
        # Without calibration all that tells source from hearer is who is louder.
        hears = crosstalk_faults(shared, muscle if maxima_v is None else muscle / np.maximum(reference, tiny))
        snr_db = 20.0 * np.log10(np.maximum(high, tiny) / np.maximum(low, tiny))
        noisy = snr_db < SNR_LEAST_DB if maxima_v is None else low > FLOOR_OF_MAXIMUM * reference
        reports = []
        for c in range(len(reference)):
            bad = codes[:, c][codes[:, c] > 0]
            share = len(bad) / len(codes)
            reason = REASONS[int(np.bincount(bad).argmax())] if share > BAD_SHARE else ""
            reason = reason or ("noisy" if noisy[c] else "crosstalk" if hears[c] else "")
            partner = int(shared[c].argmax())
            reports.append(
                ChannelReport(
                    reason=reason,
                    bad_share=1.0 if reason else share,
                    snr_db=float(min(snr_db[c], SNR_MOST_DB)),
                    mains_ratio=float(mains[c] ** 2 / max(mains[c] ** 2 + muscle[c] ** 2, tiny)),
                    movement_ratio=float(movement[c] / max(muscle[c], tiny)),
                    crosstalk=float(shared[c, partner]),
                    crosstalk_with=partner,
                    peak_v=float(high[c]),
                )
            )
        return codes, tuple(reports)


def _rms(values: list[NDArray[np.float64]], nothing: NDArray[Any]) -> NDArray[np.float64]:
    return np.sqrt(np.mean(np.square(values), axis=0)) if values else nothing.astype(float)
