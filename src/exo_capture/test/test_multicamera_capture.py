"""The second look, and the verdict: where the wearer is looked for, and what is said of somebody who does not walk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from exo_capture import multicamera_capture
from exo_capture.camera_health import mirrored
from exo_capture.clip_detection import Box
from exo_capture.landmarks import Detections, hip_centre
from exo_capture.multicamera import reconstruct
from exo_capture.multicamera_capture import (
    NO_WALKING,
    MulticameraCapture,
    capture_multicamera,
    judge_walk,
    wearer_boxes,
)
from exo_capture.quality import GOOD, USABLE
from exo_capture.synthetic import NO_NOISE, film, ring
from exo_capture.synthetic_walker import walker
from exo_capture.video import Clip

RATE = 50.0
TIME = np.arange(200) / RATE
CAMERAS = ring(3, distance=5.0)

SHORT = TIME[:110]
WALK = walker(SHORT, speed=0.8)


def _capture(
    monkeypatch: pytest.MonkeyPatch,
    filmed: Sequence[Detections],
    person: int | None = None,
    synchronise: bool = False,
) -> tuple[MulticameraCapture, dict[str, float]]:
    """A capture of films in place of videos, and the share of people that each cut-out showed to the second look."""
    films = {seen.camera: seen for seen in filmed}
    shown: dict[str, float] = {}

    def open_film(path: Path, start_s: float, end_s: float) -> Clip:
        seen = films[path.stem]
        return Clip(path, RATE, *seen.size, 0, len(seen.time), seen.time)

    def detect(
        clip: Clip, model: Path, people: int, crop: Callable[[int], Box | None] | None = None, **options: object
    ) -> Detections:
        seen = films[clip.path.stem]
        if crop is None:
            return seen
        inside = []
        for frame, person in zip(seen.frame, seen.landmarks, strict=True):
            left, top, right, bottom = crop(int(frame)) or (0, 0, 0, 0)
            x, y = hip_centre(person)
            inside.append(left < x < right and top < y < bottom)
        shown[seen.camera] = float(np.mean(inside))
        return dataclasses.replace(seen, frame=seen.frame[inside], landmarks=seen.landmarks[inside])

    monkeypatch.setattr(multicamera_capture, "open_clip", open_film)
    monkeypatch.setattr(multicamera_capture, "detect_clip", detect)
    videos = {name: Path(f"{name}.mp4") for name in films}
    return capture_multicamera(videos, CAMERAS, Path("model"), person=person, synchronise=synchronise), shown


def _nose_height_m(capture: MulticameraCapture) -> float:
    return float(np.nanmean(capture.markers.position[:, capture.markers.names.index("Nose"), 1]))


def test_the_second_look_sees_what_the_first_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, shown = _capture(monkeypatch, film(WALK, SHORT, CAMERAS, NO_NOISE, seed=4), synchronise=True)
    assert min(shown.values()) > 0.95  # a picture at the end may lie outside the clocks found
    assert not capture.reconstruction.warnings
    assert capture.reconstruction.figures["reprojection_px"] < 1.0


def test_videos_of_half_the_calibrated_size(monkeypatch: pytest.MonkeyPatch) -> None:
    filmed = film(WALK, SHORT, CAMERAS, NO_NOISE, seed=4)
    half = [dataclasses.replace(d, size=(960, 540), landmarks=d.landmarks * (0.5, 0.5, 1.0)) for d in filmed]
    capture, shown = _capture(monkeypatch, half)
    assert set(shown.values()) == {1.0}
    assert capture.reconstruction.figures["reprojection_px"] < 1.0


def test_a_mirrored_camera_is_looked_at_on_its_own_side(monkeypatch: pytest.MonkeyPatch) -> None:
    filmed = film(WALK + np.array([0.6, 0.0, 0.6]), SHORT, CAMERAS, NO_NOISE, seed=4)
    filmed[1] = mirrored(filmed[1])
    capture, shown = _capture(monkeypatch, filmed)
    assert shown["cam02"] == 1.0
    assert capture.reconstruction.mirrored == {"cam02"}
    assert len(capture.detections[1].frame) == len(filmed[1].frame)


def test_what_the_first_look_says_of_a_knocked_camera_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = cv2.Rodrigues(np.radians((0.0, 22.0, 0.0)))[0]
    camera = CAMERAS[2]
    fallen = dataclasses.replace(camera, rotation=turn @ camera.rotation, translation=turn @ camera.translation)
    filmed, later = (film(WALK, SHORT, [*CAMERAS[:2], third], NO_NOISE, seed=4)[2] for third in (camera, fallen))
    before, after = filmed.frame < len(SHORT) // 2, later.frame >= len(SHORT) // 2
    knocked = dataclasses.replace(
        filmed,
        frame=np.concatenate([filmed.frame[before], later.frame[after]]),
        landmarks=np.concatenate([filmed.landmarks[before], later.landmarks[after]]),
    )
    capture, _ = _capture(monkeypatch, [*film(WALK, SHORT, CAMERAS, NO_NOISE, seed=4)[:2], knocked])
    told = [warning for warning in capture.quality.warnings if "cam03 contradicts the other cameras from" in warning]
    assert len(told) == 1


def test_the_person_asked_for_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = WALK * np.array([1.0, 0.93, 1.0]) + np.array([0.15, 0.0, 0.6])
    both = film(np.stack([WALK, smaller]), SHORT, CAMERAS, NO_NOISE, seed=2)
    heights = []
    for person in (1, 2):
        capture, _ = _capture(monkeypatch, both, person)
        heights.append(_nose_height_m(capture))
        assert not any("people are seen" in warning for warning in capture.quality.warnings)
        assert all(len(np.unique(seen.frame)) == len(seen.frame) for seen in capture.detections)
    alone = [_nose_height_m(_capture(monkeypatch, film(w, SHORT, CAMERAS, NO_NOISE, 2))[0]) for w in (WALK, smaller)]
    assert sorted(heights) == pytest.approx(sorted(alone), abs=0.02)
    assert abs(heights[0] - heights[1]) > 0.05
    capture, _ = _capture(monkeypatch, both)
    assert sum("2 people are seen about equally well" in warning for warning in capture.quality.warnings) == 1


def test_cut_outs_hold_the_wearer_and_end_with_the_recording() -> None:
    walk = walker(TIME, speed=0.8)
    seen = film(walk, TIME, CAMERAS, NO_NOISE, seed=0)
    result = reconstruct(seen, CAMERAS)
    file_time = np.arange(260) / RATE
    clip = Clip(Path("cam01.mp4"), RATE, 1920, 1080, 0, 260, file_time)
    box = wearer_boxes(result, result.cameras[0], clip)
    for index in (0, 100, 199):
        left, top, right, bottom = box(index) or (0, 0, 0, 0)
        pixels = CAMERAS[0].project(walk[index])
        inside = (pixels > (left, top)) & (pixels < (right, bottom))
        assert inside.all() and right - left < 1100
    assert box(250) is None


def test_a_walk_has_strides_and_is_good() -> None:
    walk = walker(TIME, speed=0.8)
    events, quality = judge_walk(reconstruct(film(walk, TIME, CAMERAS, NO_NOISE, seed=0), CAMERAS))
    assert min(len(events.of(side)) for side in "lr") >= 2
    assert quality.verdict == GOOD, quality.warnings
    assert abs(quality.gait["speed_m_s"] - 0.8) < 0.03


def test_somebody_who_sways_has_no_strides_and_is_told_so() -> None:
    sway = walker(TIME[:1])[0] + 0.03 * np.sin(4.0 * TIME)[:, None, None]
    events, quality = judge_walk(reconstruct(film(sway, TIME, CAMERAS, NO_NOISE, seed=0), CAMERAS), ["a note"])
    assert not events.strides and not events.heel_strikes["l"]
    assert quality.verdict == USABLE
    assert NO_WALKING in quality.warnings and "a note" in quality.warnings
