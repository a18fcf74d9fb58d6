"""Sagittal joint angles straight from markers: a quick check without a model, in OpenSim's zero and signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import fill_gaps, smooth
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers

# Standing in the neutral pose of OpenSim's full-body models, the line from hip to shoulder centres leans back by 4.4
# degrees and the one from hip to knee by 0.6 (measured on the joint centres of LaiUhlrich2022, the skeleton of
# Rajagopal et al. 2016, IEEE TBME 63:2068): with hip flexion zero, the two lines enclose this angle.
NEUTRAL_TRUNK_TO_THIGH = np.radians(-5.1)
# The pelvis, which the trunk line stands for, tilts by 2 degrees within a stride (Schwartz et al. 2008, J Biomech
# 41:1639): less than the shoulders swing. Slower changes of posture are kept.
TRUNK_CUTOFF_HZ = 0.7


def sagittal_angles(markers: Markers) -> dict[str, NDArray[np.float64]]:
    """Hip, knee and ankle angles (n,), rad, of both legs, by coordinate name; flexion and dorsiflexion positive.

    Hip: thigh against the trunk line (mid-hip to mid-shoulder, averaged over about a
    stride), zero in OpenSim's neutral pose. Clinical hip angles are larger by the
    tilt of the pelvis' bony landmarks, some 12 degrees. Knee: shank against thigh.
    Ankle: foot (heel to toe) against the shank, zero at a right angle.
    """

    def point(*names: str) -> NDArray[np.float64]:
        return np.mean([markers.position[:, markers.names.index(name), :2] for name in names], axis=0)

    trunk = _steady(_angle(point("LHip", "RHip") - point("LShoulder", "RShoulder")), markers.rate_hz)
    result = {}
    for side in SIDES:
        s = side.upper()
        thigh = _angle(point(f"{s}Knee") - point(f"{s}Hip"))
        shank = _angle(point(f"{s}Ankle") - point(f"{s}Knee"))
        foot = _angle(point(f"{s}BigToe") - point(f"{s}Heel"))
        result[f"hip_flexion_{side}"] = _wrap(thigh - trunk - NEUTRAL_TRUNK_TO_THIGH)
        result[f"knee_angle_{side}"] = _wrap(thigh - shank)
        result[f"ankle_angle_{side}"] = _wrap(foot - shank - np.pi / 2.0)
    return {name: result[name] for name in LEG_COORDINATES}


def _steady(angle: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    column = fill_gaps(angle[:, None], rate_hz)[0]
    return np.asarray(smooth(column, rate_hz, TRUNK_CUTOFF_HZ)[:, 0])


def _angle(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.arctan2(vector[:, 1], vector[:, 0])


def _wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi
