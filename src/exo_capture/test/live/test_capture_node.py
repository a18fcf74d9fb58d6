"""The capture node in its own process, over real DDS."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from exo_common.clock import NS_PER_S, to_ns
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import Keypoints

DOMAIN = 92
RATE_HZ, FRAMES = 30.0, 230
# In these frames of the clip the wearer is wholly in the picture; a frame earlier or later she is cut off.
WHOLE = range(54, 190)
NAMES = ("LHip", "RHip", "LKnee", "RKnee")


@dataclasses.dataclass
class Listener:
    """What the node said, and a node to speak to it with."""

    node: Node
    executor: SingleThreadedExecutor
    process: subprocess.Popen[str]
    keypoints: list[Keypoints]
    markers: list[MarkerArray]
    status: dict[str, str] = dataclasses.field(default_factory=dict)
    latency_ms: list[float] = dataclasses.field(default_factory=list)
    message: str = ""

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.executor.spin_once(timeout_sec=0.05)
            assert self.process.poll() is None, "the node died"
            assert time.monotonic() < deadline, f"{what} did not happen; the node says: {self.message} {self.status}"

    def interrupt(self) -> str:
        """SIGINT; returns what the node printed."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=5.0)
        assert self.process.returncode == 0
        return output


@contextmanager
def capture(*parameters: str) -> Iterator[Listener]:
    """A running capture node of which keypoints, markers and diagnostics are heard from the first on."""
    command = [sys.executable, "-m", "exo_capture.nodes.capture", "--ros-args"]
    for text in ("height:=1.60", "wait_for_subscribers:=1", *parameters):
        command += ["-p", text]
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    environment = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN))
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    heard = Listener(node, executor, process, [], [])

    def on_diagnostics(array: DiagnosticArray) -> None:
        heard.message = array.status[0].message
        heard.status = {value.key: value.value for value in array.status[0].values}
        if heard.status.get("latency_p95_ms"):
            heard.latency_ms.append(float(heard.status["latency_p95_ms"]))

    try:
        # Markers first: the pictures start when somebody listens to the keypoints.
        node.create_subscription(MarkerArray, "/capture/markers", heard.markers.append, EVERY_SAMPLE)
        node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, EVERY_SAMPLE)
        node.create_subscription(Keypoints, "/capture/keypoints", heard.keypoints.append, EVERY_SAMPLE)
        yield heard
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        node.destroy_node()
        context.shutdown()


def stamp(message: Any) -> int:
    return to_ns(message.header.stamp)


def seen(message: Keypoints) -> bool:
    return all(math.isfinite(message.position[list(message.names).index(name)].x) for name in NAMES)


def test_a_video_in_real_time(demo_video: Path, model: Path) -> None:
    with capture(f"cameras:=['{demo_video}']") as heard:
        heard.wait(lambda: heard.message.endswith("is over"), "the end of the video", 30.0)
        # The last picture may still be under way when the video is over.
        heard.wait(
            lambda: len(heard.keypoints) == FRAMES - int(heard.status["camera0_dropped"]), "keypoints of every picture"
        )
        heard.wait(lambda: int(heard.status["keypoints"]) == len(heard.keypoints), "the count of them all")
        messages, status = heard.keypoints, heard.status
        session = os.getpgid(heard.process.pid)
        output = heard.interrupt()

    assert "following a wearer" in output
    assert "Traceback" not in output
    with pytest.raises(ProcessLookupError):
        os.killpg(session, 0)

    # Every picture is accounted for; every stamp is the time a picture was due.
    assert int(status["camera0_received"]) == FRAMES
    assert int(status["camera0_dropped"]) + int(status["keypoints"]) == FRAMES
    # How many are dropped and how late keypoints are depends on the machine's load: `./exo bench capture` measures it.
    assert len(heard.latency_ms) >= 3 and all(0.0 < latency < 1e3 * FRAMES / RATE_HZ for latency in heard.latency_ms)
    assert [message.sequence for message in messages] == list(range(len(messages)))
    frame = np.array([(stamp(m) - stamp(messages[0])) / NS_PER_S * RATE_HZ for m in messages])
    np.testing.assert_allclose(frame, np.round(frame), atol=0.01)
    assert frame[-1] >= FRAMES - 10

    # Of the pictures that were looked at from when she was found; a loaded machine looks at fewer, and finds her later.
    known = {round(f): seen(m) for f, m in zip(frame, messages, strict=True)}
    found = min(f for f, there in known.items() if there)
    assert WHOLE.start - 10 <= found <= WHOLE.start + len(WHOLE) // 2, "the bystander was taken, or she was found late"
    assert np.mean([there for f, there in known.items() if f in WHOLE and f >= found]) >= 0.95
    last = [m for m in messages if seen(m)][-1]
    assert last.header.frame_id == "capture" and not last.depth_measured
    place = {name: (p.x, p.y, p.z) for name, p in zip(last.names, last.position, strict=True)}
    assert place["LHip"][1] > 0.0 > place["RHip"][1], "y points to the left"
    assert 0.7 < place["LHip"][2] < 1.0, "z points up from the floor"
    assert place["LHip"][0] > 2.0, "x points along the walk"
    drawn = [array for array in heard.markers if all(m.action == Marker.ADD for m in array.markers)]
    assert drawn and len(drawn[-1].markers[0].points) == len(drawn[-1].markers[0].colors) > 10


