"""Pose estimation of a whole clip on all cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import Detections
from exo_capture.pose import N_LANDMARKS, PoseBackend, PoseEstimator
from exo_capture.video import Clip, read_frames

Box = tuple[int, int, int, int]


def detect_clip(
    clip: Clip,
    model: Path,
    people: int,
    crop: Callable[[int], Box | None] | None = None,
    progress: Callable[[float], None] | None = None,
    backend: Callable[[Path, int], PoseBackend] = PoseEstimator,
    workers: int | None = None,
) -> Detections:
    """Everybody whom the estimator sees in a clip, the same whatever the number of workers.

    Parameters
    ----------
    model, people : what the backend is made with: the model, and at most how many people per picture.
    crop : gives for a frame index of the file the (left, top, right, bottom) px to look at, None to skip the frame.
    progress : called with the share done, 0..1, rising; from the workers' threads, one call at a time.
    backend : makes an estimator; each worker has its own.
    workers : number of threads, one per usable core if not given.

    Returns
    -------
    Detections with the clip's frame times; `frame` counts from the clip's first frame, landmarks are in px of the
    whole picture.

    Notes
    -----
    Threads, not processes: the estimator computes on one core and outside Python's lock, so threads use all cores
    without what it costs to start processes and to send them pictures.
    """
    found: dict[int, NDArray[np.float64]] = {}
    turn = threading.Lock()
    stopped = threading.Event()

    def work() -> None:
        estimator = backend(model, people)
        try:
            while not stopped.is_set():
                with turn:
                    index, image = next(frames, (-1, None))
                    if image is not None and progress is not None:
                        progress((index - clip.first + 1) / clip.count)
                if image is None:
                    return
                found[index] = _detect(estimator, image, crop(index) if crop else None, skip=crop is not None)
        finally:
            estimator.close()

    count = workers or len(os.sched_getaffinity(0))
    with closing(read_frames(clip)) as frames, ThreadPoolExecutor(count, "pose") as pool:  # type: ignore[type-var]
        futures = [pool.submit(work) for _ in range(count)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
        for future in futures:
            future.result()
    order = sorted(found)
    counts = [len(found[index]) for index in order]
    return Detections(
        camera=clip.path.stem,
        size=(clip.width, clip.height),
        time=clip.time,
        frame=np.repeat(np.array(order, dtype=np.int64) - clip.first, counts),
        landmarks=np.concatenate([np.empty((0, N_LANDMARKS, 3)), *(found[index] for index in order)]),
    )


def _detect(estimator: PoseBackend, image: NDArray[np.uint8], box: Box | None, skip: bool) -> NDArray[np.float64]:
    if box is None:
        return np.empty((0, N_LANDMARKS, 3)) if skip else estimator.detect(image)
    left, top, right, bottom = box
    people = estimator.detect(image[top:bottom, left:right])
    people[..., :2] += (left, top)
    return people
