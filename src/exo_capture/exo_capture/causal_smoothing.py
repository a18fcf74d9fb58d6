"""Takes the jitter off values as they arrive, and no more delay than it must."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# One-Euro filter (Casiez, Roussel & Vogel 2012): a first-order low-pass whose cut-off rises with the speed, so
# that what rests does not tremble and what moves is not late.
MAX_GAP_S = 0.25  # after a longer absence a value starts afresh


class OneEuro:
    """The One-Euro filter on any number of values at once; a value may be missing (NaN) for a while.

    Parameters
    ----------
    cutoff_hz : of values at rest. A value moving at speed v is delayed by at most 1 / (2 pi (cutoff_hz + slope |v|)).
    slope : growth of the cut-off with the speed, Hz per (unit/s).
    speed_cutoff_hz : of the speed's own low-pass.
    """

    def __init__(self, cutoff_hz: float, slope: float, speed_cutoff_hz: float = 1.5) -> None:
        self._cutoff_hz, self._slope, self._speed_cutoff_hz = cutoff_hz, slope, speed_cutoff_hz
        self._value: NDArray[np.float64] | None = None
        self._speed: NDArray[np.float64] = np.empty(0)
        self._time: NDArray[np.float64] = np.empty(0)

    def step(self, values: NDArray[np.float64], time: float) -> NDArray[np.float64]:
        """Smoothed values, same shape; NaN where missing now. `time` in s; if it does not rise they start afresh."""
        if self._value is None:
            self._value, self._speed = values.copy(), np.zeros_like(values)
            self._time = np.full(values.shape, time)
            return values.copy()
        interval = time - self._time
        new = np.isfinite(values)
        fresh = new & (~np.isfinite(self._value) | (interval > MAX_GAP_S) | (interval <= 0.0))
        follow = new & ~fresh
        change = np.where(follow, values - self._value, 0.0)
        interval = np.where(follow, interval, 1.0)
        speed = self._speed + _share(self._speed_cutoff_hz, interval) * (change / interval - self._speed)
        cutoff = self._cutoff_hz + self._slope * np.abs(speed)
        self._value = np.where(
            fresh, values, np.where(follow, self._value + _share(cutoff, interval) * change, self._value)
        )
        self._speed = np.where(fresh, 0.0, np.where(follow, speed, self._speed))
        self._time = np.where(new, time, self._time)
        return np.where(new, self._value, np.nan)


def _share(cutoff_hz: NDArray[np.float64] | float, interval: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a change that a first-order low-pass lets through within `interval` s."""
    turn = 2.0 * np.pi * cutoff_hz * interval
    return turn / (turn + 1.0)
