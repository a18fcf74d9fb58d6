"""Scaling: the wearer's mass and lengths end up in the model, and nonsense is refused with a sentence."""

import dataclasses
import os

import numpy as np
import pytest
from opensim_walk import BODY_SCALE, generic_model, walk_keypoints

from exo_common.errors import ExoError
from exo_twin.forward.compiler.skeleton import read_skeleton
from exo_twin.inverse import models
from exo_twin.inverse.scaling import scale_model
from exo_twin.inverse.segment_masses import share_masses
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
