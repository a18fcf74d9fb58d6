"""The neural drive of a simulated wearer, sampled as EMG is."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_common.frames import SIDES
from exo_emg.muscles import side_of
from exo_emg.synthesis import Strike

FloatArray = NDArray[np.float64]

# The simulation tells its state at this rate; a state stands for the period that ends with it.
PERIOD_S = 0.01
# A step between two states that is longer than this many periods means that some are missing.
MISSING_PERIODS = 1.5
# Times that go back by less are messages in the wrong order; by more, the simulation's clock was set.
SET_BACK_S = 0.1
# A phase that falls by more than this has begun a new stride.
NEW_STRIDE = 0.5


@dataclasses.dataclass(frozen=True)
class State:
    """What the simulation tells: excitation (channels,) 0..1 and gait phase (left, right) at one time, ns."""

    stamp_ns: int
    excitation: FloatArray
    phase: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The samples up to one state.

    Attributes
    ----------
    first : count of the first sample; jumps where states were missing.
    excitation : (n, channels).
    strikes : heel strikes within.
    stamp_ns : acquisition time of the last sample.
    """

    first: int
    excitation: FloatArray
    strikes: list[Strike]
    stamp_ns: int


class Drive:
    """Interpolates between states, on one regular grid of samples from the first state on.

    At 1000 Hz the last sample of every stretch has the very stamp of its state. Samples are made
    for the period before each state only: what lies further back after a missing state was lost.
    When the time of the simulation goes back, the count goes on, on a new grid.

    Attributes
    ----------
    jumps : how often the time went back.
    """

    def __init__(self, muscles: tuple[str, ...], sampling_rate_hz: float) -> None:
        self._rate = sampling_rate_hz
        self._sides = [np.array([side_of(muscle)[1] == side for muscle in muscles]) for side in SIDES]
        self._per_period = max(1, round(PERIOD_S * sampling_rate_hz))
        self._last: State | None = None
        self._start_ns = 0
        self._next = 0
        self.jumps = 0

    def until(self, state: State) -> Stretch | None:
        """The samples up to a later state; None if there are none, or the state is a little earlier."""
        if self._last is not None and self._last.stamp_ns - state.stamp_ns > SET_BACK_S * NS_PER_S:
            self._last = None
            self.jumps += 1
        before = self._last or dataclasses.replace(state, stamp_ns=state.stamp_ns - round(PERIOD_S * NS_PER_S))
        if self._last is None:
            self._start_ns = state.stamp_ns - self._ns(self._next + self._per_period - 1)
        step = state.stamp_ns - before.stamp_ns
        if step <= 0:
            return None
        self._last = state
        # Half a nanosecond of tolerance: at 1000 Hz a sample falls on the state itself.
        end = math.floor((state.stamp_ns - self._start_ns + 0.5) * self._rate / NS_PER_S) + 1
        first = self._next if step <= MISSING_PERIODS * PERIOD_S * NS_PER_S else max(self._next, end - self._per_period)
        self._next = end
        if end <= first:
            return None
        since = np.array([self._start_ns + self._ns(k) - before.stamp_ns for k in range(first, end)], dtype=float)
        weight = np.clip(since / step, 0.0, 1.0)[:, None]
        excitation = before.excitation + weight * (state.excitation - before.excitation)
        strikes = [
            Strike(at, shaken)
            for was, now, shaken in zip(before.phase, state.phase, self._sides, strict=True)
            if was - now > NEW_STRIDE
            for at in (int(np.searchsorted(since, step * (1.0 - was) / (1.0 - was + now))),)
            if at < len(since)
        ]
        return Stretch(first, excitation, strikes, self._start_ns + self._ns(end - 1))

    def _ns(self, samples: int) -> int:
        return round(samples * NS_PER_S / self._rate)
