"""The live twin: posture, activations, forces and moments of the wearer, sample by sample.

Hips come from the encoders (and the IMUs' rates where these agree), knees and
ankles from the wearer's reference stride at the estimated phase, activations
from EMG, forces and moments from the wearer's planar muscles.

The core is lockstep: its output depends on nothing but the samples it processed,
in order. It reads no clock and resets nothing by itself, so a recording of the
processed samples reproduces its output bit by bit (`exo_twin.lockstep`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S, to_ns
from exo_common.frames import HIPS, LEG_COORDINATES
from exo_twin.periodic import PeriodicCurve
from exo_twin.phase import PhaseEstimate, PhaseEstimator
from exo_twin.planar_muscles import MUSCLES, PlanarMuscles
from exo_twin.twin import Twin

FloatArray = NDArray[np.float64]
Pair = tuple[float, float]

JOINT_STATES, ENVELOPE = "/joint_states", "/emg/envelope"
IMUS = ("/imu/pelvis", "/imu/thigh_l", "/imu/thigh_r")
# The order of `inputs` in TwinState.
INPUTS = (JOINT_STATES, ENVELOPE, *IMUS)

HIP_ROWS = tuple(LEG_COORDINATES.index(name) for name in HIPS)
# Time constants of the light filter: half a period and one period of 100 Hz.
ANGLE_FILTER_S, VELOCITY_FILTER_S = 0.005, 0.010
# After a longer gap the filter starts anew from the measurement.
LONGEST_GAP_S = 0.1
# IMU and encoder rates of a hip are averaged while they differ by less than this; a badly
# mounted or drifting IMU differs more and is left out.
RATE_AGREEMENT_RAD_S = 0.5
# Side inputs older than this beside the joint state are not used.
SIDE_INPUT_MAX_AGE_S = 0.1
# Standing posture of knee and ankle: that of the reference stride in mid-stance.
MID_STANCE = 0.3
# One standard deviation: a hip encoder with its cuff on soft tissue; a hip without a valid
# sample; a knee or ankle that nothing observes (a third of its range in daily life).
ENCODER_SD, UNKNOWN_HIP_SD, UNKNOWN_JOINT_SD = 0.02, 0.3, 0.35
# A muscle without valid EMG is taken as resting. Its activation is then uncertain by the
# level muscles reach in walking; a measured one by what EMG and activation differ typically.
RESTING, UNKNOWN_ACTIVATION_SD, EMG_ACTIVATION_SD = 0.01, 0.3, 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class JointSample:
    """Both hips: stamp ns, (left, right) angle rad and velocity rad/s; NaN where not reported."""

    stamp_ns: int
    position: Pair
    velocity: Pair


@dataclasses.dataclass(frozen=True, slots=True)
class EnvelopeSample:
    """EMG envelopes: stamp ns, channel name -> fraction of the calibrated maximum, valid channels only."""

    stamp_ns: int
    valid: Mapping[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class ImuSample:
    """One IMU: stamp ns, angular velocity about the axes x forward, y left, z up of its segment, rad/s."""

    stamp_ns: int
    rate: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class TwinEstimate:
    """State of the twin; every number is finite.

    Attributes
    ----------
    stamp_ns : of the joint state behind it.
    sequence : 0 at the first tick.
    position, velocity, moment, position_sd : (6,) rad, rad/s, Nm, rad; order LEG_COORDINATES.
    activation, activation_sd, force : (18,) 0..1, 0..1, N; order `planar_muscles.MUSCLES`.
    phase : the phase estimate.
    input_stamps : ns, order INPUTS; 0 for an input that never came.
    """

    stamp_ns: int
    sequence: int
    position: FloatArray
    velocity: FloatArray
    moment: FloatArray
    position_sd: FloatArray
    activation: FloatArray
    activation_sd: FloatArray
    force: FloatArray
    phase: PhaseEstimate
    input_stamps: tuple[int, ...]


class Estimator:
    """Turns samples into the twin's state.

    Parameters
    ----------
    twin : the wearer.

    Raises
    ------
    ExoError : if the twin's muscles are missing or damaged.
    """

    def __init__(self, twin: Twin) -> None:
        gait = twin.gait
        self._phase = PhaseEstimator(gait)
        self._muscles = PlanarMuscles.from_arrays(twin.model)
        self._curves = {name: PeriodicCurve(gait.curves[name]) for name in LEG_COORDINATES if name not in HIPS}
        still = np.zeros(101)
        self._spread = {name: PeriodicCurve(gait.curves_sd.get(name, still)) for name in self._curves}
        self._sequence = -1
        self._stamp: int | None = None
        self._angle: list[float] = [0.0, 0.0]
        self._rate: list[float] = [0.0, 0.0]

    def step(self, joints: JointSample, envelope: EnvelopeSample | None, imus: Mapping[str, ImuSample]) -> TwinEstimate:
        """Process one joint state together with the newest of the other inputs.

        Parameters
        ----------
        imus : topic -> sample, those of :data:`IMUS` that came already.
        """
        self._sequence += 1
        seen = self._filter_hips(joints, imus)
        phase = self._phase.step(joints.stamp_ns, joints.position, joints.velocity)
        position, velocity, spread = self._posture(phase, seen)
        activation, activation_sd = self._activations(joints.stamp_ns, envelope)
        force = self._muscles.force(activation, position, velocity)
        return TwinEstimate(
            stamp_ns=joints.stamp_ns,
            sequence=self._sequence,
            position=position,
            velocity=velocity,
            moment=force @ self._muscles.moment_arms(position),
            position_sd=spread,
            activation=activation,
            activation_sd=activation_sd,
            force=force,
            phase=phase,
            input_stamps=(
                joints.stamp_ns,
                envelope.stamp_ns if envelope else 0,
                *(imus[topic].stamp_ns if topic in imus else 0 for topic in IMUS),
            ),
        )

    def _filter_hips(self, joints: JointSample, imus: Mapping[str, ImuSample]) -> tuple[bool, bool]:
        """Predict and correct both hips; returns which of them had a valid sample."""
        gap = math.inf if self._stamp is None else (joints.stamp_ns - self._stamp) / NS_PER_S
        self._stamp = joints.stamp_ns
        pelvis = self._rate_about_hip(imus.get(IMUS[0]), joints.stamp_ns)
        seen = []
        for i, topic in enumerate(IMUS[1:]):
            angle, rate = joints.position[i], joints.velocity[i]
            seen.append(math.isfinite(angle) and math.isfinite(rate))
            if not seen[-1]:
                continue
            thigh = self._rate_about_hip(imus.get(topic), joints.stamp_ns)
            if thigh is not None and pelvis is not None and abs(thigh - pelvis - rate) < RATE_AGREEMENT_RAD_S:
                rate = 0.5 * (rate + thigh - pelvis)
            if not 0.0 <= gap <= LONGEST_GAP_S:
                self._angle[i], self._rate[i] = angle, rate
                continue
            predicted = self._angle[i] + gap * self._rate[i]
            self._angle[i] = predicted + (1.0 - math.exp(-gap / ANGLE_FILTER_S)) * (angle - predicted)
            self._rate[i] += (1.0 - math.exp(-gap / VELOCITY_FILTER_S)) * (rate - self._rate[i])
        return (seen[0], seen[1])

    @staticmethod
    def _rate_about_hip(sample: ImuSample | None, stamp_ns: int) -> float | None:
        """Rate of a segment in the sense of hip flexion (about the axis 0 -1 0), rad/s; None if not usable."""
        if sample is None or abs(stamp_ns - sample.stamp_ns) > SIDE_INPUT_MAX_AGE_S * NS_PER_S:
            return None
        return -sample.rate[1] if math.isfinite(sample.rate[1]) else None

    def _posture(self, phase: PhaseEstimate, seen: tuple[bool, bool]) -> tuple[FloatArray, FloatArray, FloatArray]:
        position, velocity, spread = (np.empty(len(LEG_COORDINATES)) for _ in range(3))
        for i, row in enumerate(HIP_ROWS):
            position[row], velocity[row] = self._angle[i], self._rate[i]
            spread[row] = ENCODER_SD if seen[i] else UNKNOWN_HIP_SD
        trust = phase.confidence
        for row, name in enumerate(LEG_COORDINATES):
            curve = self._curves.get(name)
            if curve is None:
                continue
            at = phase.left if name.endswith("_l") else phase.right
            value, slope = curve.at(at)
            standing, _ = curve.at(MID_STANCE)
            position[row] = trust * value + (1.0 - trust) * standing
            velocity[row] = trust * slope * phase.rate
            known = math.hypot(self._spread[name].at(at)[0], slope * phase.phase_sd)
            spread[row] = math.hypot(trust * known, (1.0 - trust) * UNKNOWN_JOINT_SD)
        return position, velocity, spread

    @staticmethod
    def _activations(stamp_ns: int, envelope: EnvelopeSample | None) -> tuple[FloatArray, FloatArray]:
        activation = np.full(len(MUSCLES), RESTING)
        spread = np.full(len(MUSCLES), UNKNOWN_ACTIVATION_SD)
        if envelope is None or abs(stamp_ns - envelope.stamp_ns) > SIDE_INPUT_MAX_AGE_S * NS_PER_S:
            return activation, spread
        for row, name in enumerate(MUSCLES):
            value = envelope.valid.get(name, math.nan)
            if math.isfinite(value):
                activation[row] = min(1.0, max(RESTING, value))
                spread[row] = EMG_ACTIVATION_SD
        return activation, spread


def joint_sample(message: Any) -> JointSample | None:
    """From a sensor_msgs/JointState, live or recorded; None if it names no hips."""
    names = list(message.name)
    try:
        rows = [names.index(name) for name in HIPS]
    except ValueError:
        return None
    pairs = []
    for values in (message.position, message.velocity):
        known = len(values) > max(rows)
        pairs.append((float(values[rows[0]]), float(values[rows[1]])) if known else (math.nan, math.nan))
    return JointSample(to_ns(message.header.stamp), pairs[0], pairs[1])


def envelope_sample(message: Any) -> EnvelopeSample:
    """From an exo_interfaces/EmgEnvelope, live or recorded."""
    channels = zip(message.muscles, message.envelope, message.valid, strict=False)
    return EnvelopeSample(
        to_ns(message.header.stamp), {str(name): float(value) for name, value, valid in channels if valid}
    )


def imu_sample(message: Any) -> ImuSample:
    """From a sensor_msgs/Imu, live or recorded."""
    rate = message.angular_velocity
    return ImuSample(to_ns(message.header.stamp), (float(rate.x), float(rate.y), float(rate.z)))
