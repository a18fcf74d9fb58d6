"""A stream of Lab Streaming Layer as a driver."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time

import numpy as np
import pylsl
from pylsl.util import LostError
from pylsl.util import TimeoutError as LslTimeoutError

from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.drivers.interface import DeviceLost, Driver, Reading, Signal, Stamps, Trouble
from exo_emg.drivers.lsl.gaps import LEARNING_S, StampCounter
from exo_emg.drivers.runs import readings

# What streams declare, in lower case, and what it is in V.
UNITS = {
    "v": 1.0, "volt": 1.0, "volts": 1.0,
    "mv": 1e-3, "millivolt": 1e-3, "millivolts": 1e-3,
    "uv": 1e-6, "µv": 1e-6, "μv": 1e-6, "microvolt": 1e-6, "microvolts": 1e-6,
    "nv": 1e-9, "nanovolt": 1e-9, "nanovolts": 1e-9,
}  # fmt: skip
CORRECTION_TIMEOUT_S = 3.0
CORRECTION_EVERY_S = 1.0
BUFFER_S = 60
# A stamp this far from its arrival was made with a clock that LSL knows nothing of.
OWN_CLOCK_S = 1.0
PULL_SAMPLES = 4096


@dataclasses.dataclass(frozen=True)
class LslConfig(Parameters):
    """Which stream; what is empty does not matter."""

    stream_name: str = parameter("", "", "name of the stream; empty: any")
    stream_type: str = parameter("EMG", "", "type of the stream; empty: any")
    source_id: str = parameter("", "", "source id of the stream; empty: any")
    unit: str = parameter("", "", "unit of the samples (V, mV, uV), for streams that do not declare one")
    resolve_timeout_s: float = parameter(
        2.0, "s", "how long to look for streams, whether or not one fits sooner", minimum=0.2, maximum=30.0
    )


class LslDriver(Driver):
    """The EMG channels of a stream, its time stamps brought to this host's clock by LSL's own time correction.

    Once a stream was found, only its own sender is taken for it again.
    """

    config_type = LslConfig
    config: LslConfig

    def __init__(self, config: LslConfig) -> None:
        super().__init__(config)
        self._inlet: pylsl.StreamInlet | None = None
        self._rate_hz = 0.0
        self._columns: list[int] = []
        self._scale = np.ones(0)
        self._counter = StampCounter(1.0)
        # The first samples, until they are enough to learn from; None once they were.
        self._held: tuple[np.ndarray, np.ndarray] | None = None
        self._correction = (0.0, 0.0)
        self._sender: tuple[str, ...] | None = None
        # How far stamps were from their arrival at the least while learning, s, and whether they are used for all that.
        self._off_s = math.inf
        self._arrivals = False

    def open(self) -> Signal:
        """Find the stream, read what it says of itself and connect."""
        inlet = pylsl.StreamInlet(self._resolve(), max_buflen=BUFFER_S, recover=False)
        self._inlet = inlet
        try:
            info = inlet.info(timeout=CORRECTION_TIMEOUT_S)
            signal = self._understand(info)
            inlet.open_stream(timeout=CORRECTION_TIMEOUT_S)
            self._correct(CORRECTION_TIMEOUT_S)
            self._sender = _identity(info)
        except (LostError, LslTimeoutError) as error:
            self.close()
            raise self._gone(error) from None
        except ExoError:
            self.close()
            raise
        return signal

    def start(self) -> None:
        """Forget what was buffered before."""
        assert self._inlet is not None
        self._inlet.flush()
        self._counter = StampCounter(self._rate_hz)
        self._held = (np.empty((0, self._inlet.channel_count)), np.empty(0))
        self._off_s, self._arrivals = math.inf, False

    def read(self) -> list[Reading]:
        """All that has arrived, counted by its stamps."""
        assert self._inlet is not None
        out: list[Reading] = []
        try:
            while True:
                values, stamps = self._inlet.pull_chunk(timeout=0.0, max_samples=PULL_SAMPLES, as_numpy=True)
                if len(stamps) == 0:
                    break
                out += self._reading(np.asarray(values, dtype=float), np.asarray(stamps, dtype=float))
            if pylsl.local_clock() - self._correction[1] > CORRECTION_EVERY_S:
                # LSL measures in the background; until there is a newer value the old one stands.
                with contextlib.suppress(LslTimeoutError):
                    self._correct(0.0)
        except LostError as error:
            # What came before the loss stands; the loss is told again at the next call.
            if not out:
                raise self._gone(error) from None
        return out

    def stop(self) -> None:
        """Nothing to do: what comes from now on is forgotten at the next start."""

    def close(self) -> None:
        """Disconnect."""
        if self._inlet is not None:
            self._inlet.close_stream()
            self._inlet = None

    def status(self) -> dict[str, object]:
        """The offset of the sender's clock, and whether it was set."""
        return {"time_correction_ms": f"{1e3 * self._correction[0]:.3f}", "sender_clock_sets": self._counter.clock_sets}

    def trouble(self) -> Trouble | None:
        """Whether the sender's stamps are of no use."""
        if not self._arrivals:
            return None
        return Trouble(
            f"the LSL sender stamps with a clock of its own, {self._off_s:.0f} s from its arrivals: samples are "
            "stamped by arrival instead; let the sender stamp with lsl_local_clock"
        )

    def _resolve(self) -> pylsl.StreamInfo:
        wanted = {"name": self.config.stream_name, "type": self.config.stream_type, "source_id": self.config.source_id}
        wanted = {key: value for key, value in wanted.items() if value}
        described = " and ".join(f"{key}='{value}'" for key, value in wanted.items()) or "any property"
        # Whoever answers first is not yet the only one.
        seen = {info.uid(): info for info in pylsl.resolve_streams(self.config.resolve_timeout_s)}
        found = [info for info in seen.values() if all(getattr(info, key)() == value for key, value in wanted.items())]
        if self._sender is not None:
            found = [info for info in found if _identity(info) == self._sender]
            described = f"{described} of the sender {'/'.join(self._sender)}"
        if not found:
            raise DeviceLost(f"no LSL stream with {described} in sight; start its sender, check name and network")
        if len(found) > 1:
            names = ", ".join(f"{info.name()} ({info.source_id()})" for info in found)
            if self._sender is not None:
                raise DeviceLost(f"several LSL streams have {described}: {names}; stop all but the right one")
            raise ExoError(f"several LSL streams have {described}: {names}; set stream_name or source_id")
        return found[0]

    def _understand(self, info: pylsl.StreamInfo) -> Signal:
        """Rate, labels and units of the stream's EMG channels."""
        self._rate_hz = info.nominal_srate()
        if self._rate_hz == pylsl.IRREGULAR_RATE:
            raise ExoError(f"LSL stream {info.name()} has no regular rate, EMG needs one; choose another stream")
        if info.channel_format() == pylsl.cf_string:
            raise ExoError(f"LSL stream {info.name()} carries text, not EMG; choose another stream")
        labels, self._columns, scales = [], [], []
        channel = info.desc().child("channels").child("channel")
        for k in range(info.channel_count()):
            kind, label, unit = (channel.child_value(key).strip() for key in ("type", "label", "unit"))
            channel = channel.next_sibling("channel")
            if kind.upper() not in ("", "EMG", "SEMG"):
                continue
            labels.append(label or str(k + 1))
            self._columns.append(k)
            scales.append(self._volts(info.name(), labels[-1], unit))
        if not labels:
            raise ExoError(f"LSL stream {info.name()} has no EMG channel; choose another stream")
        self._scale = np.array(scales)
        return Signal(tuple(labels), self._rate_hz, Stamps.MEASURED)

    def _volts(self, stream: str, label: str, declared: str) -> float:
        unit = declared or self.config.unit
        if unit.lower() not in UNITS:
            cause = f"in '{unit}'" if unit else "in no unit that it tells"
            raise ExoError(
                f"channel {label} of LSL stream {stream} is {cause}, EMG is in V, mV or uV; "
                f"{'correct the sender' if declared else 'set parameter unit'}"
            )
        return UNITS[unit.lower()]

    def _reading(self, values: np.ndarray, stamps: np.ndarray) -> list[Reading]:
        now = pylsl.local_clock()
        if self._held is not None:
            self._off_s = min(self._off_s, abs(float(stamps[-1]) + self._correction[0] - now))
            values, stamps = np.concatenate([self._held[0], values]), np.concatenate([self._held[1], stamps])
            self._held = (values, stamps) if len(stamps) < LEARNING_S * self._rate_hz else None
            if self._held is not None:
                return []
            self._arrivals = self._off_s > OWN_CLOCK_S
        # Nothing was acquired in the future: an impossible stamp is no better than the arrival.
        acquired = now if self._arrivals else min(float(stamps[-1]) + self._correction[0], now)
        index = self._counter.count(stamps, now)
        # LSL's clock is the host's monotonic one on most systems; the difference makes it so on all.
        stamp_ns = time.monotonic_ns() - round((pylsl.local_clock() - acquired) * NS_PER_S)
        made = readings(index, values[:, self._columns] * self._scale, stamp_ns, self._rate_hz)
        return [dataclasses.replace(reading, arrived=self._arrivals) for reading in made]

    def _correct(self, timeout_s: float) -> None:
        assert self._inlet is not None
        self._correction = (self._inlet.time_correction(timeout=timeout_s), pylsl.local_clock())

    def _gone(self, error: Exception) -> DeviceLost:
        named = self.config.stream_name or self.config.source_id or self.config.stream_type
        return DeviceLost(f"the LSL stream '{named}' is gone ({type(error).__name__}); start its sender again")


def _identity(info: pylsl.StreamInfo) -> tuple[str, ...]:
    """What a sender has in common with itself before it ended: its source id, or else where it runs."""
    return info.name(), info.type(), info.source_id() or info.hostname()


DRIVER = LslDriver
