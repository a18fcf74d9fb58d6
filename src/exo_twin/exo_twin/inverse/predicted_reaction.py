"""The ground's force on each foot where no plate measured it: from the motion, and from where the feet stand.

Newton gives the sum: the force is m (a - g) over the body, the moment about its centre of mass
the rate of its angular momentum. The rest follows from contact:

* one standing foot takes all of it;
* in double support the weight passes from the trailing to the leading foot as the zero-moment
  point passes between them, starting and ending with the stances; where the recording cuts it,
  only the end that was seen is held to;
* under each foot the pressure runs from heel to toes. Pressure and horizontal force together must
  give the moment; what is missing is put right in both, in the proportion of what each is uncertain by;
* both feet push towards one point above the middle of their pressures, at the height of the
  centre of mass (cf. Maus et al. 2010, Nat Commun 1:70), so that the leading leg brakes while the trailing one drives.

Developed while looking at 24 level walks of 12 children at two speeds (gait_speeds): no measure of
agreement on them is a test on unseen people. The constants are of the literature or round numbers, none was
fitted; halving or doubling any of them changes the errors of the hip's moment there by 3 % or less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.foot_stances import Stance
from exo_twin.inverse.inverse_dynamics import WholeBody
from exo_twin.inverse.known_times import SIDE_NAMES
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
USUAL_S = 0.15  # of a double support that the recording cuts: an eighth of a stride
LEAST_WIDTH = 0.1  # m between the heels sideways, from which the zero-moment point tells one from the other
LETS_GO_S = 0.03  # in which a foot takes and leaves what is left over beside a measured one
# What motion capture leaves uncertain: the horizontal force (share of body weight; Σ m a of skin markers) and the
# place of the pressure under a foot (m), forwards and sideways.
FORCE_SD = (0.04, 0.02)
PRESSURE_SD = (0.03, 0.015)
MOST_SHIFT = 0.06  # m: the pressure stays under the foot
LEAST_SUPPORT = 0.2  # of body weight: with less, places of pressure mean nothing
MOST_TWIST = 15.0  # Nm, free moment of one foot in walking stays below


def predict(
    body: WholeBody,
    feet: Markers,
    stances: Sequence[Stance],
    floor: Mapping[str, FloatArray] | None = None,
    bodies: Mapping[str, str] = FEET,
) -> dict[str, ExternalForce]:
    """Ground reaction on both feet, at the times of the feet.

    Parameters
    ----------
    body : from inverse dynamics without external forces, n frames.
    feet : LHeel, LBigToe, RHeel and RBigToe at the same n frames, m, OpenSim's ground frame, walking along +x.
    stances : when each foot stands (foot_stances.stances).
    floor : side -> height (n,) of the floor under that foot, m; by default y = 0.
    bodies : side -> body of the model that carries the foot.

    Raises
    ------
    ExoError : if feet and motion have different frames, a foot has gaps, or no foot ever stands.
    """
    ground = _Ground.under(body, feet, stances, floor)
    standing = {side: _during(feet.time, stances, side) for side in SIDES}
    if not any(on.any() for on in standing.values()):
        raise ExoError("no foot stands in this recording, so nothing can be said of the ground's force; check its part")
    return _forces(body, _shares(body, ground, standing, stances), ground, bodies)


def predict_other(
    body: WholeBody,
    side: str,
    known: ExternalForce,
    feet: Markers,
    stances: Sequence[Stance],
    floor: Mapping[str, FloatArray] | None = None,
    bodies: Mapping[str, str] = FEET,
) -> ExternalForce:
    """Ground reaction on the foot of `side` where that on the other is known: it gets what is left of the needed.

    Beside a foot that was measured nothing has to be said of how the weight is passed. What both disagree by
    goes to the other foot, but for the last moments of its stance, in which it lets go.

    Parameters
    ----------
    known : force on the other foot; n frames, only those in which it is right are of use in the result.
    body, feet, stances, floor, bodies : see predict.

    Raises
    ------
    ExoError : see predict.
    """
    ground = _Ground.under(body, feet, stances, floor)
    origin = np.zeros(3)
    rest = dataclasses.replace(body, force=body.force - known.force, moment=body.moment - known.moment_about(origin))
    other = "r" if side == "l" else "l"
    share = {side: np.zeros(len(feet.time)), other: np.zeros(len(feet.time))}
    for stance in stances:
        if stance.side == side:
            rows = (feet.time >= stance.start) & (feet.time <= stance.end)
            landing = (feet.time[rows] - stance.start) / LETS_GO_S if stance.lands else np.inf
            leaving = (stance.end - feet.time[rows]) / LETS_GO_S if stance.leaves else np.inf
            share[side][rows] = np.clip(np.minimum(landing, leaving), 0.0, 1.0)
    return _forces(rest, share, ground, bodies)[side]


@dataclasses.dataclass(frozen=True)
class _Ground:
    """What the feet stand on: `heel`, `toe` and usual `pressure` side -> (n, 3) m, `floor` side -> (n,) m."""

    time: FloatArray
    heel: dict[str, FloatArray]
    toe: dict[str, FloatArray]
    floor: Mapping[str, FloatArray]
    pressure: dict[str, FloatArray]

    @classmethod
    def under(
        cls, body: WholeBody, feet: Markers, stances: Sequence[Stance], floor: Mapping[str, FloatArray] | None
    ) -> _Ground:
        if len(feet.time) != len(body.force):
            raise ExoError(f"the feet have {len(feet.time)} frames and the motion {len(body.force)}; cut both alike")
        heel, toe = ({side: _place(feet, side, point) for side in SIDES} for point in ("Heel", "BigToe"))
        heights = floor or {side: np.zeros(len(feet.time)) for side in SIDES}
        return cls(feet.time, heel, toe, heights, _pressures(feet.time, heel, toe, stances, heights))


def _place(feet: Markers, side: str, point: str) -> FloatArray:
    place = feet.position[:, feet.names.index(f"{side.upper()}{point}")]
    lost = ~np.isfinite(place).all(axis=1)
    if lost.any():
        first, last = feet.time[np.flatnonzero(lost)[[0, -1]]]
        raise ExoError(
            f"the {point} of the {SIDE_NAMES[side]} foot has gaps between {first:.2f} and {last:.2f} s; "
            "fill or cut them before predicting the ground's force"
        )
    return np.asarray(place)


def _during(time: FloatArray, stances: Sequence[Stance], side: str) -> NDArray[np.bool_]:
    on = np.zeros(len(time), dtype=bool)
    for stance in stances:
        if stance.side == side:
            on |= (time >= stance.start) & (time <= stance.end)
    return on


def _shares(
    body: WholeBody, ground: _Ground, standing: Mapping[str, NDArray[np.bool_]], stances: Sequence[Stance]
) -> dict[str, FloatArray]:
    """Which share of the vertical force each foot takes, (n,) 0..1."""
    both = standing["l"] & standing["r"]
    right = (standing["r"] & ~both) + 0.5 * both
    for ours in stances:
        for others in stances:
            if ours.side != "r" or others.side != "l":
                continue
            rows = (ground.time >= max(ours.start, others.start)) & (ground.time <= min(ours.end, others.end))
            if rows.any():
                right[rows] = _right_share(body, ground, ours, others, rows)
    return {"r": right, "l": np.where(standing["l"] | standing["r"], 1.0 - right, 0.0)}


def _right_share(body: WholeBody, ground: _Ground, right: Stance, left: Stance, rows: NDArray[np.bool_]) -> FloatArray:
    """The right foot's share (m,) in the `rows` of one double support.

    The foot that lands last has nothing at its beginning, the foot that leaves first nothing at its end. What the
    recording cuts off has no such edge; such a double support is taken to last as long as usual.
    """
    time = ground.time[rows]
    start, end = max(right.start, left.start), min(right.end, left.end)
    begins, ends = right.start != left.start, right.end != left.end
    from_share, to_share = float(left.start > right.start), float(right.end > left.end)
    if begins and ends:
        passed = (time - start) / max(end - start, 1e-9)
    elif begins:
        passed, to_share = np.minimum((time - start) / USUAL_S, 1.0), 1.0 - from_share
    elif ends:
        passed, from_share = np.maximum(1.0 - (end - time) / USUAL_S, 0.0), 1.0 - to_share
    else:
        passed, from_share, to_share = np.full(len(time), 0.5), 0.0, 1.0
    by_time = from_share + (to_share - from_share) * passed**2 * (3.0 - 2.0 * passed)
    leader = max(SIDES, key=lambda side: float(np.median(ground.heel[side][rows, X])))
    place = {}
    for side in SIDES:
        along = LEADING[0] + LEADING[1] * passed if side == leader else np.full(len(time), TRAILING)
        place[side] = ground.heel[side][rows] + along[:, None] * (ground.toe[side] - ground.heel[side])[rows]
    floor = (ground.floor["l"] + ground.floor["r"])[rows] / 2.0
    upward = np.maximum(body.force[rows, Y], LEAST_SUPPORT * _weight(body))
    # M_z = x F_y - y F_x and M_x = y F_z - z F_y on the floor.
    zero_moment = {
        X: (body.moment[rows, Z] + floor * body.force[rows, X]) / upward,
        Z: (floor * body.force[rows, Z] - body.moment[rows, X]) / upward,
    }
    half_foot = float(np.median(np.abs(ground.toe["r"] - ground.heel["r"])[rows, X])) / 2.0
    step = np.abs(ground.heel["r"] - ground.heel["l"])[rows].min(axis=0)
    for axis, least in ((X, half_foot), (Z, LEAST_WIDTH)):
        apart = place["r"][:, axis] - place["l"][:, axis]
        if step[axis] > least and np.abs(apart).min() > least / 2.0:
            by_moment = np.clip((zero_moment[axis] - place["l"][:, axis]) / apart, 0.0, 1.0)
            edges = [passed] * begins + [1.0 - passed] * ends
            trust = np.min([np.ones(len(time)), *(edge / EDGE for edge in edges)], axis=0)
            return np.asarray(by_time + trust * (by_moment - by_time))
    return np.asarray(by_time)


def _pressures(
    time: FloatArray,
    heel: Mapping[str, FloatArray],
    toe: Mapping[str, FloatArray],
    stances: Sequence[Stance],
    floor: Mapping[str, FloatArray],
) -> dict[str, FloatArray]:
    """Usual place (n, 3) m of the pressure under each foot, on the floor."""
    places = {}
    for side in SIDES:
        along = np.full(len(time), FOOT_SHARE[0])
        for stance in stances:
            rows = (time >= stance.start) & (time <= stance.end)
            if stance.side == side and rows.any():
                along[rows] = np.interp(_progress(time[rows], stance), STANCE_SHARE, FOOT_SHARE)
        places[side] = heel[side] + along[:, None] * (toe[side] - heel[side])
        places[side][:, Y] = floor[side]
    return places


def _progress(time: FloatArray, stance: Stance) -> FloatArray:
    """Share of the stance that is over; one that the recording cuts is taken for its middle part."""
    begin, end = 0.0 if stance.lands else STANCE_SHARE[2], 1.0 if stance.leaves else STANCE_SHARE[3]
    return begin + (end - begin) * (time - stance.start) / max(stance.end - stance.start, 1e-9)


def _forces(
    body: WholeBody, share: Mapping[str, FloatArray], ground: _Ground, bodies: Mapping[str, str]
) -> dict[str, ExternalForce]:
    """Pressure and horizontal force made to give the moment about the centre of mass, then shared by the feet."""
    weight = _weight(body)
    upward = np.maximum(body.force[:, Y], 0.0)
    support = np.maximum(upward, LEAST_SUPPORT * weight)
    right = 0.5 + 0.5 * (share["r"] - share["l"])
    floor = right * ground.floor["r"] + (1.0 - right) * ground.floor["l"]
    height = body.centre[:, Y] - floor
    turning = body.moment_about(body.centre)
    load = {side: share[side] * upward for side in SIDES}
    force = {side: np.zeros_like(body.force) for side in SIDES}
    place = {side: ground.pressure[side].copy() for side in SIDES}
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
