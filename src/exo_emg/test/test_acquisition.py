"""One driver kept running through everything that a device may do."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError
from exo_common.parameters import Parameters, from_mapping
from exo_emg.acquisition import BACK_OFF_MAX_S, Acquisition
from exo_emg.chunks import Chunk
from exo_emg.device_clock import HostClock
from exo_emg.drivers.interface import DeviceLost, Driver, EndOfStream, Reading, Signal, Stamps, find, names

RATE = 1000.0
EPOCH_NS = 1_700_000_000 * NS_PER_S


class Fake(Driver):
    """A device on a clock that the test turns."""

    def __init__(self) -> None:
        super().__init__(Parameters())
        self.now_ns = 50 * NS_PER_S
        self.rate = self.true_rate = RATE
        self.labels: tuple[str, ...] = ("TA_r", "SOL_r")
        self.there, self.silent, self.ended = True, False, False
        self.calls: list[str] = []
        self._sent = self._started_ns = 0

    def open(self) -> Signal:
        self.calls.append("open")
        if not self.there:
            raise DeviceLost("unplugged")
        return Signal(self.labels, self.rate, Stamps.ARRIVAL)

    def start(self) -> None:
        self.calls.append("start")
        self._sent, self._started_ns = 0, self.now_ns

    def read(self) -> list[Reading]:
        if not self.there:
            raise DeviceLost("unplugged")
        if self.ended:
            raise EndOfStream
        due = round((self.now_ns - self._started_ns) * self.true_rate / NS_PER_S)
        if self.silent or due == self._sent:
            return []
        reading = Reading(self._sent, np.ones((due - self._sent, len(self.labels))), self.now_ns)
        self._sent = due
        return [reading]

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


class Run:
    """An acquisition polled every 5 ms of the fake's time."""

    def __init__(self, muscles: tuple[str, ...] = ()) -> None:
        self.device = Fake()
        host = HostClock(lambda: self.device.now_ns, lambda: self.device.now_ns + EPOCH_NS)
        self.acquisition = Acquisition(self.device, muscles, host)
        self.chunks: list[Chunk] = []

    def go(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.device.now_ns += NS_PER_S // 200
            self.chunks += self.acquisition.poll()
            opening = self.acquisition._opening
            if opening is not None:
                opening.join()

    def check(self) -> int:
        """All that is there fits together; the number of samples."""
        end, last_ns = 0, 0
        for chunk in self.chunks:
            assert chunk.first_sample == end + chunk.lost_before and chunk.stamp_ns > last_ns
            end, last_ns = chunk.next_sample, chunk.last_stamp_ns(RATE)
        return end


def test_channels_are_chosen_and_frames_flow() -> None:
    run = Run(("SOL_r=soleus_r",))
    assert run.acquisition.connect().muscles == ("soleus_r",)
    run.acquisition.start()
    run.go(1.0)
    run.chunks += run.acquisition.stop()
    assert run.check() == 1000
    assert {c.samples.shape[1] for c in run.chunks} == {1}


@pytest.mark.parametrize("how", ["unplugged", "silent"])
def test_a_device_that_goes_away_is_waited_for_and_the_time_counted_as_lost(how: str) -> None:
    run = Run()
    run.acquisition.connect()
    run.acquisition.start()
    run.go(1.0)
    run.device.there, run.device.silent = how != "unplugged", how == "silent"
    run.go(10.0)
    assert run.acquisition.away
    assert len(run.chunks) == 100 and run.check() == 1000, "nothing is made up while it is away"
    run.device.there, run.device.silent = True, False
    run.go(BACK_OFF_MAX_S + 1.0)
    end = run.check()
    assert not run.acquisition.away and run.acquisition.reconnections >= 1
    assert end == pytest.approx((run.device.now_ns - 50 * NS_PER_S) * RATE / NS_PER_S, abs=15)
    assert run.acquisition.framer.lost == pytest.approx(end - sum(len(c.samples) for c in run.chunks), abs=10)
    if how == "unplugged":
        assert 4 <= run.device.calls.count("open") <= 8, "patience grows"


class Slow(Fake):
    """Opens only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.opening = self.overlaps = 0

    def open(self) -> Signal:
        self.opening += 1
        self.overlaps += self.opening > 1
        self.gate.wait(10.0)
        self.opening -= 1
        return super().open()

    def close(self) -> None:
        self.overlaps += self.opening > 0
        super().close()


def test_an_opening_that_nobody_waits_for_lets_go_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exo_emg.acquisition.OPENING_PATIENCE_S", 0.05)
    device = Slow()
    acquisition = Acquisition(device, (), HostClock(lambda: device.now_ns, lambda: device.now_ns))
    acquisition.connect()
    acquisition.start()
    device.there = False
    acquisition.poll()
    device.there = True
    device.gate.clear()
    device.now_ns += NS_PER_S
    acquisition.poll()
    opening = acquisition._opening
    assert opening is not None and opening.is_alive()
    acquisition.stop()
    with pytest.raises(DeviceLost, match="still being looked for"):
        acquisition.reopen()
    acquisition.close()
    device.gate.set()
    opening.join(5.0)
    assert device.overlaps == 0, "it was opened or closed while it was being opened"
    assert device.calls[-2:] == ["open", "close"], "it was left open"
    acquisition.reopen()
    assert device.calls[-1] == "open"


def test_an_opening_that_succeeds_unseen_is_closed_too() -> None:
    run = Run()
    run.acquisition.connect()
    run.acquisition.start()
    run.go(0.1)
    run.device.there = False
    run.go(0.1)
    run.device.there = True
    run.device.now_ns += NS_PER_S
    run.acquisition.poll()
    opening = run.acquisition._opening
    assert opening is not None
    opening.join(5.0)
    run.acquisition.stop()
    assert run.device.calls[-2:] == ["open", "close"]


def test_an_error_of_the_system_at_opening_is_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()
    run.acquisition.connect()
    run.acquisition.start()
    run.go(0.1)
    run.device.there = False
    run.go(0.1)

    def reset() -> Signal:
        raise OSError(19, "No such device")

    with monkeypatch.context() as patch:
        patch.setattr(run.device, "open", reset)
        run.device.there = True
        run.go(1.0)
        assert "No such device" in run.acquisition.away
        with pytest.raises(DeviceLost, match="No such device"):
            Acquisition(run.device).connect()
    run.go(BACK_OFF_MAX_S)
    assert not run.acquisition.away and run.acquisition.reconnections == 1


def test_a_ctrl_c_while_connecting_lets_go_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()

    def interrupted() -> Signal:
        raise KeyboardInterrupt

    monkeypatch.setattr(run.device, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.acquisition.connect()
    assert run.device.calls == ["close"]


def test_a_wrong_nominal_rate_is_told() -> None:
    run = Run()
    run.device.true_rate = 1020.0
    run.acquisition.connect()
    run.acquisition.start()
    run.go(5.0)
    assert run.acquisition.trouble() is None, "too early to tell"
    run.go(10.0)
    trouble = run.acquisition.trouble()
    assert trouble is not None and "sends 1020" in trouble.text and "nominal rate is wrong" in trouble.text


def test_another_device_in_its_place_is_refused() -> None:
    run = Run()
    run.acquisition.connect()
    run.acquisition.start()
    run.go(0.5)
    run.device.there = False
    run.go(0.1)
    run.device.there, run.device.labels = True, ("TA_r",)
    with pytest.raises(ExoError, match="1 channels at 1000 Hz in place of 2"):
        run.go(5.0)


def test_a_rate_that_carries_no_emg_is_refused_with_one_that_does() -> None:
    run = Run()
    run.device.rate = 100.0
    with pytest.raises(ExoError, match="1000 Hz"):
        run.acquisition.connect()
    assert run.device.calls[-1] == "close"


def test_a_recording_ends_with_its_last_samples() -> None:
    run = Run()
    run.acquisition.connect()
    run.acquisition.start()
    run.go(0.5)
    run.device.now_ns += 3_000_000
    run.chunks += run.acquisition.poll()
    run.device.ended = True
    run.go(0.1)
    assert run.acquisition.ended and run.check() == 503


def test_a_step_of_the_host_clock_is_followed_and_loses_nothing() -> None:
    wall = {"step": 0}
    run = Run()
    host = HostClock(lambda: run.device.now_ns, lambda: run.device.now_ns + EPOCH_NS + wall["step"])
    run.acquisition = Acquisition(run.device, (), host)
    run.acquisition.connect()
    run.acquisition.start()
    run.go(1.0)
    wall["step"] = 5 * NS_PER_S
    run.go(1.0)
    assert run.check() == 2000 and run.acquisition.framer.lost == 0 and host.steps == 1
    assert run.chunks[-1].stamp_ns - run.chunks[0].stamp_ns == pytest.approx(6.99 * NS_PER_S, rel=1e-3)


def test_every_driver_has_its_folder_of_the_same_shape() -> None:
    assert {"bitalino", "brainflow", "lsl", "playback", "virtual"} <= set(names())
    # What the launch file gives to whichever driver.
    launched = Path(__file__).resolve().parents[2] / "exo_bringup" / "config" / "emg.yaml"
    usual = yaml.safe_load(launched.read_text(encoding="utf-8"))["emg_driver"]["ros__parameters"]
    for name in names():
        driver = find(name)
        folder = Path(inspect.getfile(driver)).parent
        assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}")
        shared = {key: value for key, value in usual.items() if key in driver.config_type.__dataclass_fields__}
        from_mapping(driver.config_type, shared, "emg.yaml")
        for key, value in shared.items():
            assert type(value) is type(getattr(driver.config_type(), key)), f"{key} has another type in {name}"
        values = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["emg_driver"]["ros__parameters"]
        assert values.pop("driver") == name
        for of_the_node in ("muscles", "autostart"):
            values.pop(of_the_node, None)
        from_mapping(driver.config_type, values, f"{name}/config.yaml")


def test_an_unknown_driver_is_refused_with_those_there_are() -> None:
    with pytest.raises(ExoError, match="bitalino, brainflow, lsl"):
        find("myo")


def test_the_node_does_not_need_the_libraries_of_devices() -> None:
    code = (
        "import sys, exo_emg.nodes.emg_driver as n; "
        "print([m for m in ('brainflow', 'pylsl', 'serial', 'opensim', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
