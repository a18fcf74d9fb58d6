"""LSL: losses seen in stamps, units, and real outlets on loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pylsl
import pytest

from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError
from exo_emg.drivers.interface import DeviceLost, Reading, Stamps
from exo_emg.drivers.lsl.driver import LslConfig, LslDriver
from exo_emg.drivers.lsl.gaps import StampCounter

RATE = 1000.0
SOURCE = f"exo-test-lsl-{os.getpid()}"


def counted(stamps: np.ndarray, piece: int = 20) -> np.ndarray:
    counter = StampCounter(RATE)
    parts = [stamps[:200], *(stamps[k : k + piece] for k in range(200, len(stamps), piece))]
    return np.concatenate([counter.count(part, float(part[-1])) for part in parts])


@pytest.mark.parametrize("at", [50, 1000])
@pytest.mark.parametrize("lost", [1, 5, 700])
def test_regular_stamps_tell_every_lost_sample(lost: int, at: int) -> None:
    number = np.r_[0:at, at + lost : 3000]
    np.testing.assert_array_equal(counted(100.0 + number / (RATE * (1.0 + 80e-6))), number)


def test_unsteady_stamps_make_no_losses_but_do_not_hide_great_ones() -> None:
    rng = np.random.default_rng(0)
    number = np.r_[0:5000, 5060:8000]
    stamps = np.maximum.accumulate(100.0 + number / RATE + rng.normal(0.0, 0.003, len(number)))
    index = counted(stamps)
    assert index[4999] == 4999
    assert index[-1] == pytest.approx(number[-1], abs=15)


def test_a_sender_whose_clock_is_set_loses_nothing() -> None:
    stamps = 100.0 + np.arange(4000) / RATE
    arrived = stamps.copy()
    stamps[1000:] += 3600.0
    stamps[2000:] -= 7200.0
    counter = StampCounter(RATE)
    index = [counter.count(stamps[k : k + 20], float(arrived[k + 19])) for k in range(0, 4000, 20)]
    np.testing.assert_array_equal(np.concatenate(index), np.arange(4000))
    assert counter.clock_sets == 2


def outlet(
    unit: str = "uV", rate: float = RATE, kind: str = "EMG", source: str = SOURCE, stream_type: str = "EMG"
) -> pylsl.StreamOutlet:
    info = pylsl.StreamInfo("test", stream_type, 3, rate, pylsl.cf_float32, source)
    channels = info.desc().append_child("channels")
    for label, what in (("R TA", kind), ("force", "Force"), ("R SOL", kind)):
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("type", what)
        if unit:
            channel.append_child_value("unit", unit if what == kind else "N")
    return pylsl.StreamOutlet(info)


@pytest.fixture
def driver() -> Iterator[LslDriver]:
    driver = LslDriver(LslConfig(source_id=SOURCE, resolve_timeout_s=0.7))
    yield driver
    driver.close()


def exchange(
    driver: LslDriver, out: pylsl.StreamOutlet, samples: np.ndarray, stamp: float | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Send and receive; index, samples, and how old the last stamp was when it was read, ns."""
    out.push_chunk(samples.astype(np.float32), pylsl.local_clock() if stamp is None else stamp)
    got: list[Reading] = []
    until = time.monotonic() + 5.0
    while sum(len(r.samples) for r in got) < len(samples) and time.monotonic() < until:
        got += driver.read()
        time.sleep(0.002)
    index = np.concatenate([np.arange(r.index, r.index + len(r.samples)) for r in got])
    return index, np.concatenate([r.samples for r in got]), time.monotonic_ns() - got[-1].stamp_ns


@pytest.mark.parametrize(("unit", "volts"), [("uV", 1e-6), ("millivolts", 1e-3), ("V", 1.0), ("µV", 1e-6)])
def test_units_are_brought_to_volts_and_other_channels_left_out(driver: LslDriver, unit: str, volts: float) -> None:
    out = outlet(unit)
    signal = driver.open()
    assert (signal.channels, signal.stamps) == (("R TA", "R SOL"), Stamps.MEASURED)
    driver.start()
    sent = np.tile([[1.0, 9.0, 2.0], [np.nan, 9.0, 3.0], [4.0, 9.0, 5.0]], (100, 1))
    index, samples, age_ns = exchange(driver, out, sent)
    np.testing.assert_array_equal(index, np.arange(300))
    np.testing.assert_allclose(samples, sent[:, [0, 2]] * volts, rtol=1e-6)
    assert 0 <= age_ns < 1_000_000_000
    del out


