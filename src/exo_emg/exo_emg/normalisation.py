"""What a channel reads at full effort, from a contraction of full effort or from the peaks of moving.

Both work on the envelope in V as the processing chain makes it: a maximum belongs to its chain.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

# A contraction of full effort counts when it was held this long (SENIAM asks for a plateau of half a second or more).
HOLD_S = 0.5
# Stretches that read this share of the best one belong to the same effort: the envelope's median over half a second
# jitters by some 5 % at a steady effort, and the best of many is not what the effort reads.
SAME_EFFORT = 0.85
# The peak of moving: a percentile that one artefact in a hundred cannot reach.
PEAK_PERCENTILE = 99.0
# Percentile of moving needs several strides.
MOVING_LEAST_S = 5.0
# A maximum belongs to its band, and the band to the sampling rate; a small difference does not matter.
RATE_OFF_SHARE = 0.1
# While running: the floor is this quantile of everything, activity what exceeds it by a factor. An envelope of mere
# noise, at rest, spends 1 % above that and never reaches the factor that the peak must; walking exceeds it fivefold.
FLOOR_SHARE, ACTIVE_OF_FLOOR, PEAK_OF_FLOOR = 0.05, 2.0, 4.0
# Quantile of the activity; of a muscle that works for 40 % of the stride, PEAK_PERCENTILE of everything.
ACTIVE_SHARE, ACTIVE_LEAST_S = 0.975, 1.0
# Bins of the running percentile: 1 % wide, from below an amplifier's noise to above any muscle.
LOWEST_V, HIGHEST_V, BIN_RATIO = 1e-8, 1e-1, 1.01


def held_maximum(envelope_v: NDArray[np.float64], rate_hz: float, hold_s: float = HOLD_S) -> NDArray[np.float64]:
    """Largest envelope that was held: the middle of all medians over `hold_s` that come near the best one.

    Parameters
    ----------
    envelope_v : (n, channels) V.

    Returns
    -------
    (channels,) V.

    Raises
    ------
    ExoError : if the recording is shorter than the hold.
    """
    n = max(1, round(hold_s * rate_hz))
    if len(envelope_v) < n:
        raise ExoError(
            f"{len(envelope_v) / rate_hz:.2f} s of EMG are too short for a maximum held for {hold_s} s; record longer"
        )
    windows = np.lib.stride_tricks.sliding_window_view(envelope_v, n, axis=0)
    # A tenth of a window apart is close enough and a tenth of the work.
    medians = np.median(windows[:: max(1, n // 10)], axis=-1)
    held: NDArray[np.float64] = np.nanmedian(
        np.where(medians >= SAME_EFFORT * medians.max(axis=0), medians, np.nan), axis=0
    )
    return held


def dynamic_peak(
    envelope_v: NDArray[np.float64], rate_hz: float, percentile: float = PEAK_PERCENTILE
) -> NDArray[np.float64]:
    """Robust peak of the envelope over moving, where full effort cannot be asked for.

    Parameters
    ----------
    envelope_v : (n, channels) V; NaN is left out.

    Returns
    -------
    (channels,) V.

    Raises
    ------
    ExoError : if it is too short, or a channel holds no number at all.
    """
    if len(envelope_v) < MOVING_LEAST_S * rate_hz:
        raise ExoError(
            f"{len(envelope_v) / rate_hz:.1f} s of EMG are too short for a peak of walking; record several strides, "
            f"at least {MOVING_LEAST_S:.0f} s"
        )
    empty = ~np.isfinite(envelope_v).any(axis=0)
    if empty.any():
        raise ExoError(f"EMG channel {int(np.argmax(empty)) + 1} holds no number; check its electrode and record again")
    peak: NDArray[np.float64] = np.nanpercentile(envelope_v, percentile, axis=0)
    return peak


class DynamicPeak:
    """The robust peak of activity so far, frame by frame, in constant memory.

    No peak is known before the channel rose clearly above its floor for some time, so somebody who rests is not
    called active. It follows everything since the start: the first strides after it is known still
    move it, an early artefact weighs less and less, and who only shifts weight before walking is read too high until
    there was more walking than that.
    """

    def __init__(self, channels: int, rate_hz: float) -> None:
        self._rate = rate_hz
        self._counts = np.zeros((math.ceil(math.log(HIGHEST_V / LOWEST_V) / math.log(BIN_RATIO)), channels))
        self._channels = np.arange(channels)

    def add(self, envelope_v: NDArray[np.float64], valid: NDArray[np.bool_]) -> None:
        """Take in an (n, channels) envelope, V, of the channels that are (channels,) valid."""
        with np.errstate(divide="ignore"):
            place = np.log(np.maximum(envelope_v, LOWEST_V) / LOWEST_V) / math.log(BIN_RATIO)
        rows = np.minimum(place.astype(int), len(self._counts) - 1)
        columns = np.broadcast_to(self._channels, rows.shape)
        np.add.at(self._counts, (rows[:, valid], columns[:, valid]), 1.0)

    def peak_v(self) -> NDArray[np.float64]:
        """(channels,) V; NaN for a channel that has not been active for long enough."""
        below = np.cumsum(self._counts, axis=0)
        total = below[-1]
        floor = np.argmax(below >= FLOOR_SHARE * total, axis=0)
        active_from = np.minimum(floor + round(math.log(ACTIVE_OF_FLOOR) / math.log(BIN_RATIO)), len(below) - 1)
        resting = below[active_from, self._channels]
        rank = np.argmax(below >= resting + ACTIVE_SHARE * (total - resting), axis=0)
        known = (total >= MOVING_LEAST_S * self._rate) & (total - resting >= ACTIVE_LEAST_S * self._rate)
        known &= BIN_RATIO ** (rank - floor) >= PEAK_OF_FLOOR
        return np.where(known, LOWEST_V * BIN_RATIO ** (rank + 0.5), np.nan)
