"""Our inverse kinematics: a known motion comes back with honest uncertainty, whatever happens to the markers."""

import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from opensim_walk import DATA, SPEED, true_pose

from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers, read_trc
from exo_twin.inverse import marker_ik
from exo_twin.inverse.kinematic_tree import pose
from exo_twin.inverse.marker_ik import MarkerIk
from exo_twin.inverse.marker_model import marker_model
from exo_twin.inverse.models import blazepose_model
from exo_twin.inverse.streaming_ik import StreamingIk
from exo_twin.inverse.tree_file import tree_arrays, tree_from_arrays
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.inverse.tree_motion import TreeMotion
from exo_twin.opensim_runtime import logging_to, opensim

SET = MarkerSet.load("gait_speeds_52")
RATE, FRAMES, NOISE_M = 50.0, 60, 0.004


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    with logging_to(folder / "opensim.log"):
        equipped = marker_model(blazepose_model().model, SET, folder)
        model = opensim.Model(str(equipped.model))
        model.updateMarkerSet(opensim.MarkerSet(str(equipped.markers)))
        model.initSystem()
        whole = kinematic_tree(model)
    known = [name for name, place in SET.markers.items() if place.location is not None]
    default = whole.default.copy()
    for name in ("arm_add_l", "arm_add_r"):
        default[whole.index(name)] = 0.1
    return dataclasses.replace(whole.select(known), default=default)


@pytest.fixture(scope="module")
def ik(tree):
    return MarkerIk(tree)


def motion(tree, frames=FRAMES):
    """Coordinates (n, n_coordinates) of a walk, rad and m."""
    time = np.arange(frames) / RATE
    q = np.tile(tree.default, (frames, 1))
    for row, t in zip(q, time, strict=True):
        for name, value in true_pose(float(t)).items():
            row[tree.index(name)] = value
    return time, q


def recording(tree, time, q, noise=NOISE_M, seed=2):
    exact = pose(tree, q, np.ones(len(tree.bodies)), np.zeros((len(tree.markers), 3))).position
    return Markers(time, tree.markers, exact + np.random.default_rng(seed).normal(0.0, noise, exact.shape))


@pytest.fixture(scope="module")
def walk(tree):
    time, q = motion(tree)
    return recording(tree, time, q), q


@pytest.fixture(scope="module")
def solved(ik, walk):
    return ik.solve(walk[0])


def legs_error(ik, found, q):
    """Leg coordinate -> RMS error, deg."""
    rows = [ik.tree.index(name) for name in LEG_COORDINATES]
    return np.degrees(np.sqrt(np.mean((found - q)[:, rows] ** 2, axis=0)))


def changed(markers, name, change, rows=slice(None)):
    position = markers.position.copy()
    i = markers.names.index(name)
    position[rows, i] = change(position[rows, i])
    return dataclasses.replace(markers, position=position)


def relabelled(markers, exchange):
    return dataclasses.replace(markers, names=tuple(exchange.get(name, name) for name in markers.names))


def test_prepared_and_plain_kinematics_agree(tree):
    q = motion(tree, 5)[1] + np.random.default_rng(1).uniform(-0.3, 0.3, (5, len(tree.default)))
    plain = pose(tree, q, np.ones(len(tree.bodies)), np.zeros((len(tree.markers), 3)))
    prepared = TreeMotion(tree)
    placed = prepared.place(q)
    found = prepared.markers(placed)
    np.testing.assert_allclose(found, plain.position, atol=1e-12)
    np.testing.assert_allclose(prepared.jacobian(prepared.twists(placed), found), plain.by_coordinate, atol=1e-12)


