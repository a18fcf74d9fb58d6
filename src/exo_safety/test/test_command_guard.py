"""The device's guard, rule by rule, at the 1 kHz of the torque loop."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from exo_safety.command_guard import (
    COMMAND_AGE_MAX_S,
    EMERGENCY_RAMP_S,
    SESSION_SILENCE_S,
    Command,
    CommandGuard,
)
from exo_safety.envelope import Envelope, SideEnvelope

MS = 1_000_000
LIMITS = SideEnvelope(
    angle_min_rad=-0.5,
    angle_max_rad=1.5,
    velocity_max_rad_s=8.0,
    torque_max_nm=10.0,
    torque_rate_max_nm_s=200.0,
    power_max_w=40.0,
)
SESSION = 7
SUPERVISOR, STRAY = b"supervisor", b"stray"


class Rig:
    """A guard with its clock: commands every 10 ms, physics every 1 ms."""

    def __init__(self) -> None:
        self.guard = CommandGuard(Envelope("w", LIMITS, LIMITS, "test"))
        self.now = 1_000_000_000
        self.sequence = 0
        self.position = (0.2, 0.2)
        self.velocity = (0.0, 0.0)

    def offer(
        self,
        left: float = 0.0,
        right: float = 0.0,
        *,
        session: int = SESSION,
        age_ms: float = 0.0,
        writer: bytes = SUPERVISOR,
    ) -> str:
        self.sequence += 1
        stamp = self.now - int(age_ms * MS)
        return self.guard.offer(Command(stamp, self.sequence, session, (left, right), writer), self.now)

    def run(self, ms: int) -> list[tuple[float, float]]:
        out = []
        for _ in range(ms):
            self.now += MS
            out.append(self.guard.step(self.now, 0.001, self.position, self.velocity))
        return out

    def drive(self, left: float, right: float, ms: int = 200) -> tuple[float, float]:
        """A healthy supervisor for a while; the torque at its end."""
        torque = (0.0, 0.0)
        for _ in range(ms // 10):
            assert self.offer(left, right) == ""
            torque = self.run(10)[-1]
        return torque


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_fresh_commands_pass_side_by_side(rig: Rig) -> None:
    assert rig.drive(5.0, -3.0) == (5.0, -3.0)
    assert rig.guard.session == SESSION and rig.guard.refused == 0 and rig.guard.fault(rig.now) == ""


def test_without_any_command_there_is_no_torque(rig: Rig) -> None:
    assert set(rig.run(50)) == {(0.0, 0.0)}


def test_torque_rises_no_faster_than_the_envelope_allows(rig: Rig) -> None:
    rig.offer(10.0)
    torque = [left for left, _ in rig.run(20)]
    assert max(b - a for a, b in zip([0.0, *torque], torque, strict=False)) == pytest.approx(0.2)
    assert torque[-1] == pytest.approx(4.0)


def test_torque_is_clamped_to_the_envelope(rig: Rig) -> None:
    assert rig.drive(99.0, -99.0) == (10.0, -10.0)


def test_silence_ramps_to_zero_at_once_and_completely(rig: Rig) -> None:
    rig.drive(10.0, 10.0)
    last_command_ms = 10
    torque = [left for left, _ in rig.run(100)]
    until_stale = int(1e3 * COMMAND_AGE_MAX_S) - last_command_ms
    assert all(t == 10.0 for t in torque[: until_stale - 1])
    zero = next(i for i, t in enumerate(torque) if t == 0.0)
    assert zero <= until_stale + 1e3 * EMERGENCY_RAMP_S + 1
    assert all(t == 0.0 for t in torque[zero:])
    assert "no fresh command" in rig.guard.fault(rig.now)


def test_stale_command_is_refused(rig: Rig) -> None:
    assert "stale" in rig.offer(5.0, age_ms=31)
    assert rig.offer(5.0, age_ms=29) == ""


def test_command_from_the_future_is_refused(rig: Rig) -> None:
    assert "future" in rig.offer(5.0, age_ms=-50)


def test_replayed_and_reordered_commands_are_refused(rig: Rig) -> None:
    rig.offer(5.0)
    again = Command(rig.now, rig.sequence, SESSION, (9.0, 9.0), SUPERVISOR)
    assert "sequence" in rig.guard.offer(again, rig.now)
    assert "older" in rig.offer(9.0, age_ms=5)
    assert rig.guard.refused == 2


def test_foreign_session_is_refused_while_one_is_obeyed(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    assert "foreign" in rig.offer(-9.0, -9.0, session=8)
    assert rig.run(1)[-1] == (5.0, 5.0)


def test_new_session_after_disarming_and_the_old_one_never_again(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    rig.offer(session=0)
    rig.run(1)
    assert "in force" in rig.offer(1.0, session=8), "torque has not reached zero yet"
    rig.run(30)
    assert rig.offer(1.0, session=8) == ""
    rig.offer(session=0)
    rig.run(30)
    assert "over" in rig.offer(1.0, session=SESSION)


def test_new_session_after_silence(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    rig.run(int(1e3 * SESSION_SILENCE_S) - 20)
    assert "foreign" in rig.offer(1.0, session=8), "silent for less than the limit"
    rig.run(20)
    assert rig.offer(1.0, session=8) == ""


def test_the_same_session_resumes_after_a_gap(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    assert rig.run(60)[-1] == (0.0, 0.0)
    assert rig.drive(5.0, 5.0) == (5.0, 5.0)


def test_disarming_takes_torque_away(rig: Rig) -> None:
    rig.drive(10.0, 10.0)
    rig.offer(10.0, 10.0, session=0)
    assert rig.run(16)[-1] == (0.0, 0.0)


@pytest.mark.parametrize("age_ms", [5.0, 500.0, -500.0])
def test_disarming_is_obeyed_whatever_its_stamp(rig: Rig, age_ms: float) -> None:
    rig.drive(10.0, 10.0)
    rig.offer(10.0, 10.0)
    assert "finite" in rig.offer(math.nan, 0.0, session=0, age_ms=age_ms)
    assert rig.guard.session == SESSION
    assert rig.offer(session=0, age_ms=age_ms) == ""
    assert rig.run(16)[-1] == (0.0, 0.0)
    assert rig.offer(1.0, session=8) == "", "its stamp does not stand in the way of the next session"


def test_a_stray_writer_gets_no_torque_while_the_supervisor_says_disarmed(rig: Rig) -> None:
    torque = []
    for _ in range(100):
        assert rig.offer(session=0) == ""
        for _ in range(5):
            torque += rig.run(2)
            assert "another writer" in rig.offer(9.0, 9.0, session=99, writer=STRAY)
    assert set(torque) == {(0.0, 0.0)}
    assert "another writer" in rig.guard.fault(rig.now)


def test_a_copied_session_is_refused_and_does_not_shut_the_supervisor_out(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    for session in (SESSION, 0):
        copy = Command(rig.now, 2**60, session, (-9.0, -9.0), STRAY)
        assert "another writer" in rig.guard.offer(copy, rig.now)
    assert rig.drive(5.0, 5.0) == (5.0, 5.0)


def test_a_restarted_supervisor_takes_over_after_silence_with_a_session_of_its_own(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    rig.run(int(1e3 * SESSION_SILENCE_S) - 11)
    assert "another writer" in rig.offer(session=0, writer=STRAY), "silent for less than the limit"
    rig.run(1)
    assert "over" in rig.offer(5.0, writer=STRAY), "the session belongs to the one before"
    assert rig.offer(5.0, session=8, writer=STRAY) == ""
    assert rig.run(10)[-1] == pytest.approx((2.0, 0.0))
    assert "another writer" in rig.offer(5.0, writer=SUPERVISOR)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_torque_that_is_no_number_is_refused(rig: Rig, bad: float) -> None:
    rig.drive(5.0, 5.0)
    assert "finite" in rig.offer(bad, 0.0) and "finite" in rig.offer(0.0, bad)
    assert rig.run(1)[-1] == (5.0, 5.0)


def test_second_publisher_means_zero(rig: Rig) -> None:
    rig.drive(10.0, 10.0)
    rig.guard.writers = 2
    assert "publishers" in rig.offer(10.0, 10.0)
    assert rig.run(16)[-1] == (0.0, 0.0)
    assert "2 publishers" in rig.guard.fault(rig.now)


def test_beyond_the_range_no_push_outward_but_inward(rig: Rig) -> None:
    rig.drive(8.0, 8.0)
    rig.position = (1.6, -0.6)
    rig.offer(8.0, 8.0)
    left, right = rig.run(20)[-1]
    assert left == 0.0, "flexed beyond the range: flexion torque is released"
    assert right == 8.0, "extended beyond the range: flexion torque leads back"


def test_power_is_limited_and_speeding_up_is_not_driven(rig: Rig) -> None:
    rig.velocity = (5.0, 0.0)
    left, right = rig.drive(10.0, 10.0)
    assert left == pytest.approx(40.0 / 5.0) and right == 10.0
    rig.velocity = (9.0, 0.0)
    rig.offer(10.0, 10.0)
    assert rig.run(16)[-1] == (0.0, 10.0)


def test_broken_encoder_means_zero_on_its_side(rig: Rig) -> None:
    rig.drive(5.0, 5.0)
    rig.position = (math.nan, 0.2)
    rig.offer(5.0, 5.0)
    assert rig.run(16)[-1] == (0.0, 5.0)


def test_power_limit_is_reached_without_a_step(rig: Rig) -> None:
    rig.drive(10.0, 10.0)
    rig.velocity = (7.5, 0.0)
    rig.offer(10.0, 10.0)
    fall = [10.0, *(left for left, _ in rig.run(15))]
    assert max(a - b for a, b in itertools.pairwise(fall)) <= FALL_NM + 1e-9
    assert fall[-1] == pytest.approx(40.0 / 7.5)


# Largest change of torque in one step: the emergency ramp's.
FALL_NM = 1e-3 * LIMITS.torque_max_nm / EMERGENCY_RAMP_S
NONZERO_TICKS = 500


@pytest.mark.parametrize("seed", range(5))
def test_any_sequence_keeps_torque_finite_bounded_and_without_steps(seed: int) -> None:
    """A supervisor that works, disarms, falls silent and restarts, among strays, nonsense and a leg that moves."""
    rig, rng = Rig(), random.Random(seed)
    before, nonzero, session, writer, until, silent = (0.0, 0.0), 0, SESSION, SUPERVISOR, 0, False
    for tick in range(4000):
        if tick == until:
            # A new chapter: mostly a live supervisor, with a number never used before.
            session += 1
            silent = rng.random() < 0.2
            writer = rng.choice([SUPERVISOR, SUPERVISOR, b"restarted"])
            until += rng.randint(100, 400)
            rig.offer(session=0, age_ms=rng.choice([0, 40]), writer=writer)
        if tick % 10 == 0 and not silent:
            torque = rng.choice([5.0, 9.0, -20.0, 1e9] + [math.nan] * (rng.random() < 0.1))
            rig.offer(torque, -torque, session=session, age_ms=rng.choice([0, 0, 5, 15]), writer=writer)
        if rng.random() < 0.1:
            rig.sequence += rng.choice([-3, 0, 5])
            stray = rng.choice([0, SESSION, session, 10**6 + tick])
            rig.offer(9.0, 9.0, session=stray, age_ms=rng.choice([0, 40, -20]), writer=rng.choice([STRAY, b"other"]))
        rig.guard.writers = 2 if rng.random() < 0.002 else 1
        rig.position = (0.5 + 1.1 * math.sin(tick / 150), rng.choice([0.2, 0.2, 0.2, math.nan, -0.7]))
        rig.velocity = (9.0 * math.sin(tick / 90), rng.choice([0.0, 1.0, -5.0, 8.5]))
        now = rig.run(1)[0]
        for a, b in zip(before, now, strict=True):
            assert math.isfinite(b) and abs(b) <= LIMITS.torque_max_nm and abs(b - a) <= FALL_NM + 1e-9
            if a * b >= 0.0:
                assert abs(b) - abs(a) <= 1e-3 * LIMITS.torque_rate_max_nm_s + 1e-9
        nonzero += now != (0.0, 0.0)
        before = now
    assert nonzero > NONZERO_TICKS, "the test would be empty if torque never flowed"


def test_torque_falls_at_once_when_a_live_supervisor_asks_for_less() -> None:
    rig = Rig()
    assert rig.drive(8.0, -8.0) == (8.0, -8.0)
    rig.offer(0.0, 0.0)
    fall = rig.run(math.ceil(1e3 * EMERGENCY_RAMP_S))
    assert fall[-1] == (0.0, 0.0)
    steps = [abs(b[0] - a[0]) for a, b in zip([(8.0, -8.0), *fall], fall, strict=False)]
    assert max(steps) <= 1.001e-3 * LIMITS.torque_max_nm / EMERGENCY_RAMP_S


def test_torque_crosses_zero_and_grows_at_the_envelopes_rate() -> None:
    rig = Rig()
    rig.drive(1.0, 1.0)
    for _ in range(3):
        rig.offer(-8.0, -8.0)
        out = rig.run(10)
    assert out[-1][0] < 0.0
    grown = [abs(b[0] - a[0]) for a, b in itertools.pairwise(out)]
    assert max(grown) <= 1.001e-3 * LIMITS.torque_rate_max_nm_s
