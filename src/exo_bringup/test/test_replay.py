"""Replay: the player keeps stamps and spacing, and the comparison notices a difference."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from exo_bringup.replay import TOLERANCE_RAD, States, compare, read_states
from exo_common.bag import BagWriter
from exo_common.clock import to_ns
from exo_common.errors import ExoError
from exo_common.qos import EVERY_SAMPLE
from exo_interfaces.msg import TwinState

DOMAIN = 74
PATIENCE_S = 10.0
START_NS = 1_700_000_000_000_000_000
STEP_NS = 10_000_000


def time_of(ns: int) -> Time:
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """2 s of joint states and estimates at 100 Hz, received 2 ms after they were measured."""
    with BagWriter(tmp_path / "bag") as writer:
        for i in range(200):
            ns = START_NS + i * STEP_NS
            joints = JointState(name=["hip_flexion_l"], position=[0.001 * i])
            state = TwinState(sequence=i, coordinates=["hip_flexion_l"], position=[0.001 * i])
            joints.header.stamp = state.header.stamp = time_of(ns)
            writer.write("/joint_states", "sensor_msgs/msg/JointState", serialize_message(joints), ns + 2_000_000)
            writer.write("/twin/state", "exo_interfaces/msg/TwinState", serialize_message(state), ns + 4_000_000)
    return tmp_path / "bag"


def player(bag: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "exo_bringup.nodes.player", "--ros-args", "-p", f"bag:={bag}", *arguments]
    environment = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN))
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_inputs_are_played_with_their_stamps_and_a_clock(bag: Path) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("listener", context=context)
    joints: list[tuple[float, JointState]] = []
    states: list[TwinState] = []
    clock: list[int] = []

    def hear(message: JointState) -> None:
        joints.append((time.monotonic(), message))

    node.create_subscription(JointState, "/joint_states", hear, EVERY_SAMPLE)
    node.create_subscription(TwinState, "/twin/state", states.append, EVERY_SAMPLE)
    node.create_subscription(Clock, "/clock", lambda m: clock.append(to_ns(m.clock)), EVERY_SAMPLE)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    process = player(bag, "-p", "rate:=2.0")
    try:
        deadline = time.monotonic() + 2 * PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            executor.spin_once(0.05)
        assert process.wait(1.0) == 0, process.stdout and process.stdout.read()
    finally:
        process.kill()
        node.destroy_node()
        context.try_shutdown()
    assert [to_ns(m.header.stamp) for _, m in joints] == [START_NS + i * STEP_NS for i in range(200)]
    assert joints[199][1].position[0] == pytest.approx(0.199)
    assert joints[-1][0] - joints[0][0] == pytest.approx(1.0, abs=0.3)  # 2 s at twice the speed
    assert states == []
    assert clock == sorted(clock) and clock[0] >= START_NS and clock[-1] >= START_NS + 199 * STEP_NS


def test_a_player_without_listener_or_bag_gives_one_sentence(bag: Path, tmp_path: Path) -> None:
    for folder, argument, words in (
        (bag, "patience:=0.3", "nobody listened to /joint_states"),
        (bag, "topics:=['/nothing']", "holds none of /nothing"),
        (tmp_path / "none", "rate:=1.0", "does not exist"),
    ):
        process = player(folder, "-p", argument)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2 and words in output and "Traceback" not in output, output


def test_a_player_waits_for_as_many_as_must_listen(bag: Path) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("listener", context=context)
    node.create_subscription(JointState, "/joint_states", lambda _: None, EVERY_SAMPLE)
    process = player(bag, "-p", "listeners:=2", "-p", "patience:=4.0")
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2 and "only 1 of 2 listened to /joint_states" in output, output
    finally:
        process.kill()
        node.destroy_node()
        context.try_shutdown()


def states(offset: float = 0.0, first: int = 0, count: int = 200) -> States:
    stamps = START_NS + STEP_NS * np.arange(first, first + count)
    positions = np.column_stack([np.sin(0.05 * np.arange(first, first + count)), np.zeros(count)])
    positions[:, 1] += offset
    return States(stamps, ("hip_flexion_l", "hip_flexion_r"), positions)


def test_the_same_states_agree_and_others_do_not(bag: Path) -> None:
    same = compare(states(), states())
    assert same.good and same.matched == 1.0 and max(same.worst.values()) == 0.0
    off = compare(states(), states(offset=2 * TOLERANCE_RAD))
    assert not off.good and off.rms == {"hip_flexion_l": 0.0, "hip_flexion_r": pytest.approx(2 * TOLERANCE_RAD)}
    few = compare(states(), states(first=60))
    assert few.matched == pytest.approx(0.7) and not few.good and max(few.worst.values()) == 0.0
    assert "hip_flexion_r" in off.table()
    read = read_states(bag)
    assert read.positions.shape == (200, 1) and read.stamps[1] - read.stamps[0] == STEP_NS


def test_states_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ExoError, match="no state with a stamp"):
        compare(states(), states(first=1000))
    other = States(states().stamps, ("a", "b"), states().positions)
    with pytest.raises(ExoError, match="other coordinates"):
        compare(states(), other)
