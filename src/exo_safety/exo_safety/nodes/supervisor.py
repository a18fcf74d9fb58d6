"""The supervisor: last writer before the motors. Each request triggers one decision.

A timer only notices silence. Inside a tick there is no logging, no disk and no
graph call; the graph is watched ten times a second beside it.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.subscription import MessageInfo
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from exo_common import realtime
from exo_common.clock import to_ns, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.frames import HIPS
from exo_common.node import run
from exo_common.parameters import declare, parameter
from exo_common.qos import CONTROL, EVERY_SAMPLE, LATCHED, PUBLISH
from exo_interfaces.msg import AssistRequest, HipCommand, SafetyState
from exo_safety.envelope import Envelope
from exo_safety.rules import Limits
from exo_safety.state_machine import (
    Level,
    Operator,
    Request,
    SafetyStatus,
    StateMachine,
    StateSample,
)

COMMANDS = "/hip_effort_controller/commands"
REQUESTS = "/assist/request"
ESTOP = "/safety/estop"
PERIOD_NS = 10_000_000
# Requests put the silence timer off; it fires when one is overdue by a fifth of a period,
# and then goes on twice per period while torque may flow.
SILENCE_NS = 12_000_000
WATCH_NS = 5_000_000
GRAPH_WATCH_S = 0.1
# What is counted as a late tick.
LATE_S = 1.5e-9 * PERIOD_NS
NO_NUMBERS = (math.nan, math.nan)
# Commands sent when stopping: the ramp needs three, the rest let the device see zero and the released session.
FADE_OUT_COMMANDS = 6


@dataclasses.dataclass(frozen=True)
class SupervisorParameters(Limits):
    """The supervisor's configuration: where the envelope is, what it drives, and the thresholds."""

    twin: str = parameter("", "", "folder of the twin whose envelope.yaml is enforced")
    device: str = parameter("virtual", "", "what the commands move", choices=("virtual", "hardware"))


