"""The fatigue monitor on synthetic walks with known truth: tiring, rested, noisy, broken."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import sosfilt

from exo_common.errors import ExoError
from exo_emg.chunks import Layout
from exo_emg.fatigue import FatigueConfig, FatigueMonitor, fatigue_of, phase_of, score
from exo_emg.processing import ChainConfig, band_sos
from exo_emg.rhythm import StrideClock
from exo_emg.spectrum import Tiling
from exo_emg.stride_windows import PhaseWindows
from exo_emg.synthetic_fatigue import TiringWalk, WalkFatigue

RATE_HZ = 1000.0
MUSCLES = ("vastus_medialis_r", "soleus_r")
LAYOUT = Layout(MUSCLES, RATE_HZ)
SECONDS = 720.0


def walk(seconds: float = SECONDS, seed: int = 1, **changes: float) -> tuple[TiringWalk, NDArray[np.float64]]:
    """A synthetic walk and its band-passed samples."""
    made = TiringWalk(MUSCLES, seed, WalkFatigue(seconds=seconds, sampling_rate_hz=RATE_HZ, **changes))
    raw = np.concatenate([chunk.samples for chunk in made.chunks()])
    return made, sosfilt(band_sos(RATE_HZ, ChainConfig()), raw, axis=0)


@pytest.fixture(scope="module")
def tiring() -> tuple[TiringWalk, NDArray[np.float64]]:
    return walk(end_pct=65.0)


def run(samples: NDArray[np.float64], frame: int = 1000, **given: NDArray) -> FatigueMonitor:
    monitor = FatigueMonitor(LAYOUT)
    for start in range(0, len(samples), frame):
        part = slice(start, start + frame)
        monitor.add(samples[part], **{name: values[part] for name, values in given.items()})
    return monitor


def test_programmed_compression_comes_out_and_the_index_only_rises(
    tiring: tuple[TiringWalk, NDArray[np.float64]],
) -> None:
    made, samples = tiring
    monitor = FatigueMonitor(LAYOUT)
    indices, confidence = [], []
    for start in range(0, len(samples), 1000):
        monitor.add(samples[start : start + 1000])
        indices.append([muscle.index for muscle in monitor.report()])
        confidence.append([muscle.confidence for muscle in monitor.report()])
    assert np.all(np.diff(indices, axis=0) >= 0.0)
    assert indices[0] == [0.0, 0.0] and confidence[0] == [0.0, 0.0]
    for channel, muscle in enumerate(monitor.report()):
        trend = monitor.session_trend(channel)
        assert trend is not None
        assert trend.pct_per_minute == pytest.approx(made.slope_pct_per_min, rel=0.15)
        assert trend.low < trend.pct_per_minute < trend.high < 0.0
        assert muscle.muscle == MUSCLES[channel]
        assert muscle.median_frequency_low_pct < muscle.median_frequency_pct < muscle.median_frequency_high_pct
        assert muscle.median_frequency_pct == pytest.approx(66.0, abs=5.0)
        assert muscle.amplitude_pct == pytest.approx(100.0, abs=12.0)
        assert muscle.fatigued and muscle.confidence > 0.3


def test_louder_and_noisier_is_not_tired() -> None:
    """Amplitude doubles at a poor signal-to-noise ratio: uncorrected, the median frequency would move by 15 %."""
    _, samples = walk(end_pct=100.0, end_amplitude_pct=200.0, noise_v=8e-5)
    for channel, muscle in enumerate(run(samples).report()):
        assert not muscle.fatigued
        assert muscle.median_frequency_low_pct < 100.0 < muscle.median_frequency_high_pct, MUSCLES[channel]
        assert muscle.amplitude_pct > 160.0


@pytest.mark.parametrize("level", [(0.6, 0.05), (0.05, 0.4)], ids=["settling", "drying"])
def test_electrodes_that_settle_or_dry_are_not_fatigue(level: tuple[float, float]) -> None:
    """White noise goes from one RMS to another, of that of the burst's peak: 4 to 26 dB, or 26 to 8 dB."""
    first, last = level
    made, samples = walk(seed=4, end_pct=100.0, noise_v=0.0)
    course = np.geomspace(first, last, len(samples)) if first > last else np.linspace(first, last, len(samples))
    noise = made.config.gain_v * course[:, None] * np.random.default_rng(0).standard_normal(samples.shape)
    monitor = FatigueMonitor(LAYOUT)
    band_passed = samples + sosfilt(band_sos(RATE_HZ, ChainConfig()), noise, axis=0)
    for start in range(0, len(samples), 1000):
        monitor.add(band_passed[start : start + 1000])
        assert not any(muscle.fatigued for muscle in monitor.report()), start
    for muscle in monitor.report():
        assert muscle.median_frequency_low_pct < 100.0 < muscle.median_frequency_high_pct


