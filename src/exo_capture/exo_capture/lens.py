"""Calibration of one camera's lens from views of a board, and the choice of views that determine it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_capture.boards import Board, Sighting
from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

MIN_VIEWS = 6  # below, the solution exists but means nothing
MAX_VIEWS = 30  # more cost time and add nothing
K3_GAIN = 0.05  # the third radial coefficient is kept if it lowers the error by this share
BAD_VIEW = 3.0  # a view whose error is so many times the median is blurred or misread
POOR_FIT_PX = 2.0  # a lens fits corners to 0.1-0.5 px
FOCAL_GUESSES = (0.6, 1.0, 2.0)  # of the picture's longer side: wide, normal and long lenses
GRID = 4  # the picture is divided into GRID x GRID fields to see which of them the board visited


@dataclasses.dataclass(frozen=True)
class Lens:
    """A calibrated lens.

    Attributes
    ----------
    size : (width, height) px.
    matrix, distortion : (3, 3) px and (5,), as in cameras.Camera.
    error_px : root mean square distance between seen and computed corners.
    views : number of pictures used; dropped, of those left out as misread.
    coverage : share of the picture's fields in which corners were seen.
    tilt_deg : largest angle between the board and the picture plane.
    focal_sd : standard error of the focal length, relative.
    sightings, poses : the views used, and where the board was in each: (views, 6) rotation vector and translation m
        of the board's frame in the camera's.
    """

    size: tuple[int, int]
    matrix: FloatArray
    distortion: FloatArray
    error_px: float
    views: int
    dropped: int
    coverage: float
    tilt_deg: float
    focal_sd: float
    sightings: tuple[Sighting, ...]
    poses: FloatArray


def calibrate_lens(name: str, views: Sequence[Sighting], board: Board, size: tuple[int, int]) -> Lens:
    """Lens of the camera `name` from views of the board at different places and angles.

    Raises
    ------
    ExoError : if there are too few views, or they do not determine a lens.
    """
    if len(views) < MIN_VIEWS:
        raise ExoError(
            f"only {len(views)} pictures of {name} show the board; "
            f"take 15 or more ({MIN_VIEWS} at least), near and far, tilted, and in every corner of the picture"
        )
    fit = _fit(name, views, board, size)
    if fit.error > POOR_FIT_PX and len(views) > MIN_VIEWS:
        # One view that OpenCV cannot place pulls all others along; it is the one without which the rest fit.
        others = [[view for view in views if view is not left_out] for left_out in views]
        fits = [_fit(name, rest, board, size) for rest in others]
        best = min(range(len(fits)), key=lambda i: fits[i].error)
        fit, views = fits[best], others[best]
    good = fit.view_errors <= BAD_VIEW * np.median(fit.view_errors)
    kept = [view for view, keep in zip(views, good, strict=True) if keep]
    if not good.all() and len(kept) >= MIN_VIEWS:
        fit = _fit(name, kept, board, size)
    else:
        kept = list(views)
    focal = fit.matrix[[0, 1], [0, 1]]
    width, height = size
    if not (np.isfinite(focal).all() and (focal > 0.1 * max(size)).all() and (focal < 20.0 * max(size)).all()):
        raise ExoError(
            f"the pictures of {name} do not determine its lens; tilt the board by 30 degrees and more in some"
        )
    fields = {
        (int(x * GRID / width), int(y * GRID / height)) for view in kept for x, y in view.pixels.astype(float).tolist()
    }
    return Lens(
        size=size,
        matrix=fit.matrix,
        distortion=fit.distortion,
        error_px=fit.error,
        views=len(kept),
        dropped=len(views) - len(kept),
        coverage=len(fields) / GRID**2,
        tilt_deg=max(_tilt_deg(pose[:3]) for pose in fit.poses),
        focal_sd=float(np.max(fit.focal_sd / focal)),
        sightings=tuple(kept),
        poses=fit.poses,
    )


def spread_views(
    views: Sequence[Sighting], sharpness: Sequence[float], board: Board, size: tuple[int, int], limit: int = MAX_VIEWS
) -> list[int]:
    """Indices of at most `limit` views, sharp ones and as different in place, size and tilt as possible."""
    if len(views) <= limit:
        return list(range(len(views)))
    sharp = np.flatnonzero(np.asarray(sharpness) >= np.median(sharpness))
    outlines = np.array([_outline(views[int(i)], board) / max(size) for i in sharp])
    chosen = [int(np.argmax(np.asarray(sharpness)[sharp]))]
    nearest = np.linalg.norm(outlines - outlines[chosen[0]], axis=1)
    while len(chosen) < min(limit, len(sharp)):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(outlines - outlines[chosen[-1]], axis=1))
    return sorted(int(sharp[i]) for i in chosen)


@dataclasses.dataclass(frozen=True)
class _Fit:
    matrix: FloatArray
    distortion: FloatArray
    error: float
    view_errors: FloatArray
    poses: FloatArray
    focal_sd: FloatArray


def _fit(name: str, views: Sequence[Sighting], board: Board, size: tuple[int, int]) -> _Fit:
    corners = board.corners.astype(np.float32)
    places = [corners[view.ids] for view in views]
    pixels = [view.pixels.astype(np.float32) for view in views]

    def fit(flags: int, focal: float) -> _Fit:
        start = np.array([[focal, 0.0, size[0] / 2.0], [0.0, focal, size[1] / 2.0], [0.0, 0.0, 1.0]])
        error, matrix, distortion, turns, shifts, sd, _, view_errors = cv2.calibrateCameraExtended(
            places, pixels, size, start, np.zeros(5), flags=flags | cv2.CALIB_USE_INTRINSIC_GUESS
        )
        poses = np.column_stack([np.reshape(turns, (-1, 3)), np.reshape(shifts, (-1, 3))])
        return _Fit(matrix, np.ravel(distortion)[:5], error, np.ravel(view_errors), poses, np.ravel(sd)[:2])

    try:
        # Few or flat views leave OpenCV's own first guess far off, and the search then ends in nonsense.
        simple = min((fit(cv2.CALIB_FIX_K3, share * max(size)) for share in FOCAL_GUESSES), key=lambda f: f.error)
        full = fit(0, float(simple.matrix[0, 0]))
    except cv2.error:
        raise ExoError(
            f"the pictures of {name} do not determine its lens; tilt the board by 30 degrees and more in some"
        ) from None
    return full if full.error < (1.0 - K3_GAIN) * simple.error else simple


def _tilt_deg(turn: FloatArray) -> float:
    """Angle between the board and the picture plane of a rotation vector (3,)."""
    return float(np.degrees(np.arccos(min(1.0, abs(cv2.Rodrigues(turn)[0][2, 2])))))


def _outline(view: Sighting, board: Board) -> FloatArray:
    """Where the board's four outer corners lie, (8,) px: place, size and tilt in one."""
    flat = board.corners[view.ids, :2]
    mapping, _ = cv2.findHomography(flat, view.pixels)
    width, height = board.columns * board.square, board.rows * board.square
    edges = np.array([[[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]])
    if mapping is None:
        return np.tile(view.pixels.mean(axis=0), 4)
    return np.asarray(cv2.perspectiveTransform(edges, mapping), dtype=np.float64).ravel()
