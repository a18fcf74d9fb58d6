"""Several calibrated cameras in, markers in metres with everything a later solver or a reader wants to know.

In order: clocks, who is who, cameras that cannot be believed, exchanged legs, robust
triangulation, outliers and gaps, OpenSim's frame, smoothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.adjustment import adjustment_step, turn_between, turn_towards, turned
from exo_capture.alignment import align
from exo_capture.association import (
    Person,
    Tracklet,
    body_size,
    choose_person,
    find_people,
    find_tracklets,
)
from exo_capture.camera_health import CONTRADICTS, MOVED, Health, judge_cameras
from exo_capture.cameras import Camera
from exo_capture.exchanged_views import ARMS, LEGS, mend_exchanged
from exo_capture.filtering import fill_gaps, smooth
from exo_capture.landmarks import HIPS, MARKERS, Detections
from exo_capture.quality_multicamera import figures_of
from exo_capture.recordings import Recording, match
from exo_capture.skeleton_repair import jumping_points, repair_skeleton
from exo_capture.synchronise import Series, find_offsets, resample
from exo_capture.triangulation import Triangulated, Views, residuals, triangulate, views
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

GATE = 0.06  # body sizes; an observation this far off is surely wrong
# An observation this far from the keypoint's smooth path is wrong; the path itself cuts corners by up to `PATH_SLACK`.
PATH_SIGMAS, PATH_SLACK = 5.0, 0.02  # standard deviations, body sizes
MAX_PEOPLE = 2  # per camera, tried in the search for the clocks
UNEVEN_CLOCK = 0.1  # of a frame; beyond it the reference camera's times are not even enough to filter on
REFINEMENT_FRAMES, REFINEMENT_ROUNDS = 60, 3
WARN_TURN_RAD, MAX_TURN_RAD = float(np.radians(1.0)), float(np.radians(4.0))  # what goes further fell over
MOVED_SHARE = 0.1  # of the recording
JUDGE_AGAIN_RAD = float(np.radians(0.5))  # cameras that turned more may have hidden which leg is which
SLOTS = list(MARKERS.values())
MIRRORED = "the picture of {} is mirrored and was turned back; switch mirroring off in the camera or its driver"


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
    mirrored : names of the cameras whose pictures are mirrored; `observations` are turned back.
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
    mirrored: frozenset[str]
    sigma_px: dict[str, float]
    figures: dict[str, float]
    facts: dict[str, str]
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Wearer:
    """One person in all cameras.

    Attributes
    ----------
    time : (n,) s, common.
    as_seen : (c, n, 33, 3) px, px, confidence; only the slots of MARKERS.
    observations : the same with exchanged limbs in their places.
    exchanged : (c, n) where the legs had been exchanged.
    size_px : typical size of the body in the pictures.
    excluded : indices of cameras that contradict the others throughout.
    miss_px : typical error of all cameras together.
    """

    recording: Recording
    time: FloatArray
    as_seen: FloatArray
    observations: FloatArray
    exchanged: BoolArray
    size_px: float
    excluded: tuple[int, ...]
    miss_px: float
    warnings: tuple[str, ...]


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
    synchronise : find the offsets between the cameras' clocks; otherwise their times are taken as they are,
        unless they contradict each other and an offset explains it.
    person : which of several people, 1 for the one seen most; None chooses.
    up : the room's vertical in the calibration's frame, if known.

    Raises
    ------
    ExoError : if fewer than two cameras see somebody, cannot be synchronised, or contradict each other.
    """
    recording, warnings = match(detections, cameras)
    wearer = _explain(recording, synchronise, person)
    warnings += wearer.warnings
    recording, time, gate_px = wearer.recording, wearer.time, GATE * wearer.size_px
    pixels, exchanged = wearer.observations, wearer.exchanged
    turned_cameras = _slightly_turned(recording.cameras, pixels, time, gate_px)
    if max(turn_between(a, b) for a, b in zip(recording.cameras, turned_cameras, strict=True)) > JUDGE_AGAIN_RAD:
        pixels, exchanged = _sides_mended(wearer.as_seen, turned_cameras, time, gate_px)
    recording = dataclasses.replace(recording, cameras=turned_cameras)
    calibrated = {camera.name: camera for camera in cameras}
    turns = {camera.name: turn_between(calibrated[camera.name], camera) for camera in turned_cameras}
    for name, turn in turns.items():
        if turn > WARN_TURN_RAD:
            warnings.append(
                f"{name} has turned by {np.degrees(turn):.1f} degrees since its calibration; "
                "this was put right from the person, but fix the camera firmly and calibrate again"
            )
    seen = views(pixels[:, :, SLOTS], turned_cameras)
    off_path, on_path = _judge_by_path(seen, triangulate(seen, gate_px), time, wearer.size_px)
    points = triangulate(dataclasses.replace(seen, weight=np.where(off_path, 0.0, seen.weight)), gate_px)
    # What a single camera saw where the point is expected says nothing alone, but helps a solver that knows the body.
    lonely = on_path & (points.inliers.sum(axis=0) < 2)
    alignment = align(_all_slots(points.position), None if up is None else np.asarray(up, dtype=float))
    rate = (len(time) - 1) / (time[-1] - time[0])
    position = alignment.points(points.position)
    deviation = np.sqrt(np.trace(np.nan_to_num(points.covariance, nan=1.0), axis1=-2, axis2=-1))
    repaired = repair_skeleton(_all_slots(position), _all_slots(deviation), rate)
    smoothed = smooth(repaired.position.reshape(len(time), -1), rate).reshape(*repaired.position.shape)
    unsure = (repaired.rejected | repaired.filled)[:, SLOTS]
    trusted = (points.inliers | lonely) & ~repaired.rejected[:, SLOTS]
    observations = np.full(pixels.shape, np.nan)
    observations[:, :, SLOTS] = pixels[:, :, SLOTS]
    observations[:, :, SLOTS, 2] *= trusted
    names, markers = [camera.name for camera in recording.cameras], tuple(MARKERS)
    raw = Markers(time, markers, position, points.confidence)
    return Reconstruction(
        Markers(time, markers, smoothed[:, SLOTS], np.where(unsure, 0.0, points.confidence)),
        raw,
        alignment.covariance(points.covariance),
        tuple(alignment.camera(camera) for camera in recording.cameras),
        observations,
        dict(zip(names, recording.offsets_s.tolist(), strict=True)),
        recording.mirrored,
        dict(zip(names, points.sigma.tolist(), strict=True)),
        {
            **figures_of(names, seen.seen, points, raw, repaired, exchanged, recording.synchronisation),
            **{f"turn_{name}_deg": float(np.degrees(turn)) for name, turn in turns.items()},
        },
        alignment.facts,
        tuple(warnings),
    )


