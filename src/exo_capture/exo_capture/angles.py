"""Sagittal joint angles straight from markers: a quick check, not a replacement for inverse kinematics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers


def sagittal_angles(markers: Markers) -> dict[str, NDArray[np.float64]]:
    """Hip, knee and ankle angles (n,), rad, of both legs, by coordinate name; flexion and dorsiflexion positive.

    Hip: thigh against the trunk line (mid-shoulder to mid-hip). Knee: shank against
    thigh. Ankle: foot (heel to toe) against the shank, zero at a right angle.
    """

    def point(*names: str) -> NDArray[np.float64]:
        return np.mean([markers.position[:, markers.names.index(name), :2] for name in names], axis=0)

    trunk = _angle(point("LHip", "RHip") - point("LShoulder", "RShoulder"))
    result = {}
    for side in SIDES:
        s = side.upper()
        thigh = _angle(point(f"{s}Knee") - point(f"{s}Hip"))
        shank = _angle(point(f"{s}Ankle") - point(f"{s}Knee"))
        foot = _angle(point(f"{s}BigToe") - point(f"{s}Heel"))
        result[f"hip_flexion_{side}"] = _wrap(thigh - trunk)
        result[f"knee_angle_{side}"] = _wrap(thigh - shank)
        result[f"ankle_angle_{side}"] = _wrap(foot - shank - np.pi / 2.0)
    return {name: result[name] for name in LEG_COORDINATES}


def _angle(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(vector[:, 1], vector[:, 0])


def _wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi
