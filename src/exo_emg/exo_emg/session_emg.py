"""The EMG that a session names, on the clock of the session's own recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_common.c3d import read_emg
from exo_common.errors import ExoError
from exo_common.session import LSL, OFFSET, SAME_CLOCK, TAPS, TRIGGER, EmgFile, EmgSync, Session
from exo_emg.chunks import Layout
from exo_emg.muscles import side_of
from exo_emg.recording_format import TRIGGER as TRIGGER_CHANNEL
from exo_emg.recording_format import FileOptions
from exo_emg.recordings import Recording, read_recording
from exo_emg.sync_events import emg_tap_times, foot_tap_times, pulse_times
from exo_emg.time_base import ClockRelation, align, from_lsl, same_clock, told

FloatArray = NDArray[np.float64]

# Two detections of one trigger pulse: the sampling of both sides and the rise of the pulse.
PULSE_TOLERANCE_S, PULSE_SYSTEMATIC_S = 0.010, 0.001
# Two detections of one tap: a frame of a slow camera. The shock reaches the shank within 10 ms, while the heel is still
# being stopped; no average removes that.
TAP_TOLERANCE_S, TAP_SYSTEMATIC_S = 0.060, 0.010
LEAST_TAPS = 3
# Exchanges are made while the EMG is recorded; what lies further away is of another clock, which began elsewhere.
LSL_APART_S = 600.0


@dataclasses.dataclass(frozen=True)
class Heels:
    """Heels as the session's recording saw them: `time` (n,) s, `position` (n, k, 3) m, y up, not low-passed."""

    time: FloatArray
    position: FloatArray


@dataclasses.dataclass(frozen=True)
class SessionEmg:
    """EMG of a walk.

    Attributes
    ----------
    recording : the muscles' channels, on the clock of the EMG's file.
    clock : how to get from there to the clock of the session's recording.
    """

    recording: Recording
    clock: ClockRelation

    @property
    def time_s(self) -> FloatArray:
        """(n,) time of every sample on the clock of the session's recording, s."""
        return self.clock.to_reference(self.recording.time_s)


def load_session_emg(session: Session, heels: Heels | None = None) -> SessionEmg:
    """Read the session's EMG and relate its clock to that of the session's recording.

    Parameters
    ----------
    heels : needed where the clocks are related by heel taps.

    Raises
    ------
    ExoError : if the session names no EMG, the file cannot be read, or the clocks cannot be related.
    """
    if session.emg is None:
        raise ExoError(f"{session.folder} names no EMG; add the key 'emg' to session.yaml")
    sync = session.emg.sync
    recording, trigger = read_session_emg(session, session.emg)
    return SessionEmg(recording, _relation(session, sync, recording, trigger, heels))


def read_session_emg(session: Session, emg: EmgFile) -> tuple[Recording, FloatArray | None]:
    """The muscles' channels, and the (n,) trigger's channel if the session names one.

    Raises
    ------
    ExoError : if the file cannot be read, or holds no muscle or not the trigger's channel.
    """
    names = dict(emg.muscles)
    if emg.sync.channel:
        names[emg.sync.channel] = TRIGGER_CHANNEL
    found = read_recording(session.path(emg.file), FileOptions(unit=emg.unit), names)
    muscles = found.layout.muscles
    if emg.sync.channel and TRIGGER_CHANNEL not in muscles:
        raise ExoError(f"{session.path(emg.file)} has no channel '{emg.sync.channel}'; correct emg.sync.channel")
    chosen = [i for i, name in enumerate(muscles) if name != TRIGGER_CHANNEL]
    if not chosen:
        raise ExoError(f"{session.path(emg.file)} holds a trigger and no muscle; export the EMG channels, too")
    trigger = found.samples[:, muscles.index(TRIGGER_CHANNEL)] if TRIGGER_CHANNEL in muscles else None
    layout = Layout(tuple(muscles[i] for i in chosen), found.layout.rate_hz)
    return dataclasses.replace(found, layout=layout, samples=found.samples[:, chosen]), trigger


