"""Several calibrated cameras in, markers in metres with everything a later solver or a reader wants to know.

In order: clocks, who is who, cameras that cannot be believed, exchanged legs, robust
triangulation, outliers and gaps, OpenSim's frame, smoothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.alignment import align
from exo_capture.association import (
    Person,
    Tracklet,
    body_size,
    choose_person,
    find_people,
    find_tracklets,
)
from exo_capture.bundle import adjustment_step, turned
from exo_capture.camera_health import judge_cameras
from exo_capture.cameras import Camera
from exo_capture.exchanged_views import mend_exchanged_legs
from exo_capture.filtering import smooth
from exo_capture.landmarks import HIPS, MARKERS, Detections
from exo_capture.quality_multicamera import figures_of
from exo_capture.skeleton_repair import repair_skeleton
from exo_capture.synchronise import Series, Synchronisation, find_offsets, resample
from exo_capture.triangulation import Triangulated, triangulate, views
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

GATE = 0.06  # body sizes; an observation this far off is surely wrong
MAX_PEOPLE = 2  # per camera, tried in the search for the clocks
PADDING_PX = 16  # encoders round a picture's size up to such blocks
UNEVEN_CLOCK = 0.1  # of a frame; beyond it the reference camera's times are not even enough to filter on
REFINEMENT_FRAMES, REFINEMENT_ROUNDS = 60, 3
SLOTS = tuple(MARKERS.values())


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """One person seen by several cameras, in OpenSim's frame, at the reference (first) camera's times.

    Attributes
    ----------
    markers : repaired and smoothed, with confidence.
    raw : as triangulated, before any test of bones or jumps and before smoothing.
    covariance : (n, markers, 3, 3) m² of `raw`.
    cameras : the cameras, for points in OpenSim's frame.
    observations : (c, n, 33, 3) px, px, weight of this person on the common times: exchanged legs mended, what the
        triangulation left out has weight 0 (and keeps its pixels), NaN where nothing was seen.
    offsets_s : by camera, what was added to its clock.
    sigma_px : by camera, standard deviation of its pixels on one axis.
    figures : name -> number, for the quality report.
    facts : name -> text, for the quality report.
    warnings : sentences, for the quality report.
    """

    markers: Markers
    raw: Markers
    covariance: FloatArray
    cameras: tuple[Camera, ...]
    observations: FloatArray
    offsets_s: dict[str, float]
    sigma_px: dict[str, float]
    figures: dict[str, float]
    facts: dict[str, str]
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Recording:
    """Detections with the cameras that made them, and the times of their pictures on the common clock."""

    detections: tuple[Detections, ...]
    cameras: tuple[Camera, ...]
    synchronisation: Synchronisation | None

    @property
    def offsets_s(self) -> FloatArray:
        if self.synchronisation is None:
            return np.zeros(len(self.cameras))
        return self.synchronisation.offsets_s

    @property
    def times(self) -> list[FloatArray]:
        return [d.time + offset for d, offset in zip(self.detections, self.offsets_s, strict=True)]


def reconstruct(
    detections: Sequence[Detections],
    cameras: Sequence[Camera],
    *,
    synchronise: bool = False,
    person: int | None = None,
    up: Sequence[float] | None = None,
) -> Reconstruction:
    """One person's markers from what several calibrated cameras saw.

    Parameters
    ----------
    detections : one per camera, matched by name.
    cameras : calibrated; one without detections is only missed.
    synchronise : find the offsets between the cameras' clocks; otherwise their times are taken as they are.
    person : which of several people, counted from 0 with the one seen most first; None chooses.
    up : the room's vertical in the calibration's frame, if known.

    Raises
    ------
    ExoError : if fewer than two cameras see somebody, cannot be synchronised, or contradict each other.
    """
    recording, warnings = _match(detections, cameras)
    tracklets = [find_tracklets(d, c) for c, d in enumerate(recording.detections)]
    if synchronise:
        recording = _synchronised(recording, tracklets)
    people = find_people(
        recording.detections, recording.cameras, [t for view in tracklets for t in view], recording.times
    )
    people = [p for p in people if len({t.camera for t in p.tracklets}) >= 2]
    if not people:
        raise ExoError(
            "no two cameras agree on where anybody is; check that the calibration file belongs to these cameras in "
            "these places" + ("" if synchronise else ", and that their clocks agree (or let them be synchronised)")
        )
    index, rival = choose_person(people, [_travel(recording, p) for p in people], person)
    if rival:
        warnings.append(
            f"{len(people)} people are seen about equally well; number {index} was taken: choose with `person`"
        )
    time = _common_times(recording, people[index])
    seen_px = _observations(recording, people[index], time)
    size_px = float(np.median(body_size(seen_px)[body_size(seen_px) > 0.0]))
    health = judge_cameras(
        views(seen_px[:, :, SLOTS], recording.cameras), [c.name for c in recording.cameras], size_px, time
    )
    warnings += health.warnings
    if health.usable.any(axis=1).sum() < 2:
        raise ExoError(
            f"{' and '.join(c.name for c in recording.cameras)} contradict each other: the calibration file belongs to "
            "other cameras or places, or one was moved; calibrate again"
        )
    seen_px[~health.usable] = np.nan
    seen_px, exchanged = mend_exchanged_legs(seen_px, recording.cameras, time, GATE * size_px)
    gate_px = GATE * size_px
    turns = np.zeros((len(recording.cameras), 3))
    if len(recording.cameras) > 2:
        turns = _turns(seen_px, recording.cameras, time, gate_px)
        recording = dataclasses.replace(
            recording, cameras=tuple(turned(c, t) for c, t in zip(recording.cameras, turns, strict=True))
        )
    points = triangulate(views(seen_px, recording.cameras), gate_px)
    return _result(recording, time, seen_px, points, exchanged, warnings, up)


def _result(
    recording: _Recording,
    time: FloatArray,
    observations: FloatArray,
    points: Triangulated,
    exchanged: BoolArray,
    warnings: list[str],
    up: Sequence[float] | None,
) -> Reconstruction:
    alignment = align(points.position, time, None if up is None else np.asarray(up, dtype=float))
    rate = (len(time) - 1) / (time[-1] - time[0])
    position = alignment.points(points.position)
    deviation = np.sqrt(np.trace(np.nan_to_num(points.covariance, nan=1.0), axis1=-2, axis2=-1))
    repaired = repair_skeleton(position, deviation, rate)
    smoothed = smooth(repaired.position.reshape(len(time), -1), rate).reshape(position.shape)
    slots = list(SLOTS)
    confidence = np.where(repaired.rejected | repaired.filled, 0.0, points.confidence)[:, slots]
    names = [camera.name for camera in recording.cameras]
    masked = observations.copy()
    masked[..., 2] = np.where(np.isfinite(observations[..., 0]), observations[..., 2] * points.inliers, np.nan)
    raw = Markers(time, tuple(MARKERS), position[:, slots], points.confidence[:, slots])
    return Reconstruction(
        Markers(time, tuple(MARKERS), smoothed[:, slots], confidence),
        raw,
        alignment.covariance(points.covariance)[:, slots],
        tuple(alignment.camera(camera) for camera in recording.cameras),
        masked,
        dict(zip(names, recording.offsets_s.tolist(), strict=True)),
        dict(zip(names, points.sigma.tolist(), strict=True)),
        figures_of(names, points, raw, repaired, exchanged, recording.synchronisation),
        alignment.facts,
        tuple(warnings),
    )


def _turns(observations: FloatArray, cameras: Sequence[Camera], time: FloatArray, gate_px: float) -> FloatArray:
    """(c, 3) rad: how far each camera seems to have turned since its calibration."""
    step = max(1, len(time) // REFINEMENT_FRAMES)
    part, rate = observations[:, ::step][:, :, list(SLOTS)], 1.0 / (np.median(np.diff(time)) * step)
    turns = np.zeros((len(cameras), 3))
    for _ in range(REFINEMENT_ROUNDS):
        seen = views(part, [turned(c, t) for c, t in zip(cameras, turns, strict=True)])
        turns += adjustment_step(seen, triangulate(seen, gate_px), rate).turn
    return turns


def _match(detections: Sequence[Detections], cameras: Sequence[Camera]) -> tuple[_Recording, list[str]]:
    """Pair detections with their cameras, in pixels of the calibration."""
    by_name = {d.camera: d for d in detections}
    strangers = sorted(set(by_name) - {camera.name for camera in cameras})
    if strangers:
        raise ExoError(
            f"there is no calibration for {', '.join(strangers)} (it has {', '.join(c.name for c in cameras)}); "
            "name the recordings as the calibration names the cameras"
        )
    warnings, kept = [], []
    for camera in cameras:
        found = by_name.get(camera.name)
        if found is None or not len(found.frame):
            what = "has no recording" if found is None else "sees nobody"
            warnings.append(f"{camera.name} {what}; the others go on without it")
        else:
            kept.append((_in_calibrated_pixels(found, camera), camera))
    if len(kept) < 2:
        raise ExoError(
            f"only {len(kept)} of {len(cameras)} calibrated cameras sees somebody; two are needed: "
            "add a recording, or use the pipeline for one camera"
        )
    return _Recording(tuple(d for d, _ in kept), tuple(c for _, c in kept), None), warnings


def _in_calibrated_pixels(detections: Detections, camera: Camera) -> Detections:
    (width, height), (calibrated_width, calibrated_height) = detections.size, camera.size
    if max(abs(width - calibrated_width), abs(height - calibrated_height)) <= PADDING_PX:
        return detections
    scale = calibrated_width / width
    if abs(scale * height - calibrated_height) > PADDING_PX:
        raise ExoError(
            f"{camera.name} was recorded in {width}x{height} px but calibrated in "
            f"{calibrated_width}x{calibrated_height}; the calibration is another camera's, or the picture was turned"
        )
    landmarks = detections.landmarks.copy()
    landmarks[..., :2] *= scale
    return dataclasses.replace(detections, landmarks=landmarks, size=camera.size)


def _synchronised(recording: _Recording, tracklets: Sequence[Sequence[Tracklet]]) -> _Recording:
    candidates = []
    for c, view in enumerate(tracklets):
        if not view:
            raise ExoError(
                f"{recording.cameras[c].name} shows nobody long enough to synchronise it; "
                "film the wearer with all cameras"
            )
        candidates.append([_series(recording.detections[c], [t]) for t in view[:MAX_PEOPLE]])
    return dataclasses.replace(recording, synchronisation=find_offsets(candidates, recording.cameras))


def _series(detections: Detections, tracklets: Sequence[Tracklet]) -> Series:
    """One person in one camera, on all its pictures."""
    landmarks = np.full((len(detections.time), *detections.landmarks.shape[1:]), np.nan)
    for tracklet in tracklets:
        landmarks[detections.frame[tracklet.row]] = detections.landmarks[tracklet.row]
    return Series(detections.time, landmarks)


def _common_times(recording: _Recording, person: Person) -> FloatArray:
    """The reference camera's times from the first to the last at which two cameras see the person."""
    reference = recording.times[0]
    period = float(np.median(np.diff(reference)))
    if np.abs(np.diff(reference) - period).max() > UNEVEN_CLOCK * period:
        reference = np.arange(reference[0], reference[-1] + period / 2.0, period)
    seeing = np.zeros(len(reference), dtype=int)
    for c in range(len(recording.cameras)):
        rows = [t.row for t in person.tracklets if t.camera == c]
        if rows:
            shown = recording.times[c][recording.detections[c].frame[np.concatenate(rows)]]
            nearest = np.abs(shown[:, None] - reference[None, :]).min(axis=0)
            seeing += nearest < period
    both = np.flatnonzero(seeing >= 2)
    if len(both) < 2:
        raise ExoError("the wearer is never seen by two cameras at once; let the cameras' fields overlap on the walk")
    return np.asarray(reference[both[0] : both[-1] + 1])


def _observations(recording: _Recording, person: Person, time: FloatArray) -> FloatArray:
    """(c, n, 33, 3) px, px, confidence of one person at common times."""
    result = np.full((len(recording.cameras), len(time), 33, 3), np.nan)
    for c, detections in enumerate(recording.detections):
        own = [t for t in person.tracklets if t.camera == c]
        if own:
            result[c] = resample(_series(detections, own), time - recording.offsets_s[c])
    return result


def _travel(recording: _Recording, person: Person) -> float:
    """How far the hips move through the room, m."""
    time = _common_times(recording, person)
    time = time[:: max(1, len(time) // 20)]
    observations = _observations(recording, person, time)[:, :, HIPS]
    size = float(np.median(body_size(_observations(recording, person, time[:1]))))
    hips = triangulate(views(observations, recording.cameras), GATE * max(size, 1.0)).position.mean(axis=1)
    hips = hips[np.isfinite(hips).all(axis=1)]
    return float(np.linalg.norm(np.ptp(hips, axis=0))) if len(hips) else float("nan")
