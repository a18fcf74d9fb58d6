"""Recordings in pieces: the same result however they are cut, in flat memory, without delay."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import sosfiltfilt

from exo_common.errors import ExoError
from exo_emg import offline
from exo_emg.offline import envelope_offline, process_recording
from exo_emg.processing import ChainConfig, band_sos, smooth_sos
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

RATE = 2000.0
SYNTHESIS = SynthesisConfig(sampling_rate_hz=RATE)


def recording(seconds: float, channels: int = 2) -> NDArray[np.float64]:
    time = np.arange(round(seconds * RATE))[:, None] / RATE
    drive = 0.3 + 0.25 * np.sin(2 * np.pi * 0.9 * time + np.arange(channels))
    return EmgSynthesizer(channels, 1, SYNTHESIS).frame(drive) + 1e-4 * np.sin(2 * np.pi * 50.0 * time)


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = recording(100.0)
    in_blocks = process_recording(np.array_split(samples, 123), RATE, ChainConfig())
    monkeypatch.setattr(offline, "BLOCK_S", 1000.0)
    whole = process_recording([samples], RATE, ChainConfig())
    assert in_blocks.mains_hz == whole.mains_hz == 50.0
    assert len(in_blocks.envelope) == 100.0 * offline.OUTPUT_HZ
    assert np.abs(in_blocks.envelope - whole.envelope).max() < 2e-5 * whole.envelope.max(), "what notches still ring"
    np.testing.assert_array_equal(in_blocks.codes, whole.codes)


def test_filters_without_phase_are_scipys_forwards_and_backwards_of_half_the_response() -> None:
    """Without notch, twice the magnitude is what scipy's sosfiltfilt applies."""
    samples = recording(6.0)
    config = ChainConfig(mains="off")
    once = offline._Filters(RATE, config, 0.0)
    n = offline.next_fast_len(len(samples), real=True)
    padded = np.zeros((2, n))
    padded[:, : len(samples)] = samples.T
    frequency = np.fft.rfftfreq(n, 1.0 / RATE)
    gain = offline._magnitude(band_sos(RATE, config), frequency, RATE)
    twice = np.fft.irfft(np.fft.rfft(padded) * gain**2, n)[:, : len(samples)].T
    expected = sosfiltfilt(band_sos(RATE, config), samples, axis=0)
    inner = slice(2000, -2000)
    assert np.abs(twice - expected)[inner].max() < 1e-6 * np.abs(expected).max()
    carrier = np.fft.irfft(np.fft.rfft(padded) * gain, n)
    smooth = np.fft.irfft(np.fft.rfft(np.abs(carrier)) * offline._magnitude(smooth_sos(RATE, config), frequency, RATE))
    envelope = once.envelope(once.carrier(padded))
    np.testing.assert_allclose(envelope[:, inner], np.maximum(smooth, 0.0)[:, inner], rtol=1e-9)


def test_the_output_rate_only_picks_samples() -> None:
    samples = recording(5.0)
    full = process_recording([samples], RATE, ChainConfig(), output_hz=RATE)
    slow = process_recording([samples], RATE, ChainConfig(), output_hz=200.0)
    assert slow.rate_hz == 200.0
    np.testing.assert_allclose(slow.envelope, full.envelope[::10], rtol=1e-12)


def test_a_burst_stays_where_it_was() -> None:
    """An envelope without delay is as early as late around a symmetric burst."""
    time = np.arange(round(4.0 * RATE)) / RATE
    drive = np.repeat(np.exp(-0.5 * ((time - 2.0) / 0.1) ** 2)[:, None], 40, axis=1)
    samples = EmgSynthesizer(40, 5, SYNTHESIS).frame(drive)
    envelope = envelope_offline(samples, RATE, np.ones(40), ChainConfig()).mean(axis=1)
    centre = np.sum(time * envelope) / np.sum(envelope)
    assert centre == pytest.approx(2.0, abs=0.005)


def test_memory_does_not_grow_with_the_recording() -> None:
    piece = recording(10.0, channels=4)
    process_recording([piece] * 10, RATE, ChainConfig())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = process_recording([piece] * 60, RATE, ChainConfig())
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    assert len(result.envelope) == 600 * 100
    # Ten minutes of four channels are 38 MB.
    assert grown_mb < 15.0


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.7])
def test_short_recordings_are_processed_too(seconds: float) -> None:
    result = process_recording([recording(seconds)], RATE, ChainConfig())
    assert len(result.envelope) == round(seconds * 100) and np.isfinite(result.envelope).all()


