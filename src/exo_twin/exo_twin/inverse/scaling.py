"""A generic OpenSim model made the wearer's size: by marker distances, or by factors known already."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.forward.compiler.skeleton import set_pose
from exo_twin.inverse.models import GenericModel
from exo_twin.inverse.segment_masses import share_masses
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

# Bodies without a length of their own take the mean factor of these segments.
OVERALL = ("trunk", "thigh", "shank")
REQUIRED = (
    "LShoulder",
    "RShoulder",
    "LHip",
    "RHip",
    "LKnee",
    "RKnee",
    "LAnkle",
    "RAnkle",
    "LHeel",
    "RHeel",
    "LBigToe",
    "RBigToe",
)
MIN_FRAMES = 20  # for a median length
# Arms hang in the scaled model's neutral pose (this model's default is a T).
ARMS_DOWN = {"arm_add_l": 0.0, "arm_add_r": 0.0}
FACTOR_LIMITS = (0.6, 1.5)  # of the generic adult; beyond it units or labels are wrong
# Thigh plus shank as a fraction of stature (Drillis & Contini 1966, in Winter 2009), and how far keypoints may differ.
LEG_OF_STATURE = 0.245 + 0.246
STATURE_WARNING, STATURE_ERROR = 0.10, 0.30
SPREAD_WARNING = 0.07  # of the length; keypoints' prior is 0.08, so then they have told next to nothing
HEIGHT_LIMITS, MASS_LIMITS = (0.8, 2.4), (15.0, 250.0)  # m, kg
# Force grows with a muscle's cross-section, hence with mass^(2/3) between geometrically similar people.
STRENGTH_EXPONENT = 2.0 / 3.0


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the generic model was fitted to the wearer.

    Attributes
    ----------
    model : the scaled .osim.
    factors : OpenSim body -> scale factor.
    lengths : measured segment -> {length_m, spread_m, factor}; `spread` is robust (1.48 MAD) over
        frames of markers, a standard deviation for keypoints.
    mass : kg, of the scaled model.
    strength_factor : on every muscle's F_max.
    warnings : sentences.
    """

    model: Path
    factors: dict[str, float]
    lengths: dict[str, dict[str, float]]
    mass: float
    strength_factor: float
    warnings: list[str]


def scale_model(
    markers: Markers,
    height: float,
    mass: float,
    generic: GenericModel,
    output: Path,
    min_frames: int = MIN_FRAMES,
    sex: str = "unknown",
) -> Scaling:
    """Scale the generic model by marker distances.

    Every factor is the ratio of the median distance over all frames and both
    sides to the same distance on the standing model; left and right are scaled alike.

    Parameters
    ----------
    markers : with their keypoints, in OpenSim's frame, m.
    height, mass : of the wearer, m and kg.
    output : the .osim to write.
    min_frames : in which a keypoint must be seen; 1 for the markers of a static trial.
    sex : tells how the mass is shared among the segments.

    Raises
    ------
    ExoError : for an impossible height or mass, a missing keypoint, or lengths
        that fit neither a human nor this height.
    """
    check_wearer(height, mass)
    check_keypoints(markers, min_frames)
    model = opensim.Model(str(generic.model))
    model.updateMarkerSet(opensim.MarkerSet(str(generic.markers)))
    for name, angle in ARMS_DOWN.items():
        model.updCoordinateSet().get(name).setDefaultValue(angle)
    state = model.initSystem()
    on_model = model_markers(model, state)
    measured = {name: _length(markers, pairs, min_frames) for name, (pairs, _) in generic.segments.items()}
    lengths, factors = {}, {}
    for name, (pairs, _) in generic.segments.items():
        if measured[name] is None:
            continue
        length, spread = measured[name] or (0.0, 0.0)
        reference = _length(on_model, pairs, 1)
        assert reference is not None
        factors[name] = length / reference[0]
        lengths[name] = {
            "length_m": round(length, 4),
            "spread_m": round(spread, 4),
            "factor": round(factors[name], 4),
        }
    warnings = judge_lengths(lengths, height)
    overall = float(np.mean([factors[name] for name in OVERALL if name in factors]))
    by_body = {body.getName(): overall for body in model.getBodySet()}
    for name, factor in factors.items():
        for stem in generic.segments[name][1]:
            for body in (stem, f"{stem}_l", f"{stem}_r"):
                if body in by_body:
                    by_body[body] = factor
    share_masses(model, sex)
    strength = scale_by(model, by_body, mass, output)
    return Scaling(output, by_body, lengths, mass, strength, warnings)


def check_wearer(height: float, mass: float) -> None:
    if not (np.isfinite(height) and HEIGHT_LIMITS[0] <= height <= HEIGHT_LIMITS[1]):
        raise ExoError(f"wearer height {height} is not a height in m (0.8-2.4); correct session.yaml")
    if not (np.isfinite(mass) and MASS_LIMITS[0] <= mass <= MASS_LIMITS[1]):
        raise ExoError(f"wearer mass {mass} is not a mass in kg (15-250); correct session.yaml")


