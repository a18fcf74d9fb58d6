"""Velocities and accelerations of recorded coordinates, as OpenSim's inverse dynamics tool takes them.

The coordinates are low-passed forwards and backwards and joined by natural
splines of degree five, whose derivatives are exact. The same filter, padding
and spline ends as OpenSim's tool, so that moments can be compared.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline
from scipy.signal import butter, lfilter, lfiltic

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

CUTOFF_HZ = 6.0  # usual for walking (Winter, Biomechanics and Motor Control of Human Movement)
FILTER_ORDER = 3  # each way
DEGREE = 5  # twice the derivatives that a moment needs, and continuous ones
MIN_FRAMES = DEGREE + 1
UNEVEN = 0.2  # of the interval, from an even clock: times written with three decimals are rounded, not uneven


@dataclasses.dataclass(frozen=True)
class Derivatives:
    """Coordinates at some times, with their derivatives: each (n, n_coordinates), per s and per s2."""

    q: FloatArray
    speed: FloatArray
    acceleration: FloatArray


def motion_curve(time: FloatArray, q: FloatArray, cutoff_hz: float | None = CUTOFF_HZ) -> BSpline:
    """The smooth curve through recorded coordinates.

    Parameters
    ----------
    time : (n,) s, rising; if they are to be low-passed also even, but for rounding, and then taken as even.
    q : (n, n_coordinates) finite.
    cutoff_hz : None to leave them as they are.

    Raises
    ------
    ExoError : for fewer than MIN_FRAMES frames, gaps, times that do not rise or are not even, or a cut-off above
        half the frame rate.
    """
    if len(time) < MIN_FRAMES:
        raise ExoError(f"{len(time)} frames are too few for accelerations; {MIN_FRAMES} are needed")
    if len(time) != len(q) or not np.isfinite(q).all() or (np.diff(time) <= 0.0).any():
        raise ExoError("coordinates must be finite, one row per time, and their times must rise; fill or cut gaps")
    if cutoff_hz is not None:
        time, q = _low_passed(time, q, cutoff_hz)
    ends = [(3, np.zeros(q.shape[1])), (4, np.zeros(q.shape[1]))]  # of a natural spline of degree five
    return make_interp_spline(time, q, k=DEGREE, bc_type=(ends, ends))


def derivatives(
    time: FloatArray, q: FloatArray, cutoff_hz: float | None = CUTOFF_HZ, at: FloatArray | None = None
) -> Derivatives:
    """Low-passed coordinates with velocities and accelerations, at the recorded times or `at` others between them."""
    curve = motion_curve(time, q, cutoff_hz)
    wanted = time if at is None else at
    slack = 0.5 * float(np.median(np.diff(time)))
    if wanted.min() < time[0] - slack or wanted.max() > time[-1] + slack:
        raise ExoError(
            f"the motion is known from {time[0]:.3f} to {time[-1]:.3f} s but asked for "
            f"{wanted.min():.3f} to {wanted.max():.3f} s"
        )
    return Derivatives(curve(wanted), curve(wanted, 1), curve(wanted, 2))


def _low_passed(time: FloatArray, q: FloatArray, cutoff_hz: float) -> tuple[FloatArray, FloatArray]:
    """Times and coordinates after a zero-phase Butterworth, still with the mirrored ends it needed."""
    even = np.linspace(time[0], time[-1], len(time))
    interval = float(even[1] - even[0])
    if np.abs(time - even).max() > UNEVEN * interval:
        gap = int(np.argmax(np.diff(time)))
        raise ExoError(
            f"frames are not evenly spaced ({1e3 * (time[gap + 1] - time[gap]):.1f} ms at {time[gap]:.3f} s, "
            f"{1e3 * interval:.1f} ms on average); resample them before low-passing"
        )
    if cutoff_hz <= 0.0 or cutoff_hz >= 0.5 / interval:
        raise ExoError(f"a cut-off of {cutoff_hz:g} Hz must lie between 0 and half of {1.0 / interval:.1f} Hz")
    padding = len(time) // 2
    time = np.pad(even, padding, mode="reflect", reflect_type="odd")
    q = np.pad(q, ((padding, padding), (0, 0)), mode="reflect", reflect_type="odd")
    ahead, behind = butter(FILTER_ORDER, cutoff_hz, fs=1.0 / interval)
    for _ in range(2):  # forwards, then backwards
        q = _filtered(ahead, behind, q)[::-1]
    return time, q


def _filtered(ahead: FloatArray, behind: FloatArray, q: FloatArray) -> FloatArray:
    """One pass that starts from the first samples as they are."""
    known = q[:FILTER_ORDER]
    rest = [
        lfilter(ahead, behind, column[FILTER_ORDER:], zi=lfiltic(ahead, behind, start[::-1], start[::-1]))[0]
        for column, start in zip(q.T, known.T, strict=True)
    ]
    return np.vstack([known, np.column_stack(rest)])
