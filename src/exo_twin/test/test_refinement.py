"""One model for every frame: wrong sizes and wrong marker places are told from the walk and mended."""

import dataclasses

import numpy as np
import pytest
from opensim_walk import true_pose

from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.kinematic_tree import pose
from exo_twin.inverse.marker_model import marker_model
from exo_twin.inverse.models import blazepose_model
from exo_twin.inverse.refinement import LANDMARK_SD, PELVIS_SD, refine
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

SET = MarkerSet.load("gait_speeds_52")
TRUE_SIZE = {"femur": 1.04, "patella": 1.04, "tibia": 0.95}
SKIN_M, SHIFT_M = 0.003, 0.02


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refine")
    with logging_to(folder / "opensim.log"):
        equipped = marker_model(blazepose_model().model, SET, folder)
        model = opensim.Model(str(equipped.model))
        model.updateMarkerSet(opensim.MarkerSet(str(equipped.markers)))
        model.initSystem()
        whole = kinematic_tree(model)
    return whole.select([name for name in whole.markers if name in SET.markers])


@pytest.fixture(scope="module")
def recorded(tree):
    """Walk and stance of a body whose thighs and shanks are not what the tree says, with free markers elsewhere."""
    random = np.random.default_rng(3)
    scale = np.array([TRUE_SIZE.get(body[:-2], 1.0) for body in tree.bodies])
    free = np.array([SET.markers[name].location is None for name in tree.markers])
    shift = random.normal(0.0, SHIFT_M, (len(free), 3)) * free[:, None]
    postures = [true_pose(t) for t in np.arange(0.0, 1.2, 0.04)] + [{"pelvis_ty": 0.94}]
    q = np.tile(tree.default, (len(postures), 1))
    for row, posture in zip(q, postures, strict=True):
        for name, value in posture.items():
            row[tree.index(name)] = value
    position = pose(tree, q, scale, shift).position
    position += random.normal(0.0, SKIN_M, position.shape)
    position[3:6, tree.markers.index("R_TTC")] = np.nan
    time = np.arange(len(q)) / 25.0
    return Markers(time[:-1], tree.markers, position[:-1]), Markers(time[-1:], tree.markers, position[-1:])


@pytest.fixture(scope="module")
def refined(tree, recorded):
    return refine(tree, *recorded, SET)


def test_sizes_come_back(refined):
    for body, factor in refined.factors.items():
        assert factor == pytest.approx(TRUE_SIZE.get(body[:-2], 1.0), abs=0.02), body


def test_markers_fit_better_than_before_and_as_well_as_skin_allows(refined):
    assert refined.rms_before > 2.0 * refined.rms_after
    assert refined.rms_after == pytest.approx(SKIN_M * np.sqrt(3.0), rel=0.3)


def test_landmarks_keep_their_place_on_the_body_as_it_grows(refined, tree):
    """So that the pelvis' and the joints' axes keep their anatomical meaning."""
    for name, place in refined.places.items():
        i = tree.markers.index(name)
        body = tree.bodies[tree.marker_body[i]]
        sd = PELVIS_SD if body == "pelvis" else LANDMARK_SD
        if SET.markers[name].location is not None:
            assert np.abs(place - refined.factors[body] * tree.marker_place[i]).max() < 3.0 * sd, name


def test_a_stance_counts_as_several_frames_in_placing_a_marker(refined, tree, recorded):
    """30 frames of the walk say one place, the stance another one 20 mm off."""
    walk, static = recorded
    thigh = [name for name in tree.markers if SET.markers[name].body == "femur_r"]
    free = next(name for name in thigh if SET.markers[name].location is None)
    moved = static.position.copy()
    moved[:, static.names.index(free), 0] += 0.02
    found = refine(tree, walk, Markers(static.time, static.names, moved), SET)
    share = np.linalg.norm(found.places[free] - refined.places[free]) / 0.02
    assert 0.15 < share < 0.4  # 10 of 40


def test_the_report_says_what_was_gained(refined):
    figures = refined.quality()
    assert figures["marker_rms_mm_before"] == pytest.approx(1e3 * refined.rms_before, abs=0.06)
    assert figures["marker_rms_mm_after"] == pytest.approx(1e3 * refined.rms_after, abs=0.06)
    assert figures["size_factors"]["thigh"] == pytest.approx(TRUE_SIZE["femur"], abs=0.02)


def test_the_axes_of_knee_and_ankle_keep_their_direction_though_the_walk_would_turn_them(tree, recorded):
    """Skin over the epicondyles slides along the thigh's length of the step: outer forth, inner back, by 10 mm."""
    walk, static = recorded
    slid = walk.position.copy()
    for side in "LR":
        slid[:, walk.names.index(f"{side}_FLE"), 0] += 0.010
        slid[:, walk.names.index(f"{side}_FME"), 0] -= 0.010
    found = refine(tree, Markers(walk.time, walk.names, slid), static, SET)
    assert set(found.turns_deg) == {"femur_l", "femur_r", "tibia_l", "tibia_r"}
    for body, turn in found.turns_deg.items():
        a, b = [f"{body[-1].upper()}_{stem}" for stem in (("FLE", "FME") if "femur" in body else ("FAL", "TAM"))]
        before = tree.marker_place[tree.markers.index(a)] - tree.marker_place[tree.markers.index(b)]
        after = found.places[a] - found.places[b]
        between = np.degrees(np.arccos(before @ after / np.linalg.norm(before) / np.linalg.norm(after)))
        assert turn == pytest.approx(between, abs=0.01) and turn < 4.0, body
    assert set(found.quality()["axis_turns_deg"]) == set(found.turns_deg)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree, knee: {"locked": np.arange(len(tree.locked)) == knee},
        lambda tree, knee: {"upper": np.where(np.arange(len(tree.upper)) == knee, 0.1, tree.upper)},
        lambda tree, knee: {"lower": np.where(np.arange(len(tree.lower)) == knee, 1.1, tree.lower)},
    ],
    ids=["locked", "upper", "lower"],
)
def test_what_the_model_does_not_allow_no_pose_takes(tree, recorded, refined, change):
    """A knee that may not bend as it did leaves markers far off: sizes and places cannot make up for it."""
    stiff = dataclasses.replace(tree, **change(tree, tree.index("knee_angle_r")))
    assert refine(stiff, *recorded, SET).rms_after > 2.0 * refined.rms_after


def test_a_body_that_fits_already_is_left_alone(tree, recorded):
    walk, _ = recorded
    q = np.tile(tree.default, (len(walk.time), 1))
    q[:, tree.index("knee_angle_r")] += np.linspace(0.0, 0.5, len(q))
    exact = Markers(
        walk.time, tree.markers, pose(tree, q, np.ones(len(tree.bodies)), np.zeros((len(tree.markers), 3))).position
    )
    found = refine(tree, exact, None, SET)
    assert found.rms_after < 1e-4
    assert max(abs(factor - 1.0) for factor in found.factors.values()) < 1e-3


def test_a_foreign_marker_set_is_refused(tree, recorded):
    walk = Markers(recorded[0].time, ("A", "B"), recorded[0].position[:, :2])
    with pytest.raises(ExoError, match="marker set"):
        refine(tree, walk, None, SET)
