"""A walker of sticks to plan camera layouts with: strides, swinging arms and feet that clear the floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import ANKLES, HEELS, HIPS, KNEES, SHOULDERS, TOES

FloatArray = NDArray[np.float64]

# An adult of 1.7 m; lengths in m, angles in degrees (hip and knee: mean and excursion of level walking).
THIGH, SHANK, TRUNK, UPPER_ARM, FOREARM = 0.42, 0.41, 0.48, 0.28, 0.25
HEEL_BACK, TOE_AHEAD, ANKLE_HEIGHT = 0.05, 0.16, 0.06
HIP_HALF, SHOULDER_HALF = 0.09, 0.18
HEAD = np.array([0.08, 0.62, 0.03])
HIP_MEAN_DEG, HIP_SWING_DEG, KNEE_MEAN_DEG, KNEE_SWING_DEG, ARM_SWING_DEG, ELBOW_DEG = 5.0, 25.0, 5.0, 55.0, 20.0, 25.0
KNEE_PEAK_PHASE, KNEE_SHARPNESS = 0.73, 4.0  # of the stride from heel strike; of the bump
ELBOWS, WRISTS, HANDS = (13, 14), (15, 16), ((17, 18), (19, 20), (21, 22))


def walker(time: FloatArray, speed: float = 1.2, stride_s: float = 1.1) -> FloatArray:
    """BlazePose keypoints (n, 33, 3) m of somebody walking along +x, y up, floor at 0, half way at x = 0.

    Parameters
    ----------
    time : (n,) s.
    speed : m/s; 0 walks in place, as on a treadmill.
    """
    points = np.zeros((len(time), 33, 3))
    points[:, :11] = HEAD * np.array([1.0, 1.0, 0.0])
    points[:, (1, 2, 3, 7, 9), 2], points[:, (4, 5, 6, 8, 10), 2] = -HEAD[2], HEAD[2]
    for side, sign in enumerate((-1.0, 1.0)):
        phase = 2.0 * np.pi * time / stride_s + np.pi * side
        hip = np.radians(HIP_MEAN_DEG + HIP_SWING_DEG * np.cos(phase))
        bump = np.exp(KNEE_SHARPNESS * (np.cos(phase - 2.0 * np.pi * KNEE_PEAK_PHASE) - 1.0))
        knee = np.radians(KNEE_MEAN_DEG + KNEE_SWING_DEG * bump)
        arm = np.radians(-ARM_SWING_DEG * np.cos(phase))
        shank, ahead = _down(hip - knee), _down(hip - knee + np.pi / 2.0)
        forearm = _down(arm + np.radians(ELBOW_DEG))
        points[:, HIPS[side]] = (0.0, 0.0, sign * HIP_HALF)
        points[:, KNEES[side]] = points[:, HIPS[side]] + THIGH * _down(hip)
        points[:, ANKLES[side]] = points[:, KNEES[side]] + SHANK * shank
        points[:, HEELS[side]] = points[:, ANKLES[side]] - HEEL_BACK * ahead + ANKLE_HEIGHT * shank
        points[:, TOES[side]] = points[:, ANKLES[side]] + TOE_AHEAD * ahead + ANKLE_HEIGHT * shank
        points[:, SHOULDERS[side]] = (0.0, TRUNK, sign * SHOULDER_HALF)
        points[:, ELBOWS[side]] = points[:, SHOULDERS[side]] + UPPER_ARM * _down(arm)
        points[:, WRISTS[side]] = points[:, ELBOWS[side]] + FOREARM * forearm
        for hand in HANDS:
            points[:, hand[side]] = points[:, WRISTS[side]] + 0.3 * FOREARM * forearm
    points[..., 1] -= points[:, (*HEELS, *TOES), 1].min(axis=1)[:, None]
    points[..., 0] += speed * (time - (time[0] + time[-1]) / 2.0)[:, None]
    return points


def _down(angle: FloatArray) -> FloatArray:
    """(n, 3) unit vectors at an angle forward of straight down."""
    return np.column_stack([np.sin(angle), -np.cos(angle), np.zeros_like(angle)])
