"""The driver node in its own process, over real DDS and each device's real protocol."""

from __future__ import annotations

import importlib.util
import itertools
import os
import select
import signal
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

from exo_common.clock import NS_PER_S, to_ns, to_stamp
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.drivers.bitalino import wire
from exo_emg.drivers.bitalino.emulator import Emulator
from exo_emg.muscles import GROUP_CHANNELS
from exo_interfaces.msg import TwinState

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "emg_drivers.py"
DOMAIN = 28


def _benchmark() -> Any:
    """The listener and the sources that the benchmark measures with."""
    spec = importlib.util.spec_from_file_location("emg_drivers", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["emg_drivers"] = module
    spec.loader.exec_module(module)
    return module


bench = _benchmark()


@contextmanager
def listening(*parameters: str) -> Iterator[Any]:
    listener = bench.Listener(parameters, DOMAIN)
    try:
        yield listener
    finally:
        listener.close()


class Lifecycle:
    """Calls the node's lifecycle services."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._change = listener.node.create_client(ChangeState, "/emg_driver/change_state")
        self._state = listener.node.create_client(GetState, "/emg_driver/get_state")
        for client in (self._change, self._state):
            assert listener.spin_until(client.service_is_ready), "the driver did not appear"

    def change(self, transition: int) -> bool:
        return bool(self._call(self._change, ChangeState.Request(transition=Transition(id=transition))).success)

    def state(self) -> str:
        return str(self._call(self._state, GetState.Request()).current_state.label)

    def _call(self, client: Any, request: Any) -> Any:
        future = client.call_async(request)
        assert self._listener.spin_until(future.done)
        return future.result()


def health(listener: Any) -> list[DiagnosticStatus]:
    """The driver's diagnostics as they come."""
    told: list[DiagnosticStatus] = []
    listener.node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda array: told.extend(s for s in array.status if s.name == "emg_driver"),
        EVERY_SAMPLE,
    )
    return told


def assert_continuous(listener: Any) -> None:
    """Indices and counts of losses fit each other, and no sample's stamp is before the last one's."""
    frames = listener.frames
    for before, after in itertools.pairwise(frames):
        n = len(before.samples) // len(before.muscles)
        gap = after.first_sample - before.first_sample - n
        assert gap >= 0 and gap == after.lost_samples - before.lost_samples
        last_ns = to_ns(before.header.stamp) + (n - 1) * NS_PER_S / before.sampling_rate_hz
        assert to_ns(after.header.stamp) > last_ns


@pytest.mark.parametrize("driver", bench.DRIVERS)
def test_no_sample_is_lost_unaccounted(driver: str, request: pytest.FixtureRequest) -> None:
    if driver == "bitalino":
        request.getfixturevalue("pseudo_terminals")
    with bench.SOURCES[driver]() as source, listening(*source.parameters) as listener:
        assert listener.spin_until(lambda: bool(listener.frames)), "no frame"
        listener.spin(2.5)
        assert listener.stop() == 0
        result = bench.account(listener, source)
    assert_continuous(listener)
    assert result["unaccounted"] == 0 and result["stamps_monotone"], result
    assert result["samples"] >= 2.0 * listener.frames[0].sampling_rate_hz
    assert -1.0 < result["latency_p50_ms"] < 100.0, "stamps are not of the acquisition"


@pytest.mark.usefixtures("pseudo_terminals")
def test_a_device_that_vanishes_is_found_again_and_counted_on(tmp_path: Path) -> None:
    port, away_s = tmp_path / "port", 1.0

    def device() -> Emulator:
        emulator = Emulator()
        port.unlink(missing_ok=True)
        port.symlink_to(emulator.port)
        return emulator

    present = device()
    with listening("driver:=bitalino", f"port:={port}", "channels:=[1]", "muscles:=[TA_r]") as listener:
        try:
            assert listener.spin_until(lambda: len(listener.frames) > 50), "no frames"
            present.close()
            listener.spin(away_s)
            heard = len(listener.frames)
            present = device()
            assert listener.spin_until(lambda: len(listener.frames) > heard + 50), "it was not found again"
            assert listener.spin_until(lambda: listener.diagnostics.get("reconnections") == "1")
        finally:
            present.close()
        assert listener.stop() == 0
    assert_continuous(listener)
    before, after = next((a, b) for a, b in itertools.pairwise(listener.frames) if b.lost_samples > a.lost_samples)
    passed = (to_ns(after.header.stamp) - to_ns(before.header.stamp)) / NS_PER_S
    assert passed > away_s - 0.3
    assert after.first_sample - before.first_sample == pytest.approx(passed * before.sampling_rate_hz, abs=20)
    assert any("is gone" in m or "no BITalino" in m for m in listener.messages), listener.messages


