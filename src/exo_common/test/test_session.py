"""A session loads, or one sentence says which file, which key and what to do."""

from pathlib import Path

import pytest

from exo_common.errors import ExoError
from exo_common.session import load

GOOD = """
wearer: {id: w01, height: 1.72, mass: 68.0, sex: female}
cameras:
  - {name: side, video: side.mp4}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "side.mp4").write_bytes(b"video")
    (tmp_path / "session.yaml").write_text(GOOD)
    return tmp_path


def test_a_good_session_loads(folder: Path) -> None:
    session = load(folder)
    assert session.wearer.height == 1.72
    assert session.video(session.cameras[0]) == folder / "side.mp4"


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("height: 1.72, ", "", "'height' is missing"),
        ("1.72", "172", "looks like cm; give it in m, e.g. 1.72"),
        ("1.72", "1720", "looks like mm"),
        ("1.72", ".nan", "finite"),
        ("1.72", "tall", "type float"),
        ("mass: 68.0", "mass: 0.0", "outside"),
        ("sex: female", "gender: female", "unknown key 'gender'"),
        ("cameras:", "camera:", "unknown key 'camera'"),
        ("cameras:", "1: a\nfoo: b\ncameras:", "unknown key '1'"),
        ("id: w01", "id: null", "is no name"),
        ("side.mp4", "front.mp4", "is not a file"),
        ("wearer: {", "wearer: {{", "not valid YAML"),
        (GOOD, "", "empty"),
        (GOOD, "wearer: {id: a, height: 1.7, mass: 60}", "'cameras' must list"),
        ("cameras:", "walking: {start: 5, end: 3}\ncameras:", "later than"),
    ],
)
def test_a_bad_session_is_one_sentence(folder: Path, old: str, new: str, cause: str) -> None:
    path = folder / "session.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ExoError, match=cause) as caught:
        load(folder)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_without_a_session_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match=r"session\.yaml is missing"):
        load(tmp_path)
