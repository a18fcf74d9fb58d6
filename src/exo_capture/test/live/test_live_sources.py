"""Sources keep time, keep only the newest picture, and say what is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from exo_capture import live_sources
from exo_capture.live_sources import DeviceMode, DeviceSource, FileSource, Mailbox, Picture, Source
from exo_common.clock import NS_PER_S

RATE_HZ, FRAMES = 25.0, 20
IMAGE = np.zeros((4, 4, 3), np.uint8)


def picture(stamp_ns: int) -> Picture:
    return Picture(IMAGE, stamp_ns)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Pictures that are as bright as their number."""
    path = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE_HZ, (64, 48))
    for i in range(FRAMES):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    return path


def collect(source: Source, pause_s: float = 0.0, until: int = 10**9) -> list[Picture]:
    """Everything a consumer gets who needs `pause_s` for each picture."""
    pictures: list[Picture] = []
    source.start()
    while len(pictures) < until:
        taken = source.mailbox.take(0.3)
        if taken is not None:
            pictures.append(taken)
            time.sleep(pause_s)
        elif source.finished:
            break
    source.close()
    return pictures


def test_the_newest_picture_wins_and_the_others_are_counted() -> None:
    box = Mailbox(lambda: 100)
    for stamp in (10, 20, 30):
        box.put(picture(stamp))
    taken = box.take(0.0)
    assert taken is not None and taken.stamp_ns == 30
    assert box.take(0.0) is None
    assert (box.counts.received, box.counts.dropped) == (3, 2)


def test_repeated_backward_and_old_stamps_are_refused_and_counted() -> None:
    now = 5 * NS_PER_S
    box = Mailbox(lambda: now)
    for stamp in (now - 10, now - 10, now - 20, now - 2 * NS_PER_S):
        box.put(picture(stamp))
    taken = box.take(0.0)
    assert taken is not None and taken.stamp_ns == now - 10
    box.put(picture(now - 10))
    assert box.take(0.0) is None, "a picture came twice"
    fresh = Mailbox(lambda: now)
    fresh.put(picture(0))
    assert (box.counts.out_of_order, box.counts.stale, box.counts.dropped, fresh.counts.stale) == (3, 1, 0, 1)


def test_a_stamp_from_the_future_does_not_end_the_camera() -> None:
    now = 5 * NS_PER_S
    box = Mailbox(lambda: now)
    for stamp in (now + 3600 * NS_PER_S, now):
        box.put(picture(stamp))
    taken = box.take(0.0)
    assert taken is not None and taken.stamp_ns == now
    assert (box.counts.stale, box.counts.out_of_order) == (1, 0)


def test_a_clock_that_was_set_back_is_believed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, elapsed = 5000 * NS_PER_S, 0.0
    box = Mailbox(lambda: now)
    monkeypatch.setattr(live_sources.time, "monotonic", lambda: elapsed)
    box.put(picture(now))
    box.take(0.0)
    now -= 3600 * NS_PER_S
    taken = []
    for _ in range(40):
        now, elapsed = now + NS_PER_S // 20, elapsed + 0.05
        box.put(picture(now))
        if (new := box.take(0.0)) is not None:
            taken.append(new.stamp_ns)
    assert 15 <= len(taken) <= 25 and taken[-1] == now
    assert box.counts.out_of_order == 40 - len(taken)


def test_a_file_is_played_at_its_own_pace(video: Path) -> None:
    pictures = collect(FileSource(video))
    stamps = np.array([p.stamp_ns for p in pictures])
    numbers = np.round((stamps - stamps[0]) / NS_PER_S * RATE_HZ).astype(int)
    np.testing.assert_allclose((stamps - stamps[0]) / NS_PER_S, numbers / RATE_HZ, atol=1e-6)
    brightness = np.array([p.image.mean() for p in pictures])
    np.testing.assert_allclose(brightness, 10 * numbers, atol=6)


def test_who_is_slow_gets_fewer_pictures_but_no_old_ones(video: Path) -> None:
    source, ages = FileSource(video), []
    source.start()
    taken = 0
    while not source.finished:
        new = source.mailbox.take(0.3)
        if new is not None:
            ages.append((time.time_ns() - new.stamp_ns) / NS_PER_S)
            taken += 1
            time.sleep(0.15)
    taken += source.mailbox.take(0.0) is not None
    source.close()
    counts = source.mailbox.counts
    assert counts.received == FRAMES == taken + counts.dropped
    assert counts.dropped > FRAMES / 2
    assert np.median(ages) < 2.0 / RATE_HZ


def test_a_loop_goes_on_in_time(video: Path) -> None:
    stamps = [p.stamp_ns for p in collect(FileSource(video, loop=True), until=FRAMES + 5)]
    assert min(np.diff(stamps)) > 0
    assert stamps[-1] - stamps[0] > FRAMES / RATE_HZ * 0.99 * NS_PER_S


def test_the_picture_is_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE_HZ, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), (0, 0, 200), np.uint8))
    writer.release()
    colour = collect(FileSource(path))[0].image.mean(axis=(0, 1))
    assert colour[0] > 150 > 50 > colour[2]


def test_files_that_cannot_be_played_say_so(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, why in ((tmp_path / "none.mp4", "is missing"), (text, "cannot be read as a video")):
        source = FileSource(path, loop=True)
        assert collect(source) == []
        assert source.finished and why in source.problem


class FakeCapture:
    """A camera that comes up at the second attempt and gives three pictures each time."""

    opened = 0

    def __init__(self, device: object, backend: int) -> None:
        type(self).opened += 1
        self._pictures = 0 if type(self).opened == 1 else 3

    def isOpened(self) -> bool:  # noqa: N802
        return self._pictures > 0

    def grab(self) -> bool:
        time.sleep(0.01)
        self._pictures -= 1
        return self._pictures >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, IMAGE

    def set(self, key: int, value: float) -> bool:
        return True

    def release(self) -> None:
        pass


def test_a_camera_is_tried_again_when_missing_and_when_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "opened", 0)
    monkeypatch.setattr(live_sources.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(live_sources, "RETRY_S", 0.2)
    source, problems, before = DeviceSource("/dev/video0", DeviceMode()), [], time.time_ns()
    source.start()

    def heard(count: int) -> Callable[[], bool]:
        def look() -> bool:
            if source.problem not in problems:
                problems.append(source.problem)
            return source.mailbox.counts.received >= count

        return look

    wait_for(heard(6))
    source.close()
    assert not [t for t in threading.enumerate() if "/dev/video0" in t.name]
    text: Any = " ".join(problems)
    assert "cannot be opened; plug it in" in text and "stopped giving pictures" in text and "" in problems
    taken = source.mailbox.take(0.0)
    assert taken is not None and before < taken.stamp_ns <= time.time_ns()


def test_a_closed_file_leaves_no_thread(video: Path) -> None:
    source = FileSource(video, loop=True)
    source.start()
    wait_for(lambda: source.mailbox.counts.received > 2)
    source.close()
    assert not [t for t in threading.enumerate() if str(video) in t.name]
