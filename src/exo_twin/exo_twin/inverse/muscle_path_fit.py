"""Polynomials of every leg muscle's path, fitted to a scaled OpenSim model; kept by the hash of the model file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from exo_common.errors import ExoError
from exo_twin.inverse import muscle_path_samples
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.muscle_path_samples import PathSampler, PathSamples
from exo_twin.inverse.muscle_paths import MusclePaths, exponents_of, monomials, slope_matrix
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

LENGTH_LIMIT_MM, ARM_LIMIT_MM = 1.0, 2.0  # RMS on held-out poses, beyond which a muscle is named in a warning
GOOD_ENOUGH = 0.25  # of the limits: the lowest degree that reaches this is taken
DEGREES = {1: 9, 2: 9, 3: 8, 4: 7, 5: 6}  # highest total degree by number of coordinates: at most 500 monomials
LOWEST_DEGREE = 3
FIT_POSES, CHOICE_POSES, HELD_OUT_POSES = 640, 128, 192
PROBE_POSES = 32  # of the held-out ones, where lengths are compared with OpenSim's moment-arm solver
SEED = 20
VERSION = 1  # raised when the same settings would give other numbers


@dataclasses.dataclass(frozen=True)
class PathQuality:
    """How well one muscle's polynomial follows the model, on poses that neither fit nor choice of degree have seen.

    Attributes
    ----------
    rms_length_mm, worst_length_mm : of the path length.
    rms_arm_mm : of the moment arm about the coordinate where it is worst; worst_arm_mm : at the worst pose.
    degree : of the polynomial.
    from_solver : whether OpenSim's lengths and moment arms contradict each other, so that the solver's arms were used.
    """

    rms_length_mm: float
    worst_length_mm: float
    rms_arm_mm: float
    worst_arm_mm: float
    degree: int
    from_solver: bool

    def within_limits(self) -> bool:
        """Whether both RMS errors are acceptable."""
        return self.rms_length_mm <= LENGTH_LIMIT_MM and self.rms_arm_mm <= ARM_LIMIT_MM


@dataclasses.dataclass(frozen=True)
class PathFit:
    """Paths and how good they are.

    Attributes
    ----------
    quality : by muscle.
    warnings : one sentence for every muscle beyond the limits.
    """

    paths: MusclePaths
    quality: dict[str, PathQuality]

    @property
    def warnings(self) -> list[str]:
        return [
            f"the path of {name} is known to {found.rms_length_mm:.1f} mm and its moment arm to "
            f"{found.rms_arm_mm:.1f} mm RMS (limits {LENGTH_LIMIT_MM:g} and {ARM_LIMIT_MM:g}): its wrapping surfaces "
            "make it jump in the model; do not read much into this muscle"
            for name, found in self.quality.items()
            if not found.within_limits()
        ]


def fit_muscle_paths(
    osim: Path, tree: KinematicTree, cache: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> PathFit:
    """Fit a polynomial to length and moment arms of every muscle that crosses a free coordinate of a leg.

    Other coordinates (pelvis, trunk, arms) stay at the model's defaults: of a muscle that also crosses the trunk, only
    what the leg does to it is known.

    Parameters
    ----------
    osim : a scaled model.
    tree : of the same model.
    cache : folder where fits are kept; None: $EXO_HOME/cache/muscle_paths if EXO_HOME is set, else nowhere.
    progress : called with a short phrase if the model must be sampled (some 15 s).

    Raises
    ------
    ExoError : if the file is no model, or no muscle of it crosses a leg joint.
    """
    if not osim.is_file():
        raise ExoError(f"the OpenSim model {osim} does not exist; check the file name")
    home = os.environ.get("EXO_HOME", "")
    folder = cache if cache is not None else Path(home) / "cache" / "muscle_paths" if home else None
    kept = None if folder is None else folder / f"{_key(osim, tree)}.npz"
    found = None if kept is None else _load(kept)
    if found is None:
        progress("fitting muscle paths")
        found = _fit(osim, tree)
        if kept is not None:
            _save(found, kept)
    return found


def _fit(osim: Path, tree: KinematicTree) -> PathFit:
    sampler = PathSampler(osim, tree, SEED)
    low, high = sampler.ranges.T
    held_out_q = np.random.default_rng(SEED).uniform(low, high, (HELD_OUT_POSES, len(low)))
    sampler.probe(held_out_q[:PROBE_POSES])
    spread = qmc.Sobol(len(low), seed=SEED).random(FIT_POSES + CHOICE_POSES)
    samples, held_out = sampler.sample(low + spread * (high - low)), sampler.sample(held_out_q)
    fit, choice = samples.part(slice(FIT_POSES)), samples.part(slice(FIT_POSES, None))
    degree = np.zeros(len(sampler.muscles), dtype=np.int64)
    found: dict[int, FloatArray] = {}
    for pattern in np.unique(sampler.crosses, axis=0):
        muscles = np.flatnonzero((sampler.crosses == pattern).all(axis=1))
        degree[muscles], solved = _fit_group(fit, choice, sampler.ranges, muscles, np.flatnonzero(pattern))
        found.update(zip(muscles.tolist(), solved, strict=True))
    coefficients = np.zeros((len(found), max(len(row) for row in found.values())))
    for muscle, row in found.items():
        coefficients[muscle, : len(row)] = row
    paths = MusclePaths(sampler.muscles, sampler.coordinates, sampler.ranges, sampler.crosses, coefficients)
    return PathFit(paths, _quality(paths, held_out, degree, sampler.from_solver))


def _fit_group(
    fit: PathSamples,
    choice: PathSamples,
    ranges: FloatArray,
    muscles: NDArray[np.int64],
    coordinates: NDArray[np.int64],
) -> tuple[NDArray[np.int64], list[FloatArray]]:
    """Degree (g,) and coefficients of muscles that cross the same coordinates."""
    degree = np.zeros(len(muscles), dtype=np.int64)
    best = np.full(len(muscles), np.inf)
    solved: list[FloatArray] = [np.zeros(0)] * len(muscles)
    k = len(coordinates)
    for trial in range(LOWEST_DEGREE, DEGREES.get(k, min(DEGREES.values())) + 1):
        exponents = exponents_of(k, trial)
        found = _solve(_design(fit.q, ranges, coordinates, exponents), _targets(fit, muscles, coordinates))
        error = _design(choice.q, ranges, coordinates, exponents) @ found - _targets(choice, muscles, coordinates)
        rms = 1e3 * np.sqrt(np.mean(error.reshape(1 + k, len(choice.q), -1) ** 2, axis=1))
        score = np.maximum(rms[0] / LENGTH_LIMIT_MM, rms[1:].max(axis=0) / ARM_LIMIT_MM)
        better = (score < best) & (best > GOOD_ENOUGH)
        for i in np.flatnonzero(better):
            best[i], degree[i], solved[i] = score[i], trial, found[:, i]
        if np.all(best <= GOOD_ENOUGH):
            break
    return degree, solved


def _design(
    q: FloatArray, ranges: FloatArray, coordinates: NDArray[np.int64], exponents: NDArray[np.int64]
) -> FloatArray:
    """((1 + k) n, t): monomials' lengths at n poses, then their moment arms about each coordinate, m per coefficient."""
    low, high = ranges[coordinates].T
    values = monomials(2.0 * (q[:, coordinates] - low) / (high - low) - 1.0, exponents)
    half = (high - low) / 2.0
    return np.vstack([values, *(-values @ slope_matrix(exponents, j) / half[j] for j in range(len(coordinates)))])


