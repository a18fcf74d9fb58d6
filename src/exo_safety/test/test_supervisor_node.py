"""The supervisor over real DDS, driven by a fake device and a fake policy in this process."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from safety_fakes import ENVELOPE
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from exo_common import realtime
from exo_common.frames import HIPS
from exo_common.qos import EVERY_SAMPLE, LATCHED, PUBLISH
from exo_interfaces.msg import AssistRequest, HipCommand, SafetyState

DOMAIN = 61
TIMEOUT_S = 10.0
ATTEMPTS = 3
RUN = "from exo_safety.nodes.supervisor import main; main()"


class Rig:
    """A device publishing 100 Hz joint states, a policy answering them, and an operator."""

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.process = self._start()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("rig", context=self.context)
        self.joint_states = self.node.create_publisher(JointState, "/joint_states", PUBLISH)
        self.requests = self.node.create_publisher(AssistRequest, "/assist/request", PUBLISH)
        self.estop = self.node.create_publisher(Bool, "/safety/estop", PUBLISH)
        self.button = self.node.create_publisher(Bool, "/safety/estop", LATCHED)
        self.node.create_subscription(HipCommand, "/hip_effort_controller/commands", self._on_command, EVERY_SAMPLE)
        self.node.create_subscription(SafetyState, "/safety/state", self._on_safety, EVERY_SAMPLE)
        self.commands: list[tuple[int, HipCommand]] = []
        self.status: SafetyState | None = None
        self.torque = 0.0
        self.policy_alive = self.effort_reported = True
        self.node.create_timer(0.01, self._tick)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, "--ros-args", *self.arguments],
            env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def restart(self) -> None:
        """The supervisor dies without a word and comes back."""
        self.process.kill()
        self.process.communicate()
        self.status = None
        self.process = self._start()
        self.wait(lambda: self.status is not None, "restart")

    def _spin(self) -> None:
        """As a device would: ahead of whatever else this machine does."""
        realtime.prefer(realtime.DEVICE)
        self.executor.spin()

    def _tick(self) -> None:
        state = JointState(name=["other", *reversed(HIPS)], position=[9.0, 0.1, 0.3], velocity=[9.0, 0.0, 0.0])
        state.effort = [9.0, 0.0, 0.0] if self.effort_reported else []
        state.header.stamp = self.node.get_clock().now().to_msg()
        self.joint_states.publish(state)
        if self.policy_alive:
            request = AssistRequest(left_nm=self.torque, right_nm=-0.5 * self.torque)
            request.header.stamp = state.header.stamp
            self.requests.publish(request)

    def _on_command(self, message: HipCommand) -> None:
        self.commands.append((time.monotonic_ns(), message))

    def _on_safety(self, message: SafetyState) -> None:
        self.status = message

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}; status {self.status}"
            time.sleep(0.002)

    def call(self, service: str) -> Trigger.Response:
        client = self.node.create_client(Trigger, service)
        assert client.wait_for_service(TIMEOUT_S)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, service)
        return future.result()

    def arm(self) -> None:
        self.torque = 0.0
        self.policy_alive = True
        self.wait(lambda: self.idle(), "a decision that rests on a joint state and a request of zero")
        self.wait(lambda: self.call("/safety/arm").success, "arming")

    def idle(self) -> bool:
        """The supervisor hears the device, and the policy asks for nothing."""
        return self.status is not None and self.status.header.stamp.sec > 0 and not any(self.status.requested_nm)

    def flow(self) -> None:
        """Arm and grow the torque; again if a busy machine starved the supervisor into a trip."""
        for _ in range(ATTEMPTS):
            self.arm()
            for share in range(1, 41):
                self.torque = 0.1 * share
                time.sleep(0.01)
            self.wait(lambda: self.flowing() or self.status.level == SafetyState.TRIPPED, "torque")
            if self.flowing():
                break
        assert self.flowing(), self.status
        assert self.commands[-1][1].right_nm == pytest.approx(-2.0)

    def flowing(self) -> bool:
        return abs(self.commands[-1][1].left_nm - 4.0) < 1e-6

    def zero_ms_after(self, begin_ns: int) -> float:
        self.wait(lambda: self.commands[-1][0] > begin_ns and self.commands[-1][1].left_nm == 0.0, "zero torque")
        first = next(t for t, m in self.commands if t > begin_ns and m.left_nm == 0.0 and m.right_nm == 0.0)
        return (first - begin_ns) / 1e6

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.executor.shutdown()
        self.thread.join(TIMEOUT_S)
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    ENVELOPE.save(tmp_path / "envelope.yaml")
    rig = Rig(["-p", f"twin:={tmp_path}"])
    try:
        yield rig
    finally:
        rig.close()


def test_life_of_a_session(rig: Rig) -> None:
    """Arm, help, lose the policy, re-arm, stop, emergency stop, fade out: one process, as in use."""
    rig.wait(lambda: len(rig.commands) > 10, "commands")
    assert all(m.left_nm == 0.0 and m.arm_session == 0 for _, m in rig.commands)
    rig.flow()
    flowing = [m for _, m in rig.commands if m.arm_session]
    assert all(b.sequence > a.sequence for a, b in itertools.pairwise(flowing))
    first_session = flowing[-1].arm_session

    rig.policy_alive = False
    lost = rig.zero_ms_after(time.monotonic_ns())
    rig.wait(lambda: rig.status.level == SafetyState.TRIPPED, "trip")
    assert rig.status.reason == "request_lost"
    print(f"policy silent to zero torque: {lost:.1f} ms")
    assert lost < 100.0

    rig.flow()
    assert rig.commands[-1][1].arm_session > first_session
    begin = time.monotonic_ns()
    assert rig.call("/safety/stop").success
    stopped = rig.zero_ms_after(begin)
    print(f"stop service to zero torque: {stopped:.1f} ms")
    assert stopped < 100.0

    rig.flow()
    begin = time.monotonic_ns()
    rig.estop.publish(Bool(data=True))
    assert rig.zero_ms_after(begin) < 100.0
    rig.wait(lambda: rig.status.reason == "estop", "estop")
    rig.torque = 0.0
    time.sleep(0.05)
    answer = rig.call("/safety/arm")
    assert not answer.success and "emergency stop" in answer.message
    rig.estop.publish(Bool(data=False))

    rig.flow()
    rig.process.send_signal(signal.SIGTERM)
    rig.wait(lambda: rig.process.poll() is not None, "exit")
    assert rig.process.returncode == 0
    last = [m for _, m in rig.commands][-4:]
    assert last[-1].left_nm == 0.0 and last[-1].arm_session == 0


def test_a_second_writer_of_commands_trips(rig: Rig) -> None:
    rig.flow()
    intruder = rig.node.create_publisher(HipCommand, "/hip_effort_controller/commands", PUBLISH)
    begin = time.monotonic_ns()
    rig.wait(lambda: rig.status.level == SafetyState.TRIPPED, "trip")
    assert rig.status.reason == "foreign_writer"
    print(f"foreign writer to zero torque: {rig.zero_ms_after(begin):.1f} ms")
    rig.torque = 0.0
    assert "second publisher" in rig.call("/safety/arm").message
    rig.node.destroy_publisher(intruder)
    rig.flow()
    rig.node.create_publisher(AssistRequest, "/assist/request", PUBLISH)
    rig.wait(lambda: rig.status.reason == "foreign_request", "trip")


def test_an_emergency_stop_survives_a_restart_and_a_release_by_another(rig: Rig) -> None:
    rig.arm()
    rig.button.publish(Bool(data=True))
    rig.wait(lambda: rig.status.reason == "estop", "estop")
    rig.estop.publish(Bool(data=False))
    time.sleep(0.2)
    assert "emergency stop" in rig.call("/safety/arm").message, "another publisher released it"
    rig.restart()
    rig.wait(lambda: rig.status.reason == "estop", "the latched stop")
    assert "emergency stop" in rig.call("/safety/arm").message
    rig.button.publish(Bool(data=False))
    rig.arm()
    # Who is gone cannot release any more: then anybody may.
    rig.button.publish(Bool(data=True))
    rig.wait(lambda: rig.status.reason == "estop", "estop")
    rig.node.destroy_publisher(rig.button)
    time.sleep(0.2)
    assert "emergency stop" in rig.call("/safety/arm").message, "a publisher that leaves releases nothing"
    rig.estop.publish(Bool(data=False))
    rig.arm()


def test_arming_is_refused_while_the_applied_torque_is_unknown(rig: Rig) -> None:
    rig.effort_reported = False
    rig.wait(rig.idle, "supervisor")
    answer = rig.call("/safety/arm")
    assert not answer.success and "effort" in answer.message
    rig.effort_reported = True
    rig.arm()


def test_arming_is_refused_while_a_replay_could_move_hardware(tmp_path: Path) -> None:
    ENVELOPE.save(tmp_path / "envelope.yaml")
    rig = Rig(["-p", f"twin:={tmp_path}", "-p", "use_sim_time:=true", "-p", "device:=hardware"])
    try:
        rig.wait(lambda: rig.status is not None, "supervisor")
        answer = rig.call("/safety/arm")
        assert not answer.success
        assert answer.message.startswith("arming refused") and "replayed" in answer.message
    finally:
        rig.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "parameter twin is empty"),
        (["-p", "twin:=/nowhere"], "missing or no envelope"),
        (["-p", "twin:=/nowhere", "-p", "lost_s:=1.0"], "lost_s"),
    ],
)
def test_bad_configuration_is_one_sentence(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "--ros-args", *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert words in done.stderr


def test_the_live_node_needs_no_heavy_library() -> None:
    code = (
        "import sys, exo_safety.nodes.supervisor;"
        "print([m for m in ('opensim', 'torch', 'mujoco', 'scipy', 'mediapipe') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr
