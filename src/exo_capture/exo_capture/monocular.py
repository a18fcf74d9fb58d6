"""One side-view video of a walk in, markers in metres with events and a quality report out.

Two passes of the pose estimator: over the whole picture with several people, to
find the walker; then over a cut-out along the walker's path, where the walker is
large. After that: leg repair, gap filling, filtering, scale from stature, events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import fill_gaps, smooth
from exo_capture.gait_events import GaitEvents, Stride, find_events, spatio_temporal
from exo_capture.landmarks import BODY, LEG_L, LEG_R
from exo_capture.leg_repair import Repair, repair_legs
from exo_capture.path_crop import Path2D, crop_box, pick_walker, walker_path
from exo_capture.people import Candidates, choose_walker, find_tracks
from exo_capture.pose import N_LANDMARKS, PoseEstimator
from exo_capture.quality import NOT_USABLE, Quality, bone_length_cv_pct, judge
from exo_capture.sagittal import View, fit_view, to_markers
from exo_capture.video import Clip, open_clip, read_frames
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

Progress = Callable[[float, str], None]

PEOPLE = 3  # in the whole picture: the wearer, a bystander, and one false candidate
PEOPLE_IN_CROP = 2  # a bystander may pass behind
MAX_BREAK_S = 0.2  # a longer absence ends the usable window
BORDER = 0.02  # of the body height: a joint this near the edge of the picture is half outside
MIN_STRIDES = 2
HEIGHT_M = (1.0, 2.3)
LEG_JOINTS = (*LEG_L, *LEG_R)


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
    markers: Markers
    events: GaitEvents
    quality: Quality
    pixels: Pixels
    view: View

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
) -> Capture:
    """Capture the person who walks across a side view.

    Parameters
    ----------
    video : video file.
    height : the wearer's standing height, m.
    model : pose model bundle (see weights.model_path).
    start_s, end_s : part of the video to use, s.
    progress : called with the share done, 0..1, and what is being done.

    Raises
    ------
    ExoError : if the height is not in m; the video is missing, unreadable or too short; nobody or two people
        walk across; the walk holds too few strides; or the result is not usable.
    """
    report = progress or (lambda share, text: None)
    if not HEIGHT_M[0] <= height <= HEIGHT_M[1]:
        raise ExoError(f"height {height:g} is not a person's in m; give the wearer's standing height in m, e.g. 1.72")
    report(0.0, "opening the video")
    clip = open_clip(video, start_s, end_s)
    candidates = _find_people(clip, model, report)
    walker = choose_walker(find_tracks(candidates, clip.rate_hz), clip.rate_hz)
    path = walker_path(walker, clip)
    seen = _follow(clip, path, model, report)
    report(0.97, "repairing and filtering")
    window = _usable_window(seen, path, clip)
    frame, seen = path.frame[window], seen[window]
    repaired, repair = repair_legs(seen, path.height[window], clip.rate_hz)
    filled, added = fill_gaps(repaired.reshape(len(seen), -1), clip.rate_hz)
    pixels = smooth(filled, clip.rate_hz).reshape(repaired.shape)
    interpolated = added.reshape(repaired.shape)[:, :, 0]
    view = fit_view(pixels, height)
    markers = to_markers(pixels, frame / clip.rate_hz, view, height)
    events = find_events(markers)
    _require_strides(events, markers)
    quality = judge(
        _figures(clip, seen, repair, interpolated, markers, view),
        {side: len(events.of(side)) for side in SIDES},
        spatio_temporal(events),
        {
            "part_used": f"{markers.time[0]:.2f}-{markers.time[-1]:.2f} s, frames {frame[0]}-{frame[-1]}",
            "direction": "to the right" if view.direction > 0 else "to the left",
            "near_leg": {"l": "left", "r": "right"}[view.near_side],
        },
    )
    if quality.verdict == NOT_USABLE:
        raise ExoError(f"{video} cannot be used: {'; '.join(quality.warnings)}")
    report(1.0, f"{len(events.strides)} strides found")
    return Capture(clip, markers, events, quality, Pixels(frame, pixels, candidates), view)


def _find_people(clip: Clip, model: Path, report: Progress) -> Candidates:
    """First pass: everybody in the whole picture."""
    frames, people = [], []
    with PoseEstimator(model, PEOPLE) as estimator:
        for index, image in read_frames(clip):
            found = estimator.detect(image)
            frames += [index] * len(found)
            people.append(found)
            report(0.5 * (index - clip.first) / clip.count, "looking for people")
    if not people:
        raise ExoError(f"no frame of {clip.path} can be decoded; export the video again, e.g. as MP4 with H.264")
    return Candidates(np.array(frames, dtype=np.int64), np.concatenate(people))


def _follow(clip: Clip, path: Path2D, model: Path, report: Progress) -> NDArray[np.float64]:
    """Second pass along the walker's path: (n, 33, 2) px, NaN where the walker was not found."""
    seen = np.full((len(path.frame), N_LANDMARKS, 2), np.nan)
    with PoseEstimator(model, PEOPLE_IN_CROP) as estimator:
        part = dataclasses.replace(clip, first=int(path.frame[0]), stop=int(path.frame[-1]) + 1)
        for index, image in read_frames(part):
            i = index - part.first
            left, top, right, bottom = crop_box(path, i, clip)
            if right - left > 1 and bottom - top > 1:
                people = estimator.detect(image[top:bottom, left:right])
                people[:, :, :2] += (left, top)
                chosen = pick_walker(people, path, i)
                if chosen is not None:
                    seen[i] = chosen[:, :2]
            report(0.5 + 0.45 * i / part.count, "following the walker")
    return seen


