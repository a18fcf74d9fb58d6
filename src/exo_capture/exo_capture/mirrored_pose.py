"""A pose estimator that looks twice, at the picture and at its mirror image, and gives the mean.

What an estimator gets wrong to one side it gets wrong to the other side in the
mirror, so errors of that kind cancel. It costs twice the time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import LEG_L, LEG_R
from exo_capture.pose import N_LANDMARKS, PoseBackend, PoseEstimator

# BlazePose's pairs: eyes (inner, middle, outer), ears, mouth; from the shoulders on, left and right take turns.
FACE_PAIRS = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10))
PAIRS = (*FACE_PAIRS, *((i, i + 1) for i in range(11, N_LANDMARKS, 2)))
OTHER_SIDE = np.arange(N_LANDMARKS)
for _left, _right in PAIRS:
    OTHER_SIDE[[_left, _right]] = _right, _left
LEGS, LEGS_EXCHANGED = [*LEG_L, *LEG_R], [*LEG_R, *LEG_L]
SAME_PERSON = 0.15  # of the picture's height, mean distance of all landmarks

FloatArray = NDArray[np.float64]


class MirroredPose:
    """A PoseBackend made of another one.

    Parameters
    ----------
    model, people : as for the estimator.
    backend : makes the estimator that looks.
    """

    def __init__(self, model: Path, people: int, backend: Callable[[Path, int], PoseBackend] = PoseEstimator) -> None:
        self._estimator = backend(model, people)

    def detect(self, image: NDArray[np.uint8]) -> FloatArray:
        """People in one RGB image (h, w, 3): (people, 33, 3) px, px, confidence 0..1; those seen in the picture."""
        height, width = image.shape[:2]
        seen = self._estimator.detect(image)
        mirrored = self._estimator.detect(np.ascontiguousarray(image[:, ::-1]))[:, OTHER_SIDE]
        mirrored[:, :, 0] = width - mirrored[:, :, 0]
        return np.array([mean_pose(person, mirrored, SAME_PERSON * height) for person in seen]).reshape(seen.shape)

    def close(self) -> None:
        """Free what the estimator holds."""
        self._estimator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def mean_pose(person: FloatArray, others: FloatArray, limit_px: float) -> FloatArray:
    """Mean of a pose (33, 3) and the nearest of others (m, 33, 3), or the pose itself if none is near.

    Where the two looks disagree on which leg is which, the first one decides here;
    both can be wrong, and what follows in time decides in the end.
    """
    if not len(others):
        return person
    distance = np.linalg.norm(others[:, :, :2] - person[:, :2], axis=2).mean(axis=1)
    other = others[int(np.argmin(distance))].copy()
    if distance.min() > limit_px:
        return person
    as_is, exchanged = (
        np.linalg.norm(other[legs, :2] - person[LEGS, :2], axis=1).sum() for legs in (LEGS, LEGS_EXCHANGED)
    )
    if exchanged < as_is:
        other[LEGS] = other[LEGS_EXCHANGED]
    return np.asarray((person + other) / 2.0)
