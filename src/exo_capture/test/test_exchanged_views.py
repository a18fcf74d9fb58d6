"""Exchanged sides in single cameras are found by the others and by time, and mended rather than dropped."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_capture.exchanged_views import ARMS, LEGS, Limbs, mend_exchanged
from exo_capture.landmarks import LEG_L, LEG_R
from exo_capture.synthetic import Noise, film, ring
from exo_capture.synthetic_walker import walker

TIME = np.arange(60) / 50.0
WALK = walker(TIME, speed=0.8)
GATE_PX = 35.0


def _observed(count: int) -> tuple[NDArray[np.float64], list]:
    cameras = ring(count) if count > 2 else ring([50.0, 120.0])
    seen = film(WALK, TIME, cameras, Noise(), seed=1)
    observations = np.full((count, len(TIME), 33, 3), np.nan)
    for c, detections in enumerate(seen):
        observations[c, detections.frame] = detections.landmarks
    return observations, cameras


def _exchange(observations: NDArray[np.float64], camera: int, frames: slice, limbs: Limbs) -> None:
    left, right = [*limbs.left], [*limbs.right]
    part = observations[camera, frames].copy()
    observations[camera, frames, left], observations[camera, frames, right] = (
        part[:, right].swapaxes(0, 1),
        part[:, left].swapaxes(0, 1),
    )


@pytest.mark.parametrize(("count", "limbs"), [(3, LEGS), (4, LEGS), (5, LEGS), (4, ARMS)])
def test_exchanges_are_found_and_undone(count: int, limbs: Limbs) -> None:
    original, cameras = _observed(count)
    observed = original.copy()
    _exchange(observed, 1, slice(10, 17), limbs)
    _exchange(observed, 0, slice(40, 60), limbs)
    mended, exchanged = mend_exchanged(observed, cameras, TIME, GATE_PX, limbs)
    expected = np.zeros((count, len(TIME)), dtype=bool)
    expected[1, 10:17] = expected[0, 40:] = True
    assert (exchanged != expected).mean() < 0.02
    assert np.mean((mended == original) | np.isnan(original)) > 0.99


def test_a_camera_that_takes_back_for_front_throughout() -> None:
    original, cameras = _observed(4)
    observed = original.copy()
    _exchange(observed, 2, slice(None), LEGS)
    exchanged = mend_exchanged(observed, cameras, TIME, GATE_PX, LEGS)[1]
    assert exchanged[2].mean() > 0.9 and exchanged[[0, 1, 3]].mean() < 0.05


def test_both_of_two_cameras_at_once_show_only_in_time() -> None:
    original, cameras = _observed(2)
    observed = original.copy()
    for camera in (0, 1):
        _exchange(observed, camera, slice(20, 26), LEGS)
    exchanged = mend_exchanged(observed, cameras, TIME, GATE_PX, LEGS)[1]
    assert exchanged[:, 20:26].mean() > 0.8
    assert exchanged.sum() < 16


def test_a_camera_that_sees_no_legs_is_left_alone() -> None:
    observed, cameras = _observed(3)
    observed[2][:, (*LEG_L, *LEG_R)] = np.nan
    assert not mend_exchanged(observed, cameras, TIME, GATE_PX, LEGS)[1][2].any()
