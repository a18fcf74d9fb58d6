"""Muscle path figures for bench muscles: our polynomials beside OpenSim's own lengths and moment arms.

Judged on poses drawn with a seed of their own, for every leg muscle, with arms of OpenSim's moment-arm solver (not the
differences of lengths that most arms were fitted to). Wearers of gait_speeds are scaled anew, by the markers of their
static trial. Of twelve, the second (2014015) is one in whom six paths of the generic model jump, by up to 17 mm.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_bringup.batch_folder import find_wearers, read_wearer
from exo_capture.session_capture import capture_session
from exo_twin.inverse.kinematics import walking_forward
from exo_twin.inverse.marker_model import marker_model
from exo_twin.inverse.models import blazepose_model, load_model
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_path_jumps import jumping
from exo_twin.inverse.muscle_path_quality import ARM_LIMIT_MM, LENGTH_LIMIT_MM, errors, judged
from exo_twin.inverse.muscle_path_samples import PathSampler, PathSamples
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.scaling import scale_model
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

WEARERS = ("2014001", "2014015", "2014029")  # every fourth of the twelve
POSES = 100
SEED = 991
BATCH_FRAMES, SINGLE_FRAMES = 1000, 300


def measure(data: Path, models: Mapping[str, Path] | None = None) -> dict[str, float]:
    """Figures over models; None: three freshly scaled wearers.

    Beside them, under their own names: LaiUhlrich2022, walking_3d's scaled model and the product's own for videos.

    Returns
    -------
    path_length_rms_mm, path_moment_arm_rms_mm : of the freshly scaled models, over all muscles in all poses (an arm
        about its worst coordinate); with _worst_wearer and _worst_muscle : of one alone; with _worst_muscle_smooth :
        in poses where the model's own path has not jumped; with _median : over muscles, smooth; with _<model> : the
        worst muscle of one other model, smooth.
    path_jumps_pct, path_jumps_pct_worst : poses in which a path has jumped, of all muscles of the freshly scaled models
        and of the worst.
    path_beyond_limits : muscles beyond 1 mm or 2 mm, smooth.
    path_fit_s, path_fit_cpu_s : slowest fit of all models, without cache.
    path_eval_ms_per_frame : length, arms and velocity of a model's muscles in a batch; path_eval_single_ms : one frame.
    path_opensim_ms_per_frame : OpenSim's solver for the same arms.
    """
    opensim.Logger.setLevelString("Error")
    others: Mapping[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="exo_paths_") as scratch:
        if models is None:
            models = {name: _scaled(data, name, Path(scratch) / name) for name in WEARERS}
            others = {
                "lai": data / "models" / "LaiUhlrich2022.osim",
                "walking_3d": data / "walking_3d" / "subject_walk_scaled.osim",
                "video": blazepose_model().model,
            }
        scaled = [_judged(path) for path in models.values()]
        beside = {name: _judged(path) for name, path in others.items()}
    every = [*scaled, *beside.values()]
    length, arm = (np.concatenate([getattr(one, name) for one in scaled]) for name in ("length", "arm"))
    jumps = np.concatenate([one.jumps for one in scaled])
    figures = {
        "path_length_rms_mm": _rms(np.concatenate([one.length_all for one in scaled])),
        "path_moment_arm_rms_mm": _rms(np.concatenate([one.arm_all for one in scaled])),
        "path_length_rms_mm_worst_wearer": max(_rms(one.length_all) for one in scaled),
        "path_moment_arm_rms_mm_worst_wearer": max(_rms(one.arm_all) for one in scaled),
        "path_length_rms_mm_worst_muscle": max(float(one.length_all.max()) for one in scaled),
        "path_moment_arm_rms_mm_worst_muscle": max(float(one.arm_all.max()) for one in scaled),
        "path_length_rms_mm_worst_muscle_smooth": float(length.max()),
        "path_moment_arm_rms_mm_worst_muscle_smooth": float(arm.max()),
        "path_length_rms_mm_median": float(np.median(length)),
        "path_moment_arm_rms_mm_median": float(np.median(arm)),
        "path_jumps_pct": 100.0 * float(jumps.mean()),
        "path_jumps_pct_worst": 100.0 * float(jumps.max()),
        "path_beyond_limits": float(np.sum((length > LENGTH_LIMIT_MM) | (arm > ARM_LIMIT_MM))),
    }
    for name, one in beside.items():
        figures[f"path_length_rms_mm_{name}"] = float(one.length.max())
        figures[f"path_moment_arm_rms_mm_{name}"] = float(one.arm.max())
    figures["path_fit_s"] = max(one.fit_s for one in every)
    figures["path_fit_cpu_s"] = max(one.fit_cpu_s for one in every)
    together, alone = zip(*(_evaluation_ms(one.paths) for one in every), strict=True)
    figures["path_eval_ms_per_frame"], figures["path_eval_single_ms"] = max(together), max(alone)
    figures["path_opensim_ms_per_frame"] = min(one.opensim_ms for one in every)
    return figures


@dataclasses.dataclass(frozen=True)
class _Judged:
    """One model: RMS errors (m,) mm and jumps (m,) share of poses, where it took its time, and the paths."""

    paths: MusclePaths
    length: FloatArray
    arm: FloatArray
    length_all: FloatArray
    arm_all: FloatArray
    jumps: FloatArray
    fit_s: float
    fit_cpu_s: float
    opensim_ms: float


def _judged(path: Path) -> _Judged:
    model = load_model(path)
    model.initSystem()
    tree = kinematic_tree(model)
    with tempfile.TemporaryDirectory(prefix="exo_paths_") as empty:
        began, began_cpu = time.perf_counter(), time.process_time()
        paths = fit_muscle_paths(path, tree, cache=Path(empty)).paths
        fit_s, fit_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    sampler = PathSampler(path, tree, SEED)
    q = np.random.default_rng(SEED).uniform(*paths.ranges.T, (POSES, len(paths.coordinates)))
    length = sampler.lengths(q)
    began = time.perf_counter()
    arms = sampler.solver_arms(q, np.ones(length.shape, dtype=bool))
    opensim_ms = 1e3 * (time.perf_counter() - began) / POSES
    samples = PathSamples(q, length, arms)
    jumped = jumping(sampler, paths, q, errors(paths, samples))
    found = judged(paths, samples, jumped, np.zeros(len(paths.muscles), dtype=bool)).quality.values()
    columns = [
        np.array([getattr(row, name) for row in found])
        for name in ("rms_length_mm", "rms_arm_mm", "rms_length_all_mm", "rms_arm_all_mm", "jumps")
    ]
    return _Judged(paths, *columns, fit_s, fit_cpu_s, opensim_ms)


def _rms(of_muscles: FloatArray) -> float:
    """All muscles together."""
    return float(np.sqrt(np.mean(of_muscles**2)))


def _scaled(data: Path, wearer: str, folder: Path) -> Path:
    """A wearer's model, scaled by the static trial."""
    (entry,) = (entry for entry in find_wearers(data / "gait_speeds") if entry.name == wearer)
    session = next(iter(read_wearer(entry).sessions.values()))
    capture = capture_session(session)
    assert capture.marker_set is not None and capture.static is not None
    folder.mkdir()
    equipped = marker_model(data / "models" / "LaiUhlrich2022.osim", capture.marker_set, folder)
    static = walking_forward(capture.static)
    return scale_model(static, session.wearer.height, session.wearer.mass, equipped, folder / "scaled.osim", 1).model


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
