"""The second look, and the verdict: where the wearer is looked for, and what is said of somebody who does not walk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exo_capture.multicamera import reconstruct
from exo_capture.multicamera_capture import NO_WALKING, judge_walk, wearer_boxes
from exo_capture.quality import GOOD, USABLE
from exo_capture.synthetic import NO_NOISE, film, ring
from exo_capture.synthetic_walker import walker
from exo_capture.video import Clip

RATE = 50.0
TIME = np.arange(200) / RATE
CAMERAS = ring(3, distance=5.0)


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
