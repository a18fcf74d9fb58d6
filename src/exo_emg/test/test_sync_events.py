"""Pulses and taps of known times, in every signal that sees them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.sync_events import emg_tap_times, foot_tap_times, imu_tap_times, pulse_times
from exo_emg.synthesis import EmgSynthesizer
from exo_emg.time_base import MERGE_LIMIT_S, align

RATE = 1000.0
TAPS = np.array([2.0, 2.8, 4.1, 6.0, 8.7])


def tapping_emg(shift_s: float, seed: int = 0) -> NDArray[np.float64]:
    """Five channels of a leg: quiet, calf bursts that raise the heel, and the shock of each impact."""
    time = np.arange(round(11 * RATE)) / RATE
    drive = np.full((len(time), 5), 0.01)
    shock = np.zeros(len(time))
    for tap in TAPS + shift_s:
        drive[(time > tap - 0.45) & (time < tap - 0.05), :2] = 0.3
        since = time - tap
        shock += np.where(since >= 0, np.exp(-since / 0.02) * np.sin(2 * np.pi * 60 * since), 0.0)
    return EmgSynthesizer(5, seed).frame(drive) + 4e-4 * shock[:, None] * np.linspace(0.7, 1.3, 5)


def tapping_heel(rate: float, noise_m: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A heel raised by 6 cm and dropped on each tap."""
    time = np.arange(round(11 * rate)) / rate
    height = np.zeros(len(time))
    for tap in TAPS:
        rise = np.clip((time - tap + 0.45) / 0.3, 0.0, 1.0)
        fall = np.clip((time - tap + 0.111) / 0.111, 0.0, 1.0) ** 2
        height += np.where(time < tap, 0.06 * (0.5 - 0.5 * np.cos(np.pi * rise)) * (1.0 - fall), 0.0)
    noise = noise_m * np.random.default_rng(seed).standard_normal((len(time), 1, 3))
    heel = noise + np.stack([0 * height, height, 0 * height], axis=1)[:, None]
    return time, heel


def test_pulses_are_found_to_a_fraction_of_a_sample_whatever_their_rest_and_their_noise() -> None:
    time = np.arange(20000) / 1500.0
    truth = np.array([1.0003, 2.5001, 7.9])
    wave = sum(np.clip((time - t) * 750.0, 0, 1) - np.clip((time - t - 0.02) * 750.0, 0, 1) for t in truth)
    noisy = 5.0 * wave + 0.02 * np.random.default_rng(0).standard_normal(len(time))
    for values in (noisy, 3.3 - noisy, 80.0 + noisy):
        found = pulse_times(values, 1500.0, start_s=10.0)
        np.testing.assert_allclose(found, truth + 10.0 + 0.5 / 750.0, atol=2e-4)


def test_a_channel_without_pulses_is_refused() -> None:
    for values in (np.zeros(1000), np.random.default_rng(0).standard_normal(5000)):
        with pytest.raises(ExoError, match="shows no pulses"):
            pulse_times(values, 1000.0)


def test_noise_on_a_slow_edge_is_no_second_pulse() -> None:
    time = np.arange(10000) / 1000.0
    ramps = sum(np.interp(time, [t, t + 0.1, t + 0.2, t + 0.3], [0.0, 5.0, 5.0, 0.0]) for t in (1.0, 3.3, 7.0))
    noisy = ramps + 0.15 * np.random.default_rng(0).standard_normal(len(time))
    np.testing.assert_allclose(pulse_times(noisy, 1000.0), [1.05, 3.35, 7.05], atol=0.01)


@pytest.mark.parametrize("end", [32, 34])
def test_a_gate_that_is_open_most_of_the_time_needs_its_edge(end: int) -> None:
    """It rests low, although it is high for most of the recording; it may still be open at the end."""
    gate = 0.01 * np.random.default_rng(0).standard_normal(34000)
    gate[10000 : end * 1000] += 5.0
    with pytest.raises(ExoError, match=r"high for \d+ % of the time.*emg\.sync\.edge: rising or falling"):
        pulse_times(gate, RATE)
    np.testing.assert_allclose(pulse_times(gate, RATE, edge="rising"), [10.0], atol=2e-3)
    np.testing.assert_allclose(pulse_times(gate, RATE, edge="falling"), [32.0] if end == 32 else [], atol=2e-3)


def test_taps_are_the_shock_that_the_leg_shares_not_the_burst_that_raised_the_heel() -> None:
    found = emg_tap_times(tapping_emg(0.0), RATE, ["r"] * 5)
    np.testing.assert_allclose(found, TAPS, atol=0.008)


@pytest.mark.parametrize(("rate", "noise_m", "within_s"), [(100.0, 3e-4, 0.008), (30.0, 2e-3, 0.02)])
def test_taps_are_found_in_the_heels_trajectory(rate: float, noise_m: float, within_s: float) -> None:
    time, heel = tapping_heel(rate, noise_m)
    heel[round(5.2 * rate) : round(5.3 * rate)] = np.nan
    np.testing.assert_allclose(foot_tap_times(time, heel), TAPS, atol=within_s)


def test_taps_are_found_by_an_accelerometer() -> None:
    time = np.arange(1100) / 100.0
    acceleration = np.tile([0.0, 0.0, 9.81], (len(time), 1)) + 0.2 * np.random.default_rng(0).standard_normal((1100, 3))
    for tap in TAPS:
        acceleration[round(100 * tap), 2] += 30.0
    np.testing.assert_allclose(imu_tap_times(time, acceleration), TAPS, atol=0.006)


def test_emg_and_markers_are_brought_together_by_taps_and_know_how_well() -> None:
    time, heel = tapping_heel(100.0, 3e-4)
    own = emg_tap_times(tapping_emg(0.35), RATE, ["r"] * 5)
    relation = align("heel taps", own, foot_tap_times(time, heel), 0.06, 0.01, least=3)
    assert abs(relation.offset_s + 0.35) <= relation.uncertainty_s < MERGE_LIMIT_S
    assert relation.pairs == len(TAPS)
