"""What worn IMUs say of a walk in a level frame: orientation, swing, spin, and the velocity gained since standing.

Each orientation is followed from the quiet stance on by the gyro and kept level by the accelerometer, whose mean over
strides is gravity (plus nothing: a steady walker's mean acceleration is zero). About the vertical nothing holds it, so
a walk that curves and a gyro that drifts look alike, and cost alike: both turn later strides away from the way in which
the speed was gained. A turning walk is cut down to its longest straight part, and what is left of a steady turn is
taken out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from exo_common.errors import ExoError
from exo_twin.inverse.strapdown import from_stance
from exo_twin.inverse.wearable_recording import EvenRecording, ImuSignal
from exo_twin.inverse.wearable_strides import LEAST_STRIDES, Strides

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# A walk along a corridor stays within half of it, and a gyro with 0.01 rad/s of bias drifts by so much in ten steps
# and the stance; a corner is four times it.
STRAIGHT_RAD = np.deg2rad(20.0)


@dataclasses.dataclass(frozen=True)
class Levelled:
    """One IMU in a frame with z up, whose heading is the sensor's at the stance.

    Attributes
    ----------
    turn : (strides, GRID, 3, 3) from the sensor's axes.
    swing : (strides, GRID) horizontal velocity about its mean, m per stride.
    spin : (strides, GRID, 3) angular velocity, rad per stride.
    velocity, after_s : gained in so many seconds since standing, m/s.
    """

    turn: FloatArray
    swing: ComplexArray
    spin: FloatArray
    velocity: complex
    after_s: float

    @staticmethod
    def of(imu: ImuSignal, strides: Strides) -> Levelled:
        """From a signal on an even clock."""
        time, still = imu.time, strides.still
        end = np.flatnonzero(still)[-1]
        rate, turn = from_stance(time, imu.gyro, imu.accelerometer, still)
        force = np.einsum("nij,nj->ni", turn, imu.accelerometer)
        # What remains of a steady walker's mean acceleration is the tilt that a rest of gyro bias made since.
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
        nearest = np.clip(np.round((at - time[0]) / (time[1] - time[0])).astype(int), 0, len(time) - 1)
        spin = CubicSpline(time, np.einsum("nij,nj->ni", turn, rate))(at) * period[:, :, None]
        return Levelled(turn[nearest], swing, spin, velocity, strides.early() - float(time[end]))

    def headings(self) -> FloatArray:
        """(strides,) rad by which each stride is turned about the vertical against the first, continuous."""
        apart = np.einsum("sgij,gkj->sik", self.turn, self.turn[0])
        return np.unwrap(np.arctan2(apart[:, 1, 0] - apart[:, 0, 1], apart[:, 0, 0] + apart[:, 1, 1]))

    def straightened(self, strides: Strides) -> Levelled:
        """With every stride turned back about the vertical, by a steady turn that is zero where speed was gained."""
        middle = 0.5 * (strides.begin + strides.end)
        slope = np.polyfit(middle, self.headings(), 1)[0]
        away = slope * (middle - strides.early())
        back = Rotation.from_rotvec(np.outer(-away, [0.0, 0.0, 1.0])).as_matrix()
        return dataclasses.replace(
            self,
            turn=back[:, None] @ self.turn,
            swing=self.swing * np.exp(-1j * away)[:, None],
            spin=np.einsum("sij,sgj->sgi", back, self.spin),
        )

    def rate(self, rotation: FloatArray) -> FloatArray:
        """(GRID, 3) mean angular velocity in the axes to which `rotation` takes the sensor's, rad per stride."""
        return np.einsum("ij,sgkj,sgk->gi", rotation, self.turn, self.spin) / len(self.spin)


def levelled(even: EvenRecording, strides: Strides) -> tuple[Strides, Mapping[str, Levelled], tuple[str, ...]]:
    """The straight part of a walk, every IMU over it, and sentences of warning.

    Raises
    ------
    ExoError : if too few strides in a row lead straight ahead.
    """
    found = {name: Levelled.of(imu, strides) for name, imu in even.imus.items()}
    heading = np.median([one.headings() for one in found.values()], axis=0)
    first, last = _longest_straight(heading)
    if last - first < LEAST_STRIDES:
        raise ExoError(
            f"the walk turned by {np.degrees(np.ptp(heading)):.0f} degrees and no {2 * LEAST_STRIDES} steps of it lead "
            "straight ahead; stand for 3 s, then walk ten steps straight ahead and calibrate again"
        )
    warnings: tuple[str, ...] = ()
    if last - first < len(heading):
        straight = slice(first, last)
        strides = dataclasses.replace(
            strides, begin=strides.begin[straight], end=strides.end[straight], hips=strides.hips[straight]
        )
        found = {name: Levelled.of(imu, strides) for name, imu in even.imus.items()}
        warnings = (
            f"the walk turned by {np.degrees(np.ptp(heading)):.0f} degrees: only {2 * (last - first)} of its steps, "
            "which lead straight ahead, were used",
        )
    return strides, {name: one.straightened(strides) for name, one in found.items()}, warnings


def _longest_straight(heading: FloatArray) -> tuple[int, int]:
    """First and one past the last of the longest run of strides that stay within STRAIGHT_RAD; the earliest such."""
    best = (0, 0)
    for first in range(len(heading)):
        spread = np.maximum.accumulate(heading[first:]) - np.minimum.accumulate(heading[first:])
        length = int(np.count_nonzero(spread <= STRAIGHT_RAD))
        if length > best[1] - best[0]:
            best = (first, first + length)
    return best
