"""Readings to frames: nothing missing that is not counted, nothing twice, stamps in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from exo_common.clock import NS_PER_S
from exo_emg.chunks import Chunk
from exo_emg.device_clock import HostClock
from exo_emg.drivers.interface import Reading, Signal, Stamps
from exo_emg.framing import Framer

RATE = 1000.0
MS = NS_PER_S // 1000
EPOCH_NS = 1_700_000_000 * NS_PER_S


class Bench:
    """A framer on a clock that the test turns."""

    def __init__(self, stamps: Stamps = Stamps.ARRIVAL, modulus: int = 0) -> None:
        self.now_ns = 100 * NS_PER_S
        host = HostClock(lambda: self.now_ns, lambda: self.now_ns + EPOCH_NS)
        self.framer = Framer(Signal(("a",), RATE, stamps, modulus), 1, host)
        self.chunks: list[Chunk] = []

    def send(self, taken: range, late_ms: float = 1.0, counted_from: int = 0, seen_as: int | None = None) -> None:
        """Samples acquired at `taken` ms, worth their own number, arrive."""
        self.now_ns = 100 * NS_PER_S + round((taken[-1] + late_ms) * MS)
        index = (taken[0] if seen_as is None else seen_as) - counted_from
        values = np.array(taken, dtype=float)[:, None]
        self.chunks += self.framer.add(Reading(index, values, self.now_ns))

    def values(self) -> list[float]:
        return np.concatenate([c.samples[:, 0] for c in self.chunks]).tolist()

    def check(self) -> None:
        """Counts fit each other and stamps rise from sample to sample."""
        last_ns, end = -1, 0
        for chunk in self.chunks:
            assert chunk.first_sample == end + chunk.lost_before
            assert chunk.stamp_ns > last_ns
            last_ns, end = chunk.last_stamp_ns(RATE), chunk.next_sample
        assert sum(c.lost_before for c in self.chunks) == self.framer.lost

    def stamp_errors_ms(self) -> list[float]:
        """How far the stamps are from acquisition, for values that tell when they were taken."""
        return [(c.stamp_ns - EPOCH_NS - 100 * NS_PER_S) / MS - float(c.samples[0, 0]) for c in self.chunks]


@pytest.mark.parametrize("sizes", [[1], [7], [10], [33], [1, 50, 3]])
def test_frames_are_ten_ms_however_samples_arrive(sizes: Sequence[int]) -> None:
    bench, k, n = Bench(), 0, 0
    while k < 1000:
        size = sizes[n % len(sizes)]
        bench.send(range(k, k + size))
        k, n = k + size, n + 1
    bench.check()
    assert {len(c.samples) for c in bench.chunks} == {10}
    assert bench.values() == list(range(10 * len(bench.chunks)))
    assert len(bench.chunks) >= 99
    assert max(map(abs, bench.stamp_errors_ms())) <= 1.1


def test_a_gap_is_counted_and_cuts_the_frame() -> None:
    bench = Bench()
    bench.send(range(0, 25))
    bench.send(range(32, 60))
    bench.check()
    assert bench.framer.lost == 7
    assert [c.first_sample for c in bench.chunks] == [0, 10, 20, 32, 42]
    assert [c.lost_before for c in bench.chunks] == [0, 0, 0, 7, 0]
    assert bench.values() == [*range(25), *range(32, 52)]


def test_what_comes_twice_is_passed_on_once() -> None:
    bench = Bench()
    bench.send(range(0, 30))
    bench.send(range(20, 40))
    bench.send(range(5, 15))
    bench.check()
    assert bench.values() == list(range(40))
    assert bench.framer.repeated == 20


def test_nan_is_passed_on() -> None:
    bench = Bench()
    bench.chunks += bench.framer.add(Reading(0, np.array([[1.0], [np.nan]] * 5), bench.now_ns))
    assert np.isnan(bench.chunks[0].samples[1::2]).all()


def test_late_arrivals_do_not_move_the_stamps() -> None:
    bench, rng = Bench(), np.random.default_rng(3)
    for k in range(0, 5000, 10):
        bench.send(range(k, k + 10), late_ms=1.0 + float(rng.exponential(4.0)))
    bench.check()
    assert max(map(abs, bench.stamp_errors_ms()[50:])) < 2.0


@pytest.mark.parametrize("away_ms", [120, 4321])
def test_a_device_that_returns_is_placed_by_time(away_ms: int) -> None:
    bench = Bench()
    for k in range(0, 2000, 10):
        bench.send(range(k, k + 10))
    bench.send(range(2000, 2005))
    bench.chunks += bench.framer.interrupted()
    back = 2005 + away_ms
    for k in range(back, back + 500, 10):
        bench.send(range(k, k + 10), late_ms=1.0, counted_from=back)
    bench.check()
    assert bench.framer.lost == pytest.approx(away_ms, abs=2)
    assert len(bench.values()) == len(set(bench.values())) == 2505
    assert max(map(abs, bench.stamp_errors_ms())) < 3.0


def test_measured_samples_that_a_returning_device_repeats_are_dropped() -> None:
    bench = Bench(Stamps.MEASURED)
    for k in range(0, 1000, 10):
        bench.send(range(k, k + 10), late_ms=0.0)
    bench.chunks += bench.framer.interrupted()
    for k in range(950, 1200, 10):
        bench.send(range(k, k + 10), late_ms=0.0, counted_from=950)
    bench.check()
    assert bench.values() == list(range(1200))
    assert (bench.framer.repeated, bench.framer.lost) == (50, 0)


@pytest.mark.parametrize("lost", [16, 21, 96])
def test_whole_turns_of_a_short_count_are_found_by_time(lost: int) -> None:
    """A 4-bit count shows 5 of 21 lost samples, and none of 16 or 96."""
    bench = Bench(modulus=16)
    for k in range(0, 3000, 10):
        bench.send(range(k, k + 10), late_ms=1.0 + (k // 10) % 5)
    seen = lost % 16
    for k in range(3000 + lost, 6000 + lost, 10):
        bench.send(range(k, k + 10), late_ms=1.0 + (k // 10) % 5, seen_as=k - lost + seen)
    bench.check()
    found = lost if seen or lost > 20 else 0
    assert bench.framer.lost == found, "16 ms without any sign may as well be a radio that became slower"


def test_latency_that_grows_is_no_loss() -> None:
    bench = Bench(modulus=16)
    for k in range(0, 6000, 10):
        bench.send(range(k, k + 10), late_ms=1.0 if k < 3000 else 40.0)
    bench.check()
    assert bench.framer.lost == 0


def test_a_device_that_paused_is_followed_in_one_jump() -> None:
    bench = Bench()
    for k in range(0, 3000, 10):
        bench.send(range(k, k + 10))
    for k in range(3000, 6000, 10):
        bench.send(range(k + 700, k + 710), seen_as=k)
    bench.check()
    assert bench.framer.lost == 0 and bench.framer.jumps == 1
    assert abs(bench.stamp_errors_ms()[-1]) < 2.0


def test_exact_stamps_pass_through() -> None:
    bench = Bench(Stamps.EXACT)
    stamps = []
    for k in range(0, 100, 10):
        stamps.append(7 * NS_PER_S + k * MS)
        bench.chunks += bench.framer.add(Reading(k, np.zeros((10, 1)), stamps[-1] + 9 * MS))
    assert [c.stamp_ns for c in bench.chunks] == stamps
