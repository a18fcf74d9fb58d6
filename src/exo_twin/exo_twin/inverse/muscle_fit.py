"""Bounded Gauss-Newton solution of the unknown numbers of muscles, and how hard they are drawn back to generic ones."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.muscle_sensitivity import MomentError

FloatArray = NDArray[np.float64]

# Strength of the pull back to the generic numbers. At 1 every moment of every FRAME_S counts as a measurement of its
# own; low-passed at 6 Hz some ten such frames in a row say the same, and the errors of a model last longer than that.
FRAME_S = 0.01
PULLS = (300.0, 100.0, 30.0, 10.0, 3.0)
FOLDS = 4
BLOCK_S = 0.15  # consecutive frames that are left out together
STEPS_MAX, HALVINGS = 20, 8
SETTLED = 1e-3  # relative fall of the cost at which it is settled


@dataclasses.dataclass(frozen=True)
class Solved:
    """Numbers (p,), the pull that cross-validation chose, and RMS reserves, Nm: before, after, of frames left out."""

    x: FloatArray
    pull: float
    before: float
    after: float
    unseen: float


def fit_unknowns(error: MomentError, block: NDArray[np.int64], step_s: float = FRAME_S) -> Solved:
    """Solve with the pull that predicts frames best that were left out.

    Parameters
    ----------
    step_s : from frame to frame, s.
    block : (n,) running number of the block of frames that are left out together.
    """
    unseen = _unseen(error, block % FOLDS, step_s)
    pull = min(unseen, key=unseen.__getitem__)
    x = solve_unknowns(error, pull * FRAME_S / step_s)
    return Solved(x, pull, _rms(error, error.unknowns.generic), _rms(error, x), unseen[pull])


def solve_unknowns(error: MomentError, pull: float, start: FloatArray | None = None) -> FloatArray:
    """The numbers (p,) that make reserves and distance from the generic numbers small together.

    Gauss-Newton steps on the numbers that are free, shortened until the cost falls; a number at its bound that wants
    to leave it is held.

    Parameters
    ----------
    start : (p,) to begin with; None: the generic numbers.
    """
    unknowns, root = error.unknowns, np.sqrt(np.asarray(error.weights.moment))
    tie = np.sqrt(pull) / unknowns.sd
    x = (unknowns.generic if start is None else start).copy()

    def cost(reserve: FloatArray, at: FloatArray) -> float:
        return float(np.sum((root * reserve) ** 2) + np.sum((tie * (at - unknowns.generic)) ** 2))

    for _ in range(STEPS_MAX):
        reserve, slopes = error.with_slopes(x)
        left = (root * reserve).reshape(-1)
        jacobian = (np.reshape(root, (-1, 1)) * slopes).reshape(len(left), -1)
        gradient = jacobian.T @ left + tie**2 * (x - unknowns.generic)
        held = ((x <= unknowns.low) & (gradient > 0.0)) | ((x >= unknowns.high) & (gradient < 0.0))
        free = np.flatnonzero(~held)
        curvature = jacobian[:, free].T @ jacobian[:, free] + np.diag(tie[free] ** 2)
        step = np.zeros_like(x)
        step[free] = -np.linalg.solve(curvature, gradient[free])
        before = cost(reserve, x)
        for halving in range(HALVINGS):
            tried = np.clip(x + step / 2**halving, unknowns.low, unknowns.high)
            after = cost(error.reserve(tried), tried)
            if after < before:
                break
        else:
            return x
        x = tried
        if before - after < SETTLED * before:
            break
    return x


def _unseen(error: MomentError, fold: NDArray[np.int64], step_s: float) -> dict[float, float]:
    """For every pull the RMS reserve, Nm, of frames that a solution from the others has not seen."""
    squares: dict[float, list[FloatArray]] = {pull: [] for pull in PULLS}
    for k in np.unique(fold):
        seen, rest = error.rows(fold != k), error.rows(fold == k)
        wanted, x = np.isfinite(rest.frames.moment), error.unknowns.generic
        for pull in PULLS:  # from the strongest on, each from the solution of the one before
            x = solve_unknowns(seen, pull * FRAME_S / step_s, x)
            squares[pull].append(np.square(rest.reserve(x)[wanted]))
    return {pull: float(np.sqrt(np.mean(np.concatenate(own)))) for pull, own in squares.items()}


def _rms(error: MomentError, x: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(error.reserve(x)[np.isfinite(error.frames.moment)]))))
