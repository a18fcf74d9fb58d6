"""The recorder over real DDS: nothing missing, nothing overwritten, readable after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import String

from exo_bringup.recording import TopicCount, free_folder
from exo_common.bag import BagReader
from exo_common.qos import LATCHED, PUBLISH
from exo_interfaces.msg import TwinState

DOMAIN = 71
PATIENCE_S = 10.0
RATE_HZ = 500


@contextmanager
def publisher_node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("source", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


@contextmanager
def recorder(folder: Path, *arguments: str, before: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", before + "from exo_bringup.nodes.recorder import main; main()", "--ros-args"]
    process = subprocess.Popen(
        [*command, "-p", f"folder:={folder}", *arguments],
        env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(condition: object, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.02)


def publish(node: Node, count: int) -> None:
    """`count` messages on two topics at 500 Hz each, once the recorder listens."""
    texts = node.create_publisher(String, "/text", PUBLISH)
    states = node.create_publisher(TwinState, "/twin/state", PUBLISH)
    wait_for(lambda: texts.get_subscription_count() and states.get_subscription_count(), "the recorder")
    start = time.monotonic()
    for i in range(count):
        texts.publish(String(data=str(i)))
        states.publish(TwinState(sequence=i))
        time.sleep(max(0.0, start + (i + 1) / RATE_HZ - time.monotonic()))


def test_every_message_of_every_topic_is_kept(tmp_path: Path) -> None:
    folder, count = tmp_path / "bag", 1500
    folder.mkdir()  # in the way: the recorder must choose another name
    with publisher_node() as node, recorder(folder) as process:
        latched = node.create_publisher(String, "/robot_description", LATCHED)
        latched.publish(String(data="<robot/>"))
        publish(node, count)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        late = node.create_publisher(String, "/text", PUBLISH)  # the last words of a stopping node
        wait_for(lambda: late.get_subscription_count(), "the draining recorder")
        late.publish(String(data="good-bye"))
        assert process.wait(PATIENCE_S) == 0, process.stdout and process.stdout.read()
    assert not list(folder.iterdir())
    with BagReader(tmp_path / "bag_2") as bag:
        assert not bag.damage
        assert bag.topics["/twin/state"].count == count
        assert [m.message.sequence for m in bag.messages(["/twin/state"])] == list(range(count))
        assert [m.message.data for m in bag.messages(["/text"])] == [*(str(i) for i in range(count)), "good-bye"]
        assert next(iter(bag.messages(["/robot_description"]))).message.data == "<robot/>"
        assert bag.topics["/robot_description"].qos[0].durability == "transient_local"
        received = {topic: info.count for topic, info in bag.topics.items()}
    summary = json.loads((tmp_path / "bag_2" / "recording.json").read_text(encoding="utf-8"))
    assert {topic: entry["received"] for topic, entry in summary.items()} == received
    assert all(entry["missing"] == 0 for entry in summary.values())
    assert summary["/twin/state"] == {
        "type": "exo_interfaces/msg/TwinState",
        "received": count,
        "missing": 0,
        "before": 0,
        "publishers": 1,
    }


def test_a_killed_recorder_leaves_a_readable_bag(tmp_path: Path) -> None:
    with publisher_node() as node, recorder(tmp_path / "bag", "-p", "topics:=[/text]") as process:
        texts = node.create_publisher(String, "/text", PUBLISH)
        wait_for(lambda: texts.get_subscription_count(), "the recorder")
        for i in range(150):
            texts.publish(String(data=str(i)))
            time.sleep(0.02)
        process.kill()
        process.wait()
    with BagReader(tmp_path / "bag") as bag:
        assert "not closed properly" in bag.damage
        assert list(bag.topics) == ["/text"]
        texts_read = [m.message.data for m in bag.messages()]
    # 3 s at 50 Hz, at most the last flush period and a busy machine's delay lost.
    assert texts_read == [str(i) for i in range(len(texts_read))] and len(texts_read) >= 50


def test_expected_topics_lose_no_first_message(tmp_path: Path) -> None:
    with (
        publisher_node() as node,
        recorder(tmp_path / "bag", "-p", "expected:=['/text std_msgs/msg/String']") as process,
    ):
        wait_for(lambda: node.count_subscribers("/text"), "the recorder")
        texts = node.create_publisher(String, "/text", PUBLISH)
        wait_for(lambda: texts.get_subscription_count(), "the match")
        texts.publish(String(data="first"))
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    with BagReader(tmp_path / "bag") as bag:
        assert [m.message.data for m in bag.messages(["/text"])] == ["first"]


def test_a_folder_that_cannot_be_made_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with recorder(tmp_path / "file" / "bag") as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2
    assert "cannot be written" in output and "Traceback" not in output


def test_a_full_disk_ends_the_recording_with_one_sentence(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); "
    with publisher_node() as node, recorder(tmp_path / "bag", "-p", "topics:=[/text]", before=limit) as process:
        texts = node.create_publisher(String, "/text", PUBLISH)
        wait_for(lambda: texts.get_subscription_count(), "the recorder")
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            texts.publish(String(data="x" * 1000))
            time.sleep(0.002)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 2
    assert "cannot be written" in output and "stays readable" in output and "Traceback" not in output, output
    with BagReader(tmp_path / "bag") as bag:
        assert 100 <= bag.topics["/text"].count < 300


def test_gaps_are_counted_per_publisher() -> None:
    count = TopicCount("std_msgs/msg/String")
    for publisher, sequence in ((b"a", 5), (b"a", 6), (b"b", 1), (b"a", 9), (b"b", 2), (b"a", 8), (b"a", 10)):
        count.add(publisher, sequence)
    assert (count.received, count.before, count.missing) == (7, 4, 1)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_free_folder_never_names_an_existing_one(tmp_path: Path, taken: int) -> None:
    for _ in range(taken):
        free_folder(tmp_path / "bag").mkdir()
    assert free_folder(tmp_path / "bag").name == ["bag", "bag_2", "bag_3"][taken]
