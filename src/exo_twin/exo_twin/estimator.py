"""The live twin: posture, moments, activations, forces and gait events of the wearer, sample by sample.

Hips come from encoders and IMUs (`live.hips`), knees and ankles from the wearer's reference stride at the estimated
phase, corrected by keypoints where there are any (`live.keypoints`), activations, forces and moments from one solver
that weighs the wearer's reference moments at that phase, EMG and effort (`live.muscles`).

The core is lockstep: its output depends on nothing but the samples it processed, in order. It reads no clock, so a
recording of the processed samples reproduces its output bit by bit (`exo_twin.lockstep`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_common.frames import HIPS, LEG_COORDINATES
from exo_twin.calibration import TwinCalibration
from exo_twin.live.emg import LiveEmg
from exo_twin.live.events import GaitEvents
from exo_twin.live.hips import HipFusion, HipState
from exo_twin.live.keypoint_offsets import keypoint_offsets
from exo_twin.live.keypoints import KeypointFusion
from exo_twin.live.muscles import EXO_TORQUE_MAX_NM, LiveMuscles
from exo_twin.live.samples import (
    CLOCK_SET_S,
    IMUS,
    NO_PAIR,
    EnvelopeSample,
    ImuSample,
    JointSample,
    KeypointSample,
    fresh,
)
from exo_twin.periodic import PeriodicCurve
from exo_twin.phase import PhaseEstimate, PhaseEstimator
from exo_twin.twin import CURVE_POINTS, Twin

FloatArray = NDArray[np.float64]

HIP_ROWS = tuple(LEG_COORDINATES.index(name) for name in HIPS)
# Standing posture of knee and ankle: that of the reference stride in mid-stance.
MID_STANCE = 0.3
# One standard deviation of knee and ankle beside the mean of a recorded walk, of which one stride may be all there is:
# strides of a person differ by 1.5 degrees, days and shoes by as much again.
REFERENCE_SD = 0.035
# One standard deviation of a knee or ankle that nothing observes: a third of its range in daily life.
UNKNOWN_JOINT_SD = 0.35


@dataclasses.dataclass(frozen=True)
class TwinEstimate:
    """State of the twin; every number is finite.

    Attributes
    ----------
    stamp_ns : of the sample that the tick belongs to.
    sequence : 0 at the first tick.
    position, velocity, moment, position_sd, moment_sd : (6,) rad, rad/s, Nm of the muscles, rad, Nm; order
        LEG_COORDINATES, flexion positive.
    activation, activation_sd, force : (m,) 0..1, 0..1, N along the tendon; order `Estimator.muscles`.
    phase : the phase estimate.
    events : since the tick before, such as ("heel_strike_l",).
    input_stamps : ns, order `live.samples.INPUTS`; 0 for an input that never came.
    complaints : sentences on what is missing or wrong now.
    """

    stamp_ns: int
    sequence: int
    position: FloatArray
    velocity: FloatArray
    moment: FloatArray
    position_sd: FloatArray
    moment_sd: FloatArray
    activation: FloatArray
    activation_sd: FloatArray
    force: FloatArray
    phase: PhaseEstimate
    events: tuple[str, ...]
    input_stamps: tuple[int, ...]
    complaints: tuple[str, ...]


class Estimator:
    """Turns samples into the twin's state.

    Parameters
    ----------
    twin : the wearer.
    calibration : how what the wearer wears reads; by default the one in the twin's folder, identity without one.

    Attributes
    ----------
    muscles : the model's m leg muscles.
    notes : sentences on what the twin does not hold and what that costs.

    Raises
    ------
    ExoError : if the twin's muscles are missing or damaged, or its calibration is damaged or of another wearer.
    """

    def __init__(self, twin: Twin, calibration: TwinCalibration | None = None) -> None:
        self._twin = twin
        self._calibration = calibration or TwinCalibration.of_twin(twin.folder, twin.wearer)
        gait = twin.gait
        self._curves = {name: PeriodicCurve(gait.curves[name]) for name in LEG_COORDINATES if name not in HIPS}
        still = np.zeros(CURVE_POINTS)
        self._spread = {name: PeriodicCurve(gait.curves_sd.get(name, still)) for name in self._curves}
        self._offsets = keypoint_offsets(twin.model, gait)
        self._sequence = -1
        self._stamp: int | None = None
        self._start()
        self.muscles = self._muscles.muscles
        self.notes = self._notes()

    def _start(self) -> None:
        """Everything that remembers, from the beginning."""
        self._hips = HipFusion(self._calibration)
        self._phase = PhaseEstimator(self._twin.gait)
        self._events = GaitEvents(self._twin.gait.duty_factor)
        self._keypoints = KeypointFusion(*self._offsets)
        self._muscles = LiveMuscles(self._twin)
        self._emg = LiveEmg(self._muscles.muscles, self._calibration)

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if "encoders" not in self._calibration.source:
            notes.append(
                "the twin has no calibration of encoders and IMUs, they are taken as they are; "
                "calibrate with python -m exo_twin calibrate <twin>"
            )
        if not self._muscles.knows_moments:
            notes.append(
                "the twin holds no joint moments (its walk had no ground reaction); muscles follow EMG and effort alone"
            )
        return tuple(notes)

    def step(
        self,
        now_ns: int,
        joints: JointSample | None,
        envelope: EnvelopeSample | None = None,
        imus: Mapping[str, ImuSample] | None = None,
        keypoints: KeypointSample | None = None,
    ) -> TwinEstimate:
        """Process one tick with the newest of every input.

        Parameters
        ----------
        now_ns : stamp of the sample that triggers the tick, a joint state's while the encoders live. Ticks come in
            order; one that lies more than CLOCK_SET_S back starts everything anew.
        imus : topic -> sample, those of `live.samples.IMUS` that came already.
        """
        imus = imus or {}
        self._sequence += 1
        if self._stamp is not None and self._stamp - now_ns > CLOCK_SET_S * NS_PER_S:
            self._start()
        self._stamp = now_ns
        hips = self._hips.step(now_ns, joints, imus)
        phase = self._phase.step(now_ns, hips.told_angle, hips.told_rate)
        position, velocity, spread = self._posture(now_ns, phase, hips, keypoints)
        emg, borrowed = self._emg.step(now_ns, envelope)
        exo = joints.effort if joints is not None and fresh(joints, now_ns) else NO_PAIR
        muscles = self._muscles.step(now_ns / NS_PER_S, position, velocity, phase, exo, emg, borrowed)
        inputs = (joints, envelope, *(imus.get(topic) for topic in IMUS), keypoints)
        seen = [self._keypoints.complaint] if self._keypoints.complaint else []
        if any(abs(torque) > EXO_TORQUE_MAX_NM for torque in exo):
            seen.append(f"the exo reports a torque of over {EXO_TORQUE_MAX_NM:g} Nm, which is not used")
        return TwinEstimate(
            stamp_ns=now_ns,
            sequence=self._sequence,
            position=position,
            velocity=velocity,
            moment=muscles.moment,
            position_sd=spread,
            moment_sd=muscles.moment_sd,
            activation=muscles.activation,
            activation_sd=muscles.activation_sd,
            force=muscles.force,
            phase=phase,
            events=self._events.step(phase),
            input_stamps=tuple(sample.stamp_ns if sample else 0 for sample in inputs),
            complaints=(*hips.complaints, *self._emg.complaints, *seen),
        )

    def _posture(
        self, now_ns: int, phase: PhaseEstimate, hips: HipState, keypoints: KeypointSample | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Position, velocity and standard deviation (6,) of all leg coordinates."""
        position, velocity, spread = (np.empty(len(LEG_COORDINATES)) for _ in range(3))
        for i, row in enumerate(HIP_ROWS):
            position[row], velocity[row], spread[row] = hips.angle[i], hips.rate[i], hips.sd[i]
        trust = phase.confidence
        reference = {}
        for name, curve in self._curves.items():
            at = phase.left if name.endswith("_l") else phase.right
            value, slope = curve.at(at)
            standing, _ = curve.at(MID_STANCE)
            velocity[LEG_COORDINATES.index(name)] = trust * slope * phase.rate
            known = math.hypot(REFERENCE_SD, self._spread[name].at(at)[0], slope * phase.phase_sd)
            sd = math.hypot(trust * known, (1.0 - trust) * UNKNOWN_JOINT_SD)
            reference[name] = (trust * value + (1.0 - trust) * standing, sd)
        for name, (angle, sd) in self._keypoints.step(now_ns, keypoints, reference).items():
            row = LEG_COORDINATES.index(name)
            position[row], spread[row] = angle, sd
        return position, velocity, spread
