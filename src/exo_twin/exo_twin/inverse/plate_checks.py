"""What can be wrong between plates and feet, each in one sentence: clocks, exchanged or shared plates, half feet.

The limits are round numbers beyond what the walks of gait_speeds and walking_3d show; no others were looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.foot_stances import OUTLINE_M, Stance, Step, distance_to_foot
from exo_twin.inverse.known_times import SIDE_NAMES, Doubt
from exo_twin.inverse.plate_contacts import Contact
from exo_twin.inverse.plate_lag import CORRECTABLE_S
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]

APART_S = 0.2  # lags of two steps of one recording that differ by more are no common lag
STRAY_SHARE = 0.2  # of an overlap's load outside the foot's outline: another foot is on the plate, too
OUTLASTS_S = 0.1  # a load this long before or after the own stance is another foot's
INSIDE_SHARE = 0.8  # of a step's load; a centre of pressure that leaves the foot more often is doubtful
SUPPORT_MARGIN_S = 0.03  # at each end of a single support, where the feet's events are uncertain
# Of what the motion needs while one foot stands alone; 48 whole feet on plates (gait_speeds) carry 0.95 to 1.02.
CARRIED = (0.85, 1.15)
ALIKE = 0.05  # shares of all steps as near to each other point to the mass or the calibration


def check_clock(steps: Sequence[Step], signals: Sequence[PlateSignal]) -> None:
    """Refuse plates whose contacts are not the feet's, by time.

    Raises
    ------
    ExoError : for plates exchanged with one another, or out of step with the markers altogether.
    """
    known = [(step, float(np.mean(list(step.lags.values())))) for step in steps if step.lags]
    if not known:
        return
    lags = [lag for _, lag in known]
    if max(lags) - min(lags) > APART_S:
        told = ", ".join(f"{signals[step.contact.signal].name} {lag:+.2f} s" for step, lag in known)
        raise ExoError(
            f"the plates are loaded where the feet stand, but at other times ({told}): the forces of two plates "
            "are exchanged, or not of this trial; check the plates' channels"
        )
    refuse_long(float(np.median(lags)))


def refuse_long(lag: float) -> None:
    """Refuse plates that are later or earlier than any delay of amplifiers and filters.

    Raises
    ------
    ExoError : for a lag (s) beyond CORRECTABLE_S.
    """
    if abs(lag) > CORRECTABLE_S:
        raise ExoError(
            f"plates and markers are not synchronised: the feet load the plates {abs(lag):.2f} s too "
            f"{'late' if lag > 0 else 'early'}, more than the {CORRECTABLE_S:g} s that can be corrected; "
            "export both with a common start"
        )


def no_foot_under(contact: Contact, signals: Sequence[PlateSignal]) -> str:
    """The sentence on a contact that no foot explains."""
    return (
        f"{signals[contact.signal].name} is loaded from {contact.start:.2f} to {contact.end:.2f} s while no foot "
        "stands there; its force was left out"
    )


def wrong_feet(steps: Sequence[Step], signals: Sequence[PlateSignal], bodies: Mapping[str, str]) -> list[str]:
    """Sentences on forces that a file applies to the foot that does not stand there."""
    found = []
    for i, signal in enumerate(signals):
        own = {step.stance.side for step in steps if step.contact.signal == i}
        said = next((side for side, body in bodies.items() if body == signal.body), None)
        if said is None and signal.body and signal.body[-2:] in ("_l", "_r"):
            said = signal.body[-1]
        for side in sorted(own - {said}) if said else []:
            found.append(
                f"{signal.name} is applied to {signal.body}, but the {SIDE_NAMES[side]} foot stands there; "
                f"it was given to the {SIDE_NAMES[side]} foot: exchange the bodies in the file"
            )
    return found


def shared_plates(
    steps: Sequence[Step], stands: Sequence[Stance], signals: Sequence[PlateSignal], feet: Markers, lag: float
) -> tuple[list[Doubt], list[Step]]:
    """Times in which both feet load one plate, and the steps with their contacts cut to the own stance there.

    A foot that stands without a plate of its own may stand on the other's: then the
    centre of pressure leaves the other's outline, or the contact outlasts its stance.
    """
    covered = [step.stance for step in steps]
    doubts, own_parts = [], []
    for step in steps:
        own, signal = step.stance, signals[step.contact.signal]
        at = signal.time - lag
        start, end = step.contact.start - lag, step.contact.end - lag
        for other in stands:
            begin, stop = max(other.start, start), min(other.end, end)
            if other.side == own.side or other in covered or stop <= begin:
                continue
            rows = np.flatnonzero((at >= begin) & (at <= stop) & (signal.vertical > 0.0))
            beyond = max(own.start - begin, stop - own.end) > OUTLASTS_S
            outside = _outside(signal, rows, own.side, feet, lag)
            if outside > STRAY_SHARE or (step.too_long and beyond):
                why = f"both feet load {signal.name}"
                doubts += [Doubt(side, begin, stop, why) for side in (own.side, other.side)]
                first, last = np.searchsorted(at, (own.start, own.end))
                contact = dataclasses.replace(
                    step.contact, first=max(step.contact.first, int(first)), last=min(step.contact.last, int(last))
                )
                step = dataclasses.replace(step, contact=contact)
        own_parts.append(step)
    return doubts, own_parts


def stray_pressure(steps: Sequence[Step], signals: Sequence[PlateSignal], feet: Markers, lag: float) -> list[str]:
    """Sentences on steps whose centre of pressure leaves the foot's outline at that time."""
    found = []
    for step in steps:
        signal = signals[step.contact.signal]
        rows = np.arange(step.contact.first, step.contact.last + 1)
        outside = _outside(signal, rows, step.stance.side, feet, lag)
        if outside > 1.0 - INSIDE_SHARE:
            found.append(
                f"the centre of pressure of {signal.name} lies outside the {SIDE_NAMES[step.stance.side]} foot for "
                f"{100.0 * outside:.0f} % of the load; check the plate's position and the foot's markers"
            )
    return found


