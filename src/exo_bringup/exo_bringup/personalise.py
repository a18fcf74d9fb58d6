"""From a session to a twin and a controller: capture, inverse analysis, compilation, assistance profile."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from exo_bringup.emg_section import EmgWalk, save_emg
from exo_bringup.muscle_report import MUSCLE_PAGE, write_muscle_page
from exo_bringup.progress import Stages
from exo_bringup.report import emg_page
from exo_bringup.session_analysis import convention_of, forces_of, generic_of
from exo_bringup.walk_emg import SessionEmgUse, use_emg
from exo_capture.session_capture import SessionCapture, capture_session, session_inputs
from exo_common.artefact import read_manifest, writing
from exo_common.errors import ExoError
from exo_common.session import FILE, Session
from exo_controller.build import build_controller
from exo_twin.inverse.build import build_twin


@dataclasses.dataclass(frozen=True)
class Personalisation:
    """What came out of a session, all of it inside the session folder."""

    capture: SessionCapture
    keypoints: Path
    twin: Path
    controller: Path
    warnings: list[str]
    emg: EmgWalk | None = None


def personalise(session: Session, stages: Stages) -> Personalisation:
    """Run a session of any kind of recording through capture, twin and controller.

    Writes `capture/`, `twin/` and `controller/` into the session folder, and `emg/`
    if the session names EMG, each whole or not at all; `muscles.html` shows the twin's
    muscles. EMG that cannot be used costs a warning, not the twin.

    Raises
    ------
    ExoError : with the cause and the cure; finished stages are kept.
    """
    wearer, inputs = session.wearer, session_inputs(session)
    warnings: list[str] = []
    with stages.stage(f"capture: {session.source.value}") as progress:
        capture = capture_session(session, progress)
        warnings += capture.quality.warnings
        with writing(session.folder / "capture", "capture", wearer.id, inputs, warnings) as folder:
            capture.save(folder)
    capture.require_strides()
    keypoints = session.folder / "capture" / "keypoints.trc"
    emg = _emg(session, capture, stages)
    with stages.stage("twin: lengths, motion, walker") as progress:
        twin = build_twin(
            capture,
            wearer,
            session.folder / "twin",
            inputs | {"keypoints.trc": keypoints},
            [*warnings, *emg.warnings],
            lambda text: progress(0.0, text),
            convention_of(session),
            forces_of(session, capture),
            generic_of(session),
            emg.muscles,
        )
        write_muscle_page(twin, session.folder / MUSCLE_PAGE, wearer)
    warnings = list(read_manifest(twin, "twin")["warnings"])
    with stages.stage("controller: assistance profile") as progress:
        controller = build_controller(twin, session.folder / "controller")
    return Personalisation(capture, keypoints, twin, controller, warnings, emg.walk)


def _emg(session: Session, capture: SessionCapture, stages: Stages) -> SessionEmgUse:
    """The session's EMG, analysed and written."""
    if session.emg is None:
        return SessionEmgUse()
    with stages.stage("EMG: envelopes, strides, quality"):
        emg = use_emg(session, capture)
        if emg.walk is not None:
            save_emg(emg.walk, session, emg_page(emg.walk, session.wearer))
    return emg


def demo_session(folder: Path) -> Session:
    """Make a session of the walking video that the installed sports2d package carries.

    Height and mass are those of the first person in that package's own demo configuration.

    Raises
    ------
    ExoError : if the package or its video is missing, or the disk is full.
    """
    from importlib.util import find_spec

    from exo_common.session import load

    found = find_spec("Sports2D")
    video = Path(found.origin).parent / "Demo" / "demo.mp4" if found and found.origin else None
    if video is None or not video.is_file():
        raise ExoError("the demo video is missing (package sports2d); delete .exo and run the command again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(video, folder / "walk.mp4")
        (folder / FILE).write_text(
            "wearer: {id: demo, height: 1.65, mass: 55.0, sex: female}\ncameras:\n  - {name: side, video: walk.mp4}\n",
            encoding="utf-8",
        )
    except OSError as error:
        raise ExoError(f"{folder} could not be written ({error.strerror}); free disk space or use --out") from error
    return load(folder)
