"""Any calibration's room becomes OpenSim's: up, forward, floor."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from exo_capture.alignment import align
from exo_capture.landmarks import HEELS, HIPS, TOES
from exo_capture.synthetic import ring
from exo_capture.synthetic_walker import walker

TIME = np.arange(150) / 50.0


@pytest.mark.parametrize("speed", [1.2, 0.0, -0.8])
@pytest.mark.parametrize("turn", [(0.0, 2.1, 0.0), (np.pi / 2.0, 0.0, 0.0), (0.0, 0.0, -np.pi / 2.0)])
def test_walk_faces_x_on_a_floor_at_zero(speed: float, turn: tuple[float, float, float]) -> None:
    walk = walker(TIME, speed)
    room = walk @ cv2.Rodrigues(np.array(turn))[0].T + np.array([3.0, -1.0, 2.0])
    found = align(room)
    aligned = found.points(room)
    assert np.abs(aligned[..., 1] - walk[..., 1]).max() < 0.05
    forward = (aligned[:, TOES] - aligned[:, HEELS]).mean(axis=(0, 1))
    across = (aligned[:, HIPS[1]] - aligned[:, HIPS[0]]).mean(axis=0)
    assert forward[0] > 0.1 and abs(forward[2]) < 0.02
    assert across[2] == pytest.approx(0.18, abs=0.01)
    travel = aligned[-1, HIPS].mean(axis=0) - aligned[0, HIPS].mean(axis=0)
    assert travel[0] == pytest.approx(speed * (TIME[-1] - TIME[0]), abs=0.02)


def test_a_leaning_room_is_put_upright_by_the_body_unless_up_is_given() -> None:
    tilt = cv2.Rodrigues(np.radians([0.0, 0.0, 35.0]))[0]
    room = walker(TIME) @ tilt.T
    by_body, given = align(room), align(room, tilt @ np.array([0.0, 1.0, 0.0]))
    assert "the body's mean line" in by_body.facts["vertical"] and given.facts["vertical"] == "given"
    np.testing.assert_allclose(given.rotation @ tilt @ (0.0, 1.0, 0.0), (0.0, 1.0, 0.0), atol=1e-9)
    assert (by_body.rotation @ tilt)[1, 1] > np.cos(np.radians(6.0))


def test_cameras_follow_the_points() -> None:
    room = walker(TIME) @ cv2.Rodrigues(np.array([np.pi / 2.0, 0.3, 0.0]))[0].T
    found, camera = align(room), ring([30.0])[0]
    np.testing.assert_allclose(found.camera(camera).project(found.points(room)), camera.project(room), atol=1e-6)


def test_missing_points_do_not_matter() -> None:
    walk = walker(TIME)
    walk[40:90, HEELS[0]] = np.nan
    walk[:10] = np.nan
    found = align(walk)
    np.testing.assert_allclose(found.rotation, np.eye(3), atol=0.03)
