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
# What counts as a line in one window, over its neighbours: chance alone gives one in fifty, and three bins do no harm.
LINE_FACTOR = 5.0
# Over half-overlapping windows the factors' geometric mean is taken, which bursts of muscle do not sway. Without a line
# it is 0.7, times or over 1.4 after the least number of windows (simulated): 4 lies five standard deviations off.
# Hum of a fourteenth of the muscle's power reaches it.
MEAN_FACTOR = 4.0
WINDOWS_LEAST = 12
# What a new window weighs in the running mean once there are enough: it follows within some twelve windows.
FORGET = 0.08
# A recording too short for that: in its one periodogram, a line is the bins this near (Hz) and above the neighbours'
# mean by this factor. Chance gives less than one in a million.
SHORT_HALF_WIDTH_HZ, SHORT_FACTOR = 0.6, 20.0


def without_lines(power: NDArray[np.float64], high_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A spectrum with the mains and its harmonics taken down to their neighbours, and the power that was taken.

    Only lines that stand out count; of 50 and 60 Hz the one with more power on all channels is meant.

    Parameters
    ----------
    power : (bins, channels) power per bin of 1 Hz, bin k at k Hz, V^2.
    high_hz : upper edge of the band.

    Returns
    -------
    (bins, channels) V^2 and (channels,) V^2.
    """
    cleaned = {mains_hz: _without(power, mains_hz, high_hz) for mains_hz in MAINS_HZ}
    return max(cleaned.values(), key=lambda each: float(each[1].sum()))


def _without(
    power: NDArray[np.float64], mains_hz: float, high_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    clean, taken = power.copy(), np.zeros(power.shape[1])
    last = min(high_hz, len(power) - 1 - NEIGHBOUR_HZ[1])
    for line in np.arange(mains_hz, last + 0.5, mains_hz):
        own, around = _line_and_neighbours(clean, line)
        floor = np.median(around, axis=0) / MEDIAN_OF_POWER
        above = own - floor
        stands_out = own.mean(axis=0) > LINE_FACTOR * floor
        taken += np.where(stands_out, np.maximum(above, 0.0).sum(axis=0), 0.0)
        # `own` is a view: this writes into the copy.
        own[:, stands_out] = np.minimum(own, floor)[:, stands_out]
    return clean, taken


def _line_and_neighbours(power: NDArray[np.float64], line_hz: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre, half = round(line_hz), int(LINE_HALF_WIDTH_HZ)
    near, far = (int(edge) for edge in NEIGHBOUR_HZ)
    around = np.concatenate([power[centre - far : centre - near + 1], power[centre + near : centre + far + 1]])
    return power[centre - half : centre + half + 1], around


class MainsDetector:
    """Says 50 or 60 once a line stands out of enough windows, on any channel; 0 until then."""

    def __init__(self) -> None:
        self._mean: dict[float, NDArray[np.float64]] = {}
        self._windows = 0

    @property
    def enough(self) -> bool:
        """Whether there were windows enough to tell."""
        return self._windows >= WINDOWS_LEAST

    def add(self, power: NDArray[np.float64]) -> float:
        """Take in the (bins, channels) power of one window (bins of 1 Hz); returns the mains frequency, Hz, or 0."""
        self._windows += 1
        share = max(FORGET, 1.0 / self._windows)
        tiny = np.finfo(float).tiny
        for mains_hz in MAINS_HZ:
            own, around = _line_and_neighbours(power, mains_hz)
            floor = np.median(around, axis=0) / MEDIAN_OF_POWER
            # A dead channel has neither line nor floor.
            factor = np.log(np.where(floor > tiny, own.mean(axis=0) / np.maximum(floor, tiny), 1.0))
            self._mean[mains_hz] = (1.0 - share) * self._mean.get(mains_hz, factor) + share * factor
        if not self.enough:
            return 0.0
        best = max(MAINS_HZ, key=lambda hz: float(self._mean[hz].max()))
        return best if self._mean[best].max() >= np.log(MEAN_FACTOR) else 0.0


def mains_of_short(samples: NDArray[np.float64], sampling_rate_hz: float) -> float:
    """Mains frequency, Hz, that stands out of one periodogram of (n, channels) samples, V, on any channel; else 0."""
    n = len(samples)
    power = np.abs(np.fft.rfft((samples - samples.mean(axis=0)) * np.hanning(n)[:, None], axis=0)) ** 2
    frequency = np.fft.rfftfreq(n, 1.0 / sampling_rate_hz)
    near, far = NEIGHBOUR_HZ
    found = {}
    for mains_hz in MAINS_HZ:
        distance = np.abs(frequency - mains_hz)
        own, around = power[distance <= SHORT_HALF_WIDTH_HZ], power[(distance >= near) & (distance <= far)]
        if len(own) and len(around):
            floor = np.maximum(np.median(around, axis=0) / MEDIAN_OF_POWER, np.finfo(float).tiny)
            found[mains_hz] = float((own.max(axis=0) / floor).max())
    best = max(found, key=lambda hz: found[hz], default=0.0)
    return best if found.get(best, 0.0) >= SHORT_FACTOR else 0.0
