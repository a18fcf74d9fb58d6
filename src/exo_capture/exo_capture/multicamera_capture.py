"""Videos of several calibrated cameras in, markers with gait events and a quality report out.

Two looks at every video: over the whole picture, to find the wearer in the room; then
over a cut-out around the place where the wearer must be in each picture, and its mirror image.
Who is the wearer is decided by the first look; of the second, only who is in her place is kept.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.association import body_size
from exo_capture.calibration_files import picture_scale
from exo_capture.cameras import Camera
from exo_capture.clip_detection import Box, detect_clip
from exo_capture.gait_events import GaitEvents, find_events, spatio_temporal
from exo_capture.landmarks import MARKERS, Detections
from exo_capture.mirrored_pose import MirroredPose
from exo_capture.multicamera import Reconstruction, reconstruct
from exo_capture.quality import MULTICAMERA_ASSUMPTIONS, NOT_USABLE, Quality, judge
from exo_capture.video import Clip, open_clip
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]
Progress = Callable[[float, str], None]

PEOPLE, PEOPLE_IN_CROP = 3, 2  # the wearer, a bystander, and in the whole picture one false candidate
CROP_MARGIN = 0.3  # of the body's larger extent in the picture, on every side: markers end at nose, wrists and toes
EXTENSION_S = 0.3  # beyond the first look the wearer is looked for where last seen for this long
MIN_POINTS = 6  # markers needed to know where to look
# Body sizes between the wearer's expected place and a candidate's; within `EXTENSION_S` a fast walker goes 0.25.
MAX_DISTANCE = 0.3
FIRST_SHARE = 0.45  # of the time
MIN_FOOT_WAY_M = 0.25  # of a heel against the pelvis, forward and back; slow walking has 0.5, balancing far less
NO_WALKING = "no walking was found: posture and joint angles are measured, but there are no strides"


@dataclasses.dataclass(frozen=True)
class MulticameraCapture:
    """Result of a capture; times are those of the first camera's video."""

    reconstruction: Reconstruction
    events: GaitEvents
    quality: Quality
    detections: tuple[Detections, ...]

    @property
    def markers(self) -> Markers:
        """The motion in metres, filtered."""
        return self.reconstruction.markers


