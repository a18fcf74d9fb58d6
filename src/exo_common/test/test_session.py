"""A session loads, or one sentence says which file, which key and what to do."""

from pathlib import Path

import pytest

from exo_common.errors import ExoError
from exo_common.session import Camera, EmgSync, MarkerFiles, Source, load, load_wearer

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
    assert session.path(session.cameras[0].video) == folder / "side.mp4"
    assert (session.source, session.person, session.use.pose_model) == (Source.SIDE_VIEW, None, "full")


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
        (GOOD, "wearer: {id: a, height: 1.7, mass: 60}", "names no recording; add 'cameras'"),
        (GOOD, "wearer: {id: a, height: 1.7, mass: 60}\ncameras: []", "'cameras' must list"),
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


def test_the_wearer_is_known_before_the_walk_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "session.yaml").write_text("wearer: {id: w01, height: 1.72, mass: 68.0}\n")
    assert load_wearer(tmp_path).id == "w01"


WEARER = "wearer: {id: w01, height: 1.72, mass: 68.0}\n"
LANDMARKS = "landmarks: side_json, rate: 60, size: [1920, 1080]"
TWO = "cameras: [{name: a, video: side.mp4}, {name: b, video: side.mp4}]\n"


@pytest.fixture
def anything(tmp_path: Path) -> Path:
    """A folder with every kind of recording and no session.yaml yet."""
    for name in ("side.mp4", "calibration.toml", "walk.c3d", "static.c3d", "walk.trc", "emg.csv"):
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "side_json").mkdir()
    return tmp_path


def written(folder: Path, text: str) -> Path:
    (folder / "session.yaml").write_text(WEARER + text)
    return folder


def test_landmarks_of_another_tool_stand_for_a_video(anything: Path) -> None:
    session = load(written(anything, f"cameras: [{{name: side, {LANDMARKS}}}]\nperson: 2\n"))
    assert session.source is Source.SIDE_VIEW and session.person == 2
    assert session.cameras == (Camera(name="side", landmarks="side_json", rate=60.0, size=[1920, 1080]),)


def test_several_cameras_have_a_calibration(anything: Path) -> None:
    session = load(written(anything, TWO + "calibration: calibration.toml\npose_model: heavy\n"))
    assert session.source is Source.CAMERAS and session.use.pose_model == "heavy"
    assert session.calibration == anything / "calibration.toml"


def test_markers_and_keypoints_stand_for_cameras(anything: Path) -> None:
    session = load(written(anything, "markers: {file: walk.c3d, static: static.c3d, set: gait_speeds_52}\n"))
    assert session.source is Source.MARKERS
    assert session.markers == MarkerFiles(file="walk.c3d", static="static.c3d", set="gait_speeds_52")
    session = load(written(anything, "keypoints: {file: walk.trc}\nwalking: {start: 1, end: 4}\n"))
    assert session.source is Source.KEYPOINTS and session.walking.end == 4.0
    assert session.keypoints is not None and session.path(session.keypoints.file) == anything / "walk.trc"


MARKERS = "markers: {file: walk.c3d}\n"


def test_emg_of_the_markers_own_file_needs_no_name_and_has_their_clock(anything: Path) -> None:
    emg = load(written(anything, MARKERS + "emg: {}\n")).emg
    assert emg is not None and (emg.file, emg.unit, emg.muscles) == ("walk.c3d", "", {})
    assert emg.sync.method == "same_clock"
    assert load(written(anything, MARKERS)).emg is None