def test_a_known_motion_comes_back_and_the_deviation_is_honest(ik, walk, solved):
    markers, q = walk
    exact = ik.solve(recording(ik.tree, markers.time, q, noise=0.0))
    assert np.abs(exact.q - q)[:, ik.free].max() < 1e-4
    assert solved.warnings == () and not solved.dropped.any()
    error, sd = (solved.q - q)[:, ik.free], solved.q_sd[:, ik.free]
    assert 0.8 < np.sqrt(np.mean((error / sd)[sd < 0.2] ** 2)) < 1.2
    assert legs_error(ik, solved.q, q).max() < 3.0


def test_streaming_gives_what_the_batch_gives(ik, walk, solved):
    stream = StreamingIk(ik)
    frames = [stream.step(float(t), p) for t, p in zip(walk[0].time, walk[0].position, strict=True)]
    found = np.array([frame.q for frame in frames])
    assert legs_error(ik, found, solved.q).max() < 0.02
    assert np.mean([frame.iterations for frame in frames[2:]]) < 8
    assert not any(frame.warnings for frame in frames)


def test_a_long_recording_is_solved_in_blocks(ik, walk, solved, monkeypatch):
    monkeypatch.setattr(marker_ik, "BLOCK_FRAMES", 25)
    found = ik.solve(walk[0])
    assert found.q.shape == solved.q.shape and legs_error(ik, found.q, solved.q).max() < 0.02


def test_a_shank_lost_for_half_a_second_is_guessed_and_said(ik, walk, solved):
    markers, q = walk
    gap = slice(20, 45)
    for name in ("L_FAL", "L_TAM", "L_FCC", "L_FM2", "L_FM5"):
        markers = changed(markers, name, lambda p: np.nan * p, gap)
    found = ik.solve(markers)
    knee, other = ik.tree.index("knee_angle_l"), ik.tree.index("knee_angle_r")
    assert found.q_sd[gap, knee].min() > 5.0 * solved.q_sd[gap, knee].max()
    assert np.abs(found.q[gap, knee] - np.linspace(*found.q[[19, 45], knee], 27)[1:-1]).max() < 0.05
    assert np.abs(found.q[:, other] - solved.q[:, other]).max() < np.deg2rad(1.0)
    assert any("knee_angle_l" in w and "guessed in 25 frames from 0.40 to 0.88 s" in w for w in found.warnings)
    stream = StreamingIk(ik)
    frames = [stream.step(float(t), p) for t, p in zip(markers.time, markers.position, strict=True)]
    assert frames[30].q[knee] == pytest.approx(frames[19].q[knee], abs=0.05)
    assert "knee_angle_l" in frames[30].untold and "knee_angle_l" not in frames[46].untold
    assert abs(frames[46].q[knee] - q[46, knee]) < np.deg2rad(5.0)


def test_frames_without_markers_are_empty_and_shift_no_others(ik, walk, solved):
    nobody = np.arange(FRAMES) < 5
    position = np.where(nobody[:, None, None], np.nan, walk[0].position)
    wild = changed(dataclasses.replace(walk[0], position=position), "R_IAS", lambda p: p + 0.4, slice(30, 33))
    found = ik.solve(wild)
    assert np.isnan(found.q[nobody]).all() and np.isfinite(found.q[~nobody]).all()
    assert legs_error(ik, found.q[~nobody], solved.q[~nobody]).max() < 1.5
    assert set(np.flatnonzero(found.dropped.any(axis=1))) == {30, 31, 32}


def test_a_walker_in_any_direction_is_found_from_scratch(ik, walk):
    markers, q = walk
    for turn in (0.5 * np.pi, -0.5 * np.pi):
        matrix = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
        start = dataclasses.replace(markers, position=markers.position @ matrix.T)
        found, _ = ik.from_scratch(*ik.arrange(start))
        heading = found[:, ik.upright] - q[:, ik.upright] - turn
        assert np.abs(np.angle(np.exp(1j * heading))).max() < 0.1


