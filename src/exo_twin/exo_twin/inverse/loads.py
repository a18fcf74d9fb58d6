"""What a walk loads the wearer with: the ground's force on each foot and the moments of the leg joints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import stretches
from exo_capture.gait_events import GaitEvents
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers, write_storage
from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.dynamics_files import force_table
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.external_loads import write_external_loads
from exo_twin.inverse.foot_floor import floor_under
from exo_twin.inverse.foot_stances import stances
from exo_twin.inverse.inverse_dynamics import Dynamics, InverseDynamics, WholeBody
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.kinematic_tree import flexion_sign as flexion_sign
from exo_twin.inverse.mixed_reaction import OTHER, mixed
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.plate_consistency import check_consistency
from exo_twin.inverse.plate_signals import STANDARD_GRAVITY, PlateSignal
from exo_twin.inverse.plates import GroundReaction, measured_ground_reaction
from exo_twin.inverse.predicted_reaction import predict, predict_other

FloatArray = NDArray[np.float64]

CONTRADICTED = 0.15  # of body weight: predicted forces that miss what the motion needs by more are not of this walk
LONGEST_GAP_S = 0.25  # of a foot, bridged; as long as capture fills gaps of markers
SHORTEST_S = 0.05  # of a contradiction that is told: shorter ones are landings
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
    missed : (n, 6) what the motion needs and the predicted forces do not give: N, and Nm about the centre of mass.
    plates : what the plates said; None without plates or where they could not be used.
    dynamics : of all coordinates, OpenSim's signs.
    warnings : sentences.
    """

    time: FloatArray
    moments: dict[str, FloatArray]
    forces: dict[str, ExternalForce]
    measured: dict[str, NDArray[np.bool_]]
    predicted: dict[str, ExternalForce]
    missed: FloatArray
    plates: GroundReaction | None
    dynamics: Dynamics
    tree: KinematicTree
    warnings: tuple[str, ...]

    def quality(self) -> dict[str, Any]:
        """Figures for a report: how much was measured, what did not add up, how well the prediction did."""
        weight = self.dynamics.whole_body.mass * STANDARD_GRAVITY
        figures: dict[str, Any] = {
            "ground_reaction": "measured" if self.plates is not None else "predicted",
            "measured_share": {side: round(float(self.measured[side].mean()), 3) for side in SIDES},
            "predicted_missed_force_rms_pct_bw": _percent(np.linalg.norm(self.missed[:, :3], axis=1), weight),
            "predicted_missed_moment_rms_nm": _rms(np.linalg.norm(self.missed[:, 3:], axis=1)),
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
    stands = stances(events, feet)
    floor = floor_under(tree, time, motion.q, stands)
    predicted = predict(needed, feet, stands, floor.height)
    warnings = list(floor.warnings)
    plates: GroundReaction | None = None
    if signals:
        try:
            plates = measured_ground_reaction(signals, feet, events, inertia.total_mass, needed)
            given = solver.solve(motion.q, motion.speed, motion.acceleration, plates.external).whole_body
            together = np.sum([force.force for force in plates.external], axis=0)
            level = (floor.height["l"] + floor.height["r"]) / 2.0
            warnings += [*plates.warnings, *check_consistency(given, together, plates.valid, level)]
        except ExoError as refusal:
            plates = None
            warnings.append(f"the force plates were not used: {refusal}")
    missed = _missed(needed, predicted)
    if plates is None:
        warnings.append(NO_PLATES)
        wrong = float(_contradicted(needed, missed).mean())
        if wrong > 0.5:
            raise ExoError(
                f"the feet do not stand when the motion needs the ground, in {100.0 * wrong:.0f} % of the time; "
                "check the feet's markers, and that nothing else carried the wearer"
            )
        measured, forces = {side: np.zeros(len(time), dtype=bool) for side in SIDES}, predicted
    else:
        measured = plates.known
        rest = {
            side: predict_other(needed, side, plates.forces[OTHER[side]], feet, stands, floor.height) for side in SIDES
        }
        forces = mixed(time, measured, plates.forces, rest, predicted)
    guessed = ~(measured["l"] & measured["r"])
    warnings += _contradictions(time, guessed & _contradicted(needed, _missed(needed, forces)))
    dynamics = solver.solve(motion.q, motion.speed, motion.acceleration, list(forces.values()))
    moments = {name: flexion_sign(tree, name) * dynamics.of(name) for name in LEG_COORDINATES}
    return WalkLoads(time, moments, forces, measured, predicted, missed, plates, dynamics, tree, tuple(warnings))


def _at(feet: Markers, time: FloatArray) -> Markers:
    """The feet at the motion's times; NaN in gaps too long to be bridged, and as far beyond what is known."""
    position = np.full((len(time), len(feet.names), 3), np.nan)
    for i in range(len(feet.names)):
        known = np.isfinite(feet.position[:, i]).all(axis=1)
        seen = feet.time[known]
        if not len(seen):
            continue
        after = np.searchsorted(seen, time).clip(0, len(seen) - 1)
        before = np.where(seen[after] <= time, after, (after - 1).clip(0))
        beyond = np.maximum(seen[0] - time, time - seen[-1])
        bridged = (seen[after] - seen[before] <= LONGEST_GAP_S) & (beyond <= LONGEST_GAP_S)
        for axis in range(3):
            values = np.interp(time, seen, feet.position[known, i, axis])
            position[:, i, axis] = np.where(bridged, values, np.nan)
    return Markers(time, feet.names, position)


def _missed(needed: WholeBody, forces: Mapping[str, ExternalForce]) -> FloatArray:
    """What the motion needs and the forces do not give, (n, 6) N and Nm about the centre of mass."""
    force = needed.force - np.sum([force.force for force in forces.values()], axis=0)
    given = np.sum([force.moment_about(needed.centre) for force in forces.values()], axis=0)
    return np.hstack([force, needed.moment_about(needed.centre) - given])


def _contradicted(needed: WholeBody, missed: FloatArray) -> NDArray[np.bool_]:
    """(n,) frames in which forces miss what the motion needs by too much."""
    return np.asarray(np.linalg.norm(missed[:, :3], axis=1) > CONTRADICTED * needed.mass * STANDARD_GRAVITY)


def _contradictions(time: FloatArray, where: NDArray[np.bool_]) -> list[str]:
    """The sentence on predicted forces that the motion contradicts, with their times; none where it does not."""
    spans = [(time[rows[0]], time[rows[-1]]) for rows in stretches(where)]
    told = ", ".join(f"{a:.2f} to {b:.2f} s" for a, b in spans if b - a >= SHORTEST_S)
    if not told:
        return []
    return [
        f"predicted forces and motion disagree by more than {100.0 * CONTRADICTED:.0f} % of body weight from {told}; "
        "moments there are doubtful: a foot's event, or something that carries the wearer, is missing"
    ]


def _percent(values: FloatArray, weight: float) -> float:
    return _rms(100.0 * values / weight)


def _rms(values: FloatArray) -> float:
    return round(float(np.sqrt(np.mean(np.square(values)))), 1)
