"""The ground's force on each foot where no plate measured it: from the motion, and from where the feet stand.

Newton gives the sum: the force is m (a - g) over the body, the moment about its centre of mass
the rate of its angular momentum. The rest follows from contact:

* one standing foot takes all of it;
* in double support the weight passes from the trailing to the leading foot as the zero-moment
  point passes between them, starting and ending with the stances;
* under each foot the pressure runs from heel to toes. Pressure and horizontal force together must
  give the moment; what is missing is put right in both, in the proportion of what each is uncertain by;
* both feet push towards one point above the middle of their pressures, at the height of the
  centre of mass (cf. Maus et al. 2010, Nat Commun 1:70), so that the leading leg brakes while the trailing one drives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.foot_stances import Stance
from exo_twin.inverse.inverse_dynamics import WholeBody
from exo_twin.inverse.plates import FEET

FloatArray = NDArray[np.float64]

X, Y, Z = 0, 1, 2
# Course of the centre of pressure in level walking, share of the stance -> share of the way from heel to big toe
# (heel to forefoot in the first third, forefoot until toe-off; e.g. Han, Paik & Im 1999, Gait Posture 10:248).
STANCE_SHARE = (0.0, 0.1, 0.3, 0.6, 0.85, 1.0)
FOOT_SHARE = (0.05, 0.15, 0.35, 0.6, 0.75, 0.85)
TRAILING, LEADING = 0.8, (0.1, 0.25)  # the same in double support; the leading foot's at its start, and its growth
# The zero-moment point decides how the weight is passed, but for this share of double support at either end.
EDGE = 0.15
# What motion capture leaves uncertain: the horizontal force (share of body weight; Σ m a of skin markers) and the
# place of the pressure under a foot (m), forwards and sideways.
FORCE_SD = (0.04, 0.02)
PRESSURE_SD = (0.03, 0.015)
MOST_SHIFT = 0.06  # m: the pressure stays under the foot
LEAST_SUPPORT = 0.2  # of body weight: with less, places of pressure mean nothing
MOST_TWIST = 15.0  # Nm, free moment of one foot in walking stays below


def predict(
    body: WholeBody, feet: Markers, stances: Sequence[Stance], floor: float = 0.0, bodies: Mapping[str, str] = FEET
) -> dict[str, ExternalForce]:
    """Ground reaction on both feet, at the times of the feet.

    Parameters
    ----------
    body : from inverse dynamics without external forces, n frames.
    feet : LHeel, LBigToe, RHeel and RBigToe at the same n frames, m, OpenSim's ground frame, walking along +x.
    stances : when each foot stands (foot_stances.stances).
    floor : height of the floor, m.
    bodies : side -> body of the model that carries the foot.

    Raises
    ------
    ExoError : if feet and motion have different frames, a foot has gaps, or no foot ever stands.
    """
    if len(feet.time) != len(body.force):
        raise ExoError(f"the feet have {len(feet.time)} frames and the motion {len(body.force)}; cut both alike")
    ends = {side: (_place(feet, side, "Heel"), _place(feet, side, "BigToe")) for side in SIDES}
    standing = {side: _during(feet.time, stances, side) for side in SIDES}
    if not any(on.any() for on in standing.values()):
        raise ExoError("no foot stands in this recording, so nothing can be said of the ground's force; check its part")
    upward = np.maximum(body.force[:, Y], 0.0)
    share = _shares(body, feet.time, ends, standing, stances)
    pressure = _pressures(feet.time, ends, stances, floor)
    return _forces(body, upward, share, pressure, floor, bodies)


def _place(feet: Markers, side: str, point: str) -> FloatArray:
    place = feet.position[:, feet.names.index(f"{side.upper()}{point}")]
    if not np.isfinite(place).all():
        raise ExoError(
            f"the {point} of the {side} foot has gaps; fill or cut them before predicting the ground's force"
        )
    return np.asarray(place)


def _during(time: FloatArray, stances: Sequence[Stance], side: str) -> NDArray[np.bool_]:
    on = np.zeros(len(time), dtype=bool)
    for stance in stances:
        if stance.side == side:
            on |= (time >= stance.start) & (time <= stance.end)
    return on


def _shares(
    body: WholeBody,
    time: FloatArray,
    ends: Mapping[str, tuple[FloatArray, FloatArray]],
    standing: Mapping[str, NDArray[np.bool_]],
    stances: Sequence[Stance],
) -> dict[str, FloatArray]:
    """Which share of the vertical force each foot takes, (n,) 0..1."""
    both = standing["l"] & standing["r"]
    share = {side: (standing[side] & ~both) + 0.5 * both for side in SIDES}
    # M_z = x F_y on the floor.
    zero_moment = body.moment[:, Z] / np.maximum(body.force[:, Y], LEAST_SUPPORT * _weight(body))
    for last in stances:
        for new in stances:
            if last.side == new.side or not last.start < new.start < last.end < new.end:
                continue
            rows = np.flatnonzero((time >= new.start) & (time <= last.end))
            passed = (time[rows] - new.start) / (last.end - new.start)
            by_time = passed**2 * (3.0 - 2.0 * passed)
            heel, toe = (end[rows, X] for end in ends[new.side])
            ahead = heel + (LEADING[0] + LEADING[1] * passed) * (toe - heel)
            heel, toe = (end[rows, X] for end in ends[last.side])
            behind = heel + TRAILING * (toe - heel)
            apart = ahead - behind
            steps_on = apart > (toe - heel) / 2.0  # feet side by side tell nothing
            by_moment = np.where(steps_on, (zero_moment[rows] - behind) / np.where(steps_on, apart, 1.0), by_time)
            trust = np.minimum(1.0, np.minimum(passed, 1.0 - passed) / EDGE)
            taken = by_time + trust * (np.clip(by_moment, 0.0, 1.0) - by_time)
            share[new.side][rows], share[last.side][rows] = taken, 1.0 - taken
    return share


def _pressures(
    time: FloatArray, ends: Mapping[str, tuple[FloatArray, FloatArray]], stances: Sequence[Stance], floor: float
) -> dict[str, FloatArray]:
    """Usual place (n, 3) m of the pressure under each foot, on the floor."""
    places = {}
    for side in SIDES:
        along = np.full(len(time), FOOT_SHARE[0])
        for stance in stances:
            rows = (time >= stance.start) & (time <= stance.end)
            if stance.side == side and rows.any():
                along[rows] = np.interp(_progress(time[rows], stance), STANCE_SHARE, FOOT_SHARE)
        heel, toe = ends[side]
        places[side] = heel + along[:, None] * (toe - heel)
        places[side][:, Y] = floor
    return places


def _progress(time: FloatArray, stance: Stance) -> FloatArray:
    """Share of the stance that is over; one that the recording cuts is taken for its middle part."""
    begin, end = 0.0 if stance.lands else STANCE_SHARE[2], 1.0 if stance.leaves else STANCE_SHARE[3]
    return begin + (end - begin) * (time - stance.start) / max(stance.end - stance.start, 1e-9)


def _forces(
    body: WholeBody,
    upward: FloatArray,
    share: Mapping[str, FloatArray],
    pressure: Mapping[str, FloatArray],
    floor: float,
    bodies: Mapping[str, str],
) -> dict[str, ExternalForce]:
    """Pressure and horizontal force made to give the moment about the centre of mass, then shared by the feet."""
    weight = _weight(body)
    support = np.maximum(upward, LEAST_SUPPORT * weight)
    height = body.centre[:, Y] - floor
    turning = body.moment_about(body.centre)
    load = {side: share[side] * upward for side in SIDES}
    force = {side: np.zeros_like(body.force) for side in SIDES}
    place = {side: pressure[side].copy() for side in SIDES}
    # Moment about z by what acts along x, and with the other sign about x by what acts along z.
    for axis, moment, force_sd, pressure_sd in (
        (X, turning[:, Z], FORCE_SD[0] * weight, PRESSURE_SD[0]),
        (Z, -turning[:, X], FORCE_SD[1] * weight, PRESSURE_SD[1]),
    ):
        middle = np.sum([load[side] * place[side][:, axis] for side in SIDES], axis=0) / support
        missing = moment - support * (middle - body.centre[:, axis]) - height * body.force[:, axis]
        by_force, by_pressure = height * force_sd, support * pressure_sd
        pull = missing / (by_force**2 + by_pressure**2)
        total = body.force[:, axis] + pull * by_force * force_sd
        shift = np.clip(pull * by_pressure * pressure_sd, -MOST_SHIFT, MOST_SHIFT)
        meeting = (total * height + support * (middle + shift)) / support
        for side in SIDES:
            place[side][:, axis] += shift
            force[side][:, axis] = load[side] * (meeting - place[side][:, axis]) / height
    twist = body.moment[:, Y].copy()
    for side in SIDES:
        force[side][:, Y] = load[side]
        twist -= np.cross(place[side], force[side])[:, Y]
    return {
        side: ExternalForce(
            bodies[side],
            force[side],
            place[side],
            np.outer(np.clip(share[side] * twist, -MOST_TWIST, MOST_TWIST), (0.0, 1.0, 0.0)),
        )
        for side in SIDES
    }


def _weight(body: WholeBody) -> float:
    return body.mass * 9.80665
