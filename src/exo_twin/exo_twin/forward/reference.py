"""Reference motion: what the tracking twin follows, sampled once on a fine grid.

Walking comes from the mean stride of the twin's `gait.yaml`; standing and
lifting a thigh are made up for tests and demonstrations (`motions` names them
all). The reference does not
depend on assistance: the wearer is assumed to walk the same with and without.

What is measured and what is assumed: joint angles are the wearer's, pelvis tilt
too, though only its slow part (the walker's trunk is one piece with the pelvis,
a wearer's is not). The path of the pelvis is *derived*: up and down, the sole
that carries the weight stays on the level ground; forwards, the body surges as
an inverted pendulum over the centre of pressure, so that its weight, its
acceleration and the ground reaction balance about the pelvis. A monocular
recording knows this path no better (its centre-of-mass height is off by a factor
of 2-3), and differentiating it twice would drown the joint moments in noise.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES
from exo_twin.forward.walker import Walker
from exo_twin.periodic import Periodic
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

# A 4th-order zero-lag Butterworth. Below the customary 6 Hz, for here angles are differentiated twice and no measured
# ground reaction steadies the moments: against force plates hip moments agree better, the knee curve moves by 1 deg.
KINEMATICS_CUTOFF_HZ = 4.5
# Harmonics are kept up to twice the cut-off, where 6 % passes.
KEPT_CUTOFFS = 2.0
# The body rises and falls once per step; twice that frequency keeps the shape of each bounce.
BOUNCE_HARMONICS = 4
# Vertical excursion of the body at comfortable speed is 40-50 mm; more is an artefact of the camera.
PELVIS_EXCURSION_MAX_M = 0.05
# The trunk counter-rotates fast tilting of the pelvis; a welded trunk must not follow it.
TILT_HARMONICS = 2
# The last contact is under the hallux, not at the tip of the toes.
PROGRESS_AT_TOE_OFF = 0.85
# Spread of the centre of pressure between healthy walkers, along the foot.
PRESSURE_SHIFT_MAX_M = 0.05
GRAVITY_M_S2 = 9.81
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
    pressure : (n, 2) nominal place of the centre of pressure, 0 heel to 1 toe.
    phase : (n, 2) gait phase of each leg; stands still where there is no gait.
    stride_time : s until the motion repeats; zero where it does not but holds its last posture.
    advance : (nv,) what one repetition adds to the posture (the way walked).
    """

    dt: float
    q: FloatArray
    qd: FloatArray
    qdd: FloatArray
    loading: FloatArray
    pressure: FloatArray
    phase: FloatArray
    stride_time: float
    advance: FloatArray


def harmonics_for(stride_time: float) -> int:
    """Harmonics of the stride worth keeping."""
    return round(KEPT_CUTOFFS * KINEMATICS_CUTOFF_HZ * stride_time)


