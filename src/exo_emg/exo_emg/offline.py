"""Recordings of any length to envelopes without delay, in flat memory, with a quality report per channel.

The filters are those of the causal chain with their phase taken away: each is applied as the magnitude of
its frequency response, block by block (overlap-save: one FFT, one product, one inverse FFT). The envelope is
therefore the causal one without its delay, and not, as after running a filter forwards and backwards, one
of a steeper filter.

A block overlaps its neighbours by the time in which every filter forgets, so the result does not depend on
where the blocks lie; at both ends the recording is continued by its point reflection. Where there are no numbers the
last one is held, as live, so that nothing rings; how far the filters reach from there is marked as bad, too. A notch is
used from the block on in which a line is found.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import sosfreqz

from exo_common.errors import ExoError
from exo_emg.mains import MainsDetector, mains_of_short
from exo_emg.processing import RINGING_S, ChainConfig, band_sos, held_through, notch_sos, signal_band, smooth_sos
from exo_emg.quality import (
    CODE,
    FLOOR_OF_MAXIMUM,
    REASONS,
    SNR_LEAST_DB,
    SNR_PERCENTILES,
    Bands,
    Spectrum,
    crosstalk,
    crosstalk_faults,
    hard_codes,
    spectrum_of,
    transform,
    window_samples,
)

# The low-pass forgets by exp(-2 pi f_c t / sqrt(2)): to 2e-8 in four of its periods; the notches ring for longer.
OVERLAP_PERIODS = 4.0
# Up to here a fault disturbs the envelope beside it: the low-pass at 6 Hz has then forgotten it to 3e-4.
REACH_PERIODS = 2.0
# Blocks of this length lose 20 % to the overlap; 16 channels at 2 kHz then take some 150 MB.
BLOCK_S = 40.0
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
    sound : (n, channels) the same, whatever the verdict on the channel as a whole.
    codes : (intervals, channels) index into :data:`~exo_emg.quality.REASONS`, one interval per second.
    channels : the verdict on each channel.
    mains_hz : the notch that was used; 0 for none.
    """

    rate_hz: float
    envelope: NDArray[np.float64]
    valid: NDArray[np.bool_]
    sound: NDArray[np.bool_]
    codes: NDArray[np.int64]
    channels: tuple[ChannelReport, ...]
    mains_hz: float

    def known(self) -> NDArray[np.float64]:
        """(n, channels) envelope, NaN where it is not sound: for maxima, mean strides and tables."""
        return np.where(self.sound, self.envelope, np.nan)


def envelope_offline(
    samples: NDArray[np.float64], sampling_rate_hz: float, maxima_v: NDArray[np.float64], config: ChainConfig
) -> NDArray[np.float64]:
    """Envelope of a whole array without delay, at the rate of the signal.

    Parameters
    ----------
    samples : (n, channels) V; where there is no number the last one is held.
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
    chunks : (n, channels) V each, consecutive, of any lengths; where there is no number the last one is held.
    maxima_v : (channels,) calibrated maxima, V; None leaves the envelope in V.
    output_hz : rate of the envelope; the nearest whole fraction of the sampling rate is taken.

    Raises
    ------
    ExoError : if the rate is too low, the recording is empty, or a piece has another number of channels.
    """
    signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    step = max(1, round(sampling_rate_hz / output_hz))
    mains = _Mains(sampling_rate_hz, config)
    filters = _Filters(sampling_rate_hz, config, mains.found_hz)
    quality = _Intervals(sampling_rate_hz, config)
    pieces = []
    for block in _blocks(chunks, sampling_rate_hz, config, step):
        inner = slice(block.before, block.before + block.own)
        mains_hz = mains.add(block.clean[:, inner].T)
        if mains_hz != filters.mains_hz:
            filters = _Filters(sampling_rate_hz, config, mains_hz)
        carrier = filters.carrier(block.clean)
        quality.add(block.clean[:, inner].T, block.raw, carrier[:, inner].T if mains_hz else None)
        pieces.append(filters.envelope(carrier)[:, inner][:, ::step].T.copy())
    envelope_v = np.concatenate(pieces)
    del pieces
    codes, sound, reports = quality.verdict(envelope_v, maxima_v, step)
    if maxima_v is not None:
        envelope_v /= np.asarray(maxima_v, dtype=float)
    usable = sound & [not report.reason for report in reports]
    return Processed(sampling_rate_hz / step, envelope_v, usable, sound, codes, reports, mains.found_hz)


@dataclasses.dataclass(frozen=True)
class _Block:
    clean: NDArray[np.float64]  # (channels, n) with the neighbourhood on both sides
    raw: NDArray[np.float64]  # (own, channels) as recorded
    before: int
    own: int


