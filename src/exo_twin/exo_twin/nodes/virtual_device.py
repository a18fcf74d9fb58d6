"""The virtual device as a node: the topics of the real exo, plus the truth on /virtual/wearer.

Physics and publishing run in a thread of their own on a monotonic schedule; the
executor only receives commands and counts publishers, so DDS cannot stall the
torque loop.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from pathlib import Path

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Quaternion, Vector3
from rclpy.node import Node
from rclpy.subscription import MessageInfo
from sensor_msgs.msg import Imu, JointState

from exo_common import realtime
from exo_common.clock import to_ns, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.frames import HIPS, LEG_COORDINATES
from exo_common.node import run
from exo_common.parameters import declare, parameter
from exo_common.qos import CONTROL, PUBLISH
from exo_interfaces.msg import DeviceState, HipCommand, TwinState
from exo_safety.command_guard import Command
from exo_twin.forward.pacing import Pacer
from exo_twin.forward.virtual_device import (
    PERIOD_NS,
    DeviceConfig,
    DeviceSample,
    ImuReading,
    VirtualDevice,
)
from exo_twin.planar_muscles import MUSCLES
from exo_twin.twin import Twin

COMMAND_TOPIC = "/hip_effort_controller/commands"
JOINT_TOPIC, WEARER_TOPIC = "/joint_states", "/virtual/wearer"
GRAPH_PERIOD_S = 0.1
SUBSCRIBERS_WAIT_S = 10.0
# A stall of this length is let go: by then the guard has long ramped the torque to zero.
GIVE_UP_NS = 10 * PERIOD_NS
# The executor thread must get the interpreter within a fraction of a period.
SWITCH_INTERVAL_S = 0.001
FRAMES = {"imu_pelvis": "pelvis", "imu_thigh_l": "thigh_l", "imu_thigh_r": "thigh_r"}


@dataclasses.dataclass(frozen=True)
class NodeConfig(DeviceConfig):
    """Parameters of the node: the device's and where its wearer comes from."""

    twin: str = parameter("", "", "folder of the wearer's twin")
    wait_for_subscribers: int = parameter(
        0, "", "subscribers of /joint_states to wait for before power-on, at most 10 s", minimum=0, maximum=20
    )
    wait_for_watchers: int = parameter(
        0, "", "subscribers of /virtual/wearer to wait for before power-on, at most 10 s", minimum=0, maximum=20
    )


