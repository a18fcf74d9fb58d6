"""The calibration assistant live: over real DDS, in its own process, as a user starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from exo_common.clock import to_stamp
from exo_common.qos import PUBLISH
from exo_emg.assistant import EFFORT_S, READY_S
from exo_emg.calibration import FILE, read_calibration
from exo_emg.recordings import read_recording
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig
from exo_interfaces.msg import EmgFrame

DOMAIN = 96
MUSCLES = ["soleus_r", "tibialis_anterior_r"]
START_NS = 1_700_000_000_000_000_000

Send = Callable[[NDArray[np.float64]], None]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    (tmp_path / "session.yaml").write_text("wearer: {id: w01, height: 1.72, mass: 68.0}\n")
    return tmp_path


@pytest.fixture
def driver() -> Iterator[Send]:
    """Publishes frames of 10 ms, ten times as fast as real; waits for a listener first."""
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("driver", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    publisher = node.create_publisher(EmgFrame, "/emg/raw", PUBLISH)

    def send(samples: NDArray[np.float64]) -> None:
        deadline = time.monotonic() + 20.0
        while publisher.get_subscription_count() == 0:
            executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < deadline, "the assistant did not appear"
        time.sleep(0.3)
        for i in range(0, len(samples), 10):
            frame = EmgFrame(first_sample=i, sampling_rate_hz=1000.0, muscles=MUSCLES)
            frame.header.stamp = to_stamp(START_NS + 1_000_000 * i)
            frame.samples = samples[i : i + 10].astype(np.float32).ravel()
            publisher.publish(frame)
            executor.spin_once(timeout_sec=0.001)

    try:
        yield send
    finally:
        executor.shutdown()
        node.destroy_node()
        context.shutdown()


def assistant(session: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "exo_emg", "calibrate", str(session), *arguments],
        env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN), PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def efforts() -> NDArray[np.float64]:
    """Full effort of the first muscle, then half of it of the second, when they are asked for."""
    ready, effort = round(1000 * READY_S), round(1000 * EFFORT_S)
    drive = np.full((2 * (ready + effort), 2), 0.005)
    drive[ready : ready + effort, 0] = 1.0
    drive[2 * ready + effort :, 1] = 0.5
    return EmgSynthesizer(2, 0).frame(drive)


def test_a_guided_session_ends_with_maxima_and_the_recording_they_came_from(session: Path, driver: Send) -> None:
    process = assistant(session, "--full-scale-v", "0.01", "--mains", "50")
    try:
        samples = efforts()
        driver(samples)
        out, errors = process.communicate(timeout=15.0)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "now: soleus_r: right leg: sit" in out and "relax: tibialis_anterior_r" in out
    calibration = read_calibration(session / FILE, "w01")
    assert (calibration.chain.full_scale_v, calibration.chain.mains) == (0.01, "50")
    full = SynthesisConfig().maximum_v()
    assert calibration.maxima_v(MUSCLES) == pytest.approx([full, 0.5 * full], rel=0.1)
    heard = read_recording(session / calibration.muscles["soleus_r"].source)
    np.testing.assert_allclose(heard.samples, samples, rtol=1e-6)
    assert heard.layout.muscles == tuple(MUSCLES)


def test_ctrl_c_keeps_what_was_heard_and_what_was_accepted(session: Path, driver: Send) -> None:
    process = assistant(session)
    try:
        samples = efforts()[:13000]
        driver(samples)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=15.0)
    finally:
        process.kill()
    assert process.returncode == 1 and "Traceback" not in errors
    assert "1300 frames, 0 samples lost" in out
    assert list(read_calibration(session / FILE).muscles) == ["soleus_r"]
    assert len(read_recording(session / "emg_calibration" / "mvc").samples) == len(samples)


def test_silence_is_one_sentence(session: Path) -> None:
    code = (
        "import sys; from exo_emg.nodes.emg_calibrator import calibrate_live; "
        f"sys.exit(calibrate_live(['x', '--ros-args', '-p', 'session:={session}', '-p', 'silence:=1.0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN)),
        capture_output=True, text=True, timeout=20.0, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "/emg/raw was silent for 1 s; start the EMG driver" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_drivers_at_once_are_refused(session: Path, driver: Send) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    other = Node("other_driver", context=context)
    process = assistant(session)
    try:
        other.create_publisher(EmgFrame, "/emg/raw", PUBLISH)
        driver(efforts()[:100])
        _, errors = process.communicate(timeout=15.0)
    finally:
        process.kill()
        other.destroy_node()
        context.shutdown()
    assert process.returncode == 2 and "two nodes publish /emg/raw" in errors
