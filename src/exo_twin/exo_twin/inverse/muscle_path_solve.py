"""Least squares for muscle paths: polynomials through sampled lengths and moment arms, their degree chosen by error.

Three ways, the next only for a muscle that the one before leaves unsatisfied:

1. one polynomial through lengths and moment arms together;
2. two polynomials, one through the lengths, one whose slopes are the moment arms. OpenSim's gastrocnemii need this:
   near knee extension two of their wrapping surfaces overlap, and their length falls by 6 mm/rad where force acts with
   an arm of 22 mm. OpenSim's lengthening speed follows the arms, and so does ours;
3. one polynomial, robustly: poses off the branch that most poses are on (a path jumped over a wrapping surface, see
   `muscle_path_jumps`) do not count, instead of bending the whole.
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
OUTLIER = 3.0  # in units of the limits: an error that no smooth misfit makes
REWEIGHTINGS = (8, 12)  # of the robust fit, by Cauchy's weights, then by Tukey's; they have settled by then
SEPARATE = 0.5  # of one polynomial's score: two must be so much better


@dataclasses.dataclass
class Solved:
    """One muscle.

    Attributes
    ----------
    length, arms : (t,) m, coefficients of its length and of its moment arms.
    score : RMS error in units of the limits, each pose's capped at `OUTLIER`.
    outliers : whether a pose was beyond the cap.
    """

    length: FloatArray
    arms: FloatArray
    score: float
    outliers: bool


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
        return [self._judged(c, c, i) for c, i in zip(found.T, muscles, strict=True)]

    def two(self, muscle: int) -> Solved:
        """Way 2."""
        n = len(self.fit[0]) // self.blocks
        length = _least_squares(self.fit[0][:n], self.fit[1][:n, muscle])
        arms = _least_squares(self.fit[0][n:], self.fit[1][n:, muscle])
        return self._judged(length, arms, muscle)

    def robust(self, muscle: int) -> Solved:
        """Way 3: weights of Cauchy's distribution find the branch, Tukey's leave out what is not on it."""
        design, target = self.fit[0], self.fit[1][:, muscle]
        weight = np.ones(len(design))
        found = np.zeros(design.shape[1])
        for i in range(sum(REWEIGHTINGS)):
            found = _least_squares(design * weight[:, None], target * weight)
            error = np.abs(design @ found - target).reshape(self.blocks, -1).max(axis=0)
            cauchy, tukey = 1.0 / np.sqrt(1.0 + error**2), np.maximum(1.0 - (error / OUTLIER) ** 2, 0.0)
            weight = np.tile(cauchy if i < REWEIGHTINGS[0] else tukey, self.blocks)
        return self._judged(found, found, muscle)

    def _judged(self, length: FloatArray, arms: FloatArray, muscle: int) -> Solved:
        seen, unseen = (self._errors(part, length, arms, muscle) for part in (self.fit, self.choice))
        capped = np.minimum(unseen, OUTLIER)
        score = float(np.sqrt(np.mean(capped**2, axis=1)).max())
        return Solved(length, arms, score, bool(max(seen.max(), unseen.max()) > OUTLIER))

    def _errors(
        self, part: tuple[FloatArray, FloatArray], length: FloatArray, arms: FloatArray, muscle: int
    ) -> FloatArray:
        """(1 + k, n) of lengths, then arms."""
        design, target = part
        n = len(design) // self.blocks
        values = np.concatenate([design[:n] @ length, design[n:] @ arms])
        return np.abs(values - target[:, muscle]).reshape(self.blocks, -1)


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

    def fine(found: Solved) -> bool:
        return found.score <= CONSISTENT and not found.outliers

    if fine(one):
        return one
    two: Solved | None = None
    for problem in problems:
        two = _better(two, problem.two(muscle))
    if two is not None and fine(two):
        return two
    if one.score <= 1.0 and not one.outliers:
        return one
    single = min((one, *(problem.robust(muscle) for problem in problems)), key=lambda found: found.score)
    return two if two is not None and two.score < SEPARATE * single.score else single


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
