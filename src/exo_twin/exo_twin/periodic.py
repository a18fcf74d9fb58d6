"""Smooth closed curves over the gait cycle, with their slope, fast to look up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Gait curves hold more than 99 % of their power in six harmonics (Winter 2009); eight keep knee and ankle sharp.
HARMONICS = 8
# Grid of the lookup tables; linear interpolation between its points errs by less than 1e-3 of the range.
GRID = 256


class PeriodicCurve:
    """A curve over phase [0, 1), closed and smoothed by its first harmonics.

    Parameters
    ----------
    values : (n,) samples over 0..100 % of the cycle, the last one the same instant
        as the first of the next cycle. A gap between the two is spread over the cycle.
    harmonics : how many to keep.

    Attributes
    ----------
    table : (GRID,) values on phase k / GRID.
    slope : (GRID,) derivative with respect to phase.
    mean : average over the cycle.
    """

    def __init__(self, values: FloatArray, harmonics: int = HARMONICS) -> None:
        values = np.asarray(values, dtype=float)
        n = len(values) - 1
        gap = values[-1] - values[0]
        closed = values[:-1] - gap * (np.arange(n) / n - 0.5)
        spectrum = np.fft.rfft(closed) / n
        harmonics = min(harmonics, len(spectrum) - 1)
        order = np.arange(harmonics + 1)
        weight = np.where(order == 0, 1.0, 2.0) * spectrum[: harmonics + 1]
        turns = np.exp(2j * np.pi * np.outer(np.arange(GRID) / GRID, order))
        self.table: FloatArray = (turns @ weight).real
        self.slope: FloatArray = (turns @ (2j * np.pi * order * weight)).real
        self.mean = float(spectrum[0].real)
        self._table = [*self.table.tolist(), float(self.table[0])]
        self._slope = [*self.slope.tolist(), float(self.slope[0])]

    def at(self, phase: float) -> tuple[float, float]:
        """Value and slope with respect to phase, at any phase."""
        place = (phase % 1.0) * GRID
        index = min(int(place), GRID - 1)
        share = place - index
        table, slope = self._table, self._slope
        return (
            table[index] + share * (table[index + 1] - table[index]),
            slope[index] + share * (slope[index + 1] - slope[index]),
        )
