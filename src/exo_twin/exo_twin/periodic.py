"""Smooth closed curves over the gait cycle, with their slope, fast to look up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Gait curves hold more than 99 % of their power in six harmonics (Winter 2009); eight keep knee and ankle sharp.
HARMONICS = 8
# Grid of the lookup tables; linear interpolation between its points errs by less than 1e-3 of the range.
GRID = 256


class Periodic:
    """A truncated Fourier series through one period of samples, with its derivatives."""

    def __init__(self, samples: FloatArray, harmonics: int) -> None:
        self.coefficients = np.fft.rfft(samples)[: harmonics + 1] / len(samples)
        self.coefficients[1:] *= 2.0

    @classmethod
    def from_curve(cls, curve: FloatArray, harmonics: int) -> Periodic:
        """Of a gait curve of 0..100 %, whose ends may differ by measurement noise: the gap is spread evenly."""
        gap = curve[-1] - curve[0]
        closed = curve - gap * (np.linspace(0.0, 1.0, len(curve)) - 0.5)
        return cls(closed[:-1], harmonics)

    def low_pass(self, cutoff: float) -> None:
        """Attenuate like a 4th-order zero-lag Butterworth filter with its cut-off at this harmonic."""
        k = np.arange(len(self.coefficients))
        self.coefficients /= 1.0 + (k / cutoff) ** 4

    def __call__(self, phase: FloatArray, period: float = 1.0, derivative: int = 0) -> FloatArray:
        """Value, or a time derivative, at `phase` (any shape) for a period in s; 1 gives slopes in phase."""
        k = np.arange(len(self.coefficients))
        factor = (2j * np.pi * k / period) ** derivative
        return np.real(np.exp(2j * np.pi * phase[..., None] * k) @ (self.coefficients * factor))


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
    mean, rms : average and root mean square over the cycle.
    """

    def __init__(self, values: FloatArray, harmonics: int = HARMONICS) -> None:
        series = Periodic.from_curve(np.asarray(values, dtype=float), harmonics)
        grid = np.arange(GRID) / GRID
        self.table: FloatArray = series(grid)
        self.slope: FloatArray = series(grid, derivative=1)
        self.mean = float(series.coefficients[0].real)
        self.rms = float(np.sqrt(np.mean(self.table**2)))
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
