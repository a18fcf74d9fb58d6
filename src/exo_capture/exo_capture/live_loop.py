"""One thread per camera that takes the newest picture, and hands on what the tracker makes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from exo_capture.live import LiveKeypoints, LiveTracker
from exo_capture.live_sources import JOIN_S, Source

# How soon a stop is noticed while no pictures come.
POLL_S = 0.1


class CaptureLoop:
    """Runs a tracker on sources until closed.

    Parameters
    ----------
    sources : in the order of the tracker's cameras.
    publish : called with every set of keypoints, in order of their stamps, from the cameras' threads.

    Attributes
    ----------
    failure : what ended a thread that should not have ended, or None.
    """

    def __init__(
        self, sources: Sequence[Source], tracker: LiveTracker, publish: Callable[[LiveKeypoints], None]
    ) -> None:
        self.failure: BaseException | None = None
        self._sources, self._tracker, self._publish = tuple(sources), tracker, publish
        self._stop = threading.Event()
        self._order = threading.Lock()
        self._last_ns = 0
        self._threads = [
            threading.Thread(target=self._run, args=(camera,), name=f"pose {source.name}", daemon=True)
            for camera, source in enumerate(self._sources)
        ]

    def start(self) -> None:
        """Open the sources and begin."""
        for source, thread in zip(self._sources, self._threads, strict=True):
            source.start()
            thread.start()

    def close(self) -> None:
        """Stop the threads and close the sources."""
        self._stop.set()
        for source in self._sources:
            source.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(JOIN_S)

    def _run(self, camera: int) -> None:
        source = self._sources[camera]
        try:
            while not self._stop.is_set():
                picture = source.mailbox.take(POLL_S)
                if picture is None:
                    continue
                keypoints = self._tracker.step(camera, picture)
                if keypoints is not None:
                    self._hand_on(keypoints)
        except BaseException as error:
            self.failure = error

    def _hand_on(self, keypoints: LiveKeypoints) -> None:
        with self._order:
            # Between the tracker and here another camera's thread may have overtaken this one.
            if keypoints.stamp_ns > self._last_ns and not self._stop.is_set():
                self._last_ns = keypoints.stamp_ns
                self._publish(keypoints)
