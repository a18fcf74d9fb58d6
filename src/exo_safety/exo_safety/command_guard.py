"""The device's own judgement of every torque command: the second, independent safety layer.

The supervisor is the last writer; this guard is what stands behind it, in the
device. It runs inside the torque loop, never in the executor that receives the
commands, and trusts nothing: not the age, the order, the author or the size of
a command. It needs no ROS and no mujoco: floats in, floats out.

Per physics step :meth:`CommandGuard.step` returns the torque to apply. The
torque rises at the envelope's rate; it may fall, and wherever a rule takes it away
does fall, at the emergency rate: full torque to zero in :data:`EMERGENCY_RAMP_S`.
It never steps. A leg that speeds up faster than that exceeds the power limit for
as long as the fall takes.

The guard obeys one writer at a time. Whoever is heard first is bound, also while
it only says "disarmed", until it has been silent for :data:`SESSION_SILENCE_S`.
"""

from __future__ import annotations

import dataclasses
import math

from exo_safety.envelope import Envelope, SideEnvelope

NS_PER_S = 1_000_000_000

# A command rests on a joint state: older than three periods of the 100 Hz chain and it is stale.
COMMAND_AGE_MAX_S = 0.030
# Stamps from the same host may lead the torque loop by scheduling jitter, never by a whole period.
COMMAND_LEAD_MAX_S = 0.010
# A new writer or arm session may replace one that has been silent this long, at zero torque.
SESSION_SILENCE_S = 0.100
# Full permitted torque reaches zero within this time on any fault.
EMERGENCY_RAMP_S = 0.015
# Torque below this counts as zero when a session changes hands.
ZERO_TORQUE_NM = 1e-3
# How long a refusal stays visible as the device's fault.
FAULT_SHOWN_S = 0.5


@dataclasses.dataclass(frozen=True)
class Command:
    """A torque command as it arrived: what HipCommand carries, without ROS.

    Attributes
    ----------
    stamp_ns : acquisition time of the joint state it rests on, ns.
    sequence, arm_session : see HipCommand.msg.
    torque_nm : left, right hip flexion torque on the wearer, Nm.
    writer : who published it (GID of the DDS publisher).
    """

    stamp_ns: int
    sequence: int
    arm_session: int
    torque_nm: tuple[float, float]
    writer: bytes = b""


