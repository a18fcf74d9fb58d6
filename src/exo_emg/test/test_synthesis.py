"""Synthetic EMG has what it says: spectrum, crosstalk, artefacts, hum, fatigue; and the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.signal import welch

from exo_emg.muscles import GROUP_CHANNELS
from exo_emg.synthesis import (
    SPECTRUM_HIGH_HZ,
    SPECTRUM_LOW_HZ,
    EmgSynthesizer,
    Strike,
    SynthesisConfig,
    crosstalk,
    interference_filter,
    median_frequency_hz,
)
from exo_emg.synthetic_fatigue import TiringWalk, WalkFatigue

RATE = 2000.0
QUIET = SynthesisConfig(sampling_rate_hz=RATE, noise_v=0.0)
LEFT = np.array([name.endswith("_l") for name in GROUP_CHANNELS])


def median(samples: np.ndarray, rate: float) -> float:
    frequency, power = welch(samples, rate, nperseg=1024)
    total = np.cumsum(power)
    return float(np.interp(0.5 * total[-1], total, frequency))


def test_the_signal_has_the_published_spectrum_and_the_stated_size() -> None:
    x = EmgSynthesizer(1, 1, QUIET).frame(np.ones((200_000, 1)))[:, 0]
    assert np.std(x) == pytest.approx(QUIET.gain_v, rel=0.02)
    frequency, power = welch(x, RATE, nperseg=2048)
    f2 = frequency**2
    published = f2 / ((f2 + SPECTRUM_LOW_HZ**2) * (f2 + SPECTRUM_HIGH_HZ**2) ** 2)
    inside = (frequency > 20.0) & (frequency < 300.0)
    ratio = power[inside] / published[inside]
    np.testing.assert_allclose(np.convolve(ratio / np.mean(ratio), np.ones(15) / 15, "valid"), 1.0, atol=0.2)


def test_slower_fibres_compress_the_spectrum_in_proportion() -> None:
    rested, slow = (median_frequency_hz(interference_filter(RATE, v), RATE) for v in (1.0, 0.8))
    assert slow / rested == pytest.approx(0.8, abs=0.015)


def test_however_it_is_cut_and_only_with_the_same_seed() -> None:
    config = SynthesisConfig(crosstalk=0.1, artefact_v=1e-4, mains_v=1e-5)
    excitation = np.random.default_rng(0).random((1000, 18))
    whole = EmgSynthesizer(GROUP_CHANNELS, 5, config).frame(excitation, [Strike(350, LEFT), Strike(810, ~LEFT)])
    stream, pieces = EmgSynthesizer(GROUP_CHANNELS, 5, config), []
    cuts = [0, 7, 350, 353, 811, 1000]
    for a, b in itertools.pairwise(cuts):
        strikes = [Strike(at - a, hit) for at, hit in ((350, LEFT), (810, ~LEFT)) if a <= at < b]
        pieces.append(stream.frame(excitation[a:b], strikes))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-15)
    other = EmgSynthesizer(GROUP_CHANNELS, 6, config).frame(excitation)
    assert not np.array_equal(other, whole)


def test_neighbours_in_the_same_leg_are_heard_and_no_others() -> None:
    config = SynthesisConfig(noise_v=0.0, crosstalk=0.1)
    alone = np.zeros((5000, 18))
    soleus = GROUP_CHANNELS.index("SOL_l")
    alone[:, soleus] = 1.0
    rms = EmgSynthesizer(GROUP_CHANNELS, 0, config).frame(alone).std(axis=0) / config.gain_v
    heard = {GROUP_CHANNELS[i] for i in np.flatnonzero(rms > 1e-6)}
    assert heard == {"SOL_l", "GAS_l", "TA_l"}
    assert rms[GROUP_CHANNELS.index("TA_l")] == pytest.approx(0.1 * rms[soleus])
    heads = crosstalk(("vastus_medialis_r", "vastus_lateralis_r", "gluteus_medius_r"), 0.2)
    assert heads[0, 1] == 0.2 and heads[0, 2] == heads[2, 1] == 0.0


def test_artefacts_are_slow_bursts_on_the_leg_that_strikes() -> None:
    config = SynthesisConfig(noise_v=0.0, artefact_v=1e-3)
    x = EmgSynthesizer(GROUP_CHANNELS, 0, config).frame(np.zeros((2000, 18)), [Strike(500, LEFT)])
    assert not x[:500].any() and not x[:, ~LEFT].any()
    assert np.all(np.abs(x[500:700, LEFT]).max(axis=0) > 0.0) and 3e-4 < np.abs(x).max() < 4e-3
    frequency, power = welch(x[500:1000, 0], 1000.0, nperseg=500)
    assert power[frequency < 30.0].sum() > 0.95 * power.sum()
    assert np.abs(x[1000:]).max() < 1e-6


def test_hum_is_there_if_asked_for() -> None:
    config = SynthesisConfig(noise_v=0.0, mains_v=1e-4, mains_hz=60.0)
    x = EmgSynthesizer(2, 0, config).frame(np.zeros((1000, 2)))
    assert np.abs(np.fft.rfft(x[:, 1]))[60] / 500 == pytest.approx(1e-4, rel=0.01)


def test_the_muscles_of_a_tiring_walk_tire_as_programmed() -> None:
    config = WalkFatigue(seconds=600.0, end_pct=70.0, end_amplitude_pct=130.0, noise_v=0.0, level_sd=0.0)
    walk = TiringWalk(("soleus_r",), 3, config)
    assert walk.slope_pct_per_min == pytest.approx(-3.0)
    chunks = list(walk.chunks())
    x = np.concatenate([c.samples for c in chunks])[:, 0]
    assert len(x) == 600_000 and chunks[1].first_sample == 1000 and chunks[1].stamp_ns == 1_000_000_000
    minutes = np.arange(10) + 0.5
    found = np.array([median(part, 1000.0) for part in np.split(x, 10)])
    slope, start = np.polyfit(minutes, found, 1)
    assert start == pytest.approx(walk.initial_median_hz, rel=0.03)
    assert 100.0 * slope / start == pytest.approx(-3.0, rel=0.1)
    sizes = np.array([part.std() for part in np.split(x, 10)])
    assert sizes[-1] / sizes[0] == pytest.approx(1.285 / 1.015, rel=0.03)


def test_a_tiring_walk_is_cyclic_seeded_and_shows_its_strikes() -> None:
    config = WalkFatigue(seconds=60.0, noise_v=0.0)
    walk = TiringWalk(("soleus_r", "TA_l"), 3, config)
    first, again = (np.concatenate([c.samples for c in walk.chunks()]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, np.concatenate([c.samples for c in TiringWalk(("a", "b"), 4, config).chunks()]))
    strikes = walk.strikes_s[walk.strikes_s < 58.0]
    assert 0.01 < np.diff(strikes).std() < 0.03 and np.diff(strikes).mean() == pytest.approx(1.1, rel=0.02)

    def size(after: float, until: float) -> float:
        parts = [first[round(1000 * (s + after)) : round(1000 * (s + until))] for s in strikes]
        return float(np.std(np.concatenate(parts)))

    assert size(0.15, 0.3) > 10.0 * size(0.6, 0.9), "one contraction in each stride, after its strike"
