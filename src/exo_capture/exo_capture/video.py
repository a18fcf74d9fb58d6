"""Reading video files, with one sentence for everything that can be wrong with them."""

from __future__ import annotations

import dataclasses
import queue
import threading
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
# Frames further than this from an even beat, in frame intervals, are no rounding of the file's time stamps.
UNEVEN_FRAMES = 0.25
# Decoded pictures that may wait for their reader: enough to hide a slow one, few enough for 4K.
QUEUE_LENGTH = 4


@dataclasses.dataclass(frozen=True)
class Clip:
    """A part of a video file: the frames first <= index < stop.

    Attributes
    ----------
    rate_hz : mean frame rate.
    width, height : px, after the file's own rotation (videos of upright phones) was applied.
    file_time : when each frame of the whole file was taken, s, from the file's time stamps.
    """

    path: Path
    rate_hz: float
    width: int
    height: int
    first: int
    stop: int
    file_time: NDArray[np.float64] = dataclasses.field(repr=False, compare=False)

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.stop - self.first

    @property
    def time(self) -> NDArray[np.float64]:
        """When each frame of this part was taken, (count,) s from the start of the file."""
        return self.file_time[self.first : self.stop]

    @property
    def variable_rate(self) -> bool:
        """Whether the frames of this part are unevenly spaced; then only `time` is right, not index / rate."""
        index = np.arange(self.count)
        beat = np.polynomial.Polynomial.fit(index, self.time, 1)(index)
        return bool(np.abs(self.time - beat).max() * self.rate_hz > UNEVEN_FRAMES)

    @property
    def note(self) -> str | None:
        """A sentence for the quality report if the rate varies."""
        if not self.variable_rate:
            return None
        step = 1000.0 * np.diff(self.time)
        return (
            f"{self.path.name} has a variable frame rate ({step.min():.0f} to {step.max():.0f} ms between frames); "
            "its time stamps were used, but film at a constant rate for the best result"
        )


def open_clip(path: Path, start_s: float = 0.0, end_s: float = np.inf) -> Clip:
    """Open the part of a video between two times.

    Raises
    ------
    ExoError : if the file is missing, is no video, has no usable time stamps, is too slow, or the part too short.
    """
    if not path.is_file():
        raise ExoError(f"the video {path} is missing; check the file name")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened() or not capture.grab():
            raise ExoError(f"{path} cannot be read as a video; convert it to MP4 (H.264)")
        declared = float(capture.get(cv2.CAP_PROP_FPS))
        width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        # Containers lie about their frame count when a file was cut off; counting packets does not.
        stamps = [capture.get(cv2.CAP_PROP_POS_MSEC)]
        while capture.grab():
            stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        capture.release()
    time = frame_times(path, np.array(stamps) / 1000.0, declared)
    rate = (len(time) - 1) / (time[-1] - time[0]) if len(time) > 1 else declared
    if not rate >= MIN_RATE_HZ:
        raise ExoError(f"{path} has {rate:.0f} frames/s; record at {MIN_RATE_HZ:.0f} frames/s or more")
    half = 0.5 / rate
    first, stop = (int(np.searchsorted(time, limit - half)) for limit in (start_s, end_s))
    length = max(0, stop - first)
    if length < MIN_DURATION_S * rate:
        raise ExoError(
            f"{path} holds {length} frames ({length / rate:.1f} s) between the chosen times; "
            f"a recording needs at least {MIN_DURATION_S:.1f} s, and several strides to be useful"
        )
    return Clip(path, float(rate), width, height, first, stop, time)


def frame_times(path: Path, stamps: NDArray[np.float64], declared_hz: float) -> NDArray[np.float64]:
    """Times (n,) s of a file's frames from its time stamps (n,) s, or from its declared rate if it has none.

    Raises
    ------
    ExoError : if the stamps do not rise from frame to frame, or there are neither stamps nor a rate.
    """
    if not stamps.any():
        if not (np.isfinite(declared_hz) and declared_hz > 0.0):
            raise ExoError(f"{path} says neither when its frames were taken nor its frame rate; convert it to MP4")
        return np.arange(len(stamps)) / declared_hz
    backwards = int((~(np.diff(stamps) > 0.0)).sum())
    if backwards:
        raise ExoError(
            f"the time stamps of {path} do not rise in {backwards} of {len(stamps)} frames, so its times are unknown; "
            "convert it to a constant frame rate, e.g. 'ffmpeg -i in.mp4 -fps_mode cfr out.mp4'"
        )
    return stamps - stamps[0]


def read_frames(clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (frame index in the file, RGB image (h, w, 3)) of a clip, in order.

    Decoding runs ahead in its own thread, by at most `QUEUE_LENGTH` pictures.

    Raises
    ------
    ExoError : if the file can no longer be decoded to the clip's end.
    """
    decoded: queue.Queue[tuple[int, NDArray[np.uint8]] | Exception | None] = queue.Queue(QUEUE_LENGTH)
    stopped = threading.Event()

    def put(item: tuple[int, NDArray[np.uint8]] | Exception | None) -> None:
        while not stopped.is_set():
            try:
                return decoded.put(item, timeout=0.1)
            except queue.Full:
                continue

    def decode() -> None:
        try:
            for item in _decode(clip):
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except Exception as error:  # handed to the reader, who raises it
            put(error)

    thread = threading.Thread(target=decode, name=f"decode {clip.path.name}", daemon=True)
    thread.start()
    try:
        while (item := decoded.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def _decode(clip: Clip) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    capture = cv2.VideoCapture(str(clip.path))
    try:
        # Decoding from the start is exact; seeking lands on key frames with some codecs.
        for index in range(clip.stop):
            if not capture.grab():
                raise ExoError(f"{clip.path} can be decoded only up to frame {index}; copy or export the video again")
            if index >= clip.first:
                decoded, image = capture.retrieve()
                if not decoded:
                    raise ExoError(f"frame {index} of {clip.path} cannot be decoded; copy or export the video again")
                yield index, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    finally:
        capture.release()
