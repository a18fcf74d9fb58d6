"""Every kind of recording that a session may hold becomes the same thing: keypoints, strides and a quality report."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.calibration_files import cameras_for, read_calibration
from exo_capture.filtering import smooth_markers
from exo_capture.gait_events import GaitEvents, Stride
from exo_capture.keypoint_capture import capture_keypoints
from exo_capture.landmark_files import read_json_folder
from exo_capture.landmark_walker import between, reconstruct_landmarks
from exo_capture.landmarks import Detections
from exo_capture.marker_capture import capture_markers
from exo_capture.marker_files import Recording
from exo_capture.marker_set import MarkerSet
from exo_capture.monocular import Capture, capture_sagittal
from exo_capture.multicamera import Reconstruction, reconstruct
from exo_capture.multicamera_capture import capture_multicamera, judge_walk
from exo_capture.quality import NOT_USABLE, Quality
from exo_capture.weights import model_path
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers, Storage, external_loads_table, write_storage, write_trc
from exo_common.session import FILE, Camera, KeypointFile, MarkerFiles, Session

FloatArray = NDArray[np.float64]
Progress = Callable[[float, str], None]


@dataclasses.dataclass(frozen=True)
class SessionCapture:
    """A walk in OpenSim's frame, x along the walk, whatever it was recorded with.

    Attributes
    ----------
    markers : keypoints (joint centres, heels, toes) under BlazePose's names, gaps filled and low-passed.
    raw : what a solver should start from: the keypoints as measured, gaps NaN; of skin markers the set's markers, too.
    strides : complete strides of both legs in order of time.
    events : heel strikes and toe-offs of the motion.
    planar : whether depth was assumed (one camera) rather than measured.
    covariance : (k, 3, 3) m², typical error of each of `raw`'s keypoints; None where the recording does not tell.
    marker_set, static : of skin markers; their quiet stance.
    recording : of skin markers: what the file holds beside them (force plates), turned alike.
    video : of one camera's video, for pictures.
    """

    markers: Markers
    raw: Markers
    strides: tuple[Stride, ...]
    quality: Quality
    events: GaitEvents
    planar: bool = False
    covariance: FloatArray | None = None
    marker_set: MarkerSet | None = None
    static: Markers | None = None
    recording: Recording | None = None
    video: Capture | None = None

    def require_strides(self) -> None:
        """Raise ExoError unless each leg has a complete stride, the least that a twin is made of."""
        counts = {side: sum(stride.side == side for stride in self.strides) for side in SIDES}
        if not all(counts.values()):
            raise ExoError(
                f"the recording holds {counts['l']} complete strides of the left and {counts['r']} of the right leg, "
                "but a twin needs one or more of each; record a longer walk"
            )

    def save(self, folder: Path) -> None:
        """Write `keypoints.trc`, `confidence.sto` (0..1, one column per keypoint) and `quality.yaml`."""
        write_trc(folder / "keypoints.trc", self.markers)
        known = np.isfinite(self.markers.position).all(axis=2)
        trust = np.ones(known.shape) if self.markers.confidence is None else self.markers.confidence
        write_storage(
            folder / "confidence.sto",
            Storage(self.markers.time, self.markers.names, np.where(known, trust, 0.0), in_degrees=False),
        )
        self.quality.save(folder / "quality.yaml")


def capture_session(session: Session, progress: Progress | None = None) -> SessionCapture:
    """Capture the walk that a session holds.

    Parameters
    ----------
    progress : called with the share done, 0..1, and what is being done.

    Raises
    ------
    ExoError : if the recording cannot be read or is not usable.
    """
    report = progress or (lambda share, text: None)
    if session.markers is not None:
        return _from_markers(session, session.markers)
    if session.keypoints is not None:
        return _from_keypoints(session, session.keypoints)
    if session.calibration is not None:
        return _from_cameras(session, session.calibration, report)
    return _from_side_view(session, session.cameras[0], report)


def session_inputs(session: Session) -> dict[str, Path]:
    """The files (and folders of landmarks) that a session's results depend on, by name, for the manifest.

    Raises
    ------
    ExoError : if the file that names the table of forces cannot be read.
    """
    names = [FILE, *(camera.video or camera.landmarks for camera in session.cameras)]
    if session.markers is not None:
        names += [session.markers.file, session.markers.static, session.markers.forces, session.markers.model]
        names += [session.markers.set] if Path(session.markers.set).suffix else []
    if session.keypoints is not None:
        names.append(session.keypoints.file)
    inputs = {name: session.path(name) for name in names if name}
    if session.markers is not None and session.markers.forces:
        table = external_loads_table(session.path(session.markers.forces))
        inputs |= {} if table is None else {table.name: table}
    return inputs if session.calibration is None else inputs | {session.calibration.name: session.calibration}


def _from_side_view(session: Session, camera: Camera, report: Progress) -> SessionCapture:
    height, walking = session.wearer.height, session.walking
    video = None
    if camera.video:
        model = model_path(session.use.pose_model)
        video = capture_sagittal(
            session.path(camera.video), height, model, walking.start, walking.end, report, session.person
        )
        found = video.reconstruction
    else:
        found = reconstruct_landmarks(_landmarks(session, camera), height, session.person)
    return SessionCapture(
        found.markers, found.raw, found.events.strides, found.quality, found.events, planar=True, video=video
    )


def _from_cameras(session: Session, calibration: Path, report: Progress) -> SessionCapture:
    cameras = cameras_for([camera.name for camera in session.cameras], read_calibration(calibration))
    if session.cameras[0].video:
        captured = capture_multicamera(
            {camera.name: session.path(camera.video) for camera in session.cameras},
            cameras,
            model_path(session.use.pose_model),
            start_s=session.walking.start,
            end_s=session.walking.end,
            person=session.person,
            progress=report,
        )
        found, events, quality = captured.reconstruction, captured.events, captured.quality
    else:
        seen = [_landmarks(session, camera) for camera in session.cameras]
        found = reconstruct(seen, cameras, synchronise=True, person=session.person)
        events, quality = judge_walk(found)
        if quality.verdict == NOT_USABLE:
            raise ExoError(f"the landmarks cannot be used: {'; '.join(quality.warnings)}")
    return SessionCapture(
        found.markers, found.raw, events.strides, quality, events, covariance=_typical_covariance(found)
    )


def _from_markers(session: Session, files: MarkerFiles) -> SessionCapture:
    chosen = None
    if files.set:
        chosen = MarkerSet.load(session.path(files.set) if Path(files.set).suffix else files.set)
    static = session.path(files.static) if files.static else None
    found = capture_markers(session.path(files.file), static, chosen)
    notes = found.disagreements(session.wearer.height, session.wearer.mass)
    quality = dataclasses.replace(found.quality, warnings=(*found.quality.warnings, *notes))
    return SessionCapture(
        smooth_markers(found.keypoints),
        found.markers,
        found.strides,
        quality,
        found.events,
        marker_set=found.marker_set,
        static=found.static,
        recording=found.recording,
    )


def _from_keypoints(session: Session, files: KeypointFile) -> SessionCapture:
    found = capture_keypoints(session.path(files.file), session.walking.start, session.walking.end)
    return SessionCapture(found.markers, found.raw, found.events.strides, found.quality, found.events)


def _landmarks(session: Session, camera: Camera) -> Detections:
    width, height = camera.size
    seen = read_json_folder(session.path(camera.landmarks), camera.rate, (width, height), camera=camera.name)
    return between(seen, session.walking.start, session.walking.end)


def _typical_covariance(found: Reconstruction) -> FloatArray:
    """(k, 3, 3) m², median over the frames; NaN for keypoints that were never measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.asarray(np.nanmedian(found.covariance, axis=0))
