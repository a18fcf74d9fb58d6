"""The tracking twin: the wearer's own motion, with muscles, ground and exo around it.

MuJoCo integrates the walker at 1 kHz. Every control tick (5 ms):

1. acceleration wanted = reference acceleration + critically damped feedback;
2. joint torque needed = inverse dynamics of it, minus the predicted ground
   reaction, minus the torque the exo really applies;
3. 18 activations share it with least effort (`redundancy`), each no faster than
   activation dynamics allow, and are written to the muscle actuators;
4. what the muscles leave over is applied as **reserve** torque at the six leg
   joints, and what the pelvis (and any joint without muscles) still needs as
   **residual** force. Both are reported, as in OpenSim's RRA. They are not small
   print: a motion with large residuals is not explained by its muscles.

So: kinematics are tracked, not predicted. The twin cannot fall, and the wearer
is assumed to keep the motion whatever the exo does, giving up exactly as much
muscle as it helps. That bounds the benefit of assistance from above; real wearers
need time and adapt their motion too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import mujoco
import numpy as np
from numpy.typing import NDArray

from exo_twin.forward.ground_reaction import FORWARD, PLACE, UP, predict
from exo_twin.forward.redundancy import MuscleSharing
from exo_twin.forward.reference import Reference
from exo_twin.forward.walker import PHYSICS_DT_S, Walker

FloatArray = NDArray[np.float64]

TICK_STEPS = 5
TICK_S = TICK_STEPS * PHYSICS_DT_S
# Bandwidth of the feedback around the reference: faster than gait, slower than the tick.
FEEDBACK_RAD_S = 25.0
# Excitation-activation time constants (Thelen 2003) and the least activation of a living muscle.
ACTIVATION_S, DEACTIVATION_S = 0.010, 0.040
ACTIVATION_MIN = 0.01
PHASE = slice(-2, None)  # of a reference's rows
LEG_MUSCLES = 9
LEG_JOINTS = 3
# The muscles that move the hip, in `GROUPS` order within each leg: GLU, HFL, HAM, RF.
HIP_MUSCLES = (0, 1, 2, 3)


@dataclasses.dataclass
class TwinSample:
    """State of the twin at one control tick.

    Attributes
    ----------
    time : s since the start.
    q, qd : (nv,) posture and velocity, the walker's order.
    q_reference : (nv,) of the reference.
    activation, excitation : (18,) 0..1; force : (18,) N along the tendon.
    muscle_moment, reserve : (6,) Nm, order LEG_COORDINATES.
    residual : (nv,) generalised force that neither muscle, ground nor exo supplies,
        zero at the leg joints; root entries in N, N, Nm.
    ground : (2, 2) force on left and right foot, forward and up, N.
    exo_nm : (2,) torque of the exo on the hips.
    phase : (2,) gait phase, left, right.
    """

    time: float
    q: FloatArray
    qd: FloatArray
    q_reference: FloatArray
    activation: FloatArray
    excitation: FloatArray
    force: FloatArray
    muscle_moment: FloatArray
    reserve: FloatArray
    residual: FloatArray
    ground: FloatArray
    exo_nm: FloatArray
    phase: FloatArray


class TrackingTwin:
    """Follows a reference with muscles; step it with :meth:`step`, read :attr:`sample`.

    Deterministic: it holds no random numbers.

    Parameters
    ----------
    start_s : time within the reference at which to begin, s.
    """

    def __init__(self, walker: Walker, reference: Reference, start_s: float = 0.0) -> None:
        self.walker = walker
        self._model, self._data = walker.model, walker.data
        self._stride_time, self._advance = reference.stride_time, reference.advance
        self._rows = np.hstack(
            [
                reference.q,
                reference.qd,
                reference.qdd,
                predict(walker, reference).reshape(len(reference.q), 6),
                reference.phase,
            ]
        )
        self._grid = reference.dt
        if self._stride_time:
            # One more row, the first of the next stride, so that interpolation never wraps.
            self._rows = np.vstack([self._rows, self._rows[:1]])
            self._rows[-1, : self._model.nv] += reference.advance
            self._rows[:, PHASE] = np.unwrap(self._rows[:, PHASE], period=1.0, axis=0)
        self._share = MuscleSharing(LEG_MUSCLES)
        self._moment = np.zeros((self._model.nu, self._model.nv))
        self._needed = np.zeros(self._model.nv)
        self._ground = np.zeros(self._model.nv)
        self._rise = 1.0 - math.exp(-TICK_S / ACTIVATION_S)
        self._decay = 1.0 - math.exp(-TICK_S / DEACTIVATION_S)
        self._start = start_s
        self._steps = 0
        self._activation: FloatArray | None = None
        mujoco.mj_resetData(self._model, self._data)
        row = self._row(start_s)
        nv = self._model.nv
        self._data.qpos[:], self._data.qvel[:] = row[:nv], row[nv : 2 * nv]
        self.sample: TwinSample

    @property
    def time(self) -> float:
        """Simulated time, s."""
        return self._steps * PHYSICS_DT_S

    def step(self, exo_nm: tuple[float, float]) -> bool:
        """One millisecond of physics under this exo torque (left, right, Nm).

        Returns whether this step was a control tick: :attr:`sample`, and
        MuJoCo's sensor data, then hold the state at the beginning of the step.
        """
        data = self._data
        exo_nm = self._actuate(exo_nm)
        tick = self._steps % TICK_STEPS == 0
        if tick:
            mujoco.mj_step1(self._model, data)
            self._control(np.array(exo_nm, dtype=float))
            mujoco.mj_step2(self._model, data)
        else:
            mujoco.mj_step(self._model, data)
        self._steps += 1
        return tick

    def tick(self, exo_nm: tuple[float, float]) -> TwinSample:
        """One whole control tick (5 ms) under constant exo torque; the faster way when nothing changes in between."""
        self.step(exo_nm)
        mujoco.mj_step(self._model, self._data, nstep=TICK_STEPS - 1)
        self._steps += TICK_STEPS - 1
        return self.sample

    def _actuate(self, exo_nm: tuple[float, float]) -> tuple[float, float]:
        """Hand the exo torque to the motors; returns what they can give."""
        limits, gain, motors = self.walker.motor_limit_nm, self.walker.motor_gain, self.walker.motors
        left = min(max(exo_nm[0], -limits[0]), limits[0])
        right = min(max(exo_nm[1], -limits[1]), limits[1])
        self._data.ctrl[motors[0]] = left / gain[0]
        self._data.ctrl[motors[1]] = right / gain[1]
        return left, right

    def _row(self, time: float) -> FloatArray:
        """Reference and ground reaction at a time, interpolated."""
        strides = 0
        if self._stride_time:
            strides = math.floor(time / self._stride_time)
            time -= strides * self._stride_time
        place = min(max(time / self._grid, 0.0), len(self._rows) - 1.0)
        index = min(int(place), len(self._rows) - 2)
        weight = place - index
        row: FloatArray = (1.0 - weight) * self._rows[index] + weight * self._rows[index + 1]
        if strides:
            row[: self._model.nv] += strides * self._advance
        return row

    def _control(self, exo_nm: FloatArray) -> None:
        """Steps 1-4 of the module's description, at the present state."""
        model, data, walker = self._model, self._data, self.walker
        nv = model.nv
        time = self._start + self.time
        row = self._row(time)
        q_reference, qd_reference = row[:nv], row[nv : 2 * nv]
        wanted = (
            row[2 * nv : 3 * nv]
            + 2.0 * FEEDBACK_RAD_S * (qd_reference - data.qvel)
            + FEEDBACK_RAD_S**2 * (q_reference - data.qpos)
        )
        mujoco.mj_mulM(model, data, self._needed, wanted)
        ground = row[3 * nv : PHASE.start].reshape(2, 3)
        self._apply_ground(ground)
        needed = self._needed + data.qfrc_bias - data.qfrc_passive - self._ground
        needed[walker.hips] -= exo_nm

        passive, per_activation = self._muscle_forces(data.qvel + 0.5 * TICK_S * wanted)
        activation, excitation = self._solve(needed, passive, per_activation)
        force = passive + per_activation * activation
        muscle = self._moment[walker.muscles].T @ force
        rest = needed - muscle
        data.act[walker.activation_address] = activation
        data.ctrl[walker.muscles] = activation
        data.qfrc_applied[:] = self._ground + rest
        residual = rest.copy()
        residual[walker.legs] = 0.0
        self.sample = TwinSample(
            time=self.time,
            q=data.qpos.copy(),
            qd=data.qvel.copy(),
            q_reference=q_reference,
            activation=activation,
            excitation=excitation,
            force=-force,
            muscle_moment=muscle[walker.legs],
            reserve=rest[walker.legs],
            residual=residual,
            ground=ground[:, :PLACE],
            exo_nm=exo_nm,
            phase=np.mod(row[PHASE], 1.0),
        )

    def _apply_ground(self, ground: FloatArray) -> None:
        """Ground reaction as generalised force, acting between heel and toe of the foot as it is now."""
        data, walker = self._data, self.walker
        self._ground[:] = 0.0
        none = np.zeros(3)
        for foot in (0, 1):
            heel, toe = data.geom_xpos[walker.heel[foot]], data.geom_xpos[walker.toe[foot]]
            point = heel + ground[foot, PLACE] * (toe - heel)
            point[2] = 0.0
            force = np.array([ground[foot, FORWARD], 0.0, ground[foot, UP]])
            mujoco.mj_applyFT(self._model, data, force, none, point, int(walker.feet[foot]), self._ground)

    def _muscle_forces(self, velocity: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Actuator force of each muscle at zero activation, and its increase per unit of activation, N.

        MuJoCo evaluates its own muscle curves, twice; negative is pulling.
        `velocity` (nv,) is that of the middle of the tick: a muscle's viscosity
        against a foot of 1 kg makes the velocity at its beginning too stale.
        Also refreshes the moment matrix.
        """
        model, data, muscles = self._model, self._data, self.walker.muscles
        mujoco.mju_sparse2dense(
            self._moment, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind
        )
        measured = data.actuator_velocity.copy()
        data.actuator_velocity[:] = self._moment @ velocity
        forces = []
        for activation in (0.0, 1.0):
            data.act[self.walker.activation_address] = activation
            data.ctrl[muscles] = activation
            mujoco.mj_fwdActuation(model, data)
            forces.append(data.actuator_force[muscles])
        data.actuator_velocity[:] = measured
        return forces[0], forces[1] - forces[0]

    def _solve(
        self, needed: FloatArray, passive: FloatArray, per_activation: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Activations (18,) for the needed leg torques, and the excitation that brings them about."""
        before = self._activation
        if before is None:
            low, high = np.full(len(passive), ACTIVATION_MIN), np.ones(len(passive))
        else:
            low = np.maximum(ACTIVATION_MIN, before - self._decay * before)
            high = before + self._rise * (1.0 - before)
        activation = np.empty(len(passive))
        arms = self._moment[np.ix_(self.walker.muscles, self.walker.legs)]
        target = needed[self.walker.legs] - arms.T @ passive
        for leg in (0, 1):
            m = slice(LEG_MUSCLES * leg, LEG_MUSCLES * (leg + 1))
            j = slice(LEG_JOINTS * leg, LEG_JOINTS * (leg + 1))
            A = (arms[m, j] * per_activation[m, None]).T
            activation[m] = self._share.solve(A, target[j], low[m], high[m])
        if before is None:
            excitation = activation.copy()
        else:
            change = activation - before
            excitation = before + change / np.where(change > 0.0, self._rise, self._decay)
            excitation = np.clip(excitation, 0.0, 1.0)
        self._activation = activation
        return activation, excitation


# Exo torque (left, right, Nm) from the sample before: what an assistance law sees.
Assistance = Callable[[TwinSample], tuple[float, float]]


def no_assistance(_: TwinSample) -> tuple[float, float]:
    """The exo worn, powered, and transparent."""
    return (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Record:
    """A run at the control rate; arrays are stacked :class:`TwinSample` fields, time first."""

    time: FloatArray
    q: FloatArray
    q_reference: FloatArray
    activation: FloatArray
    force: FloatArray
    muscle_moment: FloatArray
    reserve: FloatArray
    residual: FloatArray
    ground: FloatArray
    exo_nm: FloatArray
    phase: FloatArray

    def hip_effort(self) -> float:
        """Mean over time of the summed squared activations of the hip muscles of both legs."""
        columns = [leg * LEG_MUSCLES + muscle for leg in (0, 1) for muscle in HIP_MUSCLES]
        return float(np.mean(np.sum(self.activation[:, columns] ** 2, axis=1)))

    def effort(self) -> float:
        """The same over all 18 muscles."""
        return float(np.mean(np.sum(self.activation**2, axis=1)))


def run(twin: TrackingTwin, seconds: float, assistance: Assistance = no_assistance) -> Record:
    """Run for a time under an assistance law, as fast as the machine allows."""
    samples = [twin.tick((0.0, 0.0))]
    while twin.time < seconds:
        samples.append(twin.tick(assistance(samples[-1])))
    fields = [field.name for field in dataclasses.fields(Record)]
    return Record(**{name: np.array([getattr(sample, name) for sample in samples]) for name in fields})
