from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from twin_fakes import PHASE, SIDE_ENVELOPE, write_twin

from exo_common.artefact import MANIFEST, sha256
from exo_common.errors import ExoError
from exo_controller.artefact import POLICY_FILE, Policy
from exo_controller.build import _mean_cycle, build_controller

MOMENTS = (40.0 * np.sin(2 * np.pi * PHASE), 30.0 * np.cos(2 * np.pi * PHASE))


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("controllers")
    return build_controller(write_twin(folder / "twin"), folder / "controller", moments_nm=MOMENTS)


def test_build_and_load(controller: Path) -> None:
    policy = Policy.load(controller, "w1")
    assert policy.left_nm == pytest.approx(0.2 * MOMENTS[0], abs=0.01)
    assert policy.right_nm == pytest.approx(0.2 * MOMENTS[1], abs=0.01)
    evaluation = json.loads((controller / "evaluation.json").read_text())
    assert evaluation["figures"]["left_torque_peak_nm"] == pytest.approx(8.0, rel=0.01)
    assert "not evaluated" in evaluation["warnings"][0]


def test_another_wearer_is_refused(controller: Path) -> None:
    with pytest.raises(ExoError, match="belongs to wearer 'w1', not 'w2'"):
        Policy.load(controller, "w2")


def test_another_twin_of_the_same_wearer_is_refused(controller: Path, tmp_path: Path) -> None:
    twin = controller.parent / "twin"
    Policy.load(controller, "w1", twin)
    other = tmp_path / "other"
    shutil.copytree(twin, other)
    manifest = yaml.safe_load((other / MANIFEST).read_text())
    manifest["warnings"] = ["built another time"]
    (other / MANIFEST).write_text(yaml.safe_dump(manifest))
    with pytest.raises(ExoError, match="made for another twin") as caught:
        Policy.load(controller, "w1", other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.update(schema_version=2), "schema_version is 2"),
        (lambda raw: raw.update(type="network"), "type is 'network'"),
        (lambda raw: raw.update(rate_hz=200), "rate_hz is 200"),
        (lambda raw: raw["features"].reverse(), "features is"),
        (lambda raw: raw["profile_nm"].update(left=[1.0] * 100), "profile_nm.left must hold 101"),
        (lambda raw: raw["profile_nm"]["right"].__setitem__(3, 26.0), "profile_nm.right must hold"),
        (lambda raw: raw["profile_nm"]["right"].__setitem__(3, float("nan")), "profile_nm.right must hold"),
        (lambda raw: raw["assist"].update(fraction=2.0), "fraction = 2.0"),
        (lambda raw: raw["release"].update(rise=1.0), "unknown key 'rise'"),
        (lambda raw: raw.pop("assist"), "missing or damaged"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(controller: Path, tmp_path: Path, change, words: str) -> None:
    folder = tmp_path / "controller"
    shutil.copytree(controller, folder)
    path = folder / POLICY_FILE
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ExoError, match="changed after"):
        Policy.load(folder, "w1")
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    manifest["files"][POLICY_FILE] = sha256(path)
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    with pytest.raises(ExoError) as caught:
        Policy.load(folder, "w1")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_broken_moments_are_refused(controller: Path, tmp_path: Path) -> None:
    broken = np.full(101, np.nan)
    with pytest.raises(ExoError, match="moment curve of hip_flexion_l"):
        build_controller(controller.parent / "twin", tmp_path / "c", moments_nm=(broken, broken))
    assert not (tmp_path / "c").exists()


def test_mean_cycle_averages_strides() -> None:
    phase = np.tile(np.arange(200) / 200, 4)
    values = np.cos(2 * np.pi * phase) + np.repeat([0.1, -0.1, 0.2, -0.2], 200)
    curve = _mean_cycle(phase, values)
    assert curve == pytest.approx(np.cos(2 * np.pi * PHASE), abs=0.01)
    assert curve[0] == pytest.approx(curve[-1])


def test_the_tracking_twin_supplies_moments_and_the_effect_of_help(tmp_path: Path) -> None:
    import synthetic_twin

    folder = build_controller(synthetic_twin.write(tmp_path / "twin"), tmp_path / "controller")
    figures = json.loads((folder / "evaluation.json").read_text())["figures"]
    assert 5.0 < figures["left_moment_peak_nm"] < 300.0
    assert 0.0 < figures["left_torque_peak_nm"] <= min(12.0, SIDE_ENVELOPE.torque_max_nm)
    assert figures["hip_effort_change_pct"] < 0.0
