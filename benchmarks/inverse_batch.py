"""Figures of the unattended batch: every wearer and speed of gait_speeds from C3D, beside OpenSim's tools on its files.

The batch writes its results as any user gets them; they are read back here and judged:
- markers: RMS distance of the 26 lower-limb and pelvis markers, and before refinement; apart for the walk that the
  model was fitted to and for the wearer's further ones.
- pelvis: its orientation against that of ASIS and PSIS alone, twice: by the best rotation onto the measured ones of the
  marker map's landmarks, which know nothing of the wearer, and of the wearer's as the model carries them. The latter
  were placed by the same recordings, so that it cannot see an error of their placement. The headline is, for every
  walk, the larger of the two.
- moments: samples within the band of normative data matched by speed, and within twice its half-width. The norms are
  of children; adults' moments per mass are larger, so that even a perfect analysis leaves samples outside.
- peaks: of strides whose stance the plates measured as a whole.
- ground reaction: predicted beside measured, low-passed alike, while both feet are on plates.
- OpenSim's inverse kinematics tool on the same models and markers (every tenth frame) and its inverse dynamics tool on
  the files of the batch, as one who opens them in OpenSim would run it.

These walks were seen while exo was made. The rule that tells the plates' lag, the constants of the predicted ground
reaction, the refinement's standard deviations and the weights of the pelvis' landmarks were chosen while looking at
them, and the segment masses (de Leva's, none fitted) were adopted after these plates contradicted the generic model's.
The figures are no test on unseen people.
"""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from inverse_kinematics import differences_deg, opensim_ik
from numpy.typing import NDArray

from exo_bringup.batch import OK, BatchOptions, run_batch
from exo_bringup.norms import PERCENT, load_norms
from exo_bringup.wearer_analysis import FOLDER, LOWER_BODY
from exo_capture.marker_capture import MarkerCapture, capture_markers
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Markers, Storage, read_storage
from exo_twin.inverse.analysis import even_motion
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.fit import fit_markers
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.kinematic_tree import KinematicTree, pose
from exo_twin.inverse.kinematics import solve_kinematics
from exo_twin.inverse.marker_ik import MarkerIk
from exo_twin.inverse.marker_model import marker_model, place_markers
from exo_twin.inverse.models import load_model
from exo_twin.inverse.motion_derivatives import CUTOFF_HZ, derivatives
from exo_twin.inverse.scaling import scale_model
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

FloatArray = NDArray[np.float64]

JOBS = 2
GRAVITY = 9.80665
COMFORTABLE = "_C4_"  # in the names of the trials at the wearers' own speed
EVERY = 10  # frames that OpenSim's inverse kinematics tool solves
PEAK_RANGES = {  # Nm/kg, of adults at a comfortable speed
    "hip_extension": (0.4, 1.2),
    "hip_flexion": (0.4, 1.2),
    "ankle_plantarflexion": (1.2, 1.8),
}
LONG_FRAMES = 1000  # ten seconds at the recordings' 100 Hz
MIN_KNOWN = 50  # samples of a stride from which a correlation says something


@dataclasses.dataclass
class WalkFigures:
    """What is kept of one walk; arrays are pooled over walks."""

    name: str
    fitted: bool
    marker_rms_mm: float
    marker_rms_before_mm: float
    pelvis_deg: FloatArray
    pelvis_by_map_deg: FloatArray
    inside: FloatArray
    strictly_inside: FloatArray
    correlation: dict[str, list[float]]
    peaks: dict[str, dict[str, float]]
    vertical_pct: FloatArray
    per_foot_pct: FloatArray
    hip_nm_kg: FloatArray
    ik_apart_deg: float
    tool_marker_rms_mm: float
    id_apart_nm: float
    lag_ms: float
    lag_method: str
    window: bool
    mended: bool
    saturated: bool
    direction: bool