class CommandGuard:
    """Judges commands and turns the accepted ones into torque inside the envelope.

    Attributes
    ----------
    writers : publishers seen on the command topic; anything but one and no torque flows.
    session : the arm session obeyed, 0 when none.
    sequence : of the last command obeyed.
    refused : commands refused since start.
    """

    def __init__(self, envelope: Envelope) -> None:
        self._sides = (envelope.left, envelope.right)
        self.writers = 1
        self.session = 0
        self.sequence = 0
        self.refused = 0
        self._writer: bytes | None = None
        self._heard_ns = 0
        self._retired: set[int] = set()
        self._stamp_ns: int | None = None
        self._target = (0.0, 0.0)
        self._torque = [0.0, 0.0]
        self._fault = ""
        self._fault_ns: int | None = None

    @property
    def torque_nm(self) -> tuple[float, float]:
        """Torque asked of the actuators now, left, right, Nm."""
        return (self._torque[0], self._torque[1])

    def age_s(self, now_ns: int) -> float:
        """Age of the last command obeyed; infinite when there is none."""
        return math.inf if self._stamp_ns is None else (now_ns - self._stamp_ns) / NS_PER_S

    def fault(self, now_ns: int) -> str:
        """What is wrong now, one sentence; empty when nothing is."""
        if self.writers > 1:
            return f"{self.writers} publishers on the command topic, torque is held at zero; leave only the supervisor"
        if self._fault_ns is not None and now_ns - self._fault_ns < FAULT_SHOWN_S * NS_PER_S:
            return self._fault
        if self.session and self.age_s(now_ns) > COMMAND_AGE_MAX_S:
            return "no fresh command, torque ramped to zero; is the supervisor running?"
        return ""

    def offer(self, command: Command, now_ns: int) -> str:
        """Obey or refuse a command; returns why it was refused, empty when it is obeyed."""
        reason = self._objection(command, now_ns)
        if reason:
            self.refused += 1
            self._fault, self._fault_ns = f"command {command.sequence} refused: {reason}", now_ns
            return reason
        self._writer, self._heard_ns = command.writer, now_ns
        if command.arm_session != self.session:
            if self.session:
                self._retired.add(self.session)
            self.session = command.arm_session
        self.sequence = command.sequence
        self._stamp_ns = command.stamp_ns
        self._target = command.torque_nm if command.arm_session else (0.0, 0.0)
        return ""

    def step(
        self, now_ns: int, dt_s: float, position: tuple[float, float], velocity: tuple[float, float]
    ) -> tuple[float, float]:
        """Torque for the next `dt_s`, left, right, Nm.

        Parameters
        ----------
        now_ns : time of this step, ns, on the clock of the stamps.
        dt_s : step of the torque loop, s.
        position, velocity : hip flexion left, right; rad, rad/s, as the encoders see it.
        """
        live = (
            self.session != 0
            and self.writers == 1
            and self._stamp_ns is not None
            and now_ns - self._stamp_ns <= COMMAND_AGE_MAX_S * NS_PER_S
        )
        for i in (0, 1):
            self._torque[i] = self._side(i, live, dt_s, position[i], velocity[i])
        return (self._torque[0], self._torque[1])

    def _objection(self, command: Command, now_ns: int) -> str:
        silent = now_ns - self._heard_ns >= SESSION_SILENCE_S * NS_PER_S
        same_writer = self._writer is None or command.writer == self._writer
        if not same_writer and not silent:
            return "another writer than the one obeyed; leave only the supervisor"
        if not all(math.isfinite(torque) for torque in command.torque_nm):
            return "torque is not finite"
        if command.arm_session == 0:
            # Disarming needs neither order nor age: it can only take torque away.
            return ""
        if self.writers != 1:
            return f"{self.writers} publishers on the command topic"
        age = (now_ns - command.stamp_ns) / NS_PER_S
        if age > COMMAND_AGE_MAX_S:
            return f"stale, {1e3 * age:.0f} ms old"
        if age < -COMMAND_LEAD_MAX_S:
            return f"stamp {-1e3 * age:.0f} ms in the future"
        if command.arm_session == self.session and same_writer:
            if self._stamp_ns is not None and command.stamp_ns < self._stamp_ns:
                return "older than the command before it"
            if command.sequence <= self.sequence:
                return f"sequence does not rise ({command.sequence} after {self.sequence})"
            return ""
        if command.arm_session in self._retired or command.arm_session == self.session:
            return f"arm session {command.arm_session} is over"
        at_zero = max(abs(self._torque[0]), abs(self._torque[1])) <= ZERO_TORQUE_NM
        if not at_zero or (self.session and not silent):
            return f"foreign arm session {command.arm_session} while {self.session or 'torque of the last'} is in force"
        return ""

    def _side(self, i: int, live: bool, dt_s: float, position: float, velocity: float) -> float:
        limits: SideEnvelope = self._sides[i]
        current = self._torque[i]
        if not (math.isfinite(position) and math.isfinite(velocity)):
            live = False
        target = self._target[i] if live else 0.0
        if live:
            target = max(-limits.torque_max_nm, min(limits.torque_max_nm, target))
            outward = (position >= limits.angle_max_rad and target > 0.0) or (
                position <= limits.angle_min_rad and target < 0.0
            )
            too_fast = abs(velocity) > limits.velocity_max_rad_s and target * velocity > 0.0
            if outward or too_fast:
                target = 0.0
            elif velocity != 0.0:
                by_power = limits.power_max_w / abs(velocity)
                target = max(-by_power, min(by_power, target))
        rise = limits.torque_rate_max_nm_s * dt_s
        return _slew(current, target, rise, max(rise, limits.torque_max_nm / EMERGENCY_RAMP_S * dt_s))


def _slew(current: float, target: float, rise: float, fall: float) -> float:
    """One step from `current` towards `target`: at most `rise` away from zero, at most `fall` (>= `rise`) in all.

    Falling is quick even while commands are obeyed, for the supervisor ramps down at the emergency rate too.
    """
    side = math.copysign(1.0, current)
    size = abs(current)
    lowest = max(size - fall, -rise)
    return side * max(lowest, min(size + rise, side * target))
