"""Bags: one suite for both libraries; the rosbag2_py half needs a ROS 2 installation."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from exo_common.bag import BagReader, BagWriter, TopicQos
from exo_common.clock import to_ns
from exo_common.errors import ExoError
from exo_interfaces.msg import TwinState

LATCHED = TopicQos("reliable", "transient_local", 1)


@pytest.fixture(params=["rosbags", "rosbag2_py"])
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (it comes with a ROS 2 installation)")
    return name


def twin_state(sequence: int) -> TwinState:
    state = TwinState(sequence=sequence, coordinates=["hip_flexion_l", "hip_flexion_r"], position=[0.25, -0.5])
    state.header.stamp = Time(sec=7, nanosec=sequence)
    state.inputs = ["/joint_states"]
    state.input_stamps = [Time(sec=6, nanosec=5)]
    return state


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_is_written_is_read_back(tmp_path: Path, backend: str, storage: str) -> None:
    joints = JointState(name=["hip_flexion_l"], position=[0.1])
    with BagWriter(tmp_path / "bag", storage, backend) as bag:
        bag.add_topic("/robot_description", "std_msgs/msg/String", [LATCHED])
        bag.write("/robot_description", "std_msgs/msg/String", serialize_message(String(data="<robot/>")), 1)
        for i in range(100):
            bag.write("/twin/state", "exo_interfaces/msg/TwinState", serialize_message(twin_state(i)), 10 + i)
            bag.write("/joint_states", "sensor_msgs/msg/JointState", serialize_message(joints), 10 + i)
        assert bag.counts == {"/robot_description": 1, "/twin/state": 100, "/joint_states": 100}
    with BagReader(tmp_path / "bag", backend) as bag:
        assert {topic: info.count for topic, info in bag.topics.items()} == {
            "/robot_description": 1,
            "/twin/state": 100,
            "/joint_states": 100,
        }
        assert bag.topics["/robot_description"].qos == (LATCHED,)
        assert not bag.damage
        states = list(bag.messages(["/twin/state"]))
        assert [m.message.sequence for m in states] == list(range(100))
        assert [m.received_ns for m in states] == list(range(10, 110))
        assert to_ns(states[3].message.header.stamp) == 7_000_000_003
        assert list(states[3].message.coordinates) == ["hip_flexion_l", "hip_flexion_r"]
        np.testing.assert_array_equal(states[3].message.position, [0.25, -0.5])
        assert states[3].message.input_stamps[0].nanosec == 5
        order = [m.received_ns for m in bag.raw()]
        assert order == sorted(order) and len(order) == 201
        assert next(iter(bag.messages(["/robot_description"]))).message.data == "<robot/>"
        assert list(bag.messages(["/never"])) == []


def test_a_bag_is_never_overwritten(tmp_path: Path, backend: str) -> None:
    (tmp_path / "bag").mkdir()
    with pytest.raises(ExoError, match="exists already"):
        BagWriter(tmp_path / "bag", backend=backend)


def test_an_unknown_type_is_named(tmp_path: Path, backend: str) -> None:
    with BagWriter(tmp_path / "bag", backend=backend) as bag, pytest.raises(ExoError, match="nowhere/msg/Nothing"):
        bag.add_topic("/x", "nowhere/msg/Nothing")


def test_no_bag_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match="does not exist"):
        BagReader(tmp_path / "nothing")
    with pytest.raises(ExoError, match="no readable bag"):
        BagReader(tmp_path)
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: 3", encoding="utf-8")
    with pytest.raises(ExoError, match="no readable bag"):
        BagReader(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from exo_common.bag import BagWriter
from rclpy.serialization import serialize_message
from std_msgs.msg import String
bag = BagWriter(Path(sys.argv[1]), backend="rosbags")
for i in range(500):
    bag.write("/x", "std_msgs/msg/String", serialize_message(String(data=str(i))), i)
    if i == 399:
        bag.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_everything_up_to_the_flush(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    process = subprocess.run([sys.executable, "-c", KILLED, str(folder)], timeout=60)
    assert process.returncode == -signal.SIGKILL
    with BagReader(folder) as bag:
        assert "not closed properly" in bag.damage
        assert bag.topics["/x"].count == 400
        assert [m.message.data for m in bag.messages()] == [str(i) for i in range(400)]


@pytest.mark.parametrize("cut", [20, 400, 2000])
def test_a_truncated_bag_is_read_up_to_the_damage(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "bag"
    with BagWriter(folder, backend="rosbags") as bag:
        for i in range(50):
            bag.write("/x", "std_msgs/msg/String", serialize_message(String(data=str(i))), i)
            bag.flush()
    file = next(folder.glob("*.mcap"))
    os.truncate(file, file.stat().st_size - cut)
    with BagReader(folder) as bag:
        texts = [m.message.data for m in bag.messages()]
        assert bag.damage and bag.topics["/x"].count == len(texts)
        assert texts == [str(i) for i in range(len(texts))]
        assert len(texts) >= 1 and (cut > 20 or len(texts) == 50)


FULL = """
import resource, sys
from pathlib import Path
from exo_common.bag import BagWriter
from exo_common.errors import ExoError
from rclpy.serialization import serialize_message
from std_msgs.msg import String
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
bag = BagWriter(Path(sys.argv[1]), backend="rosbags")
text = serialize_message(String(data="x" * 1000))
try:
    for i in range(1000):
        bag.write("/x", "std_msgs/msg/String", text, i)
        bag.flush()
except ExoError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_gives_one_sentence_and_keeps_what_was_written(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE  # a file size limit stands in for the full disk
    folder = tmp_path / "bag"
    result = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2, result.stderr
    assert "cannot be written" in result.stdout and "stays readable" in result.stdout
    with BagReader(folder) as bag:
        assert 100 <= bag.topics["/x"].count < 200