def smoothstep(x: FloatArray) -> FloatArray:
    """Minimum-jerk rise from 0 at x <= 0 to 1 at x >= 1."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def walking(walker: Walker, gait: Gait) -> Reference:
    """The wearer's mean stride, repeated."""
    period = gait.stride_time
    left = np.arange(STRIDE_SAMPLES) / STRIDE_SAMPLES
    phase = np.stack([left, np.mod(left + gait.phase_offset_right, 1.0)], axis=1)
    q, qd, qdd = (np.zeros((STRIDE_SAMPLES, walker.model.nv)) for _ in range(3))
    q[:] = walker.model.qpos0
    coordinates = [(name, walker.legs[i], phase[:, i // 3]) for i, name in enumerate(LEG_COORDINATES)]
    if "pelvis_tilt" in gait.curves:
        coordinates.append(("pelvis_tilt", walker.root[2], left))
    for name, dof, at in coordinates:
        harmonics = TILT_HARMONICS if name == "pelvis_tilt" else harmonics_for(period)
        series = Periodic.from_curve(gait.curves[name], harmonics)
        series.low_pass(KINEMATICS_CUTOFF_HZ * period)
        for derivative, out in enumerate((q, qd, qdd)):
            out[:, dof] = series(at, period, derivative)
    reference = Reference(
        dt=period / STRIDE_SAMPLES,
        q=q,
        qd=qd,
        qdd=qdd,
        loading=stance_loading(phase, gait.duty_factor, gait.phase_offset_right),
        pressure=PROGRESS_AT_TOE_OFF * np.clip(phase / gait.duty_factor, 0.0, 1.0),
        phase=phase,
        stride_time=period,
        advance=np.zeros(walker.model.nv),
    )
    _bounce(walker, reference)
    _surge(walker, reference, gait.speed)
    return reference


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
    pressure = np.full((n, 2), 0.5 * PROGRESS_AT_TOE_OFF)
    return Reference(LIFT_DT_S, q, qd, qdd, loading, pressure, still, 0.0, np.zeros(walker.model.nv))


def _bounce(walker: Walker, reference: Reference) -> None:
    """Fill in the height of the pelvis that keeps the loaded sole on the ground."""
    tz = walker.root[1]
    sole = np.zeros_like(reference.loading)
    for i, posture in enumerate(reference.q):
        walker.pose(posture)
        sole[i] = [walker.sole_height(foot) for foot in (0, 1)]
    height = Periodic(-np.sum(reference.loading * sole, axis=1), BOUNCE_HARMONICS)
    phase = reference.phase[:, 0]
    excursion = float(np.ptp(height(phase, reference.stride_time)))
    height.coefficients[1:] *= min(1.0, PELVIS_EXCURSION_MAX_M / max(excursion, 1e-9))
    for derivative, out in enumerate((reference.q, reference.qd, reference.qdd)):
        out[:, tz] = height(phase, reference.stride_time, derivative)


def _surge(walker: Walker, reference: Reference, speed: float | None) -> None:
    """Fill in the way forward; without a measured `speed`, that of the loaded feet under the pelvis.

    The forward acceleration a of the whole body follows from the balance of
    moments about the pelvis, linear in a:

        needed_tilt(a) = (x_pressure - x_pelvis) F_up + height F_forward(a)
    """
    tx, tz, tilt = walker.root
    n, period, phase = len(reference.q), reference.stride_time, reference.phase[:, 0]
    imbalance, per_acceleration, up = np.zeros(n), np.zeros(n), np.zeros(n)
    ankle = np.zeros((n, 2))
    push = np.zeros(walker.model.nv)
    push[tx] = 1.0
    for i in range(n):
        still = walker.required_force(reference.q[i], reference.qd[i], reference.qdd[i])
        pelvis = walker.pelvis()
        place = np.sum(reference.loading[i] * walker.pressure_point(reference.pressure[i])) - pelvis[0]
        ankle[i] = walker.data.xpos[walker.feet, 0]
        pushed = walker.required_force(reference.q[i], reference.qd[i], reference.qdd[i] + push)
        up[i] = still[tz]
        imbalance[i] = still[tilt] - place * still[tz] - pelvis[2] * still[tx]
        more = pushed - still
        per_acceleration[i] = pelvis[2] * more[tx] - more[tilt]
    # A stride neither gains nor loses speed: move the pressure under the feet until it is so.
    shift = float(np.sum(imbalance / per_acceleration) / np.sum(up / per_acceleration))
    shift = min(max(shift, -PRESSURE_SHIFT_MAX_M), PRESSURE_SHIFT_MAX_M)
    # As many harmonics as the legs have: what the body does not answer would end as a moment at the hips.
    harmonics = harmonics_for(period)
    surge = Periodic((imbalance - shift * up) / per_acceleration, harmonics)
    if speed is None:
        backward = (np.roll(ankle, -1, axis=0) - np.roll(ankle, 1, axis=0)) / (2.0 * reference.dt)
        speed = -float(np.mean(np.sum(reference.loading * backward, axis=1)))
    k = np.arange(1, harmonics + 1)
    surge.coefficients[0] = 0.0
    surge.coefficients[1:] /= (2j * np.pi * k / period) ** 2
    for derivative, out in enumerate((reference.q, reference.qd, reference.qdd)):
        out[:, tx] = surge(phase, period, derivative)
    reference.q[:, tx] += speed * period * phase
    reference.qd[:, tx] += speed
    reference.advance[tx] = speed * period
