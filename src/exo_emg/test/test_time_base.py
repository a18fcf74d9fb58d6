"""Clocks of known relation: it is found again within its own uncertainty, or refused, never invented."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.time_base import MERGE_LIMIT_S, ClockRelation, align, from_lsl, match_events, same_clock, told

TOLERANCE = 0.01


def train(rng: np.random.Generator, count: int, mean_s: float = 1.0) -> NDArray[np.float64]:
    """Pulses at unequal intervals."""
    return 5.0 + np.cumsum(mean_s * rng.uniform(0.5, 1.5, count))


def seen(
    rng: np.random.Generator, truth: NDArray[np.float64], missed: float, wrong: int, noise_s: float
) -> NDArray[np.float64]:
    """What one side makes of the pulses: some missed, some that never were, all a little off."""
    kept = truth[rng.random(len(truth)) >= missed]
    extra = rng.uniform(truth[0], truth[-1], wrong)
    return np.sort(np.concatenate([kept + noise_s * rng.standard_normal(len(kept)), extra]))


@pytest.mark.parametrize("drift_ppm", [-80.0, 0.0, 120.0])
@pytest.mark.parametrize(("count", "mean_s"), [(30, 1.0), (900, 2.0)])
def test_offset_and_drift_come_back_in_spite_of_wrong_and_missing_pulses(
    drift_ppm: float, count: int, mean_s: float
) -> None:
    rng = np.random.default_rng(count)
    truth = train(rng, count, mean_s)
    reference = seen(rng, truth, 0.15, count // 10, 5e-4)
    own = seen(rng, (truth - 3.7) / (1 + 1e-6 * drift_ppm), 0.15, count // 10, 5e-4)
    relation = align("trigger pulses", own, reference, TOLERANCE, 1e-3)
    walk = np.array([own[0], own[-1]])
    expected = 3.7 + walk * (1 + 1e-6 * drift_ppm)
    error = np.abs(relation.to_reference(walk) - expected)
    assert error.max() < 2e-3 and error.max() <= max(relation.uncertainty_at(t) for t in walk)
    assert relation.pairs > 0.6 * count and relation.unpaired > 0
    if mean_s * count > 1000:
        assert relation.drift_ppm == pytest.approx(drift_ppm, abs=2.0)
    np.testing.assert_allclose(relation.from_reference(relation.to_reference(walk)), walk, atol=1e-9)


def test_the_stated_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Five taps with 15 ms of noise: a bootstrap alone would hold in about 80 % only."""
    held = 0
    for seed in range(200):
        truth = np.array([3.0, 3.7, 5.0, 7.1, 10.2])
        own = truth - 2.0 + 0.015 * np.random.default_rng(seed).standard_normal(5)
        relation = align("heel taps", own, truth, 0.12, 0.0)
        held += abs(relation.offset_s - 2.0) <= relation.uncertainty_s
    assert 0.91 <= held / 200 <= 1.0


def test_noisier_and_fewer_taps_are_less_sure_and_refused() -> None:
    rng = np.random.default_rng(3)
    truth = train(rng, 4, 2.0)
    good = align("heel taps", truth - 1.0 + 0.002 * rng.standard_normal(4), truth, 0.1, 5e-3)
    poor = align("heel taps", truth - 1.0 + 0.03 * rng.standard_normal(4), truth, 0.2, 5e-3)
    assert good.uncertainty_s < MERGE_LIMIT_S < poor.uncertainty_s
    good.require(0.0, 20.0)
    with pytest.raises(
        ExoError, match=r"only known to ±\d+ ms of each other \(heel taps\).*merged up to ±20 ms"
    ) as bad:
        poor.require(0.0, 20.0)
    assert len(str(bad.value).splitlines()) == 1


def test_one_pulse_is_enough_near_it_where_the_clocks_are_known_to_be_near_but_not_an_hour_later() -> None:
    one = np.array([10.0]), np.array([13.5])
    relation = align("trigger pulses", *one, TOLERANCE, 1e-3, within_s=5.0)
    assert relation.offset_s == pytest.approx(3.5) and relation.pairs == 1
    relation.require(0.0, 60.0)
    with pytest.raises(ExoError, match="merged up to"):
        relation.require(0.0, 3600.0)
    with pytest.raises(ExoError, match=r"only 1 trigger pulses agree at any offset.*'within'"):
        align("trigger pulses", *one, TOLERANCE, 1e-3)


def test_equal_intervals_are_refused_unless_the_clocks_are_known_to_be_near() -> None:
    regular = np.arange(20.0)
    with pytest.raises(ExoError, match=r"more than one offset .*'within'"):
        match_events("trigger pulses", regular[:-1], regular[1:] + 0.2, TOLERANCE)
    relation = align("trigger pulses", regular[2:-1], regular + 0.2, TOLERANCE, 1e-3, within_s=0.4)
    assert relation.offset_s == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(10))
