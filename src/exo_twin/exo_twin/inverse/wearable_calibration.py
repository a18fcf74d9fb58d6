"""Three seconds of standing and ten steps: where the encoders' zeros are and how the IMUs sit on their segments.

Each IMU's orientation is followed from the quiet stance on by its gyro and kept level by its accelerometer, whose mean
over strides is gravity (plus nothing: a steady walker's mean acceleration is zero). What remains open is one angle, the
heading of that levelled frame against the way walked. Three observations tell it, each with its own error:

* the velocity gained from standing to walking points along the way (not on a treadmill),
* the sensor's horizontal velocity swings within the stride as the wearer's does in the twin,
* the horizontal angular velocity turns as the wearer's does in the twin.

The encoders tell the phase of the stride. The rotation that takes the sensor's axes to the segment's is then the mean,
over phases and strides, of the twin's segment orientation against the sensor's (Wahba's problem). The thigh's axial
rotation and abduction, which turn its main axis of rotation away from mediolateral, are in the twin's stride and need
no assumption. Levelling in standing and heading from walking: Palermo et al. 2014; drift over known stillness and the
hinge's axis from gyros: Seel et al. 2012; how far functional calibration repeats: McGrath & Stirling 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from exo_common.errors import ExoError
from exo_common.frames import HIPS
from exo_twin.calibration import SEGMENTS, TwinCalibration
from exo_twin.inverse.strapdown import from_stance
from exo_twin.inverse.wearable_checks import check_places, check_units
from exo_twin.inverse.wearable_recording import EvenRecording, WearableRecording, evened
from exo_twin.inverse.wearable_reference import ReferenceStride
from exo_twin.inverse.wearable_strides import Strides, find_stance, find_strides

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

THIGHS = SEGMENTS[1:]
# Harmonics of the stride in which swing and turning are compared: above them lie impacts and skin.
HARMONICS = 3
# A walker who has gained less than this, m/s, walks on a treadmill (the slowest of the old and ill walk at 0.4).
TREADMILL_M_S = 0.35
# What integration leaves in a velocity gained, m/s: raised from 0.04 when virtual IMUs on gait_speeds erred by 0.04
# (pelvis) to 0.06 (thighs).
VELOCITY_SD = 0.05
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
    still = find_stance(even)
    check_units(even, still)
    strides = find_strides(even, still, reference)
    check_places(even, strides)
    levelled = {name: _Levelled.of(name, even, strides) for name in SEGMENTS}
    treadmill = float(np.median([abs(one.velocity) for one in levelled.values()])) < TREADMILL_M_S
    imus = {name: _fit(name, levelled[name], strides, reference, treadmill) for name in SEGMENTS}
    warnings = [*reference.warnings, *([TREADMILL] if treadmill else [])]
    stride_s = float(np.median(strides.end - strides.begin))
    if abs(stride_s / reference.stride_s - 1.0) > OTHER_PACE:
        warnings.append(
            f"a stride took {stride_s:.2f} s, in the twin's walk {reference.stride_s:.2f} s; people carry themselves "
            "otherwise at another pace, so calibrate again at the twin's"
        )
    for name, imu in imus.items():
        turned = float(np.linalg.norm(Rotation.from_matrix(imu.rotation).as_rotvec()))
        if turned > FAR_RAD:
            warnings.append(
                f"the IMU of {name} is turned by {np.degrees(turned):.0f} degrees from x forward, y left, z up; check "
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


@dataclasses.dataclass(frozen=True)
class _Levelled:
    """One IMU in a frame with z up, whose heading is the sensor's at the stance.

    Attributes
    ----------
    turn : (strides, GRID, 3, 3) from the sensor's axes.
    swing : (strides, GRID) horizontal velocity about its mean, m per stride.
    turning : (strides, GRID) horizontal angular velocity, rad per stride.
    velocity : gained since standing, m/s.
    """

    turn: FloatArray
    swing: ComplexArray
    turning: ComplexArray
    velocity: complex

    @staticmethod
    def of(name: str, even: EvenRecording, strides: Strides) -> _Levelled:
        imu, still = even.imus[name], strides.still
        time = even.time
        end = np.flatnonzero(still)[-1]
        rate, turn = from_stance(time, imu.gyro, imu.accelerometer, still)
        force = np.einsum("nij,nj->ni", turn, imu.accelerometer)
        # A steady walker's mean acceleration is zero: what remains is the tilt that a rest of gyro bias made since.
        window = strides.window(time)
        tilt = (window @ force[:, :2]) / float(window @ (time - time[end]))
        drift = np.clip(time - time[end], 0.0, None)[:, None] * tilt
        gravity = float(np.linalg.norm(force[still].mean(axis=0)))
        back = Rotation.from_rotvec(np.column_stack([drift[:, 1], -drift[:, 0], np.zeros(len(time))]) / gravity)
        turn, force = back.as_matrix() @ turn, back.apply(force)
        horizontal = force[:, 0] + 1j * force[:, 1]
        horizontal = horizontal - horizontal[still].mean()
        speed = CubicSpline(time, horizontal).antiderivative()
        velocity = complex(strides.early_window(time) @ (speed(time) - speed(time[end])))
        at = strides.times()
        swing = speed(at)
        # From one stride to the next a little speed is gained or lost: no swing.
        period = (strides.end - strides.begin)[:, None]
        gained = (speed(strides.end) - speed(strides.begin))[:, None]
        swing = swing - gained * (at - strides.begin[:, None]) / period
        swing = (swing - swing.mean(axis=1, keepdims=True)) * period
        nearest = np.clip(np.round((at - time[0]) * even.rate_hz).astype(int), 0, len(time) - 1)
        spin = np.einsum("nij,nj->ni", turn, rate)
        turning = CubicSpline(time, spin[:, 0] + 1j * spin[:, 1])(at) * period
        return _Levelled(turn[nearest], swing, turning, velocity)


def _fit(name: str, own: _Levelled, strides: Strides, reference: ReferenceStride, treadmill: bool) -> ImuFit:
    spin = np.einsum("gij,gj->gi", reference.turn[name], reference.rate(name))
    seen = {
        "swing": _heading(own.swing, reference.swing[name]),
        "turning": _heading(own.turning, spin[:, 0] + 1j * spin[:, 1]),
    }
    if not treadmill:
        seen["way"] = (float(np.angle(own.velocity)), VELOCITY_SD / abs(own.velocity))
        apart = np.angle(np.exp(1j * (seen["way"][0] - seen["swing"][0])))
        if name in THIGHS and abs(apart) > OPPOSITE_RAD:
            raise ExoError(
                f"the IMU of {name} swings against the way walked as its encoder counts it: both encoders count "
                "backwards (flexion must be positive), left and right are exchanged, or the walk went backwards; "
                "mend it and calibrate again"
            )
    headings, spread = ({key: value[i] for key, value in seen.items() if value[1] < VAGUE_SD} for i in (0, 1))
    if not headings:
        raise ExoError(
            f"nothing tells the heading of the IMU of {name}: the walk is unlike the twin's and gained no speed; walk "
            "ten steps overground and calibrate again"
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

    The deviation is that of a rotation fitted to numbers which miss by as much as the two are unlike.
    """
    chosen = [*range(1, HARMONICS + 1), *range(-HARMONICS, 0)]
    mean, model = np.fft.fft(seen.mean(axis=0))[chosen], np.fft.fft(known)[chosen]
    overlap = np.sum(mean * np.conj(model))
    power = float(np.sum(np.abs(model) ** 2))
    if power == 0.0 or overlap == 0.0:
        return 0.0, np.inf
    missed = mean / (overlap / power) - model
    sd = np.sqrt(0.5 * np.sum(np.abs(missed * model) ** 2)) / power
    return float(np.angle(overlap)), float(np.hypot(sd, LEAST_SD))
