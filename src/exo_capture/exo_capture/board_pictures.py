"""The pictures and videos of a calibration folder, and the board found in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_capture.boards import Board, Sighting
from exo_common.errors import ExoError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".m4v", ".webm"})
SAMPLES_HZ = 4.0  # pictures looked at per second of video; a board is moved slowly
FLOOR = "floor"  # the picture of this name shows the board lying on the floor
STILL_PX = 1.0  # corners of a board at rest move less


@dataclasses.dataclass(frozen=True)
class View:
    """The board in one picture: the picture's name, and how sharp it is there (variance of the Laplacian)."""

    name: str
    sighting: Sighting
    sharpness: float


@dataclasses.dataclass(frozen=True)
class CameraViews:
    """What one camera saw: picture size (width, height) px, number of pictures looked at, views of the board."""

    size: tuple[int, int]
    looked_at: int
    views: list[View]


def camera_names(folder: Path) -> list[str]:
    """Names of the cameras that have a subfolder, or a video, in a folder."""
    if not folder.is_dir():
        return []
    return sorted(
        {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
        | {path.stem for path in folder.iterdir() if path.suffix.lower() in VIDEOS}
    )


def find_boards(folder: Path, camera: str, board: Board) -> CameraViews | None:
    """Look for the board in all pictures and videos of a camera; None if it has neither.

    Pictures keep their name, so that those of several cameras can be matched; frames of videos are numbered.

    Raises
    ------
    ExoError : if a file cannot be read, pictures differ in size, or the board is in none of them.
    """
    files = sorted(path for path in (folder / camera).glob("*") if path.is_file()) + sorted(folder.glob(f"{camera}.*"))
    files = [path for path in files if path.suffix.lower() in PICTURES | VIDEOS]
    if not files:
        return None
    size, size_of, looked_at, views = (0, 0), "", 0, []
    for path in files:
        for name, image in _pictures(path):
            looked_at += 1
            here = (image.shape[1], image.shape[0])
            if size_of and here != size:
                raise ExoError(
                    f"the pictures of {camera} differ in size ({size_of}: {size[0]}x{size[1]} px, "
                    f"{path.name}: {here[0]}x{here[1]} px); take all in the mode in which the walk is filmed"
                )
            size, size_of = here, path.name
            sighting = board.find(image)
            if sighting is not None:
                views.append(View(name, sighting, _sharpness(image, sighting)))
    if not views:
        kind = "ChArUco board" if board.marker else "checkerboard"
        raise ExoError(
            f"the {kind} of {board.columns}x{board.rows} squares is in none of {camera}'s pictures "
            f"({looked_at} looked at) in {folder}; "
            "check board.toml, show the whole board with its white border, and hold it still"
        )
    return CameraViews(size, looked_at, views)


def at_rest(camera: str, seen: CameraViews) -> View:
    """The view of a board that lies still in all pictures: each corner's median place, under the name "floor".

    Raises
    ------
    ExoError : if the board moves.
    """
    ids = np.unique(np.concatenate([view.sighting.ids for view in seen.views]))
    pixels, spread = np.empty((len(ids), 2)), np.empty(len(ids))
    for i, number in enumerate(ids):
        places = np.array(
            [view.sighting.pixels[view.sighting.ids == number][0] for view in seen.views if number in view.sighting.ids]
        )
        pixels[i] = np.median(places, axis=0)
        spread[i] = np.median(np.linalg.norm(places - pixels[i], axis=1))
    if np.median(spread) > STILL_PX:
        raise ExoError(
            f"the board moves in the room video of {camera}; lay it on the floor for the whole video, "
            "or give pictures taken at the same moment the same name"
        )
    return View(FLOOR, Sighting(ids, pixels), max(view.sharpness for view in seen.views))


def is_video(folder: Path, camera: str) -> bool:
    """Whether a camera has a video (`<camera>.mp4` or inside its folder) and no pictures."""
    files = [*folder.glob(f"{camera}.*"), *(folder / camera).glob("*")]
    kinds = {path.suffix.lower() for path in files}
    return bool(kinds & VIDEOS) and not kinds & PICTURES


def _pictures(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    if path.suffix.lower() in PICTURES:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise ExoError(f"{path} cannot be read as a picture; delete it or save it as PNG or JPEG")
        yield path.stem, np.asarray(image, dtype=np.uint8)
        return
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise ExoError(f"{path} cannot be read as a video; convert it to MP4 (H.264)")
        step = max(1, round(capture.get(cv2.CAP_PROP_FPS) / SAMPLES_HZ))
        index = 0
        while capture.grab():
            if index % step == 0:
                decoded, image = capture.retrieve()
                if decoded:
                    yield (
                        f"{path.stem}_{index:06d}",
                        np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8),
                    )
            index += 1
    finally:
        capture.release()


def _sharpness(grey: NDArray[np.uint8], sighting: Sighting) -> float:
    left, top = np.maximum(np.floor(sighting.pixels.min(axis=0)).astype(int), 0)
    right, bottom = np.ceil(sighting.pixels.max(axis=0)).astype(int) + 1
    return float(cv2.Laplacian(grey[top:bottom, left:right], cv2.CV_64F).var())
