"""Pictures in, the wearer's keypoints in metres out, one set per moment.

    tracker = LiveTracker([WearerView(estimator.detect, "walks")], PlaneFusion(stature=1.72))
    keypoints = tracker.step({0: picture})

Each camera has a view of its own (person, legs); a fusion makes metres of what the
views saw. The views of several cameras work at the same time, each in its thread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from exo_capture.agreement import agreeing_cameras
from exo_capture.calibration_files import picture_scale
from exo_capture.cameras import Camera
from exo_capture.causal_legs import LegGuard
from exo_capture.causal_plane import NOT_FROM_THE_SIDE, LivePlane
from exo_capture.causal_smoothing import OneEuro
from exo_capture.following import Detect, Follower, path_length
from exo_capture.landmarks import MARKERS
from exo_capture.live_sources import NS_PER_MS, Picture
from exo_capture.triangulation import triangulate, views
from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError

NAMES = tuple(MARKERS)
LANDMARKS = list(MARKERS.values())
HIP_MARKERS = [NAMES.index("LHip"), NAMES.index("RHip")]

# Of the One-Euro filters: chosen so that angles of a walk lag by no more than half a picture (12 ms at 30 Hz).
SMOOTH_CUTOFF_HZ, SMOOTH_SLOPE_HZ_S_PER_M = 3.0, 10.0
# A picture taken this much after the moment's first shows another moment; what is less is interpolated.
MAX_SKEW_NS = 50 * NS_PER_MS
# The longest time over which landmarks are interpolated: a tenth of a stride.
MAX_STEP_NS = 120 * NS_PER_MS
# Of the wearer's height in the picture: an observation this far from where the other cameras see the point is wrong.
GATE = 0.06
MIN_AGREEMENT = 0.5  # of the keypoints that two cameras see: with fewer in agreement they do not see one person
# Length of the body from the nose to an ankle (see following.path_length) as a share of stature: the nose is at 0.91,
# the ankle at 0.04 (Drillis & Contini 1966), and the way over chest and waist is a little longer than the straight one.
LENGTH_SHARE = 0.89
MAX_LENGTH_ERROR = 0.2  # estimators put shoulders and hips up to a tenth from where anatomy has them

NOBODY = "nobody qualifies as the wearer yet"
HIDDEN = "the wearer is out of sight"
DISAGREE = "the cameras follow different people, or one was moved; step in front of them alone, or calibrate again"
ONE_CAMERA = "only one camera sees the wearer; walk where two see you"


@dataclasses.dataclass(frozen=True)
class LiveKeypoints:
    """The wearer at one moment.

    Attributes
    ----------
    stamp_ns : when the pictures were taken, ns since the epoch.
    position : (k, 3) m in the order of NAMES, OpenSim's y-up frame; NaN where not seen.
    confidence : (k,) 0..1; 0 where not seen.
    depth_measured : False when one camera was used and z is assumed.
    problem : empty, or why there is nothing to see.
    """

    stamp_ns: int
    position: NDArray[np.float64]
    confidence: NDArray[np.float64]
    depth_measured: bool
    problem: str = ""

    @property
    def seen(self) -> bool:
        """Whether the wearer is there: her hips are known."""
        return bool(np.isfinite(self.position[HIP_MARKERS]).all())


@dataclasses.dataclass(frozen=True)
class Sighting:
    """What one camera saw: `landmarks` (33, 3) px, px, confidence, all NaN when the wearer was not found.

    `wearer` counts the people chosen so far, and so changes when another may be meant; 0 before the first.
    `problem` says why the picture could not be used; mostly empty.
    """

    stamp_ns: int
    landmarks: NDArray[np.float64]
    wearer: int
    problem: str = ""

    @property
    def seen(self) -> bool:
        """Whether the wearer was found."""
        return bool(np.isfinite(self.landmarks).any())


class WearerView:
    """One camera: follows the wearer and guards her legs.

    Parameters
    ----------
    detect : RGB image to people (see pose.PoseBackend.detect).
    rule : how the wearer is chosen (see acquisition.Acquisition).
    camera : its calibration, which its pictures must fit and in whose pixels the landmarks are given; None if it
        has none.
    """

    def __init__(self, detect: Detect, rule: str, camera: Camera | None = None) -> None:
        self.follower = Follower(detect, rule)
        self.legs = LegGuard()
        self._camera = camera

    def step(self, picture: Picture) -> Sighting:
        """Find the wearer in the next picture. Landmarks outside the picture are guesses, and left out."""
        time = picture.stamp_ns / NS_PER_S
        landmarks = np.full((33, 3), np.nan)
        scale = 1.0
        if self._camera is not None:
            try:
                scale = picture_scale(self._camera, (picture.image.shape[1], picture.image.shape[0]))
            except ExoError as error:
                return Sighting(picture.stamp_ns, landmarks, self.follower.found, str(error))
        found = self.follower.step(picture.image, time)
        if found is not None:
            landmarks = self.legs.step(found, self.follower.size, time)
            size = np.array([picture.image.shape[1], picture.image.shape[0]])
            outside = ~((landmarks[:, :2] >= 0.0) & (landmarks[:, :2] < size)).all(axis=1)
            landmarks[outside] = (np.nan, np.nan, 0.0)
            landmarks = landmarks * (scale, scale, 1.0)
        return Sighting(picture.stamp_ns, landmarks, self.follower.found)


class Fusion(Protocol):
    """Makes metres of what the cameras saw."""

    def fuse(self, sightings: Mapping[int, Sighting]) -> LiveKeypoints:
        """Keypoints of one moment from what each camera that had a picture saw of it."""
        ...


class PlaneFusion:
    """One camera from the side, scaled by the wearer's standing height `stature`, m (see causal_plane)."""

    def __init__(self, stature: float) -> None:
        self._plane = LivePlane(stature)
        self._wearer = 0

    def fuse(self, sightings: Mapping[int, Sighting]) -> LiveKeypoints:
        """Keypoints of the one sighting."""
        (sighting,) = sightings.values()
        if sighting.wearer != self._wearer:
            self._plane.restart()
            self._wearer = sighting.wearer
        if not sighting.seen:
            return _empty(sighting.stamp_ns, False, HIDDEN if sighting.wearer else NOBODY)
        position = self._plane.step(sighting.landmarks, sighting.stamp_ns / NS_PER_S)
        if position is None:
            return _empty(sighting.stamp_ns, False, NOT_FROM_THE_SIDE)
        confidence = np.where(np.isfinite(position).all(axis=1), sighting.landmarks[LANDMARKS, 2], 0.0)
        return LiveKeypoints(sighting.stamp_ns, position, confidence, False)


