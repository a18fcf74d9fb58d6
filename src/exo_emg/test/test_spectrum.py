"""Spectra and their frequencies against spectra known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import sosfilt

from exo_common.errors import ExoError
from exo_emg.processing import ChainConfig, band_sos
from exo_emg.spectrum import Tiling, compression, dimitrov_index, mean_frequency, median_frequency

FREQUENCY = np.arange(25.0, 400.0, 5.0)


def muscle(frequency: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """The usual spectrum of surface EMG, its frequency axis compressed."""
    f = frequency / factor
    return f**2 / ((f**2 + 60.0**2) * (f**2 + 120.0**2) ** 2)


def test_the_median_of_a_flat_spectrum_is_the_middle_of_the_band() -> None:
    flat = np.ones((2, 3, len(FREQUENCY)))
    assert median_frequency(FREQUENCY, flat) == pytest.approx(np.full((2, 3), FREQUENCY.mean()))
    assert mean_frequency(FREQUENCY, flat) == pytest.approx(np.full((2, 3), FREQUENCY.mean()))


def test_a_line_is_found_and_no_power_is_no_frequency() -> None:
    line = np.zeros(len(FREQUENCY))
    line[10] = 1.0
    assert median_frequency(FREQUENCY, line) == pytest.approx(FREQUENCY[10])
    assert np.isnan(median_frequency(FREQUENCY, -line))
    assert np.isnan(mean_frequency(FREQUENCY, np.zeros(len(FREQUENCY))))
    first = np.zeros(len(FREQUENCY))
    first[0] = 1.0
    assert median_frequency(FREQUENCY, first) == pytest.approx(FREQUENCY[0])


@pytest.mark.parametrize("factor", [0.6, 0.85, 1.0, 1.2])
def test_compression_is_free_of_the_band_where_the_ratio_of_medians_is_not(factor: float) -> None:
    rested, now = muscle(FREQUENCY), 7.0 * muscle(FREQUENCY, factor)
    assert compression(FREQUENCY, rested, now) == pytest.approx(factor, abs=0.004)
    if factor < 0.8:
        assert median_frequency(FREQUENCY, now) / median_frequency(FREQUENCY, rested) > factor + 0.02


def test_dimitrovs_index_rises_much_more_than_the_median_falls() -> None:
    rise = dimitrov_index(FREQUENCY, muscle(FREQUENCY, 0.8)) / dimitrov_index(FREQUENCY, muscle(FREQUENCY))
    assert rise > 1.5


def test_spectra_are_densities_with_the_band_pass_undone() -> None:
    rng = np.random.default_rng(0)
    white = 1e-4 * rng.standard_normal((200_000, 1))
    tiling = Tiling(1000.0)
    filtered = sosfilt(band_sos(1000.0, ChainConfig()), white, axis=0)
    density = tiling.spectra(filtered).mean(axis=(0, 1))
    assert density == pytest.approx(np.full(len(density), 1e-8 / 500.0), rel=0.12)


def test_a_rate_too_low_for_emg_is_refused() -> None:
    with pytest.raises(ExoError, match="too slow"):
        Tiling(100.0)
