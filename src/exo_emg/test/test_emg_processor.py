"""The processor node over real DDS, in its own process."""

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
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from exo_common.clock import to_ns, to_stamp
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.calibration import Calibration, Maximum, write_calibration
from exo_emg.processing import ChainConfig, EnvelopeStream
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame, Fatigue

DOMAIN = 90
MUSCLES = ["VAS_l", "SOL_l"]
START_NS = 1_700_000_000_000_000_000
FRAMES = 120
DROPPED = 80
ON_THE_WAY = 20


def start(domain: int, *arguments: str) -> subprocess.Popen[bytes]:
    code = "from exo_emg.nodes.emg_processor import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=dict(os.environ, ROS_DOMAIN_ID=str(domain)))


@pytest.fixture
def processor() -> Iterator[subprocess.Popen[bytes]]:
    process = start(DOMAIN)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Driver:
    """Publishes frames and hears what the processor says."""

    def __init__(self, domain: int) -> None:
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = Node("driver", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._sent = 0
        self.envelopes: list[EmgEnvelope] = []
        self.fatigue: list[Fatigue] = []
        self.told: list[dict[str, str]] = []
        self._publisher = self._node.create_publisher(EmgFrame, "/emg/raw", PUBLISH)
        self._node.create_subscription(EmgEnvelope, "/emg/envelope", self.envelopes.append, EVERY_SAMPLE)
        self._node.create_subscription(Fatigue, "/emg/fatigue", self.fatigue.append, EVERY_SAMPLE)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVERY_SAMPLE)
        self.until(
            lambda: self._publisher.get_subscription_count() > 0 and self._node.count_publishers("/emg/envelope") > 0
        )
        time.sleep(0.3)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            self._executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < deadline, f"did not happen; diagnostics {self.told[-1:]}"

    def send(self, first: int, samples: NDArray[np.float64], stamp_ns: int, rate: float = 1000.0) -> None:
        frame = EmgFrame(first_sample=first, sampling_rate_hz=rate, muscles=MUSCLES)
        frame.header.stamp = to_stamp(stamp_ns)
        frame.samples = samples.astype(np.float32).ravel()
        self._publisher.publish(frame)
        self._sent += 1
        # Never more on the way than a publisher keeps (50), however busy the machine is.
        self.until(lambda: self._sent - len(self.envelopes) < ON_THE_WAY)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.shutdown()

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        (status,) = array.status
        self.told.append({value.key: value.value for value in status.values} | {"message": status.message})


def test_calibration_bad_frames_a_jumping_clock_an_unplugged_channel_and_fatigue(tmp_path: Path) -> None:
    """One stream through everything that goes wrong: it is told, nothing bad is passed on as valid, and it recovers."""
    maximum = SynthesisConfig().maximum_v()
    calibration = tmp_path / "emg_calibration.yaml"
    own = {name: Maximum(factor * maximum, "mvc", 1000.0) for name, factor in zip(MUSCLES, (1.0, 2.0), strict=True)}
    write_calibration(calibration, Calibration("w01", own))
    process = start(DOMAIN + 1, "--ros-args", "-p", f"calibration:={calibration}", "-p", "mains:='off'")
    driver = None
    try:
        driver = Driver(DOMAIN + 1)
        samples = EmgSynthesizer(2, 1).frame(np.full((3000, 2), 0.4))
        samples[1000:1500, 1] = np.nan
        # Too slow for EMG: refused, and told with the rate that is needed.
        driver.send(0, samples[:10], START_NS, rate=100.0)
        driver.until(lambda: any("1125 Hz" in told["message"] for told in driver.told))
        for k in range(300):
            jump_ns = 3_000_000_000 if k >= 200 else 0
            driver.send(10 * k, samples[10 * k : 10 * k + 10], START_NS + 10_000_000 * k + jump_ns)
        driver.until(lambda: len(driver.envelopes) == 300 and bool(driver.fatigue))
        driver.until(lambda: driver.told[-1].get("frames") == "300")
        envelopes = driver.envelopes
        valid = np.array([list(e.valid) for e in envelopes])
        assert valid[60:, 0].all()
        assert valid[60:100, 1].all() and not valid[100:150, 1].any() and valid[210:, 1].all()
        assert all(np.isfinite(e.envelope).all() for e in envelopes)
        mean = np.mean([list(e.envelope) for e in envelopes[60:100]], axis=0)
        assert mean[0] == pytest.approx(0.4, rel=0.2) and mean[1] == pytest.approx(0.2, rel=0.2)
        assert driver.told[-1]["clock_jumps"] == "1" and driver.told[-1]["refused_frames"] == "1"
        stamps = [to_ns(e.header.stamp) for e in envelopes]
        assert stamps[200] - stamps[199] == 3_010_000_000
        assert list(driver.fatigue[-1].muscles) == MUSCLES and len(driver.fatigue[-1].index) == 2
        assert list(driver.fatigue[-1].confidence) == [0.0, 0.0], "three seconds are too short to judge"
    finally:
        if driver is not None:
            driver.close()
        process.kill()
        process.wait()


def test_every_frame_is_answered_as_the_core_would(processor: subprocess.Popen[bytes]) -> None:
    samples = EmgSynthesizer(2, 1).frame(np.full((10 * FRAMES, 2), 0.4)).astype(np.float32)
    driver = Driver(DOMAIN)
    try:
        for k in range(FRAMES):
            if k != DROPPED:
                driver.send(10 * k, samples[10 * k : 10 * k + 10], START_NS + 10_000_000 * k)
        driver.until(lambda: len(driver.envelopes) == FRAMES - 1)
    finally:
        driver.close()
    answers = driver.envelopes
    stamps = [to_ns(a.header.stamp) for a in answers]
    assert stamps == [START_NS + 10_000_000 * k + 9_000_000 for k in range(FRAMES) if k != DROPPED]
    stream = EnvelopeStream(1000.0, np.full(2, SynthesisConfig().maximum_v()), ChainConfig())
    core = [stream.process(samples[10 * k : 10 * k + 10].astype(float))[-1] for k in range(DROPPED)]
    np.testing.assert_allclose([a.envelope for a in answers[:DROPPED]], core, rtol=1e-5)
    assert list(answers[0].muscles) == MUSCLES
    assert all(answers[DROPPED - 1].valid) and not any(answers[DROPPED].valid), "the lost frame was not noticed"

    processor.send_signal(signal.SIGINT)
    assert processor.wait(timeout=5.0) == 0
