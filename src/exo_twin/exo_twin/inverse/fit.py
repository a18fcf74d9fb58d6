"""A recording in, the wearer's scaled model and joint angles out: one function per kind of recording."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_set import MarkerSet
from exo_common.opensim_files import Markers, Storage
from exo_twin.inverse.keypoint_model import BLAZEPOSE, keypoint_model
from exo_twin.inverse.keypoint_motion import solve_keypoints
from exo_twin.inverse.kinematics import TURN, Kinematics, kinematics_warnings, solve_kinematics, walking_forward
from exo_twin.inverse.marker_model import marker_model, mend_model, place_markers
from exo_twin.inverse.models import blazepose_model, load_model
from exo_twin.inverse.motion_prior import is_translation
from exo_twin.inverse.refinement import Refinement, refine
from exo_twin.inverse.scaling import (
    MIN_FRAMES,
    Scaling,
    check_keypoints,
    check_wearer,
    judge_lengths,
    scale_by,
    scale_model,
)
from exo_twin.inverse.segment_masses import share_masses
from exo_twin.inverse.static_trial import static_warnings
from exo_twin.inverse.tree_from_opensim import kinematic_tree

Progress = Callable[[str], None]
FloatArray = NDArray[np.float64]

PELVIS_WARNING = (
    "the pelvis is told by the trunk line of the keypoints: hip flexion may be off by a constant 5-6 degrees; "
    "its range of motion is not affected"
)
PLACEMENT_WARNING_M = 0.05  # landmarks of a static trial further from the scaled generic model are oddly placed


@dataclasses.dataclass(frozen=True)
class Fit:
    """Scaled model and its motion.

    Attributes
    ----------
    source : in words where they come from.
    weights : marker -> weight; None: all the same.
    refined : of skin markers, how sizes and places were mended.
    """

    scaling: Scaling
    kinematics: Kinematics
    source: str
    weights: Mapping[str, float] | None = None
    refined: Refinement | None = None

    @property
    def warnings(self) -> list[str]:
        """Sentences of both steps."""
        return [*self.scaling.warnings, *self.kinematics.warnings]


def fit_keypoints(
    keypoints: Markers,
    height: float,
    mass: float,
    work: Path,
    progress: Progress = lambda _: None,
    strides: Sequence[Mapping[str, Any]] = (),
    covariance: FloatArray | None = None,
    planar: bool = False,
    convention: str = BLAZEPOSE,
    sex: str = "unknown",
) -> Fit:
    """Fit the generic model to the keypoints of one camera or several: the most probable motion, then its model.

    Parameters
    ----------
    keypoints : BlazePose keypoints in OpenSim's frame, m, along +x or -x; not smoothed, gaps NaN.
    height, mass : of the wearer, m and kg.
    work : folder for `scaled.osim`.
    strides, covariance, planar : see solve_keypoints.
    convention : what the keypoints mean, see keypoint_model.
    sex : of the wearer; tells how the mass is shared among the segments.

    Raises
    ------
    ExoError : one sentence, for any input that cannot be fitted.
    """
    check_wearer(height, mass)
    check_keypoints(keypoints, MIN_FRAMES)
    progress("solving the motion")
    model = keypoint_model(blazepose_model(), convention)
    forward = walking_forward(keypoints)
    if covariance is not None and forward is not keypoints:
        covariance = covariance * np.outer(TURN, TURN)
    motion = solve_keypoints(model, forward, height, strides, covariance, planar)
    found = motion.trajectory
    progress("scaling the OpenSim model")
    segments = model.segments(height)
    by_body = {body: found.factors[segment.name] for segment in segments for body in segment.bodies}
    lengths = {
        name: {
            "length_m": round(model.lengths[name] * found.factors[name], 4),
            "spread_m": round(model.lengths[name] * found.factors_sd[name], 4),
            "factor": round(found.factors[name], 4),
        }
        for name in model.lengths
    }
    warnings = judge_lengths(lengths, height)
    scaled = work / "scaled.osim"
    placed = model.with_places(found)
    share_masses(placed, sex)
    strength = scale_by(placed, by_body, mass, scaled)
    degrees = np.array([1.0 if is_translation(name) else 180.0 / np.pi for name in found.coordinates])
    seen = np.isfinite(found.q).all(axis=1)
    values = found.q[seen] * degrees
    coordinates = Storage(found.time[seen], found.coordinates, values, in_degrees=True)
    error = np.sqrt(np.nanmean(np.sum(motion.miss**2, axis=2), axis=0))
    saturated = motion.saturated(model)
    kinematics = Kinematics(
        coordinates,
        motion.marker_rms[seen],
        dict(zip(found.markers, map(float, error), strict=True)),
        saturated,
        [*kinematics_warnings(motion.marker_rms[seen], saturated), *motion.warnings, PELVIS_WARNING],
        {name: round(float(np.degrees(np.nanmean(sd))), 1) for name, sd in motion.angles_sd.items()},
        round(found.dropped, 3),
    )
    source = "one camera seen from the side" if planar else "keypoints in space"
    return Fit(
        Scaling(scaled, by_body, lengths, mass, strength, warnings), kinematics, f"{source}, most probable motion"
    )


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
    sex: str = "unknown",
) -> Fit:
    """Fit a generic model to skin markers of a motion-capture lab: scale, place the markers, mend both, solve in 3-D.

    Parameters
    ----------
    markers : of the walk along +x or -x, with keypoints (MarkerSet.with_keypoints), in OpenSim's frame, m.
    static : the same of a quiet stance; without one the walk itself scales the model and places the markers.
    height, mass : of the wearer, m and kg.
    work : folder for `scaled.osim`.
    generic : the unscaled .osim; by default the one that keypoints use.
    clamped : see solve_kinematics.
    sex : of the wearer; tells how the mass is shared among the segments.

    Raises
    ------
    ExoError : one sentence, for any input that cannot be fitted.
    """
    markers = walking_forward(markers)
    static = None if static is None else walking_forward(static)
    progress("scaling the OpenSim model")
    equipped = marker_model(generic or blazepose_model().model, marker_set, work)
    reference, min_frames = (markers, MIN_FRAMES) if static is None else (static, 1)
    scaled = work / "scaled.osim"
    scaling = scale_model(reference, height, mass, equipped, scaled, min_frames, sex)
    progress("placing the markers")
    off = place_markers(scaled, equipped, marker_set, reference, static is not None)
    if static is not None and off > PLACEMENT_WARNING_M:
        scaling.warnings.append(
            f"the landmarks of the static trial lie {1e3 * off:.0f} mm off the scaled model; "
            "check its labels, or whether it belongs to this wearer"
        )
    if static is not None:
        scaling.warnings.extend(static_warnings(static, markers, marker_set))
    progress("refining sizes and marker places")
    model = load_model(scaled)
    model.initSystem()
    refined = refine(kinematic_tree(model), markers, static, marker_set)
    mend_model(scaled, refined, mass)
    progress("inverse kinematics")
    kinematics = solve_kinematics(markers, scaled, equipped, clamped=clamped)
    factors = {body: factor * refined.factors.get(body, 1.0) for body, factor in scaling.factors.items()}
    return Fit(
        dataclasses.replace(scaling, factors=factors, lengths=_mended(scaling.lengths, refined)),
        kinematics,
        f"markers ({marker_set.name}), inverse kinematics",
        equipped.weights,
        refined,
    )


def _mended(lengths: Mapping[str, Mapping[str, float]], refined: Refinement) -> dict[str, dict[str, float]]:
    """Segments' lengths and factors of the refined model; their spread is the measurement's."""
    result = {}
    for name, values in lengths.items():
        by = refined.segments.get(name, 1.0)
        length, factor = round(by * values["length_m"], 4), round(by * values["factor"], 4)
        result[name] = {**values, "length_m": length, "factor": factor}
    return result
