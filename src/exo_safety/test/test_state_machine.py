from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_fakes import ENVELOPE, LEFT, MS, RIGHT, TICK_NS, Bench

from exo_interfaces.msg import SafetyState
from exo_safety.rules import Action, Limits
from exo_safety.state_machine import Level, Operator, Request, StateMachine, StateSample

FAULTS = (
    "nan",
    "inf",
    "jump",
    "sign",
    "swap",
    "freeze_state",
    "freeze_request",
    "drop_state",
    "clock_back",
    "late_tick",
    "burst",
    "fast_hip",
    "beyond",
    "huge",
    "future",
    "stop",
    "estop",
    "foreign",
)
faults = st.lists(
    st.tuples(st.sampled_from(FAULTS), st.integers(60, 390), st.integers(1, 40)),
    max_size=6,
)


def walking_ticks(script: list[tuple[str, int, int]], seed: int, ticks: int = 400):
    """Yield (now, state, request, operator) of a walk disturbed by (fault, first tick, length)."""
    rng = np.random.default_rng(seed)
    stride = rng.uniform(0.9, 1.6)
    amplitude = rng.uniform(0.0, 14.0)
    noise = rng.normal(size=(ticks, 4))
    arms = {40} | set(rng.integers(60, ticks, 4).tolist())
    now = 5_000_000_000
    frozen_state: StateSample | None = None
    frozen_request: Request | None = None
    for k in range(ticks):
        active = {name for name, first, length in script if first <= k < first + length}
        step = TICK_NS
        if "late_tick" in active:
            step = 37 * MS
        if "burst" in active:
            step = MS // 2
        if "clock_back" in active:
            step = -20 * MS
        now += step
        angle = 2.0 * math.pi * k * 0.01 / stride
        position = [0.2 + 0.3 * math.sin(angle), 0.2 - 0.3 * math.sin(angle)]
        speed = 0.3 * 2.0 * math.pi / stride * math.cos(angle)
        velocity = [speed, -speed]
        grown = min(1.0, max(0.0, (k - 50) / 100))
        torque = [grown * amplitude * math.sin(angle + 1.0), -grown * amplitude * math.sin(angle + 1.0)]
        side = int(noise[k, 3] > 0)
        if "nan" in active:
            (position, velocity, torque)[k % 3][side] = math.nan
        if "inf" in active:
            (position, velocity, torque)[k % 3][side] = math.inf
        if "jump" in active:
            torque[side] += 10.0 * noise[k, 0]
        if "huge" in active:
            torque[side] = 1e308 * math.copysign(1.0, noise[k, 0])
        if "sign" in active:
            position, velocity, torque = ([-x for x in v] for v in (position, velocity, torque))
        if "swap" in active:
            position, torque = position[::-1], torque[::-1]
        if "fast_hip" in active:
            velocity[side] = 6.0 * noise[k, 1]
        if "beyond" in active:
            position[side] = 0.9 + 0.2 * noise[k, 2]
        age = int(rng.integers(0, 6)) * MS
        state: StateSample | None = StateSample(now - age, tuple(position), tuple(velocity), (0.0, 0.0))
        request: Request | None = Request(now - age, tuple(torque))
        if "future" in active:
            request = Request(now + 50 * MS, tuple(torque))
        if "freeze_state" in active:
            state = frozen_state
        if "freeze_request" in active:
            request = frozen_request
        if "drop_state" in active:
            state = None
        frozen_state, frozen_request = state, request
        operator = Operator(
            arm=k in arms,
            stop="stop" in active,
            estop="estop" in active,
            foreign_command_writer="foreign" in active,
        )
        yield now, state, request, operator


