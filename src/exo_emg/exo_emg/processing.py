"""Surface EMG to normalised envelopes: one declaration, two ways to run it.

Notch at the mains and its harmonics, band-pass, rectify, low-pass, divide by the calibrated maximum.
:class:`EnvelopeStream` runs that causally, frame by frame, for the live system; :mod:`exo_emg.offline` runs
filters of the same magnitude without any phase, for recordings. Both read the same :class:`ChainConfig`,
so the causal envelope is the offline one, late by :func:`group_delay_s`.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, iirnotch, sosfilt, sosfreqz, tf2sos

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.mains import MainsDetector
from exo_emg.quality import REASONS, LiveQuality
from exo_emg.sos_filter import SosFilter

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
# Each notch is applied twice: so its square root exists as a filter, and the magnitude that offline uses has no kink.
# Width (-3 dB) of one, Hz. The wider, the less a wandering line leaves (of one that is off by 0.1 Hz: 8 %), but the
# more goes with it: 1.2 pi times this of every 50 Hz, which at 0.7 Hz takes 1.7 % of the level.
NOTCH_WIDTH_HZ = 0.7
NOTCH_TIMES = 2
# The delay is stated for modulation of this frequency, the middle of what an envelope of walking is made of, Hz.
MODULATION_HZ = 2.0
# For as long as this the notches ring, s.
RINGING_S = 4.0


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


def notch_sos(sampling_rate_hz: float, mains_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    """Second-order sections of a notch at the mains and each harmonic in the band; none at 0 Hz."""
    if mains_hz == 0.0:
        return np.zeros((0, 6))
    _, high = signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    lines = np.arange(mains_hz, high + 1.0, mains_hz)
    once = np.vstack([tf2sos(*iirnotch(line, line / NOTCH_WIDTH_HZ, fs=sampling_rate_hz)) for line in lines])
    return np.repeat(once, NOTCH_TIMES, axis=0)


def smooth_sos(sampling_rate_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    """Second-order sections of the envelope's low-pass."""
    sos: NDArray[np.float64] = butter(ENVELOPE_ORDER, config.envelope_hz, fs=sampling_rate_hz, output="sos")
    return sos


def group_delay_s(config: ChainConfig, sampling_rate_hz: float = 1000.0, mains_hz: float = 0.0) -> float:
    """How late the causal envelope is beside the offline one, s.

    The power of modulated noise passes a filter as its modulation passes the square of the filter's impulse response;
    rectified, it passes the low-pass. The delay is that of both at :data:`MODULATION_HZ`: 39 ms of a low-pass at 6 Hz,
    1 ms of a band-pass of 20-400 Hz, and some 2 ms where notches (`mains_hz`) are in use.
    """
    sos = np.vstack([band_sos(sampling_rate_hz, config), notch_sos(sampling_rate_hz, mains_hz, config)])
    impulse = np.zeros(round(RINGING_S * sampling_rate_hz))
    impulse[0] = 1.0
    turn = np.exp(-2j * np.pi * MODULATION_HZ * np.arange(len(impulse)) / sampling_rate_hz)
    _, smooth = sosfreqz(smooth_sos(sampling_rate_hz, config), [MODULATION_HZ], fs=sampling_rate_hz)
    passed = np.sum(sosfilt(sos, impulse) ** 2 * turn) * smooth[0]
    return float(-np.angle(passed) / (2.0 * np.pi * MODULATION_HZ))


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
        self._band = SosFilter(band_sos(sampling_rate_hz, config), channels)
        self._smooth = SosFilter(smooth_sos(sampling_rate_hz, config), channels)
        _, band_edge = signal_band(sampling_rate_hz)
        self._quality = LiveQuality(sampling_rate_hz, self._maxima, band_edge, config.full_scale_v, config.flat_v)
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
        if len(pieces) == 1:
            self.carrier, envelope = pieces[0]
            return envelope
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
        full_scale = self._config.full_scale_v
        peak = float(np.abs(samples).max())
        if peak <= full_scale:
            clean = samples
        else:
            finite = np.isfinite(samples)
            held = samples if finite.all() else held_through(samples, finite, self._last)
            # No amplifier sends more than its range; a corrupt number must not ring in the filters for seconds.
            clean = np.clip(held, -full_scale, full_scale)
        self._last = clean[-1].copy()
        carrier = self._band.process(clean)
        envelope = self._smooth.process(np.abs(carrier))
        np.maximum(envelope, 0.0, out=envelope)
        self._quality.add(samples, peak, clean, carrier, envelope)
        return carrier, envelope / self._maxima

    def _add_notch(self, mains_hz: float) -> None:
        notch = notch_sos(self.sampling_rate_hz, mains_hz, self._config)
        self.mains_hz = mains_hz
        self._quality.notched()
        self._band.append(notch)


def held_through(
    samples: NDArray[np.float64], finite: NDArray[np.bool_], last: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The samples with every number that is none replaced by the one before it: no step rings in the filters."""
    rows = np.where(finite, np.arange(1, len(samples) + 1)[:, None], 0)
    newest = np.maximum.accumulate(rows, axis=0)
    return np.take_along_axis(np.vstack([last, samples]), newest, axis=0)
