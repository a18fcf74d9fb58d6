"""The live estimator as it runs: its node in a process of its own, inputs over DDS at 100 Hz, answers timed.

`measure(data)` serves `./exo bench muscles`; run alone, the figures are printed. No video. The inputs are a walk of
walking_3d's stride: both hips, three IMUs and eight EMG channels every 10 ms, all stamped with the instant they were
sampled at, the joint state sent last. The latency runs from that stamp to the callback of a subscriber to /twin/state
in the bench's own process, so the transport both ways is in it.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import live_chain
import numpy as np
import rclpy
from live_twin import right_strike, write_twin
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Imu, JointState

from exo_common.clock import to_ns, to_stamp
from exo_common.errors import ExoError
from exo_common.frames import HIPS
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_interfaces.msg import EmgEnvelope, TwinState
from exo_twin.estimator import Estimator
from exo_twin.live.imu import GRAVITY
from exo_twin.live.samples import ENVELOPE, IMUS, JOINT_STATES, JointSample
from exo_twin.lockstep import TWIN_STATE
from exo_twin.opensim_runtime import logging_to
from exo_twin.periodic import PeriodicCurve
from exo_twin.twin import Gait, Twin

SECONDS, PERIOD_S = 20.0, 0.01
# Left out at the start: DDS finds its peers, Python compiles, the wearer begins to walk.
SETTLING_S = 2.0
DOMAIN = 91
START_S = 20.0
# The last state is on its way no longer than this.
ANSWER_S = 0.2
CHANNELS = (
    "tibialis_anterior_r",
    "soleus_r",
    "gastrocnemius_medialis_r",
    "vastus_medialis_r",
    "rectus_femoris_r",
    "semitendinosus_r",
    "gluteus_maximus_r",
    "gluteus_medius_r",
)
ENCODER_NOISE, GYRO_NOISE, FORCE_NOISE = 3e-4, 5e-3, 0.05  # rad, rad/s, m/s2
SEED = 3


class Rig(Node):
    """The wearer's sensors, and who listens to the twin."""

    def __init__(self, gait: Gait, context: rclpy.Context) -> None:
        super().__init__("bench_rig", context=context)
        self._gait = gait
        self._curves = [PeriodicCurve(gait.curves[name]) for name in HIPS]
        self._random = np.random.default_rng(SEED)
        self._joints = self.create_publisher(JointState, JOINT_STATES, PUBLISH)
        self._imus = [self.create_publisher(Imu, topic, PUBLISH) for topic in IMUS]
        self._emg = self.create_publisher(EmgEnvelope, ENVELOPE, PUBLISH)
        self.create_subscription(TwinState, TWIN_STATE, self._on_state, EVERY_SAMPLE)
        self.latency_ms: list[float] = []

    @property
    def heard(self) -> bool:
        """Whether the estimator listens to everything."""
        publishers = (self._joints, *self._imus, self._emg)
        return all(p.get_subscription_count() for p in publishers) and bool(self.count_publishers(TWIN_STATE))

    def _on_state(self, message: TwinState) -> None:
        self.latency_ms.append(1e-6 * (time.time_ns() - to_ns(message.header.stamp)))

    def publish(self, seconds: float) -> None:
        """One sample of everything, taken now."""
        stamp, phase = to_stamp(time.time_ns()), seconds / self._gait.stride_time
        angles, rates = [], []
        for curve, offset in zip(self._curves, (0.0, self._gait.phase_offset_right), strict=True):
            value, slope = curve.at(phase + offset)
            angles.append(value + ENCODER_NOISE * self._random.normal())
            rates.append(slope / self._gait.stride_time)
        for publisher, angle, rate in zip(self._imus, (0.0, *angles), (0.0, *rates), strict=True):
            imu = Imu()
            imu.header.stamp = stamp
            noise = self._random.normal(size=3).tolist()
            imu.angular_velocity.y = -rate + GYRO_NOISE * noise[0]
            imu.linear_acceleration.x = GRAVITY * math.sin(angle) + FORCE_NOISE * noise[1]
            imu.linear_acceleration.z = GRAVITY * math.cos(angle) + FORCE_NOISE * noise[2]
            publisher.publish(imu)
        levels = [0.15 + 0.1 * math.sin(math.tau * (phase + k / len(CHANNELS))) for k in range(len(CHANNELS))]
        emg = EmgEnvelope(muscles=list(CHANNELS), envelope=levels, valid=[True] * len(CHANNELS))
        emg.header.stamp = stamp
        self._emg.publish(emg)
        joints = JointState(name=list(HIPS), position=angles, velocity=rates, effort=[0.0, 0.0])
        joints.header.stamp = stamp
        self._joints.publish(joints)


