"""Calibration boards: ChArUco or checkerboard; what they look like, on paper and in a picture."""

from __future__ import annotations

import dataclasses
import tomllib
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

DICTIONARY = "4X4_50"  # few, large modules: readable from far away
DICTIONARIES = tuple(name.removeprefix("DICT_") for name in dir(cv2.aruco) if name.startswith("DICT_"))
# Corners that must be seen at once to be a board at all, and not a chance find.
MIN_CORNERS = 6
SQUARE_M = (0.005, 0.5)
SQUARES = (3, 30)
# Sheets, m, long edge first, and the white border that printers and detectors need.
PAPER = {"A4": (0.297, 0.210), "A3": (0.420, 0.297), "A2": (0.594, 0.420), "A1": (0.841, 0.594), "A0": (1.189, 0.841)}
MARGIN_M = 0.010
PRINTED_SQUARES = (7, 5)
PRINTED_MARKER = 0.75  # of the square
POINT_M = 0.0254 / 72.0  # a PDF's unit


@dataclasses.dataclass(frozen=True)
class Sighting:
    """A board in one picture: corner numbers `ids` (k,) and where they are, `pixels` (k, 2)."""

    ids: NDArray[np.int64]
    pixels: FloatArray


@dataclasses.dataclass(frozen=True)
class Board:
    """A flat board of columns x rows squares, black at its top left.

    Its frame: origin at the top left corner, x along the columns, y down, z into the paper.

    Attributes
    ----------
    square, marker : edge lengths, m; marker 0 for a plain checkerboard.
    dictionary : OpenCV's name of the markers' family.
    """

    columns: int
    rows: int
    square: float
    marker: float
    dictionary: str = DICTIONARY

    def __post_init__(self) -> None:
        if not all(SQUARES[0] <= n <= SQUARES[1] for n in (self.columns, self.rows)):
            raise ExoError(
                f"a board of {self.columns}x{self.rows} squares is not possible; use {SQUARES[0]} to {SQUARES[1]}"
            )
        if not SQUARE_M[0] <= self.square <= SQUARE_M[1]:
            raise ExoError(
                f"a board's square of {1000.0 * self.square:g} mm is not possible; measure it with a ruler, in mm"
            )
        if not (self.marker == 0.0 or 0.3 * self.square <= self.marker < self.square):
            raise ExoError(
                f"markers of {1000.0 * self.marker:g} mm do not fit squares of {1000.0 * self.square:g} mm; "
                "give a ChArUco marker's black edge, or 0 for a checkerboard"
            )
        if self.dictionary not in DICTIONARIES:
            raise ExoError(
                f"there is no marker dictionary '{self.dictionary}'; use OpenCV's name, e.g. {DICTIONARY} or 6X6_250"
            )
        if self.marker == 0.0 and (self.columns + self.rows) % 2 == 0:
            raise ExoError(
                f"a checkerboard of {self.columns}x{self.rows} squares looks the same upside down; "
                "use one with an even and an odd number of squares, or a ChArUco board"
            )

    @property
    def corners(self) -> FloatArray:
        """The inner corners ((columns - 1) * (rows - 1), 3) in the board's frame, m, row by row."""
        x, y = np.meshgrid(np.arange(1, self.columns), np.arange(1, self.rows))
        return np.column_stack([self.square * x.ravel(), self.square * y.ravel(), np.zeros(x.size)])

    @property
    def centre(self) -> FloatArray:
        """Middle of the board (3,) m."""
        return np.array([self.columns * self.square / 2.0, self.rows * self.square / 2.0, 0.0])

    def find(self, image: NDArray[np.uint8]) -> Sighting | None:
        """The board in a grey or RGB picture, None if it is not there or too little of it."""
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        sighting = self._find_charuco(grey) if self.marker else self._find_checkerboard(grey)
        if sighting is None or len(sighting.ids) < MIN_CORNERS:
            return None
        flat = self.corners[sighting.ids, :2]
        # Corners in one line say nothing about the board's attitude.
        spread = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)
        return sighting if spread[1] > self.square else None

    def black(self) -> FloatArray:
        """Everything black as rectangles (n, 4): x, y of the top left, width, height; m."""
        row, column = np.nonzero(np.add.outer(np.arange(self.rows), np.arange(self.columns)) % 2 == 0)
        rectangles = [
            (x * self.square, y * self.square, self.square, self.square) for x, y in zip(column, row, strict=True)
        ]
        if self.marker:
            charuco = self._charuco()
            modules = charuco.getDictionary().markerSize + 2  # a black frame around the bits
            module = self.marker / modules
            for number, corner in zip(charuco.getIds(), charuco.getObjPoints(), strict=True):
                bits = cv2.aruco.generateImageMarker(charuco.getDictionary(), int(number), modules)
                left, top = np.asarray(corner)[0, :2]
                rectangles += [(left + x * module, top + y * module, module, module) for y, x in np.argwhere(bits == 0)]
        return np.array(rectangles)

    def _charuco(self) -> Any:
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{self.dictionary}"))
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, dictionary)

    def _find_charuco(self, grey: NDArray[np.uint8]) -> Sighting | None:
        pixels, ids, _, _ = cv2.aruco.CharucoDetector(self._charuco()).detectBoard(grey)
        if ids is None:
            return None
        return Sighting(np.ravel(ids).astype(np.int64), np.reshape(pixels, (-1, 2)).astype(np.float64))

    def _find_checkerboard(self, grey: NDArray[np.uint8]) -> Sighting | None:
        across, down = self.columns - 1, self.rows - 1
        # The plain search is quick and misses half of the boards in real pictures; the exhaustive one takes seconds.
        for search in (0, cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_NORMALIZE_IMAGE):
            found, pixels = cv2.findChessboardCornersSB(grey, (across, down), flags=cv2.CALIB_CB_ACCURACY | search)
            if found:
                break
        else:
            return None
        grid = np.reshape(pixels, (down, across, 2)).astype(np.float64)
        # The square inside the first four corners is black like the one at the board's top left; its right
        # neighbour is white. Seen upside down it is the other way round.
        first, second = (_brightness(grey, grid[:2, i : i + 2].mean(axis=(0, 1))) for i in (0, 1))
        if first > second:
            grid = grid[::-1, ::-1]
        return Sighting(np.arange(across * down), grid.reshape(-1, 2))


