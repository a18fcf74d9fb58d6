"""The calibration file: what is written is read back, and what is no calibration is one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.calibration import FILE, Calibration, Maximum, read_calibration, write_calibration
from exo_emg.processing import ChainConfig

GOOD = Calibration(
    "w01",
    {
        "soleus_r": Maximum(1.2e-4, "mvc", 1000.0, "emg_calibration/mvc", "ab12"),
        "tibialis_anterior_r": Maximum(3e-5, "dynamic_peak", 1500.0),
    },
    ChainConfig(envelope_hz=4.0, full_scale_v=0.1875),
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
        ("schema_version: 2", "schema_version: 9", "schema version 9"),
        ("kind: emg_calibration", "kind: twin", "is no EMG calibration"),
        ("maximum_v: 0.00012", "maximum: 0.00012", "soleus_r: it must hold maximum_v"),
        ("wearer: w01", "wearer: w02", "belongs to wearer 'w02', not 'w01'"),
        ("muscles:", "muscles: {}\nothers:", "holds no muscle"),
        ("muscles:", "muscles: [", "not valid YAML"),
        ("chain:", "chains:", "'chain' must hold band_low_hz"),
        ("envelope_hz: 4.0", "smooth_hz: 4.0", "'chain' must hold band_low_hz"),
        ("envelope_hz: 4.0", "envelope_hz: 400.0", "envelope_hz = 400.0 Hz is outside"),
    ],
)
def test_what_is_no_calibration_is_one_sentence(path: Path, old: str, new: str, cause: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ExoError, match=cause) as caught:
        read_calibration(path, "w01")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("band_low_hz", 30.0), ("band_high_hz", 400.0), ("envelope_hz", 6.0), ("full_scale_v", 6e-3)]
)
def test_maxima_of_another_chain_are_refused(path: Path, name: str, value: float) -> None:
    same = dataclasses.replace(GOOD.chain, flat_v=1e-6, mains="50")
    assert read_calibration(path, config=same) == GOOD
    cause = f"w01 was calibrated with {name} = {getattr(GOOD.chain, name)}, but is processed with {value}"
    with pytest.raises(ExoError, match=cause):
        read_calibration(path, config=dataclasses.replace(same, **{name: value}))


def test_two_different_notches_are_refused() -> None:
    made = dataclasses.replace(GOOD, chain=ChainConfig(mains="50"))
    made.check_chain(ChainConfig(mains="auto"))
    with pytest.raises(ExoError, match="mains = 50, but is processed with 60"):
        made.check_chain(ChainConfig(mains="60"))


def test_a_missing_calibration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match="python -m exo_emg calibrate"):
        read_calibration(tmp_path / FILE)
