"""The compiled walker, opened for tracking: names resolved to indices once.

All vectors are in MuJoCo's order of degrees of freedom, SI units; every joint
is a slide or a hinge, so positions and velocities share their indices.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import HIPS, LEG_COORDINATES, SIDES
from exo_twin.planar_muscles import MUSCLES

ROOT = ("pelvis_tx", "pelvis_tz", "pelvis_tilt")
IMU_SITES = ("imu_pelvis", "imu_thigh_l", "imu_thigh_r")
SOLE = ("heel", "ball", "toe")
PHYSICS_DT_S = 0.001


class Walker:
    """A walker whose contacts and limits are switched off: tracking predicts the ground reaction itself.

    Attributes
    ----------
    model, data : MuJoCo's.
    root : (3,) degrees of freedom of the pelvis, order :data:`ROOT`.
    legs : (6,) degrees of freedom of `LEG_COORDINATES`.
    hips : (2,) of these, left and right.
    muscles : (18,) actuators, order `MUSCLES`; activation_address : (18,) into data.act.
    motors : (2,) hip exo actuators; motor_gain : Nm per unit of control, left, right;
        motor_limit_nm : their strength, left, right.
    feet : (2,) bodies; soles : (2, 3) spheres under them, order :data:`SOLE`; heel, toe : (2,) the outer ones.
    mass : kg.

    Raises
    ------
    ExoError : if the file is no walker of this software.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.model = mujoco.MjModel.from_xml_path(str(path))
        except (ValueError, OSError) as error:
            raise ExoError(f"{path} is no MuJoCo walker ({str(error).splitlines()[0]}); make the twin again") from None
        model = self.model
        model.opt.timestep = PHYSICS_DT_S
        model.opt.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
        self.data = mujoco.MjData(model)
        self._path = path
        if model.nq != model.nv:
            raise ExoError(f"{path} has joints other than slides and hinges; make the twin again")
        self.root = self._dofs(ROOT)
        self.legs = self._dofs(LEG_COORDINATES)
        self.hips = self._dofs(HIPS)
        self.muscles = np.array([self._id(mujoco.mjtObj.mjOBJ_ACTUATOR, name) for name in MUSCLES])
        self.activation_address = model.actuator_actadr[self.muscles]
        if np.any(self.activation_address < 0):
            raise ExoError(f"{path} has muscles without activation dynamics; make the twin again")
        self.motors = np.array([self._id(mujoco.mjtObj.mjOBJ_ACTUATOR, f"hip_exo_{side}") for side in SIDES])
        gear = model.actuator_gear[self.motors, 0]
        self.motor_gain = [float(g) for g in gear * model.actuator_gainprm[self.motors, 0]]
        limited = model.actuator_forcelimited[self.motors].astype(bool)
        strength = np.where(limited, model.actuator_forcerange[self.motors, 1] * gear, np.inf)
        self.motor_limit_nm = [float(nm) for nm in strength]
        self.feet = np.array([self._id(mujoco.mjtObj.mjOBJ_BODY, f"foot_{side}") for side in SIDES])
        geoms = [[self._id(mujoco.mjtObj.mjOBJ_GEOM, f"{part}_{side}") for part in SOLE] for side in SIDES]
        self.soles = np.array(geoms)
        self.heel, self.toe = self.soles[:, 0], self.soles[:, -1]
        self.mass = float(np.sum(model.body_mass))

    def pose(self, q: NDArray[np.float64]) -> None:
        """Put the body at rest in posture `q` (nv,)."""
        self.data.qpos[:] = q
        self.data.qvel[:] = 0.0
        mujoco.mj_kinematics(self.model, self.data)

    def required_force(
        self, q: NDArray[np.float64], qd: NDArray[np.float64], qdd: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Generalised force (nv,) that the motion needs from ground, muscles and exo together."""
        self.data.qpos[:], self.data.qvel[:], self.data.qacc[:] = q, qd, qdd
        mujoco.mj_inverse(self.model, self.data)
        return np.array(self.data.qfrc_inverse)

    def sole_height(self, foot: int) -> float:
        """Height of the lowest contact point of a foot (0 left, 1 right) in the present pose, m."""
        geoms = self.soles[foot]
        return float(np.min(self.data.geom_xpos[geoms, 2] - self.model.geom_size[geoms, 0]))

    def pelvis(self) -> NDArray[np.float64]:
        """Where the pelvis hinges in the present pose, (3,) m."""
        anchor: NDArray[np.float64] = self.data.xanchor[self.model.dof_jntid[self.root[2]]]
        return anchor

    def pressure_point(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """Forward position (2,) m of a place (2,) under each foot, 0 heel to 1 toe, in the present pose."""
        heel = self.data.geom_xpos[self.heel, 0]
        return np.asarray(heel + place * (self.data.geom_xpos[self.toe, 0] - heel))

    def sensor(self, kind: mujoco.mjtSensor, of: mujoco.mjtObj, name: str) -> slice:
        """Where a sensor's values lie in data.sensordata."""
        target = self._id(of, name)
        for i in range(self.model.nsensor):
            if self.model.sensor_type[i] == kind and self.model.sensor_objid[i] == target:
                start = int(self.model.sensor_adr[i])
                return slice(start, start + int(self.model.sensor_dim[i]))
        raise ExoError(f"{self._path} has no {kind.name} sensor on '{name}'; make the twin again")

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        found = mujoco.mj_name2id(self.model, kind, name)
        if found < 0:
            raise ExoError(
                f"{self._path} has no {kind.name.removeprefix('mjOBJ_').lower()} '{name}'; make the twin again"
            )
        return int(found)

    def _dofs(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        return np.array([self.model.jnt_dofadr[self._id(mujoco.mjtObj.mjOBJ_JOINT, name)] for name in names])
