"""One driver kept running: opened, framed, and looked for again with growing patience when its device goes away."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError
from exo_emg.channel_map import assign
from exo_emg.chunks import Chunk, Layout
from exo_emg.device_clock import HostClock
from exo_emg.drivers.interface import DeviceLost, Driver, EndOfStream, Reading, Signal, Stamps, Trouble
from exo_emg.framing import Framer
from exo_emg.processing import signal_band

# The first look for a lost device comes soon, later ones are rarer: a radio scan is no way to spend a battery.
BACK_OFF_FIRST_S, BACK_OFF_MAX_S = 0.25, 4.0
# A device that is there sends something every second, whatever its radio does.
SILENT_S = 2.0
# How long an opening that is under way may hold up the end.
OPENING_PATIENCE_S = 10.0


def _open(driver: Driver) -> Signal:
    try:
        return driver.open()
    except OSError as error:
        raise DeviceLost(f"the EMG device could not be opened ({error}); check its connection") from error


class _Opening(threading.Thread):
    """`open` in the background: it may take seconds, in which the node still answers."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(daemon=True)
        self._driver = driver
        self._lock = threading.Lock()
        self._abandoned = self._over = False
        self.signal: Signal | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.signal = _open(self._driver)
        except Exception as error:  # told to the caller of poll()
            self.error = error
        with self._lock:
            self._over = True
            if self._abandoned:
                self._driver.close()

    def abandon(self) -> None:
        """Nobody waits for it any more: the device is let go of, now or when `open` returns."""
        with self._lock:
            self._abandoned = True
            if self._over:
                self._driver.close()