def _blocks(chunks: Iterable[NDArray[np.float64]], rate_hz: float, config: ChainConfig, step: int) -> Iterator[_Block]:
    """Cut the recording into blocks with their neighbourhood; each begins on a sample of the output."""
    overlap = math.ceil(max(RINGING_S, OVERLAP_PERIODS / config.envelope_hz) * rate_hz)
    # Whole seconds, for the intervals of the quality, and whole steps of the output.
    unit = math.lcm(window_samples(rate_hz), step)
    own = max(unit, round(BLOCK_S * rate_hz / unit) * unit)
    # (2, n, channels): as recorded, and without gaps.
    held: list[NDArray[np.float64]] = []
    waiting = 0
    before: NDArray[np.float64] | None = None
    last = np.zeros(0)

    def block(both: NDArray[np.float64], after: NDArray[np.float64] | None) -> _Block:
        raw, clean = both
        left = _reflected(clean, overlap)[0] if before is None else before
        right = _reflected(clean, overlap)[1] if after is None else after
        whole = np.concatenate([left, clean, right])
        return _Block(np.ascontiguousarray(whole.T), raw, len(left), len(raw))

    for chunk in chunks:
        if chunk.ndim != 2 or (held and chunk.shape[1] != held[0].shape[2]):
            raise ExoError(f"a piece of the EMG recording has shape {chunk.shape}; give (samples, channels) throughout")
        # A long piece is taken in parts, so that it is not copied as a whole for every block.
        for start in range(0, len(chunk), own):
            part = np.asarray(chunk[start : start + own], dtype=float)
            last = last if held or before is not None else np.full(part.shape[1], np.nan)
            clean, last = _cleaned(part, last, config.full_scale_v)
            held.append(np.stack([part, clean]))
            waiting += len(part)
            while waiting >= 2 * own + overlap:
                joined = np.concatenate(held, axis=1)
                yield block(joined[:, :own], joined[1, own : own + overlap])
                before = joined[1, own - overlap : own].copy()
                held, waiting = [joined[:, own:].copy()], waiting - own
    joined = np.concatenate(held, axis=1) if held else np.zeros((2, 0, 0))
    if waiting < 2:
        raise ExoError("the EMG recording is empty; record or choose another file")
    # What is left is between one and two blocks long: in one piece if it fits in one, else in two.
    if waiting > own + overlap:
        yield block(joined[:, :own], joined[1, own : own + overlap])
        before = joined[1, own - overlap : own]
        joined = joined[:, own:]
    yield block(joined, None)


def _cleaned(
    raw: NDArray[np.float64], last: NDArray[np.float64], full_scale_v: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, channels) samples within the range, held where there is no number, and the (channels,) value to hold next.

    Before the first number of a channel (`last` is NaN) that number stands.
    """
    finite = np.isfinite(raw)
    if not finite.all():
        some = finite.any(axis=0)
        first = np.where(some, raw[finite.argmax(axis=0), np.arange(raw.shape[1])], 0.0)
        begun = some | np.isfinite(last)
        raw = held_through(raw, finite, np.where(np.isfinite(last), last, first))
    else:
        begun = np.ones(raw.shape[1], dtype=bool)
    clean = np.clip(raw, -full_scale_v, full_scale_v)
    return clean, np.where(begun, clean[-1], np.nan)


def _reflected(clean: NDArray[np.float64], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Continuation by point reflection at both ends, as often as a short recording needs."""
    padded = np.pad(clean, ((n, n), (0, 0)), mode="reflect", reflect_type="odd")
    return padded[:n], padded[-n:]


