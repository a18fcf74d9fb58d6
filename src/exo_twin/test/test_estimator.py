from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import Imu, JointState
from twin_fakes import PERIOD_NS, walk, write_twin

from exo_common.clock import to_stamp
from exo_common.frames import HIPS, LEG_COORDINATES
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import EmgEnvelope, TwinState
from exo_twin.estimator import (
    ENVELOPE,
    IMUS,
    JOINT_STATES,
    EnvelopeSample,
    Estimator,
    ImuSample,
    JointSample,
    envelope_sample,
    imu_sample,
    joint_sample,
)
from exo_twin.lockstep import TWIN_STATE, rerun
from exo_twin.nodes.estimator import _state_message
from exo_twin.periodic import PeriodicCurve
from exo_twin.planar_muscles import MUSCLES
from exo_twin.twin import Twin

DOMAIN = 62
HIP_L, KNEE_L, HIP_R = 0, 1, 3


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return Twin.load(write_twin(tmp_path_factory.mktemp("twins") / "twin"))


def joints(stamp: int, q: tuple[float, float], qd: tuple[float, float]) -> JointState:
    message = JointState(name=["odd", HIPS[1], HIPS[0]], position=[9.0, q[1], q[0]], velocity=[9.0, qd[1], qd[0]])
    message.header.stamp = to_stamp(stamp)
    return message


def emg(stamp: int, level: float, invalid: str = "") -> EmgEnvelope:
    message = EmgEnvelope(
        muscles=list(MUSCLES), envelope=[level + 0.01 * k for k in range(18)], valid=[n != invalid for n in MUSCLES]
    )
    message.header.stamp = to_stamp(stamp)
    return message


def gyro(stamp: int, rate: float) -> Imu:
    message = Imu()
    message.header.stamp = to_stamp(stamp)
    message.angular_velocity.y = rate
    return message


def recording(twin: Twin, seconds: float = 3.0) -> list[tuple[str, object]]:
    """Inputs at their own rates, some dropped, and what an estimator made of the newest ones."""
    estimator, messages = Estimator(twin), []
    envelope, imus = None, {}
    for k, (stamp, q, qd, _) in enumerate(walk(twin.gait, seconds, noise_deg=0.5, seed=2)):
        if k % 3 == 0:
            message = emg(stamp - 4_000_000, 0.1 + 0.05 * math.sin(k), MUSCLES[k % 18])
            messages.append((ENVELOPE, message))
            envelope = envelope_sample(message)
        if k > 20:
            for topic, rate in zip(IMUS, (0.1, -qd[0] + 0.1, -qd[1] + 0.1), strict=True):
                message = gyro(stamp - 1_000_000, rate)
                messages.append((topic, message))
                imus[topic] = imu_sample(message)
        message = joints(stamp, q, qd)
        messages.append((JOINT_STATES, message))
        if k % 7 == 6:
            continue  # a control subscriber may skip a sample; the recorder has it all the same
        estimate = estimator.step(joint_sample(message), envelope, imus)
        messages.append((TWIN_STATE, _state_message(estimate)))
    return messages


def test_walking_wearer_is_followed(twin: Twin) -> None:
    estimator = Estimator(twin)
    knee = PeriodicCurve(twin.gait.curves["knee_angle_l"])
    hip_error, knee_error = [], []
    for stamp, q, qd, phase in walk(twin.gait, 6.0, noise_deg=0.5):
        estimate = estimator.step(JointSample(stamp, q, qd), None, {})
        hip_error.append(estimate.position[HIP_L] - q[0])
        knee_error.append(estimate.position[KNEE_L] - knee.at(phase)[0])
    assert np.sqrt(np.mean(np.square(hip_error[300:]))) < math.radians(0.5)
    assert np.sqrt(np.mean(np.square(knee_error[300:]))) < math.radians(3.0)
    assert estimate.position_sd[KNEE_L] > estimate.position_sd[HIP_L]


