"""Robust lines: the slope, and whether the intervals keep their promise when values are related."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from exo_emg.trend import VALUES_MIN, change, robust_line

TIMES = np.arange(40.0)


def test_three_wild_values_in_ten_do_not_move_the_line() -> None:
    values = 5.0 - 0.1 * TIMES + 0.01 * np.random.default_rng(0).standard_normal(len(TIMES))
    values[::4] += 50.0
    line = robust_line(TIMES, values)
    assert line is not None
    assert line.slope == pytest.approx(-0.1, abs=0.02)
    assert line.at(20.0) == pytest.approx(3.0, abs=0.05)


def test_unknown_values_are_left_out_and_too_few_are_no_line() -> None:
    values = np.where(np.arange(40) % 5 == 0, 2.0 * TIMES, np.nan)
    assert np.count_nonzero(np.isfinite(values)) == VALUES_MIN
    line = robust_line(TIMES, values)
    assert line is not None and line.slope == pytest.approx(2.0)
    values[0] = np.nan
    assert robust_line(TIMES, values) is None


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_intervals_hold_the_truth_as_often_as_they_say(rho: float) -> None:
    rng = np.random.default_rng(1)
    slopes = changes = 0
    runs = 400
    for _ in range(runs):
        noise = lfilter([np.sqrt(1 - rho**2)], [1.0, -rho], rng.standard_normal(140))[100:]
        line = robust_line(TIMES, noise)
        first, last = robust_line(TIMES[:20], noise[:20]), robust_line(TIMES[20:], noise[20:])
        assert line is not None and first is not None and last is not None
        slopes += abs(line.slope) <= line.slope_estimate().half_width()
        moved = change(first, 0.0, last, 39.0)
        changes += abs(moved.value) <= moved.half_width()
    assert 0.90 <= slopes / runs <= 0.995
    assert 0.90 <= changes / runs <= 0.995


def test_a_change_is_seen_between_two_lines_whatever_lies_between() -> None:
    values = np.where(TIMES < 20.0, 1.0, 3.0) + 0.01 * np.random.default_rng(2).standard_normal(len(TIMES))
    first, last = robust_line(TIMES[:20], values[:20]), robust_line(TIMES[20:], values[20:])
    assert first is not None and last is not None
    moved = change(first, 0.0, last, 39.0)
    assert moved.value == pytest.approx(2.0, abs=0.05)
    assert moved.half_width() < 0.1
