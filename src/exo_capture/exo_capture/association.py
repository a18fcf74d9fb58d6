"""The same person in every camera: tracks within a view, joined across views where their rays meet.

Within a view a track follows a person by the place of all keypoints; across views
two tracks belong together if the keypoints triangulated from both fall back on both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from exo_capture.cameras import Camera
from exo_capture.landmarks import BODY, Detections
from exo_capture.mirrored_pose import OTHER_SIDE
from exo_capture.triangulation import pair_errors, views
from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Lengths in body sizes: the diagonal of the box around a person's keypoints.
MAX_STEP = 0.15  # typical keypoint shift between two sightings of one person
MAX_SPEED = 1.5  # body sizes/s; a fast walk across the picture is about 1.2
GAP_COST = 0.5  # body sizes/s; of two tracks equally near, the one seen last goes on
DUPLICATE = 0.06  # two candidates nearer than this are one person reported twice
MAX_GAP_S = 0.5
MIN_TRACK_S = 0.2
SAME_PERSON = 0.05  # typical disagreement of two views of one person; of two people it is far more
COMPLETE_SHARE = 0.5  # a person seen in less than this share of the most complete one's pictures is a passer-by
FULL_TRAVEL_M = 1.0  # from here on, walking further does not make somebody more likely the wearer


@dataclasses.dataclass(frozen=True)
class Tracklet:
    """One person in one camera for a while: `row` (m,) index into the camera's Detections, ascending in time."""

    camera: int
    row: IntArray


@dataclasses.dataclass(frozen=True)
class Person:
    """Tracklets of one person in all cameras, and how many pictures show them."""

    tracklets: tuple[Tracklet, ...]

    @property
    def pictures(self) -> int:
        """Number of pictures in all cameras."""
        return sum(len(tracklet.row) for tracklet in self.tracklets)


def body_size(landmarks: FloatArray) -> FloatArray:
    """Diagonal of the box around the seen body keypoints of (..., 33, >=2) landmarks, px; 0 where none is seen."""
    body = landmarks[..., BODY, :2]
    known = np.isfinite(body)
    top = np.where(known, body, -np.inf).max(axis=-2)
    bottom = np.where(known, body, np.inf).min(axis=-2)
    size = np.linalg.norm(np.where(np.isfinite(top - bottom), top - bottom, 0.0), axis=-1)
    return np.asarray(size)


def find_tracklets(detections: Detections, camera: int) -> list[Tracklet]:
    """Tracks of people within one view, the longest first; duplicates and glimpses left out."""
    time, size = detections.time[detections.frame], body_size(detections.landmarks)
    points = detections.landmarks[:, :, :2]
    open_tracks: list[list[int]] = []
    closed: list[list[int]] = []
    for frame in np.unique(detections.frame):
        rows = _without_duplicates(np.flatnonzero(detections.frame == frame), points, size)
        now = detections.time[frame]
        closed += [track for track in open_tracks if now - time[track[-1]] > MAX_GAP_S]
        open_tracks = [track for track in open_tracks if now - time[track[-1]] <= MAX_GAP_S]
        cost = np.full((len(open_tracks), len(rows)), np.inf)
        for i, track in enumerate(open_tracks):
            gap = now - time[track[-1]]
            reach = MAX_STEP + MAX_SPEED * gap
            for j, row in enumerate(rows):
                step = _shift(points[track[-1]], points[row]) / max(size[row], 1.0)
                cost[i, j] = step + GAP_COST * gap if step < reach else np.inf
        taken = set()
        if cost.size:
            for i, j in zip(*linear_sum_assignment(np.where(np.isfinite(cost), cost, 1e3)), strict=True):
                if np.isfinite(cost[i, j]):
                    open_tracks[i].append(int(rows[j]))
                    taken.add(int(rows[j]))
        open_tracks += [[int(row)] for row in rows if int(row) not in taken]
    rate = (len(detections.time) - 1) / max(detections.time[-1] - detections.time[0], 1e-9)
    tracks = [track for track in closed + open_tracks if len(track) >= max(2.0, MIN_TRACK_S * rate)]
    return [Tracklet(camera, np.array(track)) for track in sorted(tracks, key=len, reverse=True)]


