"""A world of stick people, and an estimator that sees in a picture only who is really there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import body_height, hip_centre

Landmarks = NDArray[np.float64]
RATE_HZ = 30.0
# Smaller than this share of the looked-at square, a person is too small for an estimator.
MIN_SHARE = 0.2


@dataclasses.dataclass
class World:
    """People (33, 2) px by frame number, or None while away; the one listed first is found first.

    Every pixel of the world's pictures holds its own place, so that the estimator knows which part it was given.
    """

    size: tuple[int, int]
    people: list[Callable[[int], Landmarks | None]]
    frame: int = 0
    looks: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def picture(self) -> NDArray[np.uint8]:
        """The picture (h, w, 3)."""
        width, height = self.size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        return np.stack([x % 256, y % 256, x // 256 * 16 + y // 256], axis=2).astype(np.uint8)

    def detect(self, image: NDArray[np.uint8]) -> Landmarks:
        """At most two people whose hips lie in a part of the picture, in px of that part."""
        self.looks.append(image.shape[:2])
        low_x, low_y, high = (int(v) for v in image[0, 0])
        corner = np.array([high // 16 * 256 + low_x, high % 16 * 256 + low_y])
        found = []
        for person in self.people:
            body = person(self.frame)
            if body is None:
                continue
            hip = hip_centre(body) - corner
            large = body_height(body) > MIN_SHARE * max(image.shape[:2])
            if large and (hip >= 0).all() and hip[0] < image.shape[1] and hip[1] < image.shape[0]:
                found.append(np.column_stack([body - corner, np.ones(33)]))
        return np.array(found[:2]).reshape(-1, 33, 3)


def standing(body: Landmarks, x: float, scale: float = 1.0) -> Callable[[int], Landmarks]:
    """Somebody in the pose of (33, 2) `body` who stays at `x` px, feet where they are, `scale` times as large."""
    feet = body[:, 1].max()
    hip = hip_centre(body)[0]
    still = np.column_stack([x + scale * (body[:, 0] - hip), feet + scale * (body[:, 1] - feet)])
    return lambda frame: still