def test_what_is_no_recording_is_refused_in_a_sentence() -> None:
    for chunks in ([], [np.zeros((0, 3))]):
        with pytest.raises(ExoError, match="empty"):
            process_recording(chunks, RATE, ChainConfig())
    with pytest.raises(ExoError, match="shape"):
        process_recording([np.zeros((100, 3)), np.zeros((100, 2))], RATE, ChainConfig())
    with pytest.raises(ExoError, match="1125 Hz"):
        process_recording([np.zeros((100, 3))], 100.0, ChainConfig())


def test_a_channel_without_numbers_on_an_offset_disturbs_nothing_that_is_called_valid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Missing numbers and bursts at the rail, off the grid of seconds and across blocks, on a DC-coupled channel."""
    monkeypatch.setattr(offline, "BLOCK_S", 4.0)
    clean = recording(14.0) + 2e-3
    broken = clean.copy()
    # At the beginning, across the border of the first blocks, up to a second's end, and short.
    for start, end in ((0.0, 0.3), (3.7, 4.4), (6.3, 7.0), (9.99, 10.005)):
        broken[round(start * RATE) : round(end * RATE), 0] = np.nan
    broken[round(11.985 * RATE) : round(12.004 * RATE), 0] = ChainConfig().full_scale_v
    config = ChainConfig(mains="50")
    expected = process_recording([clean], RATE, config)
    result = process_recording(np.array_split(broken, 37), RATE, config)
    assert 0.3 < result.sound[:, 0].mean() < 0.7 and result.sound[:, 1].all()
    off = np.abs(result.envelope - expected.envelope)[:, 0]
    assert off[result.sound[:, 0]].max() < 0.03 * expected.envelope.max()
    assert np.isnan(result.known()[~result.sound]).all() and np.isfinite(result.known()[result.sound]).all()


def test_bad_seconds_do_not_raise_what_a_channel_is_judged_against() -> None:
    samples = recording(20.0)
    bad = samples.copy()
    bad[8000:12000, 0] += 4e-3 * np.sin(2 * np.pi * 3.0 * np.arange(4000) / RATE) ** 21
    expected, result = (process_recording([each], RATE, ChainConfig()).channels[0] for each in (samples, bad))
    assert result.peak_v == pytest.approx(expected.peak_v, rel=0.05)


def test_hum_that_begins_late_and_hum_of_a_short_recording_are_found() -> None:
    silent = EmgSynthesizer(2, 1, SYNTHESIS).frame(np.full((round(90.0 * RATE), 2), 0.3))
    hum = 1e-4 * np.sin(2 * np.pi * 50.0 * np.arange(len(silent))[:, None] / RATE)
    assert process_recording([silent], RATE, ChainConfig()).mains_hz == 0.0
    late = silent + hum * (np.arange(len(silent)) >= 60.0 * RATE)[:, None]
    assert process_recording([late], RATE, ChainConfig()).mains_hz == 50.0
    for seconds in (2.0, 5.0):
        n = round(seconds * RATE)
        assert process_recording([silent[:n] + hum[:n]], RATE, ChainConfig()).mains_hz == 50.0
        quiet = [process_recording([silent[k * n : k * n + n]], RATE, ChainConfig()).mains_hz for k in range(10)]
        assert quiet == [0.0] * 10


def test_a_long_piece_is_not_copied_for_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "BLOCK_S", 1.0)
    longest = 0
    concatenate = np.concatenate

    def counted(parts: list[NDArray[np.float64]], axis: int = 0) -> NDArray[np.float64]:
        nonlocal longest
        result = concatenate(parts, axis=axis)
        longest = max(longest, max(result.shape) if result.ndim == 3 else 0)
        return result

    monkeypatch.setattr(np, "concatenate", counted)
    process_recording([recording(60.0)], RATE, ChainConfig())
    assert longest < 10.0 * RATE


def test_less_than_a_second_is_not_judged_good() -> None:
    result = process_recording([recording(0.9)], RATE, ChainConfig())
    assert [channel.reason for channel in result.channels] == ["short", "short"] and not result.valid.any()