class SpaceFusion:
    """Calibrated cameras, triangulated.

    Cameras need not be synchronised: a moment is that of its earliest picture, and
    the others' landmarks are interpolated to it from their picture before.

    Parameters
    ----------
    cameras : in the order of their numbers; at least two.
    stature : the wearer's standing height, m, which exposes cameras that follow different people; 0 if unknown.
    to_opensim : (3, 3) rotation from the calibration's room to OpenSim's frame (x along the walk, y up).
    """

    def __init__(self, cameras: Sequence[Camera], to_opensim: NDArray[np.float64], stature: float = 0.0) -> None:
        self._cameras, self._to_opensim, self._stature = tuple(cameras), to_opensim, stature
        self._before: dict[int, Sighting] = {}

    def fuse(self, sightings: Mapping[int, Sighting]) -> LiveKeypoints:
        """Keypoints at the time of the earliest picture."""
        stamp_ns = min(sighting.stamp_ns for sighting in sightings.values())
        moment = {c: seen for c, seen in sightings.items() if seen.stamp_ns - stamp_ns <= MAX_SKEW_NS}
        before, self._before = self._before, {**self._before, **sightings}
        if sum(sighting.seen for sighting in moment.values()) < 2:
            return _empty(stamp_ns, True, _why_not_two(list(moment.values())))
        observed = np.full((len(self._cameras), 1, len(NAMES), 3), np.nan)
        for camera, sighting in moment.items():
            observed[camera, 0] = _at(stamp_ns, before.get(camera), sighting)[LANDMARKS]
        rows = observed[..., 1][np.isfinite(observed[..., 1]).any(axis=2)]
        height_px = float((np.nanmax(rows, axis=1) - np.nanmin(rows, axis=1)).max())
        rays = views(observed, self._cameras)
        agreeing = agreeing_cameras(rays, GATE * height_px)
        if len(agreeing) < 2:
            return _empty(stamp_ns, True, DISAGREE)
        points = triangulate(rays.of(agreeing), GATE * height_px)
        seen_twice = (rays.seen[:, 0].sum(axis=0) >= 2).sum()
        position = points.position[0] @ self._to_opensim.T
        known = np.isfinite(position).all(axis=1)
        if known.sum() < MIN_AGREEMENT * seen_twice or not self._is_one_person(position):
            return _empty(stamp_ns, True, DISAGREE)
        return LiveKeypoints(stamp_ns, position, np.where(known, points.confidence[0], 0.0), True)

    def _is_one_person(self, position: NDArray[np.float64]) -> bool:
        """Whether the body is as long as the wearer's: the rays of two people may cross, but at a wrong size."""
        pairs = ([NAMES.index(side + part) for side in "LR"] for part in ("Shoulder", "Hip", "Knee", "Ankle"))
        length = float(path_length(position[NAMES.index("Nose")], *(position[pair] for pair in pairs)))
        if not self._stature or not np.isfinite(length):
            return True
        return bool(abs(length / (LENGTH_SHARE * self._stature) - 1.0) < MAX_LENGTH_ERROR)