@pytest.mark.parametrize("side", [0, 1])
def test_lifting_one_thigh_moves_that_hip_alone(twin: Twin, side: int) -> None:
    estimator = Estimator(twin)
    for k in range(50):
        angle = [0.0, 0.0]
        angle[side] = 0.01 * k
        estimate = estimator.step(JointSample(k * PERIOD_NS + 1, (angle[0], angle[1]), (0.0, 0.0)), None, {})
    row, other = (HIP_L, HIP_R) if side == 0 else (HIP_R, HIP_L)
    assert estimate.position[row] > 0.4
    assert estimate.position[other] == 0.0


def test_activations_follow_valid_channels_and_fall_back_without_them(twin: Twin) -> None:
    envelope = EnvelopeSample(PERIOD_NS, {"GLU_l": 0.5, "HFL_l": math.nan, "RF_r": 3.0})
    estimate = Estimator(twin).step(JointSample(PERIOD_NS, (0.0, 0.0), (0.0, 0.0)), envelope, {})
    by_name = dict(zip(MUSCLES, zip(estimate.activation, estimate.activation_sd, strict=True), strict=True))
    assert by_name["GLU_l"] == (0.5, 0.1)
    assert by_name["RF_r"] == (1.0, 0.1)
    assert by_name["HFL_l"] == by_name["SOL_l"] == (0.01, 0.3)
    assert estimate.moment[HIP_L] < 0.0 < estimate.moment[HIP_R]
    late = Estimator(twin).step(JointSample(30 * PERIOD_NS, (0.0, 0.0), (0.0, 0.0)), envelope, {})
    assert np.all(late.activation == 0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_input_makes_the_estimate_anything_but_finite(twin: Twin, bad: float) -> None:
    estimator = Estimator(twin)
    samples = [((bad, 0.1), (0.0, 0.0)), ((0.1, 0.1), (0.0, bad)), ((0.1, 0.1), (0.0, 0.0)), ((bad, bad), (bad, bad))]
    for k, (q, qd) in enumerate(samples):
        envelope = EnvelopeSample(k * PERIOD_NS, {"GLU_l": bad})
        imus = {topic: ImuSample(k * PERIOD_NS, (bad, bad, bad)) for topic in IMUS}
        e = estimator.step(JointSample(k * PERIOD_NS, q, qd), envelope, imus)
        for values in (e.position, e.velocity, e.moment, e.position_sd, e.activation, e.activation_sd, e.force):
            assert np.all(np.isfinite(values))
    assert e.position_sd[HIP_L] == 0.3


def test_imus_help_only_where_they_agree_with_the_encoder(twin: Twin) -> None:
    def rate(thigh: float) -> float:
        sample = JointSample(PERIOD_NS, (0.0, 0.0), (1.0, 1.0))
        imus = {IMUS[0]: ImuSample(PERIOD_NS, (0.0, 0.2, 0.0)), IMUS[1]: ImuSample(PERIOD_NS, (0.0, thigh, 0.0))}
        return float(Estimator(twin).step(sample, None, imus).velocity[HIP_L])

    # Flexion turns the thigh about -y: -(-1.0 - 0.2) leaves 1.2 against the encoder's 1.0.
    assert rate(-1.0) == pytest.approx(1.1)
    assert rate(1.2) == 1.0


def test_a_recording_is_reproduced_bit_by_bit(twin: Twin) -> None:
    messages = recording(twin)
    result = rerun(twin, messages)
    assert result.identical and result.max_difference == 0.0 and result.compared == 258
    assert "identical" in result.sentence


def test_a_changed_recording_is_noticed(twin: Twin) -> None:
    messages = recording(twin)
    states = [m for t, m in messages if t == TWIN_STATE]
    states[100].activation[3] += 1e-12
    result = rerun(twin, messages)
    assert not result.identical and 0.0 < result.max_difference < 1e-11


def test_states_cut_off_by_the_end_of_the_recording_are_left_out_and_said(twin: Twin) -> None:
    messages = recording(twin)
    last = max(k for k, (topic, _) in enumerate(messages) if topic == IMUS[1])
    result = rerun(twin, [pair for k, pair in enumerate(messages) if k != last])
    assert result.identical and result.compared == 257
    assert "the last 1 were cut off" in result.sentence


@pytest.mark.parametrize(
    ("keep", "compared", "words"),
    [
        (lambda t, m, k: t != TWIN_STATE, 0, "holds no /twin/state"),
        (lambda t, m, k: t != TWIN_STATE or m.sequence > 4, 0, "begins at sequence 5"),
        (lambda t, m, k: t != TWIN_STATE or m.sequence != 40, 40, "state 40 is missing"),
        (lambda t, m, k: t != IMUS[0], 18, "message of /imu/pelvis behind state 18"),
        (lambda t, m, k: t != ENVELOPE or k < 300, None, "message of /emg/envelope behind state"),
    ],
)
def test_what_a_recording_lacks_is_said(twin: Twin, keep, compared: int | None, words: str) -> None:
    messages = [(t, m) for k, (t, m) in enumerate(recording(twin)) if keep(t, m, k)]
    result = rerun(twin, messages)
    assert words in result.sentence and not result.identical
    if compared is not None:
        assert result.compared == compared


def test_fast_enough_for_the_tick(twin: Twin) -> None:
    estimator, samples = Estimator(twin), list(walk(twin.gait, 3.0))
    begin = time.perf_counter()
    for stamp, q, qd, _ in samples:
        estimator.step(JointSample(stamp, q, qd), None, {})
    assert (time.perf_counter() - begin) / len(samples) < 1.5e-3


@pytest.fixture
def live(twin: Twin) -> Iterator[rclpy.node.Node]:
    process = subprocess.Popen(
        [sys.executable, "-m", "exo_twin.nodes.estimator", "--ros-args", "-p", f"twin:={twin.folder}"],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
    )
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("rig", context=context)
    try:
        yield node
    finally:
        process.kill()
        process.wait()
        node.destroy_node()
        context.try_shutdown()


def test_live_node_is_reproduced_from_what_was_recorded(twin: Twin, live: rclpy.node.Node) -> None:
    executor = rclpy.executors.SingleThreadedExecutor(context=live.context)
    executor.add_node(live)
    recorded: list[tuple[str, object]] = []
    joint_states: list[JointState] = []
    live.create_subscription(TwinState, TWIN_STATE, lambda m: recorded.append((TWIN_STATE, m)), EVERY_SAMPLE)
    live.create_subscription(JointState, "/twin/joint_states", joint_states.append, EVERY_SAMPLE)
    publisher = live.create_publisher(JointState, JOINT_STATES, PUBLISH)
    emg_publisher = live.create_publisher(EmgEnvelope, ENVELOPE, PUBLISH)
    end = time.monotonic() + 10.0
    while publisher.get_subscription_count() < 1 or live.count_publishers(TWIN_STATE) < 1:
        assert time.monotonic() < end, "the estimator did not appear"
        time.sleep(0.02)
    time.sleep(0.3)  # the other direction of discovery
    for stamp, q, qd, _ in walk(twin.gait, 2.0, noise_deg=0.5):
        due = time.monotonic() + 0.01
        for topic, out, message in (
            (ENVELOPE, emg_publisher, emg(stamp, 0.2)),
            (JOINT_STATES, publisher, joints(stamp, q, qd)),
        ):
            out.publish(message)
            recorded.append((topic, message))
        while (left := due - time.monotonic()) > 0.0:
            executor.spin_once(timeout_sec=left)
    end = time.monotonic() + 10.0
    while sum(topic == TWIN_STATE for topic, _ in recorded) < 100:
        assert time.monotonic() < end, "too few states"
        executor.spin_once(timeout_sec=0.1)
    for _ in range(50):
        executor.spin_once(timeout_sec=0.002)
    result = rerun(twin, recorded)
    assert result.identical, result.sentence
    assert list(joint_states[-1].name) == list(LEG_COORDINATES)
    executor.shutdown()


def test_the_live_node_needs_no_heavy_library() -> None:
    code = (
        "import sys, exo_twin.nodes.estimator;"
        "print([m for m in ('opensim', 'torch', 'mujoco', 'scipy', 'mediapipe') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr
