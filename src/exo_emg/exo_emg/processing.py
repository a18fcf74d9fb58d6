"""Surface EMG to normalised envelopes: one declaration, two chains.

Band-pass, rectify, low-pass, divide by the calibrated maximum. `EnvelopeStream`
runs it causally, frame by frame, for the live system; `envelope_offline` runs it
forwards and backwards, without delay, for recordings. Both read the same
:class:`ChainConfig`.

The causal chain is late by the group delay of its filters, almost all of it the
envelope low-pass: sqrt(2) / (2 pi f_c) for a 2nd-order Butterworth, 37.5 ms at
6 Hz. :func:`group_delay_s` states it; nothing hides it.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfiltfilt

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.quality import REASONS, ChannelQuality

# Mean of |x| for zero-mean Gaussian x of unit variance.
RECTIFIED_MEAN_OF_GAUSSIAN = math.sqrt(2.0 / math.pi)

# The band of surface EMG (SENIAM), and the fraction of the sampling rate a filter edge may use:
# above 0.4 the bilinear transform squeezes the transition band against Nyquist.
BAND_LOW_HZ, BAND_HIGH_HZ = 20.0, 450.0
BAND_FRACTION_OF_RATE = 0.4
# A band-pass of less than one octave and a half would no longer be surface EMG.
RATE_MIN_HZ = 200.0


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
            f"EMG sampled at {sampling_rate_hz} Hz is too slow for its band; sample at {RATE_MIN_HZ:.0f} Hz or faster, "
            "1000 Hz is usual"
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
    envelope_hz: float = parameter(
        6.0, "Hz", "cut-off of the 2nd-order low-pass of the envelope", minimum=1.0, maximum=20.0
    )
    full_scale_v: float = parameter(
        6e-3, "V", "amplifier range; samples at its edge are saturated", minimum=1e-4, maximum=1.0
    )
    flat_v: float = parameter(5e-7, "V", "standard deviation below which a channel is flat", minimum=1e-9, maximum=1e-4)


ENVELOPE_ORDER = 2
BAND_ORDER = 2


def group_delay_s(config: ChainConfig) -> float:
    """Delay of the causal envelope at low frequency, s (the band-pass adds 1-5 ms to the carrier only)."""
    return math.sqrt(2.0) / (2.0 * math.pi * config.envelope_hz)


def envelope_offline(
    samples: NDArray[np.float64], sampling_rate_hz: float, maxima_v: NDArray[np.float64], config: ChainConfig
) -> NDArray[np.float64]:
    """Envelope without delay, for recordings.

    Parameters
    ----------
    samples : (n, channels) V; NaN counts as no signal.
    maxima_v : (channels,) calibrated maxima, V.

    Returns
    -------
    (n, channels) fraction of the calibrated maximum.

    Notes
    -----
    A filter run forwards and backwards attenuates twice; its cut-off is raised
    by (sqrt(2) - 1)^(-1/4) so that the pair is 3 dB down at `envelope_hz`, and
    its order is halved (Winter 2009, 2.2.4).
    """
    band = _band_filter(sampling_rate_hz, config)
    envelope_hz = config.envelope_hz / (math.sqrt(2.0) - 1.0) ** (1.0 / (2 * ENVELOPE_ORDER))
    smooth = butter(ENVELOPE_ORDER, envelope_hz, fs=sampling_rate_hz, output="sos")
    clean = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    return sosfiltfilt(smooth, np.abs(sosfiltfilt(band, clean, axis=0)), axis=0) / maxima_v


class EnvelopeStream:
    """The causal chain, fed frame by frame; cutting the signal differently changes nothing.

    The filters start empty: no channel is valid until they have settled.

    Parameters
    ----------
    maxima_v : (channels,) calibrated maxima, V.
    """

    def __init__(self, sampling_rate_hz: float, maxima_v: NDArray[np.float64], config: ChainConfig) -> None:
        channels = len(maxima_v)
        self.sampling_rate_hz = sampling_rate_hz
        self._config = config
        self._maxima = np.asarray(maxima_v, dtype=float)
        self._band = _band_filter(sampling_rate_hz, config)
        self._smooth = butter(ENVELOPE_ORDER, config.envelope_hz, fs=sampling_rate_hz, output="sos")
        self._band_state = np.zeros((len(self._band), 2, channels))
        self._smooth_state = np.zeros((len(self._smooth), 2, channels))
        self._quality = ChannelQuality(sampling_rate_hz, channels, config.full_scale_v, config.flat_v)

    def process(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Envelope of the next (n, channels) samples in V, as fraction of the calibrated maximum."""
        finite = np.isfinite(samples)
        full_scale = self._config.full_scale_v
        # No amplifier sends more than its range; a corrupt number must not ring in the filters for seconds.
        clean = np.clip(samples if finite.all() else np.where(finite, samples, 0.0), -full_scale, full_scale)
        self._quality.add(clean, finite)
        carrier, self._band_state = sosfilt(self._band, clean, axis=0, zi=self._band_state)
        envelope, self._smooth_state = sosfilt(self._smooth, np.abs(carrier), axis=0, zi=self._smooth_state)
        return np.maximum(envelope, 0.0) / self._maxima

    def lose(self, samples: int) -> None:
        """Account for lost samples: the filters hold, every channel is invalid until they have settled."""
        if samples > 0:
            self._quality.lose()

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(channels,) whether each channel may be used now."""
        return self._quality.codes() == 0

    def reasons(self) -> list[str]:
        """One word per channel: '' when good, otherwise nan, saturated, flat or settling."""
        return [REASONS[code] for code in self._quality.codes()]


def _band_filter(sampling_rate_hz: float, config: ChainConfig) -> NDArray[np.float64]:
    band = signal_band(sampling_rate_hz, config.band_low_hz, config.band_high_hz)
    sos: NDArray[np.float64] = butter(BAND_ORDER, band, "bandpass", fs=sampling_rate_hz, output="sos")
    return sos
