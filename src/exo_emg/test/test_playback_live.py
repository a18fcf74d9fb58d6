"""A recording with a hole through the driver node and back: over DDS, into a bag, and read as a recording again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message

from exo_common.bag import BagWriter
from exo_common.qos import EVERY_SAMPLE
from exo_emg.recordings import read_recording
from exo_interfaces.msg import EmgFrame

PATIENCE_S = 20.0
DOMAIN = 97


def test_what_is_played_is_what_was_recorded(tmp_path: Path) -> None:
    samples = 2e-4 * np.random.default_rng(0).standard_normal((2000, 2))
    rows = [f"{k / 1000:.3f},{a:.9g},{b:.9g}" for k, (a, b) in enumerate(samples) if not 703 <= k < 768]
    path = tmp_path / "walk.csv"
    path.write_text("\n".join(["time,R_soleus,L_TA", *rows]))
    frames: list[EmgFrame] = []
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("listener", context=context)
    node.create_subscription(EmgFrame, "/emg/raw", frames.append, EVERY_SAMPLE)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    words = ["-p", "driver:=playback", "-p", f"file:={path}", "-p", "wait_for_subscribers:=1", "-p", "speed:=2.0"]
    driver = subprocess.Popen(
        [sys.executable, "-c", "from exo_emg.nodes.emg_driver import main; main()", "--ros-args", *words],
        env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN)),
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not (frames and frames[-1].first_sample >= 1990):
            executor.spin_once(timeout_sec=0.05)
    finally:
        driver.kill()
        driver.wait()
        executor.shutdown()
        node.destroy_node()
        context.shutdown()
    assert list(frames[0].muscles) == ["soleus_r", "tibialis_anterior_l"] and frames[0].first_sample == 0
    assert frames[-1].lost_samples == 65 and frames[-1].sampling_rate_hz == 1000.0
    with BagWriter(tmp_path / "bag") as bag:
        for k, frame in enumerate(frames):
            bag.write("/emg/raw", "exo_interfaces/msg/EmgFrame", bytes(serialize_message(frame)), k)
    again = read_recording(tmp_path / "bag")
    samples[703:768] = np.nan
    np.testing.assert_allclose(again.samples, samples, rtol=1e-6)
