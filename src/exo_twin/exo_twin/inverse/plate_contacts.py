"""When a plate is loaded: baseline and drift taken off, contacts found, their cut-off edges drawn out to zero."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import stretches
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]

CONTACT_N = 20.0  # vertical force from which a foot stands on a plate, common in gait analysis
REST_N = 3.0  # a contact's flank is followed down to it, above a good plate's noise
FOOT_OF_FLANK_S = 0.05  # and so far at most: beyond it noise is followed
LOADED_N = 100.0  # force that every contact reaches; less is a cable, a vibration or another person's step
SHORTEST_S = 0.15  # a foot that stands at all stands longer, in a run too
GAP_S = 0.03  # a shorter break in a contact is a bounce
QUIET_SHARE = 0.15  # of a plate's range above its lowest level: and at least CONTACT_N: there nobody stands on it
FLANK_S = 0.1  # beside a contact: low-passed forces creep up and down there
QUIET_S = 0.05  # of quiet samples that tell the baseline of their time
BASELINE_N = 1.0  # a smaller one is not worth a word
ZEROED_N = 1e-6  # a sample smaller than this was set to zero by a program
EDGE_S = 0.01  # slope of a cut-off edge is taken over as long
LONGEST_EDGE_S = 0.03  # a foot lands or leaves its last 50 N within as long; a slower edge is not drawn out
POINT_N = 50.0  # below it noise moves the centre of pressure by centimetres: it is held


@dataclasses.dataclass(frozen=True)
class Contact:
    """One time that somebody stands on a plate.

    Attributes
    ----------
    signal : index of the plate.
    first, last : its first and last loaded sample.
    start, end : s on the plates' clock, the edges drawn out to zero force.
    whole_start, whole_end : whether the recording shows the plate unloaded before and after.
    """

    signal: int
    first: int
    last: int
    start: float
    end: float
    whole_start: bool
    whole_end: bool

    @property
    def rows(self) -> slice:
        """Its samples."""
        return slice(self.first, self.last + 1)


def prepare(signals: tuple[PlateSignal, ...]) -> tuple[tuple[PlateSignal, ...], tuple[Contact, ...], list[str]]:
    """Signals that are exactly zero between their contacts, the contacts in order of time, and what was done."""
    mended, contacts, notes = [], [], []
    for i, raw in enumerate(signals):
        signal, told = without_baseline(raw)
        found, short = _contacts(signal, i)
        signal, found, edges = _drawn_out(signal, found)
        mended.append(_held(_silenced(signal, found), found))
        contacts += found
        notes += told + short + edges
    return tuple(mended), tuple(sorted(contacts, key=lambda contact: contact.start)), notes


def without(signals: tuple[PlateSignal, ...], contacts: Sequence[Contact]) -> tuple[PlateSignal, ...]:
    """The signals with some contacts silenced."""
    result = list(signals)
    for contact in contacts:
        signal = result[contact.signal]
        force, free_moment = signal.force.copy(), signal.free_moment.copy()
        force[contact.rows], free_moment[contact.rows] = 0.0, 0.0
        result[contact.signal] = dataclasses.replace(signal, force=force, free_moment=free_moment)
    return tuple(result)


def without_baseline(signal: PlateSignal) -> tuple[PlateSignal, list[str]]:
    """The forces with the level of the unloaded plate taken off, which is straight in time under a foot.

    The centre of pressure is kept: what share of it the baseline's moment has cannot be told, and is small.
    """
    vertical = signal.vertical
    low = float(np.percentile(vertical, 1.0))
    quiet = vertical < low + max(QUIET_SHARE * (float(vertical.max()) - low), CONTACT_N)
    # A plate that is never left shows no baseline; its lowest level is a good part of a body's weight.
    if low > LOADED_N:
        return signal, []
    block = round(QUIET_S * signal.rate_hz)
    flank = round(FLANK_S * signal.rate_hz)
    settled = [run[flank * (run[0] > 0) : len(run) - flank * (run[-1] < len(quiet) - 1)] for run in stretches(quiet)]
    blocks = [run[i : i + block] for run in settled for i in range(0, len(run) - block + 1, block)]
    if not blocks:
        return signal, []
    at = [float(signal.time[rows].mean()) for rows in blocks]
    level = np.array([np.median(signal.force[rows], axis=0) for rows in blocks])
    base = np.column_stack([np.interp(signal.time, at, level[:, k]) for k in range(3)])
    worst = float(np.abs(base).max())
    if worst < BASELINE_N:
        return signal, []
    swing = float(np.ptp(base[:, 1]))
    told = f"{signal.name}: a baseline of up to {worst:.0f} N was taken off"
    told += f" (it drifts by {swing:.0f} N)" if swing > BASELINE_N else ""
    return dataclasses.replace(signal, force=signal.force - base), [told]


def _contacts(signal: PlateSignal, index: int) -> tuple[list[Contact], list[str]]:
    time, loaded = signal.time, signal.vertical > CONTACT_N
    for gap in stretches(~loaded):
        inside = gap[0] > 0 and gap[-1] < len(loaded) - 1
        if inside and len(gap) <= GAP_S * signal.rate_hz:
            loaded[gap] = True
    found, short = [], []
    for run in stretches(loaded):
        first, last = _foot_of_flank(signal, int(run[0]), -1), _foot_of_flank(signal, int(run[-1]), 1)
        whole = (first > 0, last < len(loaded) - 1)
        if signal.vertical[run].max() < LOADED_N or (all(whole) and len(run) < SHORTEST_S * signal.rate_hz):
            short.append(f"{signal.name}: a touch at {time[first]:.2f} s is too short or too light for a step")
        else:
            found.append(Contact(index, first, last, float(time[first]), float(time[last]), *whole))
    return found, short


def _foot_of_flank(signal: PlateSignal, edge: int, step: int) -> int:
    """Last sample from an edge outwards (step -1 or 1) that still belongs to its flank."""
    reach = round(FOOT_OF_FLANK_S * signal.rate_hz)
    while reach > 0 and 0 <= edge + step < len(signal.time) and signal.vertical[edge + step] > REST_N:
        edge, reach = edge + step, reach - 1
    return edge


def _drawn_out(signal: PlateSignal, contacts: list[Contact]) -> tuple[PlateSignal, list[Contact], list[str]]:
    """Edges that a program cut off (it set small forces to zero) follow their slope down to zero.

    Horizontal forces keep their ratio to the vertical one.
    """
    force, longest = signal.force.copy(), 0.0
    changed = []
    for contact in contacts:
        ends = {}
        for edge, step, whole in ((contact.first, 1, contact.whole_start), (contact.last, -1, contact.whole_end)):
            reach = _edge(signal, edge, step) if whole else 0
            beyond = edge - step * np.arange(1, reach + 1)
            share = 1.0 - np.arange(1, reach + 1) / (reach + 1.0)
            force[beyond] = share[:, None] * signal.force[edge]
            ends[step] = float(signal.time[edge] - step * (reach + 1) / signal.rate_hz) if reach else None
            if reach:
                longest = max(longest, float(signal.vertical[edge]))
        start, end = ends[1], ends[-1]
        changed.append(
            dataclasses.replace(
                contact,
                start=contact.start if start is None else start,
                end=contact.end if end is None else end,
                first=contact.first if start is None else int(np.searchsorted(signal.time, start)),
                last=contact.last if end is None else int(np.searchsorted(signal.time, end, side="right")) - 1,
            )
        )
    told = []
    if longest:
        told.append(
            f"{signal.name} is zeroed below about {longest:.0f} N: the edges of its contacts follow their slope to "
            "zero, with the centre of pressure held"
        )
    return dataclasses.replace(signal, force=force), changed, told


def _edge(signal: PlateSignal, edge: int, step: int) -> int:
    """Samples until a cut-off edge reaches zero along its slope; 0 if it was not cut off."""
    beyond = edge - step
    if not 0 <= beyond < len(signal.time) or abs(signal.vertical[beyond]) > ZEROED_N:
        return 0
    width = max(3, round(EDGE_S * signal.rate_hz))
    rows = edge + step * np.arange(width)
    if rows.min() < 0 or rows.max() >= len(signal.time):
        return 0
    slope = float(np.polyfit(np.arange(width), signal.vertical[rows], 1)[0])
    height = float(signal.vertical[edge])
    # A sample's own step down to zero is the end of a ramp, not a cut.
    if slope <= 0.0 or height < CONTACT_N or height < 2.0 * slope:
        return 0
    room = edge if step > 0 else len(signal.time) - 1 - edge
    return min(round(height / slope), round(LONGEST_EDGE_S * signal.rate_hz), room)


def _silenced(signal: PlateSignal, contacts: list[Contact]) -> PlateSignal:
    """Zero outside the contacts: what is left there is noise."""
    used = np.zeros(len(signal.time), dtype=bool)
    for contact in contacts:
        used[contact.rows] = True
    return dataclasses.replace(
        signal,
        force=np.where(used[:, None], signal.force, 0.0),
        free_moment=np.where(used[:, None], np.nan_to_num(signal.free_moment), 0.0),
    )


def _held(signal: PlateSignal, contacts: list[Contact]) -> PlateSignal:
    """The centre of pressure of weakly loaded samples is that of the nearest well loaded one of the contact."""
    point = np.zeros_like(signal.point)
    for contact in contacts:
        rows = np.arange(contact.first, contact.last + 1)
        good = rows[(signal.vertical[rows] >= POINT_N) & np.isfinite(signal.point[rows]).all(axis=1)]
        if len(good):
            after = np.searchsorted(good, rows).clip(0, len(good) - 1)
            before = (after - 1).clip(0)
            nearest = np.where(np.abs(good[before] - rows) < np.abs(good[after] - rows), good[before], good[after])
            point[rows] = signal.point[nearest]
    return dataclasses.replace(signal, point=point)
