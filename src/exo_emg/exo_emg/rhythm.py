"""The phase of a cyclic movement, read from the rhythm of its own EMG envelopes.

Used when nobody knows the gait phase better (encoders or gait events do). The
phase has an arbitrary zero, the same throughout a recording; that is all that
windows of equal phase need.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

# Below this autocorrelation at the stride period there is no rhythm to follow.
RHYTHM_MIN = 0.3
# Multiples of a stride correlate as well as the stride: the shortest lag that comes this close to the best is it.
SHORTEST_OF_BEST = 0.85
# Rectified EMG is noisy; it is smoothed over this time before rhythm is looked for, s.
SMOOTHING_S = 0.1
# How fast the channels' place in the stride is re-learnt, per window.
LEARNING = 0.1


class StrideClock:
    """Follows the stride in windows of envelope.

    Every channel is demodulated at the stride frequency with a Hann window of two
    strides, which is blind to its mean and to its second harmonic. Channels are
    added after turning each back by its own place in the stride, learnt from the
    first window and slowly after.

    Parameters
    ----------
    bin_s : spacing of the envelope's samples, s.
    shortest_s, longest_s : range of stride times, s.
    """

    def __init__(self, bin_s: float, channels: int, shortest_s: float, longest_s: float) -> None:
        self._bin_s = bin_s
        self._lags = np.arange(math.ceil(shortest_s / bin_s), math.floor(longest_s / bin_s) + 1)
        self._place = np.zeros(channels, dtype=complex)

    def phase(
        self, envelope: NDArray[np.float64], usable: NDArray[np.bool_], at: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Continuous phase in strides, NaN where there is no rhythm or less than one stride of it on a side.

        Parameters
        ----------
        envelope : (bins, channels) rectified signal of consecutive bins.
        usable : (channels,) which of them may be used.
        at : (times,) bins at which the phase is wanted.
        """
        unknown = np.full(len(at), np.nan)
        usable = usable & (envelope.std(axis=0) > 0.0)
        period = self._period(envelope, usable) if usable.any() and len(envelope) > 2 * self._lags[-1] else None
        if period is None:
            return unknown
        inside = (at >= period) & (at < len(envelope) - period)
        # Two strides' worth are needed to place the channels.
        if np.ptp(at[inside]) < 2 * period if inside.any() else True:
            return unknown
        scaled = np.where(usable, (envelope - envelope.mean(axis=0)) / np.where(usable, envelope.std(axis=0), 1.0), 0.0)
        offsets = np.arange(-period, period + 1)
        kernel = (0.5 + 0.5 * np.cos(np.pi * offsets / period)) * np.exp(-2j * np.pi * offsets / period)
        turning = fftconvolve(scaled, kernel[::-1, None], mode="same", axes=0)[at[inside]]
        combined = self._combine(turning)
        unknown[inside] = np.unwrap(np.angle(combined)) / (2.0 * np.pi)
        return unknown

    def _period(self, envelope: NDArray[np.float64], usable: NDArray[np.bool_]) -> int | None:
        """Bins per stride from the channels' autocorrelation, the more rhythmic ones weighing more; None if none is."""
        width = max(1, round(SMOOTHING_S / self._bin_s))
        smooth = fftconvolve(envelope[:, usable], np.full((width, 1), 1.0 / width), mode="valid", axes=0)
        smooth = smooth - smooth.mean(axis=0)
        size = len(smooth)
        power = np.abs(np.fft.rfft(smooth, 2 * size, axis=0)) ** 2
        correlation = np.fft.irfft(power, axis=0)[: self._lags[-1] + 2]
        correlation *= (size / (size - np.arange(len(correlation))))[:, None]
        correlation /= np.maximum(correlation[0], np.finfo(float).tiny)
        weight = np.maximum(correlation[self._lags].max(axis=0), 0.0) ** 2
        if not weight.any():
            return None
        mean = correlation @ weight / weight.sum()
        here = mean[self._lags]
        peak = (here >= mean[self._lags - 1]) & (here >= mean[self._lags + 1]) & (here >= RHYTHM_MIN)
        if not peak.any():
            return None
        good = self._lags[peak & (here >= SHORTEST_OF_BEST * here[peak].max())]
        return int(good[0])

    def _combine(self, turning: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """(times,) one rotating number from (times, channels), and the channels' places learnt from it."""
        first = not self._place.any()
        if first:
            strongest = int(np.argmax(np.mean(np.abs(turning), axis=0)))
            self._place[strongest] = 1.0
        known = np.abs(turning[:, self._place != 0]).sum() > 0.0
        if not known:
            return np.full(len(turning), np.nan, dtype=complex)
        for _ in range(3 if first else 1):
            combined = turning @ np.conj(self._place)
            learnt = np.mean(turning * np.exp(-1j * np.angle(combined))[:, None], axis=0)
            heard = np.abs(turning).any(axis=0)
            gain = 1.0 if first else LEARNING
            self._place = np.where(heard, (1.0 - gain) * self._place + gain * learnt, self._place)
        return turning @ np.conj(self._place)
