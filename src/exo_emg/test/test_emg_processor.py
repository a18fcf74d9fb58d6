"""The processor node over real DDS, in its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from exo_common.clock import to_ns, to_stamp
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.processing import ChainConfig, EnvelopeStream
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame

DOMAIN = 91
MUSCLES = ["VAS_l", "SOL_l"]
START_NS = 1_700_000_000_000_000_000
FRAMES = 120
DROPPED = 80


@pytest.fixture
def processor() -> Iterator[subprocess.Popen[bytes]]:
    code = "from exo_emg.nodes.emg_processor import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN)))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_every_frame_is_answered_as_the_core_would(processor: subprocess.Popen[bytes]) -> None:
    samples = EmgSynthesizer(2, 1).frame(np.full((10 * FRAMES, 2), 0.4)).astype(np.float32)
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("driver", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    answers: list[EmgEnvelope] = []
    try:
        publisher = node.create_publisher(EmgFrame, "/emg/raw", PUBLISH)
        node.create_subscription(EmgEnvelope, "/emg/envelope", answers.append, EVERY_SAMPLE)
        deadline = time.monotonic() + 10.0
        while publisher.get_subscription_count() == 0 or node.count_publishers("/emg/envelope") == 0:
            executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < deadline, "the processor did not appear"
        time.sleep(0.3)
        for k in range(FRAMES):
            if k == DROPPED:
                continue
            frame = EmgFrame(first_sample=10 * k, sampling_rate_hz=1000.0, muscles=MUSCLES)
            frame.header.stamp = to_stamp(START_NS + 10_000_000 * k)
            frame.samples = samples[10 * k : 10 * k + 10].ravel()
            publisher.publish(frame)
            executor.spin_once(timeout_sec=0.005)
        while len(answers) < FRAMES - 1 and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
    finally:
        executor.shutdown()
        node.destroy_node()
        context.shutdown()

    assert len(answers) == FRAMES - 1
    stamps = [to_ns(a.header.stamp) for a in answers]
    assert stamps == [START_NS + 10_000_000 * k + 9_000_000 for k in range(FRAMES) if k != DROPPED]
    stream = EnvelopeStream(1000.0, np.full(2, SynthesisConfig().maximum_v()), ChainConfig())
    core = [stream.process(samples[10 * k : 10 * k + 10].astype(float))[-1] for k in range(DROPPED)]
    np.testing.assert_allclose([a.envelope for a in answers[:DROPPED]], core, rtol=1e-5)
    assert list(answers[0].muscles) == MUSCLES
    assert all(answers[DROPPED - 1].valid) and not any(answers[DROPPED].valid), "the lost frame was not noticed"

    processor.send_signal(signal.SIGINT)
    assert processor.wait(timeout=5.0) == 0
