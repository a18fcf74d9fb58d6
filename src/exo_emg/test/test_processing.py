"""The EMG chain against signals whose envelope is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from exo_common.errors import ExoError
from exo_emg.offline import envelope_offline
from exo_emg.processing import ChainConfig, EnvelopeStream, group_delay_s, signal_band
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

RATE = 1000.0
CONFIG = ChainConfig()
SYNTHESIS = SynthesisConfig()


def bursts(seconds: float, channels: int = 4) -> NDArray[np.float64]:
    """Gait-like excitation: one smooth burst per 1.1 s, shifted per channel."""
    phase = np.arange(round(seconds * RATE))[:, None] / RATE / 1.1 + np.arange(channels) / channels
    return 0.02 + 0.6 * np.maximum(0.0, np.sin(2 * np.pi * phase)) ** 2


def maxima(channels: int = 4) -> NDArray[np.float64]:
    return np.full(channels, SYNTHESIS.maximum_v())


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_offline_envelope_follows_excitation_in_shape_and_size() -> None:
    drive = bursts(12.0)
    envelope = envelope_offline(EmgSynthesizer(4, 1).frame(drive), RATE, maxima(), CONFIG)
    for c in range(4):
        assert correlation(envelope[500:-500, c], drive[500:-500, c]) >= 0.95
    assert np.mean(envelope) == pytest.approx(np.mean(drive), rel=0.1), "band edges take a few percent"


@pytest.mark.parametrize("rate", [250.0, 1000.0, 2000.0])
@pytest.mark.parametrize("mains", ["off", "50", "60"])
def test_causal_envelope_is_the_offline_one_late_by_the_stated_delay(rate: float, mains: str) -> None:
    config = ChainConfig(mains=mains)
    seconds = 30.0
    time = np.arange(round(seconds * rate))[:, None] / rate
    drive = 0.02 + 0.6 * np.maximum(0.0, np.sin(2 * np.pi * (time / 1.1 + np.arange(4) / 4))) ** 2
    samples = EmgSynthesizer(4, 2, SynthesisConfig(sampling_rate_hz=rate)).frame(drive)
    causal = EnvelopeStream(rate, maxima(), config).process(samples)
    offline = envelope_offline(samples, rate, maxima(), config)
    edge = round(2.0 * rate)
    lags = range(round(0.02 * rate), round(0.06 * rate), max(1, round(rate / 1000.0)))
    fit = [
        np.mean([correlation(causal[edge + lag : -edge + lag, c], offline[edge:-edge, c]) for c in range(4)])
        for lag in lags
    ]
    lag = lags[int(np.argmax(fit))]
    assert abs(lag / rate - group_delay_s(config, rate, config.mains_hz())) <= max(0.002, 1.0 / rate)
    assert max(fit) >= 0.99
    late = slice(edge, -edge)
    late_drive = np.roll(drive, lag, axis=0)
    assert np.mean([correlation(causal[late, c], late_drive[late, c]) for c in range(4)]) >= 0.95


@pytest.mark.parametrize("rate", [300.0, 1000.0, 2000.0])
def test_a_notch_takes_less_than_two_percent_of_the_level(rate: float) -> None:
    samples = EmgSynthesizer(2, 4, SynthesisConfig(sampling_rate_hz=rate)).frame(np.full((round(60 * rate), 2), 0.5))
    levels = {
        mains: envelope_offline(samples, rate, maxima(2), ChainConfig(mains=mains)).mean() for mains in ("off", "50")
    }
    assert levels["50"] == pytest.approx(levels["off"], rel=0.02)


def test_the_level_does_not_depend_on_the_spectrum() -> None:
    """A tired muscle's slower signal of the same power reads the same."""
    white = np.random.default_rng(1).standard_normal((40000, 2))
    read = []
    for low, high in ((60.0, 160.0), (40.0, 100.0)):
        signal = sosfilt(butter(4, (low, high), "bandpass", fs=RATE, output="sos"), white, axis=0)
        read.append(envelope_offline(1e-4 * signal / signal.std(), RATE, np.ones(2), CONFIG).mean())
    assert read[1] == pytest.approx(read[0], rel=0.03)


