"""Polynomials of muscle length over one or two coordinates, fitted jointly to length and moment arm."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_twin.forward.compiler.groups import GroupSamples
from exo_twin.planar_muscles import DEGREE

FloatArray = NDArray[np.float64]

# Weight of 1 mm of moment arm against 1 mm of length: arms make the torque, and where OpenSim's
# lengths and arms contradict each other (see groups) the arms are right.
ARM_WEIGHT_PER_RAD = 5.0


@dataclasses.dataclass(frozen=True)
class PathPolynomial:
    """L = sum c_ij u^i v^j with u, v = (q - centre) / half_range.

    Attributes
    ----------
    centre, half_range : (2,) rad; of one-joint muscles the second repeats the first.
    coefficients : (DEGREE+1, DEGREE+1) m; zero where i + j > DEGREE.
    """

    centre: FloatArray
    half_range: FloatArray
    coefficients: FloatArray

    def evaluate(self, poses: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Length (n,) m and moment arms (n, k) m at `poses` (n, k) rad."""
        k = poses.shape[1]
        terms = _terms(k)
        values, slopes = _design(poses, self.centre[:k], self.half_range[:k], terms)
        c = self.coefficients[tuple(terms.T)]
        return values @ c, -np.stack([slope @ c for slope in slopes], axis=1)


def fit_path(samples: GroupSamples) -> PathPolynomial:
    """Least-squares polynomial of total degree DEGREE through the grid's lengths and moment arms."""
    k = len(samples.coordinates)
    centre, half = samples.ranges.mean(axis=1), np.ptp(samples.ranges, axis=1) / 2.0
    terms = _terms(k)
    values, slopes = _design(samples.poses, centre, half, terms)
    matrix = np.vstack([values, *(-ARM_WEIGHT_PER_RAD * slope for slope in slopes)])
    target = np.concatenate([samples.length, *(ARM_WEIGHT_PER_RAD * samples.arms).T])
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    coefficients = np.zeros((DEGREE + 1, DEGREE + 1))
    coefficients[tuple(terms.T)] = solution
    repeat = np.array([0, k - 1])
    return PathPolynomial(centre[repeat], half[repeat], coefficients)


def _terms(k: int) -> NDArray[np.int64]:
    """Exponents (n_terms, 2); the second is zero for one-joint muscles."""
    others = range(DEGREE + 1) if k == 2 else (0,)
    return np.array([(i, j) for i in range(DEGREE + 1) for j in others if i + j <= DEGREE])


def _design(
    poses: FloatArray, centre: FloatArray, half: FloatArray, terms: NDArray[np.int64]
) -> tuple[FloatArray, list[FloatArray]]:
    """The terms' values (n, n_terms) and their derivatives about each coordinate."""
    u = (poses - centre) / half
    if u.shape[1] == 1:
        u = np.hstack([u, np.zeros_like(u)])
    i, j = terms.T
    first, second = u[:, :1], u[:, 1:]
    values = first**i * second**j
    by_first = i * first ** np.maximum(i - 1, 0) * second**j / half[0]
    slopes = [by_first]
    if poses.shape[1] == 2:
        slopes.append(j * first**i * second ** np.maximum(j - 1, 0) / half[1])
    return values, slopes
