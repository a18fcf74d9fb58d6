"""Dimensionless muscle curves as evenly spaced tables, evaluated for all muscles and frames at once."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Curves:
    """One curve per muscle; muscles that share a curve share a row.

    Attributes
    ----------
    start, step : where the table begins and how far its points lie apart.
    value, slope : (rows, points) at the points; a cubic between them, a straight line beyond the ends.
    row : (m,) the row of each muscle.
    """

    start: float
    step: float
    value: FloatArray
    slope: FloatArray
    row: NDArray[np.int64]

    @cached_property
    def _cells(self) -> FloatArray:
        """(rows * (points - 1), 4): cubics in the fraction of a cell, constant term first."""
        y0, y1 = self.value[:, :-1], self.value[:, 1:]
        d0, d1 = self.step * self.slope[:, :-1], self.step * self.slope[:, 1:]
        cubic = np.stack([y0, d0, 3.0 * (y1 - y0) - 2.0 * d0 - d1, 2.0 * (y0 - y1) + d0 + d1], axis=-1)
        return np.ascontiguousarray(cubic.reshape(-1, 4))

    def at(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Value and slope (n, m) of every muscle's curve at (n, m)."""
        cells = self.value.shape[1] - 1
        place = (x - self.start) / self.step
        inside = np.minimum(np.maximum(place, 0.0), cells)
        cell = np.minimum(inside.astype(np.int64), cells - 1)
        t = inside - cell
        cubic = self._cells[cell + self.row * cells]
        a, b, c, d = cubic[..., 0], cubic[..., 1], cubic[..., 2], cubic[..., 3]
        slope = b + t * (2.0 * c + t * 3.0 * d)
        return a + t * (b + t * (c + t * d)) + slope * (place - inside), slope / self.step

    def of(self, muscles: NDArray[np.int64]) -> Curves:
        """The curves of some of the muscles."""
        return dataclasses.replace(self, row=self.row[muscles])
