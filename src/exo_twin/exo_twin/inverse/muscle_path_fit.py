"""Polynomials of every leg muscle's path, fitted to a scaled OpenSim model; kept by the hash of the model file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from exo_common.errors import ExoError
from exo_twin.inverse import muscle_path_jumps, muscle_path_samples, muscle_path_solve
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.muscle_path_jumps import jumping
from exo_twin.inverse.muscle_path_quality import PathFit, errors, judged
from exo_twin.inverse.muscle_path_samples import PathSampler
from exo_twin.inverse.muscle_path_solve import Solved, solve_group
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

FIT_POSES, CHOICE_POSES, HELD_OUT_POSES = 448, 64, 256  # the first two together a power of two, as Sobol wants
PROBE_POSES = 32  # of the held-out ones, where lengths are compared with OpenSim's moment-arm solver
SEED = 20
VERSION = 4  # raised when the same settings would give other numbers


def fit_muscle_paths(
    osim: Path, tree: KinematicTree, cache: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> PathFit:
    """Fit polynomials to length and moment arms of every muscle that crosses a free coordinate of a leg.

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
    found = None if kept is None else PathFit.load(kept)
    if found is None:
        progress("fitting muscle paths")
        found = _fit(osim, tree)
        if kept is not None:
            found.save(kept)
    return found


def _fit(osim: Path, tree: KinematicTree) -> PathFit:
    sampler = PathSampler(osim, tree, SEED)
    low, high = sampler.ranges.T
    held_out_q = np.random.default_rng(SEED).uniform(low, high, (HELD_OUT_POSES, len(low)))
    sampler.probe(held_out_q[:PROBE_POSES])
    spread = qmc.Sobol(len(low), seed=SEED).random(FIT_POSES + CHOICE_POSES)
    samples, held_out = sampler.sample(low + spread * (high - low)), sampler.sample(held_out_q)
    fit, choice = samples.part(slice(FIT_POSES)), samples.part(slice(FIT_POSES, None))
    found: dict[int, Solved] = {}
    for pattern in np.unique(sampler.crosses, axis=0):
        muscles = np.flatnonzero((sampler.crosses == pattern).all(axis=1))
        solved = solve_group(fit, choice, sampler.ranges, muscles, np.flatnonzero(pattern))
        found.update(zip(muscles.tolist(), solved, strict=True))
    ordered = [found[i] for i in range(len(found))]
    terms = max(max(len(one.length), len(one.arms)) for one in ordered)
    lengths = np.array([np.pad(one.length, (0, terms - len(one.length))) for one in ordered])
    arms = np.array([np.pad(one.arms, (0, terms - len(one.arms))) for one in ordered])
    paths = MusclePaths(sampler.muscles, sampler.coordinates, sampler.ranges, sampler.crosses, lengths, arms)
    jumped = jumping(sampler, paths, held_out.q, errors(paths, held_out))
    return judged(paths, held_out, jumped, sampler.from_solver)


def _key(osim: Path, tree: KinematicTree) -> str:
    """Hash of all that decides a fit: the model's file, what is free in it, our settings and OpenSim."""
    modules = (vars(muscle_path_jumps), vars(muscle_path_samples), vars(muscle_path_solve), globals())
    settings = [(name, value) for module in modules for name, value in sorted(module.items()) if name.isupper()]
    free = [name for name, locked in zip(tree.coordinates, tree.locked, strict=True) if not locked]
    text = repr((settings, free, opensim.GetVersion()))
    return hashlib.sha256(osim.read_bytes() + text.encode()).hexdigest()[:32]
