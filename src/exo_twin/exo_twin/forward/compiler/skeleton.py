"""The planar skeleton of a scaled OpenSim model: eight segments, six leg joints, a floating pelvis.

All vectors are in ROS axes (x forward, y left, z up) with every coordinate at
zero, when all segment frames are parallel. OpenSim is needed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, OPENSIM_TO_ROS, SIDES, opensim_to_ros
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

# Which OpenSim bodies make up a leg segment; all bodies that are neither these nor the pelvis belong to the torso.
LEG_BODIES = {"thigh": ("femur", "patella"), "shank": ("tibia",), "foot": ("talus", "calcn", "toes")}
PELVIS_BODIES = ("pelvis", "sacrum")
SEGMENTS = ("pelvis", "torso", *(f"{part}_{side}" for side in SIDES for part in LEG_BODIES))
# Knee flexion over which the fixed centre of the planar knee is fitted, rad: walking's range.
KNEE_CENTRE_RANGE = (0.0, 1.2)


@dataclasses.dataclass(frozen=True)
class Segment:
    """One rigid segment.

    Attributes
    ----------
    name, parent : `parent` is None for the pelvis.
    position : (3,) m, origin (its joint) in the parent's frame.
    mass : kg.
    centre_of_mass : (3,) m, in the segment's frame.
    inertia : (3, 3) kg m^2, about the centre of mass.
    """

    name: str
    parent: str | None
    position: FloatArray
    mass: float
    centre_of_mass: FloatArray
    inertia: FloatArray


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """The wearer's planar skeleton.

    Attributes
    ----------
    segments : in tree order, names SEGMENTS.
    ranges : leg coordinate -> (lowest, highest) rad, the model's.
    heel, ball, toe : (3,) m in the left foot's frame: where the sole may touch the ground.
    knee_centre_error : m, largest distance of OpenSim's moving knee from the fixed planar one.
    """

    segments: dict[str, Segment]
    ranges: dict[str, tuple[float, float]]
    heel: FloatArray
    ball: FloatArray
    toe: FloatArray
    knee_centre_error: float

    @property
    def mass(self) -> float:
        """Total mass, kg."""
        return sum(segment.mass for segment in self.segments.values())


def set_pose(model: Any, state: Any, pose: Mapping[str, float]) -> None:
    """Set coordinates (rad, m) and those coupled to them, then realise positions.

    Faster than assembling the model (0.1 instead of 20 ms): a coupled coordinate
    is a function of the one that drives it, so it is evaluated here.
    """
    coordinates = model.getCoordinateSet()
    for name, value in pose.items():
        coordinates.get(name).setValue(state, float(value), False)
    constraints = model.getConstraintSet()
    for i in range(constraints.getSize()):
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(i))
        if coupler is not None and coupler.getIndependentCoordinateNames().getSize() == 1:
            driver = coupler.getIndependentCoordinateNames().get(0)
            if driver in pose:
                value = coupler.getFunction().calcValue(opensim.Vector(1, float(pose[driver])))
                coordinates.get(coupler.getDependentCoordinateName()).setValue(state, value, False)
    model.realizePosition(state)


def neutral_pose(model: Any, posture: Mapping[str, float] | None = None) -> dict[str, float]:
    """Every pelvis and leg coordinate at zero, the upper body in `posture` (rad) or at its default."""
    pose = {}
    for coordinate in model.getCoordinateSet():
        name = coordinate.getName()
        if name.startswith(("pelvis_", "hip_", "knee_", "ankle_", "subtalar_", "mtp_")):
            pose[name] = 0.0
        elif posture is not None and name in posture:
            pose[name] = float(posture[name])
    return pose


def read_skeleton(model: Any, state: Any, posture: Mapping[str, float] | None = None) -> Skeleton:
    """Merge a full-body OpenSim model into the planar skeleton.

    Parameters
    ----------
    model, state : a scaled opensim.Model and its initialised State.
    posture : upper-body coordinates (rad) at which head, arms and trunk are
        frozen into one torso; default: the model's default pose.

    Raises
    ------
    ExoError : if the model lacks a body or joint of the legs.
    """
    bodies = {body.getName(): body for body in model.getBodySet()}
    for side in SIDES:
        for names in LEG_BODIES.values():
            for name in names:
                if f"{name}_{side}" not in bodies:
                    raise ExoError(f"the model has no body '{name}_{side}'; use a Rajagopal-type full-body model")
    set_pose(model, state, neutral_pose(model, posture))
    frames = {name: _frame(body, state) for name, body in bodies.items()}
    pelvis_origin = frames["pelvis"][1]
    members: dict[str, list[str]] = {name: [] for name in SEGMENTS}
    for name in bodies:
        members[_segment_of(name)].append(name)

    thorax = "torso" if "torso" in bodies else members["torso"][0]
    world: dict[str, FloatArray] = {"pelvis": pelvis_origin, "torso": frames[thorax][1]}
    shift = {name: np.zeros(3) for name in SEGMENTS}
    error = 0.0
    for side in SIDES:
        hip = frames[f"femur_{side}"][1]
        knee, in_tibia, residual = _planar_knee(model, state, side)
        error = max(error, residual)
        world[f"thigh_{side}"] = hip
        world[f"shank_{side}"] = frames[f"tibia_{side}"][1] + in_tibia
        world[f"foot_{side}"] = frames[f"talus_{side}"][1]
        # The knee seen from the thigh and from the shank differ a little at extension: the shank follows the thigh.
        shift[f"shank_{side}"] = frames[f"femur_{side}"][1] + knee - world[f"shank_{side}"]
        shift[f"foot_{side}"] = shift[f"shank_{side}"]
    parents: dict[str, str | None] = {"pelvis": None, "torso": "pelvis"}
    for side in SIDES:
        parents |= {f"thigh_{side}": "pelvis", f"shank_{side}": f"thigh_{side}", f"foot_{side}": f"shank_{side}"}
    segments = {}
    for name in SEGMENTS:
        mass, centre, inertia = _merge([(bodies[b], frames[b]) for b in members[name]])
        parent = parents[name]
        position = np.zeros(3) if parent is None else world[name] + shift[name] - world[parent] - shift[parent]
        segments[name] = Segment(name, parent, position, mass, centre - world[name], inertia)
    heel, ball, toe = _sole(frames, world["foot_l"])
    return Skeleton(segments, _ranges(model), heel, ball, toe, error)


def _segment_of(body: str) -> str:
    if body in PELVIS_BODIES:
        return "pelvis"
    stem, _, side = body.rpartition("_")
    for segment, names in LEG_BODIES.items():
        if stem in names and side in SIDES:
            return f"{segment}_{side}"
    return "torso"


def _frame(body: Any, state: Any) -> tuple[FloatArray, FloatArray]:
    """Rotation (3, 3) and origin (3,) of a body in the ground, ROS axes outside, OpenSim's body axes inside."""
    transform = body.getTransformInGround(state)
    rotation, origin = transform.R(), transform.p()
    matrix = np.array([[rotation.get(i, j) for j in range(3)] for i in range(3)])
    return OPENSIM_TO_ROS @ matrix, opensim_to_ros(np.array([origin.get(i) for i in range(3)]))


