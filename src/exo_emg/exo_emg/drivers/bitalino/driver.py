"""BITalino (r)evolution as a driver: Bluetooth (rfcomm), USB or any other serial port."""

from __future__ import annotations

import dataclasses
import time

import serial

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.drivers.bitalino import wire
from exo_emg.drivers.interface import DeviceLost, Driver, Reading, Signal, Stamps
from exo_emg.drivers.runs import readings

# The device needs a moment between commands, and answers its name within a second or never.
COMMAND_PAUSE_S = 0.1
ANSWER_S = 1.0
READ_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class BitalinoConfig(Parameters):
    """Where the device is and what it samples."""

    port: str = parameter("/dev/rfcomm0", "", "serial port of the device")
    channels: list[int] = parameter(
        [1, 2, 3, 4], "", "analogue inputs with EMG sensors, A1 to A6, rising; only the first four have 10 bits",
        minimum=1, maximum=wire.CHANNELS_MAX,
    )  # fmt: skip
    sampling_rate_hz: float = parameter(1000.0, "Hz", "1, 10, 100 or 1000; EMG needs 1000", minimum=1, maximum=1000)


class BitalinoDriver(Driver):
    """Samples up to six EMG sensors at 1 kHz; counts by the 4-bit sequence number and the checksum."""

    config_type = BitalinoConfig
    config: BitalinoConfig

    def __init__(self, config: BitalinoConfig) -> None:
        super().__init__(config)
        self._channels = tuple(config.channels)
        if not self._channels:
            raise ExoError("parameter channels is empty; list the analogue inputs that carry EMG, e.g. [1, 2]")
        in_order = sorted(set(config.channels))
        if config.channels != in_order:
            # In whatever order they are asked for, the device sends them rising.
            raise ExoError(
                f"parameter channels is {config.channels}, but the device sends each channel once, in rising order; "
                f"write {in_order} and order the muscles alike"
            )
        self._serial: serial.Serial | None = None
        self._decoder = wire.Decoder(len(self._channels))

    def open(self) -> Signal:
        """Connect, bring the device to rest and ask its name."""
        rate = self.config.sampling_rate_hz
        wire.rate_command(rate)
        try:
            self._serial = serial.Serial(self.config.port, wire.BAUD, timeout=0, exclusive=True)
            self._send(wire.IDLE)
            self._serial.reset_input_buffer()
            self._send(wire.VERSION)
            answer = self._answer()
        except OSError as error:
            self.close()
            raise DeviceLost(
                f"no BITalino at {self.config.port} ({error.strerror or error}); switch it on, pair it, check the port"
            ) from None
        if b"BITalino" not in answer:
            self.close()
            raise DeviceLost(f"{self.config.port} does not answer as a BITalino does; check port and battery")
        labels = tuple(f"A{channel}" for channel in self._channels)
        return Signal(labels, rate, Stamps.ARRIVAL, wire.SEQUENCE)

    def start(self) -> None:
        """Set the rate and start sampling."""
        assert self._serial is not None
        try:
            self._send(wire.rate_command(self.config.sampling_rate_hz))
            self._serial.reset_input_buffer()
            self._decoder = wire.Decoder(len(self._channels))
            self._send(wire.start_command(self._channels))
        except OSError as error:
            raise self._gone(error) from None

    def read(self) -> list[Reading]:
        """Frames that are complete and certain."""
        assert self._serial is not None
        try:
            data = self._serial.read(READ_BYTES)
        except OSError as error:
            raise self._gone(error) from None
        arrived_ns = time.monotonic_ns()
        count, samples = self._decoder.feed(data)
        if len(count) == 0:
            return []
        return readings(count, samples, arrived_ns, self.config.sampling_rate_hz)

    def stop(self) -> None:
        """Bring the device to rest."""
        try:
            self._send(wire.STOP)
        except OSError as error:
            raise self._gone(error) from None

    def close(self) -> None:
        """Let go of the port."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def status(self) -> dict[str, object]:
        """Disturbances of the byte stream."""
        return {"disturbances": self._decoder.disturbances, "skipped_bytes": self._decoder.skipped_bytes}

    def _send(self, command: bytes) -> None:
        assert self._serial is not None
        self._serial.write(command)
        time.sleep(COMMAND_PAUSE_S)

    def _answer(self) -> bytes:
        assert self._serial is not None
        answer = b""
        until = time.monotonic() + ANSWER_S
        while b"\n" not in answer and time.monotonic() < until:
            answer += self._serial.read(READ_BYTES)
            time.sleep(COMMAND_PAUSE_S / 10)
        return answer

    def _gone(self, error: OSError) -> DeviceLost:
        return DeviceLost(f"the BITalino at {self.config.port} is gone ({error.strerror or error})")


DRIVER = BitalinoDriver
