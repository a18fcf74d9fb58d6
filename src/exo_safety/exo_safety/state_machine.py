"""The decision: may torque flow now, and how much. Pure, deterministic, without ROS.

`step` is called for every request and, when inputs fall silent, by a timer.
It holds no clock of its own: the same calls give the same answers.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence

from exo_common.clock import NS_PER_S
from exo_safety.envelope import Envelope
from exo_safety.rules import (
    ARM_FORBIDDEN,
    SIDE_RULES,
    SYSTEM_RULES,
    Action,
    Limits,
    SideRule,
    SideView,
    SystemRule,
    SystemView,
    Tier,
    finite,
)

Pair = tuple[float, float]
ZERO: Pair = (0.0, 0.0)
SIDES = ("left", "right")

# An emergency ramp ends within 15 ms at any tick spacing up to 10 ms: it takes
# 10 ms, and its first tick already stands half-way.
RAMP_S = 0.010
RAMP_LEAD_S = 0.005
# A late tick may not buy a larger step than two periods of 10 ms.
LONGEST_DT_S = 0.020
# Requests closer than half a period are judged as if half a period apart.
SHORTEST_REQUEST_DT_S = 0.005


class Level(enum.IntEnum):
    """Constants of SafetyState.msg."""

    DISARMED = 0
    ARMED = 1
    GATED = 2
    TRIPPED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class StateSample:
    """Joint state: acquisition stamp ns; (left, right) hip angle rad, velocity rad/s, applied torque Nm.

    `applied_nm` is None if the device does not report it.
    """

    stamp_ns: int
    position: Pair
    velocity: Pair
    applied_nm: Pair | None


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What the policy would like: stamp of the joint state it answers, ns; (left, right) torque, Nm."""

    stamp_ns: int
    torque_nm: Pair


@dataclasses.dataclass(frozen=True, slots=True)
class Operator:
    """Everything people and the graph say in one tick. `arm` and `stop` are pulses, the others levels."""

    arm: bool = False
    stop: bool = False
    estop: bool = False
    foreign_command_writer: bool = False
    foreign_request_writer: bool = False
    arming_forbidden: bool = False


NOBODY = Operator()


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """What goes to the motors; `stamp_ns` is that of the joint state it rests on (0 before the first)."""

    stamp_ns: int
    sequence: int
    arm_session: int
    torque_nm: Pair


@dataclasses.dataclass(frozen=True, slots=True)
class SafetyStatus:
    """What was decided and why; torques (left, right) in Nm."""

    level: Level
    action: Action
    arm_session: int
    reason: str
    sentence: str
    requested_nm: Pair
    commanded_nm: Pair
    limit_nm: Pair


@dataclasses.dataclass(frozen=True, slots=True)
class _Finding:
    action: Action
    code: str
    sentence: str


DISARMED = _Finding(Action.DISABLE, "disarmed", "the exo is not armed; arm it when the wearer is ready")
STARTING = _Finding(Action.SCALE, "starting", "torque rises from zero")
RESUMING = _Finding(Action.RAMP_DOWN, "resuming", "inputs are fresh again; torque returns in a moment")
CLEAR = _Finding(Action.PASS, "", "")


