import numpy as np
import pytest

from exo_capture import __main__ as command
from exo_capture.cameras import Camera
from exo_capture.monocular import Capture, Pixels
from exo_capture.people import Candidates
from exo_capture.sagittal_reconstruction import reconstruct_sagittal
from exo_common.errors import ExoError
from exo_common.opensim_files import read_trc

STATURE, RATE_HZ = 1.70, 30.0


@pytest.fixture
def captured(walker, monkeypatch, tmp_path):
    """Replaces the slow part by a made-up walk; returns what the command asked for."""
    asked = {}
    landmarks = np.dstack([walker(seconds=5.0).landmarks, np.ones((150, 33))])

    def capture(video, height, model, start, end, progress, person):
        asked.update(video=video, height=height, model=model, start=start, end=end, person=person)
        progress(0.5, "half way")
        result = reconstruct_sagittal(landmarks, np.arange(150) / RATE_HZ, (1920, 1080), height)
        nobody = Candidates(np.zeros(0, np.int64), np.zeros((0, 33, 3)))
        return Capture(None, result, Pixels(np.arange(150), result.pixels, nobody))

    monkeypatch.setattr(command, "capture_sagittal", capture)
    monkeypatch.setattr(command, "annotated_frames", lambda capture: [(7, b"picture")])
    monkeypatch.setattr(command, "model_path", lambda variant: tmp_path / f"{variant}.task")
    return asked


def test_results_and_summary(captured, tmp_path, capsys):
    out = tmp_path / "walk"
    options = ["--person", "2", "--start", "1.5", "--end", "6", "--variant", "heavy"]
    assert command.main(["side.mp4", "--height", "1.7", "--out", str(out), *options]) == 0
    assert captured["person"] == 2 and (captured["start"], captured["end"]) == (1.5, 6.0)
    assert captured["model"].name == "heavy.task" and captured["height"] == 1.7
    assert read_trc(out / "walk.trc").position.shape[0] > 100
    assert (out / "quality.yaml").is_file() and (out / "frame_7.png").read_bytes() == b"picture"
    said = capsys.readouterr().out
    assert "complete strides" in said and "cadence" in said and "knee_angle_l" in said


def test_an_error_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "model_path", lambda variant: tmp_path / "any.task")
    assert command.main([str(tmp_path / "none.mp4"), "--height", "1.7", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("exo_capture: the video ")


def test_a_folder_that_cannot_be_written(captured, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command.main(["side.mp4", "--height", "1.7", "--out", str(tmp_path / "file")]) == 2
    assert "could not be written" in capsys.readouterr().err


def test_help_teaches_how_to_film(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    said = capsys.readouterr().out
    assert "tripod" in said and "--person" in said and "m" in said


@pytest.mark.parametrize(
    "arguments, cure",
    [
        (["a.mp4", "b.mp4", "--height", "1.7"], "--calibration"),
        (["a.mp4"], "--height"),
        (["a.mp4", "--calibration", "calib.toml"], "two or more videos"),
        (["one/a.mp4", "two/a.mp4", "--calibration", "calib.toml"], "different names"),
    ],
)
def test_what_is_missing_is_said(captured, tmp_path, capsys, arguments, cure):
    assert command.main([*arguments, "--out", str(tmp_path)]) == 2
    assert cure in capsys.readouterr().err


def test_several_cameras_by_their_names(captured, tmp_path, monkeypatch, capsys):
    asked = {}

    def capture(videos, cameras, model, **options):
        asked.update(videos=videos, cameras=[camera.name for camera in cameras], **options)
        raise ExoError("stop here; that is enough")

    monkeypatch.setattr(command, "capture_multicamera", capture)
    straight = {"matrix": np.eye(3), "distortion": np.zeros(5), "rotation": np.eye(3), "translation": np.zeros(3)}
    cameras = [Camera(name, (640, 480), **straight) for name in ("back", "left", "spare")]
    monkeypatch.setattr(command, "read_calibration", lambda path: cameras)
    videos = [str(tmp_path / "left.mp4"), str(tmp_path / "back.mp4")]
    options = ["--calibration", "calib.toml", "--person", "1", "--out", str(tmp_path)]
    assert command.main([*videos, *options]) == 2
    assert {name: path.stem for name, path in asked["videos"].items()} == {"left": "left", "back": "back"}
    assert asked["person"] == 1 and "stop here" in capsys.readouterr().err