def _explain(recording: Recording, synchronise: bool, person: int | None) -> _Wearer:
    """The wearer in all cameras; if cameras contradict each other, the simplest explanation that ends it.

    Tried in turn: the clocks differ; one picture is mirrored; one camera is wrong altogether and stays out.
    """
    plain, refusal = _try(recording, synchronise, person)
    if plain is not None and not plain.excluded:
        return plain
    if not synchronise:
        better, _ = _try(recording, True, person)
        if better is not None and not better.excluded:
            shifts = np.abs(better.recording.offsets_s)
            text = f"the cameras' clocks differed by up to {shifts.max():.2f} s; the wearer's motion synchronised them"
            return dataclasses.replace(better, warnings=(*better.warnings, text))
    suspects = plain.excluded if plain is not None else range(len(recording.cameras))
    better = _best([(recording.with_mirrored(c), c) for c in suspects], synchronise, person, MIRRORED)
    if better is None and plain is None and len(recording.cameras) > 2:
        better = _best([(recording.without(c), c) for c in suspects], synchronise, person, CONTRADICTS, recording)
    if better is not None:
        return better
    if plain is not None:
        return plain
    assert refusal is not None
    raise refusal


def _best(
    variants: Sequence[tuple[Recording, int]],
    synchronise: bool,
    person: int | None,
    sentence: str,
    named: Recording | None = None,
) -> _Wearer | None:
    """Of variants, each about one camera, the one in which the cameras agree best; None if they agree in none."""
    found = []
    for variant, c in variants:
        wearer, _ = _try(variant, synchronise, person)
        if wearer is not None and not wearer.excluded:
            name = (named or variant).cameras[c].name
            found.append(dataclasses.replace(wearer, warnings=(*wearer.warnings, sentence.format(name))))
    return min(found, key=lambda wearer: wearer.miss_px, default=None)


def _try(recording: Recording, synchronise: bool, person: int | None) -> tuple[_Wearer | None, ExoError | None]:
    try:
        return _find_wearer(recording, synchronise, person), None
    except ExoError as refusal:
        return None, refusal