def play(script: list[tuple[str, int, int]], seed: int) -> list:
    machine = StateMachine(ENVELOPE)
    return [(tick, *machine.step(*tick)) for tick in walking_ticks(script, seed)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(script=faults, seed=st.integers(0, 2**32 - 1))
def test_whatever_comes_the_output_is_safe(script: list[tuple[str, int, int]], seed: int) -> None:
    limits = Limits()
    before, last_now, closed_at, sessions = None, None, None, [0]
    for (now, state, request, operator), command, status in play(script, seed):
        out = command.torque_nm
        assert all(map(math.isfinite, (*out, *status.requested_nm, *status.limit_nm)))
        assert all(abs(t) <= side.torque_max_nm for t, side in zip(out, (LEFT, RIGHT), strict=True))
        assert out == (0.0, 0.0) or command.arm_session != 0
        assert status.commanded_nm == out and status.arm_session == command.arm_session
        # An oracle of its own: with bad inputs torque is not in normal use.
        numbers = [*(state.position + state.velocity if state else ()), *(request.torque_nm if request else ())]
        bad = state is None or request is None or not all(map(math.isfinite, numbers))
        if not bad:
            bad = (
                now - state.stamp_ns > limits.state_gate_s * 1e9 or now - request.stamp_ns > limits.request_gate_s * 1e9
            )
        if bad or operator.stop or operator.estop or operator.foreign_command_writer:
            assert status.level is not Level.ARMED
        level_before = before[1].level if before else Level.DISARMED
        if level_before in (Level.DISARMED, Level.TRIPPED) and status.level in (Level.ARMED, Level.GATED):
            assert operator.arm
            assert command.arm_session > max(sessions)
        sessions.append(command.arm_session)
        assert status.level is not Level.DISARMED or level_before is Level.DISARMED
        closed = status.level in (Level.GATED, Level.TRIPPED)
        if closed and (closed_at is None or level_before is Level.ARMED):
            closed_at = now
        if closed and now - closed_at >= 15 * MS:
            assert out == (0.0, 0.0)
        if not closed:
            closed_at = None
        if before:
            assert command.sequence == before[0].sequence + 1
            dt = min(max((now - last_now) / 1e9, 0.0), 0.02)
            for i, side in enumerate((LEFT, RIGHT)):
                old, new = before[0].torque_nm[i], out[i]
                if closed:
                    assert abs(new) <= abs(old)
                else:
                    assert abs(new - old) <= side.torque_rate_max_nm_s * dt + 1e-9
        before, last_now = (command, status), now


def test_undisturbed_walks_arm_and_help() -> None:
    """The property test would be empty if torque never flowed."""
    helped = [max(abs(c.torque_nm[0]) for _, c, _ in play([], seed)) for seed in range(20)]
    assert sum(h > 3.0 for h in helped) >= 10


@given(script=faults, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_same_inputs_same_outputs(script: list[tuple[str, int, int]], seed: int) -> None:
    assert repr(play(script, seed)) == repr(play(script, seed))


def test_constants_are_those_of_the_message() -> None:
    assert all(getattr(SafetyState, level.name) == level for level in Level)
    assert all(getattr(SafetyState, action.name) == action for action in Action)


def test_torque_follows_the_request_on_each_side() -> None:
    bench = Bench().flow((6.0, -4.0))
    command, status = bench.last
    assert command.torque_nm == (6.0, -4.0)
    assert (status.level, status.action, status.reason, status.limit_nm) == (Level.ARMED, Action.PASS, "", (12.0, 8.0))
    assert (command.stamp_ns, command.arm_session) == (bench.now - bench.state_age, 7)


def test_each_arming_has_its_own_session_and_starts_at_zero() -> None:
    bench = Bench().flow()
    bench.tick(stop=True)
    bench.torque = (0.0, 0.0)
    for _ in range(20):
        bench.tick()
    command, status = bench.tick(arm=True)
    assert (status.level, command.arm_session, command.torque_nm) == (Level.ARMED, 8, (0.0, 0.0))


def test_a_gate_opens_by_itself_after_ten_fresh_ticks() -> None:
    bench = Bench().flow()
    bench.request_age = 30 * MS
    _, status = bench.tick()
    assert (status.level, status.action) == (Level.GATED, Action.RAMP_DOWN)
    bench.tick()
    bench.request_age = 2 * MS
    levels = []
    for _ in range(12):
        command, status = bench.tick()
        levels.append(status.level)
        if status.level is Level.GATED:
            assert command.torque_nm == (0.0, 0.0)
    assert levels == [Level.GATED] * 9 + [Level.ARMED] * 3
    assert command.arm_session == 7


def test_repeating_an_old_request_does_not_open_a_gate() -> None:
    bench = Bench().flow()
    bench.request_age = 30 * MS
    bench.tick()
    request = Request(bench.now, (0.0, 0.0))
    for k in range(1, 15):
        now = bench.now + k * MS
        state = StateSample(now, (0.2, 0.2), (0.0, 0.0), (0.0, 0.0))
        _, status = bench.machine.step(now, state, request)
    assert status.level is Level.GATED


@pytest.mark.parametrize("pulse", ["stop", "estop", "foreign_command_writer"])
@pytest.mark.parametrize("ns", [5 * MS, 10 * MS])
def test_a_stop_reaches_zero_within_15_ms_without_a_step(pulse: str, ns: int) -> None:
    bench = Bench().flow()
    command, _ = bench.tick(ns, **{pulse: True})
    assert command.torque_nm == pytest.approx((3.0, -2.0))
    command, _ = bench.tick(ns)
    assert command.torque_nm == (0.0, 0.0)


def test_stop_wins_over_arm_and_is_idempotent() -> None:
    bench = Bench()
    bench.tick()
    for _ in range(3):
        _, status = bench.tick(arm=True, stop=True)
        assert status.level is Level.DISARMED
    assert bench.arm().last[1].level is Level.ARMED


def test_a_held_estop_refuses_arming_until_released() -> None:
    bench = Bench().arm()
    for operator in ({"estop": True}, {"estop": True, "arm": True}):
        _, status = bench.tick(**operator)
        assert (status.level, status.reason) == (Level.TRIPPED, "estop")
    assert status.sentence.startswith("arming refused")
    assert bench.tick()[1].level is Level.TRIPPED
    assert bench.tick(arm=True)[1].level is Level.ARMED


def test_estop_latches_even_while_disarmed() -> None:
    bench = Bench()
    bench.tick(estop=True)
    assert bench.tick()[1].level is Level.TRIPPED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"state_age": 25 * MS}, "state_stale"),
        ({"request_age": 30 * MS}, "request_stale"),
        ({"position": (1.01, 0.2)}, "angle_beyond"),
        ({"position": (0.2, math.nan)}, "state_not_finite"),
        ({"applied": None}, "applied_missing"),
    ],
)
def test_arming_is_refused_with_a_sentence(change: dict, reason: str) -> None:
    bench = dataclasses.replace(Bench(), **change)
    bench.tick()
    _, status = bench.tick(arm=True)
    assert (status.level, status.reason) == (Level.DISARMED, reason)
    assert status.sentence.startswith("arming refused: ")


