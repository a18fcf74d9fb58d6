"""Strides are cut where they are, unknown samples stay unknown, and the figure says what it shows."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from exo_bringup.gait_figures import GaitCurves, gait_curves, gait_figure, mean_sd, stride_curves, write_curves
from exo_bringup.norms import Band, Bands
from exo_capture.gait_events import Stride
from exo_common.frames import LEG_COORDINATES

TIME = np.arange(0.0, 3.0, 0.01)
STRIDES = [Stride("l", 0.2, 0.8, 1.2, 1.3), Stride("l", 1.2, 1.8, 2.2, 1.3), Stride("r", 0.7, 1.3, 1.7, 1.3)]
MASS = 50.0


def wave(phase: float) -> np.ndarray:
    """Starts at a left strike (0.2 s), period 1 s."""
    return np.sin(2.0 * np.pi * (TIME - 0.2 - phase))


@pytest.fixture
def curves() -> GaitCurves:
    angles = {name: 30.0 * wave(0.0 if name.endswith("_l") else 0.5) for name in LEG_COORDINATES}
    moments = {name: 100.0 * wave(0.0 if name.endswith("_l") else 0.5) for name in LEG_COORDINATES}
    known = {"l": TIME < 1.7, "r": np.zeros(len(TIME), dtype=bool)}
    return gait_curves(TIME, angles, moments, known, {n: 0.5 * m for n, m in moments.items()}, STRIDES, MASS)


def test_each_leg_has_its_own_cycle_and_moments_turn_to_the_fields_sign(curves: GaitCurves) -> None:
    cycle = np.sin(2.0 * np.pi * np.linspace(0.0, 1.0, 101))
    assert curves.angles["knee_angle_l"].shape == (2, 101) and curves.angles["knee_angle_r"].shape == (1, 101)
    for name in LEG_COORDINATES:
        np.testing.assert_allclose(
            curves.angles[name], np.broadcast_to(30.0 * cycle, curves.angles[name].shape), atol=0.1
        )
        np.testing.assert_allclose(curves.predicted[name][0], -cycle, atol=0.01)
    np.testing.assert_allclose(curves.measured["hip_flexion_l"][0], -2.0 * cycle, atol=0.01)
    assert curves.toe_off == {"l": pytest.approx(60.0), "r": pytest.approx(60.0)}


def test_what_was_not_measured_is_unknown_and_filled_by_prediction_only_on_request(curves: GaitCurves) -> None:
    second = curves.measured["ankle_angle_l"][1]
    assert np.isfinite(second[:49]).all() and np.isnan(second[51:]).all()
    assert np.isnan(curves.measured["ankle_angle_r"]).all()
    mixed = curves.moments("ankle_angle_l")
    np.testing.assert_array_equal(mixed[1, :49], second[:49])
    np.testing.assert_array_equal(mixed[1, 51:], curves.predicted["ankle_angle_l"][1, 51:])


def test_a_stride_beyond_the_recording_is_never_extrapolated() -> None:
    late = [Stride("l", 2.5, 3.1, 3.5, 1.3)]
    row = stride_curves(TIME, np.ones(len(TIME)), late)[0]
    assert np.isfinite(row[:49]).all() and np.isnan(row[51:]).all()


def test_mean_and_deviation_count_known_strides_only() -> None:
    stack = np.full((3, 101), np.nan)
    stack[0], stack[1, :50] = 1.0, 3.0
    mean, sd = mean_sd(stack)
    assert mean[0] == 2.0 and sd[0] == pytest.approx(np.sqrt(2.0)) and mean[60] == 1.0 and sd[60] == 0.0
    assert np.isnan(mean_sd(np.full((2, 101), np.nan))[0]).all()


def test_the_figure_names_sides_sources_signs_and_norms(tmp_path: Path, curves: GaitCurves) -> None:
    band = Band(np.full(101, -1.0), np.full(101, 1.0))
    joints = dict.fromkeys(("hip_flexion", "knee_angle", "ankle_angle"), band)
    gait_figure(tmp_path / "gait.svg", "w01, walk", curves, Bands(joints, joints, "Norms2000: children"), ["A note."])
    with_text = plain_svg(tmp_path, curves)
    for words in ("left, ground reaction measured", "right, ground reaction predicted", "plantarflexion positive"):
        assert words in with_text
    assert "right, ground reaction measured" not in with_text and "Grey" not in with_text
    assert (tmp_path / "gait.svg").stat().st_size > 1000


def test_a_recording_without_moments_has_a_figure_of_angles_that_says_so(tmp_path: Path) -> None:
    angles = dict.fromkeys(LEG_COORDINATES, 30.0 * wave(0.0))
    text = plain_svg(tmp_path, gait_curves(TIME, angles, None, {}, None, STRIDES, MASS))
    assert "tells no joint moments" in text and "Knee flexion" in text and "Nm/kg" not in text


def plain_svg(folder: Path, curves: GaitCurves) -> str:
    """The figure without norms, its text as text."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        gait_figure(folder / "plain.svg", "w01", curves, None)
    return (folder / "plain.svg").read_text(encoding="utf-8")


def test_curves_are_written_with_empty_cells_where_unknown(tmp_path: Path, curves: GaitCurves) -> None:
    write_curves(tmp_path / "curves.csv", curves)
    with (tmp_path / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 101 and float(rows[-1]["gait_cycle_pct"]) == 100.0
    assert rows[50]["hip_flexion_r_moment_measured_nm_kg"] == ""
    assert float(rows[25]["hip_flexion_l_moment_predicted_nm_kg"]) == pytest.approx(-1.0, abs=0.01)
