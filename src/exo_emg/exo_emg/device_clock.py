"""A device's sample count against the clock of the host: when each sample was acquired, and how fast the device is.

What the host sees is when samples *arrived*: never before they were acquired,
late by transmission, buffering and scheduling. The earliest arrivals lie on the
line of the true times, the rest above it, so the line is fitted to the lower
envelope: the edge of the lower convex hull below the middle of the data, which
minimises the mean height above the line with no arrival below it (Moon, Skelly &
Towsley 1999). Where a device measures acquisition times with an error either
way, the line is the least-squares one.

Each half second is held against the line before it may change it. One that lies
far off is in doubt: a stamp was wrong, a clock was set, the device paused or the
count is short. It stays out of the fit until the caller has judged it, and is
forgotten if the next half second is back on the line.
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
# No crystal is off by more; what looks so is a wrong nominal rate. That is told by the median rate over stretches of
# two seconds, which no single jump moves, once ten seconds have been seen.
DRIFT_MAX_PPM = 5000.0
RATE_BUCKETS, RATE_BUCKETS_MIN, RATE_STRETCH = 60, 20, 4
# Time jumped, and neither drift nor delay made it, if it is off by more than this.
JUMP_NS = 100_000_000
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
    rate_error_ppm: float | None = None
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


class DeviceClock:
    """Running fit of host time = offset + index * period.

    Parameters
    ----------
    rate_hz : nominal sampling rate, Hz.
    one_sided : stamps are arrivals, never early; otherwise they err either way.
    drift_ppm : what is known of the device's rate from before, ppm fast against the host; None if nothing.
    doubt_ns : how far off the line half a second is in doubt, ns.
    """

    def __init__(
        self, rate_hz: float, one_sided: bool, drift_ppm: float | None = None, doubt_ns: float = JUMP_NS
    ) -> None:
        self._nominal = NS_PER_S / rate_hz
        self._one_sided, self._doubt_ns = one_sided, doubt_ns
        self._origin: tuple[int, int] | None = None
        # (Index, residual to the nominal line through the origin): one per closed bucket, and all of the open one.
        self._points: deque[tuple[float, float]] = deque(maxlen=BUCKETS)
        self._doubtful: list[tuple[float, float]] = []
        self._open: list[tuple[float, float]] = []
        self._open_since = 0
        self._slope = -(drift_ppm or 0.0) / PPM * self._nominal
        self._offset = 0.0
        self._rates: deque[tuple[float, float]] = deque(maxlen=RATE_BUCKETS)
        self._heights: deque[float] = deque(maxlen=2000)
        self.drift_ppm = drift_ppm

    def add(self, first: int, last: int, stamp_ns: int) -> None:
        """Samples `first` to `last` came; `stamp_ns` (host's monotonic clock) belongs to the last."""
        if self._origin is None:
            self._origin = (last, stamp_ns)
            self._open_since = stamp_ns
        x = float(last - self._origin[0])
        residual = stamp_ns - self._origin[1] - x * self._nominal
        # A stamp before the bucket began is wrong, or those before it were.
        if self._open and not 0 <= stamp_ns - self._open_since < BUCKET_NS:
            self._close(stamp_ns)
        self._open.append((x, residual))
        height = residual - self._offset - self._slope * x
        self._heights.append(height)
        if self._one_sided:
            # No sample arrives before it is acquired, so the line is no later; if it is far later, something jumped.
            self._offset += min(0.0, height) if height >= -JUMP_NS else 0.0
        elif not self._points:
            self._offset = float(np.median([r - self._slope * x for x, r in self._open]))

    def at(self, index: int) -> float:
        """Acquisition time of a sample, ns of the host's monotonic clock."""
        assert self._origin is not None
        x = index - self._origin[0]
        return self._origin[1] + x * (self._nominal + self._slope) + self._offset

    @property
    def jitter_ms(self) -> float:
        """95th percentile of how far stamps lay from the line lately, ms: of arrivals, the varying delay."""
        return float(np.percentile(np.abs(self._heights), 95)) / 1e6 if self._heights else 0.0

    @property
    def rate_error_ppm(self) -> float | None:
        """By how much the device is faster than its nominal rate if that is more than any drift; else None."""
        if len(self._rates) < RATE_BUCKETS_MIN:
            return None
        rates = np.array(self._rates)
        passed, told = (rates[RATE_STRETCH:] - rates[:-RATE_STRETCH]).T
        error = float(np.median(told / np.maximum(passed, 1.0) - 1.0)) * PPM
        return error if abs(error) > DRIFT_MAX_PPM else None

    def doubts_ns(self) -> list[float]:
        """How far each half second that is in doubt lies off the line, ns, oldest first.

        Of arrivals the earliest counts: delays vary, so some arrivals of half a second are prompt.
        """
        return [r - self._offset - self._slope * x for x, r in self._doubtful]

    def accept(self) -> None:
        """What is in doubt is right, and part of the line."""
        self._points.extend(self._doubtful)
        self._doubtful = []
        self._fit()

    def jump(self) -> None:
        """What is in doubt is right, and the line begins anew there; the drift stays what it was before."""
        self._points = deque(self._doubtful, maxlen=BUCKETS)
        self._doubtful = []
        self._heights.clear()
        self._fit()

    def renumber(self, samples: int) -> None:
        """What is in doubt was counted short by so many samples, and lies on the line once it is counted right."""
        moved = [[(x + samples, r - samples * self._nominal) for x, r in part] for part in (self._doubtful, self._open)]
        self._doubtful, self._open = moved
        self.accept()

    def shift(self, samples: int) -> None:
        """From now on every sample bears a number that is greater by so many."""
        assert self._origin is not None
        self._origin = (self._origin[0] + samples, self._origin[1])

    def _close(self, now_ns: int) -> None:
        """Make one point of the open bucket; fit again, if it is not in doubt."""
        assert self._origin is not None
        x, r = np.array(self._open).T
        heights = r - self._slope * x
        if self._one_sided:
            earliest = int(np.argmin(heights))
            point = (float(x[earliest]), float(r[earliest]))
        else:
            # One wrong stamp must not move the point.
            middle = float(np.mean(x))
            point = (middle, float(np.median(heights)) + self._slope * middle)
        self._open, self._open_since = [], now_ns
        self._rates.append((point[0] * self._nominal + point[1], (self._origin[0] + point[0]) * self._nominal))
        excess = point[1] - self._offset - self._slope * point[0]
        doubts = self.doubts_ns()
        if doubts and abs(excess - doubts[-1]) > JUMP_NS:
            self._doubtful = []
        if abs(excess) > self._doubt_ns:
            self._doubtful.append(point)
            return
        self._doubtful = []
        self._points.append(point)
        self._fit()

    def _fit(self) -> None:
        x, r = np.array(self._points).T
        if (x[-1] - x[0]) * self._nominal >= DRIFT_MIN_NS:
            slope = _hull_slope(x, r) if self._one_sided else float(np.polyfit(x - x.mean(), r, 1)[0])
            bound = DRIFT_MAX_PPM / PPM * self._nominal
            self._slope = float(np.clip(slope, -bound, bound))
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