def measure(data: Path, generic: Path, out: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Run the batch on `data`/gait_speeds into `out` (new); figures and peers."""
    norms = data / "norms" / "Schwartz2008.json"
    began = time.perf_counter()
    results = run_batch(data / "gait_speeds", out, BatchOptions(generic, norms, twin=False, jobs=JOBS))
    seconds = time.perf_counter() - began
    jobs = [
        (data / "gait_speeds" / result["wearer"], out / result["wearer"] / FOLDER, generic, norms)
        for result in results
        if any(walk["status"] == OK for walk in result["walks"])
    ]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(JOBS, mp_context=context) as pool:
        walks = [walk for found in pool.map(judge_wearer, *zip(*jobs, strict=True)) for walk in found]
    figures = {
        "batch_wearers": len(results),
        "batch_wearers_failed": sum(result["status"] != OK for result in results),
        "batch_seconds_per_wearer": seconds / len(results),
        **_pooled(walks),
    }
    peers = {
        "opensim_ik_marker_rms_mm": _median_over_wearers(walks, "tool_marker_rms_mm"),
        "batch_marker_rms_before_refinement_mm": _median_over_wearers(walks, "marker_rms_before_mm"),
    }
    return figures, peers


def judge_wearer(recordings: Path, found: Path, generic: Path, norms: Path) -> list[WalkFigures]:
    """Figures of every walk of one wearer; runs in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="exo_bench_") as scratch, logging_to(Path(scratch) / "opensim.log"):
        summary = yaml.safe_load((found / "quality.yaml").read_text(encoding="utf-8"))
        osim = load_model(found / "scaled.osim")
        osim.initSystem()
        tree, mass = kinematic_tree(osim), float(summary["scaling"]["mass_kg"])
        static = next(iter(recordings.glob("*_ST.c3d")), None)
        good = [row for row in summary["walks"] if row["status"] == OK]
        return [
            _judge_walk(
                found / row["walk"],
                i == 0,  # the first that can be used makes the model
                capture_markers(recordings / f"{row['walk']}.c3d", static),
                tree,
                mass,
                generic,
                norms,
                Path(scratch),
            )
            for i, row in enumerate(good)
        ]


def ten_seconds_s(data: Path, generic: Path) -> float:
    """Wall time, s, to scale, refine, solve and load ten seconds of walking (a recording, forth and back)."""
    folder = data / "gait_speeds" / "2014001"
    capture = capture_markers(next(folder.glob(f"*{COMFORTABLE}*")), next(folder.glob("*_ST.c3d")))
    there_and_back = np.concatenate([np.arange(len(capture.markers.time)), np.arange(len(capture.markers.time))[::-1]])
    rows = np.resize(there_and_back, LONG_FRAMES)
    step = 1.0 / capture.markers.rate_hz
    markers = Markers(np.arange(LONG_FRAMES, dtype=float) * step, capture.markers.names, capture.markers.position[rows])
    subject = capture.subject
    assert subject.height is not None and subject.mass is not None
    with tempfile.TemporaryDirectory(prefix="exo_bench_") as scratch, logging_to(Path(scratch) / "opensim.log"):
        began = time.perf_counter()
        fit = fit_markers(
            markers,
            capture.static,
            capture.marker_set,
            subject.height,
            subject.mass,
            Path(scratch),
            generic=generic,
        )
        osim = load_model(fit.scaling.model)
        osim.initSystem()
        tree = kinematic_tree(osim)
        at, q = even_motion(fit.kinematics.coordinates, tree)
        motion, nothing = derivatives(at, q), np.zeros((len(at), 3))
        feet = [ExternalForce(f"calcn_{side}", nothing, nothing, nothing) for side in SIDES]
        InverseDynamics(tree, body_inertia(osim, tree)).solve(motion.q, motion.speed, motion.acceleration, feet)
        return time.perf_counter() - began


