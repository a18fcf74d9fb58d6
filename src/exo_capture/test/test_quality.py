import numpy as np
import pytest
import yaml

from exo_capture.quality import CHECKS, GOOD, NOT_USABLE, USABLE, bone_length_cv_pct, judge
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

CLEAN = {check.key.replace("*", "side"): check.good for check in CHECKS}
STRIDES = {"l": 2, "r": 3}


def test_a_clean_capture_is_good():
    quality = judge(CLEAN, STRIDES, {}, {})
    assert quality.verdict == GOOD and quality.warnings == ()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.key)
def test_every_limit_counts_and_says_the_cure(check):
    key = check.key.replace("*", "side")
    beyond_usable = check.usable + 0.01 * (check.usable - check.good)
    between = judge({**CLEAN, key: (check.good + check.usable) / 2.0}, STRIDES, {}, {})
    beyond = judge({**CLEAN, key: beyond_usable}, STRIDES, {}, {})
    assert (between.verdict, beyond.verdict) == (USABLE, NOT_USABLE)
    for quality in (between, beyond):
        assert len(quality.warnings) == 1
        assert key in quality.warnings[0] and check.cure in quality.warnings[0]


def test_only_the_figures_present_are_judged():
    assert judge({"reprojection_px": 6.0, "sync_confidence_left": 0.9}, STRIDES, {}, {}).verdict == GOOD
    several = judge({"observations_kept_left_pct": 40.0, "observations_kept_pct": 85.0}, STRIDES, {}, {})
    assert several.verdict == USABLE and "observations_kept_left_pct" in several.warnings[0]


def test_notes_of_other_stages_are_kept():
    quality = judge(CLEAN, STRIDES, {}, {}, notes=["the file has a variable frame rate"])
    assert quality.verdict == GOOD and quality.warnings == ("the file has a variable frame rate",)


def test_a_figure_that_could_not_be_computed_is_not_usable():
    assert judge({**CLEAN, "bone_length_cv_pct": float("nan")}, STRIDES, {}, {}).verdict == NOT_USABLE


def test_a_later_milder_fault_does_not_soften_the_verdict():
    worst, mild = CHECKS[0], CHECKS[-1]
    mild_key = mild.key.replace("*", "side")
    figures = {**CLEAN, worst.key: worst.usable * 2.0, mild_key: (mild.good + mild.usable) / 2.0}
    assert judge(figures, STRIDES, {}, {}).verdict == NOT_USABLE


def test_few_strides_are_said():
    quality = judge(CLEAN, {"l": 1, "r": 2}, {}, {})
    assert quality.verdict == USABLE and "only 1 complete stride" in quality.warnings[0]


def test_report_file(tmp_path):
    path = tmp_path / "quality.yaml"
    judge(CLEAN, STRIDES, {"speed_m_s": 1.23456}, {"direction": "to the left"}).save(path)
    content = yaml.safe_load(path.read_text())
    assert content["verdict"] == GOOD and content["strides"] == STRIDES
    assert content["gait"]["speed_m_s"] == 1.235
    assert any("plane" in assumption for assumption in content["assumptions"])
    with pytest.raises(ExoError, match="could not be written"):
        judge(CLEAN, STRIDES, {}, {}).save(tmp_path / "missing" / "quality.yaml")


def test_bone_lengths_in_space_and_in_the_walking_plane():
    time = np.arange(4.0)
    names = tuple(side + part for side in "LR" for part in ("Hip", "Knee", "Ankle"))
    position = np.zeros((4, 6, 3))
    position[:, [0, 3], 1], position[:, [1, 4], 1] = 0.8, 0.4
    position[:, 1, 2] = 0.0, 0.3, 0.0, 0.3  # the left knee swings sideways: the thigh is 0.4 and 0.5 m long
    position[:, 5] = np.nan
    markers = Markers(time, names, position)
    space, plane = bone_length_cv_pct(markers, planar=False), bone_length_cv_pct(markers, planar=True)
    assert space["thigh_l"] == pytest.approx(100.0 * 0.05 / 0.45)
    assert plane["thigh_l"] == pytest.approx(0.0, abs=1e-9) and space["thigh_r"] == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(space["shank_r"]) and np.isnan(plane["shank_r"])
