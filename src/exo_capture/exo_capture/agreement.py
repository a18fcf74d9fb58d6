"""Which cameras follow the same person: judged by the whole body, for single points of two people meet by chance."""

from __future__ import annotations

import itertools

import numpy as np

from exo_capture.triangulation import FloatArray, Views, residuals, weighted_dlt


def agreeing_cameras(seen: Views, gate_px: float) -> tuple[int, ...]:
    """The cameras (of those that see anything) whose body is where the others see it.

    The best pair decides: that on whose body all cameras agree best, an error beyond
    `gate_px` counting no more than that. Cameras whose median error there is beyond it are left out.

    Parameters
    ----------
    seen : views of one moment (n = 1).
    """
    cameras = [c for c in range(len(seen.focal)) if seen.seen[c].any()]
    part = seen.of(cameras)
    error = _errors(part, weighted_dlt(part))
    if (_medians(error) < gate_px).all():
        return tuple(cameras)
    bodies = [_errors(part, weighted_dlt(part.of(pair))) for pair in itertools.combinations(range(len(cameras)), 2)]
    best = min(bodies, key=lambda errors: float(np.nansum(np.minimum(errors, gate_px) ** 2)))
    return tuple(camera for camera, median in zip(cameras, _medians(best), strict=True) if median < gate_px)


def _errors(seen: Views, position: FloatArray) -> FloatArray:
    """(c, k) px; infinite where the point is not known, NaN where the camera does not see it."""
    error = np.linalg.norm(residuals(seen, position), axis=3)[:, 0]
    return np.where(seen.seen[:, 0], np.where(np.isfinite(error), error, np.inf), np.nan)


def _medians(errors: FloatArray) -> FloatArray:
    """(c,) px."""
    return np.asarray(np.nanmedian(errors, axis=1))