def find_people(
    detections: Sequence[Detections],
    cameras: Sequence[Camera],
    tracklets: Sequence[Tracklet],
    times: Sequence[FloatArray],
) -> list[Person]:
    """Join tracklets of all views into people, the one in most pictures first.

    Parameters
    ----------
    times : of each camera's pictures on the common clock, s.
    """
    groups = [[i] for i in range(len(tracklets))]
    cost = np.full((len(tracklets), len(tracklets)), np.nan)
    for i, a in enumerate(tracklets):
        for j, b in enumerate(tracklets[:i]):
            if a.camera != b.camera:
                cost[i, j] = cost[j, i] = _disagreement(a, b, detections, cameras, times)
    clash = np.array([[_clash(a, b, detections) for b in tracklets] for a in tracklets])
    while len(groups) > 1:
        best, pair = SAME_PERSON, None
        for x in range(len(groups)):
            for y in range(x):
                if clash[np.ix_(groups[x], groups[y])].any():
                    continue
                links = cost[np.ix_(groups[x], groups[y])]
                if np.isfinite(links).any() and np.nanmedian(links) < best:
                    best, pair = float(np.nanmedian(links)), (x, y)
        if pair is None:
            break
        groups[pair[1]] += groups.pop(pair[0])
    people = [Person(tuple(tracklets[i] for i in group)) for group in groups]
    return sorted(people, key=lambda person: person.pictures, reverse=True)


def choose_person(people: Sequence[Person], travel_m: Sequence[float], person: int | None) -> tuple[int, bool]:
    """Index into `people` of the wearer, and whether somebody else is about as likely.

    Parameters
    ----------
    travel_m : how far each of the people moves through the room; NaN where unknown.
    person : the caller's choice, 1 for the one seen most; None chooses who is seen most and moves.

    Raises
    ------
    ExoError : if nobody is there, or there is no such person.
    """
    if not people:
        raise ExoError("nobody is seen by two cameras at once; check that the cameras film the same place and time")
    if person is not None:
        if not 1 <= person <= len(people):
            raise ExoError(f"there is no person {person}; the recording shows {len(people)}, choose 1 to {len(people)}")
        return person - 1, False
    moves = np.minimum(np.nan_to_num(np.asarray(travel_m)), FULL_TRAVEL_M) / FULL_TRAVEL_M
    score = np.array([p.pictures for p in people]) * (1.0 + moves)
    order = np.argsort(-score)
    rival = len(people) > 1 and score[order[1]] > COMPLETE_SHARE * score[order[0]]
    return int(order[0]), bool(rival)


def _without_duplicates(rows: IntArray, points: FloatArray, size: FloatArray) -> IntArray:
    kept: list[int] = []
    for row in sorted(rows, key=lambda r: -np.isfinite(points[r, BODY, 0]).sum()):
        if all(_shift(points[row], points[other]) > DUPLICATE * max(size[row], 1.0) for other in kept):
            kept.append(int(row))
    return np.array(kept, dtype=np.int64)


def _shift(a: FloatArray, b: FloatArray) -> float:
    """Typical distance of the keypoints of two (33, 2) sightings, px; inf if they share none.

    An estimator may take back for front from one picture to the next; it is the same person still.
    """
    shifts = []
    for other in (b[[*BODY]], b[OTHER_SIDE][[*BODY]]):
        distance = np.linalg.norm(a[[*BODY]] - other, axis=1)
        known = np.isfinite(distance)
        shifts.append(float(np.median(distance[known])) if known.any() else np.inf)
    return min(shifts)


def _clash(a: Tracklet, b: Tracklet, detections: Sequence[Detections]) -> bool:
    """Whether two tracklets of one camera overlap in time: they are two people."""
    if a.camera != b.camera:
        return False
    frame = detections[a.camera].frame
    return bool(np.intersect1d(frame[a.row], frame[b.row]).size)


def _disagreement(
    a: Tracklet,
    b: Tracklet,
    detections: Sequence[Detections],
    cameras: Sequence[Camera],
    times: Sequence[FloatArray],
) -> float:
    """Typical error left after triangulating two tracklets together, in body sizes; NaN if never seen at once."""
    first, second = detections[a.camera], detections[b.camera]
    when_a, when_b = times[a.camera][first.frame[a.row]], times[b.camera][second.frame[b.row]]
    nearest = np.clip(np.searchsorted(when_b, when_a), 1, len(when_b) - 1) if len(when_b) > 1 else np.zeros(1, int)
    nearest = nearest - (when_a - when_b[nearest - 1] < when_b[nearest] - when_a)
    period = np.median(np.diff(times[b.camera]))
    together = np.abs(when_b[nearest] - when_a) < period
    if not together.any():
        return float("nan")
    seen_a, seen_b = first.landmarks[a.row[together]], second.landmarks[b.row[nearest[together]]]
    size = (np.median(body_size(seen_a)) + np.median(body_size(seen_b))) / 2.0
    typical = []
    for other in (seen_b, seen_b[:, OTHER_SIDE]):
        pair = np.stack([seen_a, other])[:, :, BODY]
        error = pair_errors(views(pair, (cameras[a.camera], cameras[b.camera])))[0, 1]
        typical.append(np.median(error[np.isfinite(error)]) / size if np.isfinite(error).any() else np.nan)
    return float(np.min(typical))
