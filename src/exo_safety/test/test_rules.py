"""Every rule of the registry: it acts, and the same disturbance is not answered by it when it is disabled."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from safety_fakes import MS, TICK_NS, Bench

from exo_safety.rules import SIDE_RULES, SYSTEM_RULES, Action, Tier, all_codes
from exo_safety.state_machine import Level

Outcome = tuple[list[str], list[int]]
INF = math.inf


def run(bench: Bench, ticks: int = 1, ns: int = TICK_NS, **operator: bool) -> Outcome:
    """Tick and return the reasons and actions met."""
    reasons, actions = [], []
    for _ in range(ticks):
        _, status = bench.tick(ns, **operator)
        reasons.append(status.reason)
        actions.append(status.action)
    return reasons, actions


def flowing(
    disabled: tuple[str, ...], ticks: int = 1, ns: int = TICK_NS, operator: dict | None = None, **set_to
) -> Outcome:
    bench = Bench(disabled).flow()
    for name, value in set_to.items():
        setattr(bench, name, value)
    return run(bench, ticks, ns, **(operator or {}))


def arming(disabled: tuple[str, ...], operator: dict | None = None, **set_to) -> Outcome:
    bench = Bench(disabled)
    for name, value in set_to.items():
        setattr(bench, name, value)
    bench.tick()
    return run(bench, 1, arm=True, **(operator or {}))


def silence(disabled: tuple[str, ...], name: str) -> Outcome:
    """One input stops while the other goes on."""
    bench = Bench(disabled).flow()
    reasons, actions = [], []
    for _ in range(12):
        setattr(bench, name, getattr(bench, name) + TICK_NS)
        found = run(bench)
        reasons += found[0]
        actions += found[1]
    return reasons, actions


def oscillating_request(disabled: tuple[str, ...]) -> Outcome:
    """Requests that change by 2.5 Nm per tick: above both rate limits, below both torque limits."""
    bench = Bench(disabled).flow((0.0, 0.0))
    reasons, actions = [], []
    for k in range(40):
        bench.torque = (2.5 * (k % 2), 2.5 * (k % 2))
        found = run(bench)
        reasons += found[0]
        actions += found[1]
    return reasons, actions


def still_falling(disabled: tuple[str, ...]) -> Outcome:
    """Armed again 1 ms after a stop, while the ramp still runs and the request is already zero."""
    bench = Bench(disabled).flow()
    bench.torque = (0.0, 0.0)
    bench.tick(stop=True)
    return run(bench, 1, MS, arm=True)


OTHERS_OF_FAST = ("velocity_near", "velocity_dwell", "power_over", "power_dwell", "power_stop")
BEYOND = ("angle_near", "angle_beyond", "angle_dwell")

# For each code: the disturbance, given the rules to disable. Rules that would answer
# the same disturbance sooner are disabled throughout, so that this rule is the one tested.
CASES: dict[str, tuple[Callable[[tuple[str, ...]], Outcome], tuple[str, ...]]] = {
    "estop": (lambda d: flowing(d, operator={"estop": True}), ()),
    "stop": (lambda d: flowing(d, operator={"stop": True}), ()),
    "foreign_writer": (lambda d: flowing(d, operator={"foreign_command_writer": True}), ()),
    "foreign_request": (lambda d: flowing(d, operator={"foreign_request_writer": True}), ()),
    "clock_back": (lambda d: flowing(d, ns=-50 * MS), ()),
    "state_not_finite": (lambda d: flowing(d, position=(0.2, math.nan)), ()),
    "request_not_finite": (lambda d: flowing(d, torque=(INF, 0.0)), ()),
    "applied_missing": (lambda d: flowing(d, applied=None), ()),
    "state_lost": (lambda d: silence(d, "state_age"), ()),
    "request_lost": (lambda d: silence(d, "request_age"), ()),
    "state_stale": (lambda d: flowing(d, state_age=21 * MS), ("state_back",)),
    "request_stale": (lambda d: flowing(d, request_age=26 * MS), ("request_back",)),
    "state_future": (lambda d: flowing(d, state_age=-6 * MS), ()),
    "request_future": (lambda d: flowing(d, request_age=-6 * MS), ()),
    "state_back": (lambda d: flowing(d, ns=MS, state_age=10 * MS), ()),
    "request_back": (lambda d: flowing(d, ns=MS, request_age=10 * MS), ()),
    "arm_forbidden": (lambda d: arming(d, operator={"arming_forbidden": True}), ()),
    "arm_torque_left": (still_falling, ("rate_over", "rate_stop")),
    "arm_request": (lambda d: arming(d, torque=(0.0, 0.6)), ()),
    "torque_over": (lambda d: flowing(d, torque=(6.0, -8.1)), ("rate_over",)),
    "rate_over": (lambda d: flowing(d, torque=(6.0, -2.4)), ()),
    "velocity_near": (lambda d: flowing(d, velocity=(4.9, 0.0)), OTHERS_OF_FAST[2:]),
    "angle_near": (lambda d: flowing(d, position=(0.2, 0.72)), ()),
    "angle_beyond": (lambda d: flowing(d, position=(0.2, -0.31)), ()),
    "power_over": (lambda d: flowing(d, torque=(6.5, -8.0), velocity=(0.0, 3.9)), ("rate_over",)),
    "torque_dwell": (lambda d: flowing(d, 55, torque=(6.0, -8.1)), ()),
    "rate_dwell": (oscillating_request, ()),
    "power_dwell": (lambda d: flowing(d, 55, torque=(6.5, -8.0), velocity=(0.0, 3.9)), ()),
    "angle_dwell": (lambda d: flowing(d, 55, position=(1.01, 0.2)), ()),
    "velocity_dwell": (lambda d: flowing(d, 7, velocity=(0.0, -5.1)), ()),
    "torque_stop": (lambda d: flowing(d, torque=(6.0, -16.1)), ("rate_stop",)),
    "applied_stop": (lambda d: flowing(d, applied=(0.0, 10.1)), ()),
    "rate_stop": (lambda d: flowing(d, torque=(6.0, 12.0)), ("torque_stop",)),
    "power_stop": (lambda d: flowing(d, applied=(0.0, 9.9), velocity=(0.0, 4.6)), ()),
    "angle_stop": (lambda d: flowing(d, position=(0.2, -0.49)), ()),
    "velocity_stop": (lambda d: flowing(d, velocity=(7.6, 0.0)), ()),
}
RULES = {rule.code: rule for rule in (*SYSTEM_RULES, *SIDE_RULES)}


def test_every_rule_has_a_case() -> None:
    assert sorted(CASES) == sorted(all_codes())
    assert len(set(all_codes())) == len(all_codes())


@pytest.mark.parametrize("code", sorted(CASES))
def test_rule_answers_and_only_while_enabled(code: str) -> None:
    disturb, others = CASES[code]
    reasons, actions = disturb(others)
    assert code in reasons
    assert RULES[code].action in [a for a, r in zip(actions, reasons, strict=True) if r == code]
    assert code not in disturb((*others, code))[0]


@pytest.mark.parametrize("code", [c for c, r in RULES.items() if r.action is Action.DISABLE and r.tier is not Tier.ARM])
def test_a_trip_is_latched_and_zero(code: str) -> None:
    disturb, others = CASES[code]
    captured = []
    original = Bench.flow
    Bench.flow = lambda self, *a, **k: captured.append(self) or original(self, *a, **k)
    try:
        disturb(others)
    finally:
        Bench.flow = original
    bench = captured[0]
    bench.torque, bench.position, bench.velocity, bench.applied = (0.0, 0.0), (0.2, 0.2), (0.0, 0.0), (0.0, 0.0)
    bench.state_age = bench.request_age = 2 * MS
    for _ in range(30):
        command, status = bench.tick()
    assert (status.level, status.reason, command.torque_nm, command.arm_session) == (Level.TRIPPED, code, (0.0, 0.0), 0)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_sentences_are_for_people(rule) -> None:
    assert rule.sentence[0].islower() and not rule.sentence.endswith(".") and len(rule.sentence) > 20
