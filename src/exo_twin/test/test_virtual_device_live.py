"""The virtual device, its EMG driver and the EMG processor over real DDS, each in its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rclpy
import synthetic_twin
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from exo_common.clock import to_ns
from exo_common.frames import HIPS
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import DeviceState, EmgEnvelope, EmgFrame, HipCommand, TwinState

COMMANDS = "/hip_effort_controller/commands"
TOPICS = {
    "/joint_states": JointState,
    "/imu/pelvis": Imu,
    "/imu/thigh_l": Imu,
    "/imu/thigh_r": Imu,
    "/emg/raw": EmgFrame,
    "/emg/envelope": EmgEnvelope,
    "/device/state": DeviceState,
    "/virtual/wearer": TwinState,
}
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_twin.write(tmp_path_factory.mktemp("twins") / "twin")


@contextmanager
def process(module: str, domain: int, **parameters: object) -> Iterator[subprocess.Popen[str]]:
    arguments = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    running = subprocess.Popen(
        [sys.executable, "-c", f"from {module} import main; main()", "--ros-args", *arguments],
        env=dict(os.environ, ROS_DOMAIN_ID=str(domain)),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


class Listener:
    """Hears everything the device says, and can play the supervisor."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[object]] = {topic: [] for topic in TOPICS}
        for topic, kind in TOPICS.items():
            self.node.create_subscription(kind, topic, self.heard[topic].append, EVERY_SAMPLE)
        self._sequence = 0

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            self.executor.spin_once(timeout_sec=0.02)
        return condition()

    def supervise(self, seconds: float, torque: tuple[float, float], session: int = 3) -> None:
        """Answer every joint state with a command, as the supervisor would."""
        publisher = self.node.create_publisher(HipCommand, COMMANDS, PUBLISH)

        def answer(state: JointState) -> None:
            self._sequence += 1
            command = HipCommand(sequence=self._sequence, arm_session=session, left_nm=torque[0], right_nm=torque[1])
            command.header.stamp = state.header.stamp
            publisher.publish(command)

        subscription = self.node.create_subscription(JointState, "/joint_states", answer, EVERY_SAMPLE)
        self.until(lambda: False, seconds)
        self.node.destroy_subscription(subscription)
        self.node.destroy_publisher(publisher)

    def torque(self) -> np.ndarray:
        return np.array([state.torque_nm for state in self.heard["/device/state"]])

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@contextmanager
def listening(domain: int) -> Iterator[Listener]:
    listener = Listener(domain)
    try:
        yield listener
    finally:
        listener.close()


def test_every_topic_at_its_rate_with_monotone_stamps(twin: Path) -> None:
    domain = 92
    with (
        listening(domain) as listener,
        process("exo_emg.nodes.emg_processor", domain, wait_for_subscribers=1) as processor,
        process("exo_emg.nodes.emg_driver", domain, driver="virtual", wait_for_subscribers=2) as driver,
        process(
            "exo_twin.nodes.virtual_device", domain, twin=twin, wait_for_subscribers=1, wait_for_watchers=2
        ) as device,
    ):
        assert listener.until(lambda: all(len(messages) >= 300 for messages in listener.heard.values()))
        for topic, messages in listener.heard.items():
            steps = np.diff([to_ns(m.header.stamp) for m in messages])
            assert np.all(steps > 0), topic
            assert np.median(steps) == 10_000_000, topic
        joints = listener.heard["/joint_states"]
        assert joints[0].name == list(HIPS)
        frames = listener.heard["/emg/raw"]
        assert [f.first_sample for f in frames[:100]] == [10 * k for k in range(100)]
        assert len(frames[0].muscles) == 18 and len(frames[0].samples) == 180
        envelopes = {to_ns(m.header.stamp) for m in listener.heard["/emg/envelope"]}
        assert len(envelopes & {to_ns(m.header.stamp) for m in joints}) > 200, "envelope and joints share stamps"
        newest = {to_ns(f.header.stamp) + 9_000_000 for f in frames[:100]}
        assert newest <= {to_ns(m.header.stamp) for m in listener.heard["/virtual/wearer"]}, "EMG of unknown states"
        wearer = listener.heard["/virtual/wearer"][-1]
        assert (
            len(wearer.position) == 6
            and len(wearer.activation) == len(wearer.excitation) == 18
            and wearer.stride_time > 0
        )
        for node in (device, driver, processor):
            node.send_signal(signal.SIGINT)
        assert [node.wait(timeout=5.0) for node in (device, driver, processor)] == [0, 0, 0]


def test_lifting_a_thigh_is_seen_on_its_side_with_its_sign(twin: Path) -> None:
    sides = {"lift_left": 93, "lift_right": 94}
    with (
        process("exo_twin.nodes.virtual_device", sides["lift_left"], twin=twin, motion="lift_left"),
        process("exo_twin.nodes.virtual_device", sides["lift_right"], twin=twin, motion="lift_right"),
    ):
        for side, domain in enumerate(sides.values()):
            with listening(domain) as listener:
                joints = listener.heard["/joint_states"]
                lifted = listener.until(lambda: bool(joints) and joints[-1].position[side] > 0.6)  # noqa: B023
                assert lifted and abs(joints[-1].position[1 - side]) < 0.1


def test_commands_flow_and_their_end_is_the_end_of_torque(twin: Path) -> None:
    domain = 95
    with (
        listening(domain) as listener,
        process("exo_twin.nodes.virtual_device", domain, twin=twin, motion="stand"),
    ):
        states = listener.heard["/device/state"]
        assert listener.until(lambda: len(states) > 10)
        listener.supervise(2.0, (5.0, -3.0))
        np.testing.assert_allclose(states[-1].torque_nm, [5.0, -3.0], atol=0.1)
        stopped_at = len(states)
        assert listener.until(lambda: len(states) >= stopped_at + 30)
        silent = listener.torque()[stopped_at:]
        # 30 ms of age, 15 ms of ramp, the actuator's own lag and two periods of publication.
        assert np.all(silent[10:] == 0.0), "torque outlives its commands"

        rival = listener.node.create_publisher(HipCommand, COMMANDS, PUBLISH)
        listener.supervise(1.5, (5.0, -3.0))
        assert np.all(listener.torque()[-30:] == 0.0), "two publishers, and torque still flows"
        assert "publishers" in states[-1].fault and states[-1].refused > 0
        listener.node.destroy_publisher(rival)


def test_without_a_twin_it_says_so_and_leaves(tmp_path: Path) -> None:
    with process("exo_twin.nodes.virtual_device", 96, twin=tmp_path / "nothing") as device:
        _, message = device.communicate(timeout=PATIENCE_S)
        assert device.returncode == 2 and "personalise" in message and "Traceback" not in message


def test_live_nodes_load_neither_opensim_nor_torch() -> None:
    code = (
        "import sys, exo_twin.nodes.virtual_device, exo_emg.nodes.emg_driver, exo_emg.nodes.emg_processor;"
        "sys.exit(bool({'opensim', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
