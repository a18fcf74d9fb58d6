"""A model that counts knee flexion negative, as OpenSim's older ones do, is solved and posed in its own signs."""

import types
from xml.etree import ElementTree

import numpy as np
import pytest
from opensim_walk import true_pose

from exo_capture.marker_set import MarkerSet
from exo_common.opensim_files import Markers
from exo_twin.forward.compiler.skeleton import set_pose
from exo_twin.inverse.analysis import even_motion
from exo_twin.inverse.build import _flexion_positive
from exo_twin.inverse.fit import fit_markers
from exo_twin.inverse.marker_model import marker_model, pose_at
from exo_twin.inverse.models import blazepose_model, load_model
from exo_twin.inverse.scaling import ARMS_DOWN
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

SET = MarkerSet.load("gait_speeds_52")
KNEES = ("knee_angle_l", "knee_angle_r")


def reversed_numbers(text, sign):
    return " ".join(repr(sign * float(number)) for number in reversed(text.split()))


def negated_knees(folder):
    """The default model with x -> -x in every function of a knee's angle."""
    document = ElementTree.parse(blazepose_model().model)
    for coordinate in document.iter("Coordinate"):
        if coordinate.get("name") in KNEES:
            coordinate.find("range").text = reversed_numbers(coordinate.findtext("range"), -1.0)
            coordinate.find("default_value").text = "0"
    for part in (*document.iter("TransformAxis"), *document.iter("CoordinateCouplerConstraint")):
        if (part.findtext("coordinates") or part.findtext("independent_coordinate_names") or "").strip() in KNEES:
            for line in part.iter("coefficients"):
                slope, constant = map(float, line.text.split())
                line.text = f"{-slope} {constant}"
            for spline in part.iter("SimmSpline"):
                spline.find("x").text = reversed_numbers(spline.findtext("x"), -1.0)
                spline.find("y").text = reversed_numbers(spline.findtext("y"), 1.0)
    document.write(folder / "negated.osim")
    return folder / "negated.osim"


def recorded(generic, poses, folder):
    """The set's markers on the unscaled model, negative knees."""
    equipped = marker_model(generic, SET, folder)
    model = opensim.Model(str(generic))
    model.updateMarkerSet(opensim.MarkerSet(str(equipped.markers)))
    state = model.initSystem()
    frames = []
    for pose in poses:
        model_pose = {name: -value if name in KNEES else value for name, value in {**ARMS_DOWN, **pose}.items()}
        set_pose(model, state, model_pose)
        places = [model.getMarkerSet().get(name).getLocationInGround(state) for name in SET.markers]
        frames.append([[place.get(axis) for axis in range(3)] for place in places])
    return SET.with_keypoints(Markers(np.arange(len(poses)) / 10.0, tuple(SET.markers), np.array(frames)))


@pytest.fixture(scope="module")
def walk():
    return [true_pose(t) for t in np.arange(0.0, 1.1, 0.1)]


@pytest.fixture(scope="module")
def fitted(walk, tmp_path_factory):
    folder = tmp_path_factory.mktemp("knees")
    with logging_to(folder / "opensim.log"):
        generic = negated_knees(folder)
        bent = [{"pelvis_ty": 0.94, "knee_angle_l": 0.3, "knee_angle_r": 0.3}]
        static = recorded(generic, bent, folder)
        markers = recorded(generic, walk, folder)
        return fit_markers(markers, static, SET, 1.75, 70.0, folder, generic=generic), markers


def test_angles_are_in_the_models_signs(fitted, walk):
    fit, _ = fitted
    model = load_model(fit.scaling.model)
    model.initSystem()
    tree = kinematic_tree(model)
    _, q = even_motion(fit.kinematics.coordinates, tree)
    analysis = types.SimpleNamespace(fit=fit, tree=tree)
    for name in KNEES:
        truth = np.array([pose[name] for pose in walk])
        for found in (np.deg2rad(fit.kinematics.coordinates.column(name)), q[:, tree.index(name)]):
            assert np.sqrt(np.mean((found + truth) ** 2)) < np.deg2rad(3.0)
        shown = np.deg2rad(_flexion_positive(analysis).column(name))
        assert np.sqrt(np.mean((shown - truth) ** 2)) < np.deg2rad(3.0)
    assert _flexion_positive(analysis).column("hip_flexion_l") == pytest.approx(
        fit.kinematics.coordinates.column("hip_flexion_l")
    )


def test_markers_were_placed_and_poses_are_set_with_the_knees_bent_forwards(fitted):
    fit, markers = fitted
    assert np.sqrt(np.mean(fit.kinematics.marker_rms**2)) < 0.005
    model = load_model(fit.scaling.model)
    state = model.initSystem()
    set_pose(model, state, pose_at(model, fit.kinematics.coordinates, 3))
    names = list(SET.markers)
    places = [model.getMarkerSet().get(name).getLocationInGround(state) for name in names]
    posed = np.array([[place.get(axis) for axis in range(3)] for place in places])
    measured = markers.position[3][[markers.names.index(name) for name in names]]
    low = [i for i, name in enumerate(names) if SET.markers[name].body.startswith(("femur", "tibia"))]
    assert np.linalg.norm(posed - measured, axis=1)[low].max() < 0.02
