import cv2
import numpy as np
import pytest

from exo_capture.cameras import Camera


@pytest.fixture
def camera():
    """Two metres in front of the room's origin, one metre up, turned a little; a lens with every coefficient."""
    rotation = cv2.Rodrigues(np.array([0.1, np.pi - 0.2, 0.05]))[0] @ np.diag([-1.0, -1.0, 1.0])
    matrix = np.array([[1500.0, 0.0, 960.0], [0.0, 1490.0, 540.0], [0.0, 0.0, 1.0]])
    distortion = np.array([-0.12, 0.08, 0.001, -0.0008, -0.01])
    return Camera("c", (1920, 1080), matrix, distortion, rotation, -rotation @ np.array([0.0, 1.0, 2.0]))


def in_view(camera, n=50):
    """Points (n, 3) of the room in front of the camera."""
    generator = np.random.default_rng(1)
    seen = generator.uniform((-0.5, -0.3, 2.0), (0.5, 0.3, 6.0), (n, 3)) * [[2.0, 2.0, 1.0]]
    return (seen - camera.translation) @ camera.rotation


def test_pixels_and_back_are_the_same_ray(camera):
    points = in_view(camera)
    rays = camera.normalised(camera.project(points))
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ camera.projection.T
    np.testing.assert_allclose(rays, homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-6)


def test_without_a_lens_the_pinhole_formula_holds(camera):
    pinhole = Camera(camera.name, camera.size, camera.matrix, np.zeros(5), camera.rotation, camera.translation)
    points = in_view(camera)
    seen = points @ camera.rotation.T + camera.translation
    expected = (seen / seen[:, 2:]) @ camera.matrix.T
    np.testing.assert_allclose(pinhole.project(points), expected[:, :2], atol=1e-9)
    assert np.abs(camera.project(points) - pinhole.project(points)).max() > 2.0, "the lens does something"


def test_the_centre_is_where_the_camera_stands(camera):
    np.testing.assert_allclose(camera.centre, [0.0, 1.0, 2.0], atol=1e-12)


def test_shapes_are_kept_and_what_is_missing_stays_missing(camera):
    points = in_view(camera, 12).reshape(3, 4, 3)
    points[1, 2] = np.nan
    pixels = camera.project(points)
    assert pixels.shape == (3, 4, 2)
    assert np.isnan(pixels[1, 2]).all() and np.isfinite(pixels).sum() == 22
    back = camera.normalised(pixels)
    assert np.isnan(back[1, 2]).all() and np.isfinite(back).sum() == 22
    assert np.isnan(camera.project(np.full((2, 3), np.nan))).all()
    assert np.isnan(camera.normalised(np.full((2, 2), np.nan))).all()


def test_behind_the_camera_nothing_is_seen(camera):
    front = in_view(camera)[:1]
    behind = 2.0 * camera.centre - front
    pixels = camera.project(np.concatenate([front, behind]))
    assert np.isfinite(pixels[0]).all() and np.isnan(pixels[1]).all()
