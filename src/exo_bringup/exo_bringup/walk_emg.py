"""The EMG of a session as the wearer's muscles take it: good channels only, on the walk's clock."""

from __future__ import annotations

import dataclasses

import numpy as np

from exo_bringup.emg_section import EmgWalk, EnvelopesGivenError, analyse_emg, merged_emg
from exo_capture.session_capture import SessionCapture
from exo_common.errors import ExoError
from exo_common.session import SAME_CLOCK, EmgFile, EmgSync, Session
from exo_emg.calibration import MVC
from exo_emg.gait_profile import stride_peaks
from exo_twin.inverse.walk_muscles import WalkEmg

ENVELOPE_HZ = 100.0  # of an envelope, low-passed at some Hz, more samples say nothing more


@dataclasses.dataclass(frozen=True)
class SessionEmgUse:
    """What came of a session's EMG.

    Attributes
    ----------
    walk : analysed, with every channel's verdict; None where there is none or it could not be analysed.
    muscles : for the twin; None where no channel can be used.
    warnings : sentences.
    """

    walk: EmgWalk | None = None
    muscles: WalkEmg | None = None
    warnings: tuple[str, ...] = ()


def use_emg(session: Session, capture: SessionCapture) -> SessionEmgUse:
    """Analyse a session's EMG; what cannot be used costs a sentence."""
    if session.emg is None:
        return SessionEmgUse()
    try:
        walk = analyse_emg(session, capture)
    except EnvelopesGivenError:
        return _given_envelopes(session, capture)
    except ExoError as error:
        return SessionEmgUse(warnings=(f"the EMG is left out: {error}",))
    good = [i for i, channel in enumerate(walk.channels) if not channel.reason]
    if not good:
        return SessionEmgUse(walk, None, (*walk.warnings, "no EMG channel is good; muscles are estimated without EMG"))
    names = tuple(walk.channels[i].name for i in good)
    full_effort = tuple(walk.channels[i].method == MVC for i in good)
    maxima = np.array([walk.channels[i].maximum_v for i in good])
    muscles = WalkEmg(walk.time, names, walk.envelope[:, good], full_effort, maxima, walk.normalisation)
    return SessionEmgUse(walk, muscles, walk.warnings)


def own_emg(session: Session) -> Session:
    """The session with the EMG of the markers' own C3D file, where it names none."""
    if session.emg is not None or session.markers is None or not session.markers.file.lower().endswith(".c3d"):
        return session
    return dataclasses.replace(session, emg=EmgFile(session.markers.file, {}, "", EmgSync(method=SAME_CLOCK)))


def _given_envelopes(session: Session, capture: SessionCapture) -> SessionEmgUse:
    """Envelopes that somebody else made, as fractions of their peak in these strides."""
    try:
        emg, strides = merged_emg(session, capture)
    except ExoError as error:
        return SessionEmgUse(warnings=(f"the EMG is left out: {error}",))
    every = max(1, round(emg.recording.layout.rate_hz / ENVELOPE_HZ))
    time, envelope = emg.time_s[::every], np.maximum(emg.recording.samples[::every], 0.0)
    muscles = emg.recording.layout.muscles
    peaks = stride_peaks(envelope, time, muscles, strides)
    maxima = np.where(peaks > 0.0, peaks, 1.0)
    source = "envelopes as given, fractions of their peak in the walk's strides"
    told = (
        f"{emg.recording.source} holds envelopes: they are used for the muscles as they are, but bad channels cannot "
        "be told from them; give the raw EMG",
        *(f"EMG: {note}" for note in emg.recording.notes),
    )
    return SessionEmgUse(None, WalkEmg(time, muscles, envelope / maxima, (False,) * len(muscles), maxima, source), told)
