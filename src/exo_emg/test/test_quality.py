"""Each fault of a channel gets its reason, live and offline; sound channels and other channels get none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_emg.offline import Processed, process_recording
from exo_emg.processing import ChainConfig, EnvelopeStream
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

RATE = 1000.0
SYNTHESIS = SynthesisConfig()
MAXIMA = np.full(3, SYNTHESIS.maximum_v())
SECONDS = 12.0


def walking(seed: int = 0) -> NDArray[np.float64]:
    phase = np.arange(round(SECONDS * RATE))[:, None] / RATE / 1.1 + np.arange(3) / 3.0
    return EmgSynthesizer(3, seed).frame(0.02 + 0.6 * np.maximum(0.0, np.sin(2 * np.pi * phase)) ** 2)


def loose(signal: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A lifting electrode: the muscle fades, the half-cell potential wanders, the body's hum comes in."""
    time = np.arange(len(signal)) / RATE
    wander = 8e-4 * np.sin(2 * np.pi * 2.3 * time + rng.uniform(0, 6))
    return 0.05 * signal + wander + 4e-4 * np.sin(2 * np.pi * 50.0 * time)


def faulty(fault: str) -> NDArray[np.float64]:
    samples = walking()
    rng = np.random.default_rng(3)
    time = np.arange(len(samples)) / RATE
    own = samples[:, 1]
    samples[:, 1] = {
        "nan": np.full(len(own), np.nan),
        "units": 1e3 * own,
        "offset": own + 5e-2,
        "saturated": np.clip(100.0 * own, -6e-3, 6e-3),
        "flat": np.zeros(len(own)),
        "loose": loose(own, rng),
        "mains": own + 1e-3 * np.sin(2 * np.pi * 50.2 * time),
        "artefact": own + 1.5e-3 * np.sin(2 * np.pi * 6.0 * time) * (np.mod(time, 1.1) < 0.5),
        "noisy": 2e-4 * rng.standard_normal(len(own)),
        "crosstalk": 0.3 * samples[:, 0] + 0.02 * own,
    }[fault]
    return samples


FAULTS = ["nan", "units", "offset", "saturated", "flat", "loose", "mains", "artefact", "noisy", "crosstalk"]


def offline(samples: NDArray[np.float64]) -> Processed:
    return process_recording([samples], RATE, ChainConfig())


@pytest.mark.parametrize("fault", FAULTS)
def test_offline_a_bad_channel_is_named_with_its_reason(fault: str) -> None:
    result = offline(faulty(fault))
    assert [channel.reason for channel in result.channels] == ["", fault, ""]
    assert not result.valid[:, 1].any() and result.valid[:, [0, 2]].mean() > 0.9
    assert np.isfinite(result.envelope).all()


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "noisy"])
def test_live_a_bad_channel_is_named_with_its_reason(fault: str) -> None:
    stream = EnvelopeStream(RATE, MAXIMA, ChainConfig())
    told = []
    for k, frame in enumerate(np.split(faulty(fault), round(SECONDS * 100))):
        stream.process(frame)
        if k > 300:
            reasons = stream.reasons()
            assert (reasons[0], reasons[2]) == ("", "")
            told.append(reasons[1])
    # Between its bursts a channel may look fine or, say, a saturated one odd.
    assert max((reason for reason in told if reason), key=told.count) == fault
    assert told.count(fault) > 0.3 * len(told)


def test_live_noise_without_any_pause_is_told_from_muscle() -> None:
    samples = walking()
    samples[:, 1] = SYNTHESIS.gain_v * np.random.default_rng(0).standard_normal(len(samples))
    stream = EnvelopeStream(RATE, MAXIMA, ChainConfig())
    stream.process(samples)
    assert stream.reasons() == ["", "noisy", ""]


def test_sound_channels_are_not_suspected() -> None:
    for seed in range(6):
        result = offline(walking(seed))
        assert [channel.reason for channel in result.channels] == [""] * 3
        assert (result.codes == 0).mean() > 0.95
        assert max(channel.crosstalk for channel in result.channels) < 0.4
        assert min(channel.snr_db for channel in result.channels) > 15.0


def test_a_fault_for_a_while_marks_that_while_only() -> None:
    samples = walking()
    samples[4000:5000, 0] = np.nan
    result = offline(samples)
    assert result.channels[0].reason == "" and result.channels[0].bad_share == pytest.approx(1.0 / SECONDS)
    assert not result.valid[367:533, 0].any(), "the second and the reach of the filters"
    assert result.valid[:366, 0].all() and result.valid[534:, 0].all()


