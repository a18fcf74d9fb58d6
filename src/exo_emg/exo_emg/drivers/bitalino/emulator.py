"""A BITalino that is not there: speaks its protocol on a pseudo-terminal, for tests and for trying the driver.

python -m exo_emg.drivers.bitalino.emulator        # prints the port to give to the driver
"""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Callable

from exo_emg.drivers.bitalino import wire

NAME = b"BITalino_v5.1\n"
TICK_S = 0.002


def ramp(sample: int, channel: int) -> int:
    """Counts by sample and channel that tell which sample it is."""
    return (sample + 100 * channel) % 1024


class Emulator:
    """Answers commands and streams in real time from its own thread.

    Parameters
    ----------
    value : counts by sample and channel (0..).
    disturb : called with the number of a sample and its frame; returns the bytes really sent, none for a frame
        that the device had to drop.
    drift_ppm : how much faster than the host the device counts.
    """

    def __init__(
        self,
        value: Callable[[int, int], int] = ramp,
        disturb: Callable[[int, bytes], bytes] = lambda sample, frame: frame,
        drift_ppm: float = 0.0,
    ) -> None:
        self._value, self._disturb = value, disturb
        self._speed = 1.0 + drift_ppm * 1e-6
        self._rate = 1000.0
        self._channels = 0
        self._started: float | None = None
        self.sent = 0
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The device vanishes."""
        self._end.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _run(self) -> None:
        while not self._end.is_set():
            if select.select([self._master], [], [], TICK_S)[0]:
                for command in os.read(self._master, 64):
                    self._obey(command)
            if self._started is not None:
                self._stream(self._started)

    def _obey(self, command: int) -> None:
        if self._started is not None:
            if bytes([command]) in (wire.STOP, wire.IDLE):
                self._started = None
        elif bytes([command]) == wire.VERSION:
            os.write(self._master, NAME)
        elif command & 0x3F == 0x03:
            self._rate = float(next(rate for rate, code in wire.RATE_CODES.items() if code == command >> 6))
        elif command & 0x03 == 0x01:
            self._channels = bin(command >> 2).count("1")
            self._started, self.sent = time.monotonic(), 0

    def _stream(self, started: float) -> None:
        due = int((time.monotonic() - started) * self._rate * self._speed)
        data = b""
        for sample in range(self.sent, due):
            # The last two channels have the upper 6 bits only.
            values = [self._value(sample, c) >> (4 if c >= 4 else 0) for c in range(self._channels)]
            data += self._disturb(sample, wire.encode(sample, tuple(values)))
        self.sent = due
        try:
            os.write(self._master, data)
        except BlockingIOError:
            # As the real one: what does not fit its buffer is dropped, and the numbers tell.
            return


def main() -> None:
    """Run until interrupted."""
    emulator = Emulator()
    print(emulator.port, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        emulator.close()


if __name__ == "__main__":
    main()
