import cv2
import numpy as np
import pytest

from exo_capture.video import open_clip, read_frames
from exo_common.errors import ExoError


def write_video(path, frames, rate=30.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 2 * i, np.uint8))
    writer.release()
    return path


def test_missing_file(tmp_path):
    with pytest.raises(ExoError, match=r"nobody\.mp4 is missing"):
        open_clip(tmp_path / "nobody.mp4")


@pytest.mark.parametrize("content", [b"", b"this is no video", bytes(range(256)) * 50])
def test_unreadable_file(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ExoError, match="cannot be read as a video; convert"):
        open_clip(path)


def test_five_frames(tmp_path):
    with pytest.raises(ExoError, match=r"holds 5 frames \(0\.2 s\)"):
        open_clip(write_video(tmp_path / "short.mp4", 5))


def test_too_few_frames_per_second(tmp_path):
    with pytest.raises(ExoError, match="10 frames/s; record at 20"):
        open_clip(write_video(tmp_path / "slow.mp4", 60, rate=10.0))


def test_part_after_the_end(tmp_path):
    with pytest.raises(ExoError, match="holds 0 frames"):
        open_clip(write_video(tmp_path / "whole.mp4", 60), 30.0, 40.0)


def test_a_part_of_a_clip_is_read_frame_by_frame(tmp_path):
    clip = open_clip(write_video(tmp_path / "whole.mp4", 100), 1.0, 3.0)
    assert (clip.first, clip.stop, clip.count, clip.width, clip.height) == (30, 90, 60, 64, 48)
    frames = list(read_frames(clip))
    assert [index for index, _ in frames] == list(range(30, 90))
    np.testing.assert_allclose([image.mean() for _, image in frames], 2.0 * np.arange(30, 90), atol=4.0)
