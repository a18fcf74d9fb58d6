"""A recording in, the wearer's scaled model and joint angles out: one function per kind of recording."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from exo_capture.marker_set import MarkerSet
from exo_common.opensim_files import Markers
from exo_twin.inverse.kinematics import Kinematics, solve_kinematics
from exo_twin.inverse.marker_model import marker_model, place_markers
from exo_twin.inverse.models import blazepose_model
from exo_twin.inverse.scaling import MIN_FRAMES, Scaling, scale_model

Progress = Callable[[str], None]

PLACEMENT_WARNING_M = 0.05  # landmarks of a static trial further from the scaled generic model are oddly placed


@dataclasses.dataclass(frozen=True)
class Fit:
    """Scaled model, its motion, and in words where they come from."""

    scaling: Scaling
    kinematics: Kinematics
    source: str

    @property
    def warnings(self) -> list[str]:
        """Sentences of both steps."""
        return [*self.scaling.warnings, *self.kinematics.warnings]


def fit_side_view(
    keypoints: Markers, height: float, mass: float, work: Path, progress: Progress = lambda _: None
) -> Fit:
    """Fit the generic model to one camera's keypoints, in two passes: their distances depend on the pose.

    Parameters
    ----------
    keypoints : BlazePose keypoints in OpenSim's frame, m, true in the x-y plane only.
    height, mass : of the wearer, m and kg.
    work : folder for `scaled.osim` and `coordinates.mot`.

    Raises
    ------
    ExoError : one sentence, for any input that cannot be fitted.
    """
    progress("scaling the OpenSim model")
    generic = blazepose_model()
    first = scale_model(keypoints, height, mass, generic, work / "scaled.osim")
    progress("inverse kinematics, first pass")
    motion = solve_kinematics(keypoints, first.model, generic, work / "coordinates.mot").coordinates
    scaling = scale_model(keypoints, height, mass, generic, work / "scaled.osim", motion=motion)
    progress("inverse kinematics, second pass")
    kinematics = solve_kinematics(keypoints, scaling.model, generic, work / "coordinates.mot", motion=motion)
    return Fit(scaling, kinematics, "video of one sagittal camera, OpenSim inverse kinematics")


def fit_markers(
    markers: Markers,
    static: Markers | None,
    marker_set: MarkerSet,
    height: float,
    mass: float,
    work: Path,
    progress: Progress = lambda _: None,
    generic: Path | None = None,
    clamped: bool = True,
) -> Fit:
    """Fit a generic model to skin markers of a motion-capture lab: scale, place the markers, solve in 3-D.

    Parameters
    ----------
    markers : of the walk, with keypoints (MarkerSet.with_keypoints), in OpenSim's frame, m.
    static : the same of a quiet stance; without one the walk itself scales the model and places the markers.
    height, mass : of the wearer, m and kg.
    work : folder for `scaled.osim` and `coordinates.mot`.
    generic : the unscaled .osim; by default the one that keypoints use.
    clamped : see solve_kinematics.

    Raises
    ------
    ExoError : one sentence, for any input that cannot be fitted.
    """
    progress("scaling the OpenSim model")
    equipped = marker_model(generic or blazepose_model().model, marker_set, work)
    reference, min_frames = (markers, MIN_FRAMES) if static is None else (static, 1)
    scaled = work / "scaled.osim"
    scaling = scale_model(reference, height, mass, equipped, scaled, sagittal=False, min_frames=min_frames)
    progress("placing the markers")
    off = place_markers(scaled, equipped, marker_set, reference, static is not None)
    if static is not None and off > PLACEMENT_WARNING_M:
        scaling.warnings.append(
            f"the landmarks of the static trial lie {1e3 * off:.0f} mm off the scaled model; "
            "check its labels, or whether it belongs to this wearer"
        )
    progress("inverse kinematics")
    kinematics = solve_kinematics(markers, scaled, equipped, work / "coordinates.mot", sagittal=False, clamped=clamped)
    return Fit(scaling, kinematics, f"markers ({marker_set.name}), OpenSim inverse kinematics")
