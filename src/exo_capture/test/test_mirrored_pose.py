import numpy as np
import pytest

from exo_capture.landmarks import LEG_L, LEG_R
from exo_capture.mirrored_pose import OTHER_SIDE, MirroredPose

WIDTH, HEIGHT = 200, 400


class Biased:
    """Sees the person where they are, but 6 px too far to the left of whatever picture it is given."""

    def __init__(self, model, people):
        self.closed = False

    def detect(self, image):
        where = np.argwhere(image[:, :, 0] > 0)
        order = np.argsort(image[where[:, 0], where[:, 1], 0])
        return np.column_stack([where[order][:, ::-1] - (6.0, 0.0), np.ones(33)])[None]

    def close(self):
        self.closed = True


@pytest.fixture
def picture():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rng = np.random.default_rng(0)
    places = np.column_stack([rng.choice(np.arange(20, 180), 33, False), rng.choice(np.arange(20, 380), 33, False)])
    for slot, (x, y) in enumerate(places):
        image[y, x, 0] = slot + 1
    image[0, 0, 1] = 1
    return image, places


def test_the_bias_of_the_estimator_cancels(picture, tmp_path):
    image, places = picture

    class Mirrored(Biased):
        def detect(self, image):
            # In the mirror a left arm looks like a right one.
            found = super().detect(image)
            return found if image[0, 0, 1] else found[:, OTHER_SIDE]

    estimator = MirroredPose(tmp_path, 1, Mirrored)
    found = estimator.detect(image)
    np.testing.assert_allclose(found[0, :, :2], places, atol=1.0)
    estimator.close()


def test_legs_on_which_the_looks_disagree_are_not_mixed(picture, tmp_path):
    image, places = picture

    class Swapping(Biased):
        def detect(self, image):
            found = super().detect(image)
            if image[0, 0, 1]:
                return found
            found = found[:, OTHER_SIDE]
            found[:, [*LEG_L, *LEG_R]] = found[:, [*LEG_R, *LEG_L]]
            return found

    found = MirroredPose(tmp_path, 1, Swapping).detect(image)
    np.testing.assert_allclose(found[0, :, :2], places, atol=1.0)


def test_nobody_in_the_mirror(picture, tmp_path):
    image, places = picture

    class Shy(Biased):
        def detect(self, image):
            return super().detect(image) if image[0, 0, 1] else np.empty((0, 33, 3))

    found = MirroredPose(tmp_path, 1, Shy).detect(image)
    np.testing.assert_allclose(found[0, :, :2], places - (6.0, 0.0))
