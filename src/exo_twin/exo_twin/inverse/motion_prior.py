"""What is known of a movement before it is seen: every coordinate is a constant plus a smooth variation.

In statistical words a Gaussian process. Where the strides are known, the variation
repeats from stride to stride but for a small share; where they are not, it is only
smooth. The numbers are ranges of human movement, wide enough for impaired gait;
those of coordinates that keypoints hardly tell (axial and frontal ones) are narrow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Joint angles hold next to nothing above 6 Hz (Winter 2009, ch. 3): this Gaussian correlation time leaves 1 % there.
CORRELATION_S = 0.08
# Share of the variation's variance that need not repeat with the stride; 0.1 of 20 degrees SD is 6 degrees SD.
APERIODIC_SHARE = 0.1
STRIDES_ALIKE = 3.0  # strides over which a gait's shape may drift
FASTEST_M_S = 3.0  # SD of the mean velocity of travel: any walk
SMALLEST_VARIANCE = 1e-4  # of the largest; smaller components are left out


@dataclasses.dataclass(frozen=True)
class Habit:
    """Prior of one coordinate, deg (or m for translations): mean and SD of its constant, SD of its variation."""

    mean: float
    constant: float
    variation: float


# First match by regular expression on the coordinate's name. Between-person and within-stride spreads of adults walk:
# Kadaba et al. 1990, J Orthop Res 8:383 (frontal and transverse pelvis and hip), Winter 2009 (sagittal).
HABITS: tuple[tuple[str, Habit], ...] = (
    (r"pelvis_t[xyz]", Habit(0.0, 10.0, 0.1)),
    (r"pelvis_tilt", Habit(0.0, 5.0, 3.0)),
    (r"pelvis_list", Habit(0.0, 4.0, 4.0)),
    (r"pelvis_rotation", Habit(0.0, 10.0, 5.0)),
    (r"hip_flexion_[lr]|knee_angle_[lr]|ankle_angle_[lr]", Habit(0.0, 25.0, 25.0)),
    (r"hip_adduction_[lr]", Habit(0.0, 6.0, 6.0)),
    (r"hip_rotation_[lr]", Habit(0.0, 8.0, 4.0)),
    (r"subtalar_angle_[lr]", Habit(0.0, 8.0, 5.0)),
    (r"(L5_S1_Flex_Ext|lumbar_extension)", Habit(0.0, 5.0, 0.5)),
    (r"(L5_S1_Lat_Bending|lumbar_bending|L5_S1_axial_rotation|lumbar_rotation)", Habit(0.0, 3.0, 2.0)),
    (r"neck_flexion", Habit(0.0, 20.0, 5.0)),
    (r"arm_flex_[lr]|arm_add_[lr]|arm_rot_[lr]", Habit(0.0, 60.0, 30.0)),
    (r"elbow_flex_[lr]", Habit(20.0, 40.0, 30.0)),
)


def habit(coordinate: str) -> Habit | None:
    """The prior of a coordinate; None for one that keypoints do not tell (it stays at its default)."""
    return next((h for pattern, h in HABITS if re.fullmatch(pattern, coordinate)), None)


def is_translation(coordinate: str) -> bool:
    """Whether a coordinate is a place of the pelvis, m; all others are angles, rad."""
    return re.fullmatch(r"pelvis_t[xyz]", coordinate) is not None


def motion_basis(
    time: FloatArray, at: FloatArray, phase: tuple[FloatArray, FloatArray] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Functions of time whose unit-variance mixtures are the variations of unit variance.

    Parameters
    ----------
    time : (n,) s, where the motion is observed.
    at : (m,) s, where it is wanted too.
    phase : gait phase in strides (unwrapped) at `time` and at `at`, where known.

    Returns
    -------
    (n, r) and (m, r) : column 0 is the constant, column 1 a straight line from -1 to 1.
    """
    within = _correlation(time, time, phase and (phase[0], phase[0]))
    variance, vectors = np.linalg.eigh(within)
    keep = variance > SMALLEST_VARIANCE * variance[-1]
    root = np.sqrt(variance[keep])
    smooth = vectors[:, keep] * root
    across = _correlation(at, time, phase and (phase[1], phase[0])) @ (vectors[:, keep] / root)
    middle, half = (time[0] + time[-1]) / 2.0, max((time[-1] - time[0]) / 2.0, 1e-9)
    own = [np.column_stack([np.ones(len(t)), (t - middle) / half]) for t in (time, at)]
    return np.hstack([own[0], smooth[:, ::-1]]), np.hstack([own[1], across[:, ::-1]])


def coefficient_sd(habits: Sequence[Habit], names: Sequence[str], functions: int, duration: float) -> FloatArray:
    """Prior SD (n_coordinates, functions) of every coordinate's mixture, rad or m; a straight trend only in travel."""
    sd = np.zeros((len(habits), functions))
    for row, item, name in zip(sd, habits, names, strict=True):
        travels = is_translation(name)
        unit = 1.0 if travels else np.pi / 180.0
        row[0], row[2:] = unit * item.constant, unit * item.variation
        # m/s either way; half the duration is the line's unit.
        row[1] = FASTEST_M_S * duration / 2.0 if travels else 1e-6
    return sd


def _correlation(a: FloatArray, b: FloatArray, phase: tuple[FloatArray, FloatArray] | None) -> FloatArray:
    lag = a[:, None] - b[None, :]
    smooth = np.exp(-0.5 * (lag / CORRELATION_S) ** 2)
    if phase is None:
        return np.asarray(smooth)
    strides = phase[0][:, None] - phase[1][None, :]
    stride_time = float(np.ptp(b) / max(np.ptp(phase[1]), 1e-9))
    width = 2.0 * np.pi * CORRELATION_S / stride_time
    repeated = np.exp(-2.0 * (np.sin(np.pi * strides) / width) ** 2 - 0.5 * (strides / STRIDES_ALIKE) ** 2)
    return np.asarray((1.0 - APERIODIC_SHARE) * repeated + APERIODIC_SHARE * smooth)
