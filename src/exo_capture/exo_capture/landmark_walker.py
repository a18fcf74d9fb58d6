"""From another tool's landmarks of a side view to a walk: who is the walker, and then as for a video."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import BODY, MARKERS, Detections
from exo_capture.mirrored_pose import OTHER_SIDE
from exo_capture.path_crop import pick_walker, walker_path
from exo_capture.people import Candidates, choose_walker, find_tracks
from exo_capture.quality import NOT_USABLE
from exo_capture.sagittal_reconstruction import SagittalReconstruction, check_height, reconstruct_sagittal
from exo_common.errors import ExoError

ASSUMPTION = "the camera stood still while it filmed; without its pictures this cannot be checked"
MIN_FRAMES = 2


def reconstruct_landmarks(detections: Detections, height: float, person: int | None = None) -> SagittalReconstruction:
    """Markers, events and quality of the person who walks across a side view that another tool has looked at.

    Parameters
    ----------
    detections : of one camera, at an even rate.
    height : the wearer's standing height, m.
    person : which of several walkers, 1 for the first to appear.

    Raises
    ------
    ExoError : if the landmarks lack a joint that is needed; nobody or two people walk across; the walk holds too few
        strides; or the result is not usable.
    """
    check_height(height)
    missing = [name for name, slot in MARKERS.items() if slot in BODY and not _known(detections.landmarks, slot)]
    if missing:
        raise ExoError(
            f"the landmarks of {detections.camera} lack {', '.join(missing)}; "
            "use a model with feet, e.g. HALPE_26 or BODY_25"
        )
    rate_hz = 1.0 / float(np.median(np.diff(detections.time)))
    # For telling people apart a landmark that is not seen lies where its partner of the other side is.
    landmarks = detections.landmarks
    whole = np.where(np.isfinite(landmarks), landmarks, landmarks[:, OTHER_SIDE])
    walker = choose_walker(find_tracks(Candidates(detections.frame, whole), rate_hz), rate_hz, person)
    path = walker_path(walker, rate_hz, 0, len(detections.time))
    seen = np.full((len(path.frame), *landmarks.shape[1:]), np.nan)
    for i, frame in enumerate(path.frame):
        rows = np.flatnonzero(detections.frame == frame)
        chosen = pick_walker(whole[rows], path, i)
        if chosen is not None:
            seen[i] = landmarks[rows[chosen]]
    result = reconstruct_sagittal(seen, detections.time[path.frame], detections.size, height)
    quality = dataclasses.replace(result.quality, assumptions=(*result.quality.assumptions, ASSUMPTION))
    if quality.verdict == NOT_USABLE:
        raise ExoError(f"the landmarks of {detections.camera} cannot be used: {'; '.join(quality.warnings)}")
    return dataclasses.replace(result, quality=quality)


def between(detections: Detections, start_s: float, end_s: float) -> Detections:
    """The part of a recording between two times, s.

    Raises
    ------
    ExoError : if nothing lies between them.
    """
    keep = np.flatnonzero((detections.time >= start_s) & (detections.time <= end_s))
    if len(keep) < MIN_FRAMES:
        raise ExoError(
            f"the landmarks of {detections.camera} last from {detections.time[0]:.1f} to {detections.time[-1]:.1f} s; "
            "choose the start and end of the walk between these"
        )
    rows = (detections.frame >= keep[0]) & (detections.frame <= keep[-1])
    return dataclasses.replace(
        detections,
        time=detections.time[keep],
        frame=detections.frame[rows] - keep[0],
        landmarks=detections.landmarks[rows],
    )


def _known(landmarks: NDArray[np.float64], slot: int) -> bool:
    return bool(np.isfinite(landmarks[:, slot, 0]).any())
