"""What encoders and IMUs recorded, put on one clock; what cannot be such a recording is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.calibration import SEGMENTS

FloatArray = NDArray[np.float64]

RATE_HZ = 100.0
# A shorter gap than this, s, does no harm; a stamp may come so late.
LONGEST_GAP_S = 0.1
# Stand and ten steps take longer.
SHORTEST_S = 5.0
# Seconds apart beyond which two devices do not share a clock at all.
APART_S = 1.0
# Less than this is no living sensor: resolution of the coarsest encoder in use, rad, rad/s and m/s2.
CONSTANT = 1e-5


@dataclasses.dataclass(frozen=True)
class ImuSignal:
    """One IMU in its own axes: (n,) s, (n, 3) rad/s, (n, 3) m/s2 of specific force (+g upwards at rest)."""

    time: FloatArray
    gyro: FloatArray
    accelerometer: FloatArray


@dataclasses.dataclass(frozen=True)
class WearableRecording:
    """Encoders (n,) s and (n, 2) rad, left and right, flexion positive; segment -> IMU."""

    time: FloatArray
    hips: FloatArray
    imus: Mapping[str, ImuSignal]


@dataclasses.dataclass(frozen=True)
class Gap:
    """When a stream was silent, s; in words, which."""

    stream: str
    begin: float
    end: float


@dataclasses.dataclass(frozen=True)
class EvenRecording:
    """The same on one even clock of `rate_hz`; every number finite, but bridged over the gaps."""

    time: FloatArray
    hips: FloatArray
    imus: Mapping[str, ImuSignal]
    rate_hz: float
    gaps: tuple[Gap, ...]


def evened(recording: WearableRecording) -> EvenRecording:
    """Put all streams on the even clock that they have in common.

    Raises
    ------
    ExoError : one sentence, for a stream that is missing, broken, dead, too slow, too short, or on another clock.
    """
    missing = [name for name in SEGMENTS if name not in recording.imus or not len(recording.imus[name].time)]
    if missing:
        raise ExoError(
            f"the IMU of {' and '.join(missing)} sends nothing; plug it in, or check its topic, and calibrate again"
        )
    if not len(recording.time):
        raise ExoError("the hip encoders send nothing; switch the exo on, or check /joint_states, and calibrate again")
    hip_time, hips = _ordered("the hip encoders", recording.time, recording.hips)
    streams = {"the hip encoders": (hip_time, hips)}
    ordered = {}
    for name in SEGMENTS:
        imu = recording.imus[name]
        time, both = _ordered(f"the IMU of {name}", imu.time, np.hstack([imu.gyro, imu.accelerometer]))
        ordered[name] = ImuSignal(time, both[:, :3], both[:, 3:])
        streams[f"the gyro of {name}"] = (time, both[:, :3])
        streams[f"the accelerometer of {name}"] = (time, both[:, 3:])
    for words, (_, values) in streams.items():
        _check(words, values)
    begin = max(time[0] for time, _ in streams.values())
    end = min(time[-1] for time, _ in streams.values())
    for words, (time, _) in streams.items():
        if begin - time[0] > APART_S or time[-1] - end > APART_S:
            apart = max(begin - time[0], time[-1] - end)
            raise ExoError(
                f"{words} began or ended {apart:.1f} s apart from the others: it was unplugged, or its clock is "
                "another one; check its cable and its stamps and calibrate again"
            )
    if end - begin < SHORTEST_S:
        raise ExoError(
            f"the recording is {max(end - begin, 0.0):.1f} s long; stand for 3 s, walk ten steps and calibrate again"
        )
    at = np.arange(begin, end, 1.0 / RATE_HZ)
    imus = {
        name: ImuSignal(at, _resampled(at, imu.time, imu.gyro), _resampled(at, imu.time, imu.accelerometer))
        for name, imu in ordered.items()
    }
    gaps = [gap for words, (time, _) in streams.items() for gap in _gaps(words, time)]
    return EvenRecording(at, _resampled(at, hip_time, hips), imus, RATE_HZ, tuple(gaps))


def _ordered(words: str, time: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """In the order of their stamps, as a network may not deliver them, and what it delivered twice once."""
    if len(time) != len(values) or not np.isfinite(time).all() or not np.isfinite(values).all():
        raise ExoError(f"{words} sent numbers that are not finite; check the sensor and calibrate again")
    order = np.argsort(time, kind="stable")
    late = float((np.maximum.accumulate(time) - time).max())
    time, values = time[order], values[order]
    again = np.append(False, np.diff(time) == 0.0)
    if late > LONGEST_GAP_S or np.any(values[again] != values[np.flatnonzero(again) - 1]):
        raise ExoError(
            f"{words} sent stamps that do not rise; give every sample its own time, let one device alone send on its "
            "topic, and calibrate again"
        )
    return time[~again], values[~again]


def _gaps(words: str, time: FloatArray) -> list[Gap]:
    return [Gap(words, float(time[i]), float(time[i + 1])) for i in np.flatnonzero(np.diff(time) > LONGEST_GAP_S)]


def _check(words: str, values: FloatArray) -> None:
    dead = np.ptp(values, axis=0) < CONSTANT
    if dead.all() or (dead.any() and "gyro" not in words):
        raise ExoError(f"{words} sent the same number all the time; check the sensor's cable and calibrate again")


def _resampled(at: FloatArray, time: FloatArray, values: FloatArray) -> FloatArray:
    return np.column_stack([np.interp(at, time, column) for column in values.T])
