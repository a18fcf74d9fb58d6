"""Length, moment arms and velocity of every leg muscle from polynomials: plain NumPy, fast enough for a live node.

One polynomial per muscle over the joint coordinates it crosses, fitted to the scaled OpenSim model by
`muscle_path_fit`. Muscles that cross the same coordinates share one table of monomials, and the derivatives of a
polynomial are polynomials in the same monomials: length and moment arms of such a group are one matrix product.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

PREFIX = "paths_"


@dataclasses.dataclass(frozen=True)
class PathState:
    """Muscles in n poses.

    Attributes
    ----------
    length : (n, m) m, of the whole path, tendon included.
    arms : (n, m, c) m, -dlength/dq: positive where shortening the muscle increases the coordinate (OpenSim's sign).
    velocity : (n, m) m/s, lengthening positive.
    """

    length: FloatArray
    arms: FloatArray
    velocity: FloatArray


@dataclasses.dataclass(frozen=True)
class _Group:
    """Muscles that cross the same k coordinates.

    Attributes
    ----------
    muscles : (g,) indices of the muscles.
    coordinates : (k,) indices of the coordinates.
    powers : k arrays (t,), of each coordinate's power in the shared monomials: rows of `_powers`' table.
    matrix : (t, (1 + k) g) from monomials to lengths, then to slopes dL/dq about each coordinate in turn.
    """

    muscles: NDArray[np.int64]
    coordinates: NDArray[np.int64]
    powers: tuple[NDArray[np.int64], ...]
    matrix: FloatArray


@dataclasses.dataclass(frozen=True)
class MusclePaths:
    """m muscles over c coordinates.

    Attributes
    ----------
    muscles : names of the muscles that cross at least one free coordinate of a leg.
    coordinates : names of the coordinates they cross, in the order of the model's kinematic tree.
    ranges : (c, 2) rad, lowest and highest angle the paths were fitted on.
    crosses : (m, c) bool, which muscle crosses which coordinate.
    coefficients : (m, t) m, of the monomials of `exponents_of` over the muscle's own coordinates, in variables that
        are -1 and 1 at the ends of `ranges`; zero beyond the muscle's own degree. They give the length.
    arm_coefficients : (m, t) m, of the length whose slopes the moment arms are. The same row but for muscles whose
        length and moment arms contradict each other in the model (see `muscle_path_solve`).
    """

    muscles: tuple[str, ...]
    coordinates: tuple[str, ...]
    ranges: FloatArray
    crosses: NDArray[np.bool_]
    coefficients: FloatArray
    arm_coefficients: FloatArray

    @cached_property
    def _groups(self) -> tuple[_Group, ...]:
        half = np.ptp(self.ranges, axis=1) / 2.0
        found = []
        for pattern in np.unique(self.crosses, axis=0):
            muscles = np.flatnonzero((self.crosses == pattern).all(axis=1))
            coordinates = np.flatnonzero(pattern)
            both = np.vstack([self.coefficients[muscles], self.arm_coefficients[muscles]])
            used = int(np.flatnonzero(both.any(axis=0)).max(initial=0)) + 1
            exponents = _at_least(len(coordinates), used)
            padded = np.zeros((len(exponents), len(both)))
            padded[:used] = both[:, :used].T
            lengths, potentials = np.split(padded, 2, axis=1)
            slopes = [slope_matrix(exponents, k) @ potentials / half[c] for k, c in enumerate(coordinates)]
            rows = tuple(np.array([exponents[:, k] * len(half) + c for k, c in enumerate(coordinates)]))
            found.append(_Group(muscles, coordinates, rows, np.hstack([lengths, *slopes])))
        return tuple(found)

    @cached_property
    def _layout(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Columns of all groups' values side by side: (m,) of every length, those of slopes, and their m * c places."""
        lengths, slopes, places, begin = np.empty(len(self.muscles), np.int64), [], [], 0
        for group in self._groups:
            g = len(group.muscles)
            lengths[group.muscles] = begin + np.arange(g)
            slopes.append(begin + np.arange(g, group.matrix.shape[1]))
            places += [group.muscles * len(self.coordinates) + coordinate for coordinate in group.coordinates]
            begin += group.matrix.shape[1]
        return lengths, np.concatenate(slopes), np.concatenate(places)

    @cached_property
    def _degree(self) -> int:
        """The highest power of any coordinate."""
        return max(int(rows.max()) // len(self.coordinates) for group in self._groups for rows in group.powers)

    def evaluate(self, q: FloatArray, qd: FloatArray | None = None) -> PathState:
        """Paths in n poses.

        Parameters
        ----------
        q : (n, c) rad, the model's own signs. Beyond the fitted range the moment arms stay those of its border and the
            length goes on as a straight line, so that neither runs away.
        qd : (n, c) rad/s; None: at rest.
        """
        q = np.asarray(q, float)
        inside = np.clip(q, self.ranges[:, 0], self.ranges[:, 1])
        u = 2.0 * (inside - self.ranges[:, 0]) / (self.ranges[:, 1] - self.ranges[:, 0]) - 1.0
        n, m = len(q), len(self.muscles)
        parts, table = [], _powers(u, self._degree)
        for group in self._groups:
            first, *others = group.powers
            terms = table[first]
            for rows in others:
                terms *= table[rows]
            parts.append(terms.T @ group.matrix)
        values, (of_length, of_slope, place) = np.hstack(parts), self._layout
        length, flat = values[:, of_length], np.zeros((n, m * len(self.coordinates)))
        flat[:, place] = -values[:, of_slope]
        arms = flat.reshape(n, m, -1)
        length -= np.matmul(arms, (q - inside)[:, :, None])[:, :, 0]
        if qd is None:
            return PathState(length, arms, np.zeros((n, m)))
        return PathState(length, arms, -np.matmul(arms, np.asarray(qd, float)[:, :, None])[:, :, 0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays :meth:`from_arrays` reads."""
        return {
            f"{PREFIX}muscles": np.array(self.muscles, dtype=np.str_),
            f"{PREFIX}coordinates": np.array(self.coordinates, dtype=np.str_),
            f"{PREFIX}ranges": self.ranges,
            f"{PREFIX}crosses": self.crosses,
            f"{PREFIX}coefficients": self.coefficients,
            f"{PREFIX}arm_coefficients": self.arm_coefficients,
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> MusclePaths:
        """Build from the arrays of a twin's model.npz.

        Raises
        ------
        ExoError : if an array is missing, has a wrong shape or is not finite.
        """
        try:
            muscles, coordinates, ranges, crosses, coefficients, arm_coefficients = (
                arrays[PREFIX + field.name] for field in dataclasses.fields(MusclePaths)
            )
        except KeyError as error:
            raise ExoError(f"the twin has no muscle paths ({error} is missing); make the twin again") from None
        m, c = len(muscles), len(coordinates)
        sound = (
            ranges.shape == (c, 2)
            and crosses.shape == (m, c)
            and coefficients.shape == arm_coefficients.shape == (m, coefficients.size // max(m, 1))
            and all(np.all(np.isfinite(values)) for values in (ranges, coefficients, arm_coefficients))
            and bool(np.all(ranges[:, 0] < ranges[:, 1]))
            and bool(np.all(crosses.any(axis=1)))
        )
        if not sound:
            raise ExoError(
                "the twin's muscle paths are damaged (their arrays do not fit together); make the twin again"
            )
        return MusclePaths(
            tuple(map(str, muscles)), tuple(map(str, coordinates)), ranges, crosses, coefficients, arm_coefficients
        )


def exponents_of(variables: int, degree: int) -> NDArray[np.int64]:
    """Exponents (t, variables) of all monomials up to a total degree, by degree: lower degrees are a prefix."""
    every = itertools.product(range(degree + 1), repeat=variables)
    found = sorted((powers for powers in every if sum(powers) <= degree), key=lambda powers: (sum(powers), powers))
    return np.array(found, dtype=np.int64).reshape(-1, variables)


def _powers(u: FloatArray, degree: int) -> FloatArray:
    """((degree + 1) k, n): all k variables to the power 0, then 1, and so on, of (n, k)."""
    n, k = u.shape
    powers = np.ones((degree + 1, k, n))
    for i in range(1, degree + 1):
        np.multiply(powers[i - 1], u.T, out=powers[i])
    return powers.reshape(-1, n)


def monomials(u: FloatArray, exponents: NDArray[np.int64]) -> FloatArray:
    """Values (n, t) of monomials at (n, k) variables."""
    k = u.shape[1]
    powers = _powers(u, int(exponents.max(initial=0)))
    values = powers[exponents[:, 0] * k]
    for j in range(1, k):
        values *= powers[exponents[:, j] * k + j]
    return values.T


def slope_matrix(exponents: NDArray[np.int64], variable: int) -> FloatArray:
    """(t, t): coefficients of a polynomial to those of its derivative by one variable."""
    place = {tuple(powers): i for i, powers in enumerate(exponents.tolist())}
    matrix = np.zeros((len(exponents), len(exponents)))
    for i, powers in enumerate(exponents.tolist()):
        if powers[variable]:
            lower = list(powers)
            lower[variable] -= 1
            matrix[place[tuple(lower)], i] = powers[variable]
    return matrix


def _at_least(variables: int, terms: int) -> NDArray[np.int64]:
    """The monomials of the lowest degree that has at least so many."""
    degree = 0
    while len(exponents_of(variables, degree)) < terms:
        degree += 1
    return exponents_of(variables, degree)