class Supervisor(Node):
    """Thin shell around :class:`exo_safety.state_machine.StateMachine`."""

    def __init__(self) -> None:
        scheduling = realtime.prefer(realtime.SUPERVISOR)
        super().__init__("supervisor")
        parameters = declare(self, SupervisorParameters)
        if not parameters.twin:
            raise ExoError("parameter twin is empty; give the folder of the wearer's twin with twin:=<folder>")
        envelope = Envelope.load(Path(parameters.twin) / "envelope.yaml")
        replaying = bool(self.get_parameter("use_sim_time").value)
        # A number no earlier supervisor used, so that the device never takes this one for a dead one.
        self._machine = StateMachine(envelope, parameters, first_session=time.time_ns())
        self._operator = Operator(arming_forbidden=replaying and parameters.device == "hardware")
        self._estops: set[bytes] = set()
        self._state: StateSample | None = None
        self._request: Request | None = None
        self._last_tick_s = 0.0
        self._ticks = self._late = 0
        self._longest_s = 0.0
        self._level, self._session, self._reason = Level.DISARMED, 0, ""
        self._commands = self.create_publisher(HipCommand, COMMANDS, PUBLISH)
        self._states = self.create_publisher(SafetyState, "/safety/state", PUBLISH)
        self.create_subscription(JointState, "/joint_states", self._on_state, CONTROL)
        self.create_subscription(AssistRequest, REQUESTS, self._on_request, CONTROL)
        # Live presses of any publisher, and those latched before this supervisor started.
        self.create_subscription(Bool, ESTOP, self._on_estop, EVERY_SAMPLE)
        # The latter hears no volatile publisher, which is no reason to warn: the former does.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        self.create_subscription(Bool, ESTOP, self._on_estop, LATCHED, event_callbacks=quiet)
        self.create_service(Trigger, "/safety/arm", self._on_arm)
        self.create_service(Trigger, "/safety/stop", self._on_stop)
        # Silence is noticed even if simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._silence = self.create_timer(PERIOD_NS * 1e-9, self._on_silence, clock=steady)
        self.create_timer(GRAPH_WATCH_S, self._watch_graph, clock=steady)
        self._diagnostics = Diagnostics(self)
        self._diagnostics.values["scheduling"] = scheduling

    def on_stop(self) -> None:
        """Fade out: ramp to zero and release the device before the process ends."""
        for _ in range(FADE_OUT_COMMANDS):
            self._tick(dataclasses.replace(self._operator, stop=True))
            time.sleep(WATCH_NS * 1e-9)

    def _on_state(self, message: JointState) -> None:
        try:
            rows = [message.name.index(name) for name in HIPS]
        except ValueError:
            return
        self._state = StateSample(
            to_ns(message.header.stamp),
            _pick(message.position, rows) or NO_NUMBERS,
            _pick(message.velocity, rows) or NO_NUMBERS,
            _pick(message.effort, rows),
        )

    def _on_request(self, message: AssistRequest) -> None:
        self._pace_silence(SILENCE_NS)
        self._request = Request(to_ns(message.header.stamp), (message.left_nm, message.right_nm))
        self._tick(self._operator)

    def _on_estop(self, message: Bool, info: MessageInfo) -> None:
        """Keep the level of each publisher: none releases what another holds, unless that one is gone."""
        publisher = (info["publisher_gid"] or {}).get("data", b"")
        if message.data:
            self._estops.add(publisher)
        else:
            self._estops &= {bytes(end.endpoint_gid) for end in self.get_publishers_info_by_topic(ESTOP)}
            self._estops.discard(publisher)
        self._operator = dataclasses.replace(self._operator, estop=bool(self._estops))
        if message.data:
            self._tick(self._operator)

    def _on_arm(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        status = self._tick(dataclasses.replace(self._operator, arm=True))
        response.success = status.level in (Level.ARMED, Level.GATED)
        response.message = "armed" if response.success else status.sentence
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        status = self._tick(dataclasses.replace(self._operator, stop=True))
        response.success = True
        response.message = f"stopped; {status.sentence}"
        return response

    def _on_silence(self) -> None:
        """No request for longer than a period: decide without one, oftener while torque may flow."""
        self._pace_silence(WATCH_NS if self._session else PERIOD_NS)
        self._tick(self._operator)

    def _pace_silence(self, period_ns: int) -> None:
        if self._silence.timer_period_ns != period_ns:
            self._silence.timer_period_ns = period_ns
        self._silence.reset()

    def _watch_graph(self) -> None:
        """Look for other writers. A killed process stays visible until its DDS lease ends."""
        self._operator = dataclasses.replace(
            self._operator,
            foreign_command_writer=self.count_publishers(COMMANDS) > 1,
            foreign_request_writer=self.count_publishers(REQUESTS) > 1,
        )
        self._report()

    def _tick(self, operator: Operator) -> SafetyStatus:
        now = int(self.get_clock().now().nanoseconds)
        command, status = self._machine.step(now, self._state, self._request, operator)
        message = HipCommand(sequence=command.sequence, arm_session=command.arm_session)
        message.header.stamp = to_stamp(command.stamp_ns)
        message.left_nm, message.right_nm = command.torque_nm
        self._commands.publish(message)
        report = SafetyState(
            level=int(status.level),
            action=int(status.action),
            arm_session=status.arm_session,
            reason=status.reason,
            sentence=status.sentence,
            requested_nm=status.requested_nm,
            commanded_nm=status.commanded_nm,
            limit_nm=status.limit_nm,
        )
        report.header.stamp = message.header.stamp
        self._states.publish(report)
        self._count()
        if bool(status.arm_session) == gc.isenabled():
            # The collector may pause a tick: it runs only while nothing is armed and the last ramp is over.
            (gc.disable if status.arm_session else gc.enable)()
        self._level, self._session, self._reason = status.level, status.arm_session, status.sentence
        return status

    def _count(self) -> None:
        now = time.monotonic()
        interval = now - self._last_tick_s
        self._last_tick_s = now
        self._ticks += 1
        if self._ticks > 1:
            self._late += interval > LATE_S
            self._longest_s = max(self._longest_s, interval)

    def _report(self) -> None:
        """Hand the counts to /diagnostics; called beside the ticks."""
        tripped = self._level is Level.TRIPPED
        self._diagnostics.level = DiagnosticStatus.ERROR if tripped else DiagnosticStatus.OK
        self._diagnostics.message = self._reason or "armed, all is well"
        self._diagnostics.values.update(
            ticks=self._ticks, late_ticks=self._late, longest_interval_ms=round(self._longest_s * 1e3, 2)
        )


def _pick(values: Sequence[float], rows: list[int]) -> tuple[float, float] | None:
    """Left and right of a joint-state array; None where the device does not report it."""
    if len(values) <= max(rows):
        return None
    return (values[rows[0]], values[rows[1]])


def main() -> None:
    """Entry point."""
    sys.exit(run(Supervisor))


if __name__ == "__main__":
    main()
