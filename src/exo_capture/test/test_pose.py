import numpy as np
import pytest

from exo_capture.pose import PoseEstimator
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
