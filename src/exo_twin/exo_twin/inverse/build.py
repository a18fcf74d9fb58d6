"""A captured walk in, the wearer's twin artefact out: scale, solve, load, share, compile, limit, write."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from exo_capture.session_capture import SessionCapture
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Storage, write_storage
from exo_common.session import Wearer
from exo_twin.calibration import CALIBRATION_FILE, TwinCalibration
from exo_twin.forward.compiler.compile import compile_walker
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton
from exo_twin.inverse.analysis import WalkAnalysis, analyse_further_walk, analyse_walk
from exo_twin.inverse.envelope import compute_envelope
from exo_twin.inverse.gait_cycle import StrideMoments, gait_from_motion, is_other
from exo_twin.inverse.keypoint_model import BLAZEPOSE
from exo_twin.inverse.loads import flexion_sign
from exo_twin.inverse.muscle_analysis import MuscleAnalysis, analyse_muscles
from exo_twin.inverse.muscle_tuning import retune_tendons, tuning_warnings
from exo_twin.inverse.muscles_to_opensim import replace_unknown, write_muscles
from exo_twin.inverse.plate_signals import STANDARD_GRAVITY, PlateSignal
from exo_twin.inverse.tolerance import compute_tolerance
from exo_twin.inverse.tree_file import tree_arrays
from exo_twin.inverse.twin_quality import quality_text, twin_quality
from exo_twin.inverse.walk_muscles import UNKNOWN_MOMENTS, WalkEmg
from exo_twin.opensim_runtime import logging_to
from exo_twin.twin import GAIT_FILE, KIND, Gait

MUSCLE_MODEL = (
    "the walker's muscles have rigid tendons and no pennation, fitted to OpenSim's isometric forces; "
    "nine sagittal groups per leg stand for all of the leg's muscles"
)


@dataclasses.dataclass(frozen=True)
class FurtherWalk:
    """Another walk of the same wearer with the same skin markers and electrodes; `signals` as of analyse_walk."""

    capture: SessionCapture
    emg: WalkEmg
    signals: Sequence[PlateSignal] = ()


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
    emg: WalkEmg | None = None,
    further: Sequence[FurtherWalk] = (),
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
    emg : of the same walk, on its clock.
    further : walks of the same day to calibrate the muscles from as well.

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
        if generic is not None:
            generic, replaced = replace_unknown(generic, work / "generic.osim")
            found += replaced
        analysis = analyse_walk(capture, wearer, work, progress, convention, generic, signals)
        fit, scaling, kinematics = analysis.fit, analysis.fit.scaling, analysis.fit.kinematics
        found += analysis.warnings
        gait = _mean_stride(analysis, capture)
        retuned = retune_tendons(scaling.model, gait)
        found += tuning_warnings(retuned)
        size = wearer.mass * STANDARD_GRAVITY * wearer.height
        others, notes = _analysed(further, analysis, wearer, emg, progress)
        found += notes
        muscles = analyse_muscles(
            scaling.model,
            analysis,
            emg,
            others,
            wearer.affected_side == "none",
            progress,
            size,
        )
        if muscles.model is not muscles.scaled:
            write_muscles(scaling.model, muscles.model)
        found += muscles.warnings
        progress("compiling the walker")
        posture = _upright(kinematics.coordinates)
        compiled = compile_walker(scaling.model, wearer.height, posture, exoskeleton)
        tolerance = compute_tolerance(analysis.tree, muscles.paths, muscles.scaled, muscles.model, gait, posture, size)
        envelope = compute_envelope(wearer.id, gait, compiled.arrays, tolerance, exoskeleton.torque_max)
        calibration, told = _calibration(folder, wearer.id, muscles, emg)
        found += [*compiled.agreement.warnings(), MUSCLE_MODEL, *told]
        own = {
            **tree_arrays(analysis.tree, fit.weights),
            **analysis.inertia.arrays(),
            **muscles.paths.arrays(),
            **muscles.model.arrays(),
            **tolerance.arrays(),
        }
        progress("writing the twin")
        with writing(folder, KIND, wearer.id, inputs, found, (CALIBRATION_FILE,)) as target:
            shutil.copy(scaling.model, target / "scaled.osim")
            write_storage(target / "coordinates.mot", kinematics.coordinates)
            dataclasses.replace(compiled, arrays={**compiled.arrays, **own}).save(target)
            if analysis.loads is not None:
                analysis.loads.save(target)
            if muscles.walk is not None:
                muscles.walk.save(target, muscles.paths.muscles)
            calibration.save(target / CALIBRATION_FILE)
            gait.save(target / GAIT_FILE)
            envelope.save(target / "envelope.yaml")
            report = twin_quality(analysis, gait, retuned, muscles, compiled, capture.quality.figures, found)
            (target / "quality.yaml").write_text(quality_text(report), encoding="utf-8")
            shutil.copy(work / "opensim.log", target / "opensim.log")
    return folder


def _analysed(
    further: Sequence[FurtherWalk],
    known: WalkAnalysis,
    wearer: Wearer,
    emg: WalkEmg | None,
    progress: Callable[[str], None],
) -> tuple[list[tuple[WalkAnalysis, WalkEmg]], list[str]]:
    """Further walks on the wearer's model, and a sentence for those that cannot serve to calibrate its muscles."""
    found: list[tuple[WalkAnalysis, WalkEmg]] = []
    if further and emg is None:
        return found, [
            "the muscles are not calibrated from the further walks: the walk of the twin has no usable EMG to compare "
            "theirs with; mend it, or build the twin from another walk"
        ]
    notes = []
    for walk in further:
        progress("further walks")
        try:
            found.append((analyse_further_walk(known, walk.capture, wearer, walk.signals), walk.emg))
        except ExoError as refusal:
            notes.append(f"a further walk does not serve to calibrate the muscles: {refusal}")
    return found, notes


def _mean_stride(analysis: WalkAnalysis, capture: SessionCapture) -> Gait:
    """The wearer's mean stride, with its moments where the recording tells them."""
    strides = [dataclasses.asdict(stride) for stride in capture.strides]
    loads = analysis.loads
    moments = None
    if loads is not None:
        known = [name for name in loads.tree.coordinates if is_other(name) and not name.startswith(UNKNOWN_MOMENTS)]
        others = {name: loads.dynamics.of(name) for name in known}
        moments = StrideMoments(loads.time, {**loads.moments, **others}, loads.measured)
    source = f"{analysis.fit.source}, mean of {len(strides)} strides"
    return gait_from_motion(_flexion_positive(analysis), strides, source, moments)


def _calibration(
    folder: Path, wearer: str, muscles: MuscleAnalysis, emg: WalkEmg | None
) -> tuple[TwinCalibration, list[str]]:
    """How encoders, IMUs and EMG read: what the twin that is replaced knew of this wearer, with this walk's EMG."""
    notes = []
    try:
        known = TwinCalibration.of_twin(folder, wearer)
    except ExoError as refusal:
        known = TwinCalibration.identity(wearer)
        notes.append(f"the earlier calibration of what is worn was not kept: {refusal}")
    if emg is not None and muscles.channels:
        return known.with_emg(muscles.channels, emg.source), notes
    own = set(muscles.paths.muscles)
    kept = {name: channel for name, channel in known.emg.items() if own.issuperset(channel.muscles)}
    if len(kept) < len(known.emg):
        lost = ", ".join(name for name in known.emg if name not in kept)
        notes.append(f"EMG of {lost} is calibrated no longer: this model lacks its muscles; record EMG with the walk")
        known = dataclasses.replace(known, emg=kept)
    return known, notes


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
