"""BrainFlow's boards as a driver."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import numpy as np
from brainflow.board_shim import BoardIds, BoardShim, BrainFlowInputParams
from brainflow.exit_codes import BrainFlowError, BrainFlowExitCodes

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.drivers.interface import DeviceLost, Driver, Reading, Signal, Stamps
from exo_emg.drivers.runs import readings

# BrainFlow gives biosignals in microvolts.
V_PER_UNIT = 1e-6
# How much BrainFlow keeps for us between two looks.
BUFFER_S = 60.0
# Errors that no waiting mends.
HOPELESS = {
    BrainFlowExitCodes.UNSUPPORTED_BOARD_ERROR.value,
    BrainFlowExitCodes.INVALID_ARGUMENTS_ERROR.value,
}


@dataclasses.dataclass(frozen=True)
class BrainflowConfig(Parameters):
    """Which board and how to reach it; a board needs some of these only (BrainFlow's documentation says which)."""

    board: str = parameter("SYNTHETIC_BOARD", "", "BrainFlow's name of the board, e.g. CYTON_BOARD")
    serial_port: str = parameter("", "", "serial port of the board's dongle")
    mac_address: str = parameter("", "", "Bluetooth address")
    ip_address: str = parameter("", "", "network address")
    ip_port: int = parameter(0, "", "network port", minimum=0, maximum=65535)
    serial_number: str = parameter("", "", "serial number of the device")
    other_info: str = parameter("", "", "board-specific text")
    counter_modulus: int = parameter(
        256,
        "",
        "the board numbers its samples 0 to this minus 1; 0 if it does not number samples one by one",
        minimum=0,
        maximum=1 << 30,
    )


class BrainflowDriver(Driver):
    """The EMG channels of a board; counts by the board's package number."""

    config_type = BrainflowConfig
    config: BrainflowConfig

    def __init__(self, config: BrainflowConfig) -> None:
        super().__init__(config)
        BoardShim.disable_board_logger()
        if config.board not in BoardIds.__members__:
            raise ExoError(
                f"BrainFlow knows no board '{config.board}'; use its own name, such as SYNTHETIC_BOARD or CYTON_BOARD"
            )
        self._id = BoardIds[config.board].value
        self._board: BoardShim | None = None
        self._rate_hz = 0
        self._rows: list[int] = []
        self._number_row = 0
        self._count = -1
        self._number = -1
        self._repeated = 0

    def open(self) -> Signal:
        """Prepare the board."""
        try:
            self._rows = BoardShim.get_emg_channels(self._id)
            self._number_row = BoardShim.get_package_num_channel(self._id)
            self._rate_hz = BoardShim.get_sampling_rate(self._id)
        except BrainFlowError:
            raise ExoError(f"BrainFlow's {self.config.board} measures no EMG; choose a board that does") from None
        inputs = BrainFlowInputParams()
        for name in ("serial_port", "mac_address", "ip_address", "ip_port", "serial_number", "other_info"):
            setattr(inputs, name, getattr(self.config, name))
        self._board = BoardShim(self._id, inputs)
        try:
            self._board.prepare_session()
        except BrainFlowError as error:
            self.close()
            if error.exit_code in HOPELESS:
                raise ExoError(f"BrainFlow refuses {self.config.board} ({error}); correct its parameters") from None
            raise self._gone(error) from None
        labels = tuple(f"EMG{k + 1}" for k in range(len(self._rows)))
        return Signal(labels, float(self._rate_hz), Stamps.ARRIVAL, self.config.counter_modulus)

    def start(self) -> None:
        """Start streaming into BrainFlow's own buffer."""
        assert self._board is not None
        self._count = self._number = -1
        try:
            self._board.start_stream(int(BUFFER_S * self._rate_hz))
        except BrainFlowError as error:
            raise self._gone(error) from None

    def read(self) -> list[Reading]:
        """All that is in BrainFlow's buffer."""
        assert self._board is not None
        try:
            data = self._board.get_board_data()
        except BrainFlowError as error:
            raise self._gone(error) from None
        arrived_ns = time.monotonic_ns()
        if data.shape[1] == 0:
            return []
        index, new = self._counted(data[self._number_row])
        if not new.any():
            return []
        samples = data[self._rows].T * V_PER_UNIT
        return readings(index[new], samples[new], arrived_ns, float(self._rate_hz))

    def stop(self) -> None:
        """Stop streaming."""
        assert self._board is not None
        try:
            self._board.stop_stream()
        except BrainFlowError as error:
            raise self._gone(error) from None

    def close(self) -> None:
        """Release the board."""
        if self._board is not None:
            with contextlib.suppress(BrainFlowError):
                self._board.release_session()
            self._board = None

    def status(self) -> dict[str, object]:
        """Samples that came twice under one number."""
        return {"repeated_numbers": self._repeated}

    def _counted(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count (n,) of each sample from the wrapping package numbers, and which are new, not sent again."""
        modulus = self.config.counter_modulus
        if modulus == 0:
            steps = np.ones(len(numbers), dtype=np.int64)
        else:
            # A number that is none cannot show a loss.
            whole = np.where(np.isfinite(numbers), numbers, -1.0).astype(np.int64)
            before = whole[0] - 1 if self._number < 0 else self._number
            steps = np.diff(np.r_[before, whole]) % modulus
            self._number = int(whole[-1])
        index = self._count + np.cumsum(steps)
        self._count = int(index[-1])
        self._repeated += int(np.sum(steps == 0))
        return index, steps > 0

    def _gone(self, error: BrainFlowError) -> DeviceLost:
        return DeviceLost(f"BrainFlow lost {self.config.board} ({error}); check power, dongle and address")


DRIVER = BrainflowDriver
