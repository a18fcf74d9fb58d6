"""Filling short gaps and removing jitter, inside what was measured and never beyond it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from exo_common.opensim_files import Markers

MAX_GAP_S = 0.25  # half a swing; a longer gap could hide the peak of the knee and stays a gap
CUTOFF_HZ = 6.0  # usual for walking markers (Winter, Biomechanics and Motor Control of Human Movement)
ORDER = 4
# A filter run forwards and backwards lowers the cut-off; the design frequency is raised to make up (Winter).
ZERO_PHASE_CORRECTION = (2.0**0.5 - 1.0) ** (-1.0 / ORDER)
SUPPORT = 5  # samples on each side of a gap
FILL_ORDER = 3
PADDING_S = 0.5


def fill_gaps(series: NDArray[np.float64], rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Interpolate gaps of at most MAX_GAP_S in each column; the ends are left as they are.

    A cubic is fitted to the samples on both sides of a gap: unlike a monotone
    curve it keeps a peak inside the gap, unlike a spline it does not follow noise.

    Parameters
    ----------
    series : (n, k), NaN where missing.

    Returns
    -------
    The filled series, and (n, k) True where a value was interpolated.
    """
    filled, added = series.copy(), np.zeros(series.shape, dtype=bool)
    longest = round(MAX_GAP_S * rate_hz)
    for column in range(series.shape[1]):
        known = np.flatnonzero(np.isfinite(series[:, column]))
        if len(known) < 2:
            continue
        for i, (a, b) in enumerate(itertools.pairwise(known)):
            if 1 < b - a <= longest + 1:
                near = known[max(0, i + 1 - SUPPORT) : i + 1 + SUPPORT]
                curve = np.polyfit(near - a, series[near, column], min(FILL_ORDER, len(near) - 1))
                filled[a + 1 : b, column] = np.polyval(curve, np.arange(1, b - a))
                added[a + 1 : b, column] = True
    return filled, added


def smooth(series: NDArray[np.float64], rate_hz: float, cutoff_hz: float = CUTOFF_HZ) -> NDArray[np.float64]:
    """Zero-phase Butterworth low-pass of each uninterrupted stretch of each column of (n, k); NaN stays NaN."""
    # The bilinear transform bends frequencies as tan(); the correction holds on the bent axis.
    design = np.arctan(np.tan(np.pi * cutoff_hz / rate_hz) * ZERO_PHASE_CORRECTION) * rate_hz / np.pi
    sections = butter(ORDER // 2, design, fs=rate_hz, output="sos")
    result = series.copy()
    for column in range(series.shape[1]):
        for stretch in stretches(np.isfinite(series[:, column])):
            padding = min(len(stretch) - 1, round(PADDING_S * rate_hz))
            if padding > 0:
                result[stretch, column] = sosfiltfilt(sections, series[stretch, column], padlen=padding)
    return result


def smooth_markers(markers: Markers) -> Markers:
    """Markers low-passed by `smooth`."""
    flat = smooth(markers.position.reshape(len(markers.time), -1), markers.rate_hz)
    return dataclasses.replace(markers, position=flat.reshape(markers.position.shape))


def stretches(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The index runs of a mask (n,) that are True throughout."""
    index = np.flatnonzero(mask)
    return [run for run in np.split(index, np.flatnonzero(np.diff(index) > 1) + 1) if len(run)]
