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


@pytest.mark.parametrize("stamps", [Stamps.MEASURED, Stamps.EXACT])
@pytest.mark.parametrize("behind_ms", [50, 3000])
def test_a_device_that_returns_with_an_earlier_clock_repeats_nothing(stamps: Stamps, behind_ms: int) -> None:
    bench = Bench(stamps)
    for k in range(0, 1000, 10):
        bench.send(range(k, k + 10), late_ms=0.0)
    for _ in range(2):
        bench.chunks += bench.framer.interrupted()
        for k in range(1000, 1200, 10):
            bench.now_ns += 10 * MS
            stamp_ns = bench.now_ns - behind_ms * MS
            bench.chunks += bench.framer.add(Reading(k - 1000, np.zeros((10, 1)), stamp_ns))
    assert sum(len(c.samples) for c in bench.chunks) == 1400
    assert (bench.framer.repeated, bench.framer.lost) == (0, 0)


def test_a_sender_whose_clock_is_right_again_was_not_away_for_longer() -> None:
    bench = Bench(Stamps.MEASURED)
    for behind_s in (3, 0, 3):
        for k in range(0, 200, 10):
            bench.now_ns += 10 * MS
            bench.chunks += bench.framer.add(Reading(k, np.zeros((10, 1)), bench.now_ns - behind_s * NS_PER_S))
        bench.chunks += bench.framer.interrupted()
        bench.now_ns += 500 * MS
    assert bench.framer.lost == 1000, "twice half a second"


def test_nothing_is_stamped_later_than_now() -> None:
    """A device that is faster than its nominal rate outruns the line until it is fitted."""
    bench = Bench(Stamps.MEASURED)
    for k in range(0, 10_000, 10):
        bench.now_ns += round(10 * MS / 1.02)
        chunks = bench.framer.add(Reading(k, np.zeros((10, 1)), bench.now_ns))
        assert all(c.last_stamp_ns(RATE) - EPOCH_NS <= bench.now_ns for c in chunks)
        bench.chunks += chunks
    bench.check()


def test_stamps_follow_a_better_line_gently() -> None:
    bench = Bench(Stamps.MEASURED)
    for k in range(0, 5000, 10):
        bench.now_ns += 10 * MS
        stamp_ns = bench.now_ns - (90 * MS if k < 300 or k >= 1000 else 0)
        bench.chunks += bench.framer.add(Reading(k, np.zeros((10, 1)), stamp_ns))
    bench.check()
    steps_ms = np.diff([c.stamp_ns for c in bench.chunks]) / MS
    assert 9.49 < steps_ms.min() < 9.9 and 10.1 < steps_ms.max() < 10.51


def test_losing_the_device_again_before_it_sends_is_survived() -> None:
    bench = Bench()
    bench.send(range(0, 100))
    for _ in range(3):
        bench.chunks += bench.framer.interrupted()
    bench.send(range(500, 520), counted_from=500)
    bench.check()
    assert bench.framer.lost == pytest.approx(400, abs=2)


def test_what_is_lost_before_the_first_sample_is_counted() -> None:
    bench = Bench()
    bench.send(range(5, 25))
    bench.check()
    assert (bench.framer.lost, bench.chunks[0].first_sample, bench.chunks[0].lost_before) == (5, 5, 5)


def test_drift_is_carried_over_a_reconnection() -> None:
    bench, per = Bench(), 1.0 / (1.0 + 300e-6)
    for k in range(0, 15000, 10):
        bench.now_ns = 100 * NS_PER_S + round(per * (k + 9) * MS)
        bench.framer.add(Reading(k, np.zeros((10, 1)), bench.now_ns))
    known = bench.framer.clock.drift_ppm
    assert known == pytest.approx(300.0, abs=5.0)
    bench.framer.interrupted()
    bench.now_ns += NS_PER_S
    bench.framer.add(Reading(0, np.zeros((10, 1)), bench.now_ns))
    assert bench.framer.clock.drift_ppm == known
    # The line of one point extrapolates with the drift that was known.
    next_sample = bench.framer.next_sample
    assert bench.framer.clock.at(next_sample + 9999) - bench.now_ns == pytest.approx(1e10 * per, abs=1e5)


