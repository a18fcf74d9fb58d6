"""The most probable motion: what is known comes back, errors are modelled, and nonsense is refused."""

import dataclasses

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers
from exo_twin.inverse import keypoint_motion
from exo_twin.inverse.fit import fit_keypoints
from exo_twin.inverse.keypoint_model import JOINT_CENTRES, keypoint_model
from exo_twin.inverse.keypoint_motion import solve_keypoints
from exo_twin.inverse.kinematic_tree import pose
from exo_twin.inverse.models import blazepose_model

HEIGHT, STRIDE_S, RATE_HZ = 1.70, 1.1, 50.0
LEGS = ("Hip", "Knee", "Ankle", "Heel", "BigToe", "Shoulder")
SIZE = {"thigh": 0.97, "shank": 0.93, "foot": 0.95, "pelvis": 1.0, "trunk": 0.98}


@pytest.fixture(scope="module")
def model():
    return keypoint_model(blazepose_model(), JOINT_CENTRES)


def truth(time, standing_pitch=0.0):
    """Leg coordinates of a made-up walk, rad; with a pitch the soles are never level."""
    angles = {}
    for side, start in (("l", 0.0), ("r", 0.5)):
        phase = 2.0 * np.pi * (time / STRIDE_S - start)
        angles[f"hip_flexion_{side}"] = 0.2 + 0.4 * np.cos(phase)
        angles[f"knee_angle_{side}"] = 0.45 - 0.3 * np.cos(phase + 0.9) - 0.1 * np.cos(2.0 * phase)
        angles[f"ankle_angle_{side}"] = 0.05 + 0.2 * np.sin(phase) + standing_pitch
    return angles


def walk(model, duration=1.8, standing=False, **kwargs):
    """Keypoints of that walk on a body of SIZE, and its angles."""
    time = np.arange(0.0, duration, 1.0 / RATE_HZ)
    tree = model.tree.select([f"{s}{name}" for name in LEGS for s in "LR"])
    angles = truth(time, **kwargs)
    if standing:
        angles = {name: np.full(len(time), kwargs["standing_pitch"] * name.startswith("ankle")) for name in angles}
    q = np.tile(tree.default, (len(time), 1))
    for name, values in angles.items():
        q[:, tree.index(name)] = values
    q[:, tree.index("pelvis_tx")], q[:, tree.index("pelvis_ty")] = (0.0 if standing else 1.2) * time, 0.93
    scale = np.ones(len(tree.bodies))
    for segment in model.segments(HEIGHT):
        for body in segment.bodies:
            scale[tree.bodies.index(body)] = SIZE.get(segment.name, 1.0)
    position = pose(tree, q, scale, np.zeros((len(tree.markers), 3))).position
    return Markers(time, tree.markers, position), angles


def noisy(markers, seed, drift_m=0.010, white_m=0.008, shift_m=0.006):
    random = np.random.default_rng(seed)
    memory = np.exp(-1.0 / (RATE_HZ * 0.5))
    error = np.empty(markers.position.shape)
    error[0] = random.normal(0.0, drift_m, error.shape[1:])
    for i in range(1, len(error)):
        error[i] = memory * error[i - 1] + np.sqrt(1.0 - memory**2) * random.normal(0.0, drift_m, error.shape[1:])
    error += random.normal(0.0, white_m, error.shape) + random.normal(0.0, shift_m, error.shape[1:])
    return dataclasses.replace(markers, position=markers.position + error)


def errors_deg(motion, angles):
    return {name: np.degrees(motion.angles[name] - angles[name]) for name in LEG_COORDINATES}


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("planar", [False, True])
def test_a_known_motion_comes_back_with_the_persons_lengths(model, planar):
    keypoints, angles = walk(model)
    found = solve_keypoints(model, keypoints, HEIGHT, planar=planar)
    # Perfect keypoints are taken for noisy ones, and lengths corrected for noise that is not there.
    for name, error in errors_deg(found, angles).items():
        assert rms(error) < 3.0 and np.std(error) < 1.5, name
    for name, tolerance in (("thigh", 0.04), ("shank", 0.04), ("foot", 0.06)):
        assert found.trajectory.factors[name] == pytest.approx(SIZE[name], rel=tolerance), name
    assert found.marker_rms.max() < 0.01


def test_what_one_camera_cannot_see_is_held(model):
    keypoints, _ = walk(model)
    flat = dataclasses.replace(keypoints, position=keypoints.position * np.array([1.0, 1.0, 0.0]))
    found = solve_keypoints(model, flat, HEIGHT, planar=True).trajectory
    for name in ("hip_adduction_l", "hip_rotation_r", "pelvis_list", "pelvis_rotation", "subtalar_angle_l"):
        assert np.ptp(found.coordinate(name)) == 0.0, name


def test_errors_stay_small_and_are_foretold(model):
    keypoints, angles = walk(model)
    ratio, worst = [], []
    for seed in range(4):
        found = solve_keypoints(model, noisy(keypoints, seed), HEIGHT)
        for name, error in errors_deg(found, angles).items():
            worst.append(rms(error))
            ratio.append(rms(error / np.degrees(found.angles_sd[name])))
    assert np.median(worst) < 3.0
    # Neither boasting nor hiding behind wide bands; the hips' bands hold the unseen pelvis, which does not err here.
    assert 0.4 < rms(ratio) < 1.5


