"""Activation dynamics and the maxima that envelopes are divided by."""

from __future__ import annotations

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.activation import ActivationConfig, ActivationStream
from exo_emg.normalisation import DynamicPeak, dynamic_peak, held_maximum
from exo_emg.offline import envelope_offline
from exo_emg.processing import ChainConfig

RATE = 1000.0


def step(config: ActivationConfig, delay_s: float = 0.0) -> np.ndarray:
    excitation = np.zeros((1000, 1))
    excitation[100:500] = 1.0
    return ActivationStream(RATE, 1, config, delay_s).process(excitation)[:, 0]


def test_activation_begins_after_the_delay_rises_fast_and_falls_slowly() -> None:
    activation = step(ActivationConfig())
    assert np.all(activation[:140] == pytest.approx(0.01))
    assert activation[141] > 0.02
    rise = int(np.argmax(activation > 0.63)) - 140
    fall = int(np.argmax(activation[540:] < 0.37))
    assert 8 <= rise <= 20 and 20 <= fall <= 60
    assert activation[530] == pytest.approx(1.0, abs=0.01)


def test_what_the_filter_delayed_already_is_not_delayed_again() -> None:
    assert ActivationStream(RATE, 1, delay_s=0.0385).delay_s == pytest.approx(0.002, abs=1e-3)
    assert ActivationStream(RATE, 1, delay_s=0.1).delay_s == 0.0


def test_activation_is_bounded_and_independent_of_cutting() -> None:
    rng = np.random.default_rng(0)
    excitation = rng.uniform(-1.0, 3.0, (400, 2))
    excitation[50:60] = np.nan
    whole = ActivationStream(RATE, 2, ActivationConfig(shape=-2.0)).process(excitation)
    assert np.all((whole >= 0.01) & (whole <= 1.0))
    stream = ActivationStream(RATE, 2, ActivationConfig(shape=-2.0))
    np.testing.assert_allclose(np.concatenate([stream.process(p) for p in np.array_split(excitation, 37)]), whole)


def test_curvature_raises_small_excitation() -> None:
    line, curve = (
        ActivationStream(RATE, 1, ActivationConfig(shape=a)).process(np.full((500, 1), 0.3))[-1, 0] for a in (0, -2.0)
    )
    assert line == pytest.approx(0.3, abs=1e-3)
    assert curve == pytest.approx(np.expm1(-0.6) / np.expm1(-2.0), abs=1e-3)


def test_a_held_contraction_counts_and_a_spike_does_not() -> None:
    envelope = np.full((500, 2), 1e-5)
    envelope[100:180, 0] = 3e-4
    envelope[300:310, 0] = 5e-3
    envelope[200:220, 1] = 4e-4
    np.testing.assert_allclose(held_maximum(envelope, 100.0), [3e-4, 1e-5])
    with pytest.raises(ExoError, match="record longer"):
        held_maximum(envelope[:20], 100.0)


def test_the_running_peak_nears_the_percentile_and_waits_until_it_knows() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(6000) / 100.0
    burst = np.maximum(0.0, np.sin(2 * np.pi * time / 1.1)) ** 2
    envelope = (0.02 + burst[:, None]) * np.exp(0.1 * rng.standard_normal((6000, 2))) * [1e-4, 3e-4]
    envelope[1000:1010] = 5e-3
    peak = DynamicPeak(2, 100.0)
    peak.add(envelope[:400], np.array([True, True]))
    assert np.isnan(peak.peak_v()).all()
    for piece in np.split(envelope[400:], 56):
        peak.add(piece, np.array([True, False]))
    assert peak.peak_v()[0] == pytest.approx(dynamic_peak(envelope, 100.0)[0], rel=0.05)
    assert np.isnan(peak.peak_v()[1]), "a channel that was never valid has no peak"
    with pytest.raises(ExoError, match="several strides"):
        dynamic_peak(envelope[:300], 100.0)


def test_who_rests_has_no_running_peak_and_a_long_rest_does_not_lower_it() -> None:
    samples = 3e-6 * np.random.default_rng(0).standard_normal((180_000, 2))
    walking = np.maximum(0.0, np.sin(2 * np.pi * np.arange(30_000) / RATE / 1.1)) ** 2
    samples[150_000:] += 1e-4 * walking[:, None] * np.random.default_rng(1).standard_normal((30_000, 2))
    envelope = envelope_offline(samples, RATE, np.ones(2), ChainConfig())
    peak, alone = DynamicPeak(2, RATE), DynamicPeak(2, RATE)
    both = np.array([True, True])
    for second in np.split(envelope[:150_000], 150):
        peak.add(second, both)
        assert np.isnan(peak.peak_v()).all()
    peak.add(envelope[150_000:], both)
    alone.add(envelope[150_000:], both)
    np.testing.assert_allclose(peak.peak_v(), alone.peak_v(), rtol=0.1)
