"""When the force on a foot is known, and when both feet's are: the window in which the whole body can be analysed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import stretches
from exo_common.frames import SIDES
from exo_twin.inverse.foot_stances import Stance, Step
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]

SIDE_NAMES = {"l": "left", "r": "right"}


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A time, s on the markers' clock, in which the force on a foot is not known, and why."""

    side: str
    start: float
    end: float
    why: str

    def sentence(self) -> str:
        """For a report."""
        foot = SIDE_NAMES[self.side]
        return f"{self.why}; the force on the {foot} foot is not known from {self.start:.2f} to {self.end:.2f} s"


def beside_plates(stands: Sequence[Stance], steps: Sequence[Step]) -> list[Doubt]:
    """The stances that no plate measured."""
    covered = [step.stance for step in steps]
    why = "the foot stands beside the plates"
    return [Doubt(stance.side, stance.start, stance.end, why) for stance in stands if stance not in covered]


def unrecorded(steps: Sequence[Step], signals: Sequence[PlateSignal], lag: float) -> list[Doubt]:
    """The parts of measured stances that lie before the plates' recording begins or after it ends.

    Parameters
    ----------
    lag : s, by which the plates are late.
    """
    found = []
    for step in steps:
        stance, signal = step.stance, signals[step.contact.signal]
        begin, end = float(signal.time[0]) - lag, float(signal.time[-1]) - lag
        slack = 1.0 / signal.rate_hz
        if stance.start < begin - slack:
            why = f"the recording of {signal.name} begins at {begin:.2f} s, while the foot stands on it"
            found.append(Doubt(stance.side, stance.start, min(begin, stance.end), why))
        if stance.end > end + slack:
            why = f"the recording of {signal.name} ends at {end:.2f} s, while the foot stands on it"
            found.append(Doubt(stance.side, max(end, stance.start), stance.end, why))
    return found


def recorded(time: FloatArray, signals: Sequence[PlateSignal], lag: float) -> NDArray[np.bool_]:
    """(n,) frames in which all plates record; they are `lag` s late."""
    start = max(float(signal.time[0]) for signal in signals) - lag
    end = min(float(signal.time[-1]) for signal in signals) - lag
    return np.asarray((time >= start) & (time <= end))


def known(time: FloatArray, side: str, doubts: Sequence[Doubt]) -> NDArray[np.bool_]:
    """(n,) frames outside all doubts about a foot: in the air, or alone on a plate."""
    result = np.ones(len(time), dtype=bool)
    for doubt in doubts:
        if doubt.side == side:
            result &= (time < doubt.start) | (time > doubt.end)
    return result


def both_known(
    time: FloatArray, signals: Sequence[PlateSignal], stands: Sequence[Stance], doubts: Sequence[Doubt], lag: float
) -> NDArray[np.bool_]:
    """(n,) frames in which somebody stands, all plates record, and both feet are known; the plates are `lag` s late."""
    standing = np.zeros(len(time), dtype=bool)
    for stance in stands:
        standing |= (time >= stance.start) & (time <= stance.end)
    standing &= recorded(time, signals, lag)
    for side in SIDES:
        standing &= known(time, side, doubts)
    return standing


def longest(time: FloatArray, mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    """From when to when, s, the longest run of a mask lasts; None without two frames in a row."""
    best = max(stretches(mask), key=len, default=np.empty(0, dtype=np.int64))
    return (float(time[best[0]]), float(time[best[-1]])) if len(best) > 1 else None
