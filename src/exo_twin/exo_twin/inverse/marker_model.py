"""Skin markers on any generic OpenSim model: put there by a marker-set map, then moved to where the wearer has them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers, Storage
from exo_twin.forward.compiler.skeleton import set_pose
from exo_twin.inverse.kinematics import solve_kinematics
from exo_twin.inverse.models import GenericModel, load_model
from exo_twin.inverse.refinement import Refinement
from exo_twin.inverse.scaling import scale_by
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

# Keypoint -> the body whose origin it is (sides stripped): OpenSim's bodies start at their proximal joint. Used where
# the keypoint is not simply the midpoint of landmarks that the map locates on the model.
JOINT_CENTRES = {
    "Hip": "femur",
    "Knee": "tibia",
    "Ankle": "talus",
    "Shoulder": "humerus",
    "Elbow": "ulna",
    "Wrist": "hand",
}
# Body -> the body whose origin marks its far end (sides stripped): what locations on it are stretched by.
NEXT_JOINT = {
    "pelvis": "femur",
    "femur": "tibia",
    "tibia": "talus",
    "calcn": "toes",
    "torso": "humerus",
    "humerus": "ulna",
    "radius": "hand",
}
LEVEL_ROUNDS = 3  # the ankle's axis is oblique, so one turn leaves a little
# In a static trial the pelvis is where its own landmarks are, not where sizes of thighs and trunk that are a little off
# would tilt it: they weigh so many times as much as in motion.
PELVIS_LEADS = 20.0
POSES = 20  # of a recording, spread over it, in which markers are placed


def marker_model(model: Path, marker_set: MarkerSet, folder: Path) -> GenericModel:
    """Equip a generic model with the markers of a set and with keypoints at its own joint centres.

    Parameters
    ----------
    model : any .osim with the Rajagopal family's bodies and coordinates (LaiUhlrich2022, Rajagopal2016, ...).
    marker_set : its rough locations are stretched by the ratio of body sizes.
    folder : where the marker file is written.

    Raises
    ------
    ExoError : if the model cannot be read or lacks a body of the map.
    """
    loaded = load_model(model)
    ratios = _size_ratios(loaded, marker_set)
    bodies = {body.getName() for body in loaded.getBodySet()}
    markers = opensim.MarkerSet()
    for name, place in marker_set.markers.items():
        if place.body not in bodies:
            raise ExoError(
                f"{model} has no body '{place.body}' for marker {name}; choose a model of the Rajagopal family"
            )
        location = np.array(place.location or (0.0, 0.0, 0.0)) * ratios.get(place.body, 1.0)
        markers.cloneAndAppend(_marker(name, place.body, location, place.location is None))
    for keypoint in marker_set.keypoints:
        body, location = _keypoint_on_model(marker_set, keypoint)
        if body in bodies:
            markers.cloneAndAppend(_marker(keypoint, body, location * ratios.get(body, 1.0), False))
    weights = {name: place.weight for name, place in marker_set.markers.items()}
    found = GenericModel(model, folder / "marker_set.xml", weights, marker_set.scaling)
    if not markers.printToXML(str(found.markers)):
        raise ExoError(f"{folder} could not be written; free disk space or mend the rights")
    return found


def _size_ratios(model: Any, marker_set: MarkerSet) -> dict[str, float]:
    """Body -> its size over that of the model to which the map's locations belong."""
    state = model.initSystem()
    origin = {body.getName(): body_pose(body, state)[1] for body in model.getBodySet()}
    ratios = {}
    for body in origin:
        stem, side = (body[:-2], body[-2:]) if body[-2:] in ("_l", "_r") else (body, "_r")
        end = f"{NEXT_JOINT.get(stem, '')}{side}"
        if stem in marker_set.sizes and end in origin:
            ratios[body] = float(np.linalg.norm(origin[end] - origin[body])) / marker_set.sizes[stem]
    return ratios


def _keypoint_on_model(marker_set: MarkerSet, keypoint: str) -> tuple[str, FloatArray]:
    """Body and place of a keypoint: as on the wearer the landmarks' midpoint, else the joint's centre."""
    rule = marker_set.keypoints[keypoint]
    places = [marker_set.markers[name] for name in rule.midpoint]
    located = [np.array(place.location) for place in places if place.location is not None]
    if places and len(located) == len(places) and not (rule.beyond or rule.inward or rule.down):
        return places[0].body, np.asarray(np.mean(located, axis=0))
    return f"{JOINT_CENTRES.get(keypoint[1:], '')}_{keypoint[0].lower()}", np.zeros(3)