def _judge_walk(
    folder: Path,
    fitted: bool,
    capture: MarkerCapture,
    tree: KinematicTree,
    mass: float,
    generic: Path,
    norms: Path,
    scratch: Path,
) -> WalkFigures:
    quality = yaml.safe_load((folder / "quality.yaml").read_text(encoding="utf-8"))
    recorded = yaml.safe_load((folder / "capture.yaml").read_text(encoding="utf-8"))
    coordinates = read_storage(folder / "coordinates.mot")
    height = capture.subject.height
    assert height is not None
    bands = load_norms(norms).at(recorded["gait"].get("speed_m_s"), height)
    curves = _read_curves(folder / "curves.csv")
    inside, strictly, correlation = [], [], dict[str, list[float]]()
    for name in LEG_COORDINATES:
        joint = name[:-2]
        curve, band = curves[f"{name}_moment_measured_nm_kg"], bands.moments[joint]
        known = np.isfinite(curve)
        inside.append(band.inside(curve, 2.0)[known])
        strictly.append(band.inside(curve)[known])
        if known.sum() >= MIN_KNOWN:
            correlation.setdefault(joint, []).append(float(np.corrcoef(curve[known], band.mean[known])[0, 1]))
    plates = quality["loads"].get("plates") or {}
    vertical, per_foot, hip = _prediction(folder, plates.get("valid_s"), mass)
    apart, tool_rms = _tool_kinematics(folder, capture, tree, scratch)
    return WalkFigures(
        folder.name,
        fitted,
        quality["inverse_kinematics"]["marker_rms_lower_body_mm"],
        _before_refinement(capture, generic, mass, height, scratch),
        pelvis_apart_deg(coordinates, capture, tree, by_map=False),
        pelvis_apart_deg(coordinates, capture, tree, by_map=True),
        np.concatenate(inside),
        np.concatenate(strictly),
        correlation,
        quality["peaks_measured_nm_kg"],
        vertical,
        per_foot,
        hip,
        apart,
        tool_rms,
        _tool_dynamics(folder, scratch),
        plates.get("lag_ms", np.nan),
        plates.get("lag_method", "none"),
        plates.get("valid_s") is not None,
        any(note.endswith("mended") for note in recorded["warnings"]),
        any(share > 0.0 for share in quality["inverse_kinematics"]["saturated_share"].values()),
        "walks along" in recorded["facts"]["frame"],
    )


def pelvis_apart_deg(coordinates: Storage, capture: MarkerCapture, tree: KinematicTree, by_map: bool) -> FloatArray:
    """Angle (n,) between the model's pelvis and the one that ASIS and PSIS alone tell, degrees.

    `by_map`: by the marker map's landmarks, else by the wearer's as the model carries them.
    """
    marker_set = capture.marker_set
    landmarks = list(marker_set.pelvis.values())
    at, q = even_motion(coordinates, tree)
    carried = tree.marker_place[[tree.markers.index(name) for name in landmarks]]
    mapped = np.array([marker_set.markers[name].location for name in landmarks], dtype=float)
    places = mapped if by_map else carried
    places = places - places.mean(axis=0)
    own = tree.select([name for name in tree.markers if name in landmarks])
    turn = pose(own, q, np.ones(len(own.bodies)), np.zeros((len(own.markers), 3))).rotation[:, 0]
    rows = np.round((at - capture.markers.time[0]) * capture.markers.rate_hz).astype(int)
    measured = capture.markers.position[rows][:, [capture.markers.names.index(name) for name in landmarks]]
    measured = measured - measured.mean(axis=1, keepdims=True)
    seen = np.isfinite(measured).all(axis=(1, 2))
    # Best rotation from the map's landmarks to the measured ones (Kabsch 1976).
    left, _, right = np.linalg.svd(np.einsum("nki,kj->nij", measured[seen], places))
    proper = np.ones((int(seen.sum()), 3))
    proper[:, 2] = np.linalg.det(left @ right)
    alone = left * proper[:, None] @ right
    trace = np.einsum("nij,nij->n", turn[seen], alone)
    return np.asarray(np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))))


def _before_refinement(capture: MarkerCapture, generic: Path, mass: float, height: float, scratch: Path) -> float:
    """Marker RMS, mm, of the model that is scaled by distances and has its markers placed by the static trial."""
    equipped = marker_model(generic, capture.marker_set, scratch)
    reference = capture.markers if capture.static is None else capture.static
    scale_model(reference, height, mass, equipped, scratch / "before.osim", min_frames=1)
    place_markers(scratch / "before.osim", equipped, capture.marker_set, reference, capture.static is not None)
    solved = solve_kinematics(capture.markers, scratch / "before.osim", equipped)
    return _lower_body_mm(solved.marker_error, capture)


def _lower_body_mm(error: dict[str, float], capture: MarkerCapture) -> float:
    places = capture.marker_set.markers
    own = [e for name, e in error.items() if name in places and places[name].body.startswith(LOWER_BODY)]
    return 1e3 * float(np.sqrt(np.mean(np.square(own))))


def _read_curves(path: Path) -> dict[str, FloatArray]:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(PERCENT)
    return {key: np.array([float(row[key]) if row[key] else np.nan for row in rows]) for key in rows[0]}


