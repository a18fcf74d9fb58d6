"""Reading video files, with one sentence for everything that can be wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

# Below this rate a foot moves a third of a step between frames, and events cannot be told.
MIN_RATE_HZ = 20.0
# Two strides of one leg at a brisk cadence; anything shorter cannot hold what is needed.
MIN_DURATION_S = 1.5


@dataclasses.dataclass(frozen=True)
class Clip:
    """A part of a video file: the frames first <= index < stop."""

    path: Path
    rate_hz: float
    width: int
    height: int
    first: int
    stop: int

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.stop - self.first


def open_clip(path: Path, start_s: float = 0.0, end_s: float = np.inf) -> Clip:
    """Open the part of a video between two times.

    Raises
    ------
    ExoError : if the file is missing, is no video, is too slow or the part too short.
    """
    if not path.is_file():
        raise ExoError(f"the video {path} is missing; check the file name")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened() or not capture.grab():
            raise ExoError(f"{path} cannot be read as a video; convert it to MP4 (H.264)")
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        # Containers lie about their frame count when a file was cut off; counting packets does not.
        count = 1
        while capture.grab():
            count += 1
    finally:
        capture.release()
    if not np.isfinite(rate) or rate < MIN_RATE_HZ:
        raise ExoError(f"{path} has {rate:.0f} frames/s; record at {MIN_RATE_HZ:.0f} frames/s or more")
    first, stop = max(0, round(start_s * rate)), int(min(count, round(min(end_s, count / rate) * rate)))
    length = max(0, stop - first)
    if length < MIN_DURATION_S * rate:
        raise ExoError(
            f"{path} holds {length} frames ({length / rate:.1f} s) between the chosen times; "
            f"a recording needs at least {MIN_DURATION_S:.1f} s, and several strides to be useful"
        )
    return Clip(path, rate, width, height, first, stop)


def read_frames(clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (frame index in the file, RGB image (h, w, 3)) of a clip, in order."""
    capture = cv2.VideoCapture(str(clip.path))
    try:
        # Decoding from the start is exact; seeking lands on key frames with some codecs.
        for index in range(clip.stop):
            if not capture.grab():
                return
            if index >= clip.first:
                decoded, image = capture.retrieve()
                if not decoded:
                    return
                yield index, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        capture.release()
