"""Readings of a device to frames of about 10 ms: gapless inside, indexed over every loss and stamped by acquisition.

Every sample gets its place on one count that begins with the driver and never
goes back. What is missing on that count was lost, and is counted as lost:

* what the device's own count tells;
* where that count wraps, what the stamps tell of whole turns that it cannot show;
* while the device was away, what its sampling rate says it would have sent.

Nothing is handed on twice: what lies before the end of the count is dropped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_emg.chunks import Chunk
from exo_emg.device_clock import DeviceClock, ExactClock, HostClock
from exo_emg.drivers.interface import Reading, Signal, Stamps

FRAME_S = 0.010
# Stamps follow a better fit of the clock by changing at most this fraction of the time that passes, so that
# neighbouring samples keep their order and nearly their distance ...
SLEW = 0.05
# ... unless time jumped ahead by more than this: the device paused, or its clock was set.
JUMP_NS = 100_000_000
# A turn of the count is missing if a whole second is late by three quarters of it. The least that is believed
# depends on whether a loss was just seen: latency of a radio link changes too, by tens of ms.
TURN_FRACTION = 0.75
TURN_AFTER_LOSS_NS, TURN_OTHERWISE_NS = 10_000_000, 80_000_000
LOSS_REMEMBERED_S = 3.0
# A device that comes back may repeat what it had buffered, but no more than this; otherwise its time was set back.
REPEATED_MAX_S = 10.0


class Framer:
    """Cuts the readings of one signal into chunks; see the module's text.

    Parameters
    ----------
    channels : how many of the signal's channels the readings bring.

    Attributes
    ----------
    lost : samples lost since the start.
    repeated : samples that came again and were dropped.
    jumps : times that the device's time jumped against the host's.
    """

    def __init__(self, signal: Signal, channels: int, host: HostClock) -> None:
        self._signal, self._host = signal, host
        self._period = NS_PER_S / signal.rate_hz
        self._size = max(1, round(FRAME_S * signal.rate_hz))
        self.clock = self._new_clock(None)
        self._base: int | None = None
        self._next = 0
        self._pending: NDArray[np.float64] = np.empty((0, channels))
        self._lost_before = 0
        self._latest: tuple[int, float] | None = None
        self._away_since: float | None = None
        self._loss_seen_at = -math.inf
        self.lost = self.repeated = self.jumps = 0

    @property
    def next_sample(self) -> int:
        """Index that the next sample will have if nothing is lost."""
        return self._next

    def add(self, reading: Reading) -> list[Chunk]:
        """Take in one reading; return the frames that it completes."""
        if self._base is None:
            self._base = self._place(reading)
        first = self._base + reading.index
        samples = reading.samples
        missing = first - self._next
        if missing < 0:
            self.repeated += min(-missing, len(samples))
            samples = samples[-missing:]
            if len(samples) == 0:
                return []
        chunks = []
        if missing > 0:
            chunks = self._lose(missing)
        end = self._next + len(samples)
        self.clock.add(self._next, end - 1, reading.stamp_ns)
        self._pending = np.concatenate([self._pending, samples])
        self._next = end
        while len(self._pending) >= self._size:
            chunks.append(self._cut(self._size))
        self._check_time(reading.stamp_ns)
        return chunks

    def interrupted(self) -> list[Chunk]:
        """The device is gone and will count anew when it is back; return what was held of a frame."""
        chunks = self.flush()
        if self._base is not None:
            self._away_since = self.clock.at(self._next)
        self._base = None
        return chunks

    def flush(self) -> list[Chunk]:
        """The rest, shorter than a frame."""
        return [self._cut(len(self._pending))] if len(self._pending) else []

    def _place(self, reading: Reading) -> int:
        """Where the device's new count begins on ours."""
        if self._away_since is None:
            return self._next - reading.index
        first_ns = reading.stamp_ns - (len(reading.samples) - 1) * self._period
        away = round((first_ns - self._away_since) / self._period)
        if self._signal.stamps is Stamps.ARRIVAL or away < -REPEATED_MAX_S * self._signal.rate_hz:
            # Counted and sent anew, so nothing can come twice.
            away = max(0, away)
        self.clock = self._new_clock(self.clock.drift_ppm)
        return self._next + away - reading.index

    def _lose(self, missing: int) -> list[Chunk]:
        chunks = self.flush()
        self.lost += missing
        self._lost_before += missing
        self._next += missing
        self._loss_seen_at = self._host.now_ns()
        return chunks

    def _cut(self, size: int) -> Chunk:
        first = self._next - len(self._pending)
        samples, self._pending = self._pending[:size], self._pending[size:]
        chunk = Chunk(first, self._stamp(first), samples, self._lost_before)
        self._lost_before = 0
        return chunk

    def _stamp(self, index: int) -> int:
        target = self.clock.at(index)
        if self._signal.stamps is Stamps.EXACT:
            self._latest = (index, target)
            return round(target)
        if self._latest is not None:
            passed = (index - self._latest[0]) * self._period
            predicted = self._latest[1] + passed
            if target - predicted < JUMP_NS:
                target = predicted + float(np.clip(target - predicted, -SLEW * passed, SLEW * passed))
        self._latest = (index, target)
        return self._host.to_system(target)

    def _check_time(self, stamp_ns: int) -> None:
        """Compare the last second with the clock's line: whole turns of the count that are missing, and jumps.

        A turn is counted where it is found, up to a second behind the place where it was lost.
        """
        excess = self.clock.excess_ns()
        turn = self._signal.counter_modulus
        recent = self._host.now_ns() - self._loss_seen_at < LOSS_REMEMBERED_S * NS_PER_S
        least = max(TURN_FRACTION * turn * self._period, TURN_AFTER_LOSS_NS if recent else TURN_OTHERWISE_NS)
        turns = round(excess / (turn * self._period)) if turn and excess > least else 0
        if turns == 0 and abs(excess) <= JUMP_NS:
            return
        assert self._base is not None
        self._base += turn * turns
        self.jumps += turns == 0
        self.clock = self._new_clock(self.clock.drift_ppm)
        self.clock.add(self._next + turn * turns - 1, self._next + turn * turns - 1, stamp_ns)

    def _new_clock(self, drift_ppm: float | None) -> DeviceClock | ExactClock:
        if self._signal.stamps is Stamps.EXACT:
            return ExactClock(self._signal.rate_hz)
        return DeviceClock(self._signal.rate_hz, self._signal.stamps is Stamps.ARRIVAL, drift_ppm)
