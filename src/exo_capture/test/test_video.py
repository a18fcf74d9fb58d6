import dataclasses
import struct
import threading

import cv2
import numpy as np
import pytest

from exo_capture.clip_detection import detect_clip
from exo_capture.video import Clip, open_clip, read_frames
from exo_common.errors import ExoError


def write_video(path, frames, rate=30.0, step=2):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), step * i, np.uint8))
    writer.release()
    return path


def with_frame_durations(path, durations_s):
    """Give every frame of an MP4 its own duration: a new time-to-sample table, and the sizes of what holds it."""
    data = bytearray(path.read_bytes())
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    ticks = [round(duration * scale) for duration in durations_s]
    entry = data.index(b"elst") + 12  # the edit list would cut off what is longer than before
    struct.pack_into(">I", data, entry, 2**31 - 1)
    start = data.index(b"stts") - 4
    old = struct.unpack_from(">I", data, start)[0]
    table = struct.pack(">I4sII", 16 + 8 * len(ticks), b"stts", 0, len(ticks))
    table += b"".join(struct.pack(">II", 1, tick) for tick in ticks)
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        place = data.index(name) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(table) - old)
    data[start : start + old] = table
    path.write_bytes(data)
    return path


def turned(path):
    """Mark an MP4 as recorded by a phone held upright: a quarter turn in the track header's matrix."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
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


@pytest.mark.parametrize("frames", [1, 5])
def test_a_few_frames(tmp_path, frames):
    with pytest.raises(ExoError, match=rf"holds {frames} frames \(0\.[02] s\)"):
        open_clip(write_video(tmp_path / "short.mp4", frames))


def test_too_few_frames_per_second(tmp_path):
    with pytest.raises(ExoError, match="10 frames/s; record at 20"):
        open_clip(write_video(tmp_path / "slow.mp4", 60, rate=10.0))


def test_part_after_the_end(tmp_path):
    with pytest.raises(ExoError, match="holds 0 frames"):
        open_clip(write_video(tmp_path / "whole.mp4", 60), 30.0, 40.0)


def test_a_part_of_a_clip_is_read_frame_by_frame(tmp_path):
    clip = open_clip(write_video(tmp_path / "whole.mp4", 100), 1.0, 3.0)
    assert (clip.first, clip.stop, clip.count, clip.width, clip.height) == (30, 90, 60, 64, 48)
    assert not clip.variable_rate and clip.note is None
    np.testing.assert_allclose(clip.time, np.arange(30, 90) / 30.0, atol=1e-9)
    frames = list(read_frames(clip))
    assert [index for index, _ in frames] == list(range(30, 90))
    np.testing.assert_allclose([image.mean() for _, image in frames], 2.0 * np.arange(30, 90), atol=4.0)


def test_a_variable_frame_rate_is_told_and_its_times_are_true(tmp_path):
    durations = np.where(np.arange(90) % 3 == 0, 2.0, 1.0) / 40.0
    clip = open_clip(with_frame_durations(write_video(tmp_path / "phone.mp4", 90), durations))
    true = np.concatenate([[0.0], np.cumsum(durations)[:-1]])
    np.testing.assert_allclose(clip.time, true, atol=1e-4)
    assert clip.variable_rate and "25 to 50 ms" in clip.note
    assert clip.rate_hz == pytest.approx(30.0, rel=0.01)
    part = open_clip(clip.path, 1.0, 2.8)
    assert part.time[0] == pytest.approx(1.0, abs=0.025) and part.time[-1] == pytest.approx(2.8, abs=0.05)


def test_rounded_time_stamps_are_no_variable_rate(tmp_path):
    time = np.round(np.arange(120) / 59.94, 3)
    assert not Clip(tmp_path / "a.mkv", 59.94, 64, 48, 0, 120, time).variable_rate


def test_one_lost_frame_is_a_variable_rate(tmp_path):
    time = np.delete(np.arange(121), 60) / 60.0
    assert Clip(tmp_path / "a.mkv", 60.0, 64, 48, 0, 120, time).variable_rate


def test_time_stamps_that_stand_still_are_refused(tmp_path):
    durations = np.where(np.arange(60) == 30, 0.0, 1.0 / 30.0)
    path = with_frame_durations(write_video(tmp_path / "stuck.mp4", 60), durations)
    with pytest.raises(ExoError, match=r"do not rise in 1 of 60 frames.*constant frame rate"):
        open_clip(path)


def test_a_video_of_an_upright_phone_stands_upright(tmp_path):
    clip = open_clip(turned(write_video(tmp_path / "upright.mp4", 60)))
    assert (clip.width, clip.height) == (48, 64)
    assert next(read_frames(clip))[1].shape == (64, 48, 3)


def test_a_file_cut_off_after_opening_is_told(tmp_path):
    clip = open_clip(write_video(tmp_path / "whole.mp4", 60))
    with pytest.raises(ExoError, match="only up to frame 60"):
        list(read_frames(dataclasses.replace(clip, stop=70)))


def test_a_reader_who_stops_early_leaves_no_thread(tmp_path):
    clip = open_clip(write_video(tmp_path / "whole.mp4", 60))
    frames = read_frames(clip)
    next(frames)
    frames.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


class Brightness:
    """A pose backend that sees one person, whose place tells the picture's brightness, in every second picture."""

    def __init__(self, model, people):
        self.closed = False

    def detect(self, image):
        # The codec's conversion to YUV and back darkens this grey by 2 to 3.
        level = round((float(np.median(image)) + 2.5) / 5.0)
        return np.full((level % 2, 33, 3), float(level))

    def close(self):
        self.closed = True


