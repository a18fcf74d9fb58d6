"""The wearer's muscles, all of it: paths, parameters, what they did in the walk, and how far that can be believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from exo_common.errors import ExoError
from exo_twin.calibration import EmgChannel
from exo_twin.inverse import muscle_quality
from exo_twin.inverse.analysis import WalkAnalysis
from exo_twin.inverse.emg_muscles import ELECTROMECHANICAL_DELAY_S
from exo_twin.inverse.models import load_model
from exo_twin.inverse.muscle_calibration import Calibrated, calibrate_muscles
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_path_quality import PathFit
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.walk_muscles import (
    ADULT_SIZE_NM,
    TENDONS,
    WalkEmg,
    WalkMuscles,
    calibration_trial,
    solve_walk,
)

Progress = Callable[[str], None]

NO_LOADS = "none: the recording tells no joint moments"
STATIC, ASSISTED = "static optimisation", "EMG-assisted optimisation"


@dataclasses.dataclass(frozen=True)
class MuscleAnalysis:
    """The wearer's muscles.

    Attributes
    ----------
    fit : their paths.
    scaled, model : parameters as scaled, and as calibrated to the wearer (the same where that was not possible).
    calibrated : how; None where they stay generic.
    walk : what they did; None where the recording tells no moments.
    warnings : sentences.
    size : Nm, the wearer's weight times height.
    """

    fit: PathFit
    scaled: MuscleModel
    model: MuscleModel
    calibrated: Calibrated | None
    walk: WalkMuscles | None
    warnings: tuple[str, ...]
    size: float = ADULT_SIZE_NM

    @property
    def paths(self) -> MusclePaths:
        """Of the same muscles in the same order."""
        return self.fit.paths

    @property
    def channels(self) -> dict[str, EmgChannel]:
        """EMG channel -> how it drives the model's muscles."""
        measured = None if self.walk is None else self.walk.measured
        if measured is None:
            return {}
        return {
            name: EmgChannel(own, float(gain), ELECTROMECHANICAL_DELAY_S, measured.shape)
            for (name, own), gain in zip(measured.emg.measured.items(), measured.gain, strict=True)
        }

    def quality(self) -> dict[str, Any]:
        """Figures for a report."""
        found: dict[str, Any] = {
            "warnings": list(self.warnings),
            "paths": muscle_quality.paths_quality(self.fit),
        }
        if self.walk is None:
            return {"method": NO_LOADS, **found}
        return {
            "method": STATIC if self.walk.measured is None else ASSISTED,
            "tendons": TENDONS,
            "frames": len(self.walk.solution.time),
            **found,
            "reserves": muscle_quality.reserves(self.walk.solution, self.walk.wanted, self.paths, self.size),
            "emg": muscle_quality.emg_agreement(self.walk, self.paths.muscles),
            "calibration": None
            if self.calibrated is None
            else muscle_quality.calibration_quality(self.calibrated, self.paths.muscles),
        }


def analyse_muscles(
    osim: Path,
    analysis: WalkAnalysis,
    emg: WalkEmg | None = None,
    further: Sequence[tuple[WalkAnalysis, WalkEmg]] = (),
    symmetric: bool = True,
    progress: Progress = lambda _: None,
    size: float = ADULT_SIZE_NM,
) -> MuscleAnalysis:
    """Fit the muscles' paths (kept by the model's hash), calibrate the muscles, share the walk's moments among them.

    Parameters
    ----------
    osim : the wearer's scaled model, of `analysis`.
    emg : of the same walk.
    further : walks on the same model with their EMG, to calibrate from as well.
    symmetric : whether a leg without EMG may be taken to have the other's muscles.
    size : Nm, the wearer's weight times height.

    Raises
    ------
    ExoError : if the model has no leg muscles, or one of a class whose curves are not known.
    """
    fit = fit_muscle_paths(osim, analysis.tree, progress=progress)
    model = load_model(osim)
    model.initSystem()
    scaled = muscle_model(model, fit.paths.muscles)
    if analysis.loads is None:
        told = (
            () if emg is None else ("the EMG is not used: without joint moments it cannot be merged with the motion",)
        )
        return MuscleAnalysis(fit, scaled, scaled, None, None, (*fit.warnings, *told))
    walks = [] if emg is None else [(analysis, emg), *((walk, own.like(emg)) for walk, own in further)]
    calibrated, notes = _calibrate(walks, fit.paths, scaled, symmetric, progress)
    own = scaled if calibrated is None else calibrated.model
    progress("muscle activations and forces")
    walk = solve_walk(analysis, fit.paths, scaled, emg, calibrated, size)
    short = muscle_quality.reserve_warnings(
        *(muscle_quality.reserves(one, walk.wanted, fit.paths, size) for one in (walk.solution, walk.static))
    )
    guessed = muscle_quality.force_warnings(analysis.loads)
    warnings = dict.fromkeys((*fit.warnings, *guessed, *notes, *walk.warnings, *short))
    return MuscleAnalysis(fit, scaled, own, calibrated, walk, tuple(warnings), size)


def _calibrate(
    walks: Sequence[tuple[WalkAnalysis, WalkEmg]],
    paths: MusclePaths,
    muscles: MuscleModel,
    symmetric: bool,
    progress: Progress,
) -> tuple[Calibrated | None, tuple[str, ...]]:
    """The muscles calibrated to the walks; None, and why, where plates or EMG do not allow it or it does not help."""
    if not walks:
        return None, ()
    measured = [(walk, emg) for walk, emg in walks if walk.loads is not None and walk.loads.plates is not None]
    if not measured:
        return None, ("the muscles stay generic: calibration needs moments from force plates beside the EMG",)
    try:
        trials = [calibration_trial(walk, paths, emg) for walk, emg in measured]
        first = walks[0][1]
        full = {
            name: 1.0 for name, of_full_effort in zip(first.channels, first.full_effort, strict=True) if of_full_effort
        }
        found = calibrate_muscles(
            trials, paths, muscles, first.channels, mirror=symmetric, known_gain=full, progress=progress
        )
    except ExoError as refusal:
        return None, (f"the muscles stay generic: {refusal}",)
    if found.pull == 0.0:
        return None, found.warnings
    if found.error_unseen >= found.error_before:
        return None, (
            *found.warnings,
            "the muscles stay generic: calibrated ones explain moments that they have not seen no better "
            f"({found.error_unseen:.1f} against {found.error_before:.1f} Nm)",
        )
    return found, (*found.warnings, *muscle_quality.bound_warnings(found, paths.muscles))