def test_a_replay_outranks_whatever_else_refuses_arming() -> None:
    bench = dataclasses.replace(Bench(), state_age=200 * MS, torque=(1.0, 0.0))
    _, status = bench.tick(arm=True, arming_forbidden=True, estop=True)
    assert (status.level, status.reason) == (Level.TRIPPED, "arm_forbidden")


@pytest.mark.parametrize("input_age", ["state_age", "request_age"])
def test_a_stamp_far_in_the_future_gates_and_is_forgotten(input_age: str) -> None:
    bench = Bench().flow()
    setattr(bench, input_age, -3600 * 1000 * MS)
    assert bench.tick()[1].level is Level.GATED
    setattr(bench, input_age, 2 * MS)
    for _ in range(12):
        _, status = bench.tick()
    assert status.level is Level.ARMED


def test_arming_again_after_the_clock_was_set_back() -> None:
    bench = Bench().flow()
    bench.tick(-1000 * MS)
    bench.torque = (0.0, 0.0)
    for _ in range(20):
        assert bench.tick()[1].level is Level.TRIPPED
    assert bench.tick(arm=True)[1].level is Level.ARMED
    assert bench.tick()[1].level is Level.ARMED


def test_arming_before_any_input_is_refused() -> None:
    _, status = StateMachine(ENVELOPE).step(1, None, None, Operator(arm=True))
    assert (status.level, status.reason) == (Level.DISARMED, "state_lost")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_beyond_the_range_nothing_pushes_outward_and_release_is_no_step(side: int, sign: float) -> None:
    bench = Bench().flow((6.0 * sign, 6.0 * sign))
    envelope = (LEFT, RIGHT)[side]
    limit = envelope.angle_max_rad if sign > 0 else envelope.angle_min_rad
    position = [0.2, 0.2]
    position[side] = limit + sign * 0.05
    bench.position = (position[0], position[1])
    torques = [6.0] + [bench.tick()[0].torque_nm[side] * sign for _ in range(8)]
    steps = -np.diff(torques)
    assert np.all(steps <= envelope.torque_rate_max_nm_s * 0.01 + 1e-9)
    assert torques[-1] == 0.0
    velocity = [0.0, 0.0]
    velocity[side] = sign
    bench.velocity = (velocity[0], velocity[1])
    for _ in range(3):
        command, status = bench.tick()
    assert command.torque_nm[side] == pytest.approx(-0.5 * sign)
    assert status.action is Action.ZERO
    assert command.torque_nm[1 - side] == pytest.approx(6.0 * sign)


def test_a_step_is_fast_enough_for_the_tick() -> None:
    import time

    bench = Bench().flow()
    begin = time.perf_counter()
    for _ in range(500):
        bench.tick()
    assert (time.perf_counter() - begin) / 500 < 0.5e-3
