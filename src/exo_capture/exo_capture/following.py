"""Follows one wearer through the pictures of one camera, looking only where she must be.

Searching, the picture is looked at in overlapping squares, one per call: a person
in the whole of a wide picture is too small for the detector. Once found, only a
square around the expected place is looked at. Out of sight, the square grows with
time; after a while the wearer is lost and must qualify anew: whoever merely stands
near where she was is not taken for her.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exo_capture.acquisition import Acquisition, Person
from exo_capture.landmarks import ANKLES, HIPS, KNEES, NOSE, SHOULDERS, hip_centre
from exo_capture.path_crop import CROP_BELOW_HIP, CROP_SIZE, MAX_SHIFT

Detect = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

PEOPLE = 2  # asked of the estimator: the wearer and a bystander who passes
# Squares as high as the picture are laid side by side this far apart, as a share of their side:
# nobody narrower than the rest of the side falls between two of them.
SQUARE_STEP = 0.6
# Lengths in sizes of the wearer (see body_length), times in s.
LOST_AFTER_S = 1.0  # hidden for longer, she could be anywhere
SPREAD = 0.7  # per s: how fast the place becomes uncertain while she is not seen
MAX_SIZE_RATIO = 1.35  # of lengths; arms that are taken for legs, or two people in one, differ by more
# Shares of an innovation that go into place, velocity (times the interval) and size: a walker's
# place is known to a hundredth of her size, her velocity changes within a step, the size hardly.
PLACE_GAIN, VELOCITY_GAIN, SIZE_GAIN = 0.7, 0.3, 0.1


class Follower:
    """The wearer's landmarks, picture by picture.

    Parameters
    ----------
    detect : RGB image (h, w, 3) to people (n, 33, 3) px (see pose.PoseEstimator.detect).
    rule : how the wearer is chosen (see acquisition.Acquisition).

    Attributes
    ----------
    found, lost : how often a wearer was chosen, and how often she was lost.
    rivals : how many others could have been meant when the present wearer was chosen.
    """

    def __init__(self, detect: Detect, rule: str) -> None:
        self._detect, self._rule = detect, rule
        self._acquisition = Acquisition(rule)
        self._square = 0
        self._wearer: Person | None = None
        self._seen_at = self._time = -np.inf
        self.found = self.lost = self.rivals = 0

    @property
    def following(self) -> bool:
        """Whether there is a wearer, though she may be hidden at the moment."""
        return self._wearer is not None

    @property
    def size(self) -> float:
        """The wearer's size in the picture (see body_length), px; NaN while there is none."""
        return self._wearer.size if self._wearer else np.nan

    def step(self, image: NDArray[np.uint8], time: float) -> NDArray[np.float64] | None:
        """The wearer's landmarks (33, 3) px in an RGB image taken at `time` s (rising), or None."""
        # A clock that was set far back says nothing of how far she came.
        if self._wearer is not None and abs(time - self._seen_at) > LOST_AFTER_S:
            self._wearer, self._acquisition = None, Acquisition(self._rule)
            self.lost += 1
        return self._search(image, time) if self._wearer is None else self._follow(self._wearer, image, time)

    def _search(self, image: NDArray[np.uint8], time: float) -> NDArray[np.float64] | None:
        squares = search_squares(image.shape[1], image.shape[0])
        self._square = (self._square + 1) % len(squares)
        wearer = self._acquisition.add(self._look(image, squares[self._square]), time)
        if wearer is None:
            return None
        size = float(body_length(wearer.landmarks))
        self._wearer, self._seen_at, self._time = dataclasses.replace(wearer, size=size), time, time
        self.found += 1
        self.rivals = self._acquisition.rivals
        return wearer.landmarks

    def _follow(self, wearer: Person, image: NDArray[np.uint8], time: float) -> NDArray[np.float64] | None:
        interval, hidden = time - self._time, time - self._seen_at
        place = wearer.hip + wearer.velocity * interval
        self._time = time
        # While she is seen in every picture the uncertainty stays that of one picture.
        reach = MAX_SHIFT + SPREAD * (hidden - interval)
        people = self._look(image, self._box(image, place, wearer.size, reach - MAX_SHIFT))
        seen = nearest(people, place, wearer.size, reach)
        if seen is None:
            self._wearer = Person(place, wearer.velocity, wearer.size, wearer.landmarks)
            return None
        off = hip_centre(seen) - place
        velocity = wearer.velocity + VELOCITY_GAIN * off / hidden
        size = wearer.size * (float(body_length(seen)) / wearer.size) ** SIZE_GAIN
        self._wearer = Person(place + PLACE_GAIN * off, velocity, size, seen)
        self._seen_at = time
        return seen

    @staticmethod
    def _box(
        image: NDArray[np.uint8], hip: NDArray[np.float64], size: float, margin: float
    ) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) px of the square to look at, inside the picture; `margin` in sizes."""
        half = (CROP_SIZE / 2.0 + margin) * size
        # The hip lies a little above the middle of a body.
        centre = hip + np.array([0.0, (CROP_BELOW_HIP - 0.5) * size])
        low, high = np.round(centre - half).astype(int), np.round(centre + half).astype(int)
        whole = np.array([image.shape[1], image.shape[0]])
        left, top = np.clip(low, 0, whole)
        right, bottom = np.clip(high, 0, whole)
        return int(left), int(top), int(right), int(bottom)

    def _look(self, image: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.float64]:
        """People (n, 33, 3) in a part of the picture, in px of the whole."""
        left, top, right, bottom = box
        if right - left < 2 or bottom - top < 2:
            return np.empty((0, 33, 3))
        people = self._detect(image[top:bottom, left:right])
        people[:, :, :2] += (left, top)
        return people


def body_length(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length along the body from the nose to the longer leg's ankle of (..., 33, >=2) landmarks: (...), px.

    Close to the height of who stands, and the same for who bends, squats or strides.
    """
    point = landmarks[..., :2]
    return path_length(point[..., NOSE, :], *(point[..., pair, :] for pair in (SHOULDERS, HIPS, KNEES, ANKLES)))


