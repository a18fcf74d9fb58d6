import cv2
import numpy as np
import pytest

from exo_capture.boards import Sighting, printed_board
from exo_capture.bundle import Estimate, Pose, View, adjust, lens_of, residuals

BOARD = printed_board("A2")
LENS = np.array([1000.0, 1003.0, 640.0, 360.0, -0.1, 0.02, 0.001, -0.001])


def pose(generator, turn, shift):
    return np.concatenate([generator.uniform(-turn, turn, 3), shift + generator.uniform(-0.2, 0.2, 3)])


@pytest.fixture
def truth():
    """Two cameras half a metre apart, and boards around two metres before them."""
    generator = np.random.default_rng(4)
    cameras = {"a": Pose(np.eye(3), np.zeros(3)), "b": Pose.of(np.array([0.02, -0.2, 0.05, -0.5, 0.0, 0.1]))}
    boards = [Pose.of(pose(generator, 0.6, [-0.2, -0.15, 2.0])) for _ in range(8)]
    return Estimate({"a": LENS, "b": LENS * 1.1}, cameras, boards)


def seen(truth):
    views = []
    ids = np.arange(len(BOARD.corners))
    for index, board in enumerate(truth.boards):
        for name, camera in truth.cameras.items():
            vector = (camera @ board).vector
            matrix, distortion = lens_of(truth.lenses[name])
            pixels = cv2.projectPoints(BOARD.corners, vector[:3], vector[3:], matrix, distortion)[0][:, 0]
            views.append(View(name, index, Sighting(ids, pixels)))
    return views


def unknowns(estimate):
    return np.concatenate(
        [*estimate.lenses.values(), estimate.cameras["b"].vector, *(p.vector for p in estimate.boards)]
    )


def started(truth, size=1.0):
    generator = np.random.default_rng(5)
    scale = np.full(len(unknowns(truth)), 0.01)
    for first in (0, len(LENS)):
        scale[first : first + 4] = 10.0
    return truth.moved(size * scale * generator.standard_normal(len(scale)))


def test_exact_pictures_give_the_exact_rig(truth):
    views = seen(truth)
    start = started(truth)
    assert max(np.abs(part).max() for part in residuals(start, views, BOARD)) > 10.0
    found = adjust(start, views, BOARD)
    assert max(np.abs(part).max() for part in residuals(found, views, BOARD)) < 1e-4
    np.testing.assert_allclose(unknowns(found), unknowns(truth), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.cameras["a"].rotation, np.eye(3))


def test_a_few_misread_corners_pull_little(truth):
    views = seen(truth)
    for view in views[::3]:
        view.sighting.pixels[3] += 40.0
    found = adjust(started(truth, 0.3), views, BOARD)
    np.testing.assert_allclose(found.cameras["b"].translation, truth.cameras["b"].translation, atol=0.01)


def test_a_step_moves_everything_but_the_first_camera(truth):
    step = np.arange(1.0, len(unknowns(truth)) + 1.0) * 1e-4
    moved = truth.moved(step)
    np.testing.assert_allclose(unknowns(moved), unknowns(truth) + step, atol=1e-9)