def _merge(parts: list[tuple[Any, tuple[FloatArray, FloatArray]]]) -> tuple[float, FloatArray, FloatArray]:
    """Mass, centre of mass (world) and inertia about it of several bodies together (parallel-axis theorem)."""
    masses, centres, inertias = [], [], []
    for body, (rotation, origin) in parts:
        centre, six = body.get_mass_center(), body.get_inertia()
        xx, yy, zz, xy, xz, yz = (six.get(i) for i in range(6))
        masses.append(body.getMass())
        centres.append(origin + rotation @ np.array([centre.get(i) for i in range(3)]))
        inertias.append(rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ rotation.T)
    mass = float(sum(masses))
    if mass <= 0.0:
        raise ExoError(f"the segment of body '{parts[0][0].getName()}' has no mass; scale the model again")
    centre = np.einsum("i,ij->j", masses, centres) / mass
    inertia = np.zeros((3, 3))
    for m, c, tensor in zip(masses, centres, inertias, strict=True):
        d = c - centre
        inertia += tensor + m * (d @ d * np.eye(3) - np.outer(d, d))
    return mass, centre, inertia


def _planar_knee(model: Any, state: Any, side: str) -> tuple[FloatArray, FloatArray, float]:
    """The fixed point about which the tibia turns best, from the femur's and from the tibia's origin (m, world axes).

    Notes
    -----
    Least squares over the flexion range on R(q) c_tibia + p(q) = c_femur in the
    sagittal plane (the SCoRE idea of Ehrig et al. 2006). Leaves the model in the neutral pose.
    """
    coordinate = f"knee_angle_{side}"
    flexion = np.linspace(*KNEE_CENTRE_RANGE, 13)
    rows, targets, lateral = [], [], 0.0
    for angle in flexion:
        set_pose(model, state, {coordinate: angle})
        femur_rotation, femur = _frame(model.getBodySet().get(f"femur_{side}"), state)
        rotation, tibia = _frame(model.getBodySet().get(f"tibia_{side}"), state)
        turn = rotation @ femur_rotation.T  # tibia's turn from parallel, world axes at the neutral pose
        rows.append(np.hstack([turn[np.ix_((0, 2), (0, 2))], -np.eye(2)]))
        targets.append(-(tibia - femur)[[0, 2]])
        if angle == flexion[0]:
            lateral = float((tibia - femur)[1])
    set_pose(model, state, {coordinate: 0.0})
    matrix, target = np.vstack(rows), np.concatenate(targets)
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    residual = np.linalg.norm((matrix @ solution - target).reshape(-1, 2), axis=1)
    in_tibia = np.array([solution[0], 0.0, solution[1]])
    in_femur = np.array([solution[2], lateral, solution[3]])
    return in_femur, in_tibia, float(residual.max())


def _sole(frames: Mapping[str, tuple[FloatArray, FloatArray]], ankle: FloatArray) -> tuple[FloatArray, ...]:
    """Heel, ball and toe tip of the left foot, in the foot's frame.

    The calcaneus' origin lies at the back of the heel on the sole, the toes'
    origin at the metatarsal joints; the toes reach as far again beyond them as a third of that distance.
    """
    heel = frames["calcn_l"][1] - ankle
    ball = frames["toes_l"][1] - ankle
    toe = ball + (ball - heel) / 3.0
    sole = heel[2]
    return heel, np.array([ball[0], ball[1], sole]), np.array([toe[0], ball[1], sole])


def _ranges(model: Any) -> dict[str, tuple[float, float]]:
    ranges = {}
    for name in LEG_COORDINATES:
        coordinate = model.getCoordinateSet().get(name)
        ranges[name] = (float(coordinate.getRangeMin()), float(coordinate.getRangeMax()))
    return ranges