def check_keypoints(markers: Markers, min_frames: int) -> None:
    missing = [name for name in REQUIRED if name not in markers.names]
    if missing:
        raise ExoError(
            f"keypoint '{missing[0]}' is missing ({len(markers.names)} are there); "
            "export shoulders, hips, knees, ankles, heels and big toes of both sides under BlazePose's names"
        )
    for name in REQUIRED:
        seen = int(np.isfinite(markers.position[:, markers.names.index(name)]).all(axis=1).sum())
        if seen < min_frames:
            raise ExoError(
                f"keypoint '{name}' is visible in {seen} frames, {min_frames} are needed; film the whole leg"
            )


def model_markers(model: Any, state: Any) -> Markers:
    """The model's own markers, one frame in its default posture, in the ground frame."""
    set_pose(model, state, {})
    marker_set = model.getMarkerSet()
    names = tuple(marker_set.get(i).getName() for i in range(marker_set.getSize()))
    places = [marker_set.get(i).getLocationInGround(state) for i in range(len(names))]
    position = np.array([[[place.get(axis) for axis in range(3)] for place in places]])
    return Markers(np.zeros(1), names, position)


def _length(markers: Markers, pairs: tuple[tuple[str, str], ...], min_frames: int) -> tuple[float, float] | None:
    """Median distance and its robust spread over frames and sides, m; None if hardly ever visible."""
    distances = []
    for pair in pairs:
        ends = [_midpoint(markers, names.split("+")) for names in pair]
        if ends[0] is None or ends[1] is None:
            continue
        distances.append(np.linalg.norm(ends[1] - ends[0], axis=1))
    together = np.concatenate(distances) if distances else np.zeros(0)
    together = together[np.isfinite(together)]
    if len(together) < min_frames:
        return None
    median = float(np.median(together))
    return median, 1.4826 * float(np.median(np.abs(together - median)))


def _midpoint(markers: Markers, names: list[str]) -> FloatArray | None:
    if any(name not in markers.names for name in names):
        return None
    return np.mean([markers.position[:, markers.names.index(name)] for name in names], axis=0)


def judge_lengths(lengths: Mapping[str, Mapping[str, float]], height: float) -> list[str]:
    """Warnings about measured segments ("thigh" and "shank" among them; length_m, spread_m, factor).

    Raises
    ------
    ExoError : if they fit neither a human nor this height.
    """
    for name, values in lengths.items():
        if not FACTOR_LIMITS[0] <= values["factor"] <= FACTOR_LIMITS[1]:
            raise ExoError(
                f"the {name.replace('_', ' ')} measures {values['length_m']:.2f} m, {values['factor']:.2f} of an "
                "average adult's; check the keypoints' units (m) and labels"
            )
    expected = LEG_OF_STATURE * height
    leg = lengths["thigh"]["length_m"] + lengths["shank"]["length_m"]
    off = leg / expected - 1.0
    if abs(off) > STATURE_ERROR:
        raise ExoError(
            f"thigh and shank measure {leg:.2f} m together, a person of {height:.2f} m has about {expected:.2f} m; "
            "check the wearer's height and the keypoints' scale"
        )
    warnings = []
    if abs(off) > STATURE_WARNING:
        warnings.append(
            f"thigh and shank together are {100 * off:+.0f} % off the average for a height of {height:.2f} m; "
            "the scale of the keypoints may be wrong"
        )
    for name, values in lengths.items():
        spread = values["spread_m"] / values["length_m"]
        if spread > SPREAD_WARNING:
            warnings.append(
                f"the {name.replace('_', ' ')}'s length is uncertain by {100 * spread:.0f} %, and so is its scale"
            )
    return warnings


def scale_by(model: Any, by_body: Mapping[str, float], mass: float, output: Path) -> float:
    """Scale an initialised model with OpenSim's ScaleTool and write it; returns the factor on every F_max.

    Relative segment masses are the given model's, their sum is `mass` (kg). Optimal
    fibre and tendon slack lengths scale with their paths (ScaleTool), F_max
    with (mass / generic mass)^(2/3). Of the model's forces only the muscles are kept: contacts, springs, limits and
    actuators of the generic model would act beside the measured ground reaction in OpenSim's inverse dynamics.

    Raises
    ------
    ExoError : if OpenSim refuses or the file cannot be written.
    """
    strength = float((mass / model.getTotalMass(model.getWorkingState())) ** STRENGTH_EXPONENT)
    tool = opensim.ScaleTool()
    tool.setSubjectMass(mass)
    scaler = tool.getModelScaler()
    order = opensim.ArrayStr()
    order.append("manualScale")
    scaler.setScalingOrder(order)
    scaler.setPreserveMassDist(True)
    for body, factor in by_body.items():
        scale = opensim.Scale()
        scale.setSegmentName(body)
        scale.setScaleFactors(opensim.Vec3(factor))
        scale.setApply(True)
        scaler.addScale(scale)
    if not scaler.processModel(model, str(output.parent), mass):
        raise ExoError("OpenSim's ScaleTool refused the model; see opensim.log")
    _keep_muscles_only(model)
    muscles = model.updMuscles()
    for i in range(muscles.getSize()):
        muscles.get(i).setMaxIsometricForce(strength * muscles.get(i).getMaxIsometricForce())
    model.setName(output.stem)
    if not model.printToXML(str(output)):
        raise ExoError(f"{output} could not be written; free disk space or choose another folder")
    return strength


def _keep_muscles_only(model: Any) -> None:
    forces = model.updForceSet()
    for i in reversed(range(forces.getSize())):
        if opensim.Muscle.safeDownCast(forces.get(i)) is None:
            forces.remove(i)
