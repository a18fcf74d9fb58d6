"""The generic full-body OpenSim model, its marker set and set-up files, from the installed pose2sim wheel."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

from exo_common.errors import ExoError
from exo_twin.opensim_runtime import opensim

PACKAGE = "Pose2Sim"


@dataclasses.dataclass(frozen=True)
class GenericModel:
    """What scaling and inverse kinematics start from.

    Attributes
    ----------
    model : the unscaled .osim with muscles.
    markers : marker set (.xml) of the keypoints on the model.
    ik_setup : inverse-kinematics set-up (.xml); only its marker weights are used.
    """

    model: Path
    markers: Path
    ik_setup: Path


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
    found = GenericModel(
        folder / "Model_Pose2Sim_muscles_flex.osim",
        folder / "Markers_BlazePose.xml",
        folder / "IK_Setup_Pose2Sim_Blazepose.xml",
    )
    for path in (found.model, found.markers, found.ik_setup):
        if not path.is_file():
            raise ExoError(
                f"{path} is missing from the installed pose2sim; delete .exo/ and run ./exo shell to set up again"
            )
    opensim.ModelVisualizer.addDirToGeometrySearchPaths(str(folder / "Geometry"))
    return found
