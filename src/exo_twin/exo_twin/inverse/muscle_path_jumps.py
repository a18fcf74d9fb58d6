"""Where a model's own muscle path jumps: told apart from where a polynomial merely follows it badly.

OpenSim's wrapping lets a path slip off a surface, or around its other side, within no angle at all: iliacus and psoas
of some scaled models lose 12 to 17 mm in hip extension, the foremost part of gluteus maximus in deep flexion. Where the
conditional points of the gait2392 family begin to count, paths jump, too, by up to a millimetre. No smooth function
follows that, nor does a muscle. The branch that most poses are on is the one to follow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.muscle_path_samples import PathSampler
from exo_twin.inverse.muscle_paths import MusclePaths

FloatArray = NDArray[np.float64]

OFF, ON = 1.0, 0.5  # errors, in units of the limits, of poses in question and of those surely on the branch
HALVINGS = 13  # of the way between two poses, which comes down to some 1e-4 rad
JUMP_M = 2e-4  # in so short a way a continuous path changes by a twentieth of this


def jumping(sampler: PathSampler, paths: MusclePaths, q: FloatArray, error: FloatArray) -> NDArray[np.bool_]:
    """Poses (n, m) between which and the nearest well-followed one the model's own path jumps.

    Parameters
    ----------
    q : (n, c) rad.
    error : (n, m) of the paths there, in units of the limits.
    """
    found = np.zeros(error.shape, dtype=bool)
    half = np.ptp(paths.ranges, axis=1) / 2.0
    for i in range(len(paths.muscles)):
        off, on = np.flatnonzero(error[:, i] > OFF), np.flatnonzero(error[:, i] < ON)
        if not len(off) or not len(on):
            continue
        own = np.flatnonzero(paths.crosses[i])
        apart = (q[np.ix_(off, own)][:, None] - q[np.ix_(on, own)][None]) / half[own]
        nearest = on[np.argmin(np.sum(apart**2, axis=2), axis=1)]
        found[off, i] = _step(sampler, paths, i, q[nearest], q[off]) > JUMP_M
    return found


def _step(sampler: PathSampler, paths: MusclePaths, muscle: int, start: FloatArray, end: FloatArray) -> FloatArray:
    """Largest step (n,) m of the model's length on the way from start to end (n, c), found by halving the way."""

    def follow(q: FloatArray) -> tuple[FloatArray, FloatArray]:
        length = sampler.lengths(q, np.array([muscle]))[:, 0]
        return length, length - paths.evaluate(q).length[:, muscle]

    (before, missed), (after, misses) = follow(start), follow(end)
    for _ in range(HALVINGS):
        middle = (start + end) / 2.0
        length, misfit = follow(middle)
        first = np.abs(misfit - missed) > np.abs(misses - misfit)
        start, end = np.where(first[:, None], start, middle), np.where(first[:, None], middle, end)
        before, missed = np.where(first, before, length), np.where(first, missed, misfit)
        after, misses = np.where(first, length, after), np.where(first, misfit, misses)
    return np.abs(after - before)