class VirtualDeviceNode(Node):
    """Publishes at 100 Hz what the exo's sensors see, stamped with the sample's time."""

    def __init__(self) -> None:
        scheduling = realtime.prefer(realtime.DEVICE)
        super().__init__("virtual_device")
        self._config = declare(self, NodeConfig)
        if not self._config.twin:
            raise ExoError("parameter twin is empty; give the folder of a twin, e.g. twin:=out/twin")
        twin = Twin.load(Path(self._config.twin).expanduser())
        self._device = VirtualDevice(twin, self._config)
        self._stride_time = twin.gait.stride_time
        self._joints = self.create_publisher(JointState, JOINT_TOPIC, PUBLISH)
        self._imus = {name: self.create_publisher(Imu, f"/imu/{frame}", PUBLISH) for name, frame in FRAMES.items()}
        self._state = self.create_publisher(DeviceState, "/device/state", PUBLISH)
        self._wearer = self.create_publisher(TwinState, WEARER_TOPIC, PUBLISH)
        self.create_subscription(HipCommand, COMMAND_TOPIC, self._on_command, CONTROL)
        self._diagnostics = Diagnostics(self)
        self._diagnostics.values["scheduling"] = scheduling
        self._sequence = 0
        self._pacer: Pacer | None = None
        # Acquisition time of the pacer's start: from there on the device's clock is monotonic.
        self._origin_ns = 0
        self._slow_periods = 0
        self._busy_ns = 0
        self._fault = ""
        self._refused = 0
        self._skipped_reported = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="physics", daemon=True)
        self._failure: Exception | None = None
        self._created = time.monotonic()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.create_timer(GRAPH_PERIOD_S, self._watch_graph)
        self.create_timer(1.0, self._report)
        self._watch_graph()

    def on_stop(self) -> None:
        """Stop the physics before the publishers go."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _on_command(self, message: HipCommand, info: MessageInfo) -> None:
        command = Command(
            stamp_ns=to_ns(message.header.stamp),
            sequence=message.sequence,
            arm_session=message.arm_session,
            torque_nm=(message.left_nm, message.right_nm),
            writer=(info["publisher_gid"] or {}).get("data", b""),
        )
        if self._pacer is not None:
            self._device.offer(command, self._origin_ns + time.monotonic_ns() - self._pacer.start_ns)

    def _watch_graph(self) -> None:
        """Count who may write commands, and power on when those who must listen are there."""
        if self._failure is not None:
            raise self._failure
        self._device.writers = max(1, self.count_publishers(COMMAND_TOPIC))
        if self._pacer is not None:
            return
        for topic, wanted in (
            (JOINT_TOPIC, self._config.wait_for_subscribers),
            (WEARER_TOPIC, self._config.wait_for_watchers),
        ):
            listening = self.count_subscribers(topic)
            if listening >= wanted:
                continue
            if time.monotonic() - self._created < SUBSCRIBERS_WAIT_S:
                return
            self.get_logger().warning(
                f"only {listening} of {wanted} subscribers on {topic} after {SUBSCRIBERS_WAIT_S:.0f} s; "
                "powering on anyway"
            )
        self._origin_ns = self.get_clock().now().nanoseconds
        self._pacer = Pacer(PERIOD_NS, GIVE_UP_NS)
        self._thread.start()

    def _loop(self) -> None:
        """The physics thread: wait, run a period, publish it."""
        pacer = self._pacer
        assert pacer is not None
        try:
            while not self._stop.is_set():
                due_ns, late_ns = pacer.wait()
                start = time.monotonic_ns()
                sample = self._device.run(self._origin_ns + due_ns, late_ns)
                ran = time.monotonic_ns()
                self._slow_periods += int(ran - start > PERIOD_NS)
                self._publish(sample)
                self._busy_ns += time.monotonic_ns() - start
        except Exception as error:
            if not self._stop.is_set():
                self._failure = error

    def _publish(self, sample: DeviceSample) -> None:
        stamp = to_stamp(sample.stamp_ns)
        joints = JointState(
            name=list(HIPS),
            position=sample.position.tolist(),
            velocity=sample.velocity.tolist(),
            effort=sample.torque_measured_nm.tolist(),
        )
        joints.header.stamp = stamp
        self._joints.publish(joints)

        state = DeviceState(
            sequence=self._sequence,
            torque_nm=sample.torque_nm,
            temperature_c=sample.temperature_c,
            arm_session=sample.arm_session,
            command_sequence=sample.command_sequence,
            command_age_s=sample.command_age_s,
            refused=sample.refused,
            fault=sample.fault,
        )
        state.header.stamp = stamp
        self._state.publish(state)
        self._fault, self._refused = sample.fault, sample.refused

        for name, reading in sample.imus.items():
            self._imus[name].publish(imu_message(FRAMES[name], reading, stamp))

        truth, legs = sample.truth, self._device.walker.legs
        wearer = TwinState(
            sequence=self._sequence,
            coordinates=list(LEG_COORDINATES),
            position=truth.q[legs],
            velocity=truth.qd[legs],
            moment=truth.muscle_moment,
            position_sd=[0.0] * len(LEG_COORDINATES),
            muscles=list(MUSCLES),
            activation=truth.activation,
            excitation=truth.excitation,
            force=truth.force,
            phase_left=float(truth.phase[0]),
            phase_right=float(truth.phase[1]),
            stride_time=self._stride_time,
        )
        wearer.header.stamp = stamp
        self._wearer.publish(wearer)
        self._sequence += 1

    def _report(self) -> None:
        pacer = self._pacer
        if pacer is None:
            self._diagnostics.message = "waiting for subscribers"
            return
        values = self._diagnostics.values
        values["published"] = self._sequence
        values["late"] = pacer.late
        values["skipped_periods"] = pacer.skipped
        values["slower_than_real_time"] = self._slow_periods
        values["busy_pct"] = f"{100 * self._busy_ns / max(1, self._sequence * PERIOD_NS):.1f}"
        values["commands_refused"] = self._refused
        stalled = pacer.skipped > self._skipped_reported
        self._skipped_reported = pacer.skipped
        if self._fault:
            self._diagnostics.level, self._diagnostics.message = DiagnosticStatus.WARN, self._fault
        elif stalled:
            self._diagnostics.level = DiagnosticStatus.WARN
            self._diagnostics.message = f"the host stalled, {pacer.skipped} periods skipped so far"
        else:
            self._diagnostics.level, self._diagnostics.message = DiagnosticStatus.OK, "running"


def imu_message(frame: str, reading: ImuReading, stamp: Time) -> Imu:
    """An IMU reading as ROS sends it; covariances are unknown (zero), as REP-145 allows."""
    imu = Imu()
    imu.header.stamp = stamp
    imu.header.frame_id = frame
    x, y, z, w = (float(v) for v in reading.orientation_xyzw)
    imu.orientation = Quaternion(x=x, y=y, z=z, w=w)
    x, y, z = (float(v) for v in reading.angular_velocity)
    imu.angular_velocity = Vector3(x=x, y=y, z=z)
    x, y, z = (float(v) for v in reading.acceleration)
    imu.linear_acceleration = Vector3(x=x, y=y, z=z)
    return imu


def main() -> None:
    """Entry point."""
    sys.exit(run(VirtualDeviceNode))
