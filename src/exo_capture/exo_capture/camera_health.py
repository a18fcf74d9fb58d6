"""Which cameras can be believed when: one that moved, was calibrated elsewhere or shows a mirrored picture is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import Detections
from exo_capture.mirrored_pose import OTHER_SIDE
from exo_capture.triangulation import Views, least_squares, residuals

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WINDOW_S = 0.5
# Typical error of a camera beyond which it contradicts the others, in body sizes; pose estimators reach 0.005-0.015.
DISAGREEMENT = 0.03
MOVED_SHARE = 0.8  # of its time that a camera contradicts the others: it did so from the start
CONTRADICTS = (
    "{} contradicts the other cameras throughout and was left out: it was moved since the calibration, its calibration "
    "belongs to another camera, or its clock differs; calibrate again"
)
MOVED = (
    "{} contradicts the other cameras from {:.1f} to {:.1f} s and was left out there: it seems to have been moved "
    "during the recording; fix it firmly and calibrate again"
)


@dataclasses.dataclass(frozen=True)
class Health:
    """When cameras can be believed.

    Attributes
    ----------
    usable : (c, n) when each camera agrees with the others.
    limit_px, miss_px : error that counts as a contradiction, and the typical one of all cameras together.
    warnings : what to tell about cameras that do not agree.
    """

    usable: BoolArray
    limit_px: float
    miss_px: float
    warnings: tuple[str, ...]


def judge_cameras(seen: Views, names: Sequence[str], size_px: float, time: FloatArray) -> Health:
    """Find cameras that contradict the others, window by window.

    Parameters
    ----------
    size_px : typical size of the body in the pictures.
    """
    count = len(seen.focal)
    windows = np.minimum(((time - time[0]) / WINDOW_S).astype(int), max(0, int((time[-1] - time[0]) / WINDOW_S) - 1))
    limit = DISAGREEMENT * size_px
    errors = _Errors(seen, windows, limit)
    good = np.ones((count, windows[-1] + 1), dtype=bool)
    for w in range(good.shape[1]):
        good[list(set(range(count)) - _agreeing(errors, w, count, limit)), w] = False
    usable = good[:, windows]
    warnings = []
    for c in range(count):
        bad = ~usable[c] & seen.seen[c].any(axis=1)
        share = bad.sum() / max(1, seen.seen[c].any(axis=1).sum())
        if share > MOVED_SHARE:
            warnings.append(CONTRADICTS.format(names[c]))
            usable[c] = False
        elif bad.any():
            warnings.append(MOVED.format(names[c], time[bad][0], time[bad][-1]))
    miss = float(np.median(errors.of(frozenset(range(count)))))
    return Health(np.asarray(usable), limit, miss, tuple(warnings))


def mirrored(detections: Detections) -> Detections:
    """The same recording with left and right of picture and person exchanged."""
    landmarks = detections.landmarks[:, OTHER_SIDE].copy()
    landmarks[..., 0] = detections.size[0] - 1.0 - landmarks[..., 0]
    return dataclasses.replace(detections, landmarks=landmarks)


class _Errors:
    """Typical error of each camera in each window, for sets of cameras triangulated together."""

    def __init__(self, seen: Views, windows: NDArray[np.int64], sigma_px: float) -> None:
        self._seen, self._windows, self._sigma_px = seen, windows, sigma_px
        self._known: dict[frozenset[int], FloatArray] = {}

    def of(self, cameras: frozenset[int]) -> FloatArray:
        """(cameras in ascending order, windows) px; 0 where a camera sees nothing together with another."""
        if cameras not in self._known:
            part = self._seen.of(sorted(cameras))
            error = np.linalg.norm(residuals(part, least_squares(part, self._sigma_px)), axis=3)
            table = np.zeros((len(error), self._windows[-1] + 1))
            for w in range(table.shape[1]):
                for c, values in enumerate(error[:, self._windows == w]):
                    known = values[np.isfinite(values)]
                    table[c, w] = np.median(known) if len(known) else 0.0
            self._known[cameras] = table
        return self._known[cameras]


def _agreeing(errors: _Errors, window: int, count: int, limit: float) -> set[int]:
    """The cameras left after the one whose absence helps most is sent away, again and again; fewer than 2: none."""
    members = frozenset(range(count))
    while errors.of(members)[:, window].max() > limit:
        if len(members) == 2:
            return set()
        members = min((members - {c} for c in members), key=lambda rest: errors.of(rest)[:, window].max())
    return set(members)
