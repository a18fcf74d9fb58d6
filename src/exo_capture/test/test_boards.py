import re
import zlib

import cv2
import numpy as np
import pytest

from exo_capture.boards import PAPER, Board, printed_board, read_board, write_board, write_pdf
from exo_common.errors import ExoError

PX_PER_M = 1500.0
CHECKERBOARD = Board(8, 5, 0.05, 0.0)


def drawn(rectangles, size_m, px_per_m=PX_PER_M):
    image = np.full(np.round(np.array(size_m)[::-1] * px_per_m).astype(int), 255, np.uint8)
    edges = np.column_stack([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]])
    # A hair more, so that edges halfway between two pixels fall on the same side for neighbours.
    for left, top, right, bottom in np.round(edges * px_per_m + 0.01).astype(int):
        image[top:bottom, left:right] = 0
    return image


@pytest.mark.parametrize("paper", PAPER)
def test_the_printed_page_shows_the_board_at_true_scale(tmp_path, paper):
    board = printed_board(paper)
    write_pdf(tmp_path / "board.pdf", board, paper)
    content = (tmp_path / "board.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", content)
    page = np.array([float(v) for v in box.groups()]) * 0.0254 / 72.0
    np.testing.assert_allclose(page, PAPER[paper], atol=1e-5)
    stream = zlib.decompress(re.search(rb"stream\n(.*)\nendstream", content, re.DOTALL).group(1)).decode()
    rectangles = np.array([[float(v) for v in line.split()[:4]] for line in stream.splitlines() if line.endswith("re")])
    rectangles *= 0.0254 / 72.0
    rectangles[:, 1] = page[1] - rectangles[:, 1] - rectangles[:, 3]
    sighting = board.find(drawn(rectangles, page))
    assert len(sighting.ids) == len(board.corners)
    left_top = (page - board.square * np.array([board.columns, board.rows])) / 2.0
    expected = (left_top + board.corners[sighting.ids, :2]) * PX_PER_M - 0.5
    np.testing.assert_allclose(sighting.pixels, expected, atol=1.0)


@pytest.mark.parametrize(
    "board",
    [printed_board("A4"), Board(5, 4, 0.06, 0.044, "6X6_250"), CHECKERBOARD],
    ids=["charuco", "other markers", "checkerboard"],
)
def test_corners_keep_their_numbers_however_the_board_is_turned(board):
    size = board.square * np.array([board.columns, board.rows])
    image = cv2.copyMakeBorder(drawn(board.black(), size), 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=255)
    upright = board.find(image)
    order = np.argsort(upright.ids)
    for quarter in range(4):
        turned = board.find(np.ascontiguousarray(np.rot90(image, quarter)))
        back = turned.pixels[np.argsort(turned.ids)]
        height, width = np.rot90(image, quarter).shape
        for _ in range(quarter):
            back = np.column_stack([height - 1 - back[:, 1], back[:, 0]])
            height, width = width, height
        np.testing.assert_allclose(back, upright.pixels[order], atol=0.3)


def test_our_drawing_is_the_one_of_opencv():
    board = printed_board("A4")
    size = np.round(np.array([board.columns, board.rows]) * board.square * PX_PER_M).astype(int)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    charuco = cv2.aruco.CharucoBoard((board.columns, board.rows), board.square, board.marker, dictionary)
    theirs = charuco.generateImage([int(v) for v in size])
    assert np.mean(theirs != drawn(board.black(), size / PX_PER_M)) < 0.05, (
        "other markers would differ in a tenth of the area"
    )


def test_an_empty_picture_and_a_sliver_of_the_board_hold_no_board():
    assert printed_board("A4").find(np.full((300, 400), 200, np.uint8)) is None
    assert CHECKERBOARD.find(np.full((300, 400, 3), 200, np.uint8)) is None
    board = printed_board("A4")
    image = drawn(board.black(), board.square * np.array([board.columns, board.rows]))
    row = round(2 * board.square * PX_PER_M)
    assert board.find(image[:row]) is None, "one row of corners has no attitude"


def test_a_description_is_read_again(tmp_path):
    for board in (printed_board("A3"), CHECKERBOARD, Board(11, 8, 0.02, 0.015, "6X6_250")):
        write_board(tmp_path / "board.toml", board)
        assert read_board(tmp_path / "board.toml") == board


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("columns = 7\nrows = 5\nmarker_mm = 41", "lacks square_mm"),
        ("columns = 7\nrows = 5\nsquare_mm = 'wide'", "is damaged"),
        ("columns = 7\nrows = 5\nsquare_mm = 0.055\nmarker_mm = 0.041", "0.055 mm is not possible"),
        ("columns = 7\nrows = 5\nsquare_mm = 55\nmarker_mm = 60", "do not fit squares of 55 mm"),
        ("columns = 9\nrows = 7\nsquare_mm = 40", "looks the same upside down"),
        ("columns = 1\nrows = 7\nsquare_mm = 40", "1x7 squares is not possible"),
        ("columns = ", "is damaged"),
        ("columns = 7\nrows = 5\nsquare_mm = 55\nmarker_mm = 40\ndictionary = '3X3'", "no marker dictionary '3X3'"),
    ],
)
def test_a_wrong_description_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "board.toml").write_text(text)
    with pytest.raises(ExoError, match=re.escape(sentence)):
        read_board(tmp_path / "board.toml")


def test_unknown_paper_and_unwritable_places(tmp_path):
    with pytest.raises(ExoError, match="no paper 'letter'"):
        printed_board("letter")
    for write in (lambda p: write_pdf(p, printed_board("A4"), "A4"), lambda p: write_board(p, CHECKERBOARD)):
        with pytest.raises(ExoError, match="could not be written"):
            write(tmp_path / "none" / "board")
