"""Robust straight lines through slow measurements, with honest intervals.

Slope: Theil-Sen, the median of all pairwise slopes; three values in ten may be
wild. Intervals: the residuals of successive windows are related, so the number
of independent values is reduced as for a first-order autoregression,
n (1 - rho) / (1 + rho), with rho corrected for the bias that detrending gives it
(Marriott & Pope 1954; Santer et al. 2000 for the reduction).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

CONFIDENCE = 0.95
# Two parameters are fitted; with fewer values than this nothing is left to judge them by.
VALUES_MIN = 4
# Median absolute deviation to standard deviation, for normal residuals.
MAD_TO_SD = 1.4826
# Standard error of Theil-Sen's slope over that of least squares, for normal residuals (Sen 1968).
THEIL_SEN_LOSS = math.sqrt(math.pi / 3.0)
# Residuals are bounded for the autocorrelation, in standard deviations, so that one wild value does not hide it.
BOUND_SD = 3.0


@dataclasses.dataclass(frozen=True)
class Line:
    """value = level + slope (time - centre), with what is needed for intervals.

    Parameters
    ----------
    spread : sum of squared distances of the times from their centre.
    residual_sd : standard deviation of one value about the line.
    independent : number of independent values.
    """

    centre: float
    level: float
    slope: float
    spread: float
    residual_sd: float
    values: int
    independent: float

    @property
    def quantile(self) -> float:
        """Student's t for the two-sided interval."""
        return float(stdtrit(max(1.0, self.independent - 2.0), 0.5 + 0.5 * CONFIDENCE))

    @property
    def _single_se(self) -> float:
        return THEIL_SEN_LOSS * self.residual_sd * math.sqrt(self.values / self.independent)

    @property
    def slope_half_width(self) -> float:
        """Half of the confidence interval of the slope."""
        return self.quantile * self._single_se / math.sqrt(self.spread)

    def at(self, time: float) -> float:
        """Value of the line at a time."""
        return self.level + self.slope * (time - self.centre)

    def standard_error_at(self, time: float) -> float:
        """Standard error of the line at a time."""
        return self._single_se * math.sqrt(1.0 / self.values + (time - self.centre) ** 2 / self.spread)


def robust_line(times: NDArray[np.float64], values: NDArray[np.float64]) -> Line | None:
    """Line through (n,) values at (n,) rising times; NaN values are left out; None when too few remain."""
    use = np.isfinite(values)
    t, v = times[use], values[use]
    n = len(t)
    if n < VALUES_MIN:
        return None
    earlier, later = np.triu_indices(n, 1)
    slope = float(np.median((v[later] - v[earlier]) / (t[later] - t[earlier])))
    centre = float(t.mean())
    flat = v - slope * (t - centre)
    level = float(np.median(flat))
    residual = flat - level
    # Two parameters fitted: the deviations are smaller than the errors.
    sd = MAD_TO_SD * float(np.median(np.abs(residual))) * math.sqrt(n / (n - 2.0))
    return Line(centre, level, slope, float(np.sum((t - centre) ** 2)), sd, n, _independent(residual, sd))


def change(first: Line, start: float, last: Line, end: float) -> tuple[float, float]:
    """Change from one line's value at `start` to another's at `end`, and half of its confidence interval.

    The two lines must come from different values.
    """
    se = math.hypot(first.standard_error_at(start), last.standard_error_at(end))
    return last.at(end) - first.at(start), max(first.quantile, last.quantile) * se


def _independent(residual: NDArray[np.float64], sd: float) -> float:
    n = len(residual)
    bounded = np.clip(residual, -BOUND_SD * sd, BOUND_SD * sd)
    bounded = bounded - bounded.mean()
    power = float(np.sum(bounded**2))
    if power <= 0.0:
        return float(n)
    raw = float(np.sum(bounded[1:] * bounded[:-1])) / power
    rho = min(max(0.0, raw + (2.0 + 4.0 * raw) / n), 0.95)
    return max(3.0, n * (1.0 - rho) / (1.0 + rho))
