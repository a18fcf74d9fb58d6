"""The live policy: each joint state is answered by one request, stamped as the joint state."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from rclpy.node import Node
from sensor_msgs.msg import JointState

from exo_common import realtime
from exo_common.clock import to_ns
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import CONTROL, PUBLISH
from exo_controller.artefact import RATE_HZ, Policy
from exo_controller.profile import Assistance
from exo_interfaces.msg import AssistRequest, SafetyState
from exo_twin.live.samples import joint_sample
from exo_twin.phase import PhaseEstimator
from exo_twin.twin import Twin

# A tick later than 1.5 periods is counted as late.
LATE_S = 1.5 / RATE_HZ
# The supervisor speaks 100 times a second; unheard for this long, it is taken as disarmed.
SAFETY_SILENCE_S = 0.25


@dataclasses.dataclass(frozen=True)
class PolicyParameters(Parameters):
    """The policy's configuration."""

    controller: str = parameter("", "", "folder of the controller")
    twin: str = parameter("", "", "folder of the wearer's twin")


class PolicyNode(Node):
    """Thin shell around the phase estimator and :class:`exo_controller.profile.Assistance`."""

    def __init__(self) -> None:
        scheduling = realtime.prefer(realtime.POLICY)
        super().__init__("policy")
        parameters = declare(self, PolicyParameters)
        for name in ("twin", "controller"):
            if not getattr(parameters, name):
                raise ExoError(f"parameter {name} is empty; give the folder with {name}:=<folder>")
        twin = Twin.load(Path(parameters.twin))
        policy = Policy.load(Path(parameters.controller), twin.wearer, twin.folder)
        self._phase = PhaseEstimator(twin.gait)
        self._assistance = Assistance(policy.left_nm, policy.right_nm, policy.release)
        self._sequence = 0
        self._armed_until = 0.0
        self._last_tick = 0.0
        self._late = 0
        self._longest_s = self._latency_s = 0.0
        self._requests = self.create_publisher(AssistRequest, "/assist/request", PUBLISH)
        self._diagnostics = Diagnostics(self)
        self._diagnostics.values["scheduling"] = scheduling
        self.create_subscription(SafetyState, "/safety/state", self._on_safety, CONTROL)
        self.create_subscription(JointState, "/joint_states", self._on_joints, CONTROL)

    def _on_safety(self, message: SafetyState) -> None:
        armed = message.level in (SafetyState.ARMED, SafetyState.GATED)
        self._armed_until = time.monotonic() + SAFETY_SILENCE_S if armed else 0.0

    def _on_joints(self, message: JointState) -> None:
        begin = time.monotonic()
        sample = joint_sample(message)
        if sample is None:
            return
        phase = self._phase.step(sample.stamp_ns, sample.position, sample.velocity)
        left, right = self._assistance.step(sample.stamp_ns, phase, begin < self._armed_until)
        request = AssistRequest(
            sequence=self._sequence,
            left_nm=left,
            right_nm=right,
            phase_left=phase.left,
            phase_right=phase.right,
            mode=phase.mode,
            confidence=phase.confidence,
        )
        request.header.stamp = message.header.stamp
        self._requests.publish(request)
        self._count(begin, sample.stamp_ns, to_ns(self.get_clock().now().to_msg()))

    def _count(self, begin: float, stamp_ns: int, now_ns: int) -> None:
        self._late += self._sequence > 0 and begin - self._last_tick > LATE_S
        self._sequence += 1
        self._last_tick = begin
        self._longest_s = max(self._longest_s, time.monotonic() - begin)
        self._latency_s = 1e-9 * (now_ns - stamp_ns)
        self._diagnostics.values.update(
            processed=self._sequence,
            late_ticks=self._late,
            longest_tick_ms=round(1e3 * self._longest_s, 2),
            latency_ms=round(1e3 * self._latency_s, 2),
            released=round(self._assistance.released, 3),
        )


def main() -> None:
    """Entry point."""
    sys.exit(run(PolicyNode))


if __name__ == "__main__":
    main()
