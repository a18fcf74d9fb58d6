"""Worn wrongly: units, swapped places, clocks and signs that a calibration would otherwise swallow.

A hip's encoder and the gyros on both its sides see one movement: the encoder's rate is nearly a fixed linear
combination of the gyros' axes, whatever way they are mounted, and of the thigh's main axis above all. How well, how
late and how large tells what is wrong. When the rotations are found, one more thing can be: whether the segments roll
and turn as in the twin's walk or as in its mirror image. So left and right are noticed that are exchanged in everything
at once, and an accelerometer that counts gravity downwards; beside a twin that knows the sagittal plane only they are
not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt
from scipy.spatial.transform import Rotation

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_twin.calibration import SEGMENTS
from exo_twin.inverse.wearable_recording import EvenRecording
from exo_twin.inverse.wearable_reference import ReferenceStride
from exo_twin.inverse.wearable_strides import Strides

FloatArray = NDArray[np.float64]

PELVIS = SEGMENTS[0]
GRAVITY = 9.80665
GRAVITY_ERROR = 0.1  # of gravity: more than any scale error of an accelerometer
FASTEST_RAD_S = 12.0  # walkers' thighs reach 6 (assumed); in degrees per second a walker's pelvis reads 30 and more
WIDEST_RAD = np.pi  # a hip's whole range is less
LIVELIER = 1.2  # a thigh turns at least so much more than the pelvis
RATE_HZ = 6.0  # the movement that encoder and gyros have in common
RATIO = (0.5, 1.6)  # of the encoder's rate to the thigh's: one, but for what the pelvis and the other axes turn
FIT = 0.8  # share of the encoder's rate that its own gyros must tell
LAGS_S = np.arange(-0.25, 0.251, 0.01)
LARGEST_LAG_S = 0.06  # below it sound virtual recordings on gait_speeds were refused: the pelvis tilts, too
# How much of the twin's rolling and turning a walk shows. On gait_speeds, walks of one speed beside those of the other,
# a segment showed 0.2 or more (mean of the three 0.4), mirrored about as much with a minus; a walker who does not roll
# and turn at all, as the virtual device's, within 0.05 of nothing. Skin under a single sensor may add a third of it.
CONTRARY, ONE_CONTRARY = -0.15, -0.4
ROLL_AND_TURN = [0, 2]  # about x and z
ROLL_HARMONICS = slice(1, 4)  # of the stride; above lie impacts
STILL_POWER = 1.0  # of Fourier sums, rad per stride: swings of 0.2 degrees
HALF_TURN = np.deg2rad(90.0)  # straps do not slip so far
AGAIN = "and calibrate again"


def check_silence(even: EvenRecording, begin: float, end: float) -> None:
    """Refuse gaps within the stance and the walk that count, s; elsewhere they do no harm.

    Raises
    ------
    ExoError : one sentence.
    """
    for gap in even.gaps:
        if gap.begin < end and gap.end > begin:
            raise ExoError(
                f"{gap.stream} fell silent for {gap.end - gap.begin:.2f} s, {gap.begin - even.time[0]:.1f} s after the "
                f"start; check the connection {AGAIN}"
            )


def check_angles(even: EvenRecording) -> None:
    """Refuse encoders that are not in rad and gyros that are not in rad/s.

    Raises
    ------
    ExoError : one sentence.
    """
    swing = float(np.ptp(np.percentile(even.hips, [1, 99], axis=0), axis=0).max())
    if swing > WIDEST_RAD:
        raise ExoError(
            f"a hip encoder swings by {swing:.0f} rad, which no hip does: it counts in degrees, or jumps by a turn; "
            f"let its driver send rad without jumps (REP-103) {AGAIN}"
        )
    for name, imu in even.imus.items():
        fast = float(np.percentile(np.linalg.norm(imu.gyro, axis=1), 99))
        if fast > FASTEST_RAD_S:
            raise ExoError(
                f"the gyro of {name} turns with {fast:.0f} rad/s, which nobody does: it counts in degrees per second; "
                f"let its driver send rad/s (REP-145) {AGAIN}"
            )


def check_gravity(even: EvenRecording, still: NDArray[np.bool_]) -> None:
    """Refuse accelerometers that are not in m/s2.

    Raises
    ------
    ExoError : one sentence.
    """
    for name, imu in even.imus.items():
        at_rest = float(np.linalg.norm(imu.accelerometer[still].mean(axis=0)))
        if abs(at_rest - 1.0) < GRAVITY_ERROR:
            raise ExoError(f"the accelerometer of {name} counts in g; let its driver send m/s2 (REP-145) {AGAIN}")
        if abs(at_rest - GRAVITY) > GRAVITY_ERROR * GRAVITY:
            raise ExoError(
                f"the accelerometer of {name} reads {at_rest:.1f} m/s2 at rest instead of {GRAVITY:.1f}; "
                f"check its unit, and whether its driver takes gravity away, {AGAIN}"
            )


def check_places(even: EvenRecording, strides: Strides) -> None:
    """Refuse sensors in exchanged places, on other clocks, and encoders that do not belong to their thigh.

    Raises
    ------
    ExoError : one sentence.
    """
    walking = (even.time >= strides.begin[0]) & (even.time <= strides.end[-1])
    smooth = butter(2, RATE_HZ, fs=even.rate_hz, output="sos")
    gyro = {name: sosfiltfilt(smooth, imu.gyro, axis=0) for name, imu in even.imus.items()}
    encoder = sosfiltfilt(smooth, np.gradient(even.hips, even.time, axis=0), axis=0)
    size = {name: float(np.sqrt(np.mean(np.sum(rate[walking] ** 2, axis=1)))) for name, rate in gyro.items()}
    for side in SIDES:
        if size[f"thigh_{side}"] < LIVELIER * size["pelvis"]:
            raise ExoError(
                f"the IMU of the pelvis turns as much as the one of thigh_{side}: they are exchanged, or their straps "
                f"are loose; mount each on its own segment {AGAIN}"
            )
    main = {name: rate @ np.linalg.svd(rate[walking], full_matrices=False)[2][0] for name, rate in gyro.items()}
    own, other = (
        [_likeness(encoder[:, i], main[f"thigh_{side}"], walking) for i, side in enumerate(order)]
        for order in (SIDES, SIDES[::-1])
    )
    if all(a < b for a, b in zip(own, other, strict=True)):
        raise ExoError(
            "each thigh's IMU moves with the other side's encoder: left and right are exchanged, either the IMUs or "
            f"the encoders; exchange them back {AGAIN}"
        )
    for i, side in enumerate(SIDES):
        shifts = np.round(LAGS_S * even.rate_hz).astype(int)
        like = [_likeness(encoder[:, i], np.roll(main[f"thigh_{side}"], -shift), walking) for shift in shifts]
        best = int(np.argmax(like))
        if abs(LAGS_S[best]) > LARGEST_LAG_S:
            raise ExoError(
                f"the clocks of the IMU of thigh_{side} and of its encoder are {1e3 * abs(LAGS_S[best]):.0f} ms apart; "
                f"let both stamp their samples with the same clock {AGAIN}"
            )
        share = _told(encoder[:, i], gyro[f"thigh_{side}"], gyro["pelvis"], walking)
        ratio = float(np.sqrt(np.mean(encoder[walking, i] ** 2))) / size[f"thigh_{side}"]
        if share < FIT or not RATIO[0] < ratio < RATIO[1]:
            raise ExoError(
                f"the IMU of thigh_{side} does not move as its hip's encoder tells (they share {100 * share:.0f} %, by "
                f"a factor of {ratio:.2f}); check its place, its strap and its unit {AGAIN}"
            )


def check_sides(found: Mapping[str, tuple[FloatArray, FloatArray]], reference: ReferenceStride) -> None:
    """Refuse what rolls and turns as the twin's mirror image.

    Parameters
    ----------
    found : segment -> the rotation found, and by it the mean stride's angular velocity (GRID, 3) in the segment's axes.

    Raises
    ------
    ExoError : one sentence.
    """
    shown = {name: _shown(rate, reference.rate(name)) for name, (_, rate) in found.items()}
    if np.mean([both for both, _ in shown.values()]) < CONTRARY:
        if all(Rotation.from_matrix(rotation).magnitude() > HALF_TURN for rotation, _ in found.values()):
            raise ExoError(
                f"the accelerometers count gravity downwards; let their drivers send +9.8 m/s2 upwards at rest {AGAIN}"
            )
        raise ExoError(
            "the walk is the mirror image of the twin's: left and right are exchanged in the encoders and in the IMUs; "
            f"exchange them back {AGAIN}"
        )
    for name, (both, least) in shown.items():
        # The pelvis does little else than roll and turn: about each of both axes it can be told.
        if both < ONE_CONTRARY or (name == PELVIS and least < ONE_CONTRARY):
            raise ExoError(
                f"gyro and accelerometer of {name} contradict each other: one of them counts an axis backwards, or "
                f"gravity downwards (+9.8 m/s2 upwards at rest is right); mend its driver {AGAIN}"
            )


def _shown(rate: FloatArray, known: FloatArray) -> tuple[float, float]:
    """Share of the known angular velocity about x and z that a rate shows, and the lesser of x and z alone."""
    seen, model = (np.fft.rfft(values[:, ROLL_AND_TURN], axis=0)[ROLL_HARMONICS] for values in (rate, known))
    overlap = np.real(np.sum(seen * np.conj(model), axis=0))
    power = np.sum(np.abs(model) ** 2, axis=0)
    if (power < STILL_POWER).any():
        return 0.0, 0.0
    return float(overlap.sum() / power.sum()), float(np.min(overlap / power))


def _likeness(rate: FloatArray, main: FloatArray, walking: NDArray[np.bool_]) -> float:
    """Correlation, without sign, of an encoder's rate and a gyro's about its main axis."""
    return abs(float(np.corrcoef(rate[walking], main[walking])[0, 1]))


def _told(rate: FloatArray, thigh: FloatArray, pelvis: FloatArray, walking: NDArray[np.bool_]) -> float:
    """Share of the encoder's rate that the gyros of thigh and pelvis tell, whatever way they are mounted."""
    seen = np.hstack([thigh, pelvis])[walking]
    seen = seen - seen.mean(axis=0)
    wanted = rate[walking] - rate[walking].mean()
    missed = wanted - seen @ np.linalg.lstsq(seen, wanted, rcond=None)[0]
    return 1.0 - float(missed @ missed / (wanted @ wanted))
