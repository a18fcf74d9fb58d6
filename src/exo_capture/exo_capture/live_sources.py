"""Where live pictures come from: one face for a video file, a camera device and pictures handed in from outside.

Every source fills a :class:`Mailbox` from a thread of its own. The mailbox holds
one picture, the newest; a picture that nobody took in time is dropped and counted.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S

Clock = Callable[[], int]

# A picture older than this when it arrives is no longer live; it points at a wrong clock or a jammed link.
MAX_AGE_S = 1.0
RETRY_S = 1.0  # between attempts to open a device that is missing
# Longer than a picture takes at the lowest useful rate; a thread that hangs in a driver is left to the system.
JOIN_S = 2.0
NS_PER_MS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Picture:
    """One picture: `image` (h, w, 3) RGB, possibly a view; `stamp_ns` when it was taken, ns since the epoch."""

    image: NDArray[np.uint8]
    stamp_ns: int


@dataclasses.dataclass
class Counts:
    """What became of a source's pictures.

    Attributes
    ----------
    received : offered by the source.
    dropped : replaced by a newer one before anybody took them, or skipped because decoding came too late.
    out_of_order : not newer than the one before (repeated or backward stamps).
    stale : more than MAX_AGE_S old or ahead of time on arrival.
    broken : not a picture.
    """

    received: int = 0
    dropped: int = 0
    out_of_order: int = 0
    stale: int = 0
    broken: int = 0

    @property
    def refused(self) -> int:
        """Pictures that nobody will work on because something is wrong with them."""
        return self.out_of_order + self.stale + self.broken


class Mailbox:
    """Holds the newest picture only. Stamps that repeat, go back, or are far from now are refused and counted.

    When stamps only go back for longer than MAX_AGE_S, the clock was set back, and the new one holds.
    """

    def __init__(self, now_ns: Clock = time.time_ns) -> None:
        self.counts = Counts()
        self._now_ns = now_ns
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._last_ns: int | None = None
        self._accepted_at = 0.0

    def put(self, picture: Picture) -> None:
        """Offer a picture; returns at once."""
        with self._changed:
            self.counts.received += 1
            if abs(self._now_ns() - picture.stamp_ns) > MAX_AGE_S * NS_PER_S:
                self.counts.stale += 1
                return
            now = time.monotonic()
            clock_holds = now - self._accepted_at <= MAX_AGE_S
            if self._last_ns is not None and picture.stamp_ns <= self._last_ns and clock_holds:
                self.counts.out_of_order += 1
                return
            self._last_ns, self._accepted_at = picture.stamp_ns, now
            self.counts.dropped += self._picture is not None
            self._picture = picture
            self._changed.notify()

    def skip(self) -> None:
        """Count a picture that was not even decoded."""
        with self._changed:
            self.counts.received += 1
            self.counts.dropped += 1

    def refuse(self) -> None:
        """Count a picture that cannot be read."""
        with self._changed:
            self.counts.received += 1
            self.counts.broken += 1

    def wait(self, timeout_s: float) -> bool:
        """Whether there is a picture, at the latest after a while."""
        with self._changed:
            return self._changed.wait_for(lambda: self._picture is not None, timeout_s)

    def take(self, timeout_s: float) -> Picture | None:
        """The newest picture not yet taken, or None when none arrives in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None, timeout_s)
            picture, self._picture = self._picture, None
            return picture


class Source:
    """A camera as the rest sees it; this one takes pictures that are handed to it (`mailbox.put`).

    Attributes
    ----------
    name : for messages to people.
    mailbox : where the pictures are.
    problem : empty, or one sentence on why no pictures come; changes while running.
    finished : True when no further picture will ever come.
    """

    def __init__(self, name: str, now_ns: Clock = time.time_ns) -> None:
        self.name = name
        self.mailbox = Mailbox(now_ns)
        self.problem = ""
        self.finished = False

    def start(self, at_ns: int | None = None) -> None:
        """Begin to deliver; a recording's first picture is due at `at_ns`, or as soon as it is decoded."""

    def close(self) -> None:
        """Stop delivering."""


class _ThreadedSource(Source):
    """A source whose pictures are decoded by a thread of its own."""

    def __init__(self, name: str, now_ns: Clock = time.time_ns) -> None:
        super().__init__(name, now_ns)
        self._now_ns = now_ns
        self._at_ns: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pictures of {name}", daemon=True)

    def start(self, at_ns: int | None = None) -> None:
        self._at_ns = at_ns
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        raise NotImplementedError