def test_wild_samples_and_gaps_hardly_matter(model):
    keypoints, angles = walk(model)
    clean = noisy(keypoints, 1)
    position, random = clean.position.copy(), np.random.default_rng(9)
    wild = random.random(position.shape[:2]) < 0.04
    position[wild] += random.normal(0.0, 0.4, (int(wild.sum()), 3))
    position[10:22, clean.names.index("LKnee")] = np.nan
    before = solve_keypoints(model, clean, HEIGHT)
    after = solve_keypoints(model, dataclasses.replace(clean, position=position), HEIGHT)
    assert 0.03 < after.trajectory.dropped < 0.1  # two frames make one sample here
    errors = [[rms(error) for error in errors_deg(found, angles).values()] for found in (before, after)]
    assert np.mean(errors[1]) < np.mean(errors[0]) + 0.7
    assert np.max(errors[1]) < np.max(errors[0]) + 1.5


def test_soles_on_the_floor_correct_misplaced_heels(model, monkeypatch):
    keypoints, _ = walk(model, standing=True, standing_pitch=0.0)
    position = keypoints.position.copy()
    position[:, [keypoints.names.index("LHeel"), keypoints.names.index("RHeel")], 1] += 0.02
    standing = dataclasses.replace(keypoints, position=position)
    with_floor = solve_keypoints(model, standing, HEIGHT).angles["ankle_angle_l"]
    monkeypatch.setattr(keypoint_motion, "RESTING_M_S", 0.0)
    without = solve_keypoints(model, standing, HEIGHT).angles["ankle_angle_l"]
    assert abs(with_floor.mean()) < 0.6 * abs(without.mean())


def test_a_foot_that_never_stands_flat_is_left_alone_and_named(model):
    keypoints, _ = walk(model, standing=True, standing_pitch=-0.5)
    found = solve_keypoints(model, keypoints, HEIGHT)
    assert np.degrees(found.angles["ankle_angle_l"].mean()) < -24.0
    assert [warning.split(" foot")[0] for warning in found.warnings] == ["the left", "the right"]


def test_a_long_recording_in_parts_is_as_one(model, monkeypatch):
    keypoints = noisy(walk(model, duration=3.0)[0], 2)
    whole = solve_keypoints(model, keypoints, HEIGHT)
    monkeypatch.setattr(keypoint_motion, "PART_S", 1.6)
    parts = solve_keypoints(model, keypoints, HEIGHT)
    assert parts.trajectory.factors["thigh"] == pytest.approx(whole.trajectory.factors["thigh"], rel=0.03)
    for name in LEG_COORDINATES:
        assert rms(np.degrees(parts.angles[name] - whole.angles[name])) < 2.0, name
        # No seam: from frame to frame both move alike.
        assert np.degrees(np.abs(np.diff(parts.angles[name]) - np.diff(whole.angles[name]))).max() < 1.0, name


def test_a_part_without_the_person_is_left_out(model, monkeypatch):
    keypoints, _ = walk(model, duration=6.0)
    position = keypoints.position.copy()
    position[75:225] = np.nan
    monkeypatch.setattr(keypoint_motion, "PART_S", 1.0)
    found = solve_keypoints(model, dataclasses.replace(keypoints, position=position), HEIGHT)
    gone = np.isnan(found.angles["knee_angle_l"])
    assert gone[130:170].all() and not gone[:70].any() and not gone[-70:].any()


def test_covariance_of_cameras_counts_and_may_have_holes(model):
    keypoints, angles = walk(model)
    random = np.random.default_rng(5)
    depth = noisy(keypoints, 3).position
    depth[..., 2] += random.normal(0.0, 0.05, depth.shape[:2])
    depth[..., 2] += random.normal(0.0, 0.05, depth.shape[1])
    poor = dataclasses.replace(keypoints, position=depth)
    covariance = np.tile(np.diag([0.013, 0.013, 0.07]) ** 2, (len(keypoints.names), 1, 1))
    covariance[0] = np.nan
    told = errors_deg(solve_keypoints(model, poor, HEIGHT, covariance=covariance), angles)
    untold = errors_deg(solve_keypoints(model, poor, HEIGHT), angles)
    assert np.mean([rms(e) for e in told.values()]) < np.mean([rms(e) for e in untold.values()])


def test_a_dropped_sample_is_no_residual(model):
    keypoints, _ = walk(model)
    position = keypoints.position.copy()
    position[30:32, keypoints.names.index("LKnee")] += 1.0
    found = solve_keypoints(model, dataclasses.replace(keypoints, position=position), HEIGHT)
    assert found.trajectory.dropped > 0.0
    assert found.marker_rms.max() < 0.05


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: dataclasses.replace(m, names=tuple(f"x{n}" for n in m.names)), "keypoint 'LShoulder' is missing"),
        (lambda m: dataclasses.replace(m, position=1e3 * m.position), "units"),
        (lambda m: dataclasses.replace(m, position=np.random.default_rng(0).normal(size=m.position.shape)), "units"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(model, tmp_path, change, sentence):
    with pytest.raises(ExoError, match=sentence):
        fit_keypoints(change(walk(model)[0]), HEIGHT, 65.0, tmp_path)