def half_feet(
    steps: Sequence[Step],
    stands: Sequence[Stance],
    signals: Sequence[PlateSignal],
    time: FloatArray,
    measured: FloatArray,
    needed: FloatArray,
    recorded: NDArray[np.bool_],
) -> tuple[list[Doubt], list[str]]:
    """Steps with a part of the foot beside the plate: alone on the ground, it carries less than the motion needs.

    Parameters
    ----------
    time : (n,) s, markers' clock.
    measured, needed : (n,) N, vertical, low-passed alike: all plates together, and what the motion needs.
    recorded : (n,) whether the plates recorded.

    Returns
    -------
    Doubts, and sentences on a mass or calibration that does not fit.
    """
    shares = {}
    for i, step in enumerate(steps):
        alone = (time > step.stance.start + SUPPORT_MARGIN_S) & (time < step.stance.end - SUPPORT_MARGIN_S) & recorded
        for other in stands:
            if other.side != step.stance.side:
                alone &= (time < other.start - SUPPORT_MARGIN_S) | (time > other.end + SUPPORT_MARGIN_S)
        if alone.any():
            shares[i] = float(measured[alone].sum() / needed[alone].sum())
    values = list(shares.values())
    if not values:
        return [], []
    if len(values) > 1 and np.ptp(values) < ALIKE and not CARRIED[0] < np.median(values) < CARRIED[1]:
        return [], [
            f"the plates carry {100.0 * np.median(values):.0f} % of what the motion needs in every step; check the "
            "wearer's mass and the plates' calibration"
        ]
    doubts = [
        Doubt(
            steps[i].stance.side,
            steps[i].stance.start,
            steps[i].stance.end,
            f"{signals[steps[i].contact.signal].name} carries {100.0 * share:.0f} % of what the motion needs: a part "
            "of the foot is beside it",
        )
        for i, share in shares.items()
        if share < CARRIED[0]
    ]
    over = [
        f"{signals[steps[i].contact.signal].name} carries {100.0 * share:.0f} % of what the motion needs; check its "
        "calibration"
        for i, share in shares.items()
        if share > CARRIED[1]
    ]
    return doubts, over


def _outside(signal: PlateSignal, rows: NDArray[np.int64], side: str, feet: Markers, lag: float) -> float:
    """Share of the load of some samples outside a foot's outline."""
    load = signal.vertical[rows]
    if load.sum() <= 0.0:
        return 0.0
    away = distance_to_foot(feet, side, signal.time[rows] - lag, signal.point[rows]) > OUTLINE_M
    return float(load[away].sum() / load.sum())