def test_a_marker_lost_for_half_a_second_costs_nothing_where_others_tell(ik, walk, solved):
    found = ik.solve(changed(walk[0], "L_IAS", lambda p: np.nan * p, slice(20, 45)))
    assert legs_error(ik, found.q, solved.q).max() < 1.5
    assert found.q_sd[30, ik.tree.index("pelvis_tilt")] > solved.q_sd[30, ik.tree.index("pelvis_tilt")]
    assert np.isnan(found.residual[30, ik.tree.markers.index("L_IAS")])


@pytest.mark.parametrize(
    ("marker", "away", "rows"),
    [
        ("R_IAS", [0.3, 0.0, 0.1], slice(30, 35)),
        ("L_FLE", [0.0, 0.15, 0.0], slice(10, 12)),
        ("R_FAL", [3.0, 0.0, 0.0], slice(None)),
    ],
)
def test_a_marker_that_jumps_is_left_out_and_reported(ik, walk, solved, marker, away, rows):
    wild = changed(walk[0], marker, lambda p: p + np.array(away), rows)
    found = ik.solve(wild)
    assert found.dropped[rows, ik.tree.markers.index(marker)].all()
    assert found.dropped.sum() == len(walk[0].time[rows])
    assert legs_error(ik, found.q, solved.q).max() < 1.5
    assert any(w.startswith(f"marker {marker} lies") for w in found.warnings)
    stream = StreamingIk(ik)
    frames = [stream.step(float(t), p) for t, p in zip(wild.time, wild.position, strict=True)]
    assert all(frame.dropped == (marker,) for frame in frames[rows])
    assert legs_error(ik, np.array([frame.q for frame in frames]), solved.q).max() < 1.5


def test_limits_bind_unless_released(tree):
    knee = tree.index("knee_angle_r")
    time, q = motion(tree, 12)
    q[:, knee] = np.linspace(-0.15, 0.1, 12)
    markers = recording(tree, time, q, noise=0.0)
    held = MarkerIk(tree).solve(markers)
    assert held.q[:, knee].min() == tree.lower[knee] == 0.0
    assert held.saturated["knee_angle_r"] == pytest.approx(7 / 12, abs=0.1)
    free = MarkerIk(tree, released=("knee_angle_r",)).solve(markers)
    np.testing.assert_allclose(free.q[:, knee], q[:, knee], atol=1e-3)
    assert "knee_angle_r" not in free.saturated


def test_a_locked_coordinate_stays(tree, walk):
    locked = tree.locked.copy()
    locked[tree.index("hip_rotation_l")] = True
    found = MarkerIk(dataclasses.replace(tree, locked=locked)).solve(walk[0])
    assert np.ptp(found.q[:, tree.index("hip_rotation_l")]) == 0.0


@pytest.mark.parametrize(
    ("exchange", "sentence"),
    [
        ({"L_FLE": "R_FLE", "R_FLE": "L_FLE"}, "R_FLE|the thighs"),
        ({"L_FAL": "L_FM5", "L_FM5": "L_FAL"}, "markers .*L_FM5"),
        (
            {n: n.replace("L_", "#").replace("R_", "L_").replace("#", "R_") for n in SET.markers},
            "left and right of all",
        ),
        (
            {n: n.replace("L_F", "#").replace("R_F", "L_F").replace("#", "R_F") for n in SET.markers if "_F" in n}
            | {"L_TAM": "R_TAM", "R_TAM": "L_TAM"},
            "left and right of the legs",
        ),
    ],
)
def test_exchanged_labels_are_found_by_their_misfit(ik, walk, exchange, sentence):
    found = ik.solve(relabelled(walk[0], exchange))
    text = " ".join(w for w in found.warnings if "exchanged" in w)
    assert re.search(sentence, text), found.warnings


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "mm"), (1e2, "cm"), (1e-2, "m divided by 100"), (1e-3, "m divided by 1000")]
)
def test_wrong_units_are_a_sentence(ik, walk, factor, unit):
    wrong = dataclasses.replace(walk[0], position=factor * walk[0].position)
    with pytest.raises(ExoError, match=f"not in m .*{unit}"):
        ik.solve(wrong)
    with pytest.raises(ExoError, match="not in m"):
        StreamingIk(ik).step(0.0, wrong.position[0])


