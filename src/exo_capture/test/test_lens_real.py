"""A real camera's checkerboard photographs give the lens that its maker's own calibration states."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from exo_capture.boards import Board
from exo_capture.calibration_files import read_calibration
from exo_capture.lens import calibrate_lens


def test_real_photographs_give_the_makers_lens():
    found = find_spec("Pose2Sim")
    folder = Path(found.origin).parent / "Demo_SinglePerson" / "calibration" if found and found.origin else Path()
    photographs = sorted((folder / "intrinsics" / "int_cam01_img").glob("*.jpg"))
    if len(photographs) < 7:
        pytest.skip("the installed pose2sim carries no checkerboard photographs")
    board = Board(8, 5, 0.06, 0.0)
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in photographs]
    sightings = [sighting for picture in pictures if (sighting := board.find(picture)) is not None]
    assert len(sightings) == 7
    lens = calibrate_lens("cam01", sightings, board, pictures[0].shape[::-1])
    maker = read_calibration(folder / "Calib.qca.txt")[0]
    assert lens.error_px < 0.5
    np.testing.assert_allclose(lens.matrix[[0, 1], [0, 1]], maker.matrix[[0, 1], [0, 1]], rtol=0.01)
    assert lens.distortion[0] == pytest.approx(maker.distortion[0], abs=0.03)
