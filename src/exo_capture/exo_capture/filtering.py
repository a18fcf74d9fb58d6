"""Filling short gaps and removing jitter, inside what was measured and never beyond it."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.signal import butter, sosfiltfilt

MAX_GAP_S = 0.2  # longer gaps hide a whole swing of the knee and stay gaps
CUTOFF_HZ = 6.0  # usual for walking markers (Winter, Biomechanics and Motor Control of Human Movement)
ORDER = 4
# A filter run forwards and backwards lowers the cut-off; the design frequency is raised to make up (Winter).
ZERO_PHASE_CORRECTION = (2.0**0.5 - 1.0) ** (-1.0 / ORDER)
PADDING_S = 0.5


def fill_gaps(series: NDArray[np.float64], rate_hz: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Interpolate gaps of at most MAX_GAP_S in each column; the ends are left as they are.

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
        gaps = [(a, b) for a, b in itertools.pairwise(known) if 1 < b - a <= longest + 1]
        curve = PchipInterpolator(known, series[known, column])
        for a, b in gaps:
            filled[a + 1 : b, column] = curve(np.arange(a + 1, b))
            added[a + 1 : b, column] = True
    return filled, added


def smooth(series: NDArray[np.float64], rate_hz: float, cutoff_hz: float = CUTOFF_HZ) -> NDArray[np.float64]:
    """Zero-phase Butterworth low-pass of each uninterrupted stretch of each column of (n, k); NaN stays NaN."""
    sections = butter(ORDER // 2, cutoff_hz * ZERO_PHASE_CORRECTION, fs=rate_hz, output="sos")
    result = series.copy()
    for column in range(series.shape[1]):
        for stretch in stretches(np.isfinite(series[:, column])):
            padding = min(len(stretch) - 1, round(PADDING_S * rate_hz))
            if padding > 0:
                result[stretch, column] = sosfiltfilt(sections, series[stretch, column], padlen=padding)
    return result


def stretches(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The index runs of a mask (n,) that are True throughout."""
    index = np.flatnonzero(mask)
    return [run for run in np.split(index, np.flatnonzero(np.diff(index) > 1) + 1) if len(run)]
