"""Tendons that leave the fibres at a useless length in the wearer's own stride are set right.

A generic model whose segments were resized without its tendons (the calf
muscles of the pose2sim wheel's model stand at 1.7 optimal lengths in standing)
cannot push off, whatever the scaling. Walking muscles work between about half
and 1.2 optimal lengths (Arnold et al. 2013, J Exp Biol 216:2150), so a tendon
that keeps its fibre out of there is given the slack length that centres the
fibre's mean over the stride on its optimum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_twin.forward.compiler.skeleton import neutral_pose, set_pose
from exo_twin.opensim_runtime import opensim
from exo_twin.planar_muscles import MEMBERS
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

PLAUSIBLE_MEAN = (0.6, 1.3)  # optimal lengths, mean over a stride
STRIDE_SAMPLES = 5  # every fifth percent of the stride


@dataclasses.dataclass(frozen=True)
class Retuned:
    """One muscle, both sides alike: mean fibre length over the stride (optimal lengths) and slack length (m)."""

    muscle: str
    mean_before: float
    mean_after: float
    slack_before: float
    slack_after: float


def retune_tendons(osim: Path, gait: Gait) -> list[Retuned]:
    """Rewrite a scaled model with plausible tendon slack lengths in the leg muscles the walker uses.

    Left and right get the same slack length, from the strides of both legs;
    muscles inside PLAUSIBLE_MEAN are not touched.

    Raises
    ------
    ExoError : naming a leg muscle that the model lacks, or that no tendon can set right.
    """
    model = opensim.Model(str(osim.resolve()))
    state = model.initSystem()
    lengths = _stride_lengths(model, state, gait)
    changed = []
    for stem, path_lengths in lengths.items():
        muscles = [model.updMuscles().get(f"{stem}_{side}") for side in SIDES]
        optimal, slack = muscles[0].getOptimalFiberLength(), muscles[0].getTendonSlackLength()
        height = optimal * np.sin(muscles[0].getPennationAngleAtOptimalFiberLength())
        before = _mean_fibre(path_lengths, slack, height, optimal)
        if PLAUSIBLE_MEAN[0] <= before <= PLAUSIBLE_MEAN[1]:
            continue
        shortest, longest = path_lengths.max() - 3.0 * optimal, float(path_lengths.mean())
        try:
            wanted = float(
                brentq(lambda s: _mean_fibre(path_lengths, s, height, optimal) - 1.0, max(shortest, 1e-3), longest)  # noqa: B023
            )
        except ValueError:
            raise ExoError(
                f"no tendon length gives muscle '{stem}' a usable fibre in this stride; check scaling and joint angles"
            ) from None
        for muscle in muscles:
            muscle.setTendonSlackLength(wanted)
        after = _mean_fibre(path_lengths, wanted, height, optimal)
        changed.append(Retuned(stem, before, after, slack, wanted))
    if changed:
        model.initSystem()
        model.printToXML(str(osim))
    return changed


def tuning_warnings(changed: Sequence[Retuned]) -> list[str]:
    """One sentence for all."""
    if not changed:
        return []
    names = ", ".join(item.muscle for item in changed)
    return [
        f"the generic model leaves {names} outside the length range in which walking muscles work; "
        "their tendon slack lengths were set to centre them on it"
    ]


def _stride_lengths(model: Any, state: Any, gait: Gait) -> dict[str, FloatArray]:
    """Muscle (without side) -> path lengths, m, over the mean strides of both legs."""
    stems = [stem for names, _ in MEMBERS.values() for stem in names]
    muscles = model.getMuscles()
    for stem in stems:
        for side in SIDES:
            if not muscles.contains(f"{stem}_{side}"):
                raise ExoError(f"the model has no muscle '{stem}_{side}'; use a model of the Rajagopal family")
    set_pose(model, state, neutral_pose(model))
    rows = []
    for i in range(0, len(gait.curves[LEG_COORDINATES[0]]) - 1, STRIDE_SAMPLES):
        set_pose(model, state, {name: float(gait.curves[name][i]) for name in LEG_COORDINATES})
        rows.append([[muscles.get(f"{stem}_{side}").getLength(state) for side in SIDES] for stem in stems])
    table = np.array(rows)
    return {stem: table[:, i].ravel() for i, stem in enumerate(stems)}


def _mean_fibre(path_lengths: FloatArray, slack: float, height: float, optimal: float) -> float:
    """Mean normalised fibre length with a rigid tendon and a fibre of constant height."""
    return float(np.mean(np.hypot(np.maximum(path_lengths - slack, 0.0), height)) / optimal)
