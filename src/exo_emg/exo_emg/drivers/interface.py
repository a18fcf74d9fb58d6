"""What a driver is: a folder `drivers/<name>/` with `driver.py`, `config.yaml` and `README.md`.

`driver.py` holds one subclass of :class:`Driver` and names it `DRIVER`; that is
the whole registration. It alone imports the device's library, so nobody needs
the library of a device they do not have.

A driver knows its device and nothing else. It says what the device measures
(:class:`Signal`), then hands over what has arrived (:class:`Reading`): samples
in V, the device's own count of them, and one stamp. Frames, sample index over
reconnections, acquisition time, lost-sample accounting, waiting for a device
that went away and ROS are all done once, for every driver, by
`exo_emg.acquisition` and the node.

The life of a driver, in this order, again and again: `open`, `start`, `read`
many times, `stop`, `close`. After :class:`DeviceLost` only `close` is called,
then `open` again. `open` may run in another thread than the rest, never at the
same time.
"""

from __future__ import annotations

import abc
import dataclasses
import enum
import importlib
import pkgutil
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import exo_emg.drivers
from exo_common.errors import ExoError
from exo_common.parameters import Parameters


class DeviceLost(ExoError):  # noqa: N818 - an event; the cure is to wait
    """The device is not there, or not any more; it is looked for again until it is back."""


class EndOfStream(Exception):  # noqa: N818 - an end, not an error
    """A recording has been played to its end; what was read before stands."""


class Stamps(enum.Enum):
    """What the stamp of a reading means."""

    # Host's monotonic clock when the newest sample had arrived: never early, late by an unknown, varying amount.
    ARRIVAL = "arrival"
    # Host's monotonic clock at acquisition of the newest sample, measured with an error either way.
    MEASURED = "measured"
    # Acquisition of the newest sample in ROS time, to be passed on as it is.
    EXACT = "exact"


@dataclasses.dataclass(frozen=True)
class Signal:
    """What an open device measures.

    Parameters
    ----------
    channels : the device's own label of each channel, e.g. `A1`, `EMG_tibialis_R` or a muscle's name.
    rate_hz : nominal sampling rate, Hz.
    stamps : what the stamps of the readings mean.
    counter_modulus : the device counts samples modulo this number, so that a loss of a multiple of it does
        not show in `Reading.index` and is looked for in the stamps instead; 0 if the count is sure.
    """

    channels: tuple[str, ...]
    rate_hz: float
    stamps: Stamps
    counter_modulus: int = 0


@dataclasses.dataclass(frozen=True)
class Reading:
    """Consecutive samples as they came from the device.

    Parameters
    ----------
    index : the device's count of the first sample since `start`; jumps by what was lost in between.
    samples : (n, channels) V, n >= 1; NaN where the device marks a sample as bad.
    stamp_ns : stamp of the last sample, ns; its clock is told by `Signal.stamps`.
    arrived : the stamp is an arrival although the signal promises a measured one: the device's clock was no use. The
        same for all readings since `start`.
    """

    index: int
    samples: NDArray[np.float64]
    stamp_ns: int
    arrived: bool = False


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What is wrong with a stream that flows, in one sentence; grave if its samples are not to be used."""

    text: str
    grave: bool = False


class Driver(abc.ABC):
    """One device. Built with its own configuration, whose fields become parameters of the node."""

    config_type: ClassVar[type[Parameters]] = Parameters
    # Whether what is read was acquired just now.
    live: ClassVar[bool] = True

    def __init__(self, config: Any) -> None:
        self.config = config

    @abc.abstractmethod
    def open(self) -> Signal:
        """Connect and tell what the device measures; may take seconds.

        Raises
        ------
        DeviceLost : if the device is not there now.
        ExoError : if it can never work with this configuration (unknown unit, impossible rate ...).
        """

    @abc.abstractmethod
    def start(self) -> None:
        """Let samples flow. The count begins again with the first sample acquired from now on; none comes twice."""

    @abc.abstractmethod
    def read(self) -> list[Reading]:
        """Everything that has arrived since the last call, oldest first, without waiting.

        Raises
        ------
        DeviceLost : if the device is gone, or silent for longer than it can be.
        EndOfStream : if there will be no more.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """No more samples; `start` may follow."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the device; allowed in any state, twice too, and never fails."""

    def status(self) -> dict[str, object]:
        """What the driver counts itself, for diagnostics (checksum errors, battery ...)."""
        return {}

    def trouble(self) -> Trouble | None:
        """What the driver sees to be wrong although samples flow."""
        return None


class TopicDriver(Driver):
    """A driver whose device is a topic: the node subscribes for it, before `open`, and calls `read` after each message.

    `receive` keeps what it needs; `open` may raise DeviceLost until a first message has told what there is.
    """

    topic: ClassVar[str]
    message_name: ClassVar[str]  # of exo_interfaces.msg; the node imports it, a driver knows no ROS

    @abc.abstractmethod
    def receive(self, message: Any) -> None:
        """Take in one message; called whatever the state, so before `start` too."""


def names() -> tuple[str, ...]:
    """The drivers there are, by folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(exo_emg.drivers.__path__) if module.ispkg))


def find(name: str) -> type[Driver]:
    """The driver of a name; only now is its library imported.

    Raises
    ------
    ExoError : for an unknown name, or when the device's library is not installed.
    """
    if name not in names():
        raise ExoError(f"EMG driver '{name}' is unknown; choose one of {', '.join(names())}")
    try:
        driver: type[Driver] = importlib.import_module(f"exo_emg.drivers.{name}.driver").DRIVER
    except ModuleNotFoundError as error:
        raise ExoError(
            f"EMG driver '{name}' needs the Python package {error.name}, which is not installed; install it with pip"
        ) from error
    return driver
