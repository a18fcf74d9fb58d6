"""The wearer's muscles, all of it: paths, parameters, what they did in the walk, and how far that can be believed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exo_twin.calibration import EmgChannel
from exo_twin.inverse import muscle_quality
from exo_twin.inverse.analysis import WalkAnalysis
from exo_twin.inverse.emg_muscles import ELECTROMECHANICAL_DELAY_S
from exo_twin.inverse.models import load_model
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_path_quality import PathFit
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.walk_muscles import WalkEmg, WalkMuscles, solve_walk

Progress = Callable[[str], None]

NO_LOADS = "none: the recording tells no joint moments"
STATIC, ASSISTED = "static optimisation", "EMG-assisted"


@dataclasses.dataclass(frozen=True)
class MuscleAnalysis:
    """The wearer's muscles.

    Attributes
    ----------
    fit : their paths.
    scaled, model : parameters as scaled, and as calibrated to the wearer (the same where that was not possible).
    walk : what they did; None where the recording tells no moments.
    channels : EMG channel -> how it drives the model's muscles.
    warnings : sentences.
    """

    fit: PathFit
    scaled: MuscleModel
    model: MuscleModel
    walk: WalkMuscles | None
    channels: Mapping[str, EmgChannel]
    warnings: tuple[str, ...]

    @property
    def paths(self) -> MusclePaths:
        """Of the same muscles in the same order."""
        return self.fit.paths

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
            "frames": len(self.walk.solution.time),
            **found,
            "reserves": muscle_quality.reserves(self.walk.solution, self.walk.wanted, self.paths),
            "emg": muscle_quality.emg_agreement(self.walk, self.paths.muscles),
        }


def analyse_muscles(
    osim: Path, analysis: WalkAnalysis, emg: WalkEmg | None = None, progress: Progress = lambda _: None
) -> MuscleAnalysis:
    """Fit the muscles' paths (kept by the model's hash), and share the walk's moments among the muscles.

    Parameters
    ----------
    osim : the wearer's scaled model, of `analysis`.
    emg : of the same walk.

    Raises
    ------
    ExoError : if the model has no leg muscles, or one of a class whose curves are not known.
    """
    fit = fit_muscle_paths(osim, analysis.tree, progress=progress)
    progress("muscle activations and forces")
    model = load_model(osim)
    model.initSystem()
    scaled = muscle_model(model, fit.paths.muscles)
    if analysis.loads is None:
        told = (
            () if emg is None else ("the EMG is not used: without joint moments it cannot be merged with the motion",)
        )
        return MuscleAnalysis(fit, scaled, scaled, None, {}, (*fit.warnings, *told))
    walk = solve_walk(analysis, fit.paths, scaled, emg)
    channels = {}
    if walk.measured is not None:
        channels = {
            name: EmgChannel(own, float(gain), ELECTROMECHANICAL_DELAY_S)
            for (name, own), gain in zip(walk.measured.emg.measured.items(), walk.measured.gain, strict=True)
        }
    short = muscle_quality.reserve_warnings(muscle_quality.reserves(walk.solution, walk.wanted, fit.paths))
    return MuscleAnalysis(fit, scaled, scaled, walk, channels, (*fit.warnings, *walk.warnings, *short))