class Acquisition:
    """Runs one driver.

    Parameters
    ----------
    driver : not yet open.
    muscles : see :func:`exo_emg.channel_map.assign`.

    Attributes
    ----------
    away : why no samples come now; empty while they do.
    reconnections : how often they came again.
    ended : whether the stream has come to its end.
    """

    def __init__(self, driver: Driver, muscles: Sequence[str] = (), host: HostClock | None = None) -> None:
        self._driver, self._muscles = driver, muscles
        self.host = host or HostClock()
        self.away = ""
        self.reconnections = 0
        self.ended = False
        self._signal: Signal | None = None
        self._connected = False
        self._columns: list[int] = []
        self._opening: _Opening | None = None
        self._retry_at_ns = 0
        self._patience_s = BACK_OFF_FIRST_S
        self._heard_ns = 0

    def connect(self) -> Layout:
        """Open the device for the first time; may take seconds.

        Raises
        ------
        DeviceLost : if it is not there.
        ExoError : if it or its channels can never be used so.
        """
        try:
            signal = _open(self._driver)
            self._columns, names = assign(signal.channels, self._muscles)
            layout = Layout(names, signal.rate_hz)
            # Refuses a rate that carries no EMG, and says which would.
            signal_band(signal.rate_hz)
        except BaseException:
            # Whatever happened, a Ctrl-C too: the next one finds the device free.
            self._driver.close()
            raise
        self._signal, self._connected = signal, True
        return layout

    def start(self) -> None:
        """Begin a recording: sample 0 is next."""
        assert self._signal is not None, "connect first"
        self.framer = Framer(self._signal, len(self._columns), self.host)
        self.ended, self.away = False, ""
        self._heard_ns = self.host.now_ns()
        try:
            self._driver.start()
        except DeviceLost as error:
            self._lost(error)

    def poll(self) -> list[Chunk]:
        """The frames that have become complete; never waits.

        Raises
        ------
        ExoError : if the device came back as another one, or failed for good.
        """
        self.host.look()
        if self.ended or not (self._connected or self._back()):
            return []
        chunks: list[Chunk] = []
        try:
            readings = self._driver.read()
            for reading in readings:
                chunks += self.framer.add(self._chosen(reading))
            self._watch(bool(readings))
        except DeviceLost as error:
            chunks += self._lost(error)
        except EndOfStream:
            chunks += self.framer.flush()
            self.ended = True
        return chunks

    def stop(self) -> list[Chunk]:
        """End the recording; return the rest."""
        if self._opening is not None:
            self._opening.join(OPENING_PATIENCE_S)
            self._opening.abandon()
        if self._connected:
            try:
                self._driver.stop()
            except DeviceLost as error:
                self._lost(error)
        return self.framer.flush()

    def reopen(self) -> None:
        """Before a further `start`: open the device again if the recording before ended without it.

        Raises
        ------
        DeviceLost : if it is not there, or is still being opened.
        ExoError : if it came back as another one.
        """
        if self._connected:
            return
        if self._being_opened():
            raise DeviceLost("the EMG device is still being looked for; try again in some seconds")
        self._opening = None
        self._driver.close()
        self._check_same(_open(self._driver))
        self._connected = True

    def close(self) -> None:
        """Let go of the device; an opening that is still under way lets go of it when it is over."""
        if self._opening is not None:
            self._opening.abandon()
        if not self._being_opened():
            self._driver.close()

    def trouble(self) -> Trouble | None:
        """What is wrong although samples flow."""
        error_ppm = self.framer.clock.rate_error_ppm
        if error_ppm is not None:
            assert self._signal is not None
            rate = self._signal.rate_hz
            return Trouble(
                f"the device sends {rate * (1.0 + error_ppm / 1e6):.1f} samples per second in place of {rate:g}: its "
                "nominal rate is wrong, and stamps follow in jumps; correct the device's sampling rate"
            )
        return self._driver.trouble()

    def status(self) -> dict[str, object]:
        """What there is to tell of the device, for diagnostics."""
        clock, framer = self.framer.clock, self.framer
        assert self._signal is not None
        values: dict[str, object] = {
            "samples": framer.next_sample - framer.lost,
            "lost_samples": framer.lost,
            "repeated_samples_dropped": framer.repeated,
            "reconnections": self.reconnections,
            "device_clock_jumps": framer.jumps,
            "turns_taken_back": framer.turns_taken_back,
            "host_clock_steps": self.host.steps,
            "jitter_p95_ms": f"{clock.jitter_ms:.2f}",
        }
        if clock.drift_ppm is not None:
            values["drift_ppm"] = f"{clock.drift_ppm:.1f}"
            values["measured_rate_hz"] = f"{self._signal.rate_hz * (1.0 + clock.drift_ppm / 1e6):.4f}"
        return values | self._driver.status()

    def _chosen(self, reading: Reading) -> Reading:
        return dataclasses.replace(reading, samples=reading.samples[:, self._columns])

    def _being_opened(self) -> bool:
        return self._opening is not None and self._opening.is_alive()

    def _watch(self, heard: bool) -> None:
        now = self.host.now_ns()
        if heard or (self._signal is not None and self._signal.stamps is Stamps.EXACT):
            # Of an exact source silence is data: a pause in a recording.
            self._heard_ns = now
            self.reconnections += bool(self.away)
            self.away = ""
        elif now - self._heard_ns > SILENT_S * NS_PER_S:
            raise DeviceLost(f"the EMG device has been silent for {SILENT_S:g} s; check its power and its range")

    def _lost(self, error: DeviceLost) -> list[Chunk]:
        """Note that the device is gone and when to look for it."""
        self.away, self._connected = str(error), False
        self._driver.close()
        self._patience_s = BACK_OFF_FIRST_S
        self._retry_at_ns = self.host.now_ns() + round(self._patience_s * NS_PER_S)
        return self.framer.interrupted()

    def _back(self) -> bool:
        """Look for a lost device; whether it is there and sends again."""
        if self._opening is None:
            if self.host.now_ns() >= self._retry_at_ns:
                self._opening = _Opening(self._driver)
            return False
        if self._opening.is_alive():
            return False
        opening, self._opening = self._opening, None
        try:
            if opening.error is not None:
                raise opening.error
            assert opening.signal is not None
            self._check_same(opening.signal)
            self._driver.start()
        except DeviceLost as error:
            self._driver.close()
            self.away = str(error)
            self._patience_s = min(2.0 * self._patience_s, BACK_OFF_MAX_S)
            self._retry_at_ns = self.host.now_ns() + round(self._patience_s * NS_PER_S)
            return False
        self._connected = True
        self._heard_ns = self.host.now_ns()
        return True

    def _check_same(self, signal: Signal) -> None:
        if signal != self._signal:
            assert self._signal is not None
            raise ExoError(
                f"the EMG device came back with {len(signal.channels)} channels at {signal.rate_hz:g} Hz in place of "
                f"{len(self._signal.channels)} at {self._signal.rate_hz:g} Hz; configure the driver again"
            )
