"""Surface EMG to normalised envelopes: one declaration, two ways to run it.

Notch at the mains and its harmonics, band-pass, whiten, rectify, low-pass, divide by the calibrated
maximum. :class:`EnvelopeStream` runs that causally, frame by frame, for the live system;
:mod:`exo_emg.offline` runs filters of the same magnitude without any phase, for recordings. Both read
the same :class:`ChainConfig`, so the causal envelope is the offline one, late by :func:`group_delay_s`.

Why whiten: the variance of a rectified, smoothed signal falls with the number of independent samples
in the smoothing window, and the spectrum of surface EMG, a hump near 80 Hz, leaves few of them. A first-order
high-pass at 200 Hz flattens the hump's upper side (a fixed whitening filter; Clancy & Hogan 1994, Potvin
& Brown 2004): same smoothing, same delay, less jitter, and movement artefact weighs less. 0 switches it off.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, group_delay, iirnotch, sosfilt, sosfreqz, tf2sos

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.mains import MainsDetector
from exo_emg.quality import REASONS, LiveQuality

# Mean of |x| for zero-mean Gaussian x of unit variance.
RECTIFIED_MEAN_OF_GAUSSIAN = math.sqrt(2.0 / math.pi)

# The band of surface EMG (SENIAM), and the fraction of the sampling rate a filter edge may use:
# above 0.4 the bilinear transform squeezes the transition band against Nyquist.
BAND_LOW_HZ, BAND_HIGH_HZ = 20.0, 450.0
BAND_FRACTION_OF_RATE = 0.4
# Upper edge without which it is no surface EMG any more: most of its power lies below 80 Hz or just above.
BAND_HIGH_LEAST_HZ = 80.0
RATE_MIN_HZ = BAND_HIGH_LEAST_HZ / BAND_FRACTION_OF_RATE

ENVELOPE_ORDER = 2
BAND_ORDER = 2
# Corners of the usual power spectrum of surface EMG, f^2 / ((f^2 + low^2) (f^2 + high^2)^2) (Shwedyk, Balasubramanian
# & Scott 1977). Whitening is scaled so that such a signal keeps its power: envelopes read the same with and without.
USUAL_SPECTRUM_HZ = (60.0, 120.0)
# Width (-3 dB) of each notch, Hz: mains wander by 0.2 Hz, and a narrower notch rings for longer than a stance.
NOTCH_WIDTH_HZ = 3.0


def signal_band(
    sampling_rate_hz: float, low_hz: float = BAND_LOW_HZ, high_hz: float = BAND_HIGH_HZ
) -> tuple[float, float]:
    """Pass band (Hz) that a sampling rate allows: at 1 kHz 20-400 Hz.

    Raises
    ------
    ExoError : if the sampling rate is too low for any EMG band, or no finite number.
    """
    if not math.isfinite(sampling_rate_hz):
        raise ExoError(f"EMG sampling rate {sampling_rate_hz} is no rate; correct sampling_rate_hz in the EMG driver")
    if sampling_rate_hz < RATE_MIN_HZ:
        raise ExoError(
            f"EMG sampled at {sampling_rate_hz:g} Hz is too slow for its band; {RATE_MIN_HZ:.0f} Hz is the least, "
            f"{low_hz:g}-{high_hz:g} Hz needs {high_hz / BAND_FRACTION_OF_RATE:.0f} Hz, 1000 Hz is usual"
        )
    return low_hz, min(high_hz, BAND_FRACTION_OF_RATE * sampling_rate_hz)


@dataclasses.dataclass(frozen=True)
class ChainConfig(Parameters):
    """The processing chain."""

    band_low_hz: float = parameter(BAND_LOW_HZ, "Hz", "lower edge of the band-pass", minimum=5.0, maximum=60.0)
    band_high_hz: float = parameter(
        BAND_HIGH_HZ,
        "Hz",
        "upper edge of the band-pass; 0.4 of the sampling rate at most",
        minimum=80.0,
        maximum=500.0,
    )
    mains: str = parameter(
        "auto",
        "Hz",
        "notch at the mains and its harmonics: a frequency, off, or auto (none until a line stands out, then 50 or 60)",
        choices=("auto", "50", "60", "off"),
    )
    whitening_hz: float = parameter(
        200.0, "Hz", "corner of the first-order whitening high-pass; 0 for none", minimum=0.0, maximum=400.0
    )
    envelope_hz: float = parameter(
        6.0, "Hz", "cut-off of the 2nd-order low-pass of the envelope", minimum=1.0, maximum=20.0
    )
    full_scale_v: float = parameter(
        6e-3, "V", "amplifier range; samples at its edge are saturated", minimum=1e-4, maximum=1.0
    )
    flat_v: float = parameter(5e-7, "V", "standard deviation below which a channel is flat", minimum=1e-9, maximum=1e-4)

    def mains_hz(self) -> float:
        """The configured mains frequency, Hz; 0 where it is off or still to be found."""
        return float(self.mains) if self.mains in ("50", "60") else 0.0


def band_sos(sampling_rate_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    """Second-order sections of the band-pass."""
    band = signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    sos: NDArray[np.float64] = butter(BAND_ORDER, band, "bandpass", fs=sampling_rate_hz, output="sos")
    return sos


def whitening_sos(sampling_rate_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    """Second-order section of the whitening, none at 0 Hz; EMG of the usual spectrum keeps its power."""
    if config.whitening_hz == 0.0:
        return np.zeros((0, 6))
    corner = min(config.whitening_hz, BAND_FRACTION_OF_RATE * sampling_rate_hz)
    sos: NDArray[np.float64] = butter(1, corner, "highpass", fs=sampling_rate_hz, output="sos")
    frequency, flattened = sosfreqz(sos, fs=sampling_rate_hz)
    _, passed = sosfreqz(band_sos(sampling_rate_hz, config), fs=sampling_rate_hz)
    low, high = USUAL_SPECTRUM_HZ
    # The spectrum as a digital filter of this rate makes it, which nears zero at Nyquist as anti-aliased EMG does.
    warped = sampling_rate_hz / np.pi * np.tan(np.pi * frequency / sampling_rate_hz)
    power = np.abs(passed) ** 2 * warped**2 / ((warped**2 + low**2) * (warped**2 + high**2) ** 2)
    sos[0, :3] *= math.sqrt(np.sum(power) / np.sum(power * np.abs(flattened) ** 2))
    return sos


def notch_sos(sampling_rate_hz: float, mains_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    """Second-order sections of a notch at the mains and each harmonic in the band; none at 0 Hz."""
    if mains_hz == 0.0:
        return np.zeros((0, 6))
    _, high = signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    lines = np.arange(mains_hz, high + 1.0, mains_hz)
    return np.vstack([tf2sos(*iirnotch(line, line / NOTCH_WIDTH_HZ, fs=sampling_rate_hz)) for line in lines])


def smooth_sos(sampling_rate_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    """Second-order sections of the envelope's low-pass."""
    sos: NDArray[np.float64] = butter(ENVELOPE_ORDER, config.envelope_hz, fs=sampling_rate_hz, output="sos")
    return sos


