"""Three seconds of standing and ten steps: where the encoders' zeros are and how the IMUs sit on their segments.

Each IMU is followed in a level frame from the quiet stance on (wearable_levelled). What remains open is one angle, the
heading of that levelled frame against the way walked. Three observations tell it, each with its own error:

* the velocity gained from standing to walking points along the way (not on a treadmill),
* the sensor's horizontal velocity swings within the stride as the wearer's does in the twin,
* the horizontal angular velocity turns as the wearer's does in the twin.

The encoders tell the phase of the stride. The rotation that takes the sensor's axes to the segment's is then the mean,
over phases and strides, of the twin's segment orientation against the sensor's (Wahba's problem). The thigh's axial
rotation and abduction, which turn its main axis of rotation away from mediolateral, are in the twin's stride and need
no assumption. Level from standing and the sagittal plane from walking: Kong et al. 2016 (10.3390/s16122011). Why the
heading needs more than the joint's constraint when people only walk: McGrath & Stirling 2022 (10.3390/s22072544).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from exo_common.errors import ExoError
from exo_common.frames import HIPS
from exo_twin.calibration import SEGMENTS, TwinCalibration
from exo_twin.inverse.wearable_checks import check_angles, check_gravity, check_places, check_sides, check_silence
from exo_twin.inverse.wearable_levelled import Levelled, levelled
from exo_twin.inverse.wearable_recording import WearableRecording, evened
from exo_twin.inverse.wearable_reference import ReferenceStride
from exo_twin.inverse.wearable_strides import find_stance, find_strides

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

THIGHS = SEGMENTS[1:]
# Harmonics of the stride in which swing and turning are compared: above them lie impacts and skin.
HARMONICS = 3
# A walker who has gained less than this, m/s, walks on a treadmill (the slowest of the old and ill walk at 0.4).
TREADMILL_M_S = 0.35
# What integration leaves per second in a velocity gained, m/s2: as much as a tilt of 0.09 degrees makes. Virtual IMUs
# on gait_speeds, some 3.5 s after the stance, erred by 0.04 (pelvis) to 0.06 m/s (thighs).
VELOCITY_SD_PER_S = 0.015
# Skin moves under the sensor in step with the stride, which no misfit shows: assumed, not measured.
LEAST_SD = np.deg2rad(1.5)
# An observation as vague as this, rad, tells nothing.
VAGUE_SD = np.deg2rad(30.0)
# The way walked and the swing of the thighs must point to the same side.
OPPOSITE_RAD = np.deg2rad(90.0)
# Beyond what straps slip (30 degrees about each of three axes).
FAR_RAD = np.deg2rad(60.0)
# Stride times this far apart are another speed of walking.
OTHER_PACE = 0.1
TREADMILL = (
    "no speed was gained: on a treadmill the way walked does not show, and the IMUs' headings rest on the likeness of "
    "the walk to the twin's alone; calibrate overground where that is possible"
)


@dataclasses.dataclass(frozen=True)
class ImuFit:
    """One IMU's calibration.

    Attributes
    ----------
    rotation : (3, 3) from the sensor's axes to the segment's.
    sd : (3,) rad about the segment's x, y, z.
    headings : observation -> heading of the walking frame in the sensor's levelled frame, rad.
    heading_sd : the same keys, rad.
    speed : m/s gained from standing to walking.
    """

    rotation: FloatArray
    sd: FloatArray
    headings: Mapping[str, float]
    heading_sd: Mapping[str, float]
    speed: float


@dataclasses.dataclass(frozen=True)
class WearableFit:
    """What a recording says of how the wearables are worn.

    Attributes
    ----------
    zero, zero_sd : (2,) rad, left and right encoder.
    imus : segment -> its calibration.
    steps : that were used.
    treadmill : whether the walker gained no speed.
    warnings : sentences.
    """

    zero: FloatArray
    zero_sd: FloatArray
    imus: Mapping[str, ImuFit]
    steps: int
    treadmill: bool
    warnings: tuple[str, ...]

    def calibration(self, wearer: str, source: str, earlier: TwinCalibration) -> TwinCalibration:
        """The wearer's calibration with these numbers; EMG is kept from an earlier one."""
        return dataclasses.replace(
            earlier,
            wearer=wearer,
            encoder_zero=dict(zip(HIPS, map(float, self.zero), strict=True)),
            encoder_zero_sd=dict(zip(HIPS, map(float, self.zero_sd), strict=True)),
            imu_rotation={name: imu.rotation for name, imu in self.imus.items()},
            imu_rotation_sd={name: imu.sd for name, imu in self.imus.items()},
            source={**earlier.source, "encoders": source, "imus": source},
        )


