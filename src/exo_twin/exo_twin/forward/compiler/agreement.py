"""How well the compiled muscles agree with OpenSim's, on poses no fit has seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES
from exo_twin.forward.compiler.force_fit import velocity_error
from exo_twin.forward.compiler.groups import GroupSamples
from exo_twin.planar_muscles import PlanarMuscles

FloatArray = NDArray[np.float64]

MOMENT_ARM_LIMIT = 5e-3  # m RMSE, above which a muscle is named in the warnings
FORCE_LIMIT = 0.08  # RMSE of F_max
SETTLED = 1.0  # activation


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Root-mean-square errors against OpenSim per muscle.

    Attributes
    ----------
    poses : number of held-out random poses.
    moment_arm_mm, length_mm, isometric_pct : the compiled MuJoCo walker at full
        activation, mm and % of F_max.
    polynomial_moment_arm_mm, polynomial_isometric_pct : the live nodes' polynomials and curves.
    force_velocity_pct : the fitted force-velocity curve, % of the isometric force.
    """

    poses: int
    moment_arm_mm: dict[str, float]
    length_mm: dict[str, float]
    isometric_pct: dict[str, float]
    polynomial_moment_arm_mm: dict[str, float]
    polynomial_isometric_pct: dict[str, float]
    force_velocity_pct: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For quality.yaml: worst figures first, then every muscle; two decimals."""
        fields = dataclasses.asdict(self)
        rounded = {k: ({m: round(v, 2) for m, v in d.items()} if isinstance(d, dict) else d) for k, d in fields.items()}
        return {
            "moment_arm_mm_max": round(max(self.moment_arm_mm.values()), 2),
            "isometric_pct_max": round(max(self.isometric_pct.values()), 2),
            **rounded,
        }

    def warnings(self) -> list[str]:
        """One sentence per muscle outside tolerance."""
        found = []
        for name, error in self.moment_arm_mm.items():
            if error > 1e3 * MOMENT_ARM_LIMIT:
                found.append(
                    f"{name}: the walker's moment arm is {error:.1f} mm RMS off OpenSim's "
                    f"(limit {1e3 * MOMENT_ARM_LIMIT:.0f} mm); do not trust this muscle's share"
                )
        for name, error in self.isometric_pct.items():
            if error > 100.0 * FORCE_LIMIT:
                found.append(
                    f"{name}: the walker's isometric force is {error:.1f} % F_max RMS off OpenSim's "
                    f"(limit {100.0 * FORCE_LIMIT:.0f} %); do not trust this muscle's strength"
                )
        return found


def measure_agreement(
    walker: Any, muscles: PlanarMuscles, samples: Mapping[str, GroupSamples], offsets: Mapping[str, float]
) -> Agreement:
    """Compare the compiled walker and the polynomials with the held-out OpenSim samples.

    Parameters
    ----------
    walker : the compiled mujoco.MjModel.
    offsets : per muscle, m to add to MuJoCo's tendon length to get OpenSim's.
    """
    data = mujoco.MjData(walker)
    dof = {name: int(walker.joint(name).dofadr[0]) for name in LEG_COORDINATES}
    address = {name: int(walker.joint(name).qposadr[0]) for name in LEG_COORDINATES}
    results: dict[str, dict[str, float]] = {f.name: {} for f in dataclasses.fields(Agreement) if f.name != "poses"}
    still = np.zeros(len(LEG_COORDINATES))
    for index, (name, group) in enumerate(samples.items()):
        actuator = int(walker.actuator(name).id)
        activation = int(walker.actuator(name).actadr[0])
        columns = [LEG_COORDINATES.index(c) for c in group.coordinates]
        rows = []
        for pose in group.held_out_poses:
            mujoco.mj_resetData(walker, data)
            q = still.copy()
            for coordinate, angle in zip(group.coordinates, pose, strict=True):
                data.qpos[address[coordinate]] = angle
                q[LEG_COORDINATES.index(coordinate)] = angle
            data.act[activation] = SETTLED
            mujoco.mj_forward(walker, data)
            dense = np.zeros((walker.nu, walker.nv))
            mujoco.mju_sparse2dense(
                dense,
                data.actuator_moment,
                data.moment_rownnz,
                data.moment_rowadr,
                data.moment_colind,
            )
            moment = dense[actuator]
            own = muscles.moment_arms(q)[index, columns]
            full = np.zeros(len(samples))
            full[index] = SETTLED
            rows.append(
                [
                    data.actuator_length[actuator] + offsets[name],
                    -data.actuator_force[actuator],
                    muscles.force(full, q, still)[index],
                    *(-moment[dof[c]] for c in group.coordinates),
                    *own,
                ]
            )
        table = np.array(rows)
        k = len(group.coordinates)
        force = group.held_out_active + group.held_out_passive
        results["length_mm"][name] = 1e3 * _rms(table[:, 0] - group.held_out_length)
        results["isometric_pct"][name] = 100.0 * _rms(table[:, 1] - force) / group.max_isometric_force
        results["polynomial_isometric_pct"][name] = 100.0 * _rms(table[:, 2] - force) / group.max_isometric_force
        results["moment_arm_mm"][name] = 1e3 * _worst(table[:, 3 : 3 + k] - group.held_out_arms)
        results["polynomial_moment_arm_mm"][name] = 1e3 * _worst(table[:, 3 + k :] - group.held_out_arms)
        results["force_velocity_pct"][name] = 100.0 * velocity_error(group, muscles.curves[index])
    return Agreement(len(next(iter(samples.values())).held_out_poses), **results)


def _rms(error: FloatArray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def _worst(errors: FloatArray) -> float:
    """Largest RMS over the crossed coordinates."""
    return max(_rms(column) for column in errors.T)
