"""The generic model as video keypoints see it: where each keypoint sits, what scales together, how the trunk stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_twin.inverse.kinematic_tree import KinematicTree, pose
from exo_twin.inverse.models import GenericModel, load_model
from exo_twin.inverse.scaling import ARMS_DOWN, LEG_OF_STATURE
from exo_twin.inverse.trajectory_types import Segment, Trajectory
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

BLAZEPOSE, JOINT_CENTRES = "blazepose", "joint_centres"
CONVENTIONS = (BLAZEPOSE, JOINT_CENTRES)

# Keypoint (side stripped) -> the body whose origin it is, and the body that carries it: OpenSim's bodies begin at
# their proximal joint. The hip and the ankle turn about a fixed point of either body, the knee's rolls on the femur.
CENTRES = {
    "Hip": ("femur", "pelvis"),
    "Knee": ("tibia", "tibia"),
    "Ankle": ("talus", "tibia"),
    "Shoulder": ("humerus", "torso"),
    "Elbow": ("ulna", "humerus"),
    "Wrist": ("hand", "radius"),
}
# The back of the heel and the tip of the big toe, m in calcn and toes of a foot of 0.26 m, right side (z outward).
FOOT_POINTS = {"Heel": ("calcn", (-0.022, 0.025, 0.0)), "BigToe": ("toes", (0.065, 0.005, -0.02))}
# Ends of the sole: the origins of calcn and toes lie on it in this family of models, level in the neutral posture.
SOLE = {"Sole": "calcn", "Ball": "toes"}

# Lengths that are reported.
MEASURES = {
    "thigh": ("RHip", "RKnee"),
    "shank": ("RKnee", "RAnkle"),
    "foot": ("RHeel", "RBigToe"),
    "trunk": ("RHip", "RShoulder"),
}
# Bodies scaled together (sides stripped), and the SD of their size between people of one height.
SEGMENTS = (
    ("thigh", ("femur", "patella"), 0.08),
    ("shank", ("tibia",), 0.08),
    ("foot", ("talus", "calcn", "toes"), 0.08),
    ("pelvis", ("pelvis", "sacrum"), 0.05),
    ("trunk", ("torso", "lumbar1", "lumbar2", "lumbar3", "lumbar4", "lumbar5", "Abdomen"), 0.05),
    ("arm", ("humerus", "ulna", "radius", "hand"), 0.08),
)
# Keypoints tell one trunk line, hips to shoulders, not the pelvis. In walking adults that line leans forward by 2-3
# degrees (2.7 +- 2.2 in the 13 marker recordings of benchmarks/real_gait.py), while the pelvis stands near its
# anatomical position, in which the model's coordinates are zero; so much flexion of the spine, held, joins the two.
# Between people the pelvis differs by 5-6 degrees from what the trunk line says, which no keypoint shows.
TRUNK_LEAN_RAD = np.deg2rad(2.5)
PELVIS_SD_RAD = np.deg2rad(5.5)
LUMBAR = ("L5_S1_Flex_Ext", "lumbar_extension")


@dataclasses.dataclass(frozen=True)
class KeypointModel:
    """A generic model prepared for keypoints.

    Attributes
    ----------
    tree : with the keypoints and the ends of the soles as its markers, spine and arms in their usual posture.
    knee_sign : -1 where the model counts knee flexion negative.
    lumbar : the coordinate that joins pelvis and trunk line.
    lengths : thigh, shank, foot and trunk between the keypoints of the unscaled model, m.
    """

    generic: GenericModel
    tree: KinematicTree
    knee_sign: float
    lumbar: str
    lengths: dict[str, float]

    def segments(self, height: float) -> tuple[Segment, ...]:
        """What scales together for a wearer of this standing height, m."""
        mean = float(np.log(LEG_OF_STATURE * height / (self.lengths["thigh"] + self.lengths["shank"])))
        result = []
        for name, stems, sd in SEGMENTS:
            bodies = tuple(b for b in self.tree.bodies if b in stems or b[:-2] in stems)
            result.append(Segment(name, bodies, mean, sd))
        return tuple(result)

    def with_places(self, found: Trajectory) -> Any:
        """The generic opensim.Model, initialised, with the used keypoints where the wearer has them, arms down.

        Places are given before scaling, which moves them with their bodies.
        """
        model = load_model(self.generic.model)
        factor = {body: found.factors[s.name] for s in self.segments(1.0) for body in s.bodies}
        markers = opensim.MarkerSet()
        for name, shift in zip(found.markers, found.shift, strict=True):
            i = self.tree.markers.index(name)
            body = self.tree.bodies[self.tree.marker_body[i]]
            marker = opensim.Marker()
            marker.setName(name)
            marker.setParentFrameName(f"/bodyset/{body}")
            place = self.tree.marker_place[i] + shift / factor.get(body, 1.0)
            marker.set_location(opensim.Vec3(*map(float, place)))
            markers.cloneAndAppend(marker)
        model.updateMarkerSet(markers)
        for name, angle in ARMS_DOWN.items():
            model.updCoordinateSet().get(name).setDefaultValue(angle)
        model.initSystem()
        return model


def keypoint_model(generic: GenericModel, convention: str = BLAZEPOSE) -> KeypointModel:
    """Prepare a generic model.

    Parameters
    ----------
    convention : what the keypoints mean: where BlazePose puts them (the generic model's own marker set), or
        the joint centres with the back of the heel and the tip of the big toe.

    Raises
    ------
    ExoError : if the model cannot be read or lacks a body or the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise ExoError(f"keypoint convention '{convention}' is unknown; choose one of {', '.join(CONVENTIONS)}")
    model = load_model(generic.model)
    if convention == BLAZEPOSE:
        model.updateMarkerSet(opensim.MarkerSet(str(generic.markers)))
    state = model.initSystem()
    tree = kinematic_tree(model)
    points = dict(_points(model, state, SOLE))
    if convention == JOINT_CENTRES:
        points |= _points(model, state, None)
    else:
        points |= {
            name: (tree.bodies[body], place)
            for name, body, place in zip(tree.markers, tree.marker_body, tree.marker_place, strict=True)
        }
    tree = dataclasses.replace(
        tree,
        markers=tuple(points),
        marker_body=np.array([tree.bodies.index(body) for body, _ in points.values()], dtype=np.int64),
        marker_place=np.array([place for _, place in points.values()]),
    )
    default = tree.default.copy()
    for name, angle in ARMS_DOWN.items():
        if name in tree.coordinates:
            default[tree.index(name)] = angle
    lumbar = next((name for name in LUMBAR if name in tree.coordinates), None)
    if lumbar is None:
        raise ExoError(f"{generic.model} has no lumbar coordinate ({' or '.join(LUMBAR)}); use a model with a spine")
    tree = dataclasses.replace(tree, default=default)
    default[tree.index(lumbar)] = _usual_lumbar(tree, lumbar)
    knee = tree.index("knee_angle_r")
    sign = -1.0 if abs(tree.lower[knee]) > abs(tree.upper[knee]) else 1.0
    lengths = {}
    for name, (start, end) in MEASURES.items():
        ends = _at(tree, default, (start, end))
        lengths[name] = float(np.linalg.norm(ends[1] - ends[0]))
    return KeypointModel(generic, tree, sign, lumbar, lengths)


def _points(model: Any, state: Any, origins: dict[str, str] | None) -> dict[str, tuple[str, FloatArray]]:
    """Keypoint -> (body, place in it, m): bodies' origins, or the joint centres and foot points."""
    bodies = model.getBodySet()
    result: dict[str, tuple[str, FloatArray]] = {}
    for side in SIDES:
        s = side.upper()
        if origins is not None:
            result |= {f"{s}{name}": (f"{stem}_{side}", np.zeros(3)) for name, stem in origins.items()}
            continue
        for name, (origin, carrier) in CENTRES.items():
            body = carrier if carrier in ("pelvis", "torso") else f"{carrier}_{side}"
            place = bodies.get(f"{origin}_{side}").findStationLocationInAnotherFrame(
                state, opensim.Vec3(0), bodies.get(body)
            )
            result[f"{s}{name}"] = (body, np.array([place.get(i) for i in range(3)]))
        mirror = np.array([1.0, 1.0, 1.0 if side == "r" else -1.0])
        for name, (stem, location) in FOOT_POINTS.items():
            result[f"{s}{name}"] = (f"{stem}_{side}", np.array(location) * mirror)
    return result


def _usual_lumbar(tree: KinematicTree, lumbar: str) -> float:
    """Flexion of the spine with which the trunk line leans as it usually does over a neutral pelvis, rad."""

    def lean(angle: float) -> float:
        q = tree.default.copy()
        q[tree.index(lumbar)] = angle
        hips_l, hips_r, shoulder_l, shoulder_r = _at(tree, q, ("LHip", "RHip", "LShoulder", "RShoulder"))
        line = shoulder_l + shoulder_r - hips_l - hips_r
        return float(np.arctan2(line[0], line[1]) - TRUNK_LEAN_RAD)

    return float(brentq(lean, -1.0, 1.0))


def _at(tree: KinematicTree, q: FloatArray, names: Sequence[str]) -> FloatArray:
    """Places (k, 3) of keypoints of the unscaled model in one posture, m."""
    part = tree.select(names)
    return pose(part, q[None], np.ones(len(tree.bodies)), np.zeros((len(names), 3))).position[0]