def test_cutting_the_signal_differently_changes_nothing() -> None:
    samples = EmgSynthesizer(3, 3).frame(bursts(3.0, 3))
    whole = EnvelopeStream(RATE, maxima(3), CONFIG).process(samples)
    stream = EnvelopeStream(RATE, maxima(3), CONFIG)
    cuts = np.sort(np.random.default_rng(0).integers(1, len(samples), 60))
    pieces = [stream.process(piece) for piece in np.split(samples, np.unique(cuts))]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=0, atol=1e-12)


def test_synthesis_is_reproducible_and_independent_of_framing() -> None:
    drive = bursts(1.0)
    whole = EmgSynthesizer(4, 5).frame(drive)
    synthesizer = EmgSynthesizer(4, 5)
    np.testing.assert_array_equal(np.concatenate([synthesizer.frame(f) for f in np.split(drive, 100)]), whole)
    assert not np.allclose(EmgSynthesizer(4, 6).frame(drive), whole)


def test_synthetic_signal_lies_in_the_emg_band() -> None:
    signal = EmgSynthesizer(1, 0).frame(np.ones((20000, 1)))[:, 0]
    power = np.abs(np.fft.rfft(signal)) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    low, high = signal_band(RATE)
    assert (low, high) == (20.0, 400.0)
    assert power[(frequency > low) & (frequency < high)].sum() > 0.9 * power.sum()
    assert np.std(signal) == pytest.approx(SYNTHESIS.gain_v, rel=0.03)


@pytest.mark.parametrize(("fault", "reason"), [("nan", "nan"), ("rail", "saturated"), ("flat", "flat")])
def test_bad_channel_is_marked_and_recovers_without_touching_the_others(fault: str, reason: str) -> None:
    samples = EmgSynthesizer(3, 7).frame(bursts(3.0, 3))
    broken = samples.copy()
    broken[1000:1600, 1] = {"nan": np.nan, "rail": CONFIG.full_scale_v, "flat": 0.0}[fault]
    stream, clean = EnvelopeStream(RATE, maxima(3), CONFIG), EnvelopeStream(RATE, maxima(3), CONFIG)
    for i in range(0, 3000, 10):
        envelope = stream.process(broken[i : i + 10])
        np.testing.assert_array_equal(envelope[:, [0, 2]], clean.process(samples[i : i + 10])[:, [0, 2]])
        assert np.all(np.isfinite(envelope))
        if i == 1590:
            assert stream.reasons() == ["", reason, ""]
            assert stream.valid.tolist() == [True, False, True]
    assert stream.valid.all()


def test_lost_samples_invalidate_until_the_filters_settled() -> None:
    stream = EnvelopeStream(RATE, maxima(), CONFIG)
    samples = EmgSynthesizer(4, 8).frame(bursts(2.0))
    stream.process(samples[:1000])
    stream.lose(20)
    stream.process(samples[1000:1010])
    assert not stream.valid.any() and set(stream.reasons()) == {"settling"}
    stream.process(samples[1010:1600])
    assert stream.valid.all()


def test_nothing_is_valid_until_the_filters_have_filled() -> None:
    stream = EnvelopeStream(RATE, maxima(), CONFIG)
    samples = EmgSynthesizer(4, 9).frame(np.full((600, 4), 0.4))
    for i in range(0, 490, 10):
        stream.process(samples[i : i + 10])
        assert not stream.valid.any() and set(stream.reasons()) == {"settling"}
    envelope = stream.process(samples[490:])
    assert stream.valid.all()
    assert np.mean(envelope) == pytest.approx(0.4, rel=0.2)


@pytest.mark.parametrize("rate", [np.inf, -np.inf, np.nan])
def test_a_sampling_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ExoError, match="sampling_rate_hz") as caught:
        EnvelopeStream(rate, maxima(), CONFIG)
    assert "\n" not in str(caught.value)


def test_too_slow_sampling_is_refused_with_a_cure() -> None:
    with pytest.raises(ExoError, match="1000 Hz"):
        EnvelopeStream(100.0, maxima(), CONFIG)
