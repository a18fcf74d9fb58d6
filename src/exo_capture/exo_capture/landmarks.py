"""The 33 BlazePose landmarks: indices, left-right pairs, and their names as OpenSim markers."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

NOSE = 0
EYES = (2, 5)
SHOULDERS = (11, 12)
HIPS, KNEES, ANKLES, HEELS, TOES = (23, 24), (25, 26), (27, 28), (29, 30), (31, 32)
# Left and right leg, joint by joint in the same order; the hips move with the leg when sides are swapped.
LEG_L = (23, 25, 27, 29, 31)
LEG_R = (24, 26, 28, 30, 32)
# The joints that decide whether a leg is where it should be: knee, ankle, heel, toe (hips are always near each other).
LOWER_L, LOWER_R = LEG_L[1:], LEG_R[1:]
BODY = (NOSE, *SHOULDERS, *HIPS, *KNEES, *ANKLES, *HEELS, *TOES)

# Names in Pose2Sim's Markers_BlazePose.xml. Hands are left out: nothing here uses them.
MARKERS = {
    "Nose": 0,
    "LEye": 2,
    "REye": 5,
    "LShoulder": 11,
    "RShoulder": 12,
    "LElbow": 13,
    "RElbow": 14,
    "LWrist": 15,
    "RWrist": 16,
    "LHip": 23,
    "RHip": 24,
    "LKnee": 25,
    "RKnee": 26,
    "LAnkle": 27,
    "RAnkle": 28,
    "LHeel": 29,
    "RHeel": 30,
    "LBigToe": 31,
    "RBigToe": 32,
}

SKELETON = (
    (11, 12),
    (11, 23),
    (12, 24),
    (23, 24),
    *((a, b) for leg in (LEG_L, LEG_R) for a, b in itertools.pairwise(leg[:-1])),
    *((leg[3], leg[4]) for leg in (LEG_L, LEG_R)),
)


@dataclasses.dataclass(frozen=True)
class Detections:
    """Everybody whom a pose estimator saw in one camera's recording.

    Attributes
    ----------
    camera : its name.
    size : (width, height) of the picture, px.
    time : (n,) s, when each picture was taken, on the camera's own clock.
    frame : (m,) ascending index into `time`; once per person, so a picture with two people counts twice.
    landmarks : (m, 33, 3) px, px, confidence 0..1; NaN where the estimator knows no such landmark.
    """

    camera: str
    size: tuple[int, int]
    time: NDArray[np.float64]
    frame: NDArray[np.int64]
    landmarks: NDArray[np.float64]


def hip_centre(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Midpoint of the hips of (..., 33, >=2) landmarks: (..., 2), px."""
    return landmarks[..., HIPS, :2].mean(axis=-2)


def body_height(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertical extent from the nose to the lowest foot landmark of (..., 33, >=2) landmarks, px."""
    return landmarks[..., (*HEELS, *TOES), 1].max(axis=-1) - landmarks[..., NOSE, 1]
