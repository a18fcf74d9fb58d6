"""Muscle path figures for bench muscles: our polynomials beside OpenSim's own lengths and moment arms.

Judged on poses drawn with a seed of their own, for every leg muscle, with arms of OpenSim's moment-arm solver (not the
differences of lengths that most arms were fitted to).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.models import blazepose_model, load_model
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_path_samples import PathSampler
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

POSES = 60
SEED = 991
BATCH_FRAMES, SINGLE_FRAMES = 1000, 300


def measure(data: Path, models: Mapping[str, Path] | None = None) -> dict[str, float]:
    """Figures over models; None: LaiUhlrich2022, walking_3d's scaled one and the product's own for videos.

    Returns
    -------
    path_length_rms_mm, path_moment_arm_rms_mm : of the worst muscle of all models (an arm about its worst coordinate);
        with _median : over muscles; with _<model> : the worst of one model.
    path_beyond_limits : muscles named in a warning.
    path_fit_s : slowest fit, without cache.
    path_eval_ms_per_frame : length, arms and velocity of a model's muscles in a batch; path_eval_single_ms : one frame.
    path_opensim_ms_per_frame : OpenSim's solver for the same arms.
    """
    if models is None:
        models = {
            "lai": data / "models" / "LaiUhlrich2022.osim",
            "walking_3d": data / "walking_3d" / "subject_walk_scaled.osim",
            "video": blazepose_model().model,
        }
    opensim.Logger.setLevelString("Error")
    lengths, arms, figures = [], [], {}
    seconds, batch, single, reference, beyond = [], [], [], [], 0
    for name, path in models.items():
        model = load_model(path)
        model.initSystem()
        tree = kinematic_tree(model)
        with tempfile.TemporaryDirectory(prefix="exo_paths_") as empty:
            began = time.perf_counter()
            fit = fit_muscle_paths(path, tree, cache=Path(empty))
            seconds.append(time.perf_counter() - began)
        beyond += len(fit.warnings)
        sampler = PathSampler(path, tree, SEED)
        q = np.random.default_rng(SEED).uniform(*fit.paths.ranges.T, (POSES, len(fit.paths.coordinates)))
        length = sampler.sample(q).length
        began = time.perf_counter()
        solved = sampler.solver_arms(q, np.ones((POSES, len(fit.paths.muscles)), dtype=bool))
        reference.append(1e3 * (time.perf_counter() - began) / POSES)
        state = fit.paths.evaluate(q)
        lengths.append(1e3 * np.sqrt(np.mean((state.length - length) ** 2, axis=0)))
        arms.append(1e3 * np.sqrt(np.mean((state.arms - solved) ** 2, axis=0)).max(axis=1))
        figures[f"path_length_rms_mm_{name}"] = float(lengths[-1].max())
        figures[f"path_moment_arm_rms_mm_{name}"] = float(arms[-1].max())
        together, alone = _evaluation_ms(fit.paths)
        batch.append(together)
        single.append(alone)
    return {
        "path_length_rms_mm": max(float(rms.max()) for rms in lengths),
        "path_moment_arm_rms_mm": max(float(rms.max()) for rms in arms),
        "path_length_rms_mm_median": float(np.median(np.concatenate(lengths))),
        "path_moment_arm_rms_mm_median": float(np.median(np.concatenate(arms))),
        **figures,
        "path_beyond_limits": float(beyond),
        "path_fit_s": max(seconds),
        "path_eval_ms_per_frame": max(batch),
        "path_eval_single_ms": max(single),
        "path_opensim_ms_per_frame": min(reference),
    }


def _evaluation_ms(paths: MusclePaths) -> tuple[float, float]:
    """Median ms per frame in a batch, and of single frames."""
    q = np.random.default_rng(SEED).uniform(*paths.ranges.T, (BATCH_FRAMES, len(paths.coordinates)))
    together, alone = [], []
    for _ in range(5):
        began = time.perf_counter()
        paths.evaluate(q, q)
        together.append(1e3 * (time.perf_counter() - began) / BATCH_FRAMES)
    for i in range(SINGLE_FRAMES):
        began = time.perf_counter()
        paths.evaluate(q[i : i + 1], q[i : i + 1])
        alone.append(1e3 * (time.perf_counter() - began))
    return float(np.median(together)), float(np.median(alone))