class FileSource(_ThreadedSource):
    """A video file in real time: each picture appears at its own time, its stamp is that time.

    Parameters
    ----------
    path : of the video.
    loop : begin again at the end.
    """

    def __init__(self, path: Path, loop: bool = False, now_ns: Clock = time.time_ns) -> None:
        super().__init__(str(path), now_ns)
        self._path, self._loop = path, loop

    def _run(self) -> None:
        start_ns = self._play(self._at_ns)
        while self._loop and not self.problem and not self._stop.is_set():
            start_ns = self._play(start_ns)
        self.finished = True

    def _play(self, start_ns: int | None) -> int:
        """Deliver the file once, from a time on or from now; returns the time at which it is over, ns."""
        capture = cv2.VideoCapture(str(self._path)) if self._path.is_file() else None
        if capture is None or not capture.isOpened() or not capture.grab():
            why = "cannot be read as a video; convert it to MP4 (H.264)" if capture else "is missing; check its name"
            self.problem = f"the video {self._path} {why}"
            return 0
        try:
            rate = float(capture.get(cv2.CAP_PROP_FPS))
            step_ns = round(NS_PER_S / rate) if 0.0 < rate < np.inf else round(NS_PER_S / 30.0)
            at_ns, more = -step_ns, True
            start_ns = self._now_ns() if start_ns is None else start_ns
            while more and not self._stop.is_set():
                # Some containers hold no times, others repeat them; then the nominal rate goes on.
                told_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS)
                at_ns = told_ns if told_ns > at_ns else at_ns + step_ns
                due_ns = start_ns + at_ns
                # A picture whose successor is already due would only be replaced: do not decode it.
                if self._now_ns() >= due_ns + step_ns:
                    self.mailbox.skip()
                else:
                    decoded, image = capture.retrieve()
                    if decoded and not self._stop.wait(max(0.0, (due_ns - self._now_ns()) / NS_PER_S)):
                        self.mailbox.put(Picture(np.asarray(image, dtype=np.uint8)[:, :, ::-1], due_ns))
                more = capture.grab()
            return start_ns + at_ns + step_ns
        finally:
            capture.release()


@dataclasses.dataclass(frozen=True)
class DeviceMode:
    """What a camera device is asked for; 0 leaves it to the camera."""

    width: int = 1280
    height: int = 720
    rate_hz: float = 30.0


class DeviceSource(_ThreadedSource):
    """A V4L2 camera: pictures are stamped when grabbed; a camera that is missing or unplugged is tried again.

    Parameters
    ----------
    device : a number (0 is the first camera) or a path such as /dev/video0.
    mode : picture size and rate to ask for.
    """

    def __init__(self, device: str, mode: DeviceMode, now_ns: Clock = time.time_ns) -> None:
        super().__init__(f"camera {device}", now_ns)
        self._device: int | str = int(device) if device.isdigit() else device
        self._mode = mode

    def _run(self) -> None:
        # Otherwise OpenCV warns on stderr at every attempt; `problem` says it better.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        while not self._stop.is_set():
            capture = self._open()
            if capture is None:
                self.problem = (
                    f"{self.name} cannot be opened; plug it in, close other programs that use it, "
                    "and check with 'ls -l /dev/video*' that you may read it"
                )
            else:
                try:
                    self._deliver(capture)
                finally:
                    capture.release()
                self.problem = f"{self.name} stopped giving pictures; plug it in again"
            self._stop.wait(RETRY_S)

    def _open(self) -> Any | None:
        capture = cv2.VideoCapture(self._device, cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            return None
        if self._mode.width and self._mode.height:
            # Uncompressed pictures of this size do not fit through USB 2 at 30 Hz.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._mode.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._mode.height)
        if self._mode.rate_hz:
            capture.set(cv2.CAP_PROP_FPS, self._mode.rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture

    def _deliver(self, capture: Any) -> None:
        """Until the camera fails or the source is closed."""
        while not self._stop.is_set() and capture.grab():
            stamp_ns = self._now_ns()
            decoded, image = capture.retrieve()
            if not decoded:
                return
            self.problem = ""
            self.mailbox.put(Picture(np.asarray(image, dtype=np.uint8)[:, :, ::-1], stamp_ns))
