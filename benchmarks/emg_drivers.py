"""Every EMG driver over its real protocol, real node and real DDS: is any sample lost without being counted?

    python benchmarks/emg_drivers.py [seconds]

BITalino: the emulator on a pseudo-terminal, every sample worth its own number, with frames dropped and bytes damaged on
the way. LSL: a real outlet on loopback whose samples are numbered, with samples left out. BrainFlow: its synthetic
board, whose first channel is a 5 Hz sine by sample count: a sample lost unseen turns its phase by 7.2 degrees.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from exo_common.clock import NS_PER_S, to_ns
from exo_common.qos import EVERY_SAMPLE
from exo_emg.drivers.bitalino import wire
from exo_emg.drivers.bitalino.emulator import Emulator
from exo_interfaces.msg import EmgFrame

# One for each driver: this, the next and so on; no test of the house uses 20 to 29.
DOMAIN = 24
TIMEOUT_S = 20.0
DRIVERS = ("bitalino", "lsl", "brainflow")
# The synthetic board's first channel.
SINE_HZ, SINE_RATE_HZ = 5.0, 250.0
LSL_RATE_HZ = 2000.0
# The first frames wait for imports, discovery and the first fit of the clock; latency is judged behind them.
WARM_UP_S = 1.0


class Listener:
    """Subscribes to the frames and diagnostics of one driver node that runs in its own process."""

    def __init__(self, parameters: Sequence[str], domain: int = DOMAIN) -> None:
        self.frames: list[EmgFrame] = []
        self.arrived_ns: list[int] = []
        self.diagnostics: dict[str, str] = {}
        self.messages: list[str] = []
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("listener", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.node.create_subscription(EmgFrame, "/emg/raw", self._on_frame, EVERY_SAMPLE)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVERY_SAMPLE)
        arguments = [argument for parameter in parameters for argument in ("-p", parameter)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exo_emg.nodes.emg_driver", "--ros-args", *arguments],
            env=dict(os.environ, ROS_DOMAIN_ID=str(domain)),
        )

    def _on_frame(self, frame: EmgFrame) -> None:
        self.arrived_ns.append(time.time_ns())
        self.frames.append(frame)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.messages.append(status.message)
            self.diagnostics.update({value.key: value.value for value in status.values})

    def spin(self, seconds: float) -> None:
        """Listen for a while."""
        self.spin_until(lambda: False, seconds)

    def spin_until(self, done: Callable[[], bool], seconds: float = TIMEOUT_S) -> bool:
        """Listen until something is so; whether it came to be."""
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            self._executor.spin_once(timeout_sec=0.02)
        return done()

    def cpu_s(self) -> float:
        """Processor time of the node so far, s."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End the node as an operator would, and take in what it sends last; its exit code."""
        self.process.terminate()
        self.spin(0.5)
        return self.process.wait(timeout=TIMEOUT_S)

    def close(self) -> None:
        """End whatever still runs."""
        self.process.kill()
        self.process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Index (n,) and V (n, channels) of all samples heard."""
        blocks = [np.asarray(f.samples).reshape(-1, len(f.muscles)) for f in self.frames]
        index = [np.arange(f.first_sample, f.first_sample + len(b)) for f, b in zip(self.frames, blocks, strict=True)]
        return np.concatenate(index), np.concatenate(blocks)


@dataclasses.dataclass
class Source:
    """A device that knows what it sent.

    `identity` tells the number of each sample from its values; `lost` which of the numbers below a given one were
    never sent or were damaged.
    """

    parameters: list[str]
    identity: Callable[[np.ndarray, np.ndarray], np.ndarray]
    lost: Callable[[int], int]


def _digits(number: int, channel: int) -> int:
    return number // 1024**channel % 1024


@contextmanager
def bitalino() -> Iterator[Source]:
    """An emulated device that drops frames and damages bytes."""
    rng = np.random.default_rng(5)
    broken: list[int] = []

    def disturb(sample: int, frame: bytes) -> bytes:
        # Once in 700 samples: a burst that the radio had no room for, or one damaged byte.
        if sample < 500 or rng.random() > 1.0 / 700.0:
            return frame
        broken.append(sample)
        if rng.random() < 0.5:
            return b""
        damaged = bytearray(frame)
        damaged[int(rng.integers(len(frame)))] ^= 0x15
        return bytes(damaged)

    emulator = Emulator(_digits, disturb)

    def identity(index: np.ndarray, volts: np.ndarray) -> np.ndarray:
        counts = np.rint((volts * wire.EMG_GAIN / wire.SUPPLY_V + 0.5) * 1024).astype(int)
        return counts[:, 0] + 1024 * counts[:, 1]

    try:
        yield Source(
            ["driver:=bitalino", f"port:={emulator.port}", "channels:=[1,2]", "muscles:=[TA_r,SOL_r]"],
            identity,
            lambda end: sum(sample < end for sample in broken),
        )
    finally:
        emulator.close()


class NumberedOutlet:
    """An LSL outlet in microvolts whose samples are numbered over two channels; it leaves some out.

    Parameters
    ----------
    leaves_out : whether to leave samples out, about twice in a second, from the second second on.
    """

    def __init__(self, source_id: str, leaves_out: bool = True, unit: str = "uV") -> None:
        import pylsl

        info = pylsl.StreamInfo("numbers", "EMG", 2, LSL_RATE_HZ, pylsl.cf_float32, source_id)
        channels = info.desc().append_child("channels")
        for label in ("R TA", "R SOL"):
            channel = channels.append_child("channel")
            for key, value in (("label", label), ("unit", unit), ("type", "EMG")):
                channel.append_child_value(key, value)
        self.left_out: list[int] = []
        self._leaves_out = leaves_out
        self._clock = pylsl.local_clock
        self._outlet: pylsl.StreamOutlet | None = pylsl.StreamOutlet(info)
        self._end = threading.Event()
        self._sender = threading.Thread(target=self._push, daemon=True)
        self._sender.start()

    def close(self) -> None:
        """The sender vanishes."""
        self._end.set()
        self._sender.join()
        self._outlet = None

    def _push(self) -> None:
        assert self._outlet is not None
        start, sent, rng = self._clock(), 0, np.random.default_rng(6)
        while not self._end.wait(0.002):
            due = int((self._clock() - start) * LSL_RATE_HZ)
            if due <= sent:
                continue
            if self._leaves_out and sent > LSL_RATE_HZ and rng.random() < 1.0 / 250.0:
                self.left_out.extend(range(sent, due))
            else:
                number = np.arange(sent, due)
                values = np.stack([number % 1000, number // 1000], axis=1).astype(np.float32)
                self._outlet.push_chunk(values, start + (due - 1) / LSL_RATE_HZ)
            sent = due


@contextmanager
def lsl() -> Iterator[Source]:
    """A numbered outlet that leaves samples out and tells so by its stamps only."""
    outlet = NumberedOutlet(f"exo-numbers-{os.getpid()}")

    def identity(index: np.ndarray, volts: np.ndarray) -> np.ndarray:
        digits = np.rint(volts * 1e6).astype(int)
        return digits[:, 0] + 1000 * digits[:, 1]

    try:
        yield Source(
            ["driver:=lsl", f"source_id:=exo-numbers-{os.getpid()}"],
            identity,
            lambda end: sum(sample < end for sample in outlet.left_out),
        )
    finally:
        outlet.close()


@contextmanager
def brainflow() -> Iterator[Source]:
    """BrainFlow's synthetic board."""

    def identity(index: np.ndarray, volts: np.ndarray) -> np.ndarray:
        # Phase of the sine in each second against the index, in samples: constant while the index is right.
        window = round(SINE_RATE_HZ)
        turns = volts[:, 0] * np.exp(-2j * np.pi * SINE_HZ / SINE_RATE_HZ * index)
        seconds = turns[: len(turns) // window * window].reshape(-1, window).sum(axis=1)
        slip = np.rint(np.angle(seconds / seconds[0]) / (2 * np.pi) * SINE_RATE_HZ / SINE_HZ).astype(int)
        slips: np.ndarray = index + np.r_[np.repeat(slip, window), np.full(len(index) % window, slip[-1])]
        return slips

    yield Source(["driver:=brainflow", "muscles:=[EMG1=TA_r,EMG2=SOL_r]"], identity, lambda end: 0)


SOURCES = {"bitalino": bitalino, "lsl": lsl, "brainflow": brainflow}


def run(seconds: float, drivers: Sequence[str] = DRIVERS, domain: int = DOMAIN) -> dict[str, dict[str, object]]:
    """Run each driver for a while and account for every sample.

    Returns
    -------
    Per driver
    * `samples` heard; `lost` as the driver counts (a good sample between damaged ones may go with them); `lost_true` as
      the source knows, between the first and the last sample heard;
    * `unaccounted`: samples that are not where their index says, or whose loss was not counted;
    * `stamps_monotone`; `drift_ppm`, None if not told;
    * `latency_p50_ms`, `latency_p95_ms` from acquisition of a frame's last sample to its arrival here, so the
      device's own steps (2 ms of the emulator and the outlet, 4 ms of the synthetic board) are in it;
    * `cpu_core_pct` of the node; `exit_code`.
    """
    return {name: _measure(name, seconds, domain + k) for k, name in enumerate(drivers)}


def _measure(name: str, seconds: float, domain: int) -> dict[str, object]:
    with SOURCES[name]() as source:
        listener = Listener(source.parameters, domain)
        try:
            assert listener.spin_until(lambda: bool(listener.frames)), f"no frame from driver {name}"
            cpu_s, begun = listener.cpu_s(), time.monotonic()
            listener.spin(seconds)
            cpu_pct = 100.0 * (listener.cpu_s() - cpu_s) / (time.monotonic() - begun)
            code = listener.stop()
        finally:
            listener.close()
        return account(listener, source) | {"cpu_core_pct": round(cpu_pct, 2), "exit_code": code}


def account(listener: Listener, source: Source) -> dict[str, object]:
    """Hold what was heard against what was sent."""
    index, volts = listener.samples()
    frames, rate = listener.frames, listener.frames[0].sampling_rate_hz
    identity = source.identity(index, volts)
    lost = int(index[-1] - index[0] + 1 - len(index))
    lost_true = source.lost(int(identity[-1])) - source.lost(int(identity[0]))
    misplaced = int(np.count_nonzero(identity - identity[0] != index - index[0]))
    first_ns = np.array([to_ns(f.header.stamp) for f in frames])
    counts = np.array([len(f.samples) // len(f.muscles) for f in frames])
    last_ns = first_ns + (counts - 1) * NS_PER_S / rate
    told = int(frames[-1].lost_samples - frames[0].lost_samples)
    latency = (np.array(listener.arrived_ns) - last_ns)[first_ns > first_ns[0] + WARM_UP_S * NS_PER_S] / 1e6
    drift = listener.diagnostics.get("drift_ppm")
    return {
        "samples": len(index),
        "lost": told,
        "lost_true": lost_true,
        "unaccounted": misplaced + max(0, lost_true - lost) + abs(lost - told),
        "stamps_monotone": bool(np.all(first_ns[1:] > last_ns[:-1])),
        "drift_ppm": None if drift is None else float(drift),
        "latency_p50_ms": round(float(np.percentile(latency, 50)), 2),
        "latency_p95_ms": round(float(np.percentile(latency, 95)), 2),
    }


if __name__ == "__main__":
    for driver, result in run(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0).items():
        print(driver, result)
