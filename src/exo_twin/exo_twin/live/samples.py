"""What the live estimator is fed: one small record per message, live or recorded, and the newest of each topic."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from exo_common.clock import NS_PER_S, to_ns
from exo_common.frames import HIPS

Pair = tuple[float, float]
Triple = tuple[float, float, float]

JOINT_STATES, ENVELOPE, KEYPOINTS = "/joint_states", "/emg/envelope", "/capture/keypoints"
SEGMENTS = ("pelvis", "thigh_l", "thigh_r")
IMUS = tuple(f"/imu/{segment}" for segment in SEGMENTS)
# The order of `inputs` in TwinState.
INPUTS = (JOINT_STATES, ENVELOPE, *IMUS, KEYPOINTS)

# Side inputs older than this beside the tick are not used; keypoints, which come late by nature, have their own limit.
SIDE_INPUT_MAX_AGE_S = 0.1
# A stamp that goes back by more than this is no late message: the sender's clock was set.
CLOCK_SET_S = 1.0
# What of a body's keypoints the estimator reads.
LEG_KEYPOINTS = tuple(f"{side}{part}" for side in "LR" for part in ("Hip", "Knee", "Ankle", "Heel", "BigToe"))
NO_PAIR: Pair = (math.nan, math.nan)


@dataclasses.dataclass(frozen=True, slots=True)
class JointSample:
    """Both hips as the encoders read: stamp ns, (left, right) angle rad, velocity rad/s and exo torque Nm on the
    wearer; NaN where not reported."""

    stamp_ns: int
    position: Pair
    velocity: Pair
    effort: Pair = NO_PAIR


@dataclasses.dataclass(frozen=True, slots=True)
class EnvelopeSample:
    """EMG envelopes: stamp ns, channel -> fraction of the calibrated maximum (valid ones), names of the invalid."""

    stamp_ns: int
    valid: Mapping[str, float]
    invalid: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ImuSample:
    """One IMU: stamp ns, angular velocity rad/s and specific force m/s2 (upwards at rest) in the sensor's axes."""

    stamp_ns: int
    rate: Triple
    force: Triple = (math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True, slots=True)
class KeypointSample:
    """Keypoints of the legs: stamp ns, name -> (x, y, z) m where seen (x along the walk, z up), is y measured."""

    stamp_ns: int
    points: Mapping[str, Triple]
    depth_measured: bool


Sample = JointSample | EnvelopeSample | ImuSample | KeypointSample


class Newest:
    """Keeps the newest sample of every topic; late ones and those out of order are counted and dropped."""

    def __init__(self) -> None:
        self._samples: dict[str, Sample] = {}
        self.late: dict[str, int] = {}

    def offer(self, topic: str, sample: Sample) -> bool:
        """Take a sample; False if one as new is there already."""
        known = self._samples.get(topic)
        if known is not None and 0 <= known.stamp_ns - sample.stamp_ns <= CLOCK_SET_S * NS_PER_S:
            self.late[topic] = self.late.get(topic, 0) + 1
            return False
        self._samples[topic] = sample
        return True

    def get(self, topic: str) -> Any:
        """The newest sample of a topic, None if none came."""
        return self._samples.get(topic)

    def imus(self) -> dict[str, ImuSample]:
        """Topic -> newest sample, of the IMUs that came."""
        found = ((topic, self._samples.get(topic)) for topic in IMUS)
        return {topic: sample for topic, sample in found if isinstance(sample, ImuSample)}


def fresh(sample: Sample | None, now_ns: int) -> bool:
    """Whether a side input is near enough in time to stand beside a tick."""
    return sample is not None and abs(now_ns - sample.stamp_ns) <= SIDE_INPUT_MAX_AGE_S * NS_PER_S


def joint_sample(message: Any) -> JointSample | None:
    """From a sensor_msgs/JointState; None if it names no hip."""
    names = list(message.name)
    rows = [names.index(name) if name in names else -1 for name in HIPS]
    if max(rows) < 0:
        return None
    stamp = to_ns(message.header.stamp)
    return JointSample(stamp, *(_pair(v, rows) for v in (message.position, message.velocity, message.effort)))


def _pair(values: Any, rows: list[int]) -> Pair:
    left, right = (float(values[row]) if 0 <= row < len(values) else math.nan for row in rows)
    return left, right


def envelope_sample(message: Any) -> EnvelopeSample:
    """From an exo_interfaces/EmgEnvelope."""
    channels = list(zip(message.muscles, message.envelope, message.valid, strict=False))
    return EnvelopeSample(
        to_ns(message.header.stamp),
        {str(name): float(value) for name, value, valid in channels if valid},
        tuple(str(name) for name, _, valid in channels if not valid),
    )


def imu_sample(message: Any) -> ImuSample:
    """From a sensor_msgs/Imu."""
    rate, force = message.angular_velocity, message.linear_acceleration
    return ImuSample(
        to_ns(message.header.stamp),
        (float(rate.x), float(rate.y), float(rate.z)),
        (float(force.x), float(force.y), float(force.z)),
    )


def keypoint_sample(message: Any) -> KeypointSample:
    """From an exo_interfaces/Keypoints."""
    points = {}
    for name, place, confidence in zip(message.names, message.position, message.confidence, strict=False):
        if name in LEG_KEYPOINTS and confidence > 0.0 and math.isfinite(place.x + place.y + place.z):
            points[str(name)] = (float(place.x), float(place.y), float(place.z))
    return KeypointSample(to_ns(message.header.stamp), points, bool(message.depth_measured))
