import itertools
import os
import threading

import numpy as np
import pytest

from exo_capture.landmarks import body_height, hip_centre
from exo_capture.pose import PoseEstimator
from exo_capture.video import open_clip, read_frames
from exo_capture.weights import model_path
from exo_common.errors import ExoError


def test_a_missing_model_names_the_cure(tmp_path):
    with pytest.raises(ExoError, match=r"missing; run 'python -m exo_capture\.weights"):
        PoseEstimator(tmp_path / "none.task", 1)


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "fake.task"
    path.write_bytes(b"no model")
    with pytest.raises(ExoError, match="is not a pose model"):
        PoseEstimator(path, 1)


def test_an_empty_picture_holds_nobody_and_nothing_is_printed(model, capfd):
    with PoseEstimator(model, 3) as estimator:
        assert estimator.detect(np.full((120, 200, 3), 127, np.uint8)).shape == (0, 33, 3)
    assert capfd.readouterr().err == ""


def test_every_installed_variant_sees_the_walker_at_the_same_place(demo_video):
    clip = open_clip(demo_video)
    image = next(image for index, image in read_frames(clip) if index == 112)
    seen = {}
    for variant in ("lite", "full", "heavy"):
        try:
            path = model_path(variant)
        except ExoError as error:
            if variant == "full":
                pytest.skip(str(error))
            continue
        with PoseEstimator(path, 3) as estimator:
            people = estimator.detect(image)
        # The walker is in the lower half of the picture, the bystander on the wall is not.
        seen[variant] = people[np.argmax(hip_centre(people)[:, 1])]
    for a, b in itertools.combinations(seen.values(), 2):
        assert np.linalg.norm(hip_centre(a) - hip_centre(b)) < 0.1 * body_height(a)


def test_estimators_in_two_threads_leave_stderr_as_it_was(model, capfd):
    def work():
        for _ in range(3):
            with PoseEstimator(model, 1) as estimator:
                estimator.detect(np.zeros((64, 64, 3), np.uint8))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still heard")
    assert capfd.readouterr().err == "still heard"