def _prediction(folder: Path, window: list[float] | None, mass: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Predicted less measured while both feet are on plates: vertical total and per foot, % weight; hip, Nm/kg."""
    if window is None:
        return np.empty(0), np.empty(0), np.empty(0)
    forces = [read_storage(folder / path / "ground_reaction.mot") for path in (".", "predicted")]
    moments = [read_storage(folder / path / "inverse_dynamics.sto") for path in (".", "predicted")]
    rows = (forces[0].time >= window[0] - 1e-6) & (forces[0].time <= window[1] + 1e-6)
    columns = [i for i, name in enumerate(forces[0].columns) if name.endswith("_vy")]
    apart = (forces[1].values - forces[0].values)[rows][:, columns] / (mass * GRAVITY) * 100.0
    hip = [(moments[1].column(name) - moments[0].column(name))[rows] / mass for name in _hips()]
    return apart.sum(axis=1), apart.ravel(), np.concatenate(hip)


def _hips() -> list[str]:
    return [f"{name}_moment" for name in LEG_COORDINATES if name.startswith("hip_flexion")]


def _tool_kinematics(folder: Path, capture: MarkerCapture, tree: KinematicTree, scratch: Path) -> tuple[float, float]:
    """RMS difference of ours from OpenSim's tool, degrees, and the tool's marker RMS, mm, in every tenth frame."""
    weights = {n: p.weight for n, p in capture.marker_set.markers.items() if n in tree.markers and p.weight > 0.0}
    names = tuple(name for name in capture.markers.names if name in weights)
    columns = [capture.markers.names.index(name) for name in names]
    seen = np.isfinite(capture.markers.position[:, columns]).all(axis=(1, 2))
    rows = np.flatnonzero(seen)[::EVERY]
    some = Markers(capture.markers.time[rows], names, capture.markers.position[rows][:, columns])
    reference = opensim_ik(folder.parent / "scaled.osim", weights, some, scratch)
    ik = MarkerIk(tree, weights)
    ours = ik.solve(some)
    apart = differences_deg(ik, ours.q, reference)
    q = np.column_stack([reference.column(name) for name in tree.coordinates])
    q = np.where(tree.turns(), np.deg2rad(q), q)
    on_model = ik.motion.markers(ik.motion.place(q))
    measured = some.position[:, [names.index(name) for name in ik.tree.markers]]
    distance = np.sqrt(np.mean(np.sum((measured - on_model) ** 2, axis=2), axis=0))
    error = dict(zip(ik.tree.markers, map(float, distance), strict=True))
    return float(np.sqrt(np.mean(np.square(list(apart.values()))))), _lower_body_mm(error, capture)


def _tool_dynamics(folder: Path, scratch: Path) -> float:
    """RMS difference at hip, knee and ankle, Nm, of ours from OpenSim's tool on the files that the batch wrote."""
    ours = read_storage(folder / "inverse_dynamics.sto")
    tool = opensim.InverseDynamicsTool()
    tool.setModelFileName(str((folder.parent / "scaled.osim").resolve()))
    tool.setCoordinatesFileName(str((folder / "coordinates.mot").resolve()))
    tool.setLowpassCutoffFrequency(CUTOFF_HZ)
    tool.setExternalLoadsFileName(str((folder / "ground_reaction.xml").resolve()))
    tool.setStartTime(float(ours.time[0]))
    tool.setEndTime(float(ours.time[-1]))
    muscles = opensim.ArrayStr()
    muscles.append("Muscles")
    tool.setExcludedForces(muscles)
    tool.setResultsDir(str(scratch))
    tool.setOutputGenForceFileName("id.sto")
    tool.run()
    theirs = read_storage(scratch / "id.sto")
    apart = [
        np.interp(theirs.time, ours.time, ours.column(f"{name}_moment")) - theirs.column(f"{name}_moment")
        for name in LEG_COORDINATES
    ]
    return float(np.sqrt(np.mean(np.square(apart))))


def _pooled(walks: list[WalkFigures]) -> dict[str, float]:
    joints = {joint: [r for walk in walks for r in walk.correlation.get(joint, [])] for joint in walks[0].correlation}
    own_speed = [walk for walk in walks if COMFORTABLE in walk.name]
    in_range = {
        peak: [
            low <= walk.peaks[peak][side] <= high for walk in own_speed for side in SIDES if side in walk.peaks[peak]
        ]
        for peak, (low, high) in PEAK_RANGES.items()
    }
    told = [walk for walk in walks if walk.lag_method != "none"]
    fitted = [walk.marker_rms_mm for walk in walks if walk.fitted]
    further = [walk.marker_rms_mm for walk in walks if not walk.fitted]
    by_map, as_placed = ([_rms(found) for found in each] for each in zip(*(
        (walk.pelvis_by_map_deg, walk.pelvis_deg) for walk in walks
    ), strict=True))  # fmt: skip
    stricter = np.maximum(by_map, as_placed)
    return {
        "batch_walks": len(walks),
        "batch_marker_rms_mm": _median_over_wearers(walks, "marker_rms_mm"),
        "batch_marker_rms_fitted_walks_mm": float(np.median(fitted)),
        "batch_marker_rms_further_walks_mm": float(np.median(further)),
        "batch_marker_rms_worst_mm": max(walk.marker_rms_mm for walk in walks),
        "batch_pelvis_vs_asis_psis_deg": float(np.median(stricter)),
        "batch_pelvis_vs_asis_psis_worst_deg": float(stricter.max()),
        "batch_pelvis_vs_map_deg": float(np.median(by_map)),
        "batch_pelvis_vs_map_worst_deg": max(by_map),
        "batch_pelvis_vs_placed_deg": float(np.median(as_placed)),
        "batch_pelvis_vs_placed_worst_deg": max(as_placed),
        "batch_in_band_pct": _share(walk.inside for walk in walks),
        "batch_in_band_comfortable_only_pct": _share(walk.inside for walk in own_speed),
        "batch_in_strict_band_pct": _share(walk.strictly_inside for walk in walks),
        **{f"batch_norm_r_{joint.split('_')[0]}": float(np.median(values)) for joint, values in joints.items()},
        "batch_norm_r_least": min(min(values) for values in joints.values()),
        **{f"batch_{peak}_in_range_pct": 100.0 * float(np.mean(good)) for peak, good in in_range.items()},
        "batch_peaks_legs": min(len(good) for good in in_range.values()),
        "batch_peaks_in_range_pct": 100.0 * float(np.mean(np.concatenate([*in_range.values()]))),
        "grf_vertical_rms_pct_bw": _rms(np.concatenate([walk.vertical_pct for walk in walks])),
        "grf_vertical_rms_worst_pct_bw": max(_rms(walk.vertical_pct) for walk in walks if len(walk.vertical_pct)),
        "grf_per_foot_rms_pct_bw": _rms(np.concatenate([walk.per_foot_pct for walk in walks])),
        "grf_per_foot_rms_worst_pct_bw": max(_rms(walk.per_foot_pct) for walk in walks if len(walk.per_foot_pct)),
        "hip_moment_predicted_grf_rmse_nm_kg": _rms(np.concatenate([walk.hip_nm_kg for walk in walks])),
        "hip_moment_predicted_grf_rmse_worst_nm_kg": max(_rms(walk.hip_nm_kg) for walk in walks if len(walk.hip_nm_kg)),
        "batch_ik_rms_deg": float(np.median([walk.ik_apart_deg for walk in walks])),
        "batch_ik_rms_worst_deg": max(walk.ik_apart_deg for walk in walks),
        "batch_id_rms_nm": float(np.median([walk.id_apart_nm for walk in walks])),
        "batch_id_rms_worst_nm": max(walk.id_apart_nm for walk in walks),
        "batch_lag_found_pct": 100.0 * len(told) / len(walks),
        "batch_lag_by_dynamics_pct": 100.0 * sum(walk.lag_method == "dynamics" for walk in walks) / len(walks),
        "batch_lag_median_ms": float(np.median([walk.lag_ms for walk in told])),
        "batch_window_found_pct": 100.0 * float(np.mean([walk.window for walk in walks])),
        "batch_walks_with_mended_labels": sum(walk.mended for walk in walks),
        "batch_walks_with_saturated_coordinates": sum(walk.saturated for walk in walks),
        "batch_direction_told_pct": 100.0 * float(np.mean([walk.direction for walk in walks])),
    }


def _median_over_wearers(walks: list[WalkFigures], figure: str) -> float:
    by_wearer: dict[str, list[float]] = {}
    for walk in walks:
        by_wearer.setdefault(walk.name.split("_")[0], []).append(getattr(walk, figure))
    return float(np.median([np.mean(values) for values in by_wearer.values()]))


def _share(samples: Any) -> float:
    return 100.0 * float(np.concatenate(list(samples)).mean())


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
