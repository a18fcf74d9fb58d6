"""The one place where OpenSim's and ROS's conventions meet.

OpenSim (ISB): x forward, y up, z right. ROS (REP-103): x forward, y left, z up.
Angles: flexion and dorsiflexion positive on both sides, rad; order left, right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDES = ("l", "r")
HIPS = ("hip_flexion_l", "hip_flexion_r")
# The sagittal leg coordinates in the order every message uses: left first.
LEG_COORDINATES = tuple(f"{joint}_{side}" for side in SIDES for joint in ("hip_flexion", "knee_angle", "ankle_angle"))

OPENSIM_TO_ROS = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def opensim_to_ros(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (..., 3) from OpenSim's y-up frame to ROS's z-up frame."""
    return vectors @ OPENSIM_TO_ROS.T


def quaternion_about(axis: tuple[float, float, float], angle: float) -> tuple[float, float, float, float]:
    """Quaternion (x, y, z, w) of a rotation by `angle` rad about a unit `axis`."""
    s = np.sin(angle / 2.0)
    return (axis[0] * s, axis[1] * s, axis[2] * s, float(np.cos(angle / 2.0)))
