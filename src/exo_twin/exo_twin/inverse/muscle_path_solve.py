"""Least squares for muscle paths: polynomials through sampled lengths and moment arms, their degree chosen by error.

Three ways, the next only for a muscle that the one before leaves unsatisfied:

1. one polynomial through lengths and moment arms together;
2. two polynomials, one through the lengths, one whose slopes are the moment arms. OpenSim's gastrocnemii need this:
   near knee extension two of their wrapping surfaces overlap, and their length falls by 6 mm/rad where force acts with
   an arm of 22 mm. OpenSim's lengthening speed follows the arms, and so does ours;
3. one polynomial, robustly: poses off the branch that most poses are on (a path jumped over a wrapping surface) count
   little, instead of bending the whole.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.muscle_path_quality import ARM_LIMIT_MM, LENGTH_LIMIT_MM
from exo_twin.inverse.muscle_path_samples import PathSamples
from exo_twin.inverse.muscle_paths import exponents_of, monomials, slope_matrix

FloatArray = NDArray[np.float64]

GOOD_ENOUGH = 0.25  # of the limits: the lowest degree that reaches this is taken
CONSISTENT = 0.5  # of the limits: one polynomial is kept for both if it reaches this, for it conserves energy
LOWEST_DEGREE = 3
HIGHEST_DEGREE = {1: 9, 2: 9, 3: 8, 4: 7, 5: 6}  # by number of coordinates: at most 500 monomials
REWEIGHTINGS = 8  # of the robust fit; its weights have settled by then


@dataclasses.dataclass
class Solved:
    """Coefficients (t,) m of one muscle, of its length and of its moment arms; score: error in units of the limits."""

    length: FloatArray
    arms: FloatArray
    score: float


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Muscles over the same k coordinates at one degree, in units of the limits; rows: n lengths, then k times n arms.

    Attributes
    ----------
    fit, choice : ((1 + k) n, t) monomials, and targets ((1 + k) n, g).
    """

    fit: tuple[FloatArray, FloatArray]
    choice: tuple[FloatArray, FloatArray]
    blocks: int

    def one(self, muscles: NDArray[np.int64]) -> list[Solved]:
        """Way 1."""
        found = _least_squares(self.fit[0], self.fit[1][:, muscles])
        return [Solved(c, c, self._rms(c, c, i)) for c, i in zip(found.T, muscles, strict=True)]

    def two(self, muscle: int) -> Solved:
        """Way 2."""
        n = len(self.fit[0]) // self.blocks
        length = _least_squares(self.fit[0][:n], self.fit[1][:n, muscle])
        arms = _least_squares(self.fit[0][n:], self.fit[1][n:, muscle])
        return Solved(length, arms, self._rms(length, arms, muscle))

    def robust(self, muscle: int) -> Solved:
        """Way 3: weights of Cauchy's distribution, whose width is the limit. The score is a mean error, not an RMS."""
        design, target = self.fit[0], self.fit[1][:, muscle]
        weight = np.ones(len(design))
        found = np.zeros(design.shape[1])
        for _ in range(REWEIGHTINGS):
            found = _least_squares(design * weight[:, None], target * weight)
            error = np.abs(design @ found - target).reshape(self.blocks, -1).max(axis=0)
            weight = np.tile(1.0 / np.sqrt(1.0 + error**2), self.blocks)
        left = np.abs(self.choice[0] @ found - self.choice[1][:, muscle])
        return Solved(found, found, float(left.reshape(self.blocks, -1).mean(axis=1).max()))

    def _rms(self, length: FloatArray, arms: FloatArray, muscle: int) -> float:
        n = len(self.choice[0]) // self.blocks
        values = np.concatenate([self.choice[0][:n] @ length, self.choice[0][n:] @ arms])
        error = (values - self.choice[1][:, muscle]).reshape(self.blocks, -1)
        return float(np.sqrt(np.mean(error**2, axis=1)).max())


def solve_group(
    fit: PathSamples,
    choice: PathSamples,
    ranges: FloatArray,
    muscles: NDArray[np.int64],
    coordinates: NDArray[np.int64],
) -> list[Solved]:
    """Polynomials of the muscles (indices) that cross the same coordinates (indices).

    Parameters
    ----------
    fit, choice : samples that the coefficients and the degree are found from.
    ranges : (c, 2) rad.
    """
    highest = HIGHEST_DEGREE.get(len(coordinates), min(HIGHEST_DEGREE.values()))
    every = np.arange(len(muscles))
    problems = [_problem(fit, choice, ranges, muscles, coordinates, LOWEST_DEGREE)]
    best = problems[0].one(every)
    for degree in range(LOWEST_DEGREE + 1, highest + 1):
        if all(found.score <= GOOD_ENOUGH for found in best):
            break
        problems.append(_problem(fit, choice, ranges, muscles, coordinates, degree))
        best = [_better(known, found) for known, found in zip(best, problems[-1].one(every), strict=True)]
    return [_harder(problems, i, found) for i, found in enumerate(best)]


def _harder(problems: list[_Problem], muscle: int, one: Solved) -> Solved:
    """A muscle that one plain polynomial does not follow closely."""
    if one.score <= CONSISTENT:
        return one
    two: Solved | None = None
    for problem in problems:
        two = _better(two, problem.two(muscle))
    if two is not None and two.score <= CONSISTENT:
        return two
    return one if one.score <= 1.0 else min((p.robust(muscle) for p in problems), key=lambda found: found.score)


def _better(known: Solved | None, found: Solved) -> Solved:
    """The first that is good enough, else the better one."""
    if known is not None and (known.score <= GOOD_ENOUGH or known.score <= found.score):
        return known
    return found


def _problem(
    fit: PathSamples,
    choice: PathSamples,
    ranges: FloatArray,
    muscles: NDArray[np.int64],
    coordinates: NDArray[np.int64],
    degree: int,
) -> _Problem:
    low, high = ranges[coordinates].T
    half = (high - low) / 2.0
    exponents = exponents_of(len(coordinates), degree)
    slopes = [slope_matrix(exponents, j) / half[j] for j in range(len(coordinates))]

    def system(samples: PathSamples) -> tuple[FloatArray, FloatArray]:
        values = monomials((samples.q[:, coordinates] - low) / half - 1.0, exponents)
        design = [values / LENGTH_LIMIT_MM, *(-values @ slope / ARM_LIMIT_MM for slope in slopes)]
        target = [samples.length[:, muscles] / LENGTH_LIMIT_MM]
        target += [samples.arms[:, muscles, c] / ARM_LIMIT_MM for c in coordinates]
        return 1e3 * np.vstack(design), 1e3 * np.vstack(target)

    return _Problem(system(fit), system(choice), 1 + len(coordinates))


def _least_squares(design: FloatArray, target: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.lstsq(design, target, rcond=None)[0])
