import cv2
import numpy as np
import pytest

from exo_capture import monocular
from exo_capture.camera_motion import background_path, motion_px
from exo_capture.landmarks import Detections
from exo_capture.monocular import capture_sagittal
from exo_capture.path_crop import Path2D
from exo_capture.video import open_clip
from exo_common.errors import ExoError

SIZE, RATE_HZ, FRAMES = (640, 360), 30.0, 60
PERSON_PX = 200.0


def film(path, pan_px_per_s=0.0, shake_px=0.0):
    """A textured room with a large textured block that crosses it; returns who is where."""
    rng = np.random.default_rng(0)
    room = cv2.GaussianBlur(rng.integers(0, 255, (SIZE[1], 3 * SIZE[0], 3), np.uint8), (0, 0), 3)
    room = cv2.normalize(room, None, 0, 255, cv2.NORM_MINMAX)
    block = cv2.normalize(cv2.GaussianBlur(rng.integers(0, 255, (220, 90, 3), np.uint8), (0, 0), 2), None, 0, 255, 32)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), RATE_HZ, SIZE)
    landmarks = np.ones((FRAMES, 33, 3))
    for i in range(FRAMES):
        left = round(SIZE[0] + pan_px_per_s * i / RATE_HZ + shake_px * np.sin(2.0 * i))
        picture = room[:, left : left + SIZE[0]].copy()
        x = 40 + 7 * i
        picture[100:320, x : x + 90] = block
        landmarks[i, :, :2] = rng.uniform((x, 100), (x + 90, 320), (33, 2))
        writer.write(picture)
    writer.release()
    clip = open_clip(path)
    return clip, Detections("side", SIZE, clip.time, np.arange(FRAMES), landmarks)


def test_a_standing_camera_stands_whoever_walks(tmp_path):
    assert motion_px(background_path(*film(tmp_path / "still.mp4"))) < 0.005 * PERSON_PX


@pytest.mark.parametrize("pan", [20.0, -60.0])
def test_a_pan_is_measured(tmp_path, pan):
    path = background_path(*film(tmp_path / "pan.mp4", pan_px_per_s=pan))
    expected = -pan * 0.1 * (len(path) - 1)
    assert path[-1, 0] == pytest.approx(expected, rel=0.05) and abs(path[-1, 1]) < 2.0


def test_a_hand_held_camera_is_noticed(tmp_path):
    assert motion_px(background_path(*film(tmp_path / "hand.mp4", shake_px=12.0))) > 0.05 * PERSON_PX


def test_a_featureless_background_counts_as_standing(tmp_path):
    clip, people = film(tmp_path / "still.mp4")
    everywhere = people.landmarks.copy()
    everywhere[:, 0, :2], everywhere[:, 1, :2] = 0.0, SIZE
    crowd = Detections("side", SIZE, clip.time, people.frame, everywhere)
    assert motion_px(background_path(clip, crowd)) == 0.0


def test_a_moving_camera_is_refused_before_the_second_pass(tmp_path, monkeypatch):
    clip, people = film(tmp_path / "pan.mp4", pan_px_per_s=60.0)
    path = Path2D(np.arange(FRAMES), np.zeros((FRAMES, 2)), np.full(FRAMES, PERSON_PX))
    monkeypatch.setattr(monocular, "detect_clip", lambda *_, **__: people)
    monkeypatch.setattr(monocular, "find_tracks", lambda *_: [])
    monkeypatch.setattr(monocular, "choose_walker", lambda *_: None)
    monkeypatch.setattr(monocular, "walker_path", lambda *_: path)
    with pytest.raises(ExoError, match=r"the camera of .*pan.mp4 moves .*tripod"):
        capture_sagittal(clip.path, 1.7, tmp_path / "any.task")