def _find_wearer(recording: Recording, synchronise: bool, person: int | None) -> _Wearer:
    tracklets = [find_tracklets(d, c) for c, d in enumerate(recording.detections)]
    if synchronise:
        recording = _synchronised(recording, tracklets)
    everybody = [t for view in tracklets for t in view]
    people = [
        p
        for p in find_people(recording.detections, recording.cameras, everybody, recording.times)
        if len({t.camera for t in p.tracklets}) >= 2
    ]
    if not people:
        raise ExoError(
            "no two cameras agree on where anybody is: the calibration file belongs to other cameras or places, or the "
            "cameras were moved; calibrate again"
        )
    warnings = []
    travel = [_travel(recording, p) for p in people] if len(people) > 1 else [0.0]
    index, rival = choose_person(people, travel, person)
    if rival:
        warnings.append(
            f"{len(people)} people are seen about equally well and person {index + 1} was taken; "
            "choose the wearer by that number (--person N, or person: N in session.yaml), or film the wearer alone"
        )
    time = _common_times(recording, people[index])
    observations = _observations(recording, people[index], time)
    sizes = body_size(observations)
    size_px = float(np.median(sizes[sizes > 0.0]))
    as_seen = observations
    observations, exchanged = _sides_mended(as_seen, recording.cameras, time, GATE * size_px)
    seen = views(observations[:, :, SLOTS], recording.cameras)
    names = [c.name for c in recording.cameras]
    cameras, health = _turned_if_better(recording.cameras, observations, time, size_px)
    recording, usable = dataclasses.replace(recording, cameras=cameras), health.usable
    if usable.any(axis=1).sum() < 2:
        raise ExoError(
            f"{' and '.join(names)} contradict each other by more than "
            f"{health.limit_px:.0f} px: the calibration file belongs to other cameras or places, a camera was moved, "
            "or their clocks differ; calibrate again, or let the clocks be synchronised"
        )
    # A camera that sees somebody, but not where the others see the wearer.
    strangers = [c for c, view in enumerate(tracklets) if view and not seen.seen[c].any()]
    warnings += [*health.warnings, *(CONTRADICTS.format(names[c]) for c in strangers)]
    for c, name in enumerate(names):
        lost = _somebody_else(recording, c, people, everybody, time[~seen.seen[c].any(axis=1)])
        if c not in strangers and len(lost) > MOVED_SHARE * len(time):
            warnings.append(MOVED.format(name, lost[0], lost[-1]))
    observations[~usable], as_seen[~usable] = np.nan, np.nan
    excluded = {*strangers, *(c for c in range(len(usable)) if not usable[c].any())}
    excluded_cameras = tuple(sorted(excluded))
    return _Wearer(
        recording, time, as_seen, observations, exchanged, size_px, excluded_cameras, health.miss_px, tuple(warnings)
    )


def _somebody_else(
    recording: Recording, camera: int, people: Sequence[Person], everybody: Sequence[Tracklet], time: FloatArray
) -> FloatArray:
    """Those of the times at which a camera follows somebody whom no other camera sees in that place."""
    shared = {id(tracklet) for person in people for tracklet in person.tracklets}
    rows = [t.row for t in everybody if t.camera == camera and id(t) not in shared]
    if not rows or not len(time):
        return np.zeros(0)
    shown = recording.times[camera][recording.detections[camera].frame[np.concatenate(rows)]]
    period = float(np.median(np.diff(recording.times[camera])))
    return np.asarray(time[_to_nearest(time, shown) < period])


def _to_nearest(time: FloatArray, others: FloatArray) -> FloatArray:
    """How far each time is from the nearest of the others, which may be in any order; there is at least one."""
    bounds = np.concatenate([[-np.inf], np.sort(others), [np.inf]])
    after = np.searchsorted(bounds, time)
    return np.asarray(np.minimum(time - bounds[after - 1], bounds[after] - time))


def _sides_mended(
    observations: FloatArray, cameras: Sequence[Camera], time: FloatArray, gate_px: float
) -> tuple[FloatArray, BoolArray]:
    """Observations with exchanged arms and legs in their places, and (c, n) where the legs had been exchanged."""
    observations, _ = mend_exchanged(observations, cameras, time, gate_px, ARMS)
    return mend_exchanged(observations, cameras, time, gate_px, LEGS)


def _turned_if_better(
    cameras: tuple[Camera, ...], observations: FloatArray, time: FloatArray, size_px: float
) -> tuple[tuple[Camera, ...], Health]:
    """The cameras and whether to believe them; turned, if that makes more of them believable."""

    def judged(candidates: tuple[Camera, ...]) -> Health:
        seen = views(observations[:, :, SLOTS], candidates)
        return judge_cameras(seen, [camera.name for camera in candidates], size_px, time)

    health = judged(cameras)
    if health.usable.all():
        return cameras, health
    lost = ~np.array([usable.any() for usable in health.usable])
    straight = _straightened(cameras, observations, ~lost, GATE * size_px)
    choices = [(cameras, health), (straight, judged(straight))]
    together = _slightly_turned(straight, observations, time, GATE * size_px)
    choices.append((together, judged(together)))
    return max(choices, key=lambda choice: int(choice[1].usable.sum()))