class _Filters:
    """The chain's magnitudes, for blocks of any length."""

    def __init__(self, rate_hz: float, config: ChainConfig, mains_hz: float) -> None:
        self.mains_hz = mains_hz
        self._rate = rate_hz
        self._band = np.vstack([band_sos(rate_hz, config), notch_sos(rate_hz, mains_hz, config)])
        self._smooth = smooth_sos(rate_hz, config)
        self._length = 0
        self._carrier_gain = self._smooth_gain = np.zeros(0)

    def carrier(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """(channels, m >= n) signal behind notch and band-pass, V, of a (channels, n) block."""
        n = next_fast_len(block.shape[1], real=True)
        if n != self._length:
            frequencies = np.fft.rfftfreq(n, 1.0 / self._rate).astype(np.float64)
            self._length, self._carrier_gain = n, _magnitude(self._band, frequencies, self._rate)
            self._smooth_gain = _magnitude(self._smooth, frequencies, self._rate)
        return self._filtered(block, self._carrier_gain)

    def envelope(self, carrier: NDArray[np.float64]) -> NDArray[np.float64]:
        """Envelope of a carrier, V; the carrier is used up."""
        smooth = self._filtered(np.abs(carrier, out=carrier), self._smooth_gain)
        return np.maximum(smooth, 0.0, out=smooth)

    def _filtered(self, signal: NDArray[np.float64], gain: NDArray[np.float64]) -> NDArray[np.float64]:
        n = self._length
        result: NDArray[np.float64] = irfft(rfft(signal, n, workers=WORKERS) * gain, n, workers=WORKERS)
        return result


def _magnitude(sos: NDArray[np.float64], frequencies: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    return np.abs(sosfreqz(sos, frequencies, fs=rate_hz)[1])


class _Mains:
    """Looks for mains in everything so far; what was found stays."""

    def __init__(self, rate_hz: float, config: ChainConfig) -> None:
        self.found_hz = config.mains_hz()
        self._rate = rate_hz
        self._detector = MainsDetector() if config.mains == "auto" else None

    def add(self, clean: NDArray[np.float64]) -> float:
        """Take in the next (n, channels) V; returns the mains frequency, Hz, or 0."""
        if self._detector is None or self.found_hz:
            return self.found_hz
        n = window_samples(self._rate)
        for start in range(0, len(clean) - n + 1, n // 2):
            self.found_hz = self.found_hz or self._detector.add(np.abs(transform(clean[start : start + n])) ** 2)
        if not self._detector.enough:
            self.found_hz = mains_of_short(clean, self._rate)
        return self.found_hz


class _Intervals:
    """Quality of each second, and of the whole."""

    def __init__(self, rate_hz: float, config: ChainConfig) -> None:
        self._rate, self._config = rate_hz, config
        self._bands = Bands.up_to(signal_band(rate_hz)[1])
        self._n = window_samples(rate_hz)
        self._hard: list[NDArray[np.int64]] = []
        self._spectra: list[Spectrum | None] = []
        # Sums over windows of the pairs' weighted peaks, and of the weights.
        self._peaks: NDArray[np.float64] | float = 0.0
        self._weights: NDArray[np.float64] | float = 0.0

    def add(self, clean: NDArray[np.float64], raw: NDArray[np.float64], notched: NDArray[np.float64] | None) -> None:
        """Take in the next (n, channels) samples, V, the same as they were recorded, and behind a notch in use."""
        n = self._n
        starts = range(0, len(clean), n)
        heard = set(starts[:: max(1, math.ceil(len(starts) / CROSSTALK_WINDOWS))])
        for start in starts:
            self._hard.append(hard_codes(raw[start : start + n], self._config.full_scale_v, self._config.flat_v))
            # The last second of a recording may be a part of one: it is judged with what lies before it.
            span = slice(max(0, min(start, len(clean) - n)), start + n)
            if len(clean) < n:
                self._spectra.append(None)
                continue
            spectrum = transform(clean[span])
            cleaned = None if notched is None else np.abs(transform(notched[span])) ** 2
            figures = spectrum_of(np.abs(spectrum) ** 2, self._bands, cleaned)
            self._spectra.append(figures)
            if start in heard:
                # Windows in which both muscles work say more than windows of common silence.
                weight = np.sqrt(np.outer(figures.muscle_v, figures.muscle_v))
                self._peaks = self._peaks + weight * crosstalk(spectrum, self._rate)
                self._weights = self._weights + weight

    def verdict(
        self, envelope_v: NDArray[np.float64], maxima_v: NDArray[np.float64] | None, step: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], tuple[ChannelReport, ...]]:
        """(intervals, channels) codes, (n, channels) whether sound, and the report of each channel.

        Parameters
        ----------
        envelope_v : (n, channels), every `step` samples.
        """
        hard = np.array(self._hard)
        sound = self._sound(hard, len(envelope_v), step)
        low, high = _levels(envelope_v, sound)
        reference = high if maxima_v is None else np.asarray(maxima_v, dtype=float)
        codes = np.maximum(hard, self._soft(reference))
        sound = self._sound(codes, len(envelope_v), step)
        low, high = _levels(envelope_v, sound)
        if maxima_v is None:
            # Faults that only a spectrum shows must not raise what the others are judged against.
            reference = high
            codes = np.maximum(hard, self._soft(reference))
            sound = self._sound(codes, len(envelope_v), step)
        zeros = np.zeros(len(reference))
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
        return codes, sound, tuple(reports)

    def _soft(self, reference_v: NDArray[np.float64]) -> NDArray[np.int64]:
        short = np.full(len(reference_v), CODE["short"], dtype=np.int64)
        return np.array([short if s is None else s.codes(reference_v) for s in self._spectra])

    def _sound(self, codes: NDArray[np.int64], samples: int, step: int) -> NDArray[np.bool_]:
        """(n, channels) whether each sample of the envelope lies in a good second, out of reach of hard faults."""
        interval = np.minimum(np.arange(samples) * step // self._n, len(codes) - 1)
        sound: NDArray[np.bool_] = (codes == 0)[interval]
        reach = math.ceil(REACH_PERIODS / self._config.envelope_hz * self._rate)
        for second, channel in np.argwhere(np.array(self._hard) > 0):
            start, end = second * self._n - reach, (second + 1) * self._n + reach
            sound[max(0, start // step) : math.ceil(end / step), channel] = False
        return sound


def _levels(
    envelope_v: NDArray[np.float64], sound: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(channels,) low and high percentile over what is sound, over everything where nothing is."""
    # Channel by channel: a percentile copies what it sorts.
    pairs = [
        np.percentile(own[good] if good.any() else own, SNR_PERCENTILES)
        for own, good in zip(envelope_v.T, sound.T, strict=True)
    ]
    low, high = np.array(pairs).T
    return low, high


def _rms(values: list[NDArray[np.float64]], nothing: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.mean(np.square(values), axis=0)) if values else nothing
