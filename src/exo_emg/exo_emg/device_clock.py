"""A device's sample count against the clock of the host: when each sample was acquired, and how fast the device is.

What the host sees is when samples *arrived*: never before they were acquired,
late by transmission, buffering and scheduling. The earliest arrivals lie on the
line of the true times, the rest above it, so the line is fitted to the lower
envelope: the edge of the lower convex hull below the middle of the data, which
minimises the mean height above the line with no arrival below it (Moon, Skelly &
Towsley 1999). Where a device measures acquisition times with an error either
way, the line is the least-squares one.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S

# One point of the fit stands for this much host time; the fit looks back over a minute, so it follows the
# crystal's temperature, and believes its slope once it has seen ten seconds.
BUCKET_NS = NS_PER_S // 2
BUCKETS = 120
DRIFT_MIN_NS = 10 * NS_PER_S
# A step of the host's own clock; NTP slews at 0.5 ms per second at the most, a few microseconds between two looks.
HOST_STEP_NS = 5_000_000
PPM = 1e6


class HostClock:
    """The host's monotonic clock expressed in the system time that ROS stamps with; steps of the latter are counted."""

    def __init__(
        self, monotonic: Callable[[], int] = time.monotonic_ns, system: Callable[[], int] = time.time_ns
    ) -> None:
        self._monotonic, self._system = monotonic, system
        self.steps = 0
        self._offset = self._measure()

    def now_ns(self) -> int:
        """The monotonic clock, ns."""
        return self._monotonic()

    def look(self) -> None:
        """Follow the system clock: its slewing quietly, a step at once and counted."""
        offset = self._measure()
        self.steps += abs(offset - self._offset) > HOST_STEP_NS
        self._offset = offset

    def to_system(self, monotonic_ns: float) -> int:
        """System time of an instant of the monotonic clock, ns."""
        return round(monotonic_ns) + self._offset

    def _measure(self) -> int:
        """System time minus monotonic time; of three looks the one that was interrupted least."""
        looks = []
        for _ in range(3):
            before, system, after = self._monotonic(), self._system(), self._monotonic()
            looks.append((after - before, system - (before + after) // 2))
        return min(looks)[1]


class ExactClock:
    """For devices whose stamps are acquisition times already: they are passed on."""

    drift_ppm: float | None = None
    jitter_ms = 0.0

    def __init__(self, rate_hz: float) -> None:
        self._period = NS_PER_S / rate_hz
        self._stamps: deque[tuple[int, int, int]] = deque(maxlen=2)

    def add(self, first: int, last: int, stamp_ns: int) -> None:
        """Samples `first` to `last` came, the last of them acquired at `stamp_ns`."""
        self._stamps.append((first, last, stamp_ns))

    def at(self, index: int) -> float:
        """Acquisition time of a sample of one of the last two readings, ns."""
        _, last, stamp = next((s for s in self._stamps if s[0] <= index <= s[1]), self._stamps[-1])
        return stamp + round((index - last) * self._period)

    def excess_ns(self) -> float:
        """Nothing is ever in excess of an exact clock."""
        return 0.0


class DeviceClock:
    """Running fit of host time = offset + index * period.

    Parameters
    ----------
    rate_hz : nominal sampling rate, Hz.
    one_sided : stamps are arrivals, never early; otherwise they err either way.
    drift_ppm : what is known of the device's rate from before, ppm fast against the host; None if nothing.
    """

    def __init__(self, rate_hz: float, one_sided: bool, drift_ppm: float | None = None) -> None:
        self._nominal = NS_PER_S / rate_hz
        self._one_sided = one_sided
        self._origin: tuple[int, int] | None = None
        # (Index, residual to the nominal line through the origin): one per closed bucket, and all of the open one.
        self._points: deque[tuple[float, float]] = deque(maxlen=BUCKETS)
        self._open: list[tuple[float, float]] = []
        self._open_since = 0
        self._slope = -(drift_ppm or 0.0) / PPM * self._nominal
        self._offset = 0.0
        self._excess: deque[float] = deque(maxlen=2)
        self._heights: deque[float] = deque(maxlen=2000)
        self.drift_ppm = drift_ppm

    def add(self, first: int, last: int, stamp_ns: int) -> None:
        """Samples `first` to `last` came; `stamp_ns` (host's monotonic clock) belongs to the last."""
        if self._origin is None:
            self._origin = (last, stamp_ns)
            self._open_since = stamp_ns
        x = float(last - self._origin[0])
        residual = stamp_ns - self._origin[1] - x * self._nominal
        if self._open and stamp_ns - self._open_since >= BUCKET_NS:
            self._close(stamp_ns)
        self._open.append((x, residual))
        height = residual - self._offset - self._slope * x
        self._heights.append(height)
        if self._one_sided:
            self._offset += min(0.0, height)
        elif not self._points:
            self._offset = float(np.mean([r - self._slope * x for x, r in self._open]))

    def at(self, index: int) -> float:
        """Acquisition time of a sample, ns of the host's monotonic clock."""
        assert self._origin is not None
        x = index - self._origin[0]
        return self._origin[1] + x * (self._nominal + self._slope) + self._offset

    @property
    def jitter_ms(self) -> float:
        """95th percentile of how far stamps lay from the line lately, ms: of arrivals, the varying delay."""
        return float(np.percentile(np.abs(self._heights), 95)) / 1e6 if self._heights else 0.0

    def excess_ns(self) -> float:
        """How far *all* of the last second lies beyond the line, ns; 0 while any of it is on it.

        Delays vary, so some arrivals of a second are prompt. If none is, the count is short or the device paused.
        """
        if len(self._excess) < 2 or self._excess[0] * self._excess[1] <= 0.0:
            return 0.0
        return min(self._excess, key=abs)

    def _close(self, now_ns: int) -> None:
        """Make one point of the open bucket and fit again."""
        if self._one_sided:
            point = min(self._open, key=lambda p: p[1] - self._slope * p[0])
        else:
            point = (float(np.mean([x for x, _ in self._open])), float(np.mean([r for _, r in self._open])))
        self._excess.append(point[1] - self._offset - self._slope * point[0])
        self._points.append(point)
        self._open = []
        self._open_since = now_ns
        x, r = np.array(self._points).T
        believed = (x[-1] - x[0]) * self._nominal >= DRIFT_MIN_NS
        if believed:
            self._slope = _hull_slope(x, r) if self._one_sided else float(np.polyfit(x - x.mean(), r, 1)[0])
            self.drift_ppm = -self._slope / (self._nominal + self._slope) * PPM
        heights = r - self._slope * x
        self._offset = float(heights.min() if self._one_sided else heights.mean())


def _hull_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Slope of the edge of the lower convex hull that lies below the mean of `x` (ascending)."""
    hull: list[tuple[float, float]] = []
    for px, py in zip(x.tolist(), y.tolist(), strict=True):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (px - hull[-2][0]) >= (py - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append((px, py))
    middle = float(x.mean())
    left, right = next((a, b) for a, b in itertools.pairwise(hull) if b[0] >= middle)
    return (right[1] - left[1]) / (right[0] - left[0])
