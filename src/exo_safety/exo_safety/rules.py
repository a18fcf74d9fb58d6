"""The registry of safety rules: what is watched, at which tier, with which action and sentence.

The rules are data. The state machine evaluates all of them in every tick and
obeys the most aggressive action found. Thresholds come from the wearer's
envelope and from :class:`Limits`. Signs: flexion positive; left, right.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable

from exo_common.parameters import Parameters, parameter
from exo_safety.envelope import SideEnvelope


class Action(enum.IntEnum):
    """What a finding demands, least to most aggressive (constants of SafetyState.msg)."""

    PASS = 0
    SCALE = 1
    RAMP_DOWN = 2
    ZERO = 3
    DISABLE = 4


class Tier(enum.Enum):
    """How a rule escalates."""

    WARN = "warn"  # acts on the torque at once, keeps going
    DWELL = "dwell"  # acts when the condition lasts
    STOP = "stop"  # trips at once
    GATE = "gate"  # ramps to zero, resumes by itself
    ARM = "arm"  # only refuses arming


@dataclasses.dataclass(frozen=True)
class Limits(Parameters):
    """Thresholds of the rules that do not depend on the wearer."""

    state_gate_s: float = parameter(
        0.020, "s", "age of the joint state that ramps to zero", minimum=0.005, maximum=0.02
    )
    request_gate_s: float = parameter(0.025, "s", "age of the request that ramps to zero", minimum=0.005, maximum=0.025)
    lost_s: float = parameter(0.100, "s", "age of an input that trips", minimum=0.03, maximum=0.1)
    future_s: float = parameter(0.005, "s", "how far ahead of the clock a stamp may be", minimum=0.0, maximum=0.01)
    resume_ticks: int = parameter(10, "ticks", "fresh ticks before a gate opens again", minimum=10, maximum=1000)
    arm_ramp_s: float = parameter(1.0, "s", "rise from zero torque after arming or a gate", minimum=0.1, maximum=10.0)
    arm_request_nm: float = parameter(0.5, "Nm", "largest request at which arming is allowed", minimum=0.0, maximum=1.0)
    angle_margin_rad: float = parameter(
        0.09, "rad", "before the limit of range, where outward push fades", minimum=0.01, maximum=0.3
    )
    angle_stop_rad: float = parameter(0.18, "rad", "beyond the limit of range that trips", minimum=0.02, maximum=0.2)
    angle_dwell_s: float = parameter(0.5, "s", "time beyond the range that ramps to zero", minimum=0.1, maximum=1.0)
    damping_nm_s: float = parameter(
        0.5, "Nm s/rad", "damping of outward motion beyond the range", minimum=0.0, maximum=2.0
    )
    damping_fraction: float = parameter(
        0.25, "of the torque limit", "largest damping torque beyond the range", minimum=0.0, maximum=0.5
    )
    velocity_near: float = parameter(
        0.8, "of the limit", "speed where torque along the motion fades", minimum=0.3, maximum=0.95
    )
    velocity_stop: float = parameter(1.25, "of the limit", "speed that trips", minimum=1.0, maximum=1.25)
    velocity_dwell_s: float = parameter(0.05, "s", "time above the speed limit that trips", minimum=0.01, maximum=0.2)
    torque_stop: float = parameter(2.0, "of the limit", "requested torque that trips", minimum=1.1, maximum=3.0)
    torque_dwell_s: float = parameter(
        0.5, "s", "time above the torque limit that ramps to zero", minimum=0.05, maximum=1.0
    )
    applied_stop: float = parameter(1.25, "of the limit", "torque on the wearer that trips", minimum=1.0, maximum=1.5)
    rate_stop: float = parameter(10.0, "of the limit", "torque rate of a request that trips", minimum=2.0, maximum=20.0)
    rate_dwell_s: float = parameter(0.2, "s", "time above the rate limit that ramps to zero", minimum=0.05, maximum=1.0)
    power_stop: float = parameter(1.5, "of the limit", "power on the wearer that trips", minimum=1.0, maximum=2.0)
    power_dwell_s: float = parameter(
        0.5, "s", "time above the power limit that ramps to zero", minimum=0.05, maximum=1.0
    )


@dataclasses.dataclass(frozen=True, slots=True)
class SystemView:
    """What a rule about the whole exo looks at in one tick; ages in s, inf when nothing came yet."""

    state_age_s: float
    request_age_s: float
    state_finite: bool
    request_finite: bool
    applied_missing: bool
    state_back: bool
    request_back: bool
    clock_back: bool
    stop: bool
    estop: bool
    foreign_command_writer: bool
    foreign_request_writer: bool
    arming_forbidden: bool
    torque_left: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SideView:
    """What a rule about one hip looks at in one tick; all numbers finite, SI, flexion positive."""

    position: float
    velocity: float
    applied: float
    request: float
    request_rate: float
    envelope: SideEnvelope

    @property
    def outward(self) -> float:
        """+1 on the flexion half of the range, -1 on the extension half."""
        return 1.0 if self.position > 0.5 * (self.envelope.angle_min_rad + self.envelope.angle_max_rad) else -1.0

    @property
    def beyond(self) -> float:
        """How far outside the range, rad; negative inside."""
        return max(self.position - self.envelope.angle_max_rad, self.envelope.angle_min_rad - self.position)


SystemCheck = Callable[[SystemView, Limits], bool]
SideCheck = Callable[[SideView, Limits], bool]
Shape = Callable[[SideView, Limits, float], float]


@dataclasses.dataclass(frozen=True)
class SystemRule:
    """A rule about the whole exo: code, tier, action, condition, sentence for a person."""

    code: str
    tier: Tier
    action: Action
    check: SystemCheck
    sentence: str


@dataclasses.dataclass(frozen=True)
class SideRule:
    """A rule about each hip.

    `hold` names the field of :class:`Limits` that says how long the condition
    must last (empty: act at once); `shape` changes the torque while it holds.
    """

    code: str
    tier: Tier
    action: Action
    check: SideCheck
    sentence: str
    hold: str = ""
    shape: Shape | None = None


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def _clamp_torque(view: SideView, _: Limits, torque: float) -> float:
    return _clip(torque, view.envelope.torque_max_nm)


def _fade_with_speed(view: SideView, limits: Limits, torque: float) -> float:
    if torque * view.velocity <= 0.0:
        return torque
    start = limits.velocity_near * view.envelope.velocity_max_rad_s
    room = (view.envelope.velocity_max_rad_s - abs(view.velocity)) / (view.envelope.velocity_max_rad_s - start)
    return torque * max(0.0, room)


def _fade_near_range(view: SideView, limits: Limits, torque: float) -> float:
    if torque * view.outward <= 0.0:
        return torque
    return torque * _clip(max(0.0, -view.beyond / limits.angle_margin_rad), 1.0)


def _damp_beyond_range(view: SideView, limits: Limits, torque: float) -> float:
    inward = torque if torque * view.outward < 0.0 else 0.0
    if view.velocity * view.outward <= 0.0:
        return inward
    most = limits.damping_fraction * view.envelope.torque_max_nm
    return inward + _clip(-limits.damping_nm_s * view.velocity, most)


def _clamp_power(view: SideView, _: Limits, torque: float) -> float:
    speed = abs(view.velocity)
    return _clip(torque, view.envelope.power_max_w / speed) if speed > 0.0 else torque


def _over_power(view: SideView, _: Limits) -> bool:
    demand = _clip(view.request, view.envelope.torque_max_nm) * view.velocity
    return abs(demand) > view.envelope.power_max_w


# The rule that outranks its equals when arming is refused.
ARM_FORBIDDEN = "arm_forbidden"

SYSTEM_RULES: tuple[SystemRule, ...] = (
    SystemRule(
        "estop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: v.estop,
        "the emergency stop was pressed; release it, then arm again",
    ),
    SystemRule(
        "stop", Tier.STOP, Action.DISABLE, lambda v, _: v.stop, "the operator stopped the exo; arm again to go on"
    ),
    SystemRule(
        "foreign_writer",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: v.foreign_command_writer,
        "a second publisher writes motor commands; stop it, then arm again",
    ),
    SystemRule(
        "foreign_request",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: v.foreign_request_writer,
        "more than one policy writes requests; stop all but one, then arm again",
    ),
    SystemRule(
        "clock_back",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: v.clock_back,
        "the clock went backwards; check time synchronisation, then arm again",
    ),
    SystemRule(
        "state_not_finite",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: not v.state_finite,
        "the joint state holds a value that is no number; check the encoders, then arm again",
    ),
    SystemRule(
        "request_not_finite",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: not v.request_finite,
        "the policy requested a torque that is no number; restart the policy, then arm again",
    ),
    SystemRule(
        "applied_missing",
        Tier.STOP,
        Action.DISABLE,
        lambda v, _: v.applied_missing,
        "the joint state does not say which torque is applied (effort); let the device report it, then arm again",
    ),
    SystemRule(
        "state_lost",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: v.state_age_s > p.lost_s,
        "no fresh joint state came for too long; check the device, then arm again",
    ),
    SystemRule(
        "request_lost",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: v.request_age_s > p.lost_s,
        "no fresh request came for too long; check the policy, then arm again",
    ),
    SystemRule(
        "state_stale",
        Tier.GATE,
        Action.RAMP_DOWN,
        lambda v, p: v.state_age_s > p.state_gate_s,
        "the joint state is too old; torque returns when it is fresh again",
    ),
    SystemRule(
        "request_stale",
        Tier.GATE,
        Action.RAMP_DOWN,
        lambda v, p: v.request_age_s > p.request_gate_s,
        "the request is too old; torque returns when it is fresh again",
    ),
    SystemRule(
        "state_future",
        Tier.GATE,
        Action.RAMP_DOWN,
        lambda v, p: v.state_age_s < -p.future_s,
        "the joint state is stamped in the future; check time synchronisation of the device",
    ),
    SystemRule(
        "request_future",
        Tier.GATE,
        Action.RAMP_DOWN,
        lambda v, p: v.request_age_s < -p.future_s,
        "the request is stamped in the future; check time synchronisation of the policy",
    ),
    SystemRule(
        "state_back",
        Tier.GATE,
        Action.RAMP_DOWN,
        lambda v, _: v.state_back,
        "a joint state is older than the one before; check the device's clock",
    ),
    SystemRule(
        "request_back",
        Tier.GATE,
        Action.RAMP_DOWN,
        lambda v, _: v.request_back,
        "a request is older than the one before; check the policy",
    ),
    SystemRule(
        ARM_FORBIDDEN,
        Tier.ARM,
        Action.DISABLE,
        lambda v, _: v.arming_forbidden,
        "a recording is being replayed and the device is real hardware; stop the replay first",
    ),
    SystemRule(
        "arm_torque_left",
        Tier.ARM,
        Action.DISABLE,
        lambda v, _: v.torque_left,
        "the torque has not returned to zero yet; try again",
    ),
)

SIDE_RULES: tuple[SideRule, ...] = (
    # Warn tier, in the order in which they shape the torque.
    SideRule(
        "torque_over",
        Tier.WARN,
        Action.SCALE,
        lambda v, _: abs(v.request) > v.envelope.torque_max_nm,
        "the request exceeds the wearer's torque limit and is cut",
        shape=_clamp_torque,
    ),
    SideRule(
        "rate_over",
        Tier.WARN,
        Action.SCALE,
        lambda v, _: abs(v.request_rate) > v.envelope.torque_rate_max_nm_s,
        "the request changes faster than the wearer's rate limit and is slowed",
    ),
    SideRule(
        "velocity_near",
        Tier.WARN,
        Action.SCALE,
        lambda v, p: abs(v.velocity) > p.velocity_near * v.envelope.velocity_max_rad_s,
        "the hip moves fast; torque along the motion fades",
        shape=_fade_with_speed,
    ),
    SideRule(
        "angle_near",
        Tier.WARN,
        Action.SCALE,
        lambda v, p: v.beyond > -p.angle_margin_rad,
        "the hip is near the end of its range; outward torque fades",
        shape=_fade_near_range,
    ),
    SideRule(
        "angle_beyond",
        Tier.WARN,
        Action.ZERO,
        lambda v, _: v.beyond > 0.0,
        "the hip is beyond its range; no outward torque, outward motion is damped",
        shape=_damp_beyond_range,
    ),
    SideRule(
        "power_over",
        Tier.WARN,
        Action.SCALE,
        _over_power,
        "the request exceeds the wearer's power limit and is cut",
        shape=_clamp_power,
    ),
    # Dwell tier.
    SideRule(
        "torque_dwell",
        Tier.DWELL,
        Action.RAMP_DOWN,
        lambda v, _: abs(v.request) > v.envelope.torque_max_nm,
        "requests stay above the torque limit; check the controller",
        hold="torque_dwell_s",
    ),
    SideRule(
        "rate_dwell",
        Tier.DWELL,
        Action.RAMP_DOWN,
        lambda v, _: abs(v.request_rate) > v.envelope.torque_rate_max_nm_s,
        "requests keep changing faster than the rate limit; check the controller",
        hold="rate_dwell_s",
    ),
    SideRule(
        "power_dwell",
        Tier.DWELL,
        Action.RAMP_DOWN,
        _over_power,
        "requests stay above the power limit; check the controller",
        hold="power_dwell_s",
    ),
    SideRule(
        "angle_dwell",
        Tier.DWELL,
        Action.RAMP_DOWN,
        lambda v, _: v.beyond > 0.0,
        "the hip stays beyond its range; torque returns when it is back",
        hold="angle_dwell_s",
    ),
    SideRule(
        "velocity_dwell",
        Tier.DWELL,
        Action.DISABLE,
        lambda v, _: abs(v.velocity) > v.envelope.velocity_max_rad_s,
        "the hip stayed above its speed limit; check the wearer, then arm again",
        hold="velocity_dwell_s",
    ),
    # Stop tier.
    SideRule(
        "torque_stop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: abs(v.request) > p.torque_stop * v.envelope.torque_max_nm,
        "the request was far above the torque limit; check the controller, then arm again",
    ),
    SideRule(
        "applied_stop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: abs(v.applied) > p.applied_stop * v.envelope.torque_max_nm,
        "the device applied more than the torque limit; check the actuator, then arm again",
    ),
    SideRule(
        "rate_stop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: abs(v.request_rate) > p.rate_stop * v.envelope.torque_rate_max_nm_s,
        "the request jumped; check the controller, then arm again",
    ),
    SideRule(
        "power_stop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: abs(v.applied * v.velocity) > p.power_stop * v.envelope.power_max_w,
        "the device exchanged more power with the wearer than allowed; check the actuator, then arm again",
    ),
    SideRule(
        "angle_stop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: v.beyond > p.angle_stop_rad,
        "the hip is far beyond its range; check the wearer and the encoder zero, then arm again",
    ),
    SideRule(
        "velocity_stop",
        Tier.STOP,
        Action.DISABLE,
        lambda v, p: abs(v.velocity) > p.velocity_stop * v.envelope.velocity_max_rad_s,
        "the hip moved far too fast; check the wearer and the encoder, then arm again",
    ),
    SideRule(
        "arm_request",
        Tier.ARM,
        Action.DISABLE,
        lambda v, p: abs(v.request) > p.arm_request_nm,
        "the policy already requests torque; let it request zero, then arm",
    ),
)


def all_codes() -> tuple[str, ...]:
    """Every reason code of the registry."""
    return (*(rule.code for rule in SYSTEM_RULES), *(rule.code for rule in SIDE_RULES))


def finite(*values: float) -> bool:
    """True if every value is a number and not infinite."""
    return all(map(math.isfinite, values))
