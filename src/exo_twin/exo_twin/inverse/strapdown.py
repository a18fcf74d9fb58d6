"""Orientation from a gyro, and what an accelerometer feels in a levelled frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]


def integrated(time: FloatArray, gyro: FloatArray) -> FloatArray:
    """(n, 3, 3) from the sensor's axes to its axes at the first sample, by angular velocities (n, 3) rad/s."""
    step = np.diff(time)[:, None] * 0.5 * (gyro[1:] + gyro[:-1])
    turn = np.concatenate([np.eye(3)[None], Rotation.from_rotvec(step).as_matrix()])
    # Products of all prefixes, by doubling.
    reach = 1
    while reach < len(turn):
        turn[reach:] = turn[:-reach] @ turn[reach:]
        reach *= 2
    return turn


def levelling(up: FloatArray) -> FloatArray:
    """The shortest rotation (3, 3) that takes the direction `up` to z."""
    x, y, z = up / np.linalg.norm(up)
    if z < -1.0 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1.0 + z))


def from_stance(
    time: FloatArray, gyro: FloatArray, accelerometer: FloatArray, still: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Follow a sensor from a quiet stance on.

    Who stands sways: a gyro's mean is not its bias. About the horizontal axes the accelerometer tells how the sensor
    really turned; about the vertical the sway is faded out by a window.

    Parameters
    ----------
    time, gyro, accelerometer : (n,) s, (n, 3) rad/s, (n, 3) m/s2.
    still : (n,) frames of the stance.

    Returns
    -------
    (n, 3) angular velocity without bias, and (n, 3, 3) from the sensor's axes to a frame with z up.
    """
    fade = np.hanning(int(still.sum()) + 2)[1:-1]
    rate = gyro - fade @ gyro[still] / fade.sum()
    turn = integrated(time, rate)
    up = np.einsum("nij,nj->ni", turn[still], accelerometer[still])
    level = levelling(up.mean(axis=0))
    lean = (up @ level.T)[:, :2] / np.linalg.norm(up.mean(axis=0))
    slope = np.polyfit(time[still], lean, 1)[0]
    rate = rate - np.array([-slope[1], slope[0], 0.0]) @ level @ turn[still].mean(axis=0)
    turn = integrated(time, rate)
    up = np.einsum("nij,nj->i", turn[still], accelerometer[still])
    return rate, levelling(up) @ turn