def printed_board(paper: str) -> Board:
    """The ChArUco board that fills a sheet ("A4" to "A0")."""
    if paper not in PAPER:
        raise ExoError(f"there is no paper '{paper}'; choose one of {', '.join(PAPER)}")
    fits = [(edge - 2.0 * MARGIN_M) / squares for edge, squares in zip(PAPER[paper], PRINTED_SQUARES, strict=True)]
    square = np.floor(min(fits) * 1000.0) / 1000.0
    return Board(*PRINTED_SQUARES, float(square), round(float(PRINTED_MARKER * square), 3))


def write_pdf(path: Path, board: Board, paper: str) -> None:
    """Write a board as a page to be printed at 100 %, as vectors.

    Raises
    ------
    ExoError : if the file cannot be written.
    """
    page = np.array(PAPER[paper]) / POINT_M
    board_size = np.array([board.columns, board.rows]) * board.square / POINT_M
    left, top = (page - board_size) / 2.0
    drawing = "\n".join(
        f"{left + x:.3f} {page[1] - top - y - height:.3f} {width:.3f} {height:.3f} re"
        for x, y, width, height in board.black() / POINT_M
    )
    stream = zlib.compress(f"{drawing}\nf\n".encode("ascii"))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page[0]:.3f} {page[1]:.3f}] /Contents 4 0 R >>".encode("ascii"),
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(content))
    content += b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (len(objects) + 1, table, trailer)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); choose another folder") from None


def write_board(path: Path, board: Board) -> None:
    """Write a board's description, to be kept with the calibration pictures."""
    kind = "ChArUco board" if board.marker else "checkerboard"
    try:
        path.write_text(
            f"# A {kind}.\n"
            "# Measure a printed square with a ruler and mend square_mm if it differs.\n"
            f"columns = {board.columns}\nrows = {board.rows}\n"
            f"square_mm = {1000.0 * board.square:g}\nmarker_mm = {1000.0 * board.marker:g}\n"
            f'dictionary = "{board.dictionary}"\n',
            encoding="utf-8",
        )
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); choose another folder") from None


def read_board(path: Path) -> Board:
    """Read a board's description.

    Raises
    ------
    ExoError : if the file is missing, lacks a number, or describes an impossible board.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return Board(
            int(table["columns"]),
            int(table["rows"]),
            float(table["square_mm"]) / 1000.0,
            float(table.get("marker_mm", 0.0)) / 1000.0,
            str(table.get("dictionary", DICTIONARY)),
        )
    except OSError as error:
        raise ExoError(
            f"the board's description {path} cannot be read ({error.strerror}); "
            "write columns, rows, square_mm and marker_mm (0 for a checkerboard) into it"
        ) from None
    except KeyError as error:
        raise ExoError(f"{path} lacks {error.args[0]}; add the line, e.g. '{error.args[0]} = 7'") from None
    except (ValueError, TypeError) as error:
        raise ExoError(f"{path} is damaged ({error}); write e.g. 'square_mm = 55.0'") from None


def _brightness(grey: NDArray[np.uint8], pixel: FloatArray) -> float:
    x, y = np.clip(np.round(pixel).astype(int), 1, np.array(grey.shape[::-1]) - 2)
    return float(grey[y - 1 : y + 2, x - 1 : x + 2].mean())