def _relation(
    session: Session, sync: EmgSync, recording: Recording, trigger: FloatArray | None, heels: Heels | None
) -> ClockRelation:
    rate, start, within = recording.layout.rate_hz, recording.time0_s, sync.within or np.inf
    if sync.method == SAME_CLOCK:
        return same_clock()
    if sync.method == OFFSET:
        return told(sync.offset, sync.uncertainty, start)
    if sync.method == LSL:
        return _lsl(session.path(sync.reference), recording, heels)
    if sync.method == TRIGGER and trigger is not None:
        own = pulse_times(trigger, rate, start, sync.edge)
        other = _reference_pulses(session.path(sync.reference), sync)
        return align("trigger pulses", own, other, PULSE_TOLERANCE_S, PULSE_SYSTEMATIC_S, within)
    if sync.method == TAPS and heels is not None:
        sides = [side_of(name)[1] or "" for name in recording.layout.muscles]
        own = emg_tap_times(recording.samples, rate, sides, start)
        other = foot_tap_times(heels.time, heels.position)
        own = own[(own >= sync.emg_start) & (own <= sync.emg_end)]
        other = other[(other >= sync.start) & (other <= sync.end)]
        return align("heel taps", own, other, TAP_TOLERANCE_S, TAP_SYSTEMATIC_S, within, LEAST_TAPS)
    raise ExoError(
        f"{session.folder}: emg.sync asks for {sync.method}, but this recording shows none; choose another method"
    )


def _lsl(path: Path, recording: Recording, heels: Heels | None) -> ClockRelation:
    """From the sender's clock, which must be that of the EMG's file, to LSL's, which must be that of the walk."""
    exchanges = _rows(path, 3)
    relation = from_lsl(exchanges)
    own = recording.time_s[[0, -1]]
    if not _near(own, exchanges[:, 0]):
        raise ExoError(
            f"{path} holds exchanges at {exchanges[0, 0]:.0f} s of the sender's clock, but the times in "
            f"{recording.source} begin at {own[0]:.0f} s, so they are of another clock; export the EMG with LSL's times"
        )
    if heels is not None and not _near(relation.to_reference(own), heels.time):
        raise ExoError(
            f"{path} takes the EMG to {relation.to_reference(own)[0]:.0f} s of LSL's clock, but the walk begins at "
            f"{heels.time[0]:.0f} s: LSL did not stamp it; relate the clocks by trigger or taps"
        )
    return relation


def _near(times: FloatArray, others: FloatArray) -> bool:
    """Whether two stretches of time overlap, or nearly."""
    return bool(times.min() - others.max() <= LSL_APART_S and others.min() - times.max() <= LSL_APART_S)


def _reference_pulses(path: Path, sync: EmgSync) -> FloatArray:
    """Times of the pulses on the recording's clock, s: a column of numbers, or a channel of a C3D file."""
    if path.suffix.lower() != ".c3d":
        return np.sort(_rows(path, 1)[:, 0])
    found, channel = read_emg(path), sync.reference_channel
    if channel not in found.names:
        raise ExoError(f"{path} has no channel '{channel}' in volts; set emg.sync.reference_channel to the trigger's")
    return pulse_times(found.values[:, found.names.index(channel)], found.rate_hz, edge=sync.reference_edge)


def _rows(path: Path, columns: int) -> FloatArray:
    """Rows of numbers of a text file, separated by commas or space; a first line of names is skipped."""
    try:
        lines = [line.replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line]
        if lines and not _is_number(lines[0][0]):
            lines = lines[1:]
        rows = np.array([[float(cell) for cell in line[:columns]] for line in lines])
    except (OSError, UnicodeDecodeError, ValueError):
        rows = np.zeros(0)
    if rows.ndim != 2 or rows.shape[1] != columns or not np.isfinite(rows).all():
        raise ExoError(f"{path} must hold rows of {columns} number(s) in s, separated by commas; export it again")
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
