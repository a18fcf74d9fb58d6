"""The calibration assistant, fed a wearer who does as told, and others who do not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.assistant import ATTEMPTS, EFFORT_S, READY_S, STRIDES, MvcGuide, WalkingGuide
from exo_emg.chunks import Layout
from exo_emg.contraction import judge_contractions
from exo_emg.processing import ChainConfig
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

RATE = 1000.0
LAYOUT = Layout(("soleus_r", "tibialis_anterior_r"), RATE)
CONFIG = ChainConfig()
TRUTH = SynthesisConfig().maximum_v()
READY, EFFORT = round(READY_S * RATE), round(EFFORT_S * RATE)


def attempt(effort: NDArray[np.float64], channel: int, rest_s: float = READY_S, seed: int = 0) -> NDArray[np.float64]:
    """A rest and an effort (n,) 0..1 of one of two muscles, V."""
    drive = np.full((round(rest_s * RATE) + EFFORT, 2), 0.005)
    drive[-EFFORT:, channel] = np.resize(effort, EFFORT)
    return EmgSynthesizer(2, seed).frame(drive)


def feed(guide: MvcGuide | WalkingGuide, samples: NDArray[np.float64], size: int = 10) -> None:
    for i in range(0, len(samples), size):
        guide.add(samples[i : i + size])


def test_full_effort_of_each_muscle_in_turn_becomes_its_maximum() -> None:
    guide = MvcGuide(LAYOUT, LAYOUT.muscles, CONFIG)
    assert guide.prompt.task.startswith("soleus_r: right leg: sit, knee bent") and not guide.prompt.effort
    assert guide.prompt.left_s == READY_S
    feed(guide, attempt(np.ones(EFFORT), 0)[: READY + 2000])
    assert guide.prompt.effort and guide.prompt.left_s == pytest.approx(EFFORT_S - 2.0)
    assert guide.prompt.level > 1.0
    feed(guide, attempt(np.ones(EFFORT), 0)[READY + 2000 :])
    assert guide.prompt.said.startswith("soleus_r: ") and "tibialis_anterior_r" in guide.prompt.task
    feed(guide, attempt(np.full(EFFORT, 0.5), 1, seed=1), size=777)
    assert guide.done and not guide.refused
    maxima = {name: own.maximum_v for name, own in guide.accepted.items()}
    assert maxima["soleus_r"] == pytest.approx(TRUTH, rel=0.08)
    assert maxima["tibialis_anterior_r"] == pytest.approx(0.5 * TRUTH, rel=0.08)
    assert guide.accepted["soleus_r"].method == "mvc"


def test_the_effort_that_a_muscle_was_calibrated_with_reads_one() -> None:
    found = [judge_contractions(attempt(np.ones(EFFORT), 0, seed=seed), RATE, CONFIG)[0] for seed in range(12)]
    assert np.mean([own.maximum_v for own in found]) == pytest.approx(TRUTH, rel=0.02)
    # Full effort for 1.5 s, and less after: the best second counts, not the whole stretch.
    fading = np.where(np.arange(EFFORT) < 1500, 1.0, 0.75)
    found = [judge_contractions(attempt(fading, 0, seed=seed), RATE, CONFIG)[0] for seed in range(12)]
    assert np.mean([own.maximum_v for own in found]) == pytest.approx(TRUTH, rel=0.04)


SPIKE = np.where(np.arange(EFFORT) % EFFORT < 400, 1.0, 0.005)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda clean: attempt(SPIKE, 0), "was held for 0"),
        (lambda clean: attempt(np.full(EFFORT, 0.005), 0), "times rest; relax fully"),
        (lambda clean: np.clip(20.0 * clean, -6e-3, 6e-3), "edge of the amplifier's range"),
        (lambda clean: clean + 20e-3, "hold a constant 20 mV, outside the range of 6 mV"),
        (lambda clean: 1e3 * (clean + 2e-3), "give the unit they are in"),
        (lambda clean: np.where(np.arange(len(clean))[:, None] > READY + 1500, np.nan, clean), "no numbers"),
    ],
)
def test_an_effort_that_cannot_serve_is_refused_with_the_cure_and_asked_again(spoil: object, words: str) -> None:
    guide = MvcGuide(LAYOUT, ["soleus_r"], CONFIG, rest_s=READY_S)
    good = attempt(np.ones(EFFORT), 0)
    feed(guide, spoil(good))  # type: ignore[operator]
    assert words in guide.prompt.said and words in guide.refused["soleus_r"]
    assert not guide.done and not guide.accepted and "attempt 2 of 3" in guide.prompt.task
    feed(guide, good)
    assert guide.done and list(guide.accepted) == ["soleus_r"] and not guide.refused


def test_after_so_many_attempts_the_next_muscle_has_its_turn() -> None:
    guide = MvcGuide(LAYOUT, LAYOUT.muscles, CONFIG, rest_s=READY_S)
    for _ in range(ATTEMPTS):
        assert "soleus_r" in guide.prompt.task
        feed(guide, attempt(SPIKE, 0))
    feed(guide, attempt(np.ones(EFFORT), 1))
    assert guide.done and list(guide.accepted) == ["tibialis_anterior_r"] and list(guide.refused) == ["soleus_r"]


def test_lost_samples_make_an_attempt_void() -> None:
    guide = MvcGuide(LAYOUT, ["soleus_r"], CONFIG)
    samples = attempt(np.ones(EFFORT), 0)
    guide.add(samples[:7000])
    guide.add(samples[7000:], lost_before=20)
    assert "samples were lost" in guide.refused["soleus_r"] and not guide.accepted


def test_a_muscle_without_a_channel_is_refused() -> None:
    with pytest.raises(ExoError, match="muscle soleus_l is not among the channels soleus_r"):
        MvcGuide(LAYOUT, ["soleus_l"], CONFIG)


def walking(seconds: float) -> NDArray[np.float64]:
    phase = np.arange(round(seconds * RATE))[:, None] / RATE / 1.1 + np.array([0.0, 0.5])
    return EmgSynthesizer(2, 3).frame(0.01 + 0.5 * np.maximum(0.0, np.sin(2 * np.pi * phase)) ** 4)


def test_walking_goes_on_until_there_are_enough_strides() -> None:
    guide = WalkingGuide(LAYOUT, CONFIG)
    samples = walking(30.0)
    fed = 0
    while not guide.done:
        guide.add(samples[fed : fed + 77])
        fed += 77
    # One stride at each end only helps to find the rhythm.
    assert (STRIDES + 1) * 1.1 <= fed / RATE <= (STRIDES + 4) * 1.1
    guide.finish()
    assert set(guide.accepted) == set(LAYOUT.muscles) and guide.strides >= STRIDES
    for own in guide.accepted.values():
        assert own.method == "dynamic_peak" and own.maximum_v == pytest.approx(0.5 * TRUTH, rel=0.3)


def test_too_few_strides_and_no_walk_are_refused() -> None:
    for samples in (walking(8.0), EmgSynthesizer(2, 0).frame(np.full((20000, 2), 0.1))):
        guide = WalkingGuide(LAYOUT, CONFIG)
        feed(guide, samples, 100)
        with pytest.raises(ExoError, match=r"strides are seen in the rhythm of the EMG, 10 are needed"):
            guide.finish()


def test_a_bad_channel_of_the_walk_is_refused_and_the_other_kept() -> None:
    guide = WalkingGuide(LAYOUT, CONFIG)
    samples = walking(30.0)
    samples[:, 1] = 0.0
    feed(guide, samples, 100)
    guide.finish()
    assert list(guide.accepted) == ["soleus_r"]
    assert "there is no signal" in guide.refused["tibialis_anterior_r"]


def walked(samples: NDArray[np.float64], hole_every: int = 0, hole: int = 0) -> WalkingGuide:
    """A guide that was fed all of a walk, `hole` samples lost in every `hole_every`."""
    guide = WalkingGuide(LAYOUT, CONFIG, strides=18)
    fed = 0
    while fed < len(samples) and not guide.done:
        lost = hole if hole_every and fed and fed % hole_every == 0 else 0
        guide.add(samples[fed + lost : fed + 50], lost)
        fed += 50
    guide.finish()
    return guide


@pytest.mark.parametrize("end", [900, 1000], ids=["inside a second", "up to the next one"])
def test_seconds_marked_bad_make_no_maximum(end: int) -> None:
    samples = walking(24.0)
    clean = walked(samples).accepted["tibialis_anterior_r"].maximum_v
    for second in (3, 9, 15):
        part = slice(1000 * second + 100, 1000 * second + end)
        samples[part, 1] = 6e-3 * np.sign(np.sin(0.7 * np.arange(end - 100)))
    found = walked(samples).accepted
    assert found["tibialis_anterior_r"].maximum_v == pytest.approx(clean, rel=0.1)
    assert set(found) == set(LAYOUT.muscles)


def test_lost_samples_beside_an_electrodes_offset_make_no_maximum() -> None:
    samples = walking(24.0)
    clean = walked(samples).accepted
    holed = walked(samples + 5e-3, hole_every=1000, hole=20).accepted
    for name in LAYOUT.muscles:
        assert holed[name].maximum_v == pytest.approx(clean[name].maximum_v, rel=0.1)


def test_a_walk_that_is_mostly_disturbed_has_no_maximum() -> None:
    guide = walked(walking(24.0), hole_every=250, hole=5)
    assert not guide.accepted
    assert "s of it were undisturbed, 5 s are needed" in guide.refused["soleus_r"]


def test_a_constant_offset_of_a_walk_is_told_from_a_wrong_unit() -> None:
    samples = walking(24.0)
    samples[:, 1] += 20e-3
    assert "hold a constant 20 mV" in walked(samples).refused["tibialis_anterior_r"]