class LiveTracker:
    """All cameras together.

    Parameters
    ----------
    cameras : the views, in the order of their numbers.
    fusion : makes metres of what they see.
    """

    def __init__(self, cameras: Sequence[WearerView], fusion: Fusion) -> None:
        self.cameras = tuple(cameras)
        self._fusion = fusion
        self._threads = ThreadPoolExecutor(len(self.cameras), "pose") if len(self.cameras) > 1 else None
        self._hips = OneEuro(SMOOTH_CUTOFF_HZ, SMOOTH_SLOPE_HZ_S_PER_M)
        self._limbs = OneEuro(SMOOTH_CUTOFF_HZ, SMOOTH_SLOPE_HZ_S_PER_M)

    def step(self, pictures: Mapping[int, Picture]) -> LiveKeypoints:
        """Smoothed keypoints from the next picture of each camera that has one; at least one has."""
        views = [self.cameras[camera] for camera in pictures]
        look = self._threads.map if self._threads else map
        sightings = dict(zip(pictures, look(WearerView.step, views, pictures.values()), strict=True))
        keypoints = self._fusion.fuse(sightings)
        if not keypoints.seen:
            return keypoints
        # Limbs are smoothed relative to the hips: all moving together they would all be late, by different times.
        time = keypoints.stamp_ns / NS_PER_S
        hips = keypoints.position[HIP_MARKERS].mean(axis=0)
        position = self._limbs.step(keypoints.position - hips, time) + self._hips.step(hips, time)
        return dataclasses.replace(keypoints, position=position)

    def close(self) -> None:
        """End the threads."""
        if self._threads:
            self._threads.shutdown()


def _why_not_two(sightings: Sequence[Sighting]) -> str:
    """Why fewer than two of these cameras see the wearer."""
    unusable = next((sighting.problem for sighting in sightings if sighting.problem), "")
    if unusable:
        return unusable
    if any(sighting.seen for sighting in sightings):
        return ONE_CAMERA
    return HIDDEN if any(sighting.wearer for sighting in sightings) else NOBODY


def _empty(stamp_ns: int, depth_measured: bool, problem: str) -> LiveKeypoints:
    return LiveKeypoints(stamp_ns, np.full((len(NAMES), 3), np.nan), np.zeros(len(NAMES)), depth_measured, problem)


def _at(stamp_ns: int, before: Sighting | None, sighting: Sighting) -> NDArray[np.float64]:
    """Landmarks (33, 3) at a moment not after `sighting`, interpolated where the sighting before allows it."""
    if before is None or before.stamp_ns > stamp_ns or sighting.stamp_ns - before.stamp_ns > MAX_STEP_NS:
        return sighting.landmarks
    share = (stamp_ns - before.stamp_ns) / (sighting.stamp_ns - before.stamp_ns)
    between = before.landmarks + share * (sighting.landmarks - before.landmarks)
    return np.where(np.isfinite(between), between, sighting.landmarks)