@pytest.mark.parametrize(
    "source",
    [
        "cameras: [{name: side, video: side.mp4}]",
        MARKERS,
        "keypoints: {file: walk.trc}",
        f"{TWO}calibration: calibration.toml",
    ],
)
def test_emg_of_its_own_file_stands_beside_every_recording(anything: Path, source: str) -> None:
    text = "emg: {file: emg.csv, unit: mV, muscles: {CH1: soleus_r, 2: soleus_l}, sync: {method: taps, end: 6}}\n"
    emg = load(written(anything, f"{source.strip()}\n{text}")).emg
    assert emg is not None and (emg.file, emg.unit) == ("emg.csv", "mV")
    assert emg.muscles == {"CH1": "soleus_r", "2": "soleus_l"}
    assert emg.sync == EmgSync(method="taps", end=6.0)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (TWO, "2 cameras without a calibration; add 'calibration"),
        ("cameras: [{name: a, video: side.mp4}]\ncalibration: calibration.toml", "needs two or more cameras"),
        (TWO + "calibration: rig.toml", "calibration 'rig.toml' is not a file"),
        (TWO + "calibration: 3", "calibration '3' is not a file"),
        (TWO.replace("name: b", "name: a") + "calibration: calibration.toml", "two cameras 'a'"),
        (TWO.replace("name: b, ", "") + "calibration: calibration.toml", "has no name"),
        (
            f"cameras: [{{name: a, video: side.mp4}}, {{name: b, {LANDMARKS}}}]\ncalibration: calibration.toml",
            "bring the same of every camera",
        ),
        (TWO + "markers: {file: walk.c3d}", "lists cameras and markers"),
        ("markers: {file: walk.c3d}\nkeypoints: {file: walk.trc}", "lists markers and keypoints"),
        ("markers: {file: walk.c3d}\ncalibration: calibration.toml", "'calibration' belongs to cameras"),
        ("markers: {file: run.c3d}", "markers.file 'run.c3d' is not a file"),
        ("markers: {static: static.c3d}", "markers.file '' is not a file"),
        ("markers: {file: walk.c3d, static: none.c3d}", "markers.static 'none.c3d' is not a file"),
        ("markers: {file: walk.c3d, set: mine.yaml}", "markers.set 'mine.yaml' is not a file"),
        ("markers: {file: walk.c3d, rate: 100}", "unknown key 'rate'"),
        ("markers: walk.c3d", "must hold names and values"),
        ("markers: {file: walk.c3d}\nwalking: {start: 1, end: 2}", "'walking' says nothing about markers"),
        ("keypoints: {file: walk.trc}\nperson: 2", "'person' says nothing about keypoints"),
        ("keypoints: {file: other.trc}", "keypoints.file 'other.trc' is not a file"),
        ("cameras: [{name: a}]", "either 'video' or 'landmarks'"),
        (f"cameras: [{{name: a, video: side.mp4, {LANDMARKS}}}]", "either 'video' or 'landmarks'"),
        (
            "cameras: [{name: a, video: side.mp4, view: sagittal}]",
            "unknown key .view.; known keys are name, video, landmarks",
        ),
        ("cameras: [{name: a, video: side.mp4, rate: 60}]", "tells its rate and size itself"),
        ("cameras: [{name: a, landmarks: side_json, size: [1920, 1080]}]", "give 'rate'"),
        ("cameras: [{name: a, landmarks: side_json, rate: 60, size: [1920]}]", "give 'rate'"),
        ("cameras: [{name: a, landmarks: side_json, rate: 60, size: [1920, tall]}]", "type list"),
        ("cameras: [{name: a, landmarks: none_json, rate: 60, size: [1920, 1080]}]", "is not a folder"),
        (f"cameras: [{{name: a, {LANDMARKS}}}]\npose_model: lite", "'pose_model' says nothing about landmarks"),
        ("cameras: [{name: a, video: side.mp4}]\npose_model: best", "choose one of full, heavy, lite"),
        (MARKERS + "emg: emg.csv", "'emg' must hold names and values"),
        (MARKERS + "emg: {files: emg.csv}", "unknown key 'files'; known keys are file, muscles"),
        (MARKERS + "emg: {file: other.csv}", "emg.file 'other.csv' is not in"),
        ("keypoints: {file: walk.trc}\nemg: {}", "names no file; add 'file'"),
        (MARKERS + "emg: {file: emg.csv}", "another file than the walk.*add 'sync'"),
        (MARKERS + "emg: {unit: volts}", "unit 'volts' is unknown; choose one of V, mV, uV"),
        (MARKERS + "emg: {muscles: {CH1: 3}}", "channel 'CH1' has no muscle's name"),
        (MARKERS + "emg: {muscles: [soleus_r]}", "'emg.muscles' must hold names and values"),
        (MARKERS + "emg: {sync: {offset: 1}}", "'method' is missing"),
        (MARKERS + "emg: {sync: {method: clap}}", "choose one of same_clock, offset"),
        (MARKERS + "emg: {sync: {method: offset, offset: 1}}", "method offset needs 'uncertainty'"),
        (MARKERS + "emg: {sync: {method: lsl}}", "method lsl needs 'reference'"),
        (MARKERS + "emg: {sync: {method: lsl, reference: no.csv}}", "emg.sync.reference 'no.csv' is not a file"),
        (MARKERS + "emg: {sync: {method: taps, start: 5, end: 3}}", "must end later"),
        ("cameras: [{name: a, video: side.mp4}]\nperson: -1", "outside"),
        ("cameras: [{name: a, video: side.mp4}]\nperson: first", "type int"),
    ],
)
def test_what_does_not_belong_together_is_one_sentence(anything: Path, text: str, cause: str) -> None:
    with pytest.raises(ExoError, match=cause) as caught:
        load(written(anything, text))
    assert str(anything / "session.yaml") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
