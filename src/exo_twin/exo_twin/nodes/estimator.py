"""The live twin as a node: each joint state triggers one estimate, with the newest EMG and IMU beside it."""

from __future__ import annotations

import dataclasses
import sys
import time
from functools import partial
from pathlib import Path

from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from exo_common.clock import to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import CONTROL, EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import EmgEnvelope, TwinState
from exo_twin.estimator import (
    ENVELOPE,
    IMUS,
    INPUTS,
    JOINT_STATES,
    EnvelopeSample,
    Estimator,
    ImuSample,
    TwinEstimate,
    envelope_sample,
    imu_sample,
    joint_sample,
)
from exo_twin.planar_muscles import MUSCLES
from exo_twin.twin import Twin


@dataclasses.dataclass(frozen=True)
class EstimatorParameters(Parameters):
    """The estimator's configuration."""

    twin: str = parameter("", "", "folder of the wearer's twin")
    wait_for_subscribers: int = parameter(
        0, "", "subscribers of /twin/state to wait for before listening", minimum=0, maximum=20
    )


class EstimatorNode(Node):
    """Thin shell around :class:`exo_twin.estimator.Estimator`."""

    def __init__(self) -> None:
        super().__init__("estimator")
        parameters = declare(self, EstimatorParameters)
        if not parameters.twin:
            raise ExoError("parameter twin is empty; give the folder of the wearer's twin with twin:=<folder>")
        self._estimator = Estimator(Twin.load(Path(parameters.twin)))
        self._envelope: EnvelopeSample | None = None
        self._imus: dict[str, ImuSample] = {}
        self._states = self.create_publisher(TwinState, "/twin/state", PUBLISH)
        self._joints = self.create_publisher(JointState, "/twin/joint_states", PUBLISH)
        self._diagnostics = Diagnostics(self)
        self._longest_s = 0.0
        # Live, old news is dropped; in a replay nothing waits for the answer and every sample counts.
        newest = EVERY_SAMPLE if self.get_parameter("use_sim_time").value else CONTROL
        self.create_subscription(EmgEnvelope, ENVELOPE, self._on_envelope, newest)
        for topic in IMUS:
            self.create_subscription(Imu, topic, partial(self._on_imu, topic), newest)
        when_heard(
            self,
            self._states,
            parameters.wait_for_subscribers,
            lambda: self.create_subscription(JointState, JOINT_STATES, self._on_joints, newest),
        )

    def _on_envelope(self, message: EmgEnvelope) -> None:
        self._envelope = envelope_sample(message)

    def _on_imu(self, topic: str, message: Imu) -> None:
        self._imus[topic] = imu_sample(message)

    def _on_joints(self, message: JointState) -> None:
        begin = time.perf_counter()
        sample = joint_sample(message)
        if sample is None:
            return
        estimate = self._estimator.step(sample, self._envelope, self._imus)
        self._states.publish(_state_message(estimate))
        joints = JointState(name=list(LEG_COORDINATES))
        joints.header.stamp = message.header.stamp
        joints.position, joints.velocity = estimate.position.tolist(), estimate.velocity.tolist()
        joints.effort = estimate.moment.tolist()
        self._joints.publish(joints)
        self._longest_s = max(self._longest_s, time.perf_counter() - begin)
        self._diagnostics.values.update(
            processed=estimate.sequence + 1,
            mode=estimate.phase.mode,
            phase_confidence=round(estimate.phase.confidence, 3),
            longest_tick_ms=round(self._longest_s * 1e3, 2),
        )


def _state_message(estimate: TwinEstimate) -> TwinState:
    message = TwinState(
        sequence=estimate.sequence,
        coordinates=list(LEG_COORDINATES),
        position=estimate.position.tolist(),
        velocity=estimate.velocity.tolist(),
        moment=estimate.moment.tolist(),
        position_sd=estimate.position_sd.tolist(),
        muscles=list(MUSCLES),
        activation=estimate.activation.tolist(),
        force=estimate.force.tolist(),
        phase_left=estimate.phase.left,
        phase_right=estimate.phase.right,
        stride_time=estimate.phase.stride_time,
        inputs=list(INPUTS),
        input_stamps=[to_stamp(ns) for ns in estimate.input_stamps],
    )
    message.header.stamp = to_stamp(estimate.stamp_ns)
    return message


def main() -> None:
    """Entry point."""
    sys.exit(run(EstimatorNode))


if __name__ == "__main__":
    main()