def path_length(
    nose: NDArray[np.float64],
    shoulders: NDArray[np.float64],
    hips: NDArray[np.float64],
    knees: NDArray[np.float64],
    ankles: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Length (...) from the nose (..., d) over the middles of shoulders and hips (..., 2, d) down the longer leg."""
    chest, waist = shoulders.mean(axis=-2), hips.mean(axis=-2)
    legs = _distance(hips, knees) + _distance(knees, ankles)
    return np.asarray(_distance(nose, chest) + _distance(chest, waist) + legs.max(axis=-1))


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(a - b, axis=-1))


def search_squares(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Overlapping (left, top, right, bottom) px that cover a picture; one, the whole, unless it is wide."""
    if width <= height:
        return [(0, 0, width, height)]
    count = 1 + int(np.ceil((width - height) / (SQUARE_STEP * height)))
    return [(int(left), 0, int(left) + height, height) for left in np.round(np.linspace(0, width - height, count))]


def nearest(
    people: NDArray[np.float64], hip: NDArray[np.float64], size: float, reach: float
) -> NDArray[np.float64] | None:
    """The one of (n, 33, 3) people whose place and size fit best, or None when nobody fits; `reach` in sizes."""
    if not len(people):
        return None
    shift = np.linalg.norm(hip_centre(people) - hip, axis=1) / size
    ratio = np.abs(np.log(np.maximum(body_length(people), 1.0) / size)) / np.log(MAX_SIZE_RATIO)
    fits = (shift < reach) & (ratio < 1.0)
    if not fits.any():
        return None
    return people[int(np.argmin(np.where(fits, shift / reach + ratio, np.inf)))]