def test_rested_muscles_are_not_tired() -> None:
    for seed in range(3):
        _, samples = walk(360.0, seed=10 + seed, end_pct=100.0, level_sd=0.3, stride_sd_s=0.05)
        assert not any(muscle.fatigued for muscle in run(samples).report())


def test_cutting_the_signal_differently_changes_nothing(tiring: tuple[TiringWalk, NDArray[np.float64]]) -> None:
    samples = tiring[1][:300_000]
    assert run(samples, 10).report() == run(samples, 1700).report()


def test_a_known_gait_phase_is_used(tiring: tuple[TiringWalk, NDArray[np.float64]]) -> None:
    made, samples = tiring
    phase = phase_of(np.arange(len(samples)) / RATE_HZ, made.strikes_s)
    monitor = run(samples, phase=phase)
    trend = monitor.session_trend(0)
    assert trend is not None and trend.pct_per_minute == pytest.approx(made.slope_pct_per_min, rel=0.15)
    unknown = run(samples[:300_000], phase=np.where(phase[:300_000] < 2.0, 0.3, 0.0))
    assert all(muscle.confidence == 0.0 for muscle in unknown.report())


def test_a_bad_channel_is_left_out_and_the_other_is_not_touched(
    tiring: tuple[TiringWalk, NDArray[np.float64]],
) -> None:
    samples = tiring[1][:400_000].copy()
    whole = run(samples).report()
    samples[200_000:, 1] = math.nan
    broken = run(samples).report()
    flagged = run(np.nan_to_num(samples, nan=5e-3), valid=np.isfinite(samples)).report()
    for report in (broken, flagged):
        assert report[1].confidence == 0.0
        assert report[0].confidence > 0.0
        assert report[0].median_frequency_pct == pytest.approx(whole[0].median_frequency_pct, abs=3.0)


def test_lost_samples_count_in_time_and_spoil_nothing(tiring: tuple[TiringWalk, NDArray[np.float64]]) -> None:
    made, samples = tiring
    monitor = FatigueMonitor(LAYOUT)
    starts = [(0, 100_000), (100_400, 300_000), (360_000, len(samples))]
    ended = 0
    for start, end in starts:
        for at in range(start, end, 1000):
            monitor.add(samples[at : min(at + 1000, end)], lost_before=at - ended if at == start else 0)
        ended = end
    monitor.finish()
    times = np.array([window.time_s for window in monitor.windows])
    assert np.all(np.diff(times) > 0.0)
    assert times[-1] == pytest.approx(SECONDS, abs=20.0)
    assert not np.any((times > 301.0) & (times < 360.0))
    trend = monitor.session_trend(0)
    assert trend is not None and trend.pct_per_minute == pytest.approx(made.slope_pct_per_min, rel=0.15)


def test_without_a_rhythm_or_a_muscle_nothing_is_judged() -> None:
    rng = np.random.default_rng(0)
    steady = run(1e-4 * rng.standard_normal((300_000, 2)))
    assert steady.windows and all(window.activities[0].strides == 0 for window in steady.windows)
    silent = run(np.zeros((300_000, 2)))
    for report in (steady.report(), silent.report()):
        assert all(muscle.confidence == 0.0 and math.isnan(muscle.median_frequency_pct) for muscle in report)


def test_recovery_lowers_the_index(tiring: tuple[TiringWalk, NDArray[np.float64]]) -> None:
    _, rested = walk(400.0, seed=5, end_pct=100.0)
    monitor = FatigueMonitor(LAYOUT, FatigueConfig(trend_span_s=180.0))
    highest = 0.0
    for samples in (tiring[1], rested):
        for start in range(0, len(samples), 1000):
            monitor.add(samples[start : start + 1000])
            highest = max(highest, monitor.report()[0].index)
    assert highest > 0.4
    assert monitor.report()[0].index < 0.5 * highest


