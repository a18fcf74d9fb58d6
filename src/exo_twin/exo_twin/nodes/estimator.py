"""The live twin as a node: each joint state triggers one estimate, with the newest of the other inputs beside it.

Where the encoders fall silent the IMUs trigger instead.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from array import array
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from exo_common import realtime
from exo_common.clock import NS_PER_S, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import CONTROL, EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import EmgEnvelope, Keypoints, TwinState
from exo_twin.estimator import Estimator, TwinEstimate
from exo_twin.live.complaints import Announcer
from exo_twin.live.samples import (
    CLOCK_SET_S,
    ENVELOPE,
    IMUS,
    INPUTS,
    JOINT_STATES,
    KEYPOINTS,
    ImuSample,
    Newest,
    envelope_sample,
    imu_sample,
    joint_sample,
    keypoint_sample,
)
from exo_twin.lockstep import FIELDS
from exo_twin.twin import Twin

# Joint states silent for so long, by their stamps and by arrival (a fast replay squeezes stamps), are replaced as
# triggers by IMUs, at no more than 100 Hz (less what stamps tremble). At the start they get longer to appear.
JOINTS_SILENT_S, JOINTS_START_S = 0.1, 2.0
LEAST_PERIOD_NS = NS_PER_S // 110


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
        scheduling = realtime.prefer(realtime.ESTIMATOR)
        super().__init__("estimator")
        parameters = declare(self, EstimatorParameters)
        if not parameters.twin:
            raise ExoError("parameter twin is empty; give the folder of the wearer's twin with twin:=<folder>")
        self._estimator = Estimator(Twin.load(Path(parameters.twin)))
        self._newest = Newest()
        self._last_tick_ns = self._last_joints_ns = 0
        self._joints_due_s = time.monotonic() + JOINTS_START_S
        self._message = StateMessage(self._estimator.muscles)
        self._joints = JointState(name=list(LEG_COORDINATES))
        self._states = self.create_publisher(TwinState, "/twin/state", PUBLISH)
        self._joint_states = self.create_publisher(JointState, "/twin/joint_states", PUBLISH)
        self._diagnostics = Diagnostics(self)
        self._diagnostics.values.update(scheduling=scheduling, notes="; ".join(self._estimator.notes))
        self._announcer = Announcer()
        self._longest_s = 0.0
        for note in self._estimator.notes:
            self.get_logger().info(note)
        # Live, old news is dropped; in a replay nothing waits for the answer and every sample counts.
        self._qos = EVERY_SAMPLE if self.get_parameter("use_sim_time").value else CONTROL
        self.create_subscription(EmgEnvelope, ENVELOPE, self._on_envelope, self._qos)
        self.create_subscription(Keypoints, KEYPOINTS, self._on_keypoints, self._qos)
        when_heard(self, self._states, parameters.wait_for_subscribers, self._listen)

    def _listen(self) -> None:
        """Subscribe to what triggers estimates."""
        self._joints_due_s = time.monotonic() + JOINTS_START_S
        self.create_subscription(JointState, JOINT_STATES, self._on_joints, self._qos)
        for topic in IMUS:
            self.create_subscription(Imu, topic, partial(self._on_imu, topic), self._qos)

    def _on_envelope(self, message: EmgEnvelope) -> None:
        self._newest.offer(ENVELOPE, envelope_sample(message))

    def _on_keypoints(self, message: Keypoints) -> None:
        self._newest.offer(KEYPOINTS, keypoint_sample(message))

    def _on_imu(self, topic: str, message: Imu) -> None:
        sample = imu_sample(message)
        if self._newest.offer(topic, sample) and self._imu_must_trigger(sample):
            self._tick(sample.stamp_ns)

    def _imu_must_trigger(self, sample: ImuSample) -> bool:
        silent = sample.stamp_ns - self._last_joints_ns > JOINTS_SILENT_S * NS_PER_S
        silent = silent and time.monotonic() > self._joints_due_s
        return silent and sample.stamp_ns - self._last_tick_ns >= LEAST_PERIOD_NS

    def _on_joints(self, message: JointState) -> None:
        sample = joint_sample(message)
        if sample is None or not self._newest.offer(JOINT_STATES, sample):
            return
        self._last_joints_ns = sample.stamp_ns
        self._joints_due_s = time.monotonic() + JOINTS_SILENT_S
        # Encoders that come back late must not turn time back.
        if not 0 <= self._last_tick_ns - sample.stamp_ns <= CLOCK_SET_S * NS_PER_S:
            self._tick(sample.stamp_ns)

    def _tick(self, stamp_ns: int) -> None:
        begin = time.perf_counter()
        self._last_tick_ns = stamp_ns
        newest = self._newest
        estimate = self._estimator.step(
            stamp_ns, newest.get(JOINT_STATES), newest.get(ENVELOPE), newest.imus(), newest.get(KEYPOINTS)
        )
        self._states.publish(self._message.filled(estimate))
        joints = self._joints
        joints.header.stamp = to_stamp(stamp_ns)
        joints.position, joints.velocity = _doubles(estimate.position), _doubles(estimate.velocity)
        joints.effort = _doubles(estimate.moment)
        self._joint_states.publish(joints)
        self._longest_s = max(self._longest_s, time.perf_counter() - begin)
        self._report(estimate)

    def _report(self, estimate: TwinEstimate) -> None:
        complaints = estimate.complaints
        late = (f"{topic} brought a message late or out of order, which is not used" for topic in self._newest.late)
        begun, over = self._announcer.step(estimate.stamp_ns, (*complaints, *late))
        for sentence in begun:
            self.get_logger().warning(sentence)
        for sentence in over:
            self.get_logger().info(f"no longer: {sentence}")
        self._diagnostics.level = DiagnosticStatus.WARN if complaints else DiagnosticStatus.OK
        self._diagnostics.message = "; ".join(complaints) or "running"
        self._diagnostics.values.update(
            processed=estimate.sequence + 1,
            mode=estimate.phase.mode,
            phase_confidence=round(estimate.phase.confidence, 3),
            longest_tick_ms=round(self._longest_s * 1e3, 2),
            late=sum(self._newest.late.values()),
        )


class StateMessage:
    """One TwinState that is filled anew every tick: names, which never change, are set once."""

    def __init__(self, muscles: Iterable[str]) -> None:
        self._message = TwinState(coordinates=list(LEG_COORDINATES), muscles=list(muscles), inputs=list(INPUTS))

    def filled(self, estimate: TwinEstimate) -> TwinState:
        """The message of an estimate; the next one overwrites it."""
        message = self._message
        message.header.stamp = to_stamp(estimate.stamp_ns)
        message.sequence = estimate.sequence
        for name in FIELDS:
            setattr(message, name, _doubles(getattr(estimate, name)))
        message.phase_left, message.phase_right = estimate.phase.left, estimate.phase.right
        message.stride_time = estimate.phase.stride_time
        message.events = list(estimate.events)
        message.input_stamps = [to_stamp(ns) for ns in estimate.input_stamps]
        return message


def _doubles(values: NDArray[np.float64]) -> array[float]:
    """What a message takes without looking at every number."""
    return array("d", values.tobytes())


def main() -> None:
    """Entry point."""
    sys.exit(run(EstimatorNode))


if __name__ == "__main__":
    main()