def _straightened(
    cameras: tuple[Camera, ...], observations: FloatArray, usable: BoolArray, gate_px: float
) -> tuple[Camera, ...]:
    """Cameras that contradict the others throughout are turned as the others want them, if that is not too far."""
    seen = views(observations[:, :, SLOTS], cameras)
    if usable.sum() < 2 or usable.all():
        return cameras
    points = triangulate(seen.of(np.flatnonzero(usable).tolist()), gate_px).position
    turns = np.array([np.zeros(3) if usable[c] else turn_towards(seen, c, points) for c in range(len(cameras))])
    turns[np.linalg.norm(turns, axis=1) > MAX_TURN_RAD] = 0.0
    return tuple(turned(camera, turn) for camera, turn in zip(cameras, turns, strict=True))


def _slightly_turned(
    cameras: tuple[Camera, ...], observations: FloatArray, time: FloatArray, gate_px: float
) -> tuple[Camera, ...]:
    """All cameras turned a little so that together they agree best."""
    turns = _turns(observations, cameras, time, gate_px)
    return tuple(turned(camera, turn) for camera, turn in zip(cameras, turns, strict=True))


def _all_slots(values: FloatArray) -> FloatArray:
    """(n, markers, ...) in the 33 slots of the landmarks, NaN elsewhere."""
    result = np.full((len(values), 33, *values.shape[2:]), np.nan)
    result[:, SLOTS] = values
    return result


def _judge_by_path(seen: Views, points: Triangulated, time: FloatArray, size_px: float) -> tuple[BoolArray, BoolArray]:
    """(c, n, k) observations far from, and near, where the point's motion before and after says it is.

    Two wrong rays may meet, and then only time tells.
    """
    rate = (len(time) - 1) / (time[-1] - time[0])
    steady = np.where(jumping_points(points.position, rate)[..., None], np.nan, points.position)
    filled, _ = fill_gaps(steady.reshape(len(time), -1), rate)
    path = smooth(filled, rate).reshape(steady.shape)
    error = np.linalg.norm(residuals(seen, path), axis=3)
    limit = np.maximum(PATH_SIGMAS * points.sigma, PATH_SLACK * size_px)[:, None, None]
    return np.asarray(error > limit), np.asarray(error <= limit)


def _turns(observations: FloatArray, cameras: Sequence[Camera], time: FloatArray, gate_px: float) -> FloatArray:
    """(c, 3) rad: how far each camera seems to have turned since its calibration; two cameras cannot tell."""
    if len(cameras) < 3:
        return np.zeros((len(cameras), 3))
    step = max(1, len(time) // REFINEMENT_FRAMES)
    part, rate = observations[:, ::step][:, :, SLOTS], 1.0 / (np.median(np.diff(time)) * step)
    turns = np.zeros((len(cameras), 3))
    for _ in range(REFINEMENT_ROUNDS):
        seen = views(part, [turned(c, t) for c, t in zip(cameras, turns, strict=True)])
        turns += adjustment_step(seen, triangulate(seen, gate_px), rate).turn
    return turns


def _synchronised(recording: Recording, tracklets: Sequence[Sequence[Tracklet]]) -> Recording:
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


def _common_times(recording: Recording, person: Person) -> FloatArray:
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
            seeing += _to_nearest(reference, shown) < period
    both = np.flatnonzero(seeing >= 2)
    if len(both) < 2:
        raise ExoError("the wearer is never seen by two cameras at once; let the cameras' fields overlap on the walk")
    return np.asarray(reference[both[0] : both[-1] + 1])


def _observations(recording: Recording, person: Person, time: FloatArray) -> FloatArray:
    """(c, n, 33, 3) px, px, confidence of one person at common times."""
    result = np.full((len(recording.cameras), len(time), 33, 3), np.nan)
    for c, detections in enumerate(recording.detections):
        own = [t for t in person.tracklets if t.camera == c]
        if own:
            found = resample(_series(detections, own), time - recording.offsets_s[c])
            result[c, :, SLOTS] = found[:, SLOTS].swapaxes(0, 1)
    return result


def _travel(recording: Recording, person: Person) -> float:
    """How far the hips move through the room, m."""
    time = _common_times(recording, person)
    time = time[:: max(1, len(time) // 20)]
    observations = _observations(recording, person, time)[:, :, HIPS]
    size = float(np.median(body_size(_observations(recording, person, time[:1]))))
    hips = triangulate(views(observations, recording.cameras), GATE * max(size, 1.0)).position.mean(axis=1)
    hips = hips[np.isfinite(hips).all(axis=1)]
    return float(np.linalg.norm(np.ptp(hips, axis=0))) if len(hips) else float("nan")
