"""Readings of a device to frames of about 10 ms: gapless inside, indexed over every loss and stamped by acquisition.

Every sample gets its place on one count that begins with the driver and never
goes back. What is missing on that count was lost, and is counted as lost:

* what the device's own count tells;
* where that count wraps, what the stamps tell of whole turns that it cannot show, once five seconds agree on it;
* while the device was away, what its sampling rate says it would have sent.

Nothing is handed on twice: what lies before the end of the count is dropped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_emg.chunks import Chunk
from exo_emg.device_clock import BUCKET_NS, BUCKETS, JUMP_NS, DeviceClock, ExactClock, HostClock
from exo_emg.drivers.interface import Reading, Signal, Stamps

FRAME_S = 0.010
# Stamps follow a better fit of the clock by changing at most this fraction of the time that passes, so that
# neighbouring samples keep nearly their distance, and back by half a sample at most, so that they keep their order;
# only if time jumped ahead do they jump too.
SLEW = 0.05
BACK_SAMPLES = 0.5
# Half seconds in a row that must be off the line before time is said to have jumped, or a turn of the count to be
# missing: a radio may be slower for some seconds, and is rarely so by a whole turn, to a seventh of it, all the time.
JUMP_BUCKETS, TURN_BUCKETS = 2, 10
TURN_TOLERANCE = 0.15
# The least that is believed depends on whether a loss was seen then: latency of a radio link changes by tens of ms.
TURN_AFTER_LOSS_NS, TURN_OTHERWISE_NS = 10_000_000, 80_000_000
LOSS_REMEMBERED_NS = 3 * NS_PER_S
# A turn that the stamps told may be taken back as long as the fit of the clock remembers the time before it.
TURN_REMEMBERED_NS = BUCKETS * BUCKET_NS
# How long a device was away its stamps tell, unless arrivals tell something else: then its clock was set meanwhile.
PLAUSIBLE_NS = NS_PER_S


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
    turns_taken_back : turns of the count that were held for lost and were not. The count cannot go back: they are
        deducted from the losses that follow.
    """

    def __init__(self, signal: Signal, channels: int, host: HostClock) -> None:
        self._signal, self._host = signal, host
        self._period = NS_PER_S / signal.rate_hz
        self._size = max(1, round(FRAME_S * signal.rate_hz))
        self.clock = self._new_clock(None, arrived=False)
        self._base: int | None = None
        self._next = 0
        self._pending: NDArray[np.float64] = np.empty((0, channels))
        self._lost_before = 0
        # Of the last frame: first index, its stamp, and the stamp of its last sample.
        self._latest: tuple[int, float, float] | None = None
        # When the next sample was due as the device went away, by its stamps and by arrivals.
        self._away_since: tuple[float, float] | None = None
        self._next_arrives_ns = 0.0
        self._loss_seen_at = self._turn_found_at = -math.inf
        self._turns_found = self._owed = 0
        self.lost = self.repeated = self.jumps = self.turns_taken_back = 0

    @property
    def next_sample(self) -> int:
        """Index that the next sample will have if nothing is lost."""
        return self._next

    def add(self, reading: Reading) -> list[Chunk]:
        """Take in one reading; return the frames that it completes."""
        if self._base is None:
            self._base = self._place(reading)
        samples = reading.samples
        missing = self._base + reading.index - self._next
        if missing > 0 and self._owed:
            missing -= self._settle(missing)
        if missing < 0:
            self.repeated += min(-missing, len(samples))
            samples = samples[-missing:]
            if len(samples) == 0:
                return []
        chunks = []
        if missing > 0:
            chunks = self._lose(missing)
        end = self._next + len(samples)
        self._doubt_turns(end - 1, reading.stamp_ns)
        self.clock.add(self._next, end - 1, reading.stamp_ns)
        self._pending = np.concatenate([self._pending, samples])
        self._next = end
        self._next_arrives_ns = self._host.now_ns() + self._period
        while len(self._pending) >= self._size:
            chunks.append(self._cut(self._size))
        self._check_time()
        return chunks

    def interrupted(self) -> list[Chunk]:
        """The device is gone and will count anew when it is back; return what was held of a frame."""
        chunks = self.flush()
        if self._base is not None:
            self._away_since = (self.clock.at(self._next), self._next_arrives_ns)
        self._base = None
        return chunks

    def flush(self) -> list[Chunk]:
        """The rest, shorter than a frame."""
        return [self._cut(len(self._pending))] if len(self._pending) else []

    def _place(self, reading: Reading) -> int:
        """Where the device's new count begins on ours. It was started anew, so nothing can come twice."""
        self.clock = self._new_clock(self.clock.drift_ppm, reading.arrived)
        if self._away_since is None:
            return self._next
        lasted = (len(reading.samples) - 1) * self._period
        away_ns = reading.stamp_ns - lasted - self._away_since[0]
        by_arrival_ns = self._host.now_ns() - lasted - self._away_since[1]
        if self._signal.stamps is not Stamps.EXACT and abs(away_ns - by_arrival_ns) > PLAUSIBLE_NS:
            away_ns = by_arrival_ns
        return self._next + max(0, round(away_ns / self._period)) - reading.index

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
        chunk = Chunk(first, self._stamp(first, size), samples, self._lost_before)
        self._lost_before = 0
        return chunk

    def _stamp(self, index: int, size: int) -> int:
        target = self.clock.at(index)
        if self._signal.stamps is Stamps.EXACT:
            return round(target)
        if self._latest is not None:
            passed = (index - self._latest[0]) * self._period
            change = target - self._latest[1] - passed
            if change < JUMP_NS:
                back = min(SLEW * passed, BACK_SAMPLES * self._period)
                target = self._latest[1] + passed + float(np.clip(change, -back, SLEW * passed))
        # No sample that is here will be acquired later, and none was acquired before the one in front of it.
        target = min(target, self._host.now_ns() - (self._next - 1 - index) * self._period)
        if self._latest is not None:
            target = max(target, self._latest[2] + BACK_SAMPLES * self._period)
        self._latest = (index, target, target + (size - 1) * self._period)
        return self._host.to_system(target)

    def _check_time(self) -> None:
        """Judge what is in doubt: whole turns of the count that are missing, a jump, or a change of delay.

        A turn is counted where it is found, seconds behind the place where it was lost.
        """
        if isinstance(self.clock, ExactClock):
            return
        doubts, modulus = self.clock.doubts_ns(), self._signal.counter_modulus
        if len(doubts) < (TURN_BUCKETS if modulus else JUMP_BUCKETS):
            return
        turns = self._turns(doubts) if modulus else 0
        if turns:
            assert self._base is not None
            self._base += modulus * turns
            self.clock.renumber(modulus * turns)
            self._turns_found, self._turn_found_at = turns, self._host.now_ns()
        elif min(map(abs, doubts)) > JUMP_NS:
            self.jumps += 1
            self.clock.jump()
        else:
            self.clock.accept()

    def _turns(self, doubts: list[float]) -> int:
        """How many turns of the count all half seconds in doubt agree to be missing."""
        turn_ns = self._signal.counter_modulus * self._period
        turns = round(doubts[-1] / turn_ns)
        began_ns = self._host.now_ns() - len(doubts) * BUCKET_NS
        lost_then = self._loss_seen_at > began_ns - LOSS_REMEMBERED_NS
        least = TURN_AFTER_LOSS_NS if lost_then else TURN_OTHERWISE_NS
        agree = all(d > least and abs(d - turns * turn_ns) <= TURN_TOLERANCE * turn_ns for d in doubts)
        return turns if agree else 0

    def _doubt_turns(self, last: int, stamp_ns: int) -> None:
        """Take turns back that were none: behind a true loss no sample can arrive a turn before its time."""
        if not self._turns_found or self._host.now_ns() - self._turn_found_at > TURN_REMEMBERED_NS:
            return
        assert isinstance(self.clock, DeviceClock)
        early = (self.clock.at(last) - stamp_ns) / (self._signal.counter_modulus * self._period)
        turns = min(self._turns_found, round(early))
        if turns <= 0 or early < turns - TURN_TOLERANCE:
            return
        samples = turns * self._signal.counter_modulus
        self._turns_found -= turns
        self.turns_taken_back += turns
        self._owed += samples
        # Those samples were late, not lost, but the count keeps them for now.
        self.clock.shift(samples)

    def _settle(self, missing: int) -> int:
        """Samples that were held for lost and were not, and need not be counted again; how many of `missing`."""
        assert self._base is not None and isinstance(self.clock, DeviceClock)
        settled = min(self._owed, missing)
        self._owed -= settled
        self._base -= settled
        self.clock.shift(-settled)
        if self._latest is not None:
            # Time went on by those, though the count does not.
            self._latest = (self._latest[0] - settled, *self._latest[1:])
        return settled

    def _new_clock(self, drift_ppm: float | None, arrived: bool) -> DeviceClock | ExactClock:
        signal = self._signal
        if signal.stamps is Stamps.EXACT:
            return ExactClock(signal.rate_hz)
        half_turn_ns = signal.counter_modulus * self._period / 2.0
        doubt_ns = min(JUMP_NS, half_turn_ns) if signal.counter_modulus else JUMP_NS
        return DeviceClock(signal.rate_hz, arrived or signal.stamps is Stamps.ARRIVAL, drift_ppm, doubt_ns)
