"""One side-view video of a walk in, markers in metres with events and a quality report out.

Two passes of the pose estimator: over the whole picture with several people, to
find the walker; then over a cut-out along the walker's path, where the walker is
large, and over its mirror image. After that: leg repair, gap filling, filtering, scale from stature, events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.camera_motion import background_path, motion_px
from exo_capture.clip_detection import detect_clip
from exo_capture.gait_events import GaitEvents, Stride
from exo_capture.mirrored_pose import MirroredPose
from exo_capture.path_crop import Path2D, crop_box, pick_walker, walker_path
from exo_capture.people import Candidates, choose_walker, find_tracks
from exo_capture.pose import N_LANDMARKS
from exo_capture.quality import CHECKS, NOT_USABLE, Quality
from exo_capture.sagittal import View
from exo_capture.sagittal_reconstruction import SagittalReconstruction, check_height, reconstruct_sagittal
from exo_capture.video import Clip, open_clip
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

Progress = Callable[[float, str], None]

PEOPLE = 3  # in the whole picture: the wearer, a bystander, and one false candidate
PEOPLE_IN_CROP = 2  # a bystander may pass behind


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The wearer in the picture, for drawing: frame indices in the file (n,), landmarks (n, 33, 2) px after repair.

    `candidates` are all people of the first pass, the wearer and others.
    """

    frame: NDArray[np.int64]
    landmarks: NDArray[np.float64]
    candidates: Candidates


@dataclasses.dataclass(frozen=True)
class Capture:
    """Result of a capture. Times of `markers` and `events` are those of the video, s."""

    clip: Clip
    reconstruction: SagittalReconstruction
    pixels: Pixels

    @property
    def markers(self) -> Markers:
        """The walk in metres, filtered."""
        return self.reconstruction.markers

    @property
    def events(self) -> GaitEvents:
        """Heel strikes, toe-offs, strides."""
        return self.reconstruction.events

    @property
    def quality(self) -> Quality:
        """Figures, warnings, verdict."""
        return self.reconstruction.quality

    @property
    def view(self) -> View:
        """Scale, floor, direction."""
        return self.reconstruction.view

    @property
    def strides(self) -> tuple[Stride, ...]:
        """The complete strides of both legs in order of time."""
        return self.events.strides


def capture_sagittal(
    video: Path,
    height: float,
    model: Path,
    start_s: float = 0.0,
    end_s: float = np.inf,
    progress: Progress | None = None,
    person: int | None = None,
) -> Capture:
    """Capture the person who walks across a side view.

    Parameters
    ----------
    video : video file.
    height : the wearer's standing height, m.
    model : pose model bundle (see weights.model_path).
    start_s, end_s : part of the video to use, s.
    progress : called with the share done, 0..1, and what is being done.
    person : which of several walkers, 1 for the first to appear; needed if two walk about equally far.

    Raises
    ------
    ExoError : if the height is not in m; the video is missing, unreadable or too short; nobody or two people
        walk across; the camera moves; the walk holds too few strides; or the result is not usable.
    """
    report = progress or (lambda share, text: None)
    check_height(height)
    report(0.0, "opening the video")
    clip = open_clip(video, start_s, end_s)
    people = detect_clip(clip, model, PEOPLE, progress=lambda share: report(0.5 * share, "looking for people"))
    candidates = Candidates(people.frame + clip.first, people.landmarks)
    walker = choose_walker(find_tracks(candidates, clip.rate_hz), clip.rate_hz, person)
    path = walker_path(walker, clip.rate_hz, clip.first, clip.stop)
    body_px = float(np.median(path.height))
    motion = 100.0 * motion_px(background_path(clip, people)) / body_px
    _require_standing_camera(video, motion)
    seen = _follow(clip, path, model, report)
    report(0.97, "repairing and filtering")
    result = reconstruct_sagittal(
        seen,
        clip.file_time[path.frame],
        (clip.width, clip.height),
        height,
        figures={"frames_in_video": float(clip.count), "camera_motion_pct": motion},
        notes=[clip.note] if clip.note else [],
    )
    if result.quality.verdict == NOT_USABLE:
        raise ExoError(f"{video} cannot be used: {'; '.join(result.quality.warnings)}")
    report(1.0, f"{len(result.events.strides)} strides found")
    return Capture(clip, result, Pixels(path.frame[result.window], result.pixels, candidates))


def _require_standing_camera(video: Path, motion_pct: float) -> None:
    check = next(check for check in CHECKS if check.key == "camera_motion_pct")
    if check.level(motion_pct) == NOT_USABLE:
        raise ExoError(
            f"the camera of {video} moves (the background shifts by {motion_pct:.0f} % of the wearer's height, "
            f"at most {check.usable:g} % can be used); {check.cure}"
        )


def _follow(clip: Clip, path: Path2D, model: Path, report: Progress) -> NDArray[np.float64]:
    """Second pass along the walker's path: (n, 33, 3) px, px, confidence; NaN where the walker was not found."""
    part = dataclasses.replace(clip, first=int(path.frame[0]), stop=int(path.frame[-1]) + 1)

    def crop(index: int) -> tuple[int, int, int, int] | None:
        left, top, right, bottom = crop_box(path, index - part.first, clip)
        return (left, top, right, bottom) if right - left > 1 and bottom - top > 1 else None

    people = detect_clip(
        part,
        model,
        PEOPLE_IN_CROP,
        crop,
        lambda share: report(0.5 + 0.45 * share, "following the walker"),
        backend=MirroredPose,
    )
    seen = np.full((len(path.frame), N_LANDMARKS, 3), np.nan)
    for i in range(len(seen)):
        candidates = people.landmarks[people.frame == i]
        chosen = pick_walker(candidates, path, i)
        if chosen is not None:
            seen[i] = candidates[chosen]
    return seen
