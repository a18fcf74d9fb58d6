import numpy as np
import pytest

from exo_capture.filtering import fill_gaps, smooth

RATE_HZ = 30.0
TIME = np.arange(120) / RATE_HZ


def test_short_gaps_inside_are_filled_and_nothing_else():
    truth = np.sin(2.0 * np.pi * TIME)
    series = truth.copy()
    series[:3], series[50:55], series[80:95], series[-2:] = np.nan, np.nan, np.nan, np.nan
    filled, added = fill_gaps(series[:, None], RATE_HZ)
    np.testing.assert_allclose(filled[50:55, 0], truth[50:55], atol=0.06)
    assert np.isnan(filled[:3]).all() and np.isnan(filled[80:95]).all() and np.isnan(filled[-2:]).all()
    assert list(np.flatnonzero(added[:, 0])) == [50, 51, 52, 53, 54]


@pytest.mark.parametrize("hertz, gain", [(1.0, 1.0), (3.0, 0.95), (6.0, 0.707), (12.0, 0.0)])
def test_gain_of_the_low_pass(hertz, gain):
    wave = np.exp(2j * np.pi * hertz * TIME)
    passed = smooth(np.column_stack([wave.real, wave.imag]), RATE_HZ) @ np.array([1.0, 1.0j])
    middle = slice(40, 80)
    ratio = np.mean(passed[middle] / wave[middle])
    assert abs(ratio) == pytest.approx(gain, abs=0.04)
    assert abs(ratio.imag) < 0.01, "zero phase"


def test_smoothing_does_not_cross_gaps():
    series = np.where(TIME < 2.0, 0.0, 1.0)
    series[58:62] = np.nan
    result = smooth(series[:, None], RATE_HZ)[:, 0]
    assert np.isnan(result[58:62]).all()
    np.testing.assert_allclose(result[:58], 0.0, atol=1e-9)
    np.testing.assert_allclose(result[62:], 1.0, atol=1e-9)