def place_markers(
    scaled: Path, generic: GenericModel, marker_set: MarkerSet, recording: Markers, static: bool
) -> float:
    """Move the markers of a scaled model to where the wearer has them; overwrites `scaled`.

    The model is posed on the landmarks whose location the map knows (inverse
    kinematics); every other marker goes to its mean measured place on its body.
    In a static trial the landmarks themselves are moved too, the pelvis follows its
    own landmarks (`PELVIS_LEADS`), and the feet stand level: a skin marker on a heel
    tells the foot's pitch to 10 degrees, the floor to 2.

    Parameters
    ----------
    recording : markers and keypoints (MarkerSet.with_keypoints) in OpenSim's frame, m, looking along +x.
    static : the recording is a quiet stance made for this; else only markers without a location are placed.

    Returns
    -------
    RMS distance of the landmarks from the scaled generic model, m: how far the map was off.
    """
    known = {name for name, place in marker_set.markers.items() if place.location is not None and place.weight > 0.0}
    # Keypoints carry no weight (an estimated hip centre would tilt the pelvis); they tell which frames show both legs.
    chosen = [i for i, name in enumerate(recording.names) if name in known or name not in marker_set.markers]
    landmarks = Markers(recording.time, tuple(recording.names[i] for i in chosen), recording.position[:, chosen])
    weights = dict(generic.weights or dict.fromkeys(known, 1.0))
    if static:
        weights |= {name: PELVIS_LEADS * weights[name] for name in marker_set.pelvis.values() if name in weights}
    posed = solve_kinematics(_spread(landmarks), scaled, dataclasses.replace(generic, weights=weights))
    model = load_model(scaled)
    state = model.initSystem()
    locations = _measured_locations(model, state, posed.coordinates, recording, static)
    for name, location in locations.items():
        if name in marker_set.markers and (static or marker_set.markers[name].location is None):
            model.updMarkerSet().get(name).set_location(opensim.Vec3(*location))
    if not model.printToXML(str(scaled)):
        raise ExoError(f"{scaled} could not be written; free disk space or choose another folder")
    # All landmarks count: one that inverse kinematics left out is the oddest of them.
    return float(
        np.sqrt(np.mean(np.square([posed.marker_error[name] for name in posed.marker_error if name in known])))
    )


def _spread(markers: Markers) -> Markers:
    """POSES frames, evenly over the recording; all if there are fewer."""
    rows = np.unique(np.linspace(0, len(markers.time) - 1, POSES).round().astype(int))
    return Markers(markers.time[rows], markers.names, markers.position[rows])


def mend_model(scaled: Path, found: Refinement, mass: float) -> None:
    """Give a scaled model the refined sizes and marker places; overwrites `scaled`.

    Raises
    ------
    ExoError : if the file cannot be written.
    """
    model = load_model(scaled)
    model.initSystem()
    scale_by(model, found.factors, mass, scaled)
    model = load_model(scaled)
    for name, place in found.places.items():
        model.updMarkerSet().get(name).set_location(opensim.Vec3(*map(float, place)))
    if not model.printToXML(str(scaled)):
        raise ExoError(f"{scaled} could not be written; free disk space or choose another folder")


def _measured_locations(
    model: Any, state: Any, poses: Storage, recording: Markers, feet_level: bool
) -> dict[str, FloatArray]:
    """Mean place of every visible marker on its body over the poses, m in the body's frame."""
    found: dict[str, list[FloatArray]] = {}
    for row in range(len(poses.time)):
        pose = pose_at(model, poses, row)
        set_pose(model, state, pose)
        if feet_level:
            _level_feet(model, state, pose)
        frame = recording.position[int(np.argmin(np.abs(recording.time - poses.time[row])))]
        for i, name in enumerate(recording.names):
            if model.getMarkerSet().contains(name) and np.isfinite(frame[i]).all():
                body = model.getMarkerSet().get(name).getParentFrame()
                found.setdefault(name, []).append(_into(body, state, frame[i]))
    return {name: np.mean(places, axis=0) for name, places in found.items()}


def _level_feet(model: Any, state: Any, pose: dict[str, float]) -> None:
    """Turn the ankles until the soles, from the origins of calcn to those of toes, are level."""
    bodies = model.getBodySet()
    for side in SIDES:
        for _ in range(LEVEL_ROUNDS):
            sole = body_pose(bodies.get(f"toes_{side}"), state)[1] - body_pose(bodies.get(f"calcn_{side}"), state)[1]
            pose[f"ankle_angle_{side}"] -= float(np.arcsin(sole[1] / np.linalg.norm(sole)))
            set_pose(model, state, pose)


def pose_at(model: Any, table: Storage, row: int) -> dict[str, float]:
    """Coordinates of one row in the model's own signs, rad and m."""
    unit = np.deg2rad(1.0) if table.in_degrees else 1.0
    pose = {}
    for coordinate in model.getCoordinateSet():
        name = coordinate.getName()
        if name in table.columns:
            turns = coordinate.getMotionType() == opensim.Coordinate.Rotational
            pose[name] = float((unit if turns else 1.0) * table.values[row, table.columns.index(name)])
    return pose


def body_pose(body: Any, state: Any) -> tuple[FloatArray, FloatArray]:
    """Rotation (3, 3), body to ground, and origin (3,), m, of a body in a realised state."""
    transform = body.getTransformInGround(state)
    turn, origin = transform.R(), transform.p()
    return (
        np.array([[turn.get(i, j) for j in range(3)] for i in range(3)]),
        np.array([origin.get(i) for i in range(3)]),
    )


def _into(body: Any, state: Any, point: FloatArray) -> FloatArray:
    rotation, origin = body_pose(body, state)
    return np.asarray(rotation.T @ (point - origin))


def _marker(name: str, body: str, location: FloatArray, movable: bool) -> Any:
    marker = opensim.Marker()
    marker.setName(name)
    marker.setParentFrameName(f"/bodyset/{body}")
    marker.set_location(opensim.Vec3(*map(float, location)))
    marker.set_fixed(not movable)
    return marker
