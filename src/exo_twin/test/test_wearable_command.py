"""`python -m exo_twin calibrate`: from a bag, and live over DDS; the twin is touched nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.serialization import serialize_message
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Imu, JointState
from worn_sensors import ZERO, planar_motion, recorded, write_twin

from exo_common.artefact import read_manifest, sha256
from exo_common.bag import BagWriter
from exo_common.clock import to_stamp
from exo_common.frames import HIPS
from exo_common.qos import PUBLISH
from exo_twin.__main__ import main
from exo_twin.calibration import CALIBRATION_FILE, SEGMENTS, EmgChannel, TwinCalibration
from exo_twin.inverse.wearable_recording import WearableRecording
from exo_twin.wearable_guide import STEPS_SEEN, WearableGuide

START_S = 1_700_000_000
SPEED_UP = 4.0  # of the live test over real time


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    return write_twin(tmp_path / "twin")


def messages(recording: WearableRecording) -> list[tuple[float, str, object]]:
    """(time, topic, message) in the order of time."""
    found: list[tuple[float, str, object]] = []
    for name, imu in recording.imus.items():
        for at, rate, force in zip(imu.time, imu.gyro, imu.accelerometer, strict=True):
            message = Imu()
            message.header.stamp = stamp(at)
            for vector, values in ((message.angular_velocity, rate), (message.linear_acceleration, force)):
                vector.x, vector.y, vector.z = map(float, values)
            found.append((float(at), f"/imu/{name}", message))
    for at, hips in zip(recording.time, recording.hips, strict=True):
        # Devices name joints in their own order, and some report more than hips.
        message = JointState(name=["lock", *HIPS[::-1]], position=[0.0, *map(float, hips[::-1])])
        message.header.stamp = stamp(at)
        found.append((float(at), "/joint_states", message))
    return sorted(found, key=lambda item: item[:2])


def stamp(seconds: float) -> Time:
    return to_stamp(round((START_S + seconds) * 1e9))


def write_bag(folder: Path, recording: WearableRecording) -> Path:
    with BagWriter(folder) as bag:
        for at, topic, message in messages(recording):
            kind = "sensor_msgs/msg/JointState" if topic == "/joint_states" else "sensor_msgs/msg/Imu"
            bag.write(topic, kind, serialize_message(message), round((START_S + at) * 1e9))
    return folder


def check(folder: Path, mounting: dict[str, np.ndarray]) -> TwinCalibration:
    own = TwinCalibration.load(folder / CALIBRATION_FILE, "w01")
    for name in SEGMENTS:
        missed = Rotation.from_matrix(own.imu_rotation[name] @ mounting[name].T).magnitude()
        assert np.degrees(missed) < 4.0
    assert [own.encoder_zero[name] for name in HIPS] == pytest.approx(ZERO, abs=0.03)
    read_manifest(folder, "twin", "w01")
    return own


def test_from_a_bag(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emg = {"RF_l": EmgChannel(("recfem_l",), 0.7)}
    TwinCalibration.identity("w01").with_emg(emg, "walks").save(twin / CALIBRATION_FILE)
    before = {path.name: sha256(path) for path in twin.iterdir() if path.name != CALIBRATION_FILE}
    recording, mounting = recorded(6)
    assert main(["calibrate", str(twin), "--bag", str(write_bag(tmp_path / "bag", recording))]) == 0
    own = check(twin, mounting)
    assert own.emg == emg and own.source["imus"].startswith("recording bag") and own.source["emg"] == "walks"
    assert {path.name: sha256(path) for path in twin.iterdir() if path.name != CALIBRATION_FILE} == before
    told = capsys.readouterr().out
    assert "IMU thigh_r" in told and "hip encoder left" in told and "+-" in told


def test_bad_input_is_one_sentence_and_leaves_the_twin(
    twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, _ = recorded(6)
    only = WearableRecording(recording.time, recording.hips, {"pelvis": recording.imus["pelvis"]})
    assert main(["calibrate", str(twin), "--bag", str(write_bag(tmp_path / "bag", only))]) == 2
    assert "lacks /imu/thigh_l, /imu/thigh_r" in capsys.readouterr().err
    assert main(["calibrate", str(twin), "--bag", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
    (twin / "coordinates.mot").unlink()
    assert main(["calibrate", str(twin), "--bag", str(tmp_path / "bag")]) == 2
    assert not (twin / CALIBRATION_FILE).exists()


def test_the_guide_asks_to_stand_and_then_to_walk() -> None:
    guide, tasks = WearableGuide(), []
    restless, _ = recorded(7)
    restless = WearableRecording(
        restless.time - 60.0,
        restless.hips + 0.2 * np.sin(6.0 * restless.time)[:, None],
        {name: imu.__class__(imu.time - 60.0, imu.gyro, imu.accelerometer) for name, imu in restless.imus.items()},
    )
    recording, _ = recorded(7)
    for at, topic, message in [*messages(restless)[:1200], *messages(recording)]:
        if topic == "/joint_states":
            guide.joints(message)
        else:
            guide.collected.imu(topic.removeprefix("/imu/"), message)
        if not tasks or tasks[-1][1] != guide.prompt.task:
            tasks.append((at, guide.prompt.task))
        if guide.done:
            break
    assert [task.split()[0] for _, task in tasks] == ["stand", "walk"]
    assert 3.0 < tasks[1][0] < 4.2, "told to walk after standing, not after the restlessness before"
    assert guide.done and guide.prompt.done == pytest.approx(1.0) and STEPS_SEEN > 10
    assert guide.collected.recording().time[0] - START_S > -1.0


def test_a_joint_state_without_hips_is_ignored() -> None:
    guide = WearableGuide()
    guide.joints(SimpleNamespace(name=["knee"], position=[0.0], header=SimpleNamespace(stamp=stamp(0.0))))
    assert guide.collected.counts()["/joint_states"] == 0


def test_live(twin: Path) -> None:
    recording, mounting = recorded(8)
    domain = 57
    running = subprocess.Popen(
        [sys.executable, "-m", "exo_twin", "calibrate", str(twin)],
        env=dict(os.environ, ROS_DOMAIN_ID=str(domain)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    node = Node("device", context=context)
    try:
        topics = {"/joint_states": JointState, **{f"/imu/{name}": Imu for name in SEGMENTS}}
        publishers = {topic: node.create_publisher(kind, topic, PUBLISH) for topic, kind in topics.items()}
        until = time.monotonic() + 30.0
        while any(not one.get_subscription_count() for one in publishers.values()) and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
        for at, topic, message in messages(recording):
            time.sleep(max(0.0, began + at / SPEED_UP - time.monotonic()))
            publishers[topic].publish(message)
        said, _ = running.communicate(timeout=20.0)
    finally:
        running.kill()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert running.returncode == 0, said
    assert "stand upright" in said and "walk 10 steps" in said and "written:" in said
    assert check(twin, mounting).source["encoders"].startswith("live")


def test_live_on_the_virtual_device(tmp_path: Path) -> None:
    """Its sensors sit as they should: no rotation, no zero."""
    folder = write_twin(tmp_path / "virtual", planar_motion())
    own = dict(os.environ, ROS_DOMAIN_ID="58")
    device = "from exo_twin.nodes.virtual_device import main; main()"
    parameters = ["-p", f"twin:={folder}", "-p", "motion:=stand_and_walk"]
    wearer = subprocess.Popen([sys.executable, "-c", device, "--ros-args", *parameters], env=own)
    try:
        command = [sys.executable, "-m", "exo_twin", "calibrate", str(folder)]
        done = subprocess.run(command, env=own, capture_output=True, text=True, timeout=60.0)
    finally:
        wearer.send_signal(signal.SIGINT)
        wearer.wait(timeout=10.0)
    assert done.returncode == 0, done.stdout + done.stderr
    found = TwinCalibration.load(folder / CALIBRATION_FILE, "w01")
    for name in SEGMENTS:
        assert np.degrees(Rotation.from_matrix(found.imu_rotation[name]).magnitude()) < 5.0
    assert [found.encoder_zero[name] for name in HIPS] == pytest.approx([0.0, 0.0], abs=0.02)