def test_other_markers_are_a_sentence(ik, tree, walk):
    with pytest.raises(ExoError, match="check the marker names"):
        ik.solve(relabelled(walk[0], {name: f"x{name}" for name in walk[0].names}))
    with pytest.raises(ExoError, match="only 2 markers"):
        MarkerIk(tree, {"L_FLE": 1.0, "R_FLE": 1.0})


def test_who_walks_round_in_a_circle_meets_no_limit(ik, tree):
    time, q = motion(tree, 50)
    heading = np.linspace(0.0, 2.5 * np.pi, 50)
    q[:, tree.index("pelvis_rotation")] = heading
    radius = SPEED / 4.0
    q[:, tree.index("pelvis_tx")], q[:, tree.index("pelvis_tz")] = radius * np.sin(heading), radius * np.cos(heading)
    found = ik.solve(recording(tree, time, q))
    assert np.ptp(found.q[:, tree.index("pelvis_rotation")]) == pytest.approx(2.5 * np.pi, abs=0.1)
    assert legs_error(ik, found.q, q).max() < 3.0


def test_the_stream_refuses_disorder_and_waits_for_markers(ik, walk):
    stream, frame = StreamingIk(ik), walk[0].position[0]
    assert stream.step(0.0, np.full_like(frame, np.nan)) is None
    assert stream.step(0.02, frame) is not None
    with pytest.raises(ExoError, match="send frames in order"):
        stream.step(0.01, frame)
    with pytest.raises(ExoError, match="NaN where missing"):
        stream.step(0.04, frame[:-1])
    # After a long pause the person may be anywhere.
    far = walk[0].position[40] @ np.array([[-1.0, 0, 0], [0, 1.0, 0], [0, 0, -1.0]]) + np.array([3.0, 0.0, 1.0])
    found = stream.step(5.0, far)
    assert np.nanmax(found.residual) < 0.05
    # So may somebody else who comes into view at once.
    assert np.nanmax(stream.step(5.02, frame).residual) < 0.05


def test_the_tree_survives_its_file_and_needs_no_opensim(tree, walk, solved):
    file = io.BytesIO()
    np.savez(file, mass=np.array(62.0), **tree_arrays(tree, dict.fromkeys(tree.markers, 1.0)))
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again, weights = tree_from_arrays({name: stored[name] for name in stored.files})
    np.testing.assert_array_equal(MarkerIk(again, weights).solve(walk[0]).q, solved.q)
    with pytest.raises(ExoError, match="make the twin again"):
        tree_from_arrays({"mass": np.array(62.0)})
    code = "import sys, exo_twin.inverse.streaming_ik, exo_twin.inverse.tree_file; sys.exit('opensim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_opensims_tool_agrees(tmp_path):
    """The same markers, weights and model: where the tool is told to converge, the angles are its own."""
    folder = DATA / "walking_3d"
    if not folder.is_dir():
        pytest.skip("../shared/data/walking_3d is not here")
    import inverse_kinematics as bench

    markers = bench.within(read_trc(folder / "markers_walk.trc"), 0.6, 0.65)
    model_file = folder / "subject_walk_scaled.osim"
    with logging_to(tmp_path / "opensim.log"):
        weights = bench.marker_weights(folder / "ik_tasks_walk.xml")
        reference = bench.opensim_ik(model_file, weights, markers, tmp_path, bench.CONVERGED)
        model = opensim.Model(str(model_file))
        model.initSystem()
        ik = MarkerIk(kinematic_tree(model), {n: w for n, w in weights.items() if n in markers.names})
    worst = bench.differences_deg(ik, ik.solve(markers).q, reference)
    assert max(worst.values()) < 0.05, worst
