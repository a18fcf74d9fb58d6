"""The filter of the live chain against SciPy's."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, sosfilt

from exo_emg.processing import ChainConfig, notch_sos
from exo_emg.sos_filter import SosFilter


def test_pieces_give_scipy_s_numbers_and_leave_the_input_alone() -> None:
    band = butter(2, (20.0, 400.0), "bandpass", fs=1000.0, output="sos")
    samples = np.random.default_rng(0).standard_normal((1000, 3))
    given = samples.copy()
    own = SosFilter(band, 3)
    pieces = [own.process(piece) for piece in np.split(samples, [1, 11, 500])]
    np.testing.assert_array_equal(np.concatenate(pieces), sosfilt(band, given, axis=0))
    np.testing.assert_array_equal(samples, given)


def test_appended_sections_start_empty_behind_those_that_run() -> None:
    band = butter(2, (20.0, 400.0), "bandpass", fs=1000.0, output="sos")
    notch = notch_sos(1000.0, 50.0, ChainConfig())
    samples = np.random.default_rng(1).standard_normal((600, 2))
    own = SosFilter(band, 2)
    own.process(samples[:300])
    own.append(notch)
    wanted = sosfilt(notch, sosfilt(band, samples, axis=0)[300:], axis=0)
    np.testing.assert_array_equal(own.process(samples[300:]), wanted)
