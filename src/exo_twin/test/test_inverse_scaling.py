"""Scaling: the wearer's mass and lengths end up in the model, and nonsense is refused with a sentence."""

import dataclasses
import os

import numpy as np
import pytest
from opensim_walk import BODY_SCALE, generic_model, true_pose, walk_keypoints

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Storage, read_storage, write_storage
from exo_twin.forward.compiler.skeleton import read_skeleton
from exo_twin.inverse import models
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.scaling import scale_model
from exo_twin.inverse.segment_masses import share_masses
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

HEIGHT, MASS, THIGH_STRETCH = 1.65, 62.0, 1.08


@pytest.fixture(scope="module")
def keypoints():
    return walk_keypoints(duration=1.0, thigh_stretch=THIGH_STRETCH)


@pytest.fixture(scope="module")
def scaled(keypoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaled")
    with logging_to(folder / "opensim.log"):
        return scale_model(keypoints, HEIGHT, MASS, generic_model(), folder / "scaled.osim")


def load(path):
    opensim.Logger.setLevelString("Error")
    model = opensim.Model(str(path))
    return model, model.initSystem()


def test_mass_is_the_wearers_and_scaling_keeps_the_shares(scaled):
    model, state = load(scaled.model)
    generic, generic_state = load(models.blazepose_model().model)
    share_masses(generic)
    assert model.getTotalMass(state) == pytest.approx(MASS, abs=1e-6)
    ratio = MASS / generic.getTotalMass(generic_state)
    for body in generic.getBodySet():
        assert model.getBodySet().get(body.getName()).getMass() == pytest.approx(ratio * body.getMass(), rel=1e-6)


def test_segments_take_the_keypoints_lengths(scaled):
    assert scaled.factors["femur_l"] == pytest.approx(BODY_SCALE * THIGH_STRETCH, rel=0.01)
    assert scaled.factors["femur_r"] == scaled.factors["femur_l"]
    assert scaled.factors["tibia_r"] == pytest.approx(BODY_SCALE, rel=0.01)
    assert scaled.factors["calcn_l"] == pytest.approx(BODY_SCALE, rel=0.01)
    assert scaled.factors["torso"] == pytest.approx(BODY_SCALE, rel=0.01)
    sizes = []
    for path in (scaled.model, models.blazepose_model().model):
        skeleton = read_skeleton(*load(path))
        sizes.append([np.linalg.norm(skeleton.segments[name].position) for name in ("shank_l", "foot_l")])
    thigh, shank = np.array(sizes[0]) / np.array(sizes[1])
    assert thigh == pytest.approx(BODY_SCALE * THIGH_STRETCH, rel=0.01)
    assert shank == pytest.approx(BODY_SCALE, rel=0.015)


def test_strength_and_fibres_follow_their_rules(scaled):
    model, _ = load(scaled.model)
    generic, generic_state = load(models.blazepose_model().model)
    factor = (MASS / generic.getTotalMass(generic_state)) ** (2.0 / 3.0)
    for name in ("soleus_l", "psoas_r"):
        old, new = generic.getMuscles().get(name), model.getMuscles().get(name)
        assert new.getMaxIsometricForce() == pytest.approx(factor * old.getMaxIsometricForce(), rel=1e-6)
    soleus = "soleus_r"
    ratio = (
        model.getMuscles().get(soleus).getOptimalFiberLength()
        / generic.getMuscles().get(soleus).getOptimalFiberLength()
    )
    assert ratio == pytest.approx(BODY_SCALE, rel=0.02)


def test_opensims_inverse_dynamics_tool_feels_no_force_of_the_generic_model(scaled, tmp_path):
    """Its contact spheres would push beside the measured ground reaction; the default model has them."""
    generic, _ = load(models.blazepose_model().model)
    assert generic.getForceSet().getSize() > generic.getMuscles().getSize()
    model, _ = load(scaled.model)
    assert model.getForceSet().getSize() == model.getMuscles().getSize() == generic.getMuscles().getSize()
    tree, time = kinematic_tree(model), np.arange(0.0, 1.0, 0.02)
    q = np.tile(tree.default, (len(time), 1))
    for row, t in zip(q, time, strict=True):
        for name, value in true_pose(float(t)).items():
            row[tree.index(name)] = value
    q[:, tree.index("pelvis_ty")] -= 0.05  # deep in the floor
    write_storage(tmp_path / "walk.mot", Storage(time, tree.coordinates, q, False))
    tool = opensim.InverseDynamicsTool()
    tool.setModelFileName(str(scaled.model))
    tool.setCoordinatesFileName(str(tmp_path / "walk.mot"))
    tool.setLowpassCutoffFrequency(6.0)
    tool.setStartTime(0.2)
    tool.setEndTime(0.8)
    muscles = opensim.ArrayStr()
    muscles.append("Muscles")
    tool.setExcludedForces(muscles)
    tool.setResultsDir(str(tmp_path))
    tool.setOutputGenForceFileName("id.sto")
    with logging_to(tmp_path / "opensim.log"):
        assert tool.run()
    told = read_storage(tmp_path / "id.sto")
    moving = derivatives(time, q, 6.0, at=told.time)
    ours = InverseDynamics(tree, body_inertia(model, tree)).solve(moving.q, moving.speed, moving.acceleration)
    for name in LEG_COORDINATES:
        assert np.sqrt(np.mean((ours.of(name) - told.column(f"{name}_moment")) ** 2)) < 1.5, name


@pytest.mark.parametrize(
    ("change", "height", "mass", "sentence"),
    [
        (lambda m: m, 1.65, 0.0, "not a mass in kg"),
        (lambda m: m, 165.0, 62.0, "not a height in m"),
        (lambda m: m, float("nan"), 62.0, "not a height in m"),
        (
            lambda m: dataclasses.replace(m, names=tuple(f"x{n}" for n in m.names)),
            1.65,
            62.0,
            "keypoint 'LShoulder' is missing",
        ),
        (lambda m: dataclasses.replace(m, position=1e3 * m.position), 1.65, 62.0, "check the keypoints' units"),
        (lambda m: m, 2.35, 62.0, "check the wearer's height"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(keypoints, tmp_path, change, height, mass, sentence):
    with pytest.raises(ExoError, match=sentence):
        scale_model(change(keypoints), height, mass, generic_model(), tmp_path / "scaled.osim")


def test_a_keypoint_that_is_never_seen_is_named(keypoints, tmp_path):
    position = keypoints.position.copy()
    position[:, keypoints.names.index("RAnkle")] = np.nan
    with pytest.raises(ExoError, match="keypoint 'RAnkle' is visible in 0 frames"):
        scale_model(dataclasses.replace(keypoints, position=position), 1.65, 62.0, generic_model(), tmp_path / "s.osim")


def test_a_missing_wheel_is_a_sentence(monkeypatch):
    monkeypatch.setattr(models, "PACKAGE", "no_such_package")
    with pytest.raises(ExoError, match="pose2sim"):
        models.blazepose_model()


def test_opensims_noise_goes_to_the_file(tmp_path, capfd):
    log = tmp_path / "opensim.log"
    with logging_to(log):
        os.write(1, b"from C++")
        print("from Python")
    assert "from C++" in log.read_text()
    assert "from C++" not in capfd.readouterr().out
