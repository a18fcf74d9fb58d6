"""Lost samples seen in time stamps: a stream without a counter tells them only by gaps.

Stamps of some senders are regular to the microsecond, of others as unsteady as
their scheduler. Unsteadiness is made good again by the stamps that follow, loss
never is; so the smallest gap that counts as loss is twice of what the same
stream's stamps lately came back after running ahead, and half a sample at least.
The first block must be long enough to show it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A first block of this length shows how unsteady a stream is.
LEARNING_S = 0.2
# Unsteadiness is forgotten with the longer time constant, how far ahead the stamps once were with the shorter.
MEMORY_S, AHEAD_MEMORY_S = 10.0, 1.0
# A rate that differs from the nominal one by some hundred ppm looks like this much unsteadiness.
DRIFT_SAMPLES = 0.5
# Stamps cannot run ahead of the time that passed here by more than this: their clock was set.
CLOCK_SET_S = 1.0


class StampCounter:
    """Counts the samples of one stream by their stamps.

    Attributes
    ----------
    clock_sets : times that the sender's clock was set, ahead or back.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate = rate_hz
        self._count = 0
        self._last: tuple[float, float] | None = None
        self._unsteady = self._ahead = 0.0
        self.clock_sets = 0

    def count(self, stamps: NDArray[np.float64], arrived: float) -> NDArray[np.int64]:
        """Count (n,) of the samples with these stamps, s; lost ones are skipped.

        Parameters
        ----------
        stamps : (n,) sender's clock, n >= 1.
        arrived : receiver's clock, s.
        """
        first = stamps[0] - 1.0 / self._rate if self._last is None else self._last[0]
        passed = 0.0 if self._last is None else arrived - self._last[1]
        missing = np.diff(np.r_[first, stamps]) * self._rate - 1.0
        tolerance = CLOCK_SET_S * self._rate
        was_set = (missing > passed * self._rate + tolerance) | (missing < -tolerance)
        self.clock_sets += int(np.count_nonzero(was_set))
        missing[was_set] = 0.0
        place = np.cumsum(missing)
        furthest = np.maximum.accumulate(np.maximum(place, self._ahead))
        duration_s = len(stamps) / self._rate
        self._unsteady *= float(np.exp(-duration_s / MEMORY_S))
        self._unsteady = max(self._unsteady, float((furthest - place).max()) - DRIFT_SAMPLES)
        self._ahead = float(furthest[-1] - place[-1]) * float(np.exp(-duration_s / AHEAD_MEMORY_S))
        threshold = max(0.5, 2.0 * self._unsteady)
        lost = np.where(missing > threshold, np.rint(missing), 0.0).astype(np.int64)
        index = self._count + np.arange(len(stamps)) + np.cumsum(lost)
        self._count = int(index[-1]) + 1
        self._last = (float(stamps[-1]), arrived)
        return index
