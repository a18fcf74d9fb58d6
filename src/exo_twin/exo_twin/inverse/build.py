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

from exo_capture.marker_set import MarkerSet
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, Storage, write_storage
from exo_common.session import Wearer
from exo_twin.forward.compiler.compile import Compiled, compile_walker
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton
from exo_twin.inverse.fit import fit_keypoints, fit_markers
from exo_twin.inverse.gait_cycle import gait_from_motion
from exo_twin.inverse.keypoint_model import BLAZEPOSE
from exo_twin.inverse.kinematics import Kinematics
from exo_twin.inverse.models import load_model
from exo_twin.inverse.muscle_tuning import Retuned, retune_tendons, tuning_warnings
from exo_twin.inverse.scaling import Scaling
from exo_twin.inverse.tolerance import compute_envelope
from exo_twin.inverse.tree_file import tree_arrays
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to
from exo_twin.twin import GAIT_FILE, KIND, Gait

FloatArray = NDArray[np.float64]

MUSCLE_MODEL = (
    "muscles have rigid tendons and no pennation, fitted to OpenSim's isometric forces; "
    "nine sagittal groups per leg stand for its forty muscles"
)


def build_twin(
    markers: Markers,
    strides: Sequence[Mapping[str, Any]],
    quality: Mapping[str, Any] | None,
    wearer: Wearer,
    folder: Path,
    inputs: Mapping[str, Path],
    warnings: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
    planar: bool = False,
    covariance: FloatArray | None = None,
    marker_set: MarkerSet | None = None,
    static: Markers | None = None,
    convention: str = BLAZEPOSE,
) -> Path:
    """Build the whole twin of a wearer filmed by one camera or several, or recorded with skin markers.

    Parameters
    ----------
    markers : BlazePose keypoints in OpenSim's frame, m, not smoothed; with a marker set its markers, too.
    strides : complete strides (side, start, toe_off, end in s), e.g. of exo_capture.gait_events.
    quality : the capture's quality report, kept inside quality.yaml.
    wearer : id, height (m) and mass (kg) are used.
    folder : of the artefact; replaced only when all went well. OpenSim's messages
        are kept in its opensim.log.
    inputs : files whose hashes go into the manifest.
    warnings : of earlier stages, kept in the manifest.
    progress : called with a short phrase at the start of every step.
    planar : the keypoints come from one camera seen from the side: their depth is assumed.
    covariance : (k, 3, 3) m^2 of the keypoints, where calibrated cameras know it.
    marker_set : of skin markers (exo_capture.marker_capture); None: keypoints.
    static : markers and keypoints of a quiet stance, which place the skin markers.
    convention : what keypoints without a marker set mean, see keypoint_model.

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
        if marker_set is None:
            fit = fit_keypoints(markers, wearer.height, wearer.mass, work, progress, strides, covariance, planar)
        else:
            fit = fit_markers(markers, static, marker_set, wearer.height, wearer.mass, work, progress)
        scaling, kinematics = fit.scaling, fit.kinematics
        gait = gait_from_motion(kinematics.coordinates, strides, f"{fit.source}, mean of {len(strides)} strides")
        retuned = retune_tendons(scaling.model, gait)
        progress("compiling the walker")
        compiled = compile_walker(scaling.model, wearer.height, _upright(kinematics.coordinates), exoskeleton)
        envelope = compute_envelope(wearer.id, gait, compiled.arrays, exoskeleton.torque_max)
        found += [*fit.warnings, *tuning_warnings(retuned)]
        found += [*compiled.agreement.warnings(), MUSCLE_MODEL]
        progress("writing the twin")
        with writing(folder, KIND, wearer.id, inputs, found) as target:
            shutil.copy(scaling.model, target / "scaled.osim")
            write_storage(target / "coordinates.mot", kinematics.coordinates)
            _with_tree(compiled, scaling.model, fit.weights).save(target)
            gait.save(target / GAIT_FILE)
            envelope.save(target / "envelope.yaml")
            report = _quality(scaling, kinematics, gait, retuned, compiled, quality, found)
            (target / "quality.yaml").write_text(
                yaml.safe_dump(report, sort_keys=False, width=120, default_flow_style=None), encoding="utf-8"
            )
            shutil.copy(work / "opensim.log", target / "opensim.log")
    return folder


def _with_tree(compiled: Compiled, scaled: Path, weights: Mapping[str, float] | None) -> Compiled:
    """model.npz holds the scaled model's joints and markers, too: live inverse kinematics needs no opensim."""
    model = load_model(scaled)
    model.initSystem()
    return dataclasses.replace(compiled, arrays={**compiled.arrays, **tree_arrays(kinematic_tree(model), weights)})


def _upright(coordinates: Storage) -> dict[str, float]:
    """Mean posture over the recording, rad: arms and trunk as the wearer carries them."""
    if not coordinates.in_degrees:
        raise ExoError("the joint angles are not in degrees; write them with solve_kinematics")
    means = np.deg2rad(coordinates.values.mean(axis=0))
    return dict(zip(coordinates.columns, map(float, means), strict=True))


def _quality(
    scaling: Scaling,
    kinematics: Kinematics,
    gait: Gait,
    retuned: Sequence[Retuned],
    compiled: Compiled,
    capture: Mapping[str, Any] | None,
    warnings: list[str],
) -> dict[str, Any]:
    rms = 1e3 * kinematics.marker_rms
    return {
        "warnings": warnings,
        "capture": _plain(capture),
        "scaling": {
            "mass_kg": scaling.mass,
            "strength_factor": round(scaling.strength_factor, 3),
            "strength_rule": "F_max scaled by (mass / generic mass)^(2/3)",
            "segments": scaling.lengths,
        },
        "inverse_kinematics": {
            "frames": len(rms),
            "marker_rms_mm": round(float(np.sqrt(np.mean(rms**2))), 1),
            "marker_rms_mm_p95": round(float(np.percentile(rms, 95)), 1),
            "marker_rms_each_mm": {name: round(1e3 * error, 1) for name, error in kinematics.marker_error.items()},
            "saturated_share": kinematics.saturated,
            "angle_sd_deg": kinematics.angle_sd_deg,
            "dropped_share": kinematics.dropped_share,
        },
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
