"""What a force plate measured, whatever file it came from: force, point and free moment over time, checked for units.

Everything is in OpenSim's ground frame (x forward, y up, z right), the force is the ground's on the foot.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_files import ForcePlate
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

STANDARD_GRAVITY = 9.80665  # m/s2
# Highest vertical force on both feet together over body weight: 1.1 in a stroll, about 3 in a run. Of several units
# that would make it possible the one nearest to a walk's is named.
PEAK_SHARE, USUAL_SHARE = (0.6, 4.0), 1.1
FORCE_UNITS = {"kN": 1e3, "kgf": 9.80665, "lbf": 4.448222}  # in N, which the file should have
MOSTLY = 0.9  # of the highest sample: a peak held by more than a single spike
LOADED_SHARE = 0.2  # of the highest force of a plate; above it the centre of pressure is trustworthy
FAR_M = 1.0  # a loaded centre of pressure further from both feet than a stride's half is in another unit or frame
POINT_UNITS = {"mm": 1e-3, "cm": 1e-2}
# A foot's length in a smaller unit is a number above it; in m a centre of pressure moves less.
SPREAD_M = 5.0
MOST_FREE_NM = 50.0  # of one foot: below 10 Nm in walking, a few tens in a turn on the spot
SAME_M = 1e-3  # a marker that a pure turn leaves further away was mended, not only turned


@dataclasses.dataclass(frozen=True)
class PlateSignal:
    """One source of ground reaction, n samples.

    Attributes
    ----------
    name : for messages.
    time : (n,) s on the plates' clock.
    force : (n, 3) N, of the ground on the foot.
    point : (n, 3) m, where it acts; NaN where unknown.
    free_moment : (n, 3) Nm beside the force at its point.
    body : that a file says it acts on (calcn_r, say); None where nobody says.
    """

    name: str
    time: FloatArray
    force: FloatArray
    point: FloatArray
    free_moment: FloatArray
    body: str | None = None

    @property
    def vertical(self) -> FloatArray:
        """Upward force (n,) N."""
        return np.asarray(self.force[:, 1])

    @property
    def rate_hz(self) -> float:
        """Mean sampling rate."""
        return float((len(self.time) - 1) / (self.time[-1] - self.time[0]))

    def turned(self, rotation: FloatArray) -> PlateSignal:
        """The same in a frame turned by a (3, 3) rotation matrix."""
        return dataclasses.replace(
            self,
            force=self.force @ rotation.T,
            point=self.point @ rotation.T,
            free_moment=self.free_moment @ rotation.T,
        )


def plates_of(plates: Sequence[ForcePlate]) -> tuple[PlateSignal, ...]:
    """The plates of a recording that `marker_frame.to_opensim` has turned; time counts from its first marker frame."""
    return tuple(
        PlateSignal(
            f"plate {i}",
            np.arange(len(plate.reaction)) / plate.rate_hz,
            plate.reaction,
            plate.centre_of_pressure,
            np.nan_to_num(plate.free_moment),
        )
        for i, plate in enumerate(plates, start=1)
        if len(plate.reaction) > 1
    )


def turn_between(before: Markers, after: Markers) -> FloatArray:
    """The (3, 3) rotation that took a recording's markers from the lab's frame to OpenSim's.

    Forces from a file of their own must make the same turn as the markers beside them. Labels that were
    mended on the way are left out.

    Raises
    ------
    ExoError : if the two are not the same markers, turned.
    """
    shared = [name for name in before.names if name in after.names]
    a = before.position[:, [before.names.index(name) for name in shared]].reshape(-1, 3)
    b = after.position[:, [after.names.index(name) for name in shared]].reshape(-1, 3)
    use = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    # A turn keeps every marker's distance from the origin; exchanged labels do not.
    use &= np.abs(np.linalg.norm(a, axis=1) - np.linalg.norm(b, axis=1)) < SAME_M
    if use.sum() >= 3:
        left, _, right = np.linalg.svd(b[use].T @ a[use])
        proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
        rotation: FloatArray = left @ proper @ right
        off = np.linalg.norm(a[use] @ rotation.T - b[use], axis=1)
        if float(np.median(off)) < SAME_M:
            return rotation
    raise ExoError("the markers before and after the turn to OpenSim's frame differ; turn the same recording")


def check_units(signals: Sequence[PlateSignal], feet: FloatArray, mass: float) -> None:
    """Refuse forces and points that cannot be N and m, pushing upward.

    Parameters
    ----------
    feet : (n, k, 3) m, points of both feet, in the same frame.
    mass : of the wearer, kg.

    Raises
    ------
    ExoError : naming the unit or sign that would be right, where one would.
    """
    if not signals:
        raise ExoError("the recording has no force plate; give one with plates, or predict the ground reaction")
    _check_force(signals, mass * STANDARD_GRAVITY)
    for signal in signals:
        _check_point(signal, feet)
        _check_free_moment(signal)


def _check_force(signals: Sequence[PlateSignal], weight: float) -> None:
    total = np.sum([np.interp(signals[0].time, s.time, s.vertical) for s in signals], axis=0)
    if not np.isfinite(total).all():
        raise ExoError("the plates' forces have gaps; export them whole")
    if not np.any(total):
        raise ExoError("no plate was ever loaded; choose a trial in which the person steps on the plates")
    share = total[np.argmax(np.abs(total))] * MOSTLY / weight
    if share < -PEAK_SHARE[0]:
        raise ExoError(
            "the plates push downward: the file holds the foot's force on the ground, or y is not up; "
            "export the ground's force on the foot, y up"
        )
    if not PEAK_SHARE[0] <= share <= PEAK_SHARE[1]:
        off = {unit: abs(np.log(abs(share) * factor / USUAL_SHARE)) for unit, factor in FORCE_UNITS.items()}
        unit = min(off, key=lambda name: off[name])
        cure = (
            f"the forces are in {unit}, it seems: export them in N"
            if PEAK_SHARE[0] <= share * FORCE_UNITS[unit] <= PEAK_SHARE[1]
            else "check the plates' calibration, the wearer's mass, and whether a whole foot was on a plate"
        )
        raise ExoError(f"the plates carry at most {100.0 * share:.3g} % of the body weight of {weight:.0f} N; {cure}")


def _check_free_moment(signal: PlateSignal) -> None:
    size = np.linalg.norm(signal.free_moment[_loaded(signal)], axis=1)
    if len(size) and float(np.median(size)) > MOST_FREE_NM:
        raise ExoError(
            f"the free moment of {signal.name} is {np.median(size):.3g} Nm, where feet twist the ground by a few Nm: "
            "it is in Nmm, or about another place than the centre of pressure; export it in Nm about that"
        )


def _loaded(signal: PlateSignal) -> NDArray[np.bool_]:
    """(n,) samples with force enough for a trustworthy centre of pressure."""
    return np.asarray(signal.vertical > LOADED_SHARE * max(float(signal.vertical.max()), 0.0))


def _check_point(signal: PlateSignal, feet: FloatArray) -> None:
    points = signal.point[_loaded(signal)]
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return
    seen = feet.reshape(-1, 3)
    seen = seen[np.isfinite(seen).all(axis=1)][:, [0, 2]]
    middle = np.median(points, axis=0)[[0, 2]]

    def distance(place: FloatArray) -> float:
        return float(np.linalg.norm(seen - place, axis=1).min())

    if distance(middle) > FAR_M:
        small = float(np.ptp(points[:, [0, 2]], axis=0).max()) > SPREAD_M
        off = {unit: distance(middle * factor) for unit, factor in POINT_UNITS.items()}
        unit = min(off, key=lambda name: off[name])
        cure = (
            f"it is in {unit}, it seems: export it in m"
            if small and off[unit] < FAR_M
            else "markers and plates have different frames: export both in the lab's"
        )
        raise ExoError(
            f"the centre of pressure of {signal.name} lies {distance(middle):.3g} m from the nearest foot; {cure}"
        )
