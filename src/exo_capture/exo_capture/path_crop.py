"""The second look: a picture cut out along the walker's path, who is large there and nearly alone."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import body_height, hip_centre
from exo_capture.people import Track, upright
from exo_capture.video import Clip

# Lengths in body heights (nose to foot) of the walker.
CROP_SIZE = 1.7  # side of the square: room for arms and stride, and for the estimator's own margin
CROP_BELOW_HIP = 0.52  # the nose is about 0.44 above the hip and the feet 0.52 below it
MEDIAN_WINDOW_S = 0.5
EXTENSION_S = 0.3  # the path is followed this long beyond the track, to catch frames the first pass missed
MAX_SHIFT = 0.25  # a candidate further than this from the path is somebody else
MAX_SIZE_RATIO = 1.25


@dataclasses.dataclass(frozen=True)
class Path2D:
    """Where the walker is expected: `frame` (n,) consecutive, `hip` (n, 2) px, `height` (n,) px."""

    frame: NDArray[np.int64]
    hip: NDArray[np.float64]
    height: NDArray[np.float64]


def walker_path(track: Track, rate_hz: float, first: int, stop: int) -> Path2D:
    """A smooth path through a track, continued in a straight line a little beyond its ends to search there.

    Parameters
    ----------
    first, stop : the recording's frames are first <= frame < stop.
    """
    extension = round(EXTENSION_S * rate_hz)
    frame = np.arange(max(first, track.frame[0] - extension), min(stop, track.frame[-1] + extension + 1))
    half = MEDIAN_WINDOW_S * rate_hz
    raw = np.column_stack([track.hip, track.height])
    smooth = np.empty((len(frame), 3))
    for i, f in enumerate(frame):
        order = np.argsort(np.abs(track.frame - f), kind="stable")
        near = np.abs(track.frame - f) <= half
        near[order[: min(len(order), 8)]] = True
        line = np.polyfit(track.frame[near] - f, raw[near], 1)
        residual = raw[near] - np.outer(track.frame[near] - f, line[0])
        smooth[i] = np.median(residual, axis=0)
    return Path2D(frame, smooth[:, :2], smooth[:, 2])


def crop_box(path: Path2D, i: int, clip: Clip) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) px of the cut-out around the walker in path entry `i`, inside the picture."""
    side = CROP_SIZE * path.height[i]
    centre_x = path.hip[i, 0]
    bottom = path.hip[i, 1] + CROP_BELOW_HIP * path.height[i] + (CROP_SIZE - 1.0) / 2.0 * path.height[i]
    left, top = max(0, round(centre_x - side / 2.0)), max(0, round(bottom - side))
    return left, top, min(clip.width, round(centre_x + side / 2.0)), min(clip.height, round(bottom))


def pick_walker(people: NDArray[np.float64], path: Path2D, i: int) -> int | None:
    """Index of the one of (n, 33, 3) candidates in picture coordinates that lies on path entry `i`, or None."""
    if not len(people):
        return None
    shift = np.linalg.norm(hip_centre(people) - path.hip[i], axis=1) / path.height[i]
    size = np.abs(np.log(np.maximum(body_height(people), 1.0) / path.height[i]))
    fits = upright(people) & (shift < MAX_SHIFT) & (size < np.log(MAX_SIZE_RATIO))
    if not fits.any():
        return None
    return int(np.argmin(np.where(fits, shift / MAX_SHIFT + size / np.log(MAX_SIZE_RATIO), np.inf)))
