"""The thread that takes the newest picture of every camera, and hands on what the tracker makes of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from exo_capture.live import LiveKeypoints, LiveTracker
from exo_capture.live_sources import JOIN_S, MAX_AGE_S, Picture, Source
from exo_common.clock import NS_PER_S

# How soon a stop is noticed while no pictures come, and how long one camera is waited for beside the others.
PATIENCE_S = 0.1
# A camera that gave no picture for this long is not waited for.
ALIVE_S = 0.3
# Recordings of several cameras begin at one moment, when all of them have been opened.
HEAD_START_NS = NS_PER_S // 2


class CaptureLoop:
    """Runs a tracker on sources until closed.

    The newest pictures of all cameras are taken at once, when each camera that is
    alive has one: so they are at most one picture interval apart, however much
    slower than the cameras the tracker is.

    Parameters
    ----------
    sources : in the order of the tracker's cameras.
    publish : called with every set of keypoints, in order of their stamps, from the loop's thread.

    Attributes
    ----------
    failure : what ended the thread that should not have ended, or None.
    """

    def __init__(
        self, sources: Sequence[Source], tracker: LiveTracker, publish: Callable[[LiveKeypoints], None]
    ) -> None:
        self.failure: BaseException | None = None
        self._sources, self._tracker, self._publish = tuple(sources), tracker, publish
        self._stop = threading.Event()
        self._heard_at = [0.0] * len(self._sources)
        self._thread = threading.Thread(target=self._run, name="live capture", daemon=True)

    def start(self) -> None:
        """Open the sources and begin."""
        at_ns = time.time_ns() + HEAD_START_NS if len(self._sources) > 1 else None
        for source in self._sources:
            source.start(at_ns)
        self._thread.start()

    def close(self) -> bool:
        """Stop the threads and close the sources; False if a picture still holds the loop's thread."""
        self._stop.set()
        for source in self._sources:
            source.close()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)
        if self._thread.is_alive():
            return False
        self._tracker.close()
        return True

    def _run(self) -> None:
        last_ns, published_at = 0, 0.0
        try:
            while not self._stop.is_set():
                pictures = self._take()
                if not pictures:
                    continue
                keypoints = self._tracker.step(pictures)
                now = time.monotonic()
                # A camera whose pictures come late must not turn time back; a clock that was set back does.
                if (keypoints.stamp_ns > last_ns or now - published_at > MAX_AGE_S) and not self._stop.is_set():
                    last_ns, published_at = keypoints.stamp_ns, now
                    self._publish(keypoints)
        except BaseException as error:
            self.failure = error

    def _take(self) -> dict[int, Picture]:
        """The newest picture of every camera that has one; waits for those that are alive."""
        now = time.monotonic()
        alive = [now - heard < ALIVE_S for heard in self._heard_at]
        for source, lives in zip(self._sources, alive, strict=True):
            if lives or not any(alive):
                source.mailbox.wait(PATIENCE_S / len(self._sources))
        pictures = {}
        for camera, source in enumerate(self._sources):
            picture = source.mailbox.take(0.0)
            if picture is not None:
                pictures[camera], self._heard_at[camera] = picture, now
        return pictures
