"""Force plates and feet in, the force on each foot out, with the plates' lag, the valid window and every doubt."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import CUTOFF_HZ, smooth
from exo_capture.gait_events import GaitEvents
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.foot_forces import foot_force, total_wrench
from exo_twin.inverse.foot_stances import Step, match, stances
from exo_twin.inverse.inverse_dynamics import WholeBody
from exo_twin.inverse.known_times import Doubt, beside_plates, both_known, known, longest, recorded, unrecorded
from exo_twin.inverse.plate_checks import (
    check_clock,
    half_feet,
    no_foot_under,
    refuse_long,
    shared_plates,
    stray_pressure,
    wrong_feet,
)
from exo_twin.inverse.plate_contacts import prepare, without
from exo_twin.inverse.plate_lag import CONTACT_SD_S, Lag, contact_lag, dynamics_lag
from exo_twin.inverse.plate_signals import PlateSignal, check_units

FloatArray = NDArray[np.float64]

FEET = {"l": "calcn_l", "r": "calcn_r"}  # OpenSim's usual bodies
FOOT_POINTS = ("Ankle", "Heel", "BigToe")


@dataclasses.dataclass(frozen=True)
class GroundReaction:
    """Measured forces on both feet at the times of the motion.

    Attributes
    ----------
    time : (n,) s, markers' clock.
    forces : side -> force on that foot; zero where it is not known.
    known : side -> (n,) whether the foot is in the air, or alone on a plate that records.
    window : s, the longest time in which both feet are known and somebody stands: whole-body residuals and the
        moments of both legs are valid in it. None if there is no such time.
    lag : of the plates behind the markers.
    steps : the contacts and the stances they belong to.
    notes : what was done, in sentences.
    warnings : what is doubtful, in sentences.
    """

    time: FloatArray
    forces: dict[str, ExternalForce]
    known: dict[str, NDArray[np.bool_]]
    window: tuple[float, float] | None
    lag: Lag
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def external(self) -> tuple[ExternalForce, ...]:
        """The forces for inverse dynamics."""
        return tuple(self.forces[side] for side in SIDES)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(n,) frames inside the window."""
        if self.window is None:
            return np.zeros(len(self.time), dtype=bool)
        return np.asarray((self.time >= self.window[0]) & (self.time <= self.window[1]))


def measured_ground_reaction(
    signals: Sequence[PlateSignal],
    feet: Markers,
    events: GaitEvents,
    mass: float,
    needed: WholeBody | None = None,
    cutoff_hz: float | None = CUTOFF_HZ,
    bodies: Mapping[str, str] = FEET,
) -> GroundReaction:
    """The force on each foot, at the times of the feet's markers.

    Which foot stands on which plate follows from the feet's own places, whatever a file says.

    Parameters
    ----------
    signals : plates or external loads, in OpenSim's frame as the feet are.
    feet : keypoints of the walk (LAnkle, LHeel, LBigToe and the right ones), m, evenly spaced in time.
    events : of the same keypoints.
    mass : of the wearer, kg.
    needed : what the motion needs of the world in the same frames, low-passed at CUTOFF_HZ without phase (of inverse
        dynamics, with or without external forces). It tells the lag, and feet partly beside a plate; without it
        the lag is taken from contact times, which are less certain.
    cutoff_hz : see foot_force.
    bodies : side -> body of the model that carries the foot.

    Raises
    ------
    ExoError : one sentence, where no force can be trusted: units, sign, clock, exchanged plates, or no foot on any
        plate.
    """
    _check_inputs(feet, mass, needed)
    columns = [feet.names.index(f"{side.upper()}{point}") for side in SIDES for point in FOOT_POINTS]
    check_units(signals, feet.position[:, columns], mass)
    prepared, contacts, notes = prepare(tuple(signals))
    stands = stances(events, feet)
    steps, strange = match(prepared, contacts, stands, feet)
    if not steps:
        raise ExoError("no foot stands where the plates are loaded; plates and markers have different frames or trials")
    check_clock(steps, prepared)
    warnings = [no_foot_under(contact, prepared) for contact in strange]
    warnings += wrong_feet(steps, prepared, bodies)
    prepared = without(prepared, strange)
    doubts = beside_plates(stands, steps)
    whole = both_known(feet.time, prepared, stands, doubts, 0.0)
    lag = _lag(feet.time, prepared, steps, needed, whole)
    refuse_long(lag.seconds)
    lag = dataclasses.replace(lag, contact_seconds=contact_lag(steps), corrected=lag.seconds if lag.sure else 0.0)
    (notes if lag.method == "dynamics" else warnings).append(lag.sentence())
    if lag.contradicted:
        warnings.append(lag.contradiction())
    shared, steps = shared_plates(steps, stands, prepared, feet, lag.corrected)
    halves: list[Doubt] = []
    if needed is not None:
        seen = recorded(feet.time, prepared, lag.corrected)
        raw = total_wrench(prepared, feet.time + lag.corrected)[0][:, 1]
        # Where nothing was recorded the motion stands in, so that the filter spreads nothing wrong from there.
        measured = smooth(np.where(seen, raw, needed.force[:, 1])[:, None], feet.rate_hz, CUTOFF_HZ)[:, 0]
        halves, told = half_feet(steps, stands, prepared, feet.time, measured, needed.force[:, 1], seen)
        warnings += told
    missing = unrecorded(steps, prepared, lag.corrected)
    warnings += [doubt.sentence() for doubt in (*missing, *shared, *halves)]
    warnings += stray_pressure(steps, prepared, feet, lag.corrected)
    doubts += [*missing, *shared, *halves]
    window = longest(feet.time, both_known(feet.time, prepared, stands, doubts, lag.corrected))
    if window is None:
        warnings.append("at no time are all standing feet on plates; only single legs can be analysed")
    else:
        notes.append(f"all standing feet are on plates from {window[0]:.2f} to {window[1]:.2f} s")
    certain = {side: known(feet.time, side, doubts) for side in SIDES}
    forces = {}
    for side in SIDES:
        own = [step for step in steps if step.stance.side == side]
        force = foot_force(bodies[side], prepared, own, feet.time, lag.corrected, cutoff_hz)
        forces[side] = _silent(force, ~certain[side])
    return GroundReaction(feet.time, forces, certain, window, lag, tuple(steps), tuple(notes), tuple(warnings))


def _check_inputs(feet: Markers, mass: float, needed: WholeBody | None) -> None:
    if not mass > 0.0:
        raise ExoError(f"a wearer's mass of {mass:g} kg is impossible; give it in kg")
    if needed is not None and (needed.force.shape != (len(feet.time), 3) or not np.isfinite(needed.force).all()):
        raise ExoError("the force that the motion needs has gaps or other frames than the feet; cut both alike")


def _lag(
    time: FloatArray,
    signals: Sequence[PlateSignal],
    steps: Sequence[Step],
    needed: WholeBody | None,
    whole: NDArray[np.bool_],
) -> Lag:
    """This trial's own lag, by the best method there is."""
    found = None if needed is None else dynamics_lag(time, needed, signals, whole)
    if found is not None:
        return found
    by_contact = contact_lag(steps)
    return Lag(by_contact, CONTACT_SD_S, "contact times") if np.isfinite(by_contact) else Lag(0.0, np.nan, "none")


def _silent(force: ExternalForce, where: NDArray[np.bool_]) -> ExternalForce:
    """A force that is zero in some frames."""
    keep = ~where[:, None]
    return ExternalForce(force.body, keep * force.force, force.point, keep * force.free_moment)