def test_a_recording_is_judged_stride_by_stride() -> None:
    made, samples = walk(60.0)
    monitor = fatigue_of(((samples[a : a + 7000], None) for a in range(0, len(samples), 7000)), LAYOUT)
    times = [stride.time_s for stride in monitor.strides if stride.channel == 0]
    # Strides at the very ends and on the borders of windows are lost.
    assert 0.75 * (len(made.strikes_s) - 1) <= len(times) <= len(made.strikes_s)
    assert np.all(np.diff(times) > 0.0)
    values = [dataclasses.asdict(stride.activity) for stride in monitor.strides]
    assert np.median([value["median_hz"] for value in values]) == pytest.approx(made.initial_median_hz, rel=0.1)
    assert all(value["arv_v"] < value["rms_v"] for value in values)


def test_the_score_follows_the_quadrants() -> None:
    assert score(0.0, 0.0, 60.0) == 0.0 and score(-0.2, 0.0, 60.0) == 0.0
    assert score(-math.log(0.6), 0.0, 60.0) == pytest.approx(1.0) and score(2.0, 0.0, 60.0) == 1.0
    drops = [score(drop, -0.1, 60.0) for drop in np.linspace(0.0, 0.5, 30)]
    assert np.all(np.diff(drops) >= 0.0)
    assert score(0.1, -0.3, 60.0) < 0.2 * score(0.1, 0.0, 60.0)


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ExoError, match="too slow"):
        FatigueMonitor(Layout(MUSCLES, 100.0))
    with pytest.raises(ExoError, match="stride_min_s"):
        FatigueMonitor(LAYOUT, FatigueConfig(stride_min_s=2.0, stride_max_s=1.0))
    with pytest.raises(ExoError, match="channels"):
        FatigueMonitor(LAYOUT).add(np.zeros((10, 3)))


def test_the_stride_clock_keeps_its_zero_through_changes_of_pace() -> None:
    rng = np.random.default_rng(3)
    clock = StrideClock(0.01, 2, 0.7, 2.0)
    starts = np.cumsum(np.concatenate([[0.0], np.linspace(1.3, 0.95, 60) * (1.0 + 0.03 * rng.standard_normal(60))]))
    times = np.arange(0.0, starts[-1], 0.01)
    true = np.interp(times, starts, np.arange(61.0))
    # The second muscle bursts twice a stride, as many do.
    bursts = np.stack([np.maximum(0.0, np.cos(2 * np.pi * true)), np.cos(2 * np.pi * (true - 0.1)) ** 4], axis=1)
    envelope = bursts * np.abs(rng.standard_normal(bursts.shape)) + 0.05
    off = []
    for first in range(0, len(times) - 2000, 1500):
        at = np.arange(0, 2000, 10)
        phase = clock.phase(envelope[first : first + 2000], np.ones(2, dtype=bool), at)
        known = np.isfinite(phase)
        assert known.mean() > 0.8
        off.append(np.exp(2j * np.pi * (phase[known] - true[first + at[known]])))
    turned = np.concatenate(off)
    turned *= np.conj(turned.mean()) / abs(turned.mean())
    assert np.max(np.abs(np.angle(turned))) / (2 * np.pi) < 0.12


def test_a_burst_of_artefact_is_left_out() -> None:
    tiling = Tiling(RATE_HZ)
    rng = np.random.default_rng(4)
    phase = np.arange(0.0, 12.0, 0.087)
    active = np.mod(phase, 1.0) < 0.4
    spectra = rng.chisquare(20, (len(phase), len(tiling.frequency_hz))) * np.where(active, 1.0, 0.01)[:, None]
    arv = np.sqrt(spectra.sum(axis=1))
    clean, _ = PhaseWindows(tiling.frequency_hz).window(phase, spectra, arv)
    shaken = np.floor(phase) == 5.0
    low = np.where(tiling.frequency_hz < 60.0, 1e3, 1.0)
    after, _ = PhaseWindows(tiling.frequency_hz).window(
        phase, np.where(shaken[:, None], spectra * low, spectra), np.where(shaken, 10.0 * arv, arv)
    )
    assert after.strides == clean.strides - 1
    assert after.median_hz == pytest.approx(clean.median_hz, rel=0.05)