def group_delay_s(config: ChainConfig, sampling_rate_hz: float = 1000.0) -> float:
    """How late the causal envelope is, s.

    The low-pass delays by sqrt(2) / (2 pi f_c), 37.5 ms at 6 Hz; band-pass and whitening delay what
    rides on the carrier by 1 ms more, the mean over the band weighted with what passes.
    """
    low_pass = math.sqrt(2.0) / (2.0 * math.pi * config.envelope_hz)
    low, high = signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    frequencies = np.linspace(low, high, 200)
    sos = np.vstack([band_sos(sampling_rate_hz, config), whitening_sos(sampling_rate_hz, config)])
    delay = sum(group_delay((s[:3], s[3:]), frequencies, fs=sampling_rate_hz)[1] for s in sos)
    _, response = sosfreqz(sos, frequencies, fs=sampling_rate_hz)
    weight = np.abs(response) ** 2
    return low_pass + float(np.sum(weight * delay) / np.sum(weight)) / sampling_rate_hz


class EnvelopeStream:
    """The causal chain, fed frame by frame; cutting the signal differently changes nothing.

    The filters start empty: no channel is valid until they have settled.

    Parameters
    ----------
    maxima_v : (channels,) calibrated maxima, V; ones give the envelope in V (and a quality that knows no
        reference: see :class:`~exo_emg.quality.LiveQuality`).
    """

    def __init__(self, sampling_rate_hz: float, maxima_v: NDArray[np.float64], config: ChainConfig) -> None:
        channels = len(maxima_v)
        self.sampling_rate_hz = sampling_rate_hz
        self._config = config
        self._maxima = np.asarray(maxima_v, dtype=float)
        self._band = band_sos(sampling_rate_hz, config)
        self._whitening = whitening_sos(sampling_rate_hz, config)
        self._smooth = smooth_sos(sampling_rate_hz, config)
        self._band_state = np.zeros((len(self._band), 2, channels))
        self._whitening_state = np.zeros((len(self._whitening), 2, channels))
        self._smooth_state = np.zeros((len(self._smooth), 2, channels))
        self._quality = LiveQuality(sampling_rate_hz, self._maxima, config.full_scale_v, config.flat_v)
        self._detector = MainsDetector() if config.mains == "auto" else None
        self._last = np.zeros(channels)
        self.carrier = np.zeros((0, channels))
        self.mains_hz = 0.0
        if config.mains_hz():
            self._add_notch(config.mains_hz())

    def process(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Envelope of the next (n, channels) samples in V, as fraction of the calibrated maximum.

        `carrier` then holds the same samples band-passed and freed of mains, (n, channels) V.
        """
        if len(samples) == 0:
            self.carrier = np.zeros((0, len(self._maxima)))
            return self.carrier
        pieces = []
        while len(samples):
            # What is decided on a window of signal is decided at the same sample however the signal is cut.
            n = min(len(samples), self._quality.until_judgement)
            pieces.append(self._filter(samples[:n]))
            samples = samples[n:]
            if self._quality.until_judgement == 0:
                power = self._quality.judge()
                if self._detector is not None and self.mains_hz == 0.0:
                    mains_hz = self._detector.add(power)
                    if mains_hz:
                        self._add_notch(mains_hz)
        carriers, envelopes = zip(*pieces, strict=True)
        self.carrier = np.concatenate(carriers)
        return np.concatenate(envelopes)

    def lose(self, samples: int) -> None:
        """Account for lost samples: the filters hold, every channel is invalid until they have settled."""
        if samples > 0:
            self._quality.lose()

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(channels,) whether each channel may be used now."""
        return self._quality.codes() == 0

    def reasons(self) -> list[str]:
        """One word per channel: '' when good, otherwise one of :data:`~exo_emg.quality.REASONS`."""
        return [REASONS[code] for code in self._quality.codes()]

    @property
    def quality(self) -> LiveQuality:
        """The figures behind the reasons."""
        return self._quality

    def _filter(self, samples: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        finite = np.isfinite(samples)
        full_scale = self._config.full_scale_v
        held = samples if finite.all() else _held(samples, finite, self._last)
        # No amplifier sends more than its range; a corrupt number must not ring in the filters for seconds.
        clean = np.clip(held, -full_scale, full_scale)
        self._last = clean[-1]
        self._quality.add(samples, clean)
        carrier, self._band_state = sosfilt(self._band, clean, axis=0, zi=self._band_state)
        white = carrier
        if len(self._whitening):
            white, self._whitening_state = sosfilt(self._whitening, carrier, axis=0, zi=self._whitening_state)
        envelope, self._smooth_state = sosfilt(self._smooth, np.abs(white), axis=0, zi=self._smooth_state)
        fraction = np.maximum(envelope, 0.0) / self._maxima
        self._quality.add_envelope(fraction)
        return carrier, fraction

    def _add_notch(self, mains_hz: float) -> None:
        notch = notch_sos(self.sampling_rate_hz, mains_hz, self._config)
        self.mains_hz = mains_hz
        self._band = np.vstack([self._band, notch])
        empty = np.zeros((len(notch), *self._band_state.shape[1:]))
        self._band_state = np.concatenate([self._band_state, empty])


def _held(samples: NDArray[np.float64], finite: NDArray[np.bool_], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """The samples with every number that is none replaced by the one before it: no step rings in the filters."""
    rows = np.where(finite, np.arange(1, len(samples) + 1)[:, None], 0)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.take_along_axis(np.vstack([last, samples]), newest, axis=0)