@pytest.mark.usefixtures("pseudo_terminals")
def test_lifecycle_over_its_services() -> None:
    emulator = Emulator()
    try:
        with listening(
            "driver:=bitalino", f"port:={emulator.port}", "channels:=[1]", "muscles:=[TA_r]", "autostart:=false"
        ) as listener:
            lifecycle, told = Lifecycle(listener), health(listener)
            assert lifecycle.state() == "unconfigured"
            assert not lifecycle.change(Transition.TRANSITION_ACTIVATE)
            assert lifecycle.change(Transition.TRANSITION_CONFIGURE) and lifecycle.state() == "inactive"
            listener.spin(0.3)
            assert not listener.frames, "samples before activation"
            for _ in range(2):
                listener.frames.clear()
                assert lifecycle.change(Transition.TRANSITION_ACTIVATE) and lifecycle.state() == "active"
                assert listener.spin_until(lambda: len(listener.frames) > 20)
                assert listener.frames[0].first_sample == 0, "each activation counts from 0"
                assert lifecycle.change(Transition.TRANSITION_DEACTIVATE) and lifecycle.state() == "inactive"
                listener.spin(0.2)
                heard = len(listener.frames)
                listener.spin(0.3)
                assert len(listener.frames) == heard, "samples after deactivation"
                assert_continuous(listener)
            assert listener.spin_until(lambda: told[-1:] != [] and told[-1].message == "inactive")
            assert not told[-1].values, "what was counted before is not what is now"
            assert lifecycle.change(Transition.TRANSITION_CLEANUP) and lifecycle.state() == "unconfigured"
            assert lifecycle.change(Transition.TRANSITION_CONFIGURE)
            assert lifecycle.change(Transition.TRANSITION_INACTIVE_SHUTDOWN) and lifecycle.state() == "finalized"
            assert listener.stop() == 0
    finally:
        emulator.close()


def test_a_device_that_is_not_there_fails_to_configure_and_another_in_its_place_is_an_error(tmp_path: Path) -> None:
    source_id = f"exo-changing-{os.getpid()}"
    with listening("driver:=lsl", f"source_id:={source_id}", "resolve_timeout_s:=0.5", "autostart:=false") as listener:
        lifecycle = Lifecycle(listener)
        assert not lifecycle.change(Transition.TRANSITION_CONFIGURE) and lifecycle.state() == "unconfigured"
        outlet = bench.NumberedOutlet(source_id)
        try:
            assert lifecycle.change(Transition.TRANSITION_CONFIGURE) and lifecycle.change(
                Transition.TRANSITION_ACTIVATE
            )
            assert listener.spin_until(lambda: bool(listener.frames))
            outlet.close()
            outlet = bench.NumberedOutlet(source_id, unit="kg")
            assert listener.spin_until(lambda: any("in 'kg'" in m for m in listener.messages)), listener.messages
            assert lifecycle.state() == "unconfigured"
        finally:
            outlet.close()


def test_what_no_waiting_mends_ends_the_node_with_code_2() -> None:
    with listening("driver:=brainflow", "muscles:=[TA_r]") as listener:
        assert listener.process.wait(timeout=20.0) == 2


def test_without_a_device_it_waits_and_stops_at_once_when_told() -> None:
    with listening("driver:=bitalino", "port:=/dev/nowhere") as listener:
        assert listener.spin_until(lambda: any("no BITalino at /dev/nowhere" in m for m in listener.messages))
        listener.process.send_signal(signal.SIGINT)
        assert listener.process.wait(timeout=5.0) == 0


@pytest.mark.usefixtures("pseudo_terminals")
def test_a_ctrl_c_while_configuring_ends_it_cleanly() -> None:
    """The device is there and never answers; the interrupt comes while it is asked for its name."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with listening("driver:=bitalino", f"port:={os.ttyname(slave)}", "muscles:=[TA_r,-,-,-]") as listener:
            asked, until = b"", time.monotonic() + 20.0
            while wire.VERSION not in asked and time.monotonic() < until:
                if select.select([master], [], [], 0.1)[0]:
                    asked += os.read(master, 64)
            assert wire.VERSION in asked
            time.sleep(0.3)
            listener.process.send_signal(signal.SIGINT)
            assert listener.process.wait(timeout=5.0) == 0
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.usefixtures("pseudo_terminals")
def test_whoever_asks_for_a_transition_takes_over_from_autostart(tmp_path: Path) -> None:
    port = tmp_path / "port"
    with listening("driver:=bitalino", f"port:={port}", "channels:=[1]", "muscles:=[TA_r]") as listener:
        lifecycle = Lifecycle(listener)
        assert listener.spin_until(lambda: any("no BITalino" in m for m in listener.messages))
        assert not lifecycle.change(Transition.TRANSITION_CONFIGURE)
        emulator = Emulator()
        try:
            port.symlink_to(emulator.port)
            listener.spin(2.5)
            assert lifecycle.state() == "unconfigured" and not listener.frames, "it went on starting by itself"
            assert lifecycle.change(Transition.TRANSITION_CONFIGURE)
            assert lifecycle.change(Transition.TRANSITION_ACTIVATE)
            assert listener.spin_until(lambda: bool(listener.frames))
            assert lifecycle.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
            assert listener.stop() == 0
        finally:
            emulator.close()


def test_samples_that_are_stamped_long_ago_are_a_warning() -> None:
    with listening("driver:=virtual") as listener:
        told = health(listener)
        wearer = listener.node.create_publisher(TwinState, "/virtual/wearer", PUBLISH)

        def speak() -> None:
            state = TwinState(muscles=list(GROUP_CHANNELS), excitation=[0.5] * len(GROUP_CHANNELS))
            state.header.stamp = to_stamp(time.time_ns() - 60 * NS_PER_S)
            wearer.publish(state)

        listener.node.create_timer(0.01, speak)
        assert listener.spin_until(lambda: any("60.0 s before now" in s.message for s in told)), listener.messages
        assert next(s.level for s in told if "before now" in s.message) == DiagnosticStatus.WARN
