"""Videos of several calibrated cameras in, markers with gait events and a quality report out.

Two looks at every video: over the whole picture, to find the wearer in the room; then
over a cut-out around the place where the wearer must be in each picture, and its mirror image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.cameras import Camera
from exo_capture.clip_detection import Box, detect_clip
from exo_capture.gait_events import GaitEvents, find_events, spatio_temporal
from exo_capture.landmarks import Detections
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

    def look(
        first: float, share: float, text: str, crops: Mapping[str, Callable[[int], Box | None]]
    ) -> list[Detections]:
        found = []
        for i, (name, clip) in enumerate(clips.items()):

            def done(part: float, i: int = i) -> None:
                report(first + share * (i + part) / len(clips), text)

            if name in crops:
                seen = detect_clip(clip, model, PEOPLE_IN_CROP, crop=crops[name], progress=done, backend=MirroredPose)
            else:
                seen = detect_clip(clip, model, PEOPLE, progress=done)
            found.append(dataclasses.replace(seen, camera=name))
        return found

    seen = look(0.0, FIRST_SHARE, "looking for people", {})
    rough = reconstruct(seen, ordered, synchronise=synchronise, person=person, up=up)
    crops = {c.name: wearer_boxes(rough, c, clips[c.name]) for c in rough.cameras}
    seen = look(FIRST_SHARE, 0.95 - FIRST_SHARE, "following the wearer", crops)
    report(0.95, "reconstructing")
    # A bystander in the cut-outs is seen less than the wearer, so the choice was made by the first look.
    result = reconstruct(seen, ordered, synchronise=synchronise, up=up)
    events, quality = judge_walk(result, [clip.note for clip in clips.values() if clip.note])
    if quality.verdict == NOT_USABLE:
        raise ExoError(f"the recording cannot be used: {'; '.join(quality.warnings)}")
    report(1.0, f"{len(events.strides)} strides found")
    return MulticameraCapture(result, events, quality, tuple(seen))


def wearer_boxes(result: Reconstruction, camera: Camera, clip: Clip) -> Callable[[int], Box | None]:
    """Where to look for the wearer: from a frame index of the file to (left, top, right, bottom) px, or None.

    `camera` is one of the result's own, for its markers are in OpenSim's frame.
    """
    time = result.markers.time
    pixels = camera.project(result.markers.position)

    def box(index: int) -> Box | None:
        when = clip.file_time[index] + result.offsets_s[camera.name]
        if not time[0] - EXTENSION_S <= when <= time[-1] + EXTENSION_S:
            return None
        points = pixels[int(np.argmin(np.abs(time - when)))]
        points = points[np.isfinite(points).all(axis=1)]
        if len(points) < MIN_POINTS:
            return None
        low, high = points.min(axis=0), points.max(axis=0)
        half = (0.5 + CROP_MARGIN) * float((high - low).max())
        centre = (low + high) / 2.0
        left, top = np.clip(np.round(centre - half), 0, (clip.width, clip.height)).astype(int)
        right, bottom = np.clip(np.round(centre + half), 0, (clip.width, clip.height)).astype(int)
        if right - left < 2 or bottom - top < 2:
            return None
        return int(left), int(top), int(right), int(bottom)

    return box


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