def capture_multicamera(
    videos: Mapping[str, Path],
    cameras: Sequence[Camera],
    model: Path,
    *,
    start_s: float = 0.0,
    end_s: float = np.inf,
    synchronise: bool = True,
    person: int | None = None,
    up: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> MulticameraCapture:
    """Capture one person filmed by several calibrated cameras.

    Parameters
    ----------
    videos : by the name of the camera in the calibration; the first one's clock is kept.
    model : pose model bundle (see weights.model_path).
    start_s, end_s : part of the videos to use, s of each video.
    synchronise, person, up : see multicamera.reconstruct.
    progress : called with the share done, 0..1, and what is being done.

    Raises
    ------
    ExoError : if a video is missing, unreadable or too short, the cameras contradict each other, or the result is
        not usable.
    """
    report = progress or (lambda share, text: None)
    clips = {name: open_clip(path, start_s, end_s) for name, path in videos.items()}
    ordered = sorted(
        cameras, key=lambda camera: list(videos).index(camera.name) if camera.name in videos else len(videos)
    )

    def look(first: float, share: float, text: str, rough: Reconstruction | None = None) -> list[Detections]:
        known = {camera.name: camera for camera in rough.cameras} if rough else {}
        found = []
        for i, (name, clip) in enumerate(clips.items()):

            def done(part: float, i: int = i) -> None:
                report(first + share * (i + part) / len(clips), text)

            if rough is None:
                seen = detect_clip(clip, model, PEOPLE, progress=done)
            elif name in known:
                crop = wearer_boxes(rough, known[name], clip)
                seen = detect_clip(clip, model, PEOPLE_IN_CROP, crop=crop, progress=done, backend=MirroredPose)
                seen = only_wearer(rough, known[name], seen)
            else:
                continue
            found.append(dataclasses.replace(seen, camera=name))
        return found

    first = look(0.0, FIRST_SHARE, "looking for people")
    rough = reconstruct(first, ordered, synchronise=synchronise, person=person, up=up)
    second = {seen.camera: seen for seen in look(FIRST_SHARE, 0.95 - FIRST_SHARE, "following the wearer", rough)}
    report(0.95, "reconstructing")
    # A camera that does not show the wearer where she should be is judged by what it saw first.
    seen = [second[d.camera] if d.camera in second and len(second[d.camera].frame) else d for d in first]
    # Only the wearer is left in the cameras that agree, and so is seen most.
    result = reconstruct(seen, ordered, synchronise=synchronise, person=1, up=up)
    said = {_wording(warning) for warning in result.warnings}
    earlier = [warning for warning in rough.warnings if _wording(warning) not in said]
    notes = [*earlier, *(clip.note for clip in clips.values() if clip.note)]
    events, quality = judge_walk(result, notes)
    if quality.verdict == NOT_USABLE:
        raise ExoError(f"the recording cannot be used: {'; '.join(quality.warnings)}")
    report(1.0, f"{len(events.strides)} strides found")
    return MulticameraCapture(result, events, quality, tuple(seen))


def wearer_boxes(result: Reconstruction, camera: Camera, clip: Clip) -> Callable[[int], Box | None]:
    """Where to look for the wearer: from a frame index of the file to (left, top, right, bottom) px, or None.

    `camera` is one of the result's own, for its markers are in OpenSim's frame.
    """
    expected = _whereabouts(result, camera, (clip.width, clip.height))

    def box(index: int) -> Box | None:
        points = expected(clip.file_time[index])
        if points is None:
            return None
        points = points[np.isfinite(points).all(axis=1)]
        low, high = points.min(axis=0), points.max(axis=0)
        half = (0.5 + CROP_MARGIN) * float((high - low).max())
        centre = (low + high) / 2.0
        left, top = np.clip(np.round(centre - half), 0, (clip.width, clip.height)).astype(int)
        right, bottom = np.clip(np.round(centre + half), 0, (clip.width, clip.height)).astype(int)
        if right - left < 2 or bottom - top < 2:
            return None
        return int(left), int(top), int(right), int(bottom)

    return box


def only_wearer(result: Reconstruction, camera: Camera, seen: Detections) -> Detections:
    """Of everybody in each picture only who is nearest to the wearer's expected place, and within `MAX_DISTANCE`.

    The place of a candidate is that of the body as a whole: it neither depends on which leg is taken for which,
    nor on single keypoints. `camera` is one of the result's own.
    """
    expected = _whereabouts(result, camera, seen.size)
    size = body_size(seen.landmarks)
    nearest: dict[int, tuple[float, int]] = {}
    for row, frame in enumerate(seen.frame.tolist()):
        points = expected(seen.time[frame])
        if points is None or not size[row]:
            continue
        shift = seen.landmarks[row, list(MARKERS.values()), :2] - points
        shift = shift[np.isfinite(shift).all(axis=1)]
        if not len(shift):
            continue
        distance = float(np.linalg.norm(np.median(shift, axis=0)) / size[row])
        if distance < nearest.get(frame, (MAX_DISTANCE, row))[0]:
            nearest[frame] = distance, row
    rows = [row for _, row in nearest.values()]
    return dataclasses.replace(seen, frame=seen.frame[rows], landmarks=seen.landmarks[rows])


def _whereabouts(result: Reconstruction, camera: Camera, size: tuple[int, int]) -> Callable[[float], FloatArray | None]:
    """The markers in a camera's own picture of `size`: from its own time, s, to (markers, 2) px; None if unknown."""
    time = result.markers.time
    pixels = camera.project(result.markers.position)
    if camera.name in result.mirrored:
        pixels[..., 0] = camera.size[0] - 1.0 - pixels[..., 0]
    pixels /= picture_scale(camera, size)

    def at(own_time: float) -> FloatArray | None:
        when = own_time + result.offsets_s[camera.name]
        if not time[0] - EXTENSION_S <= when <= time[-1] + EXTENSION_S:
            return None
        points = pixels[int(np.argmin(np.abs(time - when)))]
        return points if np.isfinite(points).all(axis=1).sum() >= MIN_POINTS else None

    return at


def _wording(warning: str) -> str:
    """A warning without its measured numbers, by which it is known again."""
    return re.sub(r"\d+\.\d+", "", warning)


def judge_walk(result: Reconstruction, notes: Sequence[str] = ()) -> tuple[GaitEvents, Quality]:
    """Gait events, none if the person does not walk, and the quality report of a reconstruction."""
    events = GaitEvents({side: () for side in SIDES}, {side: () for side in SIDES}, ())
    facts, warnings = dict(result.facts), [*result.warnings, *notes]
    if walks(result.markers):
        events = find_events(result.markers)
        warnings += events.notes
    else:
        warnings.append(NO_WALKING)
    quality = judge(
        result.figures,
        {side: len(events.of(side)) for side in SIDES},
        spatio_temporal(events, result.markers),
        facts,
        notes=warnings,
        assumptions=MULTICAMERA_ASSUMPTIONS,
    )
    return events, quality


def walks(markers: Markers) -> bool:
    """Whether both feet swing forward and back under the pelvis, over ground or on a treadmill."""
    x = {name: markers.position[:, markers.names.index(name), 0] for name in ("LHip", "RHip", "LHeel", "RHeel")}
    pelvis = (x["LHip"] + x["RHip"]) / 2.0
    ways = [heel[np.isfinite(heel)] for heel in (x["LHeel"] - pelvis, x["RHeel"] - pelvis)]
    return all(len(way) and float(np.ptp(way)) > MIN_FOOT_WAY_M for way in ways)