@pytest.mark.parametrize("workers", [1, 3])
def test_a_clip_is_detected_in_order_whatever_the_number_of_workers(tmp_path, workers):
    clip = open_clip(write_video(tmp_path / "left.mp4", 51, step=5), 0.1)
    made, shares = [], []

    def backend(model, people):
        made.append(Brightness(model, people))
        return made[-1]

    seen = detect_clip(clip, tmp_path, 1, progress=shares.append, backend=backend, workers=workers)
    assert seen.camera == "left" and seen.size == (64, 48)
    np.testing.assert_array_equal(seen.time, clip.time)
    np.testing.assert_array_equal(seen.frame, np.arange(0, 48, 2))
    np.testing.assert_array_equal(seen.landmarks[:, 0, 0], seen.frame + clip.first)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert len(made) == workers and all(estimator.closed for estimator in made)


def test_a_cut_out_is_mapped_back_and_a_frame_without_one_is_skipped(tmp_path):
    clip = open_clip(write_video(tmp_path / "whole.mp4", 50, step=5))
    whole = detect_clip(clip, tmp_path, 1, backend=Brightness)
    cut = detect_clip(
        clip, tmp_path, 1, crop=lambda i: (10, 20, 30, 40) if i < 30 else None, backend=Brightness, workers=2
    )
    assert cut.frame.max() < 30
    np.testing.assert_allclose(cut.landmarks - whole.landmarks[: len(cut.frame)], [[[10.0, 20.0, 0.0]] * 33] * 15)


def test_a_failing_estimator_ends_the_work(tmp_path):
    class Failing(Brightness):
        def detect(self, image):
            raise ExoError("the model is broken; get another")

    clip = open_clip(write_video(tmp_path / "whole.mp4", 60))
    with pytest.raises(ExoError, match="model is broken"):
        detect_clip(clip, tmp_path, 1, backend=Failing, workers=2)


def test_nobody_in_the_whole_clip(tmp_path):
    class Empty(Brightness):
        def detect(self, image):
            return np.empty((0, 33, 3))

    seen = detect_clip(open_clip(write_video(tmp_path / "a.mp4", 60)), tmp_path, 1, backend=Empty)
    assert seen.landmarks.shape == (0, 33, 3) and seen.frame.shape == (0,) and len(seen.time) == 60
