"""Mends what a pose estimator does to legs seen from the side.

Two faults are common and look plausible one by one: the two legs exchanged for a
frame or a few, and both legs laid onto the one that is better visible. Both break
the smooth motion of the joints relative to the hips, which is what is tested here.
The estimator's own visibility says nothing about them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import LEG_L, LEG_R, LOWER_L, LOWER_R, hip_centre

# Lengths in body heights (nose to foot) of the walker, times in s.
STEP_CAP = 0.4  # a joint costs at most this, so that one wild joint cannot decide for the whole leg
MISSING_COST = 0.1  # of a joint that is not seen, e.g. outside the picture: more than jitter, less than an exchange
MAX_PREDICTION_S = 0.2  # across longer gaps velocity predicts nothing
SWITCH_COST = 0.2  # for changing between exchanged and not exchanged
EXCHANGED_COST = 0.15  # per frame: exchanges are short; a long one must be clear at both of its ends
FIT_HALF_WINDOW_S = 0.2  # a third of a stride, which a cubic follows
FIT_ORDER = 3
FIT_ROUNDS = 12
FIT_TUNING = 0.03  # residual at which a frame starts to lose its vote in the fit
OUTLIER = 0.04  # about 6.5 cm on an adult; the jitter of an estimator is 0.01-0.02
MERGED = 0.04  # left and right nearer than this at every lower joint: both legs on one


@dataclasses.dataclass(frozen=True)
class Repair:
    """What was done: frames (n,) with legs exchanged back, with both legs on one, and rejected joints (n, 33)."""

    exchanged: NDArray[np.bool_]
    merged: NDArray[np.bool_]
    rejected: NDArray[np.bool_]


def repair_legs(
    landmarks: NDArray[np.float64], height: NDArray[np.float64], rate_hz: float
) -> tuple[NDArray[np.float64], Repair]:
    """Exchange swapped legs back and blank the joints that jump.

    Parameters
    ----------
    landmarks : (n, 33, 2) px in consecutive frames, NaN where the person was not found.
    height : (n,) apparent body height, px.
    """
    relative = _relative(landmarks, height)
    exchanged = exchanged_legs(relative, rate_hz)
    mended = landmarks.copy()
    other_leg = np.arange(landmarks.shape[1])
    other_leg[[*LEG_L, *LEG_R]] = (*LEG_R, *LEG_L)
    mended[exchanged] = landmarks[exchanged][:, other_leg]
    relative = _relative(mended, height)
    rejected = jumping_joints(relative, rate_hz)
    apart = np.linalg.norm(relative[:, LOWER_L] - relative[:, LOWER_R], axis=2).max(axis=1)
    merged = (apart < MERGED) & rejected[:, (*LOWER_L, *LOWER_R)].any(axis=1)
    mended[rejected] = np.nan
    return mended, Repair(exchanged, merged, rejected)


def exchanged_legs(relative: NDArray[np.float64], rate_hz: float) -> NDArray[np.bool_]:
    """Frames (n,) whose legs are exchanged, by the smoothest of all sequences of choices.

    A Viterbi search over pairs of consecutive choices, so that the cost can be the
    deviation from constant velocity: at mid-stance, where the legs cross, position
    alone would favour the exchange.

    Parameters
    ----------
    relative : (n, 33, 2) positions relative to the hip centre, body heights; NaN where missing.
    """
    legs = [np.isfinite(relative[:, leg]).all(axis=(1, 2)) for leg in (LOWER_L, LOWER_R)]
    seen = np.flatnonzero(legs[0] | legs[1])
    exchanged = np.zeros(len(relative), dtype=bool)
    if len(seen) < 3:
        return exchanged
    plain = relative[seen][:, (*LOWER_L, *LOWER_R)]
    options = np.stack([plain, relative[seen][:, (*LOWER_R, *LOWER_L)]])
    interval = np.diff(seen) / rate_hz
    # cost[a, b]: best cost of a sequence that ends with choices a, b (0 as given, 1 exchanged) at the last two frames.
    cost = np.array([[_step(options[b, 1] - options[a, 0]) for b in (0, 1)] for a in (0, 1)])
    cost += EXCHANGED_COST * np.array([[0, 1], [1, 2]]) + SWITCH_COST * np.array([[0, 1], [1, 0]])
    back = np.zeros((len(seen), 2, 2), dtype=int)
    for t in range(2, len(seen)):
        follows = interval[t - 2] + interval[t - 1] <= 2.0 * MAX_PREDICTION_S
        ratio = interval[t - 1] / interval[t - 2] if follows else 0.0
        new = np.empty((2, 2))
        for b in (0, 1):
            for c in (0, 1):
                # Of the two ways to arrive, a is the choice two frames back.
                ways = [
                    cost[a, b]
                    + _step(options[c, t] - options[b, t - 1] - ratio * (options[b, t - 1] - options[a, t - 2]))
                    for a in (0, 1)
                ]
                back[t, b, c] = int(np.argmin(ways))
                new[b, c] = min(ways) + EXCHANGED_COST * c + SWITCH_COST * (b != c)
        cost = new
    b, c = (int(i) for i in np.unravel_index(np.argmin(cost), cost.shape))
    choice = [c, b]
    for t in range(len(seen) - 1, 1, -1):
        b, c = int(back[t, b, c]), b
        choice.append(b)
    exchanged[seen] = np.array(choice[::-1], dtype=bool)
    if exchanged[seen].mean() > 0.5:
        exchanged[seen] = ~exchanged[seen]
    return exchanged


def jumping_joints(relative: NDArray[np.float64], rate_hz: float) -> NDArray[np.bool_]:
    """Joints (n, 33) that lie off the smooth motion of their neighbours in time.

    A cubic is fitted to a window around every frame with Tukey's biweight, which
    outvotes up to about a third of wrong frames; what is far from it is wrong.
    """
    n, k, _ = relative.shape
    half = max(FIT_ORDER + 1, round(FIT_HALF_WINDOW_S * rate_hz))
    offsets = np.arange(-half, half + 1)
    index = np.arange(n)[:, None] + offsets
    inside = (index >= 0) & (index < n)
    window = relative[np.clip(index, 0, n - 1)].transpose(0, 2, 1, 3)  # (n, k, w, 2)
    known = np.isfinite(window).all(axis=3) & inside[:, None, :]
    window = np.where(known[..., None], window, 0.0)
    design = np.vander(offsets / half, FIT_ORDER + 1, increasing=True)
    weight = known.astype(float)
    ridge = 1e-6 * np.eye(FIT_ORDER + 1)
    residual = np.zeros((n, k, len(offsets)))
    for round_ in range(FIT_ROUNDS):
        normal = np.einsum("nkw,wi,wj->nkij", weight, design, design, optimize=True) + ridge
        right = np.einsum("nkw,wi,nkwd->nkid", weight, design, window, optimize=True)
        fit = np.einsum("wi,nkid->nkwd", design, np.linalg.solve(normal, right), optimize=True)
        residual = np.linalg.norm(window - fit, axis=3)
        # Least absolute deviations first, to get near; then the biweight, to let go of what is wrong.
        if round_ < FIT_ROUNDS // 2:
            weight = known / np.maximum(residual, 0.1 * FIT_TUNING)
        else:
            weight = known * np.maximum(1.0 - (residual / (2.0 * FIT_TUNING)) ** 2, 1e-3) ** 2
    return np.asarray(known[:, :, half] & (residual[:, :, half] > OUTLIER))


def _relative(landmarks: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.float64]:
    return (landmarks - hip_centre(landmarks)[:, None, :]) / height[:, None, None]


def _step(difference: NDArray[np.float64]) -> float:
    step = np.linalg.norm(difference, axis=1)
    return float(np.where(np.isfinite(step), np.minimum(step, STEP_CAP), MISSING_COST).sum())
