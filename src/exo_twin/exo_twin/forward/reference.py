"""Reference motion: what the tracking twin follows, sampled once on a fine grid.

Walking comes from the mean stride of the twin's `gait.yaml`; standing and
lifting a thigh are made up for tests and demonstrations. The reference does not
depend on assistance: the wearer is assumed to walk the same with and without.

What is measured and what is assumed: joint angles and pelvis tilt are the
wearer's. The path of the pelvis is *derived*: the sole that carries the weight
stays on the level ground and does not slide. A monocular recording knows it no
better (its centre-of-mass height is off by a factor of 2-3), and the derived
path never contradicts the legs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from exo_common.frames import LEG_COORDINATES
from numpy.typing import NDArray

from exo_twin.forward.walker import Walker
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

MOTIONS = ("walk", "stand", "lift_left", "lift_right")

# Customary low-pass for gait kinematics; harmonics above it are noise, and accelerations square it.
KINEMATICS_CUTOFF_HZ = 6.0
HARMONICS_MIN = 4
# The pelvis moves mainly at twice the stride frequency; twice that again keeps the shape of each bounce.
PELVIS_HARMONICS = 4
# Vertical excursion of the body at comfortable speed is 40-50 mm; more is an artefact of the camera.
PELVIS_EXCURSION_MAX_M = 0.05
# Forward speed of the body varies by +-10-15 % within a stride.
PELVIS_SPEED_VARIATION_MAX = 0.15
# Samples of one stride: below 1.5 ms at any walking speed.
STRIDE_SAMPLES = 1000
# A double support shorter than this cannot pass the load smoothly.
DOUBLE_SUPPORT_MIN = 0.04

# Lifting a thigh: stand, shift the weight, lift, hold.
LIFT_DT_S = 0.002
LIFT_START_S, LIFT_S, SHIFT_START_S, SHIFT_S = 2.0, 1.5, 1.0, 0.8
LIFT_HIP_RAD, LIFT_KNEE_RAD = math.radians(40.0), math.radians(50.0)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A motion on a uniform time grid.

    Attributes
    ----------
    dt : s between samples.
    q, qd, qdd : (n, nv) posture and its derivatives, the walker's order, SI.
    loading : (n, 2) share of the weight on the left and right foot, summing to one.
    progress : (n, 2) nominal place of the centre of pressure, 0 heel to 1 toe.
    phase : (n, 2) gait phase of each leg; zero where there is no gait.
    stride_time : s; zero where the motion does not repeat but holds its last posture.
    advance : (nv,) what one stride adds to the posture (the way walked).
    """

    dt: float
    q: FloatArray
    qd: FloatArray
    qdd: FloatArray
    loading: FloatArray
    progress: FloatArray
    phase: FloatArray
    stride_time: float
    advance: FloatArray


class Periodic:
    """A truncated Fourier series through one period of samples, with its derivatives."""

    def __init__(self, samples: FloatArray, harmonics: int) -> None:
        self.coefficients = np.fft.rfft(samples)[: harmonics + 1] / len(samples)
        self.coefficients[1:] *= 2.0

    @classmethod
    def from_curve(cls, curve: FloatArray, harmonics: int) -> Periodic:
        """Of a gait curve of 0..100 %, whose ends may differ by measurement noise: the gap is spread evenly."""
        gap = curve[-1] - curve[0]
        closed = curve - gap * (np.linspace(0.0, 1.0, len(curve)) - 0.5)
        return cls(closed[:-1], harmonics)

    def __call__(self, phase: FloatArray, period: float, derivative: int = 0) -> FloatArray:
        """Value, or a time derivative, at `phase` (any shape) for a period in s."""
        k = np.arange(len(self.coefficients))
        factor = (2j * np.pi * k / period) ** derivative
        return np.real(np.exp(2j * np.pi * phase[..., None] * k) @ (self.coefficients * factor))


def harmonics_for(stride_time: float) -> int:
    """Harmonics of the stride below :data:`KINEMATICS_CUTOFF_HZ`."""
    return max(HARMONICS_MIN, round(KINEMATICS_CUTOFF_HZ * stride_time))