def _targets(samples: PathSamples, muscles: NDArray[np.int64], coordinates: NDArray[np.int64]) -> FloatArray:
    """((1 + k) n, g) what `_design` is to give, m."""
    return np.vstack([samples.length[:, muscles], *(samples.arms[:, muscles, c] for c in coordinates)])


def _solve(design: FloatArray, targets: FloatArray) -> FloatArray:
    """(t, g) least squares; a metre of length counts as much as a metre of moment arm (per rad)."""
    return np.asarray(np.linalg.lstsq(design, targets, rcond=None)[0])


def _quality(
    paths: MusclePaths, held_out: PathSamples, degree: NDArray[np.int64], from_solver: NDArray[np.bool_]
) -> dict[str, PathQuality]:
    state = paths.evaluate(held_out.q)
    length = 1e3 * np.abs(state.length - held_out.length)
    arms = 1e3 * np.abs(state.arms - held_out.arms)
    return {
        name: PathQuality(
            float(np.sqrt(np.mean(length[:, i] ** 2))),
            float(length[:, i].max()),
            float(np.sqrt(np.mean(arms[:, i] ** 2, axis=0)).max()),
            float(arms[:, i].max()),
            int(degree[i]),
            bool(from_solver[i]),
        )
        for i, name in enumerate(paths.muscles)
    }


def _key(osim: Path, tree: KinematicTree) -> str:
    """Hash of all that decides a fit."""
    settings = {
        name: value
        for module in (vars(muscle_path_samples), globals())
        for name, value in sorted(module.items())
        if name.isupper()
    }
    free = [name for name, locked in zip(tree.coordinates, tree.locked, strict=True) if not locked]
    text = repr((settings, free, opensim.GetVersion()))
    return hashlib.sha256(osim.read_bytes() + text.encode()).hexdigest()[:32]


def _save(found: PathFit, path: Path) -> None:
    """Whole or not at all, whoever else writes the same."""
    columns = {
        f"quality_{field.name}": np.array([getattr(row, field.name) for row in found.quality.values()])
        for field in dataclasses.fields(PathQuality)
    }
    arrays: dict[str, Any] = {**found.paths.arrays(), **columns}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        np.savez_compressed(file, **arrays)
    os.replace(file.name, path)


def _load(path: Path) -> PathFit | None:
    """A kept fit; None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        paths = MusclePaths.from_arrays(arrays)
        columns = [arrays[f"quality_{field.name}"].tolist() for field in dataclasses.fields(PathQuality)]
        rows = [PathQuality(*row) for row in zip(*columns, strict=True)]
        return PathFit(paths, dict(zip(paths.muscles, rows, strict=True)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ExoError):
        return None
