"""What scaling and inverse kinematics start from: a generic OpenSim model, markers on it, and what they measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from exo_common.errors import ExoError
from exo_twin.opensim_runtime import opensim

PACKAGE = "Pose2Sim"

# Measured segment -> (marker pairs, left and right together; OpenSim bodies it scales, sides stripped).
# A pair is two names; "a+b" is the midpoint of two markers.
Segments = Mapping[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]]


@dataclasses.dataclass(frozen=True)
class GenericModel:
    """A generic model and how a recording's markers or keypoints relate to it.

    Attributes
    ----------
    model : the unscaled .osim with muscles.
    markers : marker set (.xml) of the markers or keypoints on the model.
    weights : marker -> weight in inverse kinematics; None: all weigh the same.
    segments : which distances scale which bodies; to scale by markers it needs "trunk", "thigh" and "shank".
    """

    model: Path
    markers: Path
    weights: Mapping[str, float] | None = None
    segments: Segments = dataclasses.field(default_factory=dict)


def blazepose_model() -> GenericModel:
    """The pose2sim wheel's muscle-driven model with MediaPipe BlazePose's markers; registers its geometry.

    Raises
    ------
    ExoError : if the wheel or one of its files is missing.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ExoError(
            "the package pose2sim, which carries the generic OpenSim model, is not installed; run ./exo shell"
        )
    folder = Path(spec.origin).parent / "OpenSim_Setup"
    found = GenericModel(folder / "Model_Pose2Sim_muscles_flex.osim", folder / "Markers_BlazePose.xml")
    for path in (found.model, found.markers):
        if not path.is_file():
            raise ExoError(
                f"{path} is missing from the installed pose2sim; delete .exo/ and run ./exo shell to set up again"
            )
    opensim.ModelVisualizer.addDirToGeometrySearchPaths(str(folder / "Geometry"))
    return found


def load_model(path: Path) -> Any:
    """An OpenSim model.

    Raises
    ------
    ExoError : if the file is missing or no model.
    """
    if not path.is_file():
        raise ExoError(f"the OpenSim model {path} does not exist; check the file name")
    try:
        return opensim.Model(str(path.resolve()))
    except RuntimeError as error:
        raise ExoError(
            f"{path} is not an OpenSim model ({str(error).strip().splitlines()[0]}); export it again"
        ) from None
