from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from estimator_messages import emg, gyro, joints, legs
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState
from twin_fakes import PERIOD_NS, walk, write_twin

from exo_common.clock import to_ns
from exo_common.frames import LEG_COORDINATES
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import EmgEnvelope, Keypoints, TwinState
from exo_twin.live.samples import ENVELOPE, IMUS, JOINT_STATES, KEYPOINTS
from exo_twin.lockstep import TWIN_STATE, rerun
from exo_twin.twin import Twin

DOMAIN = 62
WALK_S, BLIND_S = 2.0, 1.0
TYPES = {ENVELOPE: EmgEnvelope, KEYPOINTS: Keypoints, **dict.fromkeys(IMUS, Imu), JOINT_STATES: JointState}


class Rig:
    """A running estimator, everything it is sent and says, and its log."""

    def __init__(self, twin: Twin, log: Path) -> None:
        self.twin, self.log = twin, log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "exo_twin.nodes.estimator", "--ros-args", "-p", f"twin:={twin.folder}"],
                env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
                stderr=file,
            )
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = Node("rig", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.recorded: list[tuple[str, object]] = []
        self.joint_states: list[JointState] = []
        self.status: list[DiagnosticStatus] = []
        listen = self.node.create_subscription
        listen(TwinState, TWIN_STATE, lambda m: self.recorded.append((TWIN_STATE, m)), EVERY_SAMPLE)
        listen(JointState, "/twin/joint_states", self.joint_states.append, EVERY_SAMPLE)
        listen(DiagnosticArray, "/diagnostics", lambda m: self.status.extend(m.status), EVERY_SAMPLE)
        self.publishers = {t: self.node.create_publisher(kind, t, PUBLISH) for t, kind in TYPES.items()}

    def wait_until_heard(self) -> None:
        end = time.monotonic() + 10.0
        while not all(p.get_subscription_count() for p in self.publishers.values()):
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        time.sleep(0.3)  # the other direction of discovery

    def send(self, topic: str, message: object) -> None:
        self.publishers[topic].publish(message)
        self.recorded.append((topic, message))

    def states(self) -> list[TwinState]:
        return [message for topic, message in self.recorded if topic == TWIN_STATE]

    def spin(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        while (left := due - time.monotonic()) > 0.0:
            self.executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(Twin.load(write_twin(tmp_path / "twin", moments=True)), tmp_path / "log")
    try:
        rig.wait_until_heard()
        yield rig
    finally:
        rig.close()


def test_live_node_goes_on_when_the_encoders_die_and_is_reproduced_from_what_was_recorded(rig: Rig) -> None:
    blind_ns = 0
    for k, (stamp, q, qd, _) in enumerate(walk(rig.twin.gait, WALK_S + BLIND_S, noise_deg=0.5)):
        began = time.monotonic()
        if k < 50 or k % 25:  # a late message is dropped, and that is said
            rig.send(ENVELOPE, emg(stamp, 0.2))
        else:
            rig.publishers[ENVELOPE].publish(emg(stamp - 3 * PERIOD_NS, 0.2))
        if k % 3 == 0:
            rig.send(KEYPOINTS, legs(stamp - 4 * PERIOD_NS, 0.2))
        for topic, rate in zip(IMUS, (0.001 * (k % 7), -qd[0], -qd[1]), strict=True):
            rig.send(topic, gyro(stamp, rate))
        if k < 100 * WALK_S:
            rig.send(JOINT_STATES, joints(stamp, q, qd))
            blind_ns = stamp
        rig.spin(began + 0.01 - time.monotonic())
    rig.spin(1.2)
    states = rig.states()
    blind = [state for state in states if to_ns(state.header.stamp) > blind_ns]
    # 0.1 s of patience, then one state per 10 ms.
    assert len(states) > 200 and len(blind) > 60
    assert blind[-1].position_sd[0] > blind[0].position_sd[0] * 0.99
    assert any("heel_strike_l" in state.events for state in states)
    result = rerun(rig.twin, rig.recorded)
    assert result.identical, result.sentence
    assert list(rig.joint_states[-1].name) == list(LEG_COORDINATES)
    mine = [status for status in rig.status if status.name == "estimator"]
    assert mine[-1].level == DiagnosticStatus.WARN and "the encoders are silent" in mine[-1].message
    log = rig.log.read_text()
    for sentence in ("the encoders are silent", "no calibration of encoders", f"{ENVELOPE} brought a message late"):
        assert log.count(sentence) == 1, log


def test_the_live_node_needs_no_heavy_library() -> None:
    code = (
        "import sys, exo_twin.nodes.estimator;"
        "print([m for m in ('opensim', 'torch', 'mujoco', 'mediapipe') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr
