"""One IMU on a body segment: turned into the segment's axes, and whether it can be believed now."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_twin.live.samples import SIDE_INPUT_MAX_AGE_S, ImuSample, fresh

# A working gyro and accelerometer tremble by their noise: readings that are the very same for this long come from a
# sensor that hangs.
STUCK_S = 0.3
GRAVITY = 9.81  # m/s2
# Gyros for movement end at 2000 deg/s, and no segment of a person turns as fast as that.
FASTEST = 35.0  # rad/s


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentMotion:
    """Sagittal motion of a segment.

    Attributes
    ----------
    rate : rad/s in the sense of hip flexion of a thigh (about 0 -1 0).
    tilt : rad, its forward axis above the horizon as gravity shows; NaN without an accelerometer.
    stillness : 0..1, how far the specific force is gravity alone and `tilt` can be believed.
    """

    rate: float
    tilt: float
    stillness: float


class SegmentImu:
    """Watches one IMU.

    Parameters
    ----------
    name : the segment.
    rotation : (3, 3) from the sensor's axes to the segment's (x forward, y left, z up).
    """

    def __init__(self, name: str, rotation: NDArray[np.float64]) -> None:
        self._name = name
        self._forward, self._left, self._up = (tuple(map(float, row)) for row in rotation)
        self._reading: tuple[float, ...] = ()
        self._since_ns = 0
        self.complaint = ""

    def step(self, now_ns: int, sample: ImuSample | None) -> SegmentMotion | None:
        """The segment's motion; None, and a complaint, where the sensor is silent, stuck or tells no number."""
        self.complaint = ""
        if sample is None:
            return None
        if not fresh(sample, now_ns):
            self.complaint = f"the IMU of {self._name} is silent or its stamps are off by over {SIDE_INPUT_MAX_AGE_S} s"
            return None
        if not all(abs(rate) < FASTEST for rate in sample.rate):
            self.complaint = f"the IMU of {self._name} tells no numbers, or impossible ones"
            return None
        reading = (*sample.rate, *sample.force)
        if reading != self._reading or sample.stamp_ns < self._since_ns:
            self._reading, self._since_ns = reading, sample.stamp_ns
        if sample.stamp_ns - self._since_ns > STUCK_S * NS_PER_S:
            self.complaint = f"the IMU of {self._name} hangs: its readings do not change at all"
            return None
        forward, up = _dot(self._forward, sample.force), _dot(self._up, sample.force)
        excess = abs(math.sqrt(_dot(sample.force, sample.force)) / GRAVITY - 1.0)
        known = math.isfinite(excess) and excess < 1.0
        return SegmentMotion(
            -_dot(self._left, sample.rate),
            math.atan2(forward, up) if known else math.nan,
            1.0 - excess if known else 0.0,
        )


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