@pytest.mark.parametrize(
    ("made", "words"),
    [({"unit": "a.u."}, "in 'a.u.'"), ({"unit": ""}, "parameter unit"), ({"rate": 0.0}, "no regular rate"),
     ({"kind": "ECG"}, "no EMG channel")],
)  # fmt: skip
def test_what_is_no_emg_in_volts_is_refused(driver: LslDriver, made: dict[str, str | float], words: str) -> None:
    out = outlet(**made)  # type: ignore[arg-type]
    with pytest.raises(ExoError, match=words) as caught:
        driver.open()
    assert not isinstance(caught.value, DeviceLost), "no waiting mends it"
    del out


def test_a_sender_that_ends_is_told_and_found_again(driver: LslDriver) -> None:
    with pytest.raises(DeviceLost, match="start its sender"):
        LslDriver(LslConfig(source_id="exo-nobody", resolve_timeout_s=0.3)).open()
    out = outlet()
    driver.open()
    driver.start()
    exchange(driver, out, np.ones((300, 3)))
    del out
    with pytest.raises(DeviceLost, match="gone"):
        for _ in range(500):
            driver.read()
            time.sleep(0.01)
    driver.close()
    out = outlet()
    driver.open()
    driver.start()
    index, _, _ = exchange(driver, out, np.ones((300, 3)))
    np.testing.assert_array_equal(index, np.arange(300))
    del out


def test_a_sender_that_stamps_with_a_clock_of_its_own_is_stamped_by_arrival_and_told(driver: LslDriver) -> None:
    out = outlet()
    driver.open()
    driver.start()
    _, _, age_ns = exchange(driver, out, np.ones((300, 3)))
    assert driver.trouble() is None and 0 <= age_ns < NS_PER_S
    for own_clock in (5.0, pylsl.local_clock() + 3600.0):
        driver.start()
        index, _, age_ns = exchange(driver, out, np.ones((300, 3)), own_clock)
        trouble = driver.trouble()
        assert trouble is not None and "clock of its own" in trouble.text and not trouble.grave
        np.testing.assert_array_equal(index, np.arange(300))
        assert 0 <= age_ns < 0.1 * NS_PER_S
        out.push_chunk(np.ones((10, 3), np.float32), own_clock + 0.01)
        got: list[Reading] = []
        until = time.monotonic() + 5.0
        while not got and time.monotonic() < until:
            got = driver.read()
        assert all(r.arrived for r in got), "the framer must know that these are arrivals"
    del out


def test_of_several_streams_none_is_chosen_by_luck() -> None:
    kind = f"EMG-several-{os.getpid()}"
    outs = [outlet(source=f"{SOURCE}-{k}", stream_type=kind) for k in "ab"]
    for _ in range(3):
        with pytest.raises(ExoError, match="several LSL streams") as caught:
            LslDriver(LslConfig(stream_type=kind, resolve_timeout_s=0.5)).open()
        assert not isinstance(caught.value, DeviceLost)
    del outs


def test_another_sender_is_never_taken_for_the_one_that_ended() -> None:
    kind = f"EMG-lost-{os.getpid()}"
    driver = LslDriver(LslConfig(stream_type=kind, resolve_timeout_s=0.5))
    try:
        out = outlet(source=f"{SOURCE}-one", stream_type=kind)
        driver.open()
        driver.close()
        del out
        other = outlet(source=f"{SOURCE}-other", stream_type=kind)
        with pytest.raises(DeviceLost, match=f"{SOURCE}-one in sight"):
            driver.open()
        out = outlet(source=f"{SOURCE}-one", stream_type=kind)
        driver.open()
        driver.close()
        twin = outlet(source=f"{SOURCE}-one", stream_type=kind)
        with pytest.raises(DeviceLost, match="several"):
            driver.open()
        del out, other, twin
    finally:
        driver.close()