def calibrate_wearables(recording: WearableRecording, reference: ReferenceStride) -> WearableFit:
    """Find encoder zeros and IMU rotations in a recording of standing and walking.

    Parameters
    ----------
    recording : 3 s of quiet stance, then some ten steps straight ahead.
    reference : of the same wearer's twin.

    Raises
    ------
    ExoError : one sentence on what is wrong with the recording, and what to do.
    """
    even = evened(recording)
    check_angles(even)
    still = find_stance(even)
    check_gravity(even, still)
    strides = find_strides(even, still, reference)
    strides, seen, turned = levelled(even, strides)
    check_silence(even, even.time[np.flatnonzero(still)[0]], strides.end[-1])
    check_places(even, strides)
    speed = float(np.median([abs(one.velocity) for one in seen.values()]))
    treadmill = speed < TREADMILL_M_S
    imus = {name: _fit(name, seen[name], reference, None if treadmill else speed) for name in SEGMENTS}
    check_sides({name: (imu.rotation, seen[name].rate(imu.rotation)) for name, imu in imus.items()}, reference)
    warnings = [*reference.warnings, *turned, *([TREADMILL] if treadmill else [])]
    stride_s = float(np.median(strides.end - strides.begin))
    if abs(stride_s / reference.stride_s - 1.0) > OTHER_PACE:
        warnings.append(
            f"a stride took {stride_s:.2f} s, in the twin's walk {reference.stride_s:.2f} s; people carry themselves "
            "otherwise at another pace, so calibrate again at the twin's"
        )
    for name, imu in imus.items():
        angle = float(Rotation.from_matrix(imu.rotation).magnitude())
        if angle > FAR_RAD:
            warnings.append(
                f"the IMU of {name} is turned by {np.degrees(angle):.0f} degrees from x forward, y left, z up; check "
                "that it is meant to be"
            )
    cycles = (strides.hips - reference.hips).mean(axis=2)
    spread = cycles.std(axis=0, ddof=1) / np.sqrt(len(cycles))
    return WearableFit(
        cycles.mean(axis=0),
        np.hypot(spread, reference.hip_sd),
        imus,
        2 * len(strides.begin),
        treadmill,
        tuple(warnings),
    )


def _fit(name: str, own: Levelled, reference: ReferenceStride, speed: float | None) -> ImuFit:
    """One IMU's rotation; `speed`, m/s, is what all of them gained, None on a treadmill."""
    spin = reference.spin(name)
    seen = {
        "swing": _heading(own.swing, reference.swing[name]),
        "turning": _heading(own.spin[..., 0] + 1j * own.spin[..., 1], spin[:, 0] + 1j * spin[:, 1]),
    }
    if speed is not None:
        # All sit on one body: what this one gained more or less than the others is its error.
        wrong = np.hypot(VELOCITY_SD_PER_S * own.after_s, abs(own.velocity) - speed)
        seen["way"] = (float(np.angle(own.velocity)), float(wrong / abs(own.velocity)))
        apart = np.angle(np.exp(1j * (seen["way"][0] - seen["swing"][0])))
        if name in THIGHS and abs(apart) > OPPOSITE_RAD:
            raise ExoError(
                f"the IMU of {name} swings against the way walked as its encoder counts it: both encoders count "
                "backwards (flexion must be positive), left and right are exchanged, the IMU's gyro or accelerometer "
                "counts an axis backwards, or the walk went backwards; mend it and calibrate again"
            )
    headings, spread = ({key: value[i] for key, value in seen.items() if value[1] < VAGUE_SD} for i in (0, 1))
    if not headings:
        raise ExoError(
            f"nothing tells the heading of the IMU of {name}: the walk is unlike the twin's and gained no speed, or "
            "its gyro and accelerometer contradict each other; walk ten steps overground, or mend its driver, and "
            "calibrate again"
        )
    weight = {key: spread[key] ** -2 for key in headings}
    heading = float(np.angle(sum(weight[key] * np.exp(1j * headings[key]) for key in headings)))
    back = Rotation.from_euler("z", -heading).as_matrix()
    mean = np.einsum("gji,jk,sgkl->il", reference.turn[name], back, own.turn)
    left, _, right = np.linalg.svd(mean)
    rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    sd = np.hypot(reference.posture_sd[name], [0.0, 0.0, sum(weight.values()) ** -0.5])
    return ImuFit(rotation, sd, headings, spread, abs(own.velocity))


def _heading(seen: ComplexArray, known: ComplexArray) -> tuple[float, float]:
    """Angle by which the strides seen (strides, GRID) are turned against the known (GRID,), and its deviation, rad.

    The deviation is that of a rotation fitted by least squares to numbers which all miss by as much as the two are
    unlike, in mean square.
    """
    chosen = [*range(1, HARMONICS + 1), *range(-HARMONICS, 0)]
    mean, model = np.fft.fft(seen.mean(axis=0))[chosen], np.fft.fft(known)[chosen]
    overlap = np.sum(mean * np.conj(model))
    power = float(np.sum(np.abs(model) ** 2))
    if power == 0.0 or overlap == 0.0:
        return 0.0, np.inf
    missed = mean / (overlap / power) - model
    # Each number is complex; size and rotation were fitted.
    freedom = 2 * len(chosen) - 2
    sd = np.sqrt(np.sum(np.abs(missed) ** 2) / freedom / power)
    return float(np.angle(overlap)), float(np.hypot(sd, LEAST_SD))