def smoothstep(x: FloatArray) -> FloatArray:
    """Minimum-jerk rise from 0 at x <= 0 to 1 at x >= 1."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def walking(walker: Walker, gait: Gait) -> Reference:
    """The wearer's mean stride, repeated."""
    period = gait.stride_time
    left = np.arange(STRIDE_SAMPLES) / STRIDE_SAMPLES
    phase = np.stack([left, np.mod(left + gait.phase_offset_right, 1.0)], axis=1)
    series = {name: Periodic.from_curve(curve, harmonics_for(period)) for name, curve in gait.curves.items()}
    q, qd, qdd = (np.zeros((STRIDE_SAMPLES, walker.model.nv)) for _ in range(3))
    q[:] = walker.model.qpos0
    coordinates = [(name, walker.legs[i], phase[:, i // 3]) for i, name in enumerate(LEG_COORDINATES)]
    if "pelvis_tilt" in series:
        coordinates.append(("pelvis_tilt", walker.root[2], left))
    for name, dof, at in coordinates:
        for derivative, out in enumerate((q, qd, qdd)):
            out[:, dof] = series[name](at, period, derivative)
    loading = stance_loading(phase, gait.duty_factor, gait.phase_offset_right)
    speed = _pelvis_path(walker, gait, left, loading, (q, qd, qdd))
    advance = np.zeros(walker.model.nv)
    advance[walker.root[0]] = speed * period
    progress = np.clip(phase / gait.duty_factor, 0.0, 1.0)
    return Reference(period / STRIDE_SAMPLES, q, qd, qdd, loading, progress, phase, period, advance)


def stance_loading(phase: FloatArray, duty_factor: float, offset_right: float) -> FloatArray:
    """Share of the weight on each foot from stance timing alone.

    The load passes along a minimum-jerk curve in double support, which lasts
    from one heel strike to the other leg's toe-off (the smooth transition
    assumption of Ren et al. 2008, with its simplest curve).
    """
    raw = np.zeros_like(phase)
    for leg, offset in enumerate((offset_right, 1.0 - offset_right)):
        own = phase[:, leg]
        rise = max(duty_factor - offset, DOUBLE_SUPPORT_MIN)
        fall = max(duty_factor - (1.0 - offset), DOUBLE_SUPPORT_MIN)
        raw[:, leg] = smoothstep(own / rise) * smoothstep((duty_factor - own) / fall)
    total = raw.sum(axis=1, keepdims=True)
    # Where measured timing leaves a gap between the stances, both feet share what there is.
    return np.where(total > 1e-6, raw / np.maximum(total, 1e-6), 0.5)


def standing(walker: Walker, lift: int | None = None) -> Reference:
    """Upright stand; with `lift` 0 or 1 the left or right thigh rises and stays up."""
    seconds = LIFT_START_S + LIFT_S
    time = np.arange(0.0, seconds, LIFT_DT_S)
    n = len(time)
    q, qd, qdd = (np.zeros((n, walker.model.nv)) for _ in range(3))
    q[:] = walker.model.qpos0
    walker.pose(q[0])
    q[:, walker.root[1]] -= min(walker.sole_height(0), walker.sole_height(1))
    loading = np.full((n, 2), 0.5)
    if lift is not None:
        x = np.clip((time - LIFT_START_S) / LIFT_S, 0.0, 1.0)
        for joint, amplitude in ((0, LIFT_HIP_RAD), (1, LIFT_KNEE_RAD)):
            dof = walker.legs[3 * lift + joint]
            q[:, dof] += amplitude * smoothstep(x)
            qd[:, dof] = amplitude * 30.0 * x**2 * (1.0 - x) ** 2 / LIFT_S
            qdd[:, dof] = amplitude * 60.0 * x * (1.0 - x) * (1.0 - 2.0 * x) / LIFT_S**2
        loading[:, lift] = 0.5 * (1.0 - smoothstep((time - SHIFT_START_S) / SHIFT_S))
        loading[:, 1 - lift] = 1.0 - loading[:, lift]
    still = np.zeros((n, 2))
    return Reference(LIFT_DT_S, q, qd, qdd, loading, np.full((n, 2), 0.5), still, 0.0, np.zeros(walker.model.nv))


def make(motion: str, walker: Walker, gait: Gait) -> Reference:
    """The reference of one of :data:`MOTIONS`."""
    if motion == "walk":
        return walking(walker, gait)
    return standing(walker, {"stand": None, "lift_left": 0, "lift_right": 1}[motion])


def _pelvis_path(
    walker: Walker, gait: Gait, left: FloatArray, loading: FloatArray, motion: tuple[FloatArray, FloatArray, FloatArray]
) -> float:
    """Fill in the pelvis translation that keeps the loaded sole on the ground; returns the mean speed, m/s."""
    q, qd, qdd = motion
    period = gait.stride_time
    tx, tz = walker.root[0], walker.root[1]
    n = len(q)
    sole = np.zeros((n, 2))
    ankle = np.zeros((n, 2))
    posture = q.copy()
    posture[:, [tx, tz]] = 0.0
    for i in range(n):
        walker.pose(posture[i])
        sole[i] = [walker.sole_height(foot) for foot in (0, 1)]
        ankle[i] = walker.data.xpos[walker.feet, 0]
    height = -np.sum(loading * sole, axis=1)
    bounce = Periodic(height, PELVIS_HARMONICS)
    excursion = float(np.ptp(bounce(left, period)))
    bounce.coefficients[1:] *= min(1.0, PELVIS_EXCURSION_MAX_M / max(excursion, 1e-9))
    backward = (np.roll(ankle, -1, axis=0) - np.roll(ankle, 1, axis=0)) * n / (2.0 * period)
    surge = Periodic(-np.sum(loading * backward, axis=1), PELVIS_HARMONICS)
    speed = gait.speed if gait.speed is not None else float(np.real(surge.coefficients[0]))
    surge.coefficients[0] = 0.0
    variation = float(np.max(np.abs(surge(left, period))))
    surge.coefficients *= min(1.0, PELVIS_SPEED_VARIATION_MAX * abs(speed) / max(variation, 1e-9))
    way = Periodic(np.zeros(n), PELVIS_HARMONICS)
    k = np.arange(1, PELVIS_HARMONICS + 1)
    way.coefficients[1:] = surge.coefficients[1:] * period / (2j * np.pi * k)
    for derivative, out in enumerate((q, qd, qdd)):
        out[:, tz] = bounce(left, period, derivative)
        out[:, tx] = way(left, period, derivative)
    q[:, tx] += speed * period * left
    qd[:, tx] += speed
    return speed
