"""What a session says about its own analysis: meaning of keypoints, generic model, forces in a file of their own."""

from __future__ import annotations

from pathlib import Path

from exo_capture.marker_files import read_recording
from exo_capture.session_capture import SessionCapture
from exo_common.session import Session
from exo_twin.inverse.external_loads import read_external_loads
from exo_twin.inverse.keypoint_model import BLAZEPOSE
from exo_twin.inverse.plate_signals import PlateSignal, turn_between


def convention_of(session: Session) -> str:
    """What the keypoints mean (see keypoint_model)."""
    return session.keypoints.convention if session.keypoints is not None else BLAZEPOSE


def generic_of(session: Session, otherwise: Path | None = None) -> Path | None:
    """The unscaled model of skin markers that the session names, else another; None: the usual one."""
    if session.markers is not None and session.markers.model:
        return session.path(session.markers.model)
    return otherwise


def forces_of(session: Session, capture: SessionCapture) -> tuple[PlateSignal, ...]:
    """Forces from a file beside the markers, turned as the markers were.

    Raises
    ------
    ExoError : if the file cannot be read.
    """
    if session.markers is None or not session.markers.forces or capture.recording is None:
        return ()
    turn = turn_between(read_recording(session.path(session.markers.file)).markers, capture.recording.markers)
    return tuple(signal.turned(turn) for signal in read_external_loads(session.path(session.markers.forces)))
