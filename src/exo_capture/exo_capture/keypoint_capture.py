"""Another tool's 3-D keypoints of a walk in; markers in OpenSim's frame, strides and a quality report out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.alignment import align
from exo_capture.filtering import fill_gaps, smooth_markers
from exo_capture.gait_events import GaitEvents, facing_part, find_events, spatio_temporal
from exo_capture.landmark_files import keypoints_from_trc
from exo_capture.landmarks import BODY, HEELS, MARKERS, NOSE, TOES
from exo_capture.multicamera_capture import NO_WALKING, walks
from exo_capture.pose import N_LANDMARKS
from exo_capture.quality import NOT_USABLE, Quality, bone_length_cv_pct, judge
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

UP = (0.0, 1.0, 0.0)  # of TRC files as OpenSim reads them
MIN_DURATION_S = 0.5  # in less there is no step
NEEDED = tuple(name for name, slot in MARKERS.items() if slot in BODY and slot != NOSE)
ASSUMPTIONS = (
    "the keypoints are another tool's: what it measured, filled or smoothed is not known",
    "the pelvis is seen by its two hip points alone; its tilt follows the trunk",
)


@dataclasses.dataclass(frozen=True)
class KeypointCapture:
    """A walk in OpenSim's frame, walking along +x.

    Attributes
    ----------
    markers : short gaps filled, low-passed.
    raw : as the file has them, turned.
    """

    markers: Markers
    raw: Markers
    events: GaitEvents
    quality: Quality


def capture_keypoints(path: Path, start_s: float = 0.0, end_s: float = np.inf) -> KeypointCapture:
    """Read a TRC file of keypoints, turn it along the walk, and find the strides.

    Of somebody who turns round, the longest part in which they face one way is kept.

    Parameters
    ----------
    start_s, end_s : part of the file to use, s in the file's own time.

    Raises
    ------
    ExoError : if the file cannot be read, lacks a joint that is needed, or is not usable.
    """
    source = keypoints_from_trc(path)
    missing = [name for name in NEEDED if name not in source.names]
    if missing:
        raise ExoError(f"{path} has no keypoint called {', '.join(missing)}; use a model with feet, e.g. HALPE_26")
    keep = (source.time >= start_s) & (source.time <= end_s)
    time = source.time[keep]
    if len(time) < 2 or np.ptp(time) < MIN_DURATION_S:
        raise ExoError(
            f"{path} holds {len(time)} frames between the chosen times (it lasts from {source.time[0]:.1f} to "
            f"{source.time[-1]:.1f} s); choose a part of {MIN_DURATION_S:g} s or more with several strides"
        )
    slots = [MARKERS[name] for name in source.names]
    position = np.full((len(time), N_LANDMARKS, 3), np.nan)
    position[:, slots] = source.position[keep]
    part = _one_way(time, position)
    whole, time, position = len(time), time[part], position[part]
    alignment = align(position, np.array(UP))
    raw = Markers(time, source.names, alignment.points(position)[:, slots])
    flat, added = fill_gaps(raw.position.reshape(len(time), -1), raw.rate_hz)
    markers = smooth_markers(dataclasses.replace(raw, position=flat.reshape(raw.position.shape)))
    events = GaitEvents({side: () for side in SIDES}, {side: () for side in SIDES}, ())
    warnings: list[str] = []
    if walks(markers):
        events = find_events(markers)
        if len(time) < whole:
            events = dataclasses.replace(events, part=events.part or (float(time[0]), float(time[-1])))
        warnings += events.notes
    else:
        warnings.append(NO_WALKING)
    bones = bone_length_cv_pct(raw, planar=False)
    quality = judge(
        {
            "frames": float(len(time)),
            "frame_rate_hz": raw.rate_hz,
            "points_missing_pct": 100.0 * float(np.isnan(raw.position[..., 0]).mean()),
            "points_interpolated_pct": 100.0 * float(added.mean()),
            "bone_length_cv_pct": float(np.mean(list(bones.values()))),
            **{f"bone_length_cv_{bone}_pct": value for bone, value in bones.items()},
        },
        {side: len(events.of(side)) for side in SIDES},
        spatio_temporal(events, markers),
        alignment.facts,
        notes=warnings,
        assumptions=ASSUMPTIONS,
    )
    if quality.verdict == NOT_USABLE:
        raise ExoError(f"{path} cannot be used: {'; '.join(quality.warnings)}")
    return KeypointCapture(markers, raw, events, quality)


def _one_way(time: FloatArray, position: FloatArray) -> slice:
    """The longest part in which the feet of (n, 33, 3) m point to the same side of the line that they mostly lie on."""
    feet = np.array([position[:, toe] - position[:, heel] for heel, toe in zip(HEELS, TOES, strict=True)])[:, :, [0, 2]]
    known = feet[np.isfinite(feet).all(axis=2)]
    if not len(known):
        return slice(0, len(time))
    line = np.linalg.svd(known, full_matrices=False)[2][0]
    seen = np.isfinite(feet).all(axis=2)
    ahead = np.where(seen, feet @ line, 0.0).sum(axis=0) / np.where(seen.any(axis=0), seen.sum(axis=0), np.nan)
    return max((facing_part(time, sign * ahead) for sign in (1.0, -1.0)), key=lambda part: part.stop - part.start)
