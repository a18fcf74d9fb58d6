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
from exo_emg.drivers.interface import DeviceLost, Driver, Reading, Signal, Stamps, Trouble
from exo_emg.drivers.runs import readings

UNITS = {"uV": 1e-6, "mV": 1e-3, "V": 1.0}
# How boards number their samples: modulo this, or 0 if several samples bear one number (the Ganglion's two).
MODULI = {"SYNTHETIC_BOARD": 256, "CYTON_BOARD": 256, "GANGLION_BOARD": 0, "GANGLION_NATIVE_BOARD": 0}
BY_BOARD = -1
# Of the first seconds of a recording so many samples may be missing or repeated; more, and they are not numbered so.
JUDGED_S, JUDGED_MIN_S = 5.0, 1.0
WRONG_SHARE = 0.1
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
        BY_BOARD,
        "",
        "the board numbers its samples 0 to this minus 1; 0 if it does not number samples one by one; -1: as known",
        minimum=BY_BOARD,
        maximum=1 << 30,
    )
    unit: str = parameter("uV", "", "unit in which BrainFlow gives this board's EMG", choices=tuple(UNITS))


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
        self._modulus = MODULI.get(config.board, BY_BOARD) if config.counter_modulus < 0 else config.counter_modulus
        if self._modulus < 0:
            raise ExoError(
                f"how {config.board} numbers its samples is not known here; set parameter counter_modulus to what its "
                "package number counts to, plus one, or to 0 if it does not number samples one by one"
            )
        self._id = BoardIds[config.board].value
        self._board: BoardShim | None = None
        self._rate_hz = 0
        self._rows: list[int] = []
        self._number_row = 0
        self._count = -1
        self._number = -1
        self._repeated = 0
        # Of the first seconds: samples that came, and those whose number was missing or repeated.
        self._came = self._wrong = 0

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
        return Signal(labels, float(self._rate_hz), Stamps.ARRIVAL, self._modulus)

    def start(self) -> None:
        """Start streaming into BrainFlow's own buffer."""
        assert self._board is not None
        self._count = self._number = -1
        self._repeated = self._came = self._wrong = 0
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
        samples = data[self._rows].T * UNITS[self.config.unit]
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

    def trouble(self) -> Trouble | None:
        """Whether the numbers of the first seconds are none that count samples."""
        if self._came < JUDGED_MIN_S * self._rate_hz or self._wrong <= WRONG_SHARE * (self._came + self._wrong):
            return None
        return Trouble(
            f"{self._wrong} samples were missing or repeated beside {self._came} by {self.config.board}'s numbers: it "
            f"does not count modulo {self._modulus}, or the radio is bad; set counter_modulus (0 if several samples "
            "bear one number) or move closer",
            grave=True,
        )

    def _counted(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count (n,) of each sample from the wrapping package numbers, and which are new, not sent again."""
        if self._modulus == 0:
            steps = np.ones(len(numbers), dtype=np.int64)
        else:
            # A number that is none cannot show a loss.
            whole = np.where(np.isfinite(numbers), numbers, -1.0).astype(np.int64)
            before = whole[0] - 1 if self._number < 0 else self._number
            steps = np.diff(np.r_[before, whole]) % self._modulus
            self._number = int(whole[-1])
        index = self._count + np.cumsum(steps)
        self._count = int(index[-1])
        self._repeated += int(np.sum(steps == 0))
        if self._came < JUDGED_S * self._rate_hz:
            self._came += len(steps)
            self._wrong += int(np.sum(np.abs(steps - 1)))
        return index, steps > 0

    def _gone(self, error: BrainFlowError) -> DeviceLost:
        return DeviceLost(f"BrainFlow lost {self.config.board} ({error}); check power, dongle and address")


DRIVER = BrainflowDriver
