"""Bands are read as they are written, matched to the walk's speed, and say whom they were measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exo_bringup.norms import ANGLES, MOMENTS, SPEEDS, load_norms
from exo_common.errors import ExoError

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "norms" / "Schwartz2008.json"


def variables(half_width: float) -> dict[str, Any]:
    rows = [[p, 1000.0 - half_width, 1000.0 + half_width] for p in range(0, 101, 2)]
    return {name: {axis: rows for axis in "XYZ"} for name in (*ANGLES.values(), *MOMENTS.values())}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_band_follows_the_dimensionless_speed(tmp_path: Path) -> None:
    speeds = {name: variables(10.0 * i) for i, (name, _) in enumerate(SPEEDS, start=1)}
    norms = load_norms(write(tmp_path / "norms.json", {"Somebody2000": speeds}))
    expected = {0.4: "VerySlow", 0.9: "Slow", 1.3: "Free", 1.7: "Fast", 2.2: "VeryFast", None: "Free"}
    for speed, name in expected.items():
        assert f"speed {name}" in norms.at(speed, 1.75).source
    # A child at the same pace walks faster for its size.
    assert "speed Fast" in norms.at(1.3, 1.1).source


def test_moments_are_per_kg_and_twice_the_width_is_around_the_mean(tmp_path: Path) -> None:
    norms = load_norms(write(tmp_path / "norms.json", {"Somebody2000": {"Own": variables(200.0)}}))
    bands = norms.at(1.3, 1.75)
    band = bands.moments["hip_flexion"]
    assert band.mean == pytest.approx(np.ones(101)) and bands.angles["knee_angle"].mean[7] == pytest.approx(1000.0)
    curve = np.full((1, 101), 1.3)
    curve[0, 5] = np.nan
    assert not band.inside(curve).any() and band.inside(curve, 2.0).sum() == 100
    assert "does not say who was measured" in bands.source


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("no json", "not a file of normative bands"),
        ({"A": {"Free": {"HipAngles": {}}}}, "not a file of normative bands"),
        ({"A": {"CentreOne": variables(1.0), "CentreTwo": variables(1.0)}}, "other groups than the speeds"),
    ],
)
def test_another_file_is_refused_with_a_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    path = tmp_path / "norms.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ExoError, match=sentence):
        load_norms(path)
    with pytest.raises(ExoError, match="cannot be read"):
        load_norms(tmp_path / "missing.json")


@pytest.mark.skipif(not SHARED.is_file(), reason="the shared recordings are not beside this checkout")
def test_a_real_file_has_the_fields_signs_and_says_children() -> None:
    bands = load_norms(SHARED).at(1.3, 1.75)
    assert "children" in bands.source and "Free" in bands.source
    assert 35 < int(np.argmax(bands.moments["ankle_angle"].mean)) < 60  # push-off: plantarflexion positive
    assert np.argmax(bands.moments["hip_flexion"].mean) < 20  # loading: extension positive
    assert 50.0 < bands.angles["knee_angle"].mean.max() < 70.0
