"""Virtual cameras: where they stand, and that their faults are the stated ones."""

from __future__ import annotations

import numpy as np
import pytest

from exo_capture.landmarks import LEG_L, LEG_R
from exo_capture.synthetic import NO_NOISE, Noise, film, offset_keypoints, ring

TIME = np.arange(6000) / 60.0
STILL = np.broadcast_to(np.array([0.0, 0.9, 0.0]), (len(TIME), 33, 3))


def test_cameras_look_at_the_target_upright() -> None:
    cameras = ring([0.0, 90.0], distance=4.0)
    for camera in cameras:
        np.testing.assert_allclose(camera.project(np.array([0.0, 0.9, 0.0])), (960.0, 540.0), atol=1e-9)
        assert camera.project(np.array([0.0, 1.9, 0.0]))[1] < 540.0
    np.testing.assert_allclose(cameras[1].centre, (0.0, 1.2, 4.0), atol=1e-12)
    # From the walker's right, forward is to the right in the picture; from the front, the walker's left is.
    assert cameras[1].project(np.array([0.5, 0.9, 0.0]))[0] > 960.0
    assert cameras[0].project(np.array([0.0, 0.9, -0.5]))[0] > 960.0


def test_noise_has_the_stated_size_and_memory() -> None:
    seen = film(STILL, TIME, ring([90.0]), Noise(dropout_share=0.0), seed=3)[0]
    error = seen.landmarks[:, :, :2] - (960.0, 540.0)
    assert error.std() == pytest.approx(np.hypot(8.0, 5.0), rel=0.05)
    lag = 30
    covariance = np.mean(error[lag:] * error[:-lag])
    assert covariance == pytest.approx(64.0 * np.exp(-1.0), rel=0.2)


def test_dropout_and_outliers_have_the_stated_share_and_leave_the_rest_alone() -> None:
    plain = film(STILL, TIME, ring([90.0]), Noise(), seed=1)[0]
    wild = film(STILL, TIME, ring([90.0]), Noise(outlier_share=0.05), seed=1)[0]
    assert np.isnan(plain.landmarks[:, :, 0]).mean() == pytest.approx(0.05, abs=0.01)
    shift = np.linalg.norm(wild.landmarks[:, :11, :2] - plain.landmarks[:, :11, :2], axis=2)
    moved = shift[np.isfinite(shift)] > 0.0
    assert moved.mean() == pytest.approx(0.05, abs=0.01)
    assert shift[shift > 0.0].min() >= 50.0 and shift[shift > 0.0].max() <= 200.0


def test_legs_are_exchanged_as_a_whole() -> None:
    points = STILL.copy()
    points[:, LEG_L, 0] += 0.3
    noise = Noise(0.0, white_px=0.0, dropout_share=0.0, outlier_share=0.1, swapped_part=1.0)
    seen = film(points, TIME, ring([90.0]), noise, seed=0)[0].landmarks
    exchanged = seen[:, LEG_R[0], 0] > 1000.0
    assert 0.05 < exchanged.mean() < 0.15
    np.testing.assert_array_equal(seen[:, LEG_R, 0] > 1000.0, np.repeat(exchanged[:, None], 5, axis=1))


def test_clocks_and_frame_rates() -> None:
    points = STILL.copy()
    points[:, :, 0] = 0.5 * np.sin(TIME)[:, None]
    cameras = ring([90.0, 60.0])
    first, second = film(points, TIME, cameras, NO_NOISE, 0, starts_s=[0.0, 1.3], rates_hz=[60.0, 25.0])
    assert 1.0 / np.diff(second.time).mean() == pytest.approx(25.0)
    common = second.time + 1.3
    expected = cameras[1].project(np.column_stack([0.5 * np.sin(common), 0.9 + 0.0 * common, 0.0 * common]))
    np.testing.assert_allclose(second.landmarks[:, 0, :2], expected, atol=0.01)
    assert len(first.time) == len(TIME)


def test_keypoint_offsets_are_fixed_in_the_segment() -> None:
    points = np.zeros((2, 33, 3))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    rotations = np.stack([np.broadcast_to(np.eye(3), (33, 3, 3)), np.broadcast_to(turn, (33, 3, 3))])
    shifted = offset_keypoints(points, rotations, seed=5)
    length = np.linalg.norm(shifted, axis=2)
    assert ((length >= 0.01) & (length <= 0.02)).all()
    np.testing.assert_allclose(shifted[1], shifted[0] @ turn.T)
    np.testing.assert_array_equal(shifted, offset_keypoints(points, rotations, seed=5))


def test_two_people_are_reported_frame_by_frame() -> None:
    other = STILL + np.array([0.8, 0.0, 0.3])
    seen = film(np.stack([STILL, other]), TIME, ring([90.0]), NO_NOISE, seed=0)[0]
    np.testing.assert_array_equal(seen.frame, np.repeat(np.arange(len(TIME)), 2))
