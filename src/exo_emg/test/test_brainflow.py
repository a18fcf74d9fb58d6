"""BrainFlow: counting packages, and its synthetic board."""

from __future__ import annotations

import time
from types import SimpleNamespace

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


def judged(numbers: np.ndarray, **config: object) -> str:
    """What the driver says of a board that numbers its samples so."""
    driver = BrainflowDriver(BrainflowConfig(**config))  # type: ignore[arg-type]
    driver._rate_hz = int(RATE)
    for part in np.array_split(numbers.astype(float), 50):
        driver._counted(part)
    trouble = driver.trouble()
    assert trouble is None or trouble.grave
    return trouble.text if trouble else ""


def test_numbers_that_count_otherwise_are_an_error() -> None:
    k = np.arange(2000)
    assert judged(k % 256) == "" and judged(np.delete(k, slice(500, 560)) % 256) == ""
    assert "counter_modulus" in judged(101 + k // 2 % 100), "two samples bear one number"
    assert "counter_modulus" in judged(k % 200)
    assert judged(k % 200, counter_modulus=200) == ""
    assert judged(101 + k // 2 % 100, board="GANGLION_BOARD") == "", "known not to number samples"
    assert judged(k[:200] * 3 % 256) == "", "too early to tell"


def test_a_board_whose_numbers_are_not_known_is_refused() -> None:
    with pytest.raises(ExoError, match=r"how GFORCE_PRO_BOARD numbers its samples is not known.*counter_modulus"):
        BrainflowDriver(BrainflowConfig(board="GFORCE_PRO_BOARD"))
    BrainflowDriver(BrainflowConfig(board="GFORCE_PRO_BOARD", counter_modulus=0))


@pytest.mark.parametrize(("unit", "volts"), [("uV", 10e-6), ("mV", 10e-3), ("V", 10.0)])
def test_the_unit_is_the_boards(unit: str, volts: float) -> None:
    driver = BrainflowDriver(BrainflowConfig(unit=unit))
    data = np.full((5, 8), 10.0)
    data[0] = np.arange(8)
    driver._board = SimpleNamespace(get_board_data=lambda: data)
    driver._rows, driver._rate_hz = [1, 2], int(RATE)
    np.testing.assert_allclose(driver.read()[0].samples, np.full((8, 2), volts))


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
