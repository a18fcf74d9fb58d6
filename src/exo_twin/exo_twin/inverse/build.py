"""Keypoints of a walk in, the wearer's twin artefact out: scale, solve, average, compile, limit, write."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_capture.session_capture import SessionCapture
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Storage, write_storage
from exo_common.session import Wearer
from exo_twin.forward.compiler.compile import Compiled, compile_walker
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton
from exo_twin.inverse.analysis import WalkAnalysis, analyse_walk
from exo_twin.inverse.gait_cycle import gait_from_motion
from exo_twin.inverse.keypoint_model import BLAZEPOSE
from exo_twin.inverse.loads import flexion_sign
from exo_twin.inverse.muscle_tuning import Retuned, retune_tendons, tuning_warnings
from exo_twin.inverse.plate_signals import PlateSignal
from exo_twin.inverse.segment_masses import RULE
from exo_twin.inverse.tolerance import compute_envelope
from exo_twin.inverse.tree_file import tree_arrays
from exo_twin.opensim_runtime import logging_to
from exo_twin.twin import GAIT_FILE, KIND, Gait

FloatArray = NDArray[np.float64]

MUSCLE_MODEL = (
    "muscles have rigid tendons and no pennation, fitted to OpenSim's isometric forces; "
    "nine sagittal groups per leg stand for its forty muscles"
)


def build_twin(
    capture: SessionCapture,
    wearer: Wearer,
    folder: Path,
    inputs: Mapping[str, Path],
    warnings: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
    convention: str = BLAZEPOSE,
    signals: Sequence[PlateSignal] = (),
    generic: Path | None = None,
) -> Path:
    """Build the whole twin of a wearer from a captured walk.

    Parameters
    ----------
    wearer : id, height (m), mass (kg) and sex are used.
    folder : of the artefact; replaced only when all went well. OpenSim's messages
        are kept in its opensim.log.
    inputs : files whose hashes go into the manifest.
    warnings : of earlier stages, kept in the manifest.
    progress : called with a short phrase at the start of every step.
    convention, signals, generic : see analyse_walk.

    Returns
    -------
    The artefact's folder.

    Raises
    ------
    ExoError : one sentence, for any input that cannot become a twin.
    """
    found = list(warnings)
    exoskeleton = HipExoskeleton()
    with (
        tempfile.TemporaryDirectory(prefix="exo_twin_") as scratch,
        logging_to(Path(scratch) / "opensim.log"),
    ):
        work = Path(scratch)
        analysis = analyse_walk(capture, wearer, work, progress, convention, generic, signals)
        fit, scaling, kinematics = analysis.fit, analysis.fit.scaling, analysis.fit.kinematics
        strides = [dataclasses.asdict(stride) for stride in capture.strides]
        gait = gait_from_motion(_flexion_positive(analysis), strides, f"{fit.source}, mean of {len(strides)} strides")
        retuned = retune_tendons(scaling.model, gait)
        progress("compiling the walker")
        compiled = compile_walker(scaling.model, wearer.height, _upright(kinematics.coordinates), exoskeleton)
        envelope = compute_envelope(wearer.id, gait, compiled.arrays, exoskeleton.torque_max)
        found += [*analysis.warnings, *tuning_warnings(retuned)]
        found += [*compiled.agreement.warnings(), MUSCLE_MODEL]
        progress("writing the twin")
        with writing(folder, KIND, wearer.id, inputs, found) as target:
            shutil.copy(scaling.model, target / "scaled.osim")
            write_storage(target / "coordinates.mot", kinematics.coordinates)
            _with_tree(compiled, analysis).save(target)
            if analysis.loads is not None:
                analysis.loads.save(target)
            gait.save(target / GAIT_FILE)
            envelope.save(target / "envelope.yaml")
            report = _quality(analysis, gait, retuned, compiled, capture.quality.figures, found)
            (target / "quality.yaml").write_text(
                yaml.safe_dump(report, sort_keys=False, width=120, default_flow_style=None), encoding="utf-8"
            )
            shutil.copy(work / "opensim.log", target / "opensim.log")
    return folder


def _with_tree(compiled: Compiled, analysis: WalkAnalysis) -> Compiled:
    """model.npz holds the scaled model's joints, markers and masses, too: live analysis needs no opensim."""
    own = {**tree_arrays(analysis.tree, analysis.fit.weights), **analysis.inertia.arrays()}
    return dataclasses.replace(compiled, arrays={**compiled.arrays, **own})


def _flexion_positive(analysis: WalkAnalysis) -> Storage:
    """The walk's coordinates with flexion positive, also where the model counts its knees' negative."""
    table = analysis.fit.kinematics.coordinates
    sign = [flexion_sign(analysis.tree, name) for name in table.columns]
    return dataclasses.replace(table, values=table.values * sign)


def _upright(coordinates: Storage) -> dict[str, float]:
    """Mean posture over the recording, rad: arms and trunk as the wearer carries them."""
    if not coordinates.in_degrees:
        raise ExoError("the joint angles are not in degrees; write them with solve_kinematics")
    means = np.deg2rad(coordinates.values.mean(axis=0))
    return dict(zip(coordinates.columns, map(float, means), strict=True))


def _quality(
    analysis: WalkAnalysis,
    gait: Gait,
    retuned: Sequence[Retuned],
    compiled: Compiled,
    capture: Mapping[str, Any] | None,
    warnings: list[str],
) -> dict[str, Any]:
    scaling, kinematics, refined = analysis.fit.scaling, analysis.fit.kinematics, analysis.fit.refined
    rms = 1e3 * kinematics.marker_rms
    return {
        "warnings": warnings,
        "capture": _plain(capture),
        "scaling": {
            "mass_kg": scaling.mass,
            "mass_rule": RULE,
            "strength_factor": round(scaling.strength_factor, 3),
            "strength_rule": "F_max scaled by (mass / generic mass)^(2/3)",
            "segments": scaling.lengths,
        },
        "refinement": None if refined is None else refined.quality(),
        "inverse_kinematics": {
            "frames": len(rms),
            "marker_rms_mm": round(float(np.sqrt(np.mean(rms**2))), 1),
            "marker_rms_mm_p95": round(float(np.percentile(rms, 95)), 1),
            "marker_rms_each_mm": {name: round(1e3 * error, 1) for name, error in kinematics.marker_error.items()},
            "saturated_share": kinematics.saturated,
            "angle_sd_deg": kinematics.angle_sd_deg,
            "dropped_share": kinematics.dropped_share,
        },
        "loads": None if analysis.loads is None else analysis.loads.quality(),
        "gait": {
            "strides_left": sum(s["side"] == "l" for s in gait.strides),
            "strides_right": sum(s["side"] == "r" for s in gait.strides),
            "rom_deg": gait.rom_deg,
        },
        "tendons_retuned": {
            item.muscle: {
                "mean_fibre_before": round(item.mean_before, 2),
                "mean_fibre_after": round(item.mean_after, 2),
                "slack_m_before": round(item.slack_before, 4),
                "slack_m_after": round(item.slack_after, 4),
            }
            for item in retuned
        },
        "muscles_vs_opensim": compiled.agreement.as_dict(),
    }


def _plain(value: Any) -> Any:
    """Mappings, sequences and NumPy numbers as YAML's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