@pytest.mark.parametrize(
    ("back_s", "for_s"), [(3600.0, 0.01), (1.0, 0.01), (0.2, 0.1), (3600.0, 5.0), (0.3, 5.0), (-0.5, 0.01)]
)
def test_a_senders_clock_that_is_set_or_one_bad_stamp_does_not_outlast_itself(back_s: float, for_s: float) -> None:
    bench = Bench(Stamps.MEASURED)
    for k in range(0, 60_000, 10):
        bench.now_ns = 100 * NS_PER_S + (k + 9) * MS
        wrong = 30.25 <= k / RATE < 30.25 + for_s
        stamp_ns = bench.now_ns - round(back_s * NS_PER_S) * wrong
        chunks = bench.framer.add(Reading(k, np.arange(k, k + 10.0)[:, None], stamp_ns))
        assert all(c.last_stamp_ns(RATE) - EPOCH_NS <= bench.now_ns for c in chunks), "a stamp in the future"
        assert abs(bench.framer.clock.drift_ppm or 0.0) < 20.0, "drift was made of a jump"
        bench.chunks += chunks
    bench.check()
    assert bench.framer.jumps == (2 if for_s > 1.0 else 0)
    errors = np.abs(bench.stamp_errors_ms())
    assert errors[:3050].max() < 0.1 and errors[4000:].max() < 0.1
    assert errors.max() < (300.0 if for_s > 1.0 else 0.1)


def send_with_delays(bench: Bench, samples: range, late_ms: float, shift: int = 0, jitter: int = 5) -> None:
    for k in range(samples.start, samples.stop, 10):
        bench.send(range(k, k + 10), late_ms=late_ms + (k // 10) % jitter, seen_as=k - shift)


@pytest.mark.parametrize("lost", [16, 21, 96])
def test_whole_turns_of_a_short_count_are_found_by_time(lost: int) -> None:
    """A 4-bit count shows 5 of 21 lost samples, and none of 16 or 96."""
    bench = Bench(modulus=16)
    send_with_delays(bench, range(0, 3000), 1.0)
    send_with_delays(bench, range(3000 + lost, 7000 + lost), 1.0, shift=lost - lost % 16)
    assert bench.framer.lost == lost % 16, "four seconds are no proof"
    send_with_delays(bench, range(7000 + lost, 10_000 + lost), 1.0, shift=lost - lost % 16)
    bench.check()
    found = lost if lost % 16 or lost > 20 else 0
    assert bench.framer.lost == found, "16 ms without any sign may as well be a radio that became slower"


@pytest.mark.parametrize("slower_ms", [8.0, 13.0, 20.0, 24.0, 40.0])
@pytest.mark.parametrize("seconds", [3, 10])
def test_a_radio_that_becomes_slower_after_a_loss_is_no_turn(slower_ms: float, seconds: int) -> None:
    bench = Bench(modulus=16)
    send_with_delays(bench, range(0, 20_000), 1.0)
    fast_again = 20_001 + 1000 * seconds
    send_with_delays(bench, range(20_001, fast_again), 1.0 + slower_ms)
    send_with_delays(bench, range(fast_again, fast_again + 2000), 1.0)
    bench.check()
    assert bench.framer.lost == 1 and bench.framer.jumps == 0


def test_a_turn_that_was_a_slower_radio_is_taken_back_and_deducted_from_the_next_losses() -> None:
    bench = Bench(modulus=16)
    send_with_delays(bench, range(0, 20_000), 1.0)
    send_with_delays(bench, range(20_001, 28_001), 17.0)
    assert bench.framer.lost == 17, "nobody can tell this from a turn that is missing"
    send_with_delays(bench, range(28_001, 30_001), 1.0)
    assert bench.framer.turns_taken_back == 1
    bench.chunks.clear()
    send_with_delays(bench, range(30_007, 31_007), 1.0)
    send_with_delays(bench, range(31_021, 45_021), 1.0)
    assert bench.framer.lost == 1 + 6 + 14
    assert max(map(abs, bench.stamp_errors_ms()[10:])) < 2.0
    assert abs(bench.framer.clock.drift_ppm or 0.0) < 30.0


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
