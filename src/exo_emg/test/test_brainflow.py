"""BrainFlow: counting packages, and its synthetic board."""

from __future__ import annotations

import time

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.drivers.brainflow.driver import BrainflowConfig, BrainflowDriver

SINE_HZ, RATE = 5.0, 250.0


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([254, 255, 0, 1], [0, 1, 2, 3]),
        ([10, 11, 15, 16], [0, 1, 5, 6]),
        ([250, 4, 5], [0, 10, 11]),
        ([7, 7, 8], [0, 1]),
    ],
    ids=["plain", "wrap", "gap", "gap over the wrap", "sent twice"],
)
def test_package_numbers_become_a_count(numbers: list[float], expected: list[int]) -> None:
    for cut in range(1, len(numbers)):
        driver = BrainflowDriver(BrainflowConfig())
        count: list[int] = []
        for part in (numbers[:cut], numbers[cut:]):
            index, new = driver._counted(np.array(part, dtype=float))
            count += index[new].tolist()
        assert count == expected


def test_the_synthetic_board_loses_nothing() -> None:
    driver = BrainflowDriver(BrainflowConfig())
    try:
        signal = driver.open()
        assert signal.rate_hz == RATE and len(signal.channels) == 16
        driver.start()
        got, until = [], time.monotonic() + 3.0
        while time.monotonic() < until:
            got += driver.read()
            time.sleep(0.005)
        driver.stop()
    finally:
        driver.close()
    index = np.concatenate([np.arange(r.index, r.index + len(r.samples)) for r in got])
    np.testing.assert_array_equal(index, np.arange(len(index)))
    assert len(index) == pytest.approx(3.0 * RATE, rel=0.1)
    stamps = [r.stamp_ns for r in got]
    assert stamps == sorted(stamps)
    # Its first channel is a 5 Hz sine of 10 uV rms by sample count: a sample missing unseen turns its phase by 7.2 deg.
    first = np.concatenate([r.samples for r in got])[:, 0]
    assert np.std(first) == pytest.approx(10e-6, rel=0.1)
    turned = first * np.exp(-2j * np.pi * SINE_HZ / RATE * index)
    phases = np.degrees(np.angle([turned[k : k + 250].sum() for k in (0, 200, 400)]))
    assert np.ptp(phases) < 2.0


def test_a_board_that_is_unknown_or_not_there_is_told() -> None:
    with pytest.raises(ExoError, match="SYNTHETIC_BOARD"):
        BrainflowDriver(BrainflowConfig(board="FANCY_BOARD"))
    with pytest.raises(ExoError, match="CYTON_BOARD"):
        BrainflowDriver(BrainflowConfig(board="CYTON_BOARD", serial_port="/dev/nowhere")).open()
