"""Whether a camera stood still: the motion of the background, people left out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import Detections
from exo_capture.video import Clip, read_frames

STEP_S = 0.1  # between compared pictures
WIDTH_PX = 640  # of the pictures compared; optical flow finds the fraction of a pixel
POINTS, MIN_POINTS = 200, 20
CORNER_QUALITY, CORNER_DISTANCE_PX = 0.01, 8
RETURN_PX = 0.5  # a point tracked forth and back must come back this near
MARGIN = 0.15  # of a person's box, around it: arms, hair and shadow lie outside the landmarks


def background_path(clip: Clip, people: Detections) -> NDArray[np.float64]:
    """Where the background went in the picture, from its first place on.

    Parameters
    ----------
    people : everybody in the clip, whose surroundings are not background.

    Returns
    -------
    (m, 2) px at every tenth of a second, the sum of the median shifts of background
    corners. A step in which no background can be followed counts as standing still.
    """
    step = max(1, round(STEP_S * clip.rate_hz))
    scale = min(1.0, WIDTH_PX / clip.width)
    path = [np.zeros(2)]
    before: NDArray[np.uint8] | None = None
    for index, image in read_frames(clip):
        frame = index - clip.first
        if frame % step:
            continue
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        if before is not None:
            near = (people.frame >= frame - step) & (people.frame <= frame)
            path.append(path[-1] + _shift(before, grey, _background(grey.shape, people.landmarks[near], scale)) / scale)
        before = grey
    return np.array(path)


def motion_px(path: NDArray[np.float64]) -> float:
    """Largest distance between two places of the background, px, per axis combined."""
    return float(np.hypot(*np.ptp(path, axis=0)))


def _background(shape: tuple[int, ...], people: NDArray[np.float64], scale: float) -> NDArray[np.uint8]:
    """Mask (h, w), 255 where nobody is."""
    mask = np.full(shape, 255, np.uint8)
    for person in people[:, :, :2] * scale:
        low, high = np.nanmin(person, axis=0), np.nanmax(person, axis=0)
        margin = MARGIN * (high - low).max()
        left, top = np.maximum(low - margin, 0.0).astype(int)
        right, bottom = np.maximum(high + margin, 0.0).astype(int)
        mask[top:bottom, left:right] = 0
    return mask


def _shift(before: NDArray[np.uint8], after: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Median shift (2,) of background corners between two pictures, px; zero if too few can be followed."""
    corners = cv2.goodFeaturesToTrack(before, POINTS, CORNER_QUALITY, CORNER_DISTANCE_PX, mask=mask)
    if corners is None or len(corners) < MIN_POINTS:
        return np.zeros(2)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners))
    returned, again, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, np.empty_like(corners))
    kept = (found[:, 0] == 1) & (again[:, 0] == 1) & (np.linalg.norm(returned - corners, axis=2)[:, 0] < RETURN_PX)
    if kept.sum() < MIN_POINTS:
        return np.zeros(2)
    return np.asarray(np.median((moved - corners)[kept, 0], axis=0), dtype=np.float64)