def _usable_window(seen: NDArray[np.float64], path: Path2D, clip: Clip) -> slice:
    """The longest part of the path in which the whole body is in the picture, short absences allowed."""
    margin = BORDER * path.height[:, None]
    x, y = seen[:, BODY, 0], seen[:, BODY, 1]
    inside = (x > margin) & (x < clip.width - margin) & (y > margin) & (y < clip.height - margin)
    outside = np.isfinite(x[:, 0]) & ~inside.all(axis=1)
    seen[outside] = np.nan
    whole = np.flatnonzero(inside.all(axis=1))
    if not len(whole):
        raise ExoError(f"in {clip.path} the walker is never in the picture from head to foot; film from further away")
    runs = np.split(whole, np.flatnonzero(np.diff(whole) > MAX_BREAK_S * clip.rate_hz + 1) + 1)
    longest = max(runs, key=len)
    return slice(int(longest[0]), int(longest[-1]) + 1)


def _require_strides(events: GaitEvents, markers: Markers) -> None:
    counts = {side: len(events.of(side)) for side in SIDES}
    if sum(counts.values()) < MIN_STRIDES or min(counts.values()) < 1:
        raise ExoError(
            f"only {counts['l']} complete left and {counts['r']} right stride(s) were found in the "
            f"{markers.time[-1] - markers.time[0]:.1f} s in which the whole body is in the picture; "
            "film at least two strides of each leg from the side"
        )


def _figures(
    clip: Clip,
    seen: NDArray[np.float64],
    repair: Repair,
    interpolated: NDArray[np.bool_],
    markers: Markers,
    view: View,
) -> dict[str, float]:
    found = np.isfinite(seen[:, 0, 0])
    bones = bone_length_cv_pct(markers)
    return {
        "frames_in_video": float(clip.count),
        "frames_used": float(len(seen)),
        "frame_rate_hz": clip.rate_hz,
        "person_found_pct": 100.0 * float(found.mean()),
        "missed_pct": 100.0 * float(1.0 - found.mean()),
        "legs_exchanged_frames": float(repair.exchanged.sum()),
        "legs_exchanged_pct": 100.0 * float(repair.exchanged.mean()),
        "legs_merged_frames": float(repair.merged.sum()),
        "joints_rejected_pct": 100.0 * float(repair.rejected[:, LEG_JOINTS].mean()),
        "leg_interpolated_pct": 100.0 * float(interpolated[:, LEG_JOINTS].mean()),
        "bone_length_cv_pct": float(np.mean(list(bones.values()))),
        **{f"bone_length_cv_{name}_pct": value for name, value in bones.items()},
        "scale_mm_per_px": 1000.0 * float(np.median(view.metre_per_px)),
        "scale_change_pct": 100.0 * view.scale_change,
        "floor_slope_deg": float(np.degrees(abs(np.arctan(view.floor_slope)))),
    }
