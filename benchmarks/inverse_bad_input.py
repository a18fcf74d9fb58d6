"""Bad input, made from one good walk: whether each kind is met with a sentence that names it, and not with a result."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from exo_capture.marker_capture import capture_markers
from exo_capture.marker_files import Recording, read_recording
from exo_capture.session_capture import capture_session
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_common.session import MarkerFiles, Session, Wearer
from exo_twin.inverse.analysis import analyse_walk
from exo_twin.inverse.plate_signals import PlateSignal, plates_of

WEARER = "2014004"
LOST, LOST_S, LATE_S = "R_FLE", 0.5, 0.4
FEET = ("calcn_r", "calcn_l")
READER = "exo_capture.marker_capture.read_recording"


def measure(data: Path, generic: Path) -> dict[str, float]:
    """Share of the kinds of bad input that a sentence names, and one figure for each."""
    folder = data / "gait_speeds" / WEARER
    walk, static = next(folder.glob("*_C4_*.c3d")), next(folder.glob("*_ST.c3d"))
    good = read_recording(walk)
    markers, subject = good.markers, good.subject
    assert subject.height is not None and subject.mass is not None
    signals = plates_of(capture_markers(walk, static).recording.plates)

    def run(
        recorded: Markers = markers, forces: tuple[PlateSignal, ...] = (), mass: float = subject.mass or 0.0
    ) -> str:
        """Everything that the analysis says, be it in a refusal or in warnings."""

        def read(path: Path) -> Recording:
            return dataclasses.replace(good, markers=recorded) if path == walk else read_recording(path)

        with tempfile.TemporaryDirectory(prefix="exo_bad_") as scratch, mock.patch(READER, read):
            try:
                person = Wearer(id=WEARER, height=subject.height, mass=mass)
                capture = capture_session(Session(folder, person, markers=MarkerFiles(walk.name, static.name)))
                told = analyse_walk(capture, person, Path(scratch), generic=generic, signals=forces)
            except ExoError as refusal:
                return str(refusal)
            return " ".join([*capture.quality.warnings, *told.warnings])

    right, wrong = (run(forces=_on_feet(signals, bodies)) for bodies in (FEET, FEET[::-1]))
    kinds: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
        "left_right": (lambda: run(_exchanged(markers)), ("exchanged",)),
        "mm_as_m": (lambda: run(_scaled(markers, 1e3)), ("unit", "not in m")),
        "marker_lost": (lambda: run(_lost(markers, LOST)), ("miss", LOST)),
        # Which plate was under which foot is for the analysis to say: one of the two claims is wrong.
        "wrong_foot": (lambda: max(right, wrong, key=len) if right != wrong else "", ("foot",)),
        "unsynchronised_plate": (lambda: run(forces=_late(signals)), ("synchronised",)),
        "zero_mass": (lambda: run(mass=0.0), ("mass",)),
        "unknown_markers": (lambda: run(_renamed(markers)), ("marker",)),
    }
    usual = run()
    found = {}
    for kind, (work, words) in kinds.items():
        told = work().replace(usual, "")
        found[kind] = told != usual and any(word in told for word in words)
    return {
        "bad_input_detected_pct": 100.0 * float(np.mean(list(found.values()))),
        **{f"bad_input_{kind}": float(good) for kind, good in found.items()},
    }


def _exchanged(markers: Markers) -> Markers:
    other = {"L": "R", "R": "L"}
    names = tuple(other[n[0]] + n[1:] if n[:2] in ("L_", "R_") else n for n in markers.names)
    return Markers(markers.time, names, markers.position)


def _scaled(markers: Markers, factor: float) -> Markers:
    return Markers(markers.time, markers.names, factor * markers.position)


def _lost(markers: Markers, name: str) -> Markers:
    position = markers.position.copy()
    middle = markers.time.mean()
    rows = np.abs(markers.time - middle) < LOST_S / 2.0
    position[rows, markers.names.index(name)] = np.nan
    return Markers(markers.time, markers.names, position)


def _renamed(markers: Markers) -> Markers:
    return Markers(markers.time, tuple(f"M{i}" for i in range(len(markers.names))), markers.position)


def _on_feet(signals: tuple[PlateSignal, ...], bodies: tuple[str, ...]) -> tuple[PlateSignal, ...]:
    """Plates that claim to have measured these bodies."""
    return tuple(dataclasses.replace(s, body=b) for s, b in zip(signals, bodies, strict=False))


def _late(signals: tuple[PlateSignal, ...]) -> tuple[PlateSignal, ...]:
    return tuple(dataclasses.replace(s, time=s.time + LATE_S) for s in signals)
