"""The calibration file: what is written is read back, and what is no calibration is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.calibration import FILE, Calibration, Maximum, read_calibration, write_calibration

GOOD = Calibration(
    "w01",
    {
        "soleus_r": Maximum(1.2e-4, "mvc", 1000.0, "emg_calibration/mvc", "ab12"),
        "tibialis_anterior_r": Maximum(3e-5, "dynamic_peak", 1500.0),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_calibration(tmp_path / FILE, GOOD)
    return tmp_path / FILE


def test_what_is_written_is_read_back(path: Path) -> None:
    assert read_calibration(path, "w01") == GOOD
    assert [item.name for item in path.parent.iterdir()] == [FILE], "no scratch file stays"
    np.testing.assert_array_equal(GOOD.maxima_v(["tibialis_anterior_r", "soleus_r"]), [3e-5, 1.2e-4])


def test_a_new_contraction_replaces_one_muscle_and_keeps_the_others() -> None:
    newer = GOOD.with_muscles({"soleus_r": Maximum(2e-4, "mvc", 1000.0)})
    assert newer.maxima_v(["soleus_r", "tibialis_anterior_r"]).tolist() == [2e-4, 3e-5]


def test_a_muscle_that_was_not_calibrated_is_named() -> None:
    with pytest.raises(ExoError, match="lacks soleus_l; it holds soleus_r"):
        GOOD.maxima_v(["soleus_r", "soleus_l"])


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("unit: V", "unit: mV", "is in 'mV', maxima are in V"),
        ("0.00012", "0.12", "is no EMG"),
        ("0.00012", ".nan", "is no EMG"),
        ("method: mvc", "method: guess", "soleus_r: method 'guess' is unknown"),
        ("schema_version: 1", "schema_version: 9", "schema version 9"),
        ("kind: emg_calibration", "kind: twin", "is no EMG calibration"),
        ("maximum_v: 0.00012", "maximum: 0.00012", "soleus_r: it must hold maximum_v"),
        ("wearer: w01", "wearer: w02", "belongs to wearer 'w02', not 'w01'"),
        ("muscles:", "muscles: {}\nothers:", "holds no muscle"),
        ("muscles:", "muscles: [", "not valid YAML"),
    ],
)
def test_what_is_no_calibration_is_one_sentence(path: Path, old: str, new: str, cause: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ExoError, match=cause) as caught:
        read_calibration(path, "w01")
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_calibration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match="python -m exo_emg calibrate"):
        read_calibration(tmp_path / FILE)
