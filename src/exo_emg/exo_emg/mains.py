"""Mains hum in a spectrum: how much of it, and whether it is 50 or 60 Hz."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAINS_HZ = (50.0, 60.0)
# Bins of 1 Hz that a mains line fills after a Hann window (its main lobe, and 0.2 Hz of wander), and the
# neighbours, clear of the line and of movement, that tell what would be there without it.
LINE_HALF_WIDTH_HZ = 1.5
NEIGHBOUR_HZ = (3.0, 9.0)
# Median of an exponentially distributed power is ln 2 of its mean.
MEDIAN_OF_POWER = float(np.log(2.0))
# A line this much above its neighbours, averaged over this many half-overlapping windows of a second, is no
# chance: chance reaches 4 in one of some ten thousand trials.
LINE_FACTOR = 5.0
WINDOWS_LEAST = 6
# What a new window weighs in the running mean once there are enough: it follows within some ten windows.
FORGET = 0.1


def line_power(power: NDArray[np.float64], mains_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Power of the mains and its harmonics above what their neighbours let expect.

    Parameters
    ----------
    power : (bins, channels) power per bin of 1 Hz, bin k at k Hz, V^2.
    high_hz : upper edge of the band.

    Returns
    -------
    (channels,) V^2.
    """
    total = np.zeros(power.shape[1])
    for line in np.arange(mains_hz, min(high_hz, len(power) - 1 - NEIGHBOUR_HZ[1]) + 0.5, mains_hz):
        own, around = _line_and_neighbours(power, line)
        total += np.maximum(0.0, own.sum(axis=0) - len(own) * np.median(around, axis=0) / MEDIAN_OF_POWER)
    return total


def _line_and_neighbours(power: NDArray[np.float64], line_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre, half = round(line_hz), int(LINE_HALF_WIDTH_HZ)
    near, far = (int(edge) for edge in NEIGHBOUR_HZ)
    around = np.concatenate([power[centre - far : centre - near + 1], power[centre + near : centre + far + 1]])
    return power[centre - half : centre + half + 1], around


class MainsDetector:
    """Says 50 or 60 once a line stands out of enough windows, on any channel; 0 until then."""

    def __init__(self) -> None:
        self._mean: NDArray[np.float64] | None = None
        self._windows = 0

    def add(self, power: NDArray[np.float64]) -> float:
        """Take in the (bins, channels) power of one window (bins of 1 Hz); returns the mains frequency, Hz, or 0."""
        self._windows += 1
        share = max(FORGET, 1.0 / self._windows)
        self._mean = power if self._mean is None else (1.0 - share) * self._mean + share * power
        if self._windows < WINDOWS_LEAST:
            return 0.0
        above = {}
        for mains_hz in MAINS_HZ:
            own, around = _line_and_neighbours(self._mean, mains_hz)
            floor = np.median(around, axis=0)
            factor = own.mean(axis=0) / np.where(floor > 0.0, floor, np.inf)
            above[mains_hz] = float(factor.max())
        best = max(above, key=lambda hz: above[hz])
        return best if above[best] >= LINE_FACTOR else 0.0
