"""Pose estimators behind one small face: an RGB image in, people's landmarks in pixels out."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

N_LANDMARKS = 33
# The detector's and the tracker's confidence below which a person is dropped. Lower than
# MediaPipe's 0.5, because a wrong candidate is rejected later, a missing one is lost for good.
MIN_CONFIDENCE = 0.3


class PoseBackend(Protocol):
    """What every pose estimator offers. One instance serves one thread at a time."""

    def detect(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """People in one RGB image (h, w, 3): (people, 33, 3) px, px of this image, and confidence 0..1."""
        ...

    def close(self) -> None:
        """Free what the estimator holds."""
        ...


class PoseEstimator:
    """MediaPipe's pose landmarker (lite, full or heavy) on single images; use it as a context manager.

    Every image is treated on its own: MediaPipe's own tracking between frames
    sticks to whichever person it found first.

    Parameters
    ----------
    model : path of a `.task` bundle.
    people : at most this many people are returned per image.

    Raises
    ------
    ExoError : if the model is missing or is not a pose model.
    """

    def __init__(self, model: Path, people: int) -> None:
        if not model.is_file():
            raise ExoError(f"the pose model {model} is missing; run 'python -m exo_capture.weights {model.parent}'")
        with _QUIET:
            import mediapipe
            from mediapipe.tasks import python as tasks
            from mediapipe.tasks.python import vision

            # The native side says its last once it has followed the first person through its whole graph.
            self._settled = False
            self._image_of: Any = mediapipe.Image
            self._srgb: Any = mediapipe.ImageFormat.SRGB
            options = vision.PoseLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(model)),
                running_mode=vision.RunningMode.IMAGE,
                num_poses=people,
                min_pose_detection_confidence=MIN_CONFIDENCE,
                min_pose_presence_confidence=MIN_CONFIDENCE,
            )
            try:
                self._landmarker = vision.PoseLandmarker.create_from_options(options)
            except (RuntimeError, ValueError):
                raise ExoError(f"{model} is not a pose model; delete it and run the set-up again") from None

    def detect(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """People in one RGB image (h, w, 3).

        Returns
        -------
        (people, 33, 3) : x, y in px of this image, and visibility 0..1, which says
        how likely a landmark is in view, not how accurate it is.
        """
        height, width = image.shape[:2]
        picture = self._image_of(image_format=self._srgb, data=np.ascontiguousarray(image))
        with nullcontext() if self._settled else _QUIET:
            result = self._landmarker.detect(picture)
        self._settled = self._settled or bool(result.pose_landmarks)
        people = [[(p.x * width, p.y * height, p.visibility) for p in person] for person in result.pose_landmarks]
        return np.array(people, dtype=np.float64).reshape(-1, N_LANDMARKS, 3)

    def close(self) -> None:
        """Free the native graph."""
        with _QUIET:
            self._landmarker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _QuietNativeLogs:
    """Sends the process's stderr to nowhere: the C++ side greets on it and offers no switch.

    The descriptor belongs to the whole process, so estimators of several threads
    share one redirection: the first to enter makes it, the last to leave undoes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._kept = -1

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                sys.stderr.flush()
                self._kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                os.dup2(self._kept, 2)
                os.close(self._kept)


_QUIET = _QuietNativeLogs()
