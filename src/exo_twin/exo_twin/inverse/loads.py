"""What a walk loads the wearer with: the ground's force on each foot and the moments of the leg joints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.gait_events import GaitEvents
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers, write_storage
from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.dynamics_files import force_table
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.external_loads import write_external_loads
from exo_twin.inverse.foot_stances import stances
from exo_twin.inverse.inverse_dynamics import Dynamics, InverseDynamics
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.plate_signals import PlateSignal
from exo_twin.inverse.plates import GroundReaction, measured_ground_reaction
from exo_twin.inverse.predicted_reaction import predict

FloatArray = NDArray[np.float64]

# Residuals at the pelvis that good recordings stay below (Hicks et al. 2015, J Biomech Eng 137:020905): force as share
# of the largest ground reaction, moment as share of it times the height of the centre of mass.
FORCE_RESIDUAL, MOMENT_RESIDUAL = 0.05, 0.01
NO_PLATES = "the ground's force was predicted from the motion, not measured; moments are estimates"


@dataclasses.dataclass(frozen=True)
class WalkLoads:
    """Forces and moments over a walk.

    Attributes
    ----------
    time : (n,) s.
    moments : LEG_COORDINATES -> (n,) Nm, flexion and dorsiflexion positive, by the forces in `forces`.
    forces : side -> the ground's on that foot: measured where it is known, predicted elsewhere.
    measured : side -> (n,) whether the force on that foot was measured.
    predicted : side -> predicted throughout.
    plates : what the plates said; None without plates or where they could not be used.
    dynamics : of all coordinates, OpenSim's signs.
    warnings : sentences.
    """

    time: FloatArray
    moments: dict[str, FloatArray]
    forces: dict[str, ExternalForce]
    measured: dict[str, NDArray[np.bool_]]
    predicted: dict[str, ExternalForce]
    plates: GroundReaction | None
    dynamics: Dynamics
    tree: KinematicTree
    warnings: tuple[str, ...]

    def quality(self) -> dict[str, Any]:
        """Figures for a report: how much was measured, what did not add up, how well the prediction did."""
        weight = self.dynamics.whole_body.mass * 9.80665
        figures: dict[str, Any] = {
            "ground_reaction": "measured" if self.plates is not None else "predicted",
            "measured_share": {side: round(float(self.measured[side].mean()), 3) for side in SIDES},
        }
        if self.plates is not None:
            lag = self.plates.lag
            figures["plates"] = {
                "lag_ms": round(1e3 * lag.seconds, 1),
                "lag_sd_ms": round(1e3 * lag.sd, 1),
                "corrected_ms": round(1e3 * lag.corrected, 1),
                "valid_s": None if self.plates.window is None else [round(t, 3) for t in self.plates.window],
                "notes": list(self.plates.notes),
            }
            if self.plates.valid.any():
                inside = self.plates.valid
                residual = np.linalg.norm(self.dynamics.whole_body.residual_force[inside], axis=1)
                figures["plates"]["residual_force_rms_pct_bw"] = _percent(residual, weight)
                error = [self.predicted[side].force[inside, 1] - self.forces[side].force[inside, 1] for side in SIDES]
                figures["plates"]["predicted_vertical_per_foot_rms_pct_bw"] = _percent(np.concatenate(error), weight)
        return figures

    def save(self, folder: Path) -> None:
        """Write `inverse_dynamics.sto`, `ground_reaction.xml` and `ground_reaction.mot`, as OpenSim reads them."""
        write_storage(folder / "inverse_dynamics.sto", force_table(self.time, self.dynamics, self.tree))
        write_external_loads(folder / "ground_reaction.xml", self.time, list(self.forces.values()))


def walk_loads(
    tree: KinematicTree,
    inertia: BodyInertia,
    time: FloatArray,
    q: FloatArray,
    feet: Markers,
    events: GaitEvents,
    signals: Sequence[PlateSignal] | None = None,
) -> WalkLoads:
    """Ground reaction and joint moments of a walk.

    Parameters
    ----------
    tree, inertia : of the same scaled model.
    time, q : (n,) s evenly spaced, (n, n_coordinates) rad and m, not low-passed, without gaps, walking along +x.
    feet : the walk's keypoints (LAnkle, LHeel, LBigToe and the right ones), m, without gaps while the motion lasts.
    events : heel strikes and toe-offs of the same walk.
    signals : force plates, or None.

    Raises
    ------
    ExoError : if the motion or the feet cannot be used. Plates that cannot be used cost a warning: their forces are
        replaced by predicted ones.
    """
    motion = derivatives(time, q)
    solver = InverseDynamics(tree, inertia)
    needed = solver.solve(motion.q, motion.speed, motion.acceleration).whole_body
    feet = _at(feet, time)
    predicted = predict(needed, feet, stances(events, feet))
    plates: GroundReaction | None = None
    warnings: list[str] = []
    if signals:
        try:
            plates = measured_ground_reaction(signals, feet, events, inertia.total_mass, needed)
            warnings += plates.warnings
        except ExoError as refusal:
            warnings.append(f"the force plates were not used: {refusal}")
    if plates is None:
        warnings.append(NO_PLATES)
    measured = {side: np.zeros(len(time), dtype=bool) if plates is None else plates.known[side] for side in SIDES}
    forces = {
        side: predicted[side] if plates is None else _chosen(measured[side], plates.forces[side], predicted[side])
        for side in SIDES
    }
    dynamics = solver.solve(motion.q, motion.speed, motion.acceleration, list(forces.values()))
    if plates is not None and plates.valid.any():
        warnings += _judge(dynamics, forces, plates.valid)
    moments = {name: flexion_sign(tree, name) * dynamics.of(name) for name in LEG_COORDINATES}
    return WalkLoads(time, moments, forces, measured, predicted, plates, dynamics, tree, tuple(warnings))


def _at(feet: Markers, time: FloatArray) -> Markers:
    """The feet at the motion's times."""
    position = np.empty((len(time), len(feet.names), 3))
    for i in range(len(feet.names)):
        for axis in range(3):
            known = np.isfinite(feet.position[:, i, axis])
            if known.sum() < 2:
                position[:, i, axis] = np.nan
                continue
            position[:, i, axis] = np.interp(time, feet.time[known], feet.position[known, i, axis])
    return Markers(time, feet.names, position)


