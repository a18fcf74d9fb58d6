"""A session of any kind goes through all stages, or stops with a sentence and keeps what was finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from exo_bringup import personalise as module
from exo_bringup.personalise import personalise
from exo_bringup.progress import Stages
from exo_capture.landmarks import MARKERS
from exo_capture.synthetic_walker import walker
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, write_trc
from exo_common.session import Session, load

TIME = np.arange(300) / 60.0


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces the slow stages; returns what the twin was built from."""
    asked: dict[str, Any] = {}

    def build_twin(*arguments: Any, **options: Any) -> Path:
        capture, wearer, folder, inputs, warnings, progress, convention, *_ = arguments
        asked.update(options, capture=capture, convention=convention)
        progress("solving")
        with writing(folder, "twin", wearer.id, inputs, [*warnings, "of the twin"]) as target:
            (target / "gait.yaml").write_text("{}")
        return Path(folder)

    monkeypatch.setattr(module, "build_twin", build_twin)
    monkeypatch.setattr(module, "write_muscle_page", lambda twin, path, wearer: path.write_text("muscles"))
    monkeypatch.setattr(module, "build_controller", lambda twin, folder: folder)
    return asked


def session(folder: Path, points: np.ndarray) -> Session:
    write_trc(folder / "walk.trc", Markers(TIME, tuple(MARKERS), points[:, list(MARKERS.values())]))
    (folder / "session.yaml").write_text(
        "wearer: {id: w01, height: 1.70, mass: 68.0}\nkeypoints: {file: walk.trc}\n", encoding="utf-8"
    )
    return load(folder)


def test_the_capture_is_kept_and_its_raw_keypoints_make_the_twin(tmp_path: Path, built: dict[str, Any]) -> None:
    points = walker(TIME)
    points[:100, 0] = np.nan
    result = personalise(session(tmp_path, points), Stages())
    found = built["capture"]
    assert np.isnan(found.raw.position[:100, found.raw.names.index("Nose")]).all()
    assert {stride.side for stride in found.strides} == {"l", "r"}
    assert found.quality.figures["frame_rate_hz"] == pytest.approx(60.0)
    assert (found.planar, found.covariance, found.marker_set) == (False, None, None)
    assert built["convention"] == "joint_centres"
    capture = tmp_path / "capture"
    assert {path.name for path in capture.iterdir()} >= {"keypoints.trc", "confidence.sto", "quality.yaml"}
    inputs = yaml.safe_load((tmp_path / "twin" / "manifest.yaml").read_text())["inputs"]
    assert set(inputs) == {"session.yaml", "walk.trc", "keypoints.trc"}
    assert "of the twin" in result.warnings and result.keypoints == capture / "keypoints.trc"


def test_without_strides_the_capture_is_kept_and_the_twin_refused(tmp_path: Path, built: dict[str, Any]) -> None:
    still = np.repeat(walker(TIME)[:1], len(TIME), axis=0)
    with pytest.raises(ExoError, match="a twin needs one or more of each"):
        personalise(session(tmp_path, still), Stages())
    assert (tmp_path / "capture" / "keypoints.trc").is_file() and not built


def test_emg_that_is_left_out_is_told_once_and_in_the_twin(tmp_path: Path, built: dict[str, Any]) -> None:
    session(tmp_path, walker(TIME))
    np.savetxt(tmp_path / "emg.csv", np.zeros((600, 2)), delimiter=",", header="time,soleus_r", comments="")
    with (tmp_path / "session.yaml").open("a", encoding="utf-8") as text:
        text.write("emg: {file: emg.csv, unit: V, sync: {method: offset, offset: 0.0, uncertainty: 0.001}}\n")
    result = personalise(load(tmp_path), Stages())
    (told,) = [warning for warning in result.warnings if warning.startswith("the EMG is left out")]
    assert told in yaml.safe_load((tmp_path / "twin" / "manifest.yaml").read_text())["warnings"]
