"""The drivers that need no hardware: a simulated wearer's muscles, and recordings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from exo_common.clock import to_stamp
from exo_common.errors import ExoError
from exo_emg.drivers.interface import DeviceLost, EndOfStream, Reading, find
from exo_emg.drivers.playback.driver import PlaybackConfig, PlaybackDriver
from exo_emg.drivers.virtual.drive import Drive, State
from exo_emg.drivers.virtual.driver import VirtualConfig, VirtualDriver
from exo_emg.muscles import GROUP_CHANNELS
from exo_emg.recordings import FileOptions

START = 1_700_000_000_000_000_000
PERIOD = 10_000_000


def wearer(k: int, **changes: object) -> SimpleNamespace:
    """The k-th state of a wearer who walks with a stride of one second."""
    values = {
        "header": SimpleNamespace(stamp=to_stamp(START + k * PERIOD)),
        "muscles": list(GROUP_CHANNELS),
        "excitation": np.full(18, 0.3 + 0.2 * np.sin(2.0 * np.pi * k / 100)),
        "phase_left": (0.955 + k / 100) % 1.0,
        "phase_right": (0.455 + k / 100) % 1.0,
    }
    return SimpleNamespace(**{**values, **changes})


def started(**config: object) -> VirtualDriver:
    driver = VirtualDriver(VirtualConfig(**config))  # type: ignore[arg-type]
    signal = driver.open()
    assert signal.channels == GROUP_CHANNELS and signal.rate_hz == driver.config.sampling_rate_hz
    driver.start()
    return driver


def states(driver: VirtualDriver, numbers: list[int], at_once: int = 1) -> list[Reading]:
    found = []
    for i, k in enumerate(numbers, start=1):
        driver.receive(wearer(k))
        if i % at_once == 0:
            found += driver.read()
    return found + driver.read()


def test_every_state_becomes_10_ms_that_end_with_its_stamp() -> None:
    readings = states(started(), list(range(100)))
    assert [r.index for r in readings] == list(range(0, 1000, 10))
    assert [r.stamp_ns for r in readings] == [START + k * PERIOD for k in range(100)]
    assert all(r.samples.shape == (10, 18) for r in readings)


@pytest.mark.parametrize("rate", [1000.0, 2048.0, 1259.26])
def test_any_rate_keeps_its_grid(rate: float) -> None:
    readings = states(started(sampling_rate_hz=rate), list(range(300)))
    counts = [len(r.samples) for r in readings]
    assert sum(counts) == pytest.approx(3.0 * rate, abs=2) and max(counts) - min(counts) <= 1
    last = np.cumsum(counts) - 1
    stamps = np.array([r.stamp_ns - START for r in readings])
    np.testing.assert_allclose(stamps - stamps[0], (last - last[0]) * 1e9 / rate, atol=2.0)


def test_the_same_wearer_gives_the_same_emg_whatever_the_timing() -> None:
    one, other = (np.concatenate([r.samples for r in states(started(seed=4), list(range(200)), n)]) for n in (1, 23))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, np.concatenate([r.samples for r in states(started(seed=5), list(range(200)))]))


def test_a_missing_state_is_lost_samples_and_time_goes_on() -> None:
    readings = states(started(), [0, 1, 2, 6, 7])
    assert [r.index for r in readings] == [0, 10, 20, 60, 70] and readings[3].stamp_ns == START + 6 * PERIOD
    assert states(started(), [0, 1, 1])[-1].index == 10, "a state that is not later adds nothing"


def test_a_wearer_whose_time_goes_back_is_followed_on_a_new_grid_and_counted() -> None:
    driver = started()
    states(driver, list(range(100)))
    readings = states(driver, list(range(-6000, -5900)))
    assert [r.index for r in readings] == list(range(1000, 2000, 10))
    assert [r.stamp_ns for r in readings] == [START + k * PERIOD for k in range(-6000, -5900)]
    assert driver.status()["device_clock_jumps"] == 1
    assert states(driver, [-5902]) == [], "messages in the wrong order are no jump"
    assert driver.status()["device_clock_jumps"] == 1


def test_heel_strikes_are_where_the_phase_begins_anew() -> None:
    drive = Drive(("TA_l", "TA_r"), 1000.0)
    found = []
    for k in range(100):
        state = wearer(k)
        stretch = drive.until(State(START + k * PERIOD, np.zeros(2), (state.phase_left, state.phase_right)))
        assert stretch is not None
        found += [(stretch.first + strike.at, strike.shaken.tolist()) for strike in stretch.strikes]
    # Half-way between two states: 0.995 at the state of sample 49, 0.005 at that of 59.
    assert [at for at, _ in found] == pytest.approx([54, 554], abs=1)
    assert [shaken for _, shaken in found] == [[True, False], [False, True]]


def test_a_wearer_who_falls_silent_is_lost_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, now = started(), [0.0]
    assert driver.read() == [], "nobody has spoken yet: nothing is lost"
    monkeypatch.setattr("exo_emg.drivers.virtual.driver.time.monotonic", lambda: now[0] + 100.0)
    assert len(states(driver, [0])) == 1
    now[0] += 1.1
    with pytest.raises(DeviceLost, match="silent"):
        driver.read()
    driver.close()
    with pytest.raises(DeviceLost, match="silent"):
        driver.open()
    driver.receive(wearer(200))
    driver.open()
    driver.start()
    assert [r.index for r in driver.read()] == [0]


def test_a_wearer_of_another_kind_is_refused() -> None:
    for changes in ({"excitation": np.zeros(0)}, {"muscles": ["soleus_r"], "excitation": np.zeros(1)}):
        driver = started()
        driver.receive(wearer(0, **changes))
        with pytest.raises(ExoError, match="virtual device"):
            driver.read()


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.ns = 5_000_000_000

    def __call__(self) -> int:
        return self.ns


def played(path: Path, step_ms: int, seconds: float, **config: object) -> tuple[list[Reading], PlaybackDriver, bool]:
    clock = Time()
    driver = PlaybackDriver(PlaybackConfig(file=str(path), **config), clock)  # type: ignore[arg-type]
    driver.open()
    driver.start()
    readings: list[Reading] = []
    try:
        for _ in range(round(1e3 * seconds / step_ms)):
            clock.ns += 1_000_000 * step_ms
            readings += driver.read()
    except EndOfStream:
        return readings, driver, True
    return readings, driver, False


@pytest.fixture
def walk(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """One second at 1 kHz, 50 ms of it missing."""
    samples = 2e-4 * np.random.default_rng(0).standard_normal((1000, 2))
    rows = [f"{k / 1000:.3f},{a:.9g},{b:.9g}" for k, (a, b) in enumerate(samples) if not 300 <= k < 350]
    path = tmp_path / "walk.csv"
    path.write_text("\n".join(["time,R_soleus,L_TA", *rows]))
    return path, samples


@pytest.mark.parametrize("step_ms", [3, 10, 400])
def test_a_recording_is_played_in_its_own_time_and_its_holes_are_losses(
    walk: tuple[Path, np.ndarray], step_ms: int
) -> None:
    path, samples = walk
    readings, _, ended = played(path, step_ms, 2.0)
    assert ended
    index = np.concatenate([np.arange(r.index, r.index + len(r.samples)) for r in readings])
    assert index.tolist() == [*range(300), *range(350, 1000)]
    np.testing.assert_allclose(np.concatenate([r.samples for r in readings]), samples[index], rtol=1e-6)
    last = np.array([r.index + len(r.samples) - 1 for r in readings])
    spacing = np.array([r.stamp_ns for r in readings]) - readings[0].stamp_ns
    np.testing.assert_array_equal(spacing, (last - last[0]) * 1_000_000)
    # Nothing comes before its time.
    early, _, _ = played(path, 10, 0.2)
    assert early[-1].index + len(early[-1].samples) == 200


def test_speed_and_loop(walk: tuple[Path, np.ndarray]) -> None:
    path, samples = walk
    readings, driver, ended = played(path, 10, 1.0, speed=2.0, loop=True)
    assert not ended and driver.status()["rounds"] == 2
    last = readings[-1]
    assert last.index + len(last.samples) == 2000
    assert last.stamp_ns - readings[0].stamp_ns == pytest.approx(1.98e9), "spacing is the recording's"
    np.testing.assert_allclose(last.samples[-1], samples[-1], rtol=1e-6)


def test_what_cannot_be_played_is_said_at_once(tmp_path: Path, walk: tuple[Path, np.ndarray]) -> None:
    envelopes = tmp_path / "envelopes.csv"
    envelopes.write_text("time,R_soleus\n" + "\n".join(f"{k / 1000:.3f},0.5" for k in range(100)))
    for config, words in (
        (PlaybackConfig(), "parameter file is empty"),
        (PlaybackConfig(file="none.csv"), "does not exist"),
        (PlaybackConfig(file=str(envelopes)), "holds envelopes"),
        (PlaybackConfig(file=str(walk[0]), names=["R_soleus"]), "label=muscle_side"),
    ):
        with pytest.raises(ExoError, match=words):
            PlaybackDriver(config).open()
    named = PlaybackConfig(file=str(walk[0]), names=["R_soleus=gastrocnemius_medialis_r"])
    assert PlaybackDriver(named).open().channels == ("gastrocnemius_medialis_r", "tibialis_anterior_l")
    assert isinstance(named, FileOptions)


def test_an_electrode_that_comes_off_does_not_end_a_playback(tmp_path: Path) -> None:
    samples = 2e-4 * np.random.default_rng(1).standard_normal((1000, 2))
    samples[600:] = 0.05 * np.sin(2.0 * np.pi * 50.0 * np.arange(400) / 1000.0)[:, None]
    path = tmp_path / "walk.csv"
    rows = [f"{k / 1000:.3f},{a:.9g},{b:.9g}" for k, (a, b) in enumerate(samples)]
    path.write_text("\n".join(["time,R_soleus,L_TA", *rows]))
    readings, _, ended = played(path, 10, 2.0)
    assert ended and sum(len(r.samples) for r in readings) == 1000


def test_both_are_found_by_name() -> None:
    assert find("virtual") is VirtualDriver and find("playback") is PlaybackDriver
