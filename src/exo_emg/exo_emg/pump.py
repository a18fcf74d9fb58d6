"""The thread that asks the device for samples.

A timer of the executor that fires every few milliseconds would cost a third of a core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from exo_emg.acquisition import Acquisition
from exo_emg.chunks import Chunk

# How often the device is asked at the most; half of this is added to the age of a frame on average.
PERIOD_S = 0.002


class Pump:
    """Polls an acquisition and hands on its chunks, all in a thread of its own.

    Parameters
    ----------
    send : called in the thread with what has come.
    rate_hz : sampling rate; asking more often than there are samples helps nobody.

    Attributes
    ----------
    error : what ended the thread, if anything did.
    lock : held while the acquisition works; to be held by whoever else looks at it.
    """

    def __init__(self, acquisition: Acquisition, send: Callable[[list[Chunk]], None], rate_hz: float) -> None:
        self._acquisition, self._send = acquisition, send
        self._period_s = max(PERIOD_S, 1.0 / rate_hz)
        self.error: Exception | None = None
        self.lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; when this returns, the thread no longer touches anything."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """Ask once."""
        with self.lock:
            self._send(self._acquisition.poll())

    def _run(self) -> None:
        try:
            while not self._end.wait(self._period_s) and not self._acquisition.ended:
                self.poll()
        except Exception as error:  # told by the node
            self.error = error