def measure(data: Path, seconds: float = SECONDS) -> dict[str, float]:
    """Figures of the live estimator.

    Returns
    -------
    live_latency_p95_ms, live_latency_median_ms, live_latency_max_ms : stamp to the subscriber of /twin/state.
    live_answered_pct : states per joint state; below 100 some were overtaken by newer ones.
    live_cpu_core_pct : of one core, of the estimator's process.
    live_vs_batch_* : see live_chain.
    live_hips_only_activation_rmse, live_hips_only_activation_r : see `stride_agreement`.

    Raises
    ------
    ExoError : if the node does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="exo_live_") as scratch, logging_to(Path(scratch) / "opensim.log"):
        twin = write_twin(data, Path(scratch) / "twin")
        return {**live_chain.measure(data), **stride_agreement(data, twin), **latency(twin, seconds)}


def stride_agreement(data: Path, folder: Path) -> dict[str, float]:
    """What the estimator makes of the hips alone, once it has found the phase, beside static optimisation of that walk.

    Both know the same stride: the estimator as its reference, static optimisation as motion and ground reaction. The
    median over the right leg's muscles of the RMS difference and the correlation of activations over the stride.
    """
    own = live_chain.subject(data)
    walk, (start, stride) = live_chain.batch(own), right_strike(data)
    twin = Twin.load(folder)
    estimator, gait = Estimator(twin), twin.gait
    curves = [PeriodicCurve(gait.curves[name]) for name in HIPS]
    phases, activations = [], []
    for at in np.arange(0.0, SETTLING_S + 3.0 * stride, PERIOD_S):
        told = [curve.at(at / stride + off) for curve, off in zip(curves, (0.0, gait.phase_offset_right), strict=True)]
        stamp = round(1e9 * (1.0 + at))
        angles, rates = (tuple(own) for own in zip(*[(value, slope / stride) for value, slope in told], strict=True))
        estimate = estimator.step(stamp, JointSample(stamp, angles, rates))
        if at > SETTLING_S:
            phases.append(estimate.phase.right)
            activations.append(estimate.activation)
    phase = (walk.time - start) / stride % 1.0
    right = [i for i, name in enumerate(estimator.muscles) if name.endswith("_r")]
    live = np.column_stack([np.interp(phase, phases, np.array(activations)[:, i], period=1.0) for i in right])
    true = walk.activation[:, right]
    return {
        "live_hips_only_activation_rmse": float(np.median(np.sqrt(np.mean((live - true) ** 2, axis=0)))),
        "live_hips_only_activation_r": float(np.median(live_chain.correlation(live, true))),
    }


def latency(folder: Path, seconds: float = SECONDS) -> dict[str, float]:
    """The live_* figures of one twin's estimator."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Rig(Twin.load(folder).gait, context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    listener = threading.Thread(target=executor.spin, daemon=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "exo_twin.nodes.estimator", "--ros-args", "-p", f"twin:={folder}"],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN)},
    )
    try:
        until = time.monotonic() + START_S
        while not node.heard:
            if process.poll() is not None or time.monotonic() > until:
                raise ExoError(f"the estimator did not come up within {START_S:.0f} s; see its messages above")
            time.sleep(0.05)
        listener.start()
        for at in _ticks(SETTLING_S):
            node.publish(at)
        time.sleep(ANSWER_S)
        node.latency_ms.clear()
        sent, used, began = 0, _cpu_s(process.pid), time.monotonic()
        for at in _ticks(seconds):
            node.publish(SETTLING_S + at)
            sent += 1
        core = (_cpu_s(process.pid) - used) / (time.monotonic() - began)
        time.sleep(ANSWER_S)
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        if listener.is_alive():
            listener.join()
        node.destroy_node()
        context.try_shutdown()
    latency_ms = np.array(node.latency_ms)
    return {
        "live_latency_p95_ms": float(np.percentile(latency_ms, 95)),
        "live_latency_median_ms": float(np.median(latency_ms)),
        "live_latency_max_ms": float(latency_ms.max()),
        "live_answered_pct": 100.0 * len(latency_ms) / sent,
        "live_cpu_core_pct": 100.0 * core,
    }


def _ticks(seconds: float) -> Iterator[float]:
    """Times from 0, every PERIOD_S, each yielded when it is due."""
    began = time.monotonic()
    for k in range(round(seconds / PERIOD_S)):
        time.sleep(max(0.0, began + k * PERIOD_S - time.monotonic()))
        yield k * PERIOD_S


def _cpu_s(pid: int) -> float:
    """Processor time that a process has used, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="live_estimator", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with walking_3d")
    try:
        for name, value in measure(parser.parse_args().data).items():
            print(f"{name} {value:.4g}")
    except ExoError as error:
        print(f"live_estimator: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
