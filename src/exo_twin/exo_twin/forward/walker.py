"""The compiled walker, opened for tracking: names resolved to indices once.

All vectors are in MuJoCo's order of degrees of freedom, SI units; every joint
is a slide or a hinge, so positions and velocities share their indices.
"""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
from exo_common.errors import ExoError
from exo_common.frames import HIPS, LEG_COORDINATES, SIDES
from numpy.typing import NDArray

from exo_twin.planar_muscles import MUSCLES

ROOT = ("pelvis_tx", "pelvis_tz", "pelvis_tilt")
IMU_SITES = ("imu_pelvis", "imu_thigh_l", "imu_thigh_r")
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
    motors : (2,) hip exo actuators; motor_gain : (2,) Nm per unit of control.
    feet : (2,) bodies; heel, toe : (2,) geoms of their rearmost and foremost contact.
    contacts : per foot the contact geoms.
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
        self.motor_gain = model.actuator_gear[self.motors, 0] * model.actuator_gainprm[self.motors, 0]
        self.feet = np.array([self._id(mujoco.mjtObj.mjOBJ_BODY, f"foot_{side}") for side in SIDES])
        self.contacts = [self._contact_geoms(int(body)) for body in self.feet]
        self.mass = float(np.sum(model.body_mass))
        self.pose(np.array(model.qpos0))
        forward = [self.data.geom_xpos[geoms, 0] for geoms in self.contacts]
        self.heel = np.array([g[int(np.argmin(x))] for g, x in zip(self.contacts, forward, strict=True)])
        self.toe = np.array([g[int(np.argmax(x))] for g, x in zip(self.contacts, forward, strict=True)])

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
        geoms = self.contacts[foot]
        return float(np.min(self.data.geom_xpos[geoms, 2] - self.model.geom_size[geoms, 0]))

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
            raise ExoError(f"{self._path} has no {kind.name.removeprefix('mjOBJ_').lower()} '{name}'; make the twin again")
        return int(found)

    def _dofs(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        return np.array([self.model.jnt_dofadr[self._id(mujoco.mjtObj.mjOBJ_JOINT, name)] for name in names])

    def _contact_geoms(self, foot: int) -> NDArray[np.int64]:
        model = self.model
        bodies = [b for b in range(model.nbody) if b == foot or model.body_parentid[b] == foot]
        colliding = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
        geoms = np.flatnonzero(np.isin(model.geom_bodyid, bodies) & colliding)
        if len(geoms) < 2:
            raise ExoError(f"{self._path} has a foot with fewer than two contact points; make the twin again")
        return geoms