def test_an_image_topic(demo_video: Path, model: Path) -> None:
    clip = cv2.VideoCapture(str(demo_video))
    frames = [
        cv2.resize(image, None, fx=0.35, fy=0.35) for _ in range(WHOLE.stop) if (image := clip.read()[1]) is not None
    ]
    clip.release()
    with capture("cameras:=['/side/image_raw']") as heard:
        publisher = heard.node.create_publisher(Image, "/side/image_raw", PUBLISH)
        heard.wait(lambda: publisher.get_subscription_count() > 0, "a subscription to the pictures")

        def send(image: np.ndarray, encoding: str, at: Any) -> int:
            message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding, step=image.shape[1] * 3)
            message.header.stamp = at
            message.data.frombytes(np.ascontiguousarray(image).tobytes())
            publisher.publish(message)
            return stamp(message)

        def now() -> Any:
            return heard.node.get_clock().now().to_msg()

        def refused() -> bool:
            send(frames[0], "bayer_rggb16", now())
            return "'bayer_rggb16', which is not understood" in heard.message

        heard.wait(refused, "the sentence on the encoding")
        sent, begin = [], time.monotonic()
        while not any(seen(m) for m in heard.keypoints):
            # However slow this machine is, she walks at her own speed.
            frame = 70 + round((time.monotonic() - begin) * RATE_HZ)
            assert frame < len(frames), "she was not found while she was in view"
            at = now()
            sent.append(send(frames[frame], "bgr8", at))
            heard.executor.spin_once(timeout_sec=0.04)

        def repeated() -> bool:
            at = now()
            for _ in range(2):
                # Two at once would be one: the queue holds the newest.
                sent.append(send(frames[-1], "bgr8", at))
                heard.executor.spin_once(timeout_sec=0.05)
            return int(heard.status["camera0_out_of_order"]) > 0

        heard.wait(repeated, "the count of repeated pictures")
        assert {stamp(m) for m in heard.keypoints} <= set(sent)
        heard.wait(lambda: "no pictures come from /side/image_raw" in heard.message, "the sentence on silence")
        heard.interrupt()


def test_without_a_picture_the_node_lives_and_says_why(tmp_path: Path, model: Path) -> None:
    with capture(f"cameras:=['{tmp_path}/none.mp4']") as heard:
        heard.wait(lambda: "none.mp4 is missing; check its name" in heard.message, "the sentence on the file")
        assert "none.mp4 is missing; check its name" in heard.interrupt()


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ((), "parameter cameras is empty"),
        (("cameras:=['/a']", "height:=0.0"), "give the standing height in m"),
        (("cameras:=['/a', '/b']",), "2 cameras need their calibration"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(model: Path, parameters: tuple[str, ...], why: str) -> None:
    with capture(*parameters) as heard:
        output, _ = heard.process.communicate(timeout=15.0)
    assert heard.process.returncode == 2 and why in output and "Traceback" not in output


def test_the_node_loads_neither_opensim_nor_torch() -> None:
    code = (
        "import sys, exo_capture.nodes.capture; "
        "print([m for m in ('opensim', 'torch', 'mujoco', 'mediapipe') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
