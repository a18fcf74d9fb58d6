"""The fit of a device's count to the host's clock."""

from __future__ import annotations

import numpy as np
import pytest

from exo_common.clock import NS_PER_S
from exo_emg.device_clock import DeviceClock, HostClock

RATE = 1000.0
START_NS = 5_000 * NS_PER_S


def arrivals(seconds: float, drift_ppm: float, delay_s: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Newest index and arrival (ns) of chunks of 10 samples that are late by 2 ms and an exponential delay."""
    index = np.arange(10, round(seconds * RATE), 10)
    true = index / (RATE * (1.0 + drift_ppm * 1e-6))
    late = 0.002 + np.random.default_rng(seed).exponential(delay_s, len(index))
    # A chunk never overtakes the one before it.
    return index, START_NS + np.round(NS_PER_S * np.maximum.accumulate(true + late)).astype(np.int64)


@pytest.mark.parametrize("drift_ppm", [-280.0, 0.0, 50.0])
def test_drift_and_acquisition_times_are_found_below_varying_delays(drift_ppm: float) -> None:
    clock = DeviceClock(RATE, one_sided=True)
    index, stamps = arrivals(60.0, drift_ppm, 0.010)
    for i, stamp in zip(index.tolist(), stamps.tolist(), strict=True):
        clock.add(i - 9, i, stamp)
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=15.0)
    true_ns = START_NS + NS_PER_S * index[-1] / (RATE * (1.0 + drift_ppm * 1e-6))
    # The constant 2 ms cannot be seen from here; the delays of 10 ms and more on top of it must be gone.
    assert 1.5e6 < clock.at(int(index[-1])) - true_ns < 3.0e6
    assert 20.0 < clock.jitter_ms < 40.0, "95 % of an exponential delay of 10 ms is 30 ms"


def test_measured_stamps_are_averaged() -> None:
    clock = DeviceClock(RATE, one_sided=False)
    rng = np.random.default_rng(1)
    index = np.arange(10, 30_000, 10)
    noisy = START_NS + np.round(index * 1e6 / (1.0 + 100e-6) + rng.normal(0.0, 1e6, len(index))).astype(np.int64)
    for i, stamp in zip(index.tolist(), noisy.tolist(), strict=True):
        clock.add(i - 9, i, stamp)
    assert clock.drift_ppm == pytest.approx(100.0, abs=10.0)
    assert clock.at(29_990) == pytest.approx(START_NS + 29_990e6 / (1.0 + 100e-6), abs=0.3e6)


def test_drift_is_not_claimed_before_ten_seconds() -> None:
    clock = DeviceClock(RATE, one_sided=True)
    index, stamps = arrivals(8.0, 50.0, 0.001)
    for i, stamp in zip(index.tolist(), stamps.tolist(), strict=True):
        clock.add(i - 9, i, stamp)
    assert clock.drift_ppm is None


def test_a_late_stretch_is_in_doubt_only_once_nothing_is_prompt() -> None:
    clock = DeviceClock(RATE, one_sided=True, doubt_ns=10e6)
    for k in range(1, 400):
        late = 30_000_000 if k > 200 and k % 40 else 0
        clock.add(10 * k - 9, 10 * k, START_NS + 10_000_000 * k + late)
    assert clock.doubts_ns() == []
    for k in range(400, 600):
        clock.add(10 * k - 9, 10 * k, START_NS + 10_000_000 * k + 30_000_000)
    assert clock.doubts_ns() == pytest.approx([30e6, 30e6, 30e6], abs=1e6)
    clock.add(5991, 6000, START_NS + 6_000_000_000)
    for k in range(601, 700):
        clock.add(10 * k - 9, 10 * k, START_NS + 10_000_000 * k)
    assert clock.doubts_ns() == [], "what passed is forgotten"


def test_an_earlier_arrival_moves_the_line_at_once() -> None:
    clock = DeviceClock(RATE, one_sided=True)
    clock.add(1, 10, START_NS + 30_000_000)
    clock.add(11, 20, START_NS + 20_000_000)
    assert clock.at(20) == START_NS + 20_000_000


@pytest.mark.parametrize("one_sided", [True, False])
@pytest.mark.parametrize(("true_hz", "told"), [(990.0, -10_000.0), (1020.0, 20_000.0), (1004.0, None)])
def test_a_nominal_rate_that_is_wrong_is_no_drift(one_sided: bool, true_hz: float, told: float | None) -> None:
    clock = DeviceClock(RATE, one_sided)
    for k in range(1, 4000):
        clock.add(10 * k - 9, 10 * k, START_NS + round(10 * k / true_hz * NS_PER_S))
        if len(clock.doubts_ns()) == 2:
            clock.jump()
        assert abs(clock.drift_ppm or 0.0) < 5100.0
    assert clock.rate_error_ppm == (None if told is None else pytest.approx(told, rel=0.05))


def test_steps_of_the_host_clock_are_followed_and_counted() -> None:
    now = {"monotonic": 1000 * NS_PER_S, "system": 9000 * NS_PER_S}
    host = HostClock(lambda: now["monotonic"], lambda: now["system"])
    assert host.to_system(1001 * NS_PER_S) == 9001 * NS_PER_S
    now["system"] += 1_000
    host.look()
    assert host.steps == 0
    now["system"] -= 3600 * NS_PER_S
    host.look()
    assert host.steps == 1
    assert host.to_system(1001 * NS_PER_S) == 5401 * NS_PER_S + 1_000
