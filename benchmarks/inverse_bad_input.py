"""Bad input, made from one good walk: whether each kind is met with a sentence that names its cause.

A refusal and a warning count alike, if they say what is wrong, and if nothing of the kind is said of the good walk.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

from exo_capture.gait_events import GaitEvents
from exo_capture.marker_capture import capture_markers
from exo_capture.marker_files import Recording, read_recording
from exo_capture.session_capture import SessionCapture, capture_session
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers
from exo_common.session import MarkerFiles, Session, Wearer
from exo_twin.inverse.analysis import analyse_further_walk, analyse_walk
from exo_twin.inverse.plate_signals import PlateSignal, plates_of
from exo_twin.opensim_runtime import logging_to

WEARER = "2014004"
LOST, LOST_S, LATE_S = "R_FLE", 0.5, 0.4
FEET = ("calcn_r", "calcn_l")
EARLY_S = 0.25  # that feet seem to leave the ground too early: the body hangs in the air
READER = "exo_capture.marker_capture.read_recording"


def measure(data: Path, generic: Path) -> dict[str, float]:
    """Share of the kinds of bad input that a sentence names, and one figure for each."""
    found = {kind: named for kind, (named, _) in sentences(data, generic).items()}
    return {
        "bad_input_detected_pct": 100.0 * float(np.mean(list(found.values()))),
        "bad_input_kinds": len(found),
        **{f"bad_input_{kind}": float(named) for kind, named in found.items()},
    }


def sentences(data: Path, generic: Path) -> dict[str, tuple[bool, str]]:
    """Kind of bad input -> whether its cause was named, and all that was said."""
    folder = data / "gait_speeds" / WEARER
    walk, static = next(folder.glob("*_C4_*.c3d")), next(folder.glob("*_ST.c3d"))
    good = read_recording(walk)
    markers, height, mass = good.markers, good.subject.height, good.subject.mass
    assert height is not None and mass is not None
    person = Wearer(id=WEARER, height=height, mass=mass)
    session = Session(folder, person, markers=MarkerFiles(walk.name, static.name))
    with tempfile.TemporaryDirectory(prefix="exo_bad_") as scratch, logging_to(Path(scratch) / "opensim.log"):
        usual = capture_session(session)
        known = analyse_walk(usual, person, Path(scratch), generic=generic)
        unaltered = " ".join([*usual.quality.warnings, *known.warnings])
        # As the analysis itself takes them where nothing is wrong.
        signals = plates_of(capture_markers(walk, static).recording.plates)

        def moved(recorded: Markers, kg: float = mass) -> str:
            """All that is said of other markers or another mass."""

            def read(path: Path) -> Recording:
                return dataclasses.replace(good, markers=recorded) if path == walk else read_recording(path)

            with mock.patch(READER, read):
                wearer = Wearer(id=WEARER, height=height, mass=kg)
                capture = capture_session(dataclasses.replace(session, wearer=wearer))
            with tempfile.TemporaryDirectory(prefix="fit_", dir=scratch) as work:
                told = analyse_walk(capture, wearer, Path(work), generic=generic)
            return " ".join([*capture.quality.warnings, *told.warnings])

        def loaded(forces: tuple[PlateSignal, ...], capture: SessionCapture = usual) -> str:
            """All that is said of other forces on the same motion."""
            return " ".join(analyse_further_walk(known, capture, person, forces).warnings)

        without_plates = dataclasses.replace(usual, recording=None)
        kinds: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
            "left_right": (lambda: moved(_exchanged(markers)), ("left and right are exchanged",)),
            "mm_as_m": (lambda: moved(_scaled(markers, 1e3)), ("wrong unit of length",)),
            "m_as_mm": (lambda: moved(_scaled(markers, 1e-3)), ("wrong unit of length",)),
            "marker_lost": (lambda: moved(_lost(markers, LOST)), (f"marker {LOST} is missing",)),
            "unsynchronised_plate": (lambda: loaded(_late(signals)), ("not synchronised",)),
            "plates_end_in_stance": (
                lambda: loaded(_cut(signals)),
                ("the recording of plate", "ends at", "while the foot stands"),
            ),
            "plates_horizontal_inverted": (lambda: loaded(_inverted(signals)), ("push the other way",)),
            "prediction_contradicts_motion": (
                lambda: loaded((), dataclasses.replace(without_plates, events=_early(usual.events))),
                ("predicted forces and motion disagree",),
            ),
            "zero_mass": (lambda: moved(markers, 0.0), ("mass = 0",)),
            "unknown_markers": (lambda: moved(_renamed(markers)), ("marker names fit none of the maps",)),
        }
        found = {}
        for kind, (work, words) in kinds.items():
            told = _said(work)
            named = all(word in told for word in words) and not all(word in unaltered for word in words)
            found[kind] = (named, told.replace(unaltered, ""))
        # Which plate was under which foot is for the analysis to say: of the two claims the wrong one is told.
        claims = [_said(partial(loaded, _on_feet(signals, bodies))) for bodies in (FEET, FEET[::-1])]
        applied = [claim for claim in claims if "is applied to" in claim]
        found["wrong_foot"] = (len(applied) == 1, " ".join(applied))
    return found


def _said(work: Callable[[], str]) -> str:
    try:
        return work()
    except ExoError as refusal:
        return str(refusal)


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


def _cut(signals: tuple[PlateSignal, ...]) -> tuple[PlateSignal, ...]:
    """Plates whose recording ends in the middle of the last contact."""
    loaded = [s.time[s.vertical > 0.2 * s.vertical.max()] for s in signals]
    end = max(float(np.median(times)) for times in loaded)
    return tuple(
        dataclasses.replace(
            s,
            time=s.time[s.time < end],
            force=s.force[s.time < end],
            point=s.point[s.time < end],
            free_moment=s.free_moment[s.time < end],
        )
        for s in signals
    )


def _inverted(signals: tuple[PlateSignal, ...]) -> tuple[PlateSignal, ...]:
    """Plates with the other convention of signs for forward and sideways."""
    return tuple(dataclasses.replace(s, force=s.force * [-1.0, 1.0, -1.0]) for s in signals)


def _early(events: GaitEvents) -> GaitEvents:
    return dataclasses.replace(
        events, toe_offs={side: tuple(t - EARLY_S for t in events.toe_offs[side]) for side in SIDES}
    )


def main() -> int:
    """Print what was said of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the reference recordings")
    parser.add_argument("generic", type=Path, help="unscaled model")
    options = parser.parse_args()
    for kind, (named, told) in sentences(options.data, options.generic).items():
        print(f"{kind}: {'named' if named else 'NOT NAMED'}: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
