"""Where and when each foot stands, from its own motion, and which of these stances a plate measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.gait_events import GaitEvents
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers
from exo_twin.inverse.plate_contacts import Contact
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]

# A sole reaches this far from the line between heel and toe markers: half a foot's width (5 cm), 1 cm of shoe and
# the 2 cm that plates, markers and their common calibration disagree by.
OUTLINE_M = 0.08
UNDER_SHARE = 0.3  # of a contact's load inside a foot's outline: part of it may belong to this foot
MAPPED = 50  # samples of a contact that are laid over a stance
GROUND = [0, 2]  # x and z, the horizontal axes
TOO_LONG = 1.4  # times a stance: a longer contact is of two feet
SIMILAR = 0.1  # shares that differ by less do not decide; time does
RESTING_M = 0.1  # a foot without any event that moves less stood all the time


@dataclasses.dataclass(frozen=True)
class Stance:
    """One time that a foot stands: side, s on the markers' clock; whether the recording shows it land and leave."""

    side: str
    start: float
    end: float
    lands: bool
    leaves: bool

    @property
    def middle(self) -> float:
        """Half way, s."""
        return (self.start + self.end) / 2.0


@dataclasses.dataclass(frozen=True)
class Step:
    """A contact and the stance it belongs to.

    Attributes
    ----------
    inside : share of the contact's load that lies within the foot's outline, contact and stance laid over each other.
    """

    contact: Contact
    stance: Stance
    inside: float

    @property
    def too_long(self) -> bool:
        """Whether the plate is loaded for much longer than the foot stands."""
        return _too_long(self.contact, self.stance)

    @property
    def lags(self) -> dict[str, float]:
        """How much later, s, the plate sees the landing ("strike") and the leaving ("off") than the markers do."""
        found: dict[str, float] = {}
        if self.too_long:
            return found
        if self.contact.whole_start and self.stance.lands:
            found["strike"] = self.contact.start - self.stance.start
        if self.contact.whole_end and self.stance.leaves:
            found["off"] = self.contact.end - self.stance.end
        return found


def stances(events: GaitEvents, feet: Markers) -> tuple[Stance, ...]:
    """All stances of both feet, in order of time; the first and last of a foot may be cut by the recording.

    Parameters
    ----------
    events : of the motion; not of a file, whose events are often the plates' and as late as these.
    feet : with LHeel, LBigToe, RHeel and RBigToe.
    """
    begin, end = float(feet.time[0]), float(feet.time[-1])
    found = []
    for side in SIDES:
        marks = sorted(
            [(time, "strike") for time in events.heel_strikes[side]] + [(time, "off") for time in events.toe_offs[side]]
        )
        if not marks:
            heel = feet.position[:, feet.names.index(f"{side.upper()}Heel")]
            if np.isfinite(heel).any() and np.nanmax(np.nanmax(heel, axis=0) - np.nanmin(heel, axis=0)) < RESTING_M:
                found.append(Stance(side, begin, end, False, False))
            continue
        landed: float | None = begin if marks[0][1] == "off" else None
        lands = False
        for time, kind in marks:
            if kind == "strike":
                landed, lands = time, True
            elif landed is not None:
                found.append(Stance(side, landed, time, lands, True))
                landed = None
        if landed is not None:
            found.append(Stance(side, landed, end, lands, False))
    return tuple(sorted(found, key=lambda stance: stance.start))


def distance_to_foot(feet: Markers, side: str, time: FloatArray, point: FloatArray) -> FloatArray:
    """Horizontal distance (m,) m of points (m, 3) at times (m,) s from the line between heel and toes of a foot."""
    ends = []
    for keypoint in ("Heel", "BigToe"):
        place = feet.position[:, feet.names.index(f"{side.upper()}{keypoint}")][:, GROUND]
        known = np.isfinite(place).all(axis=1)
        if not known.any():
            return np.full(len(time), np.inf)
        ends.append(np.column_stack([np.interp(time, feet.time[known], place[known, k]) for k in range(2)]))
    heel, toe = ends
    along = toe - heel
    reach = point[:, GROUND] - heel
    share = np.clip(np.sum(reach * along, axis=1) / np.maximum(np.sum(along**2, axis=1), 1e-9), 0.0, 1.0)
    return np.asarray(np.linalg.norm(reach - share[:, None] * along, axis=1))


def match(
    signals: Sequence[PlateSignal], contacts: Sequence[Contact], stands: Sequence[Stance], feet: Markers
) -> tuple[list[Step], list[Contact]]:
    """Steps, and the contacts that no foot explains.

    The place decides, laid over in time, so that plates on a clock of their own find their feet, too; among
    stances at the same place, as on a treadmill, the nearest in time.
    """
    steps, strange = [], []
    for contact in contacts:
        signal = signals[contact.signal]
        candidates = [Step(contact, stance, _inside(signal, contact, stance, feet)) for stance in stands]
        best = max((step.inside for step in candidates), default=0.0)
        if best < UNDER_SHARE:
            strange.append(contact)
            continue
        middle = (contact.start + contact.end) / 2.0
        near = [step for step in candidates if step.inside >= best - SIMILAR]
        steps.append(min(near, key=lambda step: abs(step.stance.middle - middle)))
    return steps, strange


def _too_long(contact: Contact, stance: Stance) -> bool:
    return contact.end - contact.start > TOO_LONG * (stance.end - stance.start)


def _inside(signal: PlateSignal, contact: Contact, stance: Stance, feet: Markers) -> float:
    """Share of a contact's load inside a foot's outline, its first sample laid on the landing, its last on the leaving.

    Where the recording cuts either, the other end and the real time are used.
    """
    rows = np.unique(np.linspace(contact.first, contact.last, MAPPED).astype(int))
    time = signal.time[rows]
    share = (time - contact.start) / max(contact.end - contact.start, 1e-9)
    whole = stance.lands and stance.leaves and contact.whole_start and contact.whole_end
    if whole and not _too_long(contact, stance):
        at = stance.start + share * (stance.end - stance.start)
    elif stance.lands and contact.whole_start:
        at = stance.start + time - contact.start
    elif stance.leaves and contact.whole_end:
        at = stance.end + time - contact.end
    else:
        at = time
    at = np.clip(at, stance.start, stance.end)
    load = signal.vertical[rows]
    near = distance_to_foot(feet, stance.side, at, signal.point[rows]) < OUTLINE_M
    return float(load[near].sum() / max(load.sum(), 1e-9))
