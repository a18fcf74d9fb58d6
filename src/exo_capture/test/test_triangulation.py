"""Triangulation: exact where cameras agree, robust where one is wrong, honest where the rays say little."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exo_capture.synthetic import ring
from exo_capture.triangulation import pair_errors, residuals, triangulate, views, weighted_dlt

CAMERAS = ring(4)
RANDOM = np.random.default_rng(0)
POINTS = np.array([0.0, 0.9, 0.0]) + RANDOM.uniform(-0.5, 0.5, (40, 12, 3))


def _observed(noise_px: float = 0.0, cameras: list = CAMERAS) -> np.ndarray:
    pixels = np.stack([camera.project(POINTS) for camera in cameras])
    pixels += noise_px * np.random.default_rng(1).standard_normal(pixels.shape)
    return np.concatenate([pixels, np.ones((*pixels.shape[:3], 1))], axis=3)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_clean_rays_meet(count: int) -> None:
    cameras = ring([40.0 * i for i in range(count)])
    found = triangulate(views(_observed(cameras=cameras), cameras), 50.0)
    np.testing.assert_allclose(found.position, POINTS, atol=1e-6)
    assert found.inliers.all()


def test_distortion_is_taken_into_account() -> None:
    cameras = [dataclasses.replace(c, distortion=np.array([-0.1, 0.05, 0.001, 0.0, 0.0])) for c in CAMERAS]
    found = triangulate(views(_observed(cameras=cameras), cameras), 50.0)
    np.testing.assert_allclose(found.position, POINTS, atol=1e-4)


def test_one_wrong_camera_is_outvoted_where_plain_dlt_is_not() -> None:
    observed = _observed(noise_px=2.0)
    wrong = np.random.default_rng(2).random((40, 12)) < 0.3
    observed[0][wrong, :2] += 120.0
    seen = views(observed, CAMERAS)
    found = triangulate(seen, 50.0)
    assert not found.inliers[0][wrong].any() and found.inliers[0][~wrong].mean() > 0.98
    robust = np.linalg.norm(found.position - POINTS, axis=2)
    plain = np.linalg.norm(weighted_dlt(seen) - POINTS, axis=2)
    assert robust.max() < 0.03 < plain[wrong].min()


def test_sigma_and_covariance_are_those_of_the_noise() -> None:
    found = triangulate(views(_observed(noise_px=6.0), CAMERAS), 60.0)
    np.testing.assert_allclose(found.sigma, 6.0, rtol=0.2)
    error = found.position - POINTS
    squared = np.einsum("nki,nkij,nkj->nk", error, np.linalg.inv(found.covariance), error)
    assert np.mean(squared) == pytest.approx(3.0, rel=0.25)


def test_nearly_parallel_rays_give_no_point_rather_than_a_guess() -> None:
    cameras = ring([90.0, 91.0], distance=8.0)
    found = triangulate(views(_observed(noise_px=8.0, cameras=cameras), cameras), 60.0)
    assert np.isnan(found.position).all()
    assert (found.confidence == 0.0).all()


def test_what_one_camera_sees_alone_is_no_point() -> None:
    observed = _observed()
    observed[1:, 5, 3] = np.nan
    found = triangulate(views(observed, CAMERAS), 50.0)
    assert np.isnan(found.position[5, 3]).all() and not found.inliers[:, 5, 3].any()
    assert np.isfinite(found.position).all(axis=2).sum() == 40 * 12 - 1


def test_confidence_falls_with_disagreement() -> None:
    observed = _observed(noise_px=1.0)
    observed[0, 0, 0, :2] += 300.0
    found = triangulate(views(observed, CAMERAS), 50.0)
    assert found.confidence[0, 0] < 0.8 * np.median(found.confidence)


def test_pair_errors_name_the_camera_that_is_off() -> None:
    observed = _observed()
    observed[2, ..., 1] += 40.0
    errors = pair_errors(views(observed, CAMERAS))
    assert all(np.median(errors[2, other]) > 5.0 for other in (0, 1, 3))
    assert np.median(errors[0, 1]) < 0.01


def test_residuals_have_the_sign_of_observation_less_image() -> None:
    observed = _observed()
    observed[0, ..., 0] += 3.0
    difference = residuals(views(observed, CAMERAS), POINTS)
    np.testing.assert_allclose(difference[0, ..., 0], 3.0, atol=1e-6)
    np.testing.assert_allclose(difference[1], 0.0, atol=1e-6)