def _chosen(known: NDArray[np.bool_], measured: ExternalForce, predicted: ExternalForce) -> ExternalForce:
    rows = known[:, None]
    return ExternalForce(
        measured.body,
        np.where(rows, measured.force, predicted.force),
        np.where(rows, measured.point, predicted.point),
        np.where(rows, measured.free_moment, predicted.free_moment),
    )


def _judge(dynamics: Dynamics, forces: dict[str, ExternalForce], valid: NDArray[np.bool_]) -> list[str]:
    """Sentences where plates and motion do not add up."""
    body = dynamics.whole_body
    most = float(np.linalg.norm(sum(force.force for force in forces.values()), axis=1)[valid].max())
    force = float(np.sqrt(np.mean(np.sum(body.residual_force[valid] ** 2, axis=1))))
    moment = float(np.sqrt(np.mean(np.sum(body.residual_moment[valid] ** 2, axis=1))))
    height = float(np.mean(body.centre[valid, 1]))
    warnings = []
    if force > FORCE_RESIDUAL * most:
        warnings.append(
            f"motion and plates disagree by {force:.0f} N at the pelvis ({100.0 * force / most:.0f} % of the ground's "
            f"force, {100.0 * FORCE_RESIDUAL:.0f} % is good); check the wearer's mass and the plates' calibration"
        )
    if moment > MOMENT_RESIDUAL * most * height:
        warnings.append(
            f"motion and plates disagree by {moment:.0f} Nm at the pelvis "
            f"({MOMENT_RESIDUAL * most * height:.0f} Nm is good); moments of the hip are less certain than of the ankle"
        )
    return warnings


def flexion_sign(tree: KinematicTree, coordinate: str) -> float:
    """-1 for the knee of a model that counts its flexion negative, else 1."""
    i = tree.index(coordinate)
    return -1.0 if coordinate.startswith("knee_angle") and abs(tree.lower[i]) > abs(tree.upper[i]) else 1.0


def _percent(values: FloatArray, weight: float) -> float:
    return round(100.0 * float(np.sqrt(np.mean(np.square(values)))) / weight, 1)
