"""What the summary of a walk says of peaks and of the plates' lag: measured is measured, and not told is not zero."""

from __future__ import annotations

import numpy as np
import pytest

from exo_bringup.gait_figures import GaitCurves
from exo_bringup.norms import PERCENT
from exo_bringup.wearer_analysis import _lag, _peaks
from exo_common.frames import LEG_COORDINATES
from exo_twin.inverse.plate_lag import Lag

TOE_OFF = 60.0


def curves(known: np.ndarray) -> GaitCurves:
    """Two strides: the first measured where known (101,), between -1 and 1; both predicted, twice as large."""
    wave = np.tile(np.sin(2.0 * np.pi * PERCENT / 100.0), (2, 1))
    measured = np.where(np.array([known, np.zeros_like(known)]), wave, np.nan)
    return GaitCurves(
        dict.fromkeys(LEG_COORDINATES, wave),
        dict.fromkeys(LEG_COORDINATES, measured),
        dict.fromkeys(LEG_COORDINATES, 2.0 * wave),
        {"l": TOE_OFF, "r": TOE_OFF},
    )


def test_measured_peaks_need_a_whole_stance_on_plates_and_nothing_predicted() -> None:
    whole, half = curves(PERCENT <= 90.0), curves(PERCENT <= 20.0)
    assert _peaks(whole, measured_only=True)["hip_extension"] == {"l": 1.0, "r": 1.0}
    assert _peaks(half, measured_only=True)["hip_extension"] == {}
    # Where possible measured, else predicted: the mean of one stride of each.
    assert _peaks(whole)["hip_extension"]["l"] == pytest.approx(1.5)


def test_a_lag_that_was_not_told_is_not_zero() -> None:
    assert _lag(Lag(0.0, np.nan, "none")) == {"plate_lag_ms": None, "plate_lag_method": "none"}
    assert _lag(Lag(0.0153, 0.004, "dynamics")) == {"plate_lag_ms": 15.3, "plate_lag_method": "dynamics"}