def test_trains_that_have_nothing_in_common_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    with pytest.raises(ExoError, match="agree"):
        match_events("trigger pulses", train(rng, 15), train(rng, 15), TOLERANCE)


def test_a_few_chance_agreements_never_merge_two_recordings() -> None:
    """One to twelve pulses a side, none in common: two or three of them agree at some offset."""
    rng, merged = np.random.default_rng(1), 0
    for count in (1, 2, 3, 4, 5, 8, 12):
        for _ in range(60):
            own, other = (np.cumsum(rng.uniform(0.5, 2.5, count)) for _ in range(2))
            try:
                align("trigger pulses", own, other, TOLERANCE, 1e-3).require(0.0, 30.0)
            except ExoError:
                continue
            merged += 1
    assert merged <= 1


def test_pulses_that_one_side_saw_late_do_not_pull_the_line() -> None:
    rng = np.random.default_rng(5)
    truth = train(rng, 40)
    own = truth - 3.0 + 1e-4 * rng.standard_normal(40)
    own[::5] += 8e-3
    relation = align("trigger pulses", own, truth, TOLERANCE, 1e-4)
    assert abs(relation.offset_s - 3.0) <= relation.uncertainty_s < 3e-4
    assert relation.pairs == 32


@pytest.mark.parametrize(("own", "other", "side"), [([], [1.0], "the EMG"), ([1.0], [], "the other recording")])
def test_a_side_without_events_is_named(own: list[float], other: list[float], side: str) -> None:
    with pytest.raises(ExoError, match=f"{side} shows no trigger pulses"):
        match_events("trigger pulses", np.array(own), np.array(other), TOLERANCE)


def test_too_few_taps_are_refused() -> None:
    with pytest.raises(ExoError, match="only 2 heel taps were seen by both recordings, 3 are the least"):
        align("heel taps", np.array([1.0, 2.7]), np.array([4.0, 5.7]), 0.05, 0.01, within_s=3.5, least=3)
    three = np.array([1.0, 2.7, 4.0])
    with pytest.raises(ExoError, match="only 3 heel taps agree at any offset, where 4 are the least"):
        align("heel taps", three, three + 2.0, 0.05, 0.01, least=3)


def test_lsl_exchanges_give_the_offset_and_are_no_surer_than_their_shortest_round_trip() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(0.0, 600.0, 5.0)
    delay = 2e-4 + rng.exponential(1e-3, len(time))
    # Half of an extra delay, all on the way there, appears in the offset.
    offset = 12.25 + 30e-6 * time + 0.5 * (delay - 2e-4)
    relation = from_lsl(np.column_stack([time, offset, delay]))
    assert relation.uncertainty_s >= delay.min()
    error = relation.to_reference(time) - (time + 12.25 + 30e-6 * time)
    assert np.abs(error).max() <= relation.uncertainty_at(600.0) < 2e-3
    assert relation.drift_ppm == pytest.approx(30.0, abs=3.0)


@pytest.mark.parametrize(("jump_s", "at_s"), [(0.03, 60.0), (100.0, 60.0), (0.05, 104.0), (-0.02, 20.0)])
def test_a_senders_clock_that_was_set_is_no_offset(jump_s: float, at_s: float) -> None:
    time = np.arange(0.0, 120.0, 2.0)
    offset = 5.0 + 1e-5 * np.random.default_rng(0).standard_normal(60) + jump_s * (time >= at_s)
    with pytest.raises(ExoError, match=f"the sender's clock was set at t = {at_s:g} s"):
        from_lsl(np.column_stack([time, offset, np.full(60, 2e-4)]))


def test_an_lsl_exchange_of_a_long_round_trip_is_no_clock_that_was_set() -> None:
    time = np.arange(0.0, 120.0, 2.0)
    offset, half_trip = np.full(60, 5.0), np.full(60, 2e-4)
    offset[30:35], half_trip[30:35] = 5.04, 0.05
    relation = from_lsl(np.column_stack([time, offset, half_trip]))
    assert relation.offset_s == pytest.approx(5.0, abs=1e-6) and relation.uncertainty_s < 1e-3


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.array([[1.0, np.nan, 1e-3]]), np.array([[1.0, 2.0, -1.0]])])
def test_broken_lsl_exchanges_are_refused(rows: NDArray[np.float64]) -> None:
    with pytest.raises(ExoError, match="time, offset and uncertainty"):
        from_lsl(rows)


def test_what_is_told_is_used_and_drifts_as_quartz_does() -> None:
    relation = told(0.12, 0.004)
    assert relation.to_reference(np.array([1.0]))[0] == pytest.approx(1.12)
    assert 0.004 < relation.uncertainty_at(60.0) < MERGE_LIMIT_S
    same_clock().require(0.0, 1e6)
    with pytest.raises(ExoError):
        ClockRelation("told", 0.0, float("nan")).require(0.0, 1.0)
