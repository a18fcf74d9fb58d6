"""What passes between the drivers and everything behind them: a layout once, then chunks of samples."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError

VIRTUAL = "virtual"


def frame_id(driver: str) -> str:
    """What stands as frame_id in the frames of a driver, by which those behind it know where the signal comes from."""
    return f"emg_{driver}"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which muscles a stream carries, how fast; samples are always V.

    Parameters
    ----------
    muscles : one name per channel, `<muscle>_<side>` such as `tibialis_anterior_r`; each once.
    rate_hz : sampling rate as declared by the device, Hz.

    Raises
    ------
    ExoError : if there is no channel, a name is empty or twice there, or the rate is no positive number.
    """

    muscles: tuple[str, ...]
    rate_hz: float

    def __post_init__(self) -> None:
        if not self.muscles or not all(self.muscles):
            raise ExoError(f"EMG channels {self.muscles} are not all named; give one muscle name per channel")
        twice = sorted({name for name in self.muscles if self.muscles.count(name) > 1})
        if twice:
            raise ExoError(f"two EMG channels are called {twice[0]}; name every muscle once")
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0.0):
            raise ExoError(f"EMG sampling rate {self.rate_hz} Hz is no rate; correct the device's sampling rate")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.muscles)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Consecutive samples of all channels, none missing inside.

    Parameters
    ----------
    first_sample : index of the first sample since the driver started; lost samples count too.
    stamp_ns : acquisition time of the first sample, ns since the epoch of ROS time.
    samples : (n, channels) V; NaN where the device said so.
    lost_before : samples that were lost between the chunk before and this one.
    """

    first_sample: int
    stamp_ns: int
    samples: NDArray[np.float64]
    lost_before: int = 0

    @property
    def next_sample(self) -> int:
        """Index of the first sample behind this chunk."""
        return self.first_sample + len(self.samples)

    def last_stamp_ns(self, rate_hz: float) -> int:
        """Acquisition time of the last sample, ns."""
        return self.stamp_ns + round((len(self.samples) - 1) * NS_PER_S / rate_hz)
