"""An artefact is written whole or not at all, and a changed one is refused."""

from pathlib import Path

import pytest

from exo_common.artefact import read_manifest, sha256, writing
from exo_common.errors import ExoError


def write(folder: Path, text: str = "1") -> None:
    source = folder.parent / "input.txt"
    source.write_text("input")
    with writing(folder, "twin", "w01", {"input": source}, ["weak"]) as scratch:
        (scratch / "model.txt").write_text(text)


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "twin")
    manifest = read_manifest(tmp_path / "twin", "twin", "w01")
    assert manifest["warnings"] == ["weak"]
    assert set(manifest["files"]) == {"model.txt"}
    assert len(manifest["inputs"]["input"]) == 64


def test_a_failed_run_keeps_the_earlier_artefact(tmp_path: Path) -> None:
    write(tmp_path / "twin", "first")
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "twin", "twin", "w01", {}, []) as scratch:
        (scratch / "model.txt").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "twin" / "model.txt").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["input.txt", "twin"]


def test_a_second_run_keeps_the_first_as_previous(tmp_path: Path) -> None:
    write(tmp_path / "twin", "first")
    write(tmp_path / "twin", "second")
    assert (tmp_path / "twin" / "model.txt").read_text() == "second"
    assert (tmp_path / "twin.previous" / "model.txt").read_text() == "first"


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match="No space left on device"), writing(tmp_path / "t", "twin", "w", {}, []):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda f: (f / "model.txt").write_text("2"), "was changed"),
        (lambda f: (f / "model.txt").unlink(), "is missing"),
        (lambda f: (f / "manifest.yaml").unlink(), "holds no twin"),
        (lambda f: (f / "manifest.yaml").write_text("kind: controller"), "does not describe a twin"),
        (lambda f: (f / "manifest.yaml").write_text("kind: twin\nschema_version: 99"), "schema version 99"),
    ],
)
def test_a_spoiled_artefact_is_refused(tmp_path: Path, spoil: object, cause: str) -> None:
    write(tmp_path / "twin")
    spoil(tmp_path / "twin")  # type: ignore[operator]
    with pytest.raises(ExoError, match=cause):
        read_manifest(tmp_path / "twin", "twin")


def test_another_wearers_artefact_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "twin")
    with pytest.raises(ExoError, match="belongs to wearer 'w01'"):
        read_manifest(tmp_path / "twin", "twin", "w02")


def test_a_folder_is_hashed_by_the_names_and_contents_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "side_json"
    folder.mkdir()
    (folder / "0.json").write_text("{}")
    first = sha256(folder)
    (folder / "0.json").write_text("[]")
    second = sha256(folder)
    (folder / "0.json").rename(folder / "1.json")
    assert len({first, second, sha256(folder)}) == 3