def test_an_unplugged_channel_comes_back_by_itself() -> None:
    samples = walking() + 2e-4
    samples[3000:6000, 2] = np.nan
    stream = EnvelopeStream(RATE, MAXIMA, ChainConfig())
    sound = EnvelopeStream(RATE, MAXIMA, ChainConfig())
    clean = walking() + 2e-4
    valid, difference = [], []
    for i in range(0, len(samples), 10):
        envelope = stream.process(samples[i : i + 10])
        difference.append(np.abs(envelope - sound.process(clean[i : i + 10]))[-1])
        valid.append(stream.valid.copy())
    assert not np.any(np.array(valid)[301:600, 2])
    back = np.array(valid)[650:]
    assert back.all()
    assert np.max(np.array(difference)[650:, 2]) < 0.01, "the gap rings in the filters after the channel is valid"
    assert np.max(np.array(difference)[:, :2]) == 0.0


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_mains_are_found_and_taken_out_live_and_offline(mains: float) -> None:
    clean = walking(4)
    time = np.arange(len(clean))[:, None] / RATE
    hum = 1e-4 * (np.sin(2 * np.pi * (mains + 0.1) * time) + 0.5 * np.sin(2 * np.pi * 3 * mains * time))
    offline_result = offline(clean + hum)
    assert offline_result.mains_hz == mains
    stream = EnvelopeStream(RATE, MAXIMA, ChainConfig())
    live = stream.process(clean + hum)
    assert stream.mains_hz == mains and stream.valid.all()
    undisturbed = EnvelopeStream(RATE, MAXIMA, ChainConfig(mains=f"{mains:.0f}")).process(clean)
    assert np.sqrt(np.mean((live - undisturbed)[8000:] ** 2)) < 0.0045
    with_hum = EnvelopeStream(RATE, MAXIMA, ChainConfig(mains="off")).process(clean + hum)
    assert np.sqrt(np.mean((with_hum - undisturbed)[8000:] ** 2)) > 0.01, "the test's hum is too small to tell"


def test_no_mains_are_found_where_there_are_none() -> None:
    for seed in range(5):
        assert offline(walking(seed)).mains_hz == 0.0


@pytest.mark.parametrize("rate", [250.0, 300.0, 500.0])
def test_slow_amplifiers_show_sound_channels_and_loose_ones(rate: float) -> None:
    synthesis = SynthesisConfig(sampling_rate_hz=rate)
    time = np.arange(round(SECONDS * rate))[:, None] / rate
    drive = 0.02 + 0.6 * np.maximum(0.0, np.sin(2 * np.pi * (time / 1.1 + np.arange(3) / 3))) ** 2
    samples = EmgSynthesizer(3, 1, synthesis).frame(drive)
    result = process_recording([samples], rate, ChainConfig())
    assert [channel.reason for channel in result.channels] == [""] * 3
    assert (result.codes == 0).mean() > 0.95
    stream = EnvelopeStream(rate, MAXIMA, ChainConfig())
    stream.process(samples)
    assert stream.reasons() == [""] * 3
    samples[:, 1] = 0.05 * samples[:, 1] + 8e-4 * np.sin(2 * np.pi * 2.3 * time[:, 0])
    samples[:, 1] += 4e-4 * np.sin(2 * np.pi * 50.0 * time[:, 0])
    assert process_recording([samples], rate, ChainConfig()).channels[1].reason == "loose"


def test_hum_that_a_notch_removes_condemns_no_channel() -> None:
    samples = walking()
    hum = 5e-4 * np.sin(2 * np.pi * 50.0 * np.arange(len(samples)) / RATE)
    samples[:, 1] += hum
    assert [channel.reason for channel in offline(samples).channels] == [""] * 3
    stream = EnvelopeStream(RATE, MAXIMA, ChainConfig(mains="50"))
    stream.process(samples)
    assert stream.reasons() == [""] * 3
    without = process_recording([samples], RATE, ChainConfig(mains="off"))
    assert without.channels[1].reason == "mains", "the test's hum is too small to tell"


def test_live_a_channel_that_never_moves_is_told() -> None:
    phase = np.arange(round(40 * RATE))[:, None] / RATE / 1.1 + np.arange(2) / 2.0
    samples = EmgSynthesizer(2, 0).frame(0.02 + 0.6 * np.maximum(0.0, np.sin(2 * np.pi * phase)) ** 2)
    samples[:, 1] = 3e-6 * np.random.default_rng(0).standard_normal(len(samples))
    stream = EnvelopeStream(RATE, MAXIMA[:2], ChainConfig())
    stream.process(samples[:20000])
    assert not stream.quality.quiet().any(), "twenty seconds may be a rest"
    stream.process(samples[20000:])
    assert stream.quality.quiet().tolist() == [False, True] and stream.valid.all()


def test_an_offset_within_the_range_is_no_fault() -> None:
    samples = walking() + np.array([5e-2, -8e-2, 0.0])
    config = ChainConfig(full_scale_v=0.1)
    assert [channel.reason for channel in process_recording([samples], RATE, config).channels] == [""] * 3
    stream = EnvelopeStream(RATE, MAXIMA, config)
    stream.process(samples)
    assert stream.reasons() == [""] * 3