class StateMachine:
    """Supervisor of both hips.

    Parameters
    ----------
    envelope : the wearer's envelope, per side.
    limits : thresholds that do not depend on the wearer.
    first_session : number of the first arming; later ones count up from it. Nonzero.
    system_rules, side_rules : the registry; replaced only by tests.
    """

    def __init__(
        self,
        envelope: Envelope,
        limits: Limits | None = None,
        first_session: int = 1,
        system_rules: Sequence[SystemRule] = SYSTEM_RULES,
        side_rules: Sequence[SideRule] = SIDE_RULES,
    ) -> None:
        self._sides = envelope.sides
        self._limits = limits or Limits()
        self._system_rules = tuple(system_rules)
        self._side_rules = tuple(side_rules)
        self._hold_ns = {r.code: int(getattr(self._limits, r.hold) * NS_PER_S) for r in side_rules if r.hold}
        self._next_session = first_session
        self._session = 0
        self._sequence = -1
        self._level = Level.DISARMED
        self._trip = DISARMED
        self._output: Pair = ZERO
        self._now: int | None = None
        self._rising_since = 0
        self._ramp: tuple[int, Pair] | None = None
        self._fresh_ticks = 0
        self._counted_request = -1
        self._state_stamp = -1
        self._request: Request | None = None
        self._rate: Pair = ZERO
        self._since: dict[tuple[str, int], int] = {}

    def step(
        self, now_ns: int, state: StateSample | None, request: Request | None, operator: Operator = NOBODY
    ) -> tuple[Command, SafetyStatus]:
        """Decide once.

        Parameters
        ----------
        now_ns : the clock of the stamps, ns.
        state, request : the newest of each; None before the first.
        operator : people and graph in this tick.
        """
        view = self._look(now_ns, state, request, operator)
        dt = 0.0 if self._now is None else (now_ns - self._now) / NS_PER_S
        dt = min(max(dt, 0.0), LONGEST_DT_S)
        self._now = now_ns
        sides = self._side_views(view, state, request)
        found = self._findings(view, sides, now_ns)
        refusal = self._operate(operator, view, sides, found, now_ns)
        worst = self._transition(found, view, request, now_ns)
        target, limit = self._targets(sides, now_ns)
        if self._level is Level.ARMED:
            self._output = self._approach(target, dt)
        else:
            self._output = self._ramped(now_ns)
            limit = ZERO
        if self._level is Level.TRIPPED and self._output == ZERO:
            self._session = 0
        if refusal is not None:
            worst = refusal
        self._sequence += 1
        command = Command(state.stamp_ns if state else 0, self._sequence, self._session, self._output)
        requested = request.torque_nm if request and view.request_finite else ZERO
        return command, SafetyStatus(
            self._level, worst.action, self._session, worst.code, worst.sentence, requested, self._output, limit
        )

    def _look(self, now: int, state: StateSample | None, request: Request | None, operator: Operator) -> SystemView:
        state_back = request_back = False
        # A stamp beyond this gates, but is not remembered: all later ones would seem to go back.
        latest = now + round(self._limits.future_s * NS_PER_S)
        if operator.arm and self._level in (Level.DISARMED, Level.TRIPPED):
            # A new beginning: what came before, even by another clock, is no measure for what comes now.
            self._state_stamp, self._request, self._rate = -1, None, ZERO
        if state is not None and state.stamp_ns <= latest:
            state_back = state.stamp_ns < self._state_stamp
            self._state_stamp = max(self._state_stamp, state.stamp_ns)
        if request is not None and request.stamp_ns <= latest:
            previous = self._request
            if previous is None or request.stamp_ns > previous.stamp_ns:
                self._rate = self._request_rate(previous, request)
                self._request = request
            else:
                request_back = request.stamp_ns < previous.stamp_ns
        return SystemView(
            state_age_s=(now - state.stamp_ns) / NS_PER_S if state else math.inf,
            request_age_s=(now - request.stamp_ns) / NS_PER_S if request else math.inf,
            state_finite=state is None or finite(*state.position, *state.velocity, *(state.applied_nm or ZERO)),
            applied_missing=state is not None and state.applied_nm is None,
            request_finite=request is None or finite(*request.torque_nm),
            state_back=state_back,
            request_back=request_back,
            clock_back=self._now is not None and now < self._now,
            stop=operator.stop,
            estop=operator.estop,
            foreign_command_writer=operator.foreign_command_writer,
            foreign_request_writer=operator.foreign_request_writer,
            arming_forbidden=operator.arming_forbidden,
            torque_left=self._output != ZERO,
        )

    def _request_rate(self, previous: Request | None, request: Request) -> Pair:
        """Nm/s between two requests; silence longer than a lost input starts anew."""
        if previous is None or not finite(*previous.torque_nm, *request.torque_nm):
            return ZERO
        dt = (request.stamp_ns - previous.stamp_ns) / NS_PER_S
        if dt > self._limits.lost_s:
            return ZERO
        dt = max(dt, SHORTEST_REQUEST_DT_S)
        left, right = ((b - a) / dt for a, b in zip(previous.torque_nm, request.torque_nm, strict=True))
        return (left, right)

    def _side_views(
        self, view: SystemView, state: StateSample | None, request: Request | None
    ) -> tuple[SideView, SideView] | None:
        if state is None or state.applied_nm is None or request is None:
            return None
        if not (view.state_finite and view.request_finite):
            return None
        left, right = (
            SideView(
                position=state.position[i],
                velocity=state.velocity[i],
                applied=state.applied_nm[i],
                request=request.torque_nm[i],
                request_rate=self._rate[i],
                envelope=self._sides[i],
            )
            for i in (0, 1)
        )
        return (left, right)

    def _findings(self, view: SystemView, sides: tuple[SideView, SideView] | None, now: int) -> list[_Finding]:
        limits = self._limits
        found = [
            _Finding(rule.action, rule.code, rule.sentence)
            for rule in self._system_rules
            if rule.tier is not Tier.ARM and rule.check(view, limits)
        ]
        for rule in self._side_rules:
            if rule.tier is Tier.ARM:
                continue
            for i in (0, 1):
                key = (rule.code, i)
                if sides is None or not rule.check(sides[i], limits):
                    self._since.pop(key, None)
                    continue
                since = self._since.setdefault(key, now)
                if now - since >= self._hold_ns.get(rule.code, 0):
                    found.append(_Finding(rule.action, rule.code, f"{SIDES[i]} hip: {rule.sentence}"))
        return found

    def _operate(
        self,
        operator: Operator,
        view: SystemView,
        sides: tuple[SideView, SideView] | None,
        found: list[_Finding],
        now: int,
    ) -> _Finding | None:
        """Arm if asked and nothing speaks against it; the returned finding says what does."""
        if not operator.arm or self._level in (Level.ARMED, Level.GATED):
            return None
        against = [f for f in found if f.action >= Action.RAMP_DOWN]
        against += [
            _Finding(rule.action, rule.code, rule.sentence)
            for rule in self._system_rules
            if rule.tier is Tier.ARM and rule.check(view, self._limits)
        ]
        against += [
            _Finding(rule.action, rule.code, f"{SIDES[i]} hip: {rule.sentence}")
            for rule in self._side_rules
            for i in (0, 1)
            if rule.tier is Tier.ARM and sides is not None and rule.check(sides[i], self._limits)
        ]
        if against:
            # Of equals, the one that no waiting cures is named.
            worst = max(against, key=lambda f: (f.action, f.code == ARM_FORBIDDEN))
            return _Finding(Action.DISABLE, worst.code, f"arming refused: {worst.sentence}")
        self._level = Level.ARMED
        self._session = self._next_session
        self._next_session += 1
        self._rising_since = now
        self._ramp = None
        return None

    def _transition(self, found: list[_Finding], view: SystemView, request: Request | None, now: int) -> _Finding:
        """Move between the levels; returns the finding that explains this tick."""
        worst = max(found, key=lambda f: f.action, default=CLEAR)
        if self._level is Level.DISARMED and view.estop:
            self._level, self._trip = Level.TRIPPED, worst
        if self._level is Level.TRIPPED:
            return self._trip
        if self._level is Level.DISARMED:
            return DISARMED
        if worst.action is Action.DISABLE:
            self._level, self._trip = Level.TRIPPED, worst
            self._ramp = self._ramp or (now, self._output)
            return worst
        gate = max((f for f in found if f.action is Action.RAMP_DOWN), key=lambda f: f.action, default=None)
        if gate is not None:
            self._level = Level.GATED
            self._ramp = self._ramp or (now, self._output)
            self._fresh_ticks = 0
            return gate
        if self._level is Level.GATED:
            stamp = request.stamp_ns if request else -1
            self._fresh_ticks += stamp != self._counted_request
            self._counted_request = stamp
            if self._fresh_ticks < self._limits.resume_ticks or self._output != ZERO:
                return RESUMING
            self._level, self._ramp, self._rising_since = Level.ARMED, None, now
        if worst is CLEAR and now - self._rising_since < self._limits.arm_ramp_s * NS_PER_S:
            return STARTING
        return worst

    def _targets(self, sides: tuple[SideView, SideView] | None, now: int) -> tuple[Pair, Pair]:
        """Where the torque should go, and the limit in force, both (left, right) in Nm."""
        if sides is None or self._level is not Level.ARMED:
            return ZERO, ZERO
        gain = min(1.0, (now - self._rising_since) / NS_PER_S / self._limits.arm_ramp_s)
        targets, ceilings = [], []
        for view in sides:
            torque, ceiling = gain * view.request, math.copysign(gain * view.envelope.torque_max_nm, view.request)
            for rule in self._side_rules:
                if rule.shape is not None and rule.check(view, self._limits):
                    torque = rule.shape(view, self._limits, torque)
                    ceiling = rule.shape(view, self._limits, ceiling)
            targets.append(torque)
            ceilings.append(abs(ceiling))
        return (targets[0], targets[1]), (ceilings[0], ceilings[1])

    def _approach(self, target: Pair, dt: float) -> Pair:
        """One rate-limited step towards the target, inside the envelope whatever the rules say."""
        left, right = (
            max(-side.torque_max_nm, min(side.torque_max_nm, old + max(-step, min(step, new - old))))
            for side, old, new, step in (
                (self._sides[i], self._output[i], target[i], self._sides[i].torque_rate_max_nm_s * dt) for i in (0, 1)
            )
        )
        return (left, right)

    def _ramped(self, now: int) -> Pair:
        """The emergency ramp; zero when it is over or never began."""
        if self._ramp is None:
            return ZERO
        begin, (left, right) = self._ramp
        share = 1.0 - ((now - begin) / NS_PER_S + RAMP_LEAD_S) / RAMP_S
        if now < begin or share <= 0.0:
            self._ramp = (begin, ZERO)
            return ZERO
        return (share * left, share * right)
