"""Measures live capture: sports2d's clip played in real time into the node, keypoints heard over DDS.

`live_fps` and `live_latency_p95_ms` are taken by the listener while the wearer is
followed: from the time a picture was due (its stamp) to the arrival of its
keypoints in another process. The file's next picture is decoded ahead of its time
by the node's own thread, which costs processor time but no delay; a camera's
decoding would come on top. `live_frames_with_keypoints_pct` is of the 136 frames
(54-189) in which the wearer is wholly in the picture, dropped ones counted as
misses; the pictures before belong to the search for her.

The peer is MediaPipe as its users run it (video mode, one person, whole picture),
on the same frames, one after the other with nothing else to do: its time per
picture is a lower bound of a peer's latency. Whether it is on the wearer is judged
by her path from a run of our follower on every frame.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from real_walker import HEIGHT_M, demo_video

from exo_bringup.live import private_domain
from exo_capture.acquisition import WALKS
from exo_capture.following import PEOPLE, Follower, body_length
from exo_capture.landmarks import hip_centre
from exo_capture.pose import PoseEstimator
from exo_capture.weights import model_path
from exo_common.clock import NS_PER_S, to_ns
from exo_common.qos import EVERY_SAMPLE
from exo_interfaces.msg import Keypoints

RATE_HZ = 30.0
FRAMES = 230
WHOLE = np.arange(54, 190)
START_UP_S = 20.0
# The peer's hip further than this from hers, in her sizes: it is on somebody or something else.
OFF = 0.25
HIPS = ("LHip", "RHip")


@dataclasses.dataclass(frozen=True)
class Heard:
    """Frame numbers (n,), delays (n,) ms, and whether the wearer's hips were in the message (n,)."""

    frame: np.ndarray
    delay_ms: np.ndarray
    seen: np.ndarray


def hear(video: Path, model: str) -> Heard:
    """Play the clip into a capture node and listen to it from this process."""
    domain = private_domain()
    command = [sys.executable, "-m", "exo_capture.nodes.capture", "--ros-args"]
    for text in (
        f"cameras:=['{video}']",
        f"height:={HEIGHT_M}",
        f"model:={model}",
        "wait_for_subscribers:=1",
    ):
        command += ["-p", text]
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("live_capture_bench", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard: list[tuple[int, int, bool]] = []

    def on_keypoints(message: Keypoints) -> None:
        arrived = time.time_ns()
        hips = [message.position[list(message.names).index(name)].x for name in HIPS]
        heard.append((to_ns(message.header.stamp), arrived, bool(np.isfinite(hips).all())))

    node.create_subscription(Keypoints, "/capture/keypoints", on_keypoints, EVERY_SAMPLE)
    process = subprocess.Popen(command, env=dict(os.environ, ROS_DOMAIN_ID=str(domain)), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_UP_S
        while not heard and time.monotonic() < deadline and process.poll() is None:
            executor.spin_once(timeout_sec=0.05)
        # The first picture is here; the clip ends this much later.
        deadline = time.monotonic() + FRAMES / RATE_HZ + 1.0
        while heard and time.monotonic() < deadline and process.poll() is None:
            executor.spin_once(timeout_sec=0.05)
        process.send_signal(signal.SIGINT)
        if process.wait(5.0) or not heard:
            sys.exit(f"the capture node ended with {process.returncode} after {len(heard)} keypoints; run it by itself")
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        node.destroy_node()
        context.shutdown()
    stamp, arrived, seen = (np.array(column) for column in zip(*heard, strict=True))
    frame = np.round((stamp - stamp[0]) / NS_PER_S * RATE_HZ).astype(int)
    return Heard(frame, (arrived - stamp) * 1e-6, seen)


def read(video: Path) -> list[np.ndarray]:
    """All pictures, RGB."""
    capture, pictures = cv2.VideoCapture(str(video)), []
    while True:
        decoded, image = capture.read()
        if not decoded:
            capture.release()
            return pictures
        pictures.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def wearer_path(pictures: list[np.ndarray], model: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Her hip (n, 2) px, size (n,) px, and the time per picture (n,) ms, of the follower on every frame."""
    hip, size, took = np.full((len(pictures), 2), np.nan), np.full(len(pictures), np.nan), np.zeros(len(pictures))
    with PoseEstimator(model, PEOPLE) as estimator:
        follower = Follower(estimator.detect, WALKS)
        for i, picture in enumerate(pictures):
            begin = time.perf_counter()
            found = follower.step(picture, i / RATE_HZ)
            took[i] = 1e3 * (time.perf_counter() - begin)
            if found is not None:
                hip[i], size[i] = hip_centre(found), body_length(found)
    return hip, size, took


def plain_mediapipe(pictures: list[np.ndarray], model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Hip (n, 2) px of whom MediaPipe's video mode finds in the whole picture, and its time per picture (n,) ms."""
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.PoseLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(model)), running_mode=vision.RunningMode.VIDEO
    )
    hip, took = np.full((len(pictures), 2), np.nan), np.zeros(len(pictures))
    with vision.PoseLandmarker.create_from_options(options) as landmarker:
        for i, picture in enumerate(pictures):
            begin = time.perf_counter()
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
            result = landmarker.detect_for_video(image, round(1e3 * i / RATE_HZ))
            took[i] = 1e3 * (time.perf_counter() - begin)
            if result.pose_landmarks:
                person = np.array([(p.x, p.y) for p in result.pose_landmarks[0]])
                hip[i] = hip_centre(person) * (picture.shape[1], picture.shape[0])
    return hip, took


def live_figures(heard: Heard) -> dict[str, float]:
    """Rate, delay and share of one play of the clip."""
    processed = np.isin(heard.frame, WHOLE)
    following = heard.seen & processed
    return {
        # By arrival: a node that falls behind spreads its messages out.
        "live_fps": float(
            (processed.sum() - 1) / (np.ptp(heard.frame[processed] / RATE_HZ + heard.delay_ms[processed] * 1e-3))
        ),
        "live_latency_p50_ms": float(np.quantile(heard.delay_ms[following], 0.5)),
        "live_latency_p95_ms": float(np.quantile(heard.delay_ms[following], 0.95)),
        "live_frames_with_keypoints_pct": 100.0 * float(following.sum() / len(WHOLE)),
        "live_frames_dropped_pct": 100.0 * float(1.0 - len(heard.frame) / FRAMES),
    }


def run(model: str = "full", plays: int = 3) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of the live node, each the median of some plays, and of plain MediaPipe in the same minute."""
    video, bundle = demo_video(), model_path(model)
    results = [live_figures(hear(video, model)) for _ in range(plays)]
    pictures = read(video)
    hip, size, took = wearer_path(pictures, bundle)
    peer_hip, peer_took = plain_mediapipe(pictures, bundle)
    off = np.linalg.norm(peer_hip[WHOLE] - hip[WHOLE], axis=1) / size[WHOLE]
    figures = {key: float(np.median([result[key] for result in results])) for key in results[0]}
    figures["live_pose_ms_per_frame"] = float(np.median(took[WHOLE]))
    peers = {
        "mediapipe_video_ms_per_frame": float(np.median(peer_took[WHOLE])),
        "mediapipe_video_p95_ms": float(np.quantile(peer_took[WHOLE], 0.95)),
        "mediapipe_video_frames_on_wearer_pct": 100.0 * float((off[np.isfinite(off)] < OFF).mean()),
    }
    return figures, peers


if __name__ == "__main__":
    for name, values in zip(("figures", "peers"), run(*sys.argv[1:2]), strict=True):
        print(name, {key: round(value, 1) for key, value in values.items()})
