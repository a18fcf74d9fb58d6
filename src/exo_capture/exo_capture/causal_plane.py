"""Metres from one camera while the pictures come in: the walking plane, its scale from the wearer's own height.

What sagittal.py fits to a whole walk is taken here from the last moments: the scale
from the eyes' height over the floor, the floor from the lowest foot, the way as the
sum of the hip's steps. Depth is not measured; each marker gets its place on a
standing body.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import EYES, HEELS, HIPS, MARKERS, TOES
from exo_capture.sagittal import HEIGHT_SHARES, UPPER_SHARE, depth

SCALE_WINDOW_S = 1.5  # more than a stride, so that it holds a mid-stance of each leg
FLOOR_WINDOW_S = 0.7  # a step: long enough to outvote a bad picture, short enough for ground that bends
FACING_WINDOW_S = 0.5
MIN_PICTURES = 3
MIN_FOOT_SHARE = 0.04  # of the eyes' height: feet shorter than this in the picture are not seen from the side
LANDMARKS = tuple(MARKERS.values())
NOT_FROM_THE_SIDE = (
    "the wearer is not seen clearly from the side, which one camera needs; let the wearer walk across its view"
)


class LivePlane:
    """Pixels of one side view to metres in OpenSim's y-up frame.

    x points where the wearer faced when she was first seen clearly, and stays: a
    wearer who turns round walks back along it. The origin lies on the floor under
    the place where she was then.

    Parameters
    ----------
    stature : the wearer's standing height, m.
    """

    def __init__(self, stature: float) -> None:
        self._stature = stature
        self._forward = 0
        self._way = 0.0
        self._last: tuple[float, float] | None = None
        # Rows of (time s, eyes over floor px, lowest foot px, foot length px: positive to the right).
        self._past: deque[tuple[float, float, float, float]] = deque()

    def restart(self) -> None:
        """Forget what was seen: from here on it is another person, or the same one found again elsewhere."""
        self._past.clear()
        self._last = None

    def step(self, landmarks: NDArray[np.float64], time: float) -> NDArray[np.float64] | None:
        """Markers (k, 3) m in the order of MARKERS from landmarks (33, >=2) px at `time` s (rising).

        None while the wearer is not seen well enough to tell scale and direction.
        """
        feet, eyes = landmarks[(*HEELS, *TOES), :2], landmarks[EYES, 1].mean()
        hip = landmarks[HIPS, 0].mean()
        if np.isfinite(feet).all() and np.isfinite(eyes):
            lowest = float(feet[:, 1].max())
            length = float((landmarks[TOES, 0] - landmarks[HEELS, 0]).mean())
            self._past.append((time, lowest - float(eyes), lowest, length))
        while self._past and self._past[0][0] < time - SCALE_WINDOW_S:
            self._past.popleft()
        if len(self._past) < MIN_PICTURES or not np.isfinite(hip):
            return None
        past = np.array(self._past)
        recent = past[:, 0] >= time - FACING_WINDOW_S
        eye_height = float(np.quantile(past[:, 1], UPPER_SHARE))
        length = float(np.median(past[recent, 3])) if recent.any() else 0.0
        if not self._forward:
            if abs(length) < MIN_FOOT_SHARE * eye_height:
                return None
            self._forward = 1 if length > 0.0 else -1
        near_floor = past[past[:, 0] >= time - FLOOR_WINDOW_S, 2]
        floor = float(np.median(near_floor if len(near_floor) else past[-1:, 2]))
        scale = HEIGHT_SHARES[EYES] * self._stature / eye_height
        if self._last is not None:
            self._way += self._forward * (hip - self._last[0]) * (scale + self._last[1]) / 2.0
        self._last = (float(hip), scale)
        # Right is towards the camera for who walks to the right, and away from it for who has turned round.
        faces_forward = 1.0 if length * self._forward >= 0.0 else -1.0
        points = landmarks[list(LANDMARKS), :2]
        position = np.empty((len(LANDMARKS), 3))
        position[:, 0] = self._way + self._forward * (points[:, 0] - hip) * scale
        position[:, 1] = (floor - points[:, 1]) * scale
        position[:, 2] = [faces_forward * self._stature * depth(name) for name in MARKERS]
        position[~np.isfinite(points).all(axis=1)] = np.nan
        return position
