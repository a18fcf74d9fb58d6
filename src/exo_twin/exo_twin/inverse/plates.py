"""Force plates and feet in, the force on each foot out, with the plates' lag, the valid window and every doubt."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import CUTOFF_HZ, smooth, stretches
from exo_capture.gait_events import GaitEvents
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.foot_forces import foot_force, total_wrench
from exo_twin.inverse.foot_stances import Stance, Step, match, stances
from exo_twin.inverse.inverse_dynamics import WholeBody
from exo_twin.inverse.plate_checks import (
    SIDE_NAMES,
    Doubt,
    check_clock,
    half_feet,
    no_foot_under,
    refuse_long,
    shared_plates,
    stray_pressure,
    wrong_feet,
)
from exo_twin.inverse.plate_contacts import prepare
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
    known : side -> (n,) whether the foot is in the air or alone on a plate.
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
    known_lag: Lag | None = None,
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
        dynamics, with or without external forces); it tells the lag, and feet partly beside a plate. Without it the lag is taken from contact times, which are less certain.
    cutoff_hz : see foot_force.
    bodies : side -> body of the model that carries the foot.
    known_lag : of the same set-up (plate_lag.pooled_lag), taken instead of this trial's own.

    Raises
    ------
    ExoError : one sentence, where no force can be trusted: units, sign, clock, exchanged plates, or no foot on any
        plate.
    """
    if not mass > 0.0:
        raise ExoError(f"a wearer's mass of {mass:g} kg is impossible; give it in kg")
    if needed is not None and (needed.force.shape != (len(feet.time), 3) or not np.isfinite(needed.force).all()):
        raise ExoError("the force that the motion needs has gaps or other frames than the feet; cut both alike")
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
    uncovered = [_doubt(stance) for stance in stands if stance not in [step.stance for step in steps]]
    lag = _lag(prepared, feet.time, steps, needed, _valid(feet.time, prepared, stands, uncovered, 0.0), known_lag)
    refuse_long(lag.seconds)
    if lag.contradicted:
        warnings.append(
            f"by the contact times the plates run {1e3 * lag.contact_seconds:+.0f} ms behind the markers, by the "
            f"dynamics {1e3 * lag.seconds:+.0f} ms; check the feet's markers and the wearer's mass"
        )
    doubts, steps = shared_plates(steps, stands, prepared, feet, lag.corrected)
    if needed is not None:
        measured = smooth(total_wrench(prepared, feet.time + lag.corrected)[0], feet.rate_hz, CUTOFF_HZ)
        halves, told = half_feet(steps, stands, prepared, feet.time, measured[:, 1], needed.force[:, 1])
        doubts += halves
        warnings += told
    warnings += [
        f"{doubt.why}; the force on the {SIDE_NAMES[doubt.side]} foot is not known from {doubt.start:.2f} to "
        f"{doubt.end:.2f} s"
        for doubt in doubts
    ]
    warnings += stray_pressure(steps, prepared, feet, lag.corrected)
    (notes if lag.method == "dynamics" else warnings).append(lag.sentence())
    known = {side: _known(feet.time, side, [*uncovered, *doubts]) for side in SIDES}
    valid = _valid(feet.time, prepared, stands, [*uncovered, *doubts], lag.corrected)
    window = _longest(feet.time, valid)
    if window is None:
        warnings.append("at no time are all standing feet on plates; only single legs can be analysed")
    else:
        notes.append(f"all standing feet are on plates from {window[0]:.2f} to {window[1]:.2f} s")
    forces = {}
    for side in SIDES:
        own = [step for step in steps if step.stance.side == side]
        force = foot_force(bodies[side], prepared, own, feet.time, lag.corrected, cutoff_hz)
        keep = known[side][:, None]
        forces[side] = ExternalForce(
            force.body, np.where(keep, force.force, 0.0), force.point, np.where(keep, force.free_moment, 0.0)
        )
    return GroundReaction(feet.time, forces, known, window, lag, tuple(steps), tuple(notes), tuple(warnings))


def _lag(
    signals: Sequence[PlateSignal],
    time: FloatArray,
    steps: Sequence[Step],
    needed: WholeBody | None,
    valid: NDArray[np.bool_],
    known_lag: Lag | None,
) -> Lag:
    """The best known lag; corrected only if it is certainly not zero."""
    by_contact = contact_lag(steps)
    found = known_lag
    if found is None and needed is not None:
        found = dynamics_lag(time, needed, signals, valid)
    if found is None and np.isfinite(by_contact):
        found = Lag(by_contact, CONTACT_SD_S, "contact times")
    if found is None:
        return Lag(0.0, np.nan, "none")
    return dataclasses.replace(found, contact_seconds=by_contact, corrected=found.seconds if found.sure else 0.0)


def _doubt(stance: Stance) -> Doubt:
    return Doubt(stance.side, stance.start, stance.end, "the foot stands beside the plates")


def _known(time: FloatArray, side: str, doubts: Sequence[Doubt]) -> NDArray[np.bool_]:
    known = np.ones(len(time), dtype=bool)
    for doubt in doubts:
        if doubt.side == side:
            known &= (time < doubt.start) | (time > doubt.end)
    return known


def _valid(
    time: FloatArray, signals: Sequence[PlateSignal], stands: Sequence[Stance], doubts: Sequence[Doubt], lag: float
) -> NDArray[np.bool_]:
    """(n,) frames in which somebody stands, the plates record, and both feet are known."""
    standing = np.zeros(len(time), dtype=bool)
    for stance in stands:
        standing |= (time >= stance.start) & (time <= stance.end)
    start = max(float(signal.time[0]) for signal in signals) - lag
    end = min(float(signal.time[-1]) for signal in signals) - lag
    recorded = (time >= start) & (time <= end)
    return np.asarray(standing & recorded & _known(time, "l", doubts) & _known(time, "r", doubts))


def _longest(time: FloatArray, mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    runs = [run for run in stretches(mask) if len(run) > 1]
    if not runs:
        return None
    best = max(runs, key=len)
    return float(time[best[0]]), float(time[best[-1]])
