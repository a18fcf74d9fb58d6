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
# Two parameters are fitted: fewer values than this leave too little to judge their scatter by.
VALUES_MIN = 8
# Median absolute deviation to standard deviation, for normal residuals.
MAD_TO_SD = 1.4826
# Standard error of Theil-Sen's slope over that of least squares, for normal residuals (Sen 1968).
THEIL_SEN_LOSS = math.sqrt(math.pi / 3.0)
# Residuals are bounded for the autocorrelation, in standard deviations, so that one wild value does not hide it.
BOUND_SD = 3.0
# At least this part of the values counts as independent; a stronger relation could not be told from a trend.
INDEPENDENT_MIN = 0.05


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its standard error and the degrees of freedom behind that."""

    value: float
    standard_error: float
    freedom: float

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """Half of the two-sided confidence interval."""
        return float(stdtrit(self.freedom, 0.5 + 0.5 * confidence)) * self.standard_error


@dataclasses.dataclass(frozen=True, eq=False)
class Line:
    """value = level + slope (time - centre), with what is needed for intervals.

    Parameters
    ----------
    spread : sum of squared distances of the times from their centre.
    residuals : (n,) of the values, in order of time.
    """

    centre: float
    level: float
    slope: float
    spread: float
    residuals: NDArray[np.float64]

    def at(self, time: float) -> float:
        """Value of the line at a time."""
        return self.level + self.slope * (time - self.centre)

    def slope_estimate(self) -> Estimate:
        """The slope and how well it is known."""
        error, freedom = _scatter([self.residuals])
        return Estimate(self.slope, error / math.sqrt(self.spread), freedom)

    def leverage(self, time: float) -> float:
        """Variance of the line at a time, in variances of one independent value."""
        return 1.0 / len(self.residuals) + (time - self.centre) ** 2 / self.spread


def robust_line(times: NDArray[np.float64], values: NDArray[np.float64]) -> Line | None:
    """Line through (n,) values at (n,) rising times; NaN values are left out; None when too few remain."""
    use = np.isfinite(values)
    t, v = times[use], values[use]
    if len(t) < VALUES_MIN:
        return None
    earlier, later = np.triu_indices(len(t), 1)
    slope = float(np.median((v[later] - v[earlier]) / (t[later] - t[earlier])))
    centre = float(t.mean())
    flat = v - slope * (t - centre)
    level = float(np.median(flat))
    return Line(centre, level, slope, float(np.sum((t - centre) ** 2)), flat - level)


def change(first: Line, start: float, last: Line, end: float) -> Estimate:
    """Change from one line's value at `start` to another's at `end`.

    The two lines must come from different values, which scatter alike.
    """
    error, freedom = _scatter([first.residuals, last.residuals])
    error *= math.sqrt(first.leverage(start) + last.leverage(end))
    return Estimate(last.at(end) - first.at(start), error, freedom)


def _scatter(residuals: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Standard error of one value, as if the values were independent, and its degrees of freedom."""
    together = np.concatenate(residuals)
    n, fitted = len(together), 2 * len(residuals)
    # The fitted lines follow the values: deviations from them are smaller than the errors.
    sd = MAD_TO_SD * float(np.median(np.abs(together))) * math.sqrt(n / (n - fitted))
    bounded = [np.clip(part, -BOUND_SD * sd, BOUND_SD * sd) for part in residuals]
    bounded = [part - part.mean() for part in bounded]
    power = sum(float(part @ part) for part in bounded)
    raw = sum(float(part[1:] @ part[:-1]) for part in bounded) / power if power > 0.0 else 0.0
    rho = max(0.0, raw + (2.0 + 4.0 * raw) * len(residuals) / n)
    independent = max(INDEPENDENT_MIN, (1.0 - rho) / (1.0 + rho))
    return THEIL_SEN_LOSS * sd / math.sqrt(independent), max(1.0, independent * n - fitted)
