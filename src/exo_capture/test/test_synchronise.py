"""Clocks found from motion: offsets up to 2 s, other frame rates, and no answer where there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exo_capture.landmarks import Detections
from exo_capture.synchronise import Series, _parabola, find_offsets, resample
from exo_capture.synthetic import NO_NOISE, Noise, film, ring
from exo_capture.synthetic_walker import walker
from exo_common.errors import ExoError

RATE = 60.0
TIME = np.arange(round(6.0 * RATE)) / RATE
WALK = walker(TIME, speed=0.7)
CAMERAS = ring([40.0, 80.0, 130.0], distance=5.0)


def _series(seen: Detections) -> Series:
    landmarks = np.full((len(seen.time), 33, 3), np.nan)
    landmarks[seen.frame] = seen.landmarks
    return Series(seen.time, landmarks)


@pytest.mark.parametrize("starts", [(0.0, 2.0, 0.35), (0.0, -1.37, 0.5)])
def test_offsets_up_to_two_seconds_within_half_a_frame(starts: tuple[float, ...]) -> None:
    noise = dataclasses.replace(Noise(), outlier_share=0.05)
    seen = film(WALK, TIME, CAMERAS, noise, seed=3, starts_s=starts)
    found = find_offsets([[_series(s)] for s in seen], CAMERAS)
    assert np.abs(RATE * (found.offsets_s - starts)).max() < 0.5
    assert (found.confidence > 0.15).all()


def test_cameras_of_different_frame_rates() -> None:
    starts = [0.0, 0.613, -0.2]
    seen = film(WALK, TIME, CAMERAS, Noise(), seed=5, starts_s=starts, rates_hz=[60.0, 30.0, 25.0])
    found = find_offsets([[_series(s)] for s in seen], CAMERAS)
    assert np.abs(RATE * (found.offsets_s - starts)).max() < 0.5


def test_the_same_person_is_found_among_several() -> None:
    # Their ways never cross, and they are called in another order by each camera.
    other = walker(TIME + 0.4, speed=-0.4, stride_s=1.3) + np.array([0.0, 0.0, -1.2])
    starts = [0.0, 0.8, -0.4]
    first = [_series(s) for s in film(WALK, TIME, CAMERAS, Noise(), seed=1, starts_s=starts)]
    second = [_series(s) for s in film(other, TIME, CAMERAS, Noise(), seed=2, starts_s=starts)]
    candidates = [[first[0], second[0]], [second[1], first[1]], [first[2], second[2]]]
    found = find_offsets(candidates, CAMERAS)
    assert np.abs(RATE * (found.offsets_s - starts)).max() < 0.5
    assert found.person.tolist() in ([0, 1, 0], [1, 0, 1])


def test_another_walk_is_refused() -> None:
    seen = film(WALK, TIME, CAMERAS[:2], Noise(), seed=1)
    other = film(walker(TIME, speed=-0.9, stride_s=0.8) + np.array([0.0, 0.0, 1.5]), TIME, CAMERAS[:2], Noise(), seed=2)
    with pytest.raises(ExoError, match="cam02 cannot be synchronised"):
        find_offsets([[_series(seen[0])], [_series(other[1])]], CAMERAS[:2])


@pytest.mark.parametrize(("start", "order"), [(2.6, "after"), (-2.6, "before")])
def test_an_offset_out_of_reach_is_not_taken_for_one_a_stride_nearer(start: float, order: str) -> None:
    seen = film(WALK, TIME, CAMERAS, Noise(), seed=1, starts_s=[0.0, start, start])
    with pytest.raises(ExoError, match=rf"cam0[23] cannot be synchronised: .* started 2\.6 s {order} cam01"):
        find_offsets([[_series(s)] for s in seen], CAMERAS)


def test_the_best_offset_beside_unknown_ones_is_a_number() -> None:
    x = np.array([0.0, 0.1, 0.2])
    assert _parabola(x, np.array([-np.inf, 2.0, 1.0]), 1) == 0.1
    assert _parabola(x, np.array([1.0, 2.0, 1.0]), 1) == pytest.approx(0.1)


def test_resampling_keeps_an_error_in_its_own_picture() -> None:
    series = _series(film(WALK, TIME, CAMERAS[:1], NO_NOISE, seed=0)[0])
    clean = resample(series, TIME[10:60] + 0.4 / RATE)
    wild = dataclasses.replace(series, landmarks=series.landmarks.copy())
    wild.landmarks[30, 25, 0] += 150.0
    difference = np.abs(resample(wild, TIME[10:60] + 0.4 / RATE) - clean)[:, 25, 0]
    assert difference[20] == pytest.approx(150.0, abs=1.0)
    assert np.delete(difference, 20).max() < 1.0


def test_resampling_invents_nothing_where_pictures_are_missing() -> None:
    series = _series(film(WALK, TIME, CAMERAS[:1], NO_NOISE, seed=0)[0])
    fewer = Series(np.delete(series.time, np.s_[100:120]), np.delete(series.landmarks, np.s_[100:120], axis=0))
    found = resample(fewer, TIME)
    assert np.isnan(found[102:118, 25, 0]).all()
    assert np.isfinite(found[:99, 25, 0]).all()
    assert np.isnan(resample(series, np.array([-0.1, TIME[-1] + 0.1]))).all()
