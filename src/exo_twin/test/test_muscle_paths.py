"""Muscle paths: polynomials against a known function, and a fit against a small OpenSim model of known geometry."""

import dataclasses

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_twin.inverse import muscle_path_fit
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_path_quality import PathFit, PathQuality
from exo_twin.inverse.muscle_paths import MusclePaths, exponents_of
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import opensim

RANGES = np.array([[-0.5, 1.5], [0.0, 2.0]])
CROSSES = np.array([[True, True], [True, False], [False, True]])
THIGH = 0.4  # m


@pytest.fixture
def paths():
    coefficients = np.zeros((3, 10))
    random = np.random.default_rng(1)
    coefficients[0] = random.normal(scale=0.02, size=10)
    coefficients[1:, :4] = random.normal(scale=0.02, size=(2, 4))
    return MusclePaths(("two", "first", "second"), ("a", "b"), RANGES, CROSSES, coefficients, coefficients)


def inside(n, seed=2):
    return np.random.default_rng(seed).uniform(*RANGES.T, (n, 2))


def test_length_is_the_polynomial(paths):
    q = inside(7)
    u, v = (q - RANGES.mean(axis=1)).T  # both half ranges are 1
    known = sum(c * u**i * v**j for c, (i, j) in zip(paths.coefficients[0], exponents_of(2, 3), strict=True))
    np.testing.assert_allclose(paths.evaluate(q).length[:, 0], known, atol=1e-14)


def test_arms_are_slopes_of_length_and_velocity_follows_them(paths):
    q, step = inside(20), 1e-6
    qd = np.random.default_rng(3).normal(size=q.shape)
    state = paths.evaluate(q, qd)
    for k in range(2):
        moved = np.eye(2)[k] * step
        slope = (paths.evaluate(q + moved).length - paths.evaluate(q - moved).length) / (2 * step)
        np.testing.assert_allclose(state.arms[:, :, k], -slope, atol=1e-8)
    forward, back = paths.evaluate(q + step * qd).length, paths.evaluate(q - step * qd).length
    np.testing.assert_allclose(state.velocity, (forward - back) / (2 * step), atol=1e-7)
    assert not state.arms[:, 1, 1].any()


def test_one_frame_is_as_many(paths):
    q = inside(5)
    np.testing.assert_allclose(paths.evaluate(q).arms[2], paths.evaluate(q[2:3]).arms[0], atol=1e-15)


def test_beyond_the_range_arms_stay_and_length_is_straight(paths):
    border = np.array([[1.5, 1.0]])
    state, far = paths.evaluate(border), paths.evaluate(border + np.array([2.0, 0.0]))
    np.testing.assert_allclose(far.arms, state.arms)
    np.testing.assert_allclose(far.length, state.length - 2.0 * state.arms[:, :, 0])


def test_arrays_come_back_and_damage_is_named(paths):
    arrays = paths.arrays()
    q = inside(3)
    np.testing.assert_array_equal(MusclePaths.from_arrays(arrays).evaluate(q).length, paths.evaluate(q).length)
    with pytest.raises(ExoError, match="paths_ranges"):
        MusclePaths.from_arrays({name: value for name, value in arrays.items() if name != "paths_ranges"})
    for name, wrong in (
        ("crosses", CROSSES[:2]),
        ("coefficients", np.full((3, 10), np.nan)),
        ("ranges", RANGES[::-1].T),
    ):
        with pytest.raises(ExoError, match="damaged"):
            MusclePaths.from_arrays({**arrays, f"paths_{name}": wrong})


def test_a_muscle_beyond_the_limits_is_named(paths):
    good = PathQuality(0.1, 0.3, 0.5, 1.0, from_solver=False, separate=False)
    rows = (good, dataclasses.replace(good, rms_arm_mm=2.1), dataclasses.replace(good, rms_length_mm=1.2))
    warnings = PathFit(paths, dict(zip(paths.muscles, rows, strict=True))).warnings
    assert len(warnings) == 2
    assert "first" in warnings[0]
    assert "second" in warnings[1]


@pytest.fixture(scope="module")
def leg(tmp_path_factory):
    """A thigh and a shank on hinges, a muscle over both, one over the knee and one in the shank; and its tree."""
    opensim.Logger.setLevelString("Error")
    model = opensim.Model()
    ground, parent, hinge = model.getGround(), model.getGround(), opensim.Vec3(0)
    bodies = []
    for body, coordinate in (("femur_r", "hip_flexion_r"), ("tibia_r", "knee_angle_r")):
        bodies.append(opensim.Body(body, 1.0, opensim.Vec3(0), opensim.Inertia(1, 1, 1)))
        joint = opensim.PinJoint(
            f"{body}_joint", parent, hinge, opensim.Vec3(0), bodies[-1], opensim.Vec3(0), opensim.Vec3(0)
        )
        joint.updCoordinate().setName(coordinate)
        joint.updCoordinate().setRangeMin(-2.0)
        joint.updCoordinate().setRangeMax(2.0)
        model.addBody(bodies[-1])
        model.addJoint(joint)
        parent, hinge = bodies[-1], opensim.Vec3(0, -THIGH, 0)
    ends = {"both": (ground, bodies[1]), "knee": (bodies[0], bodies[1]), "none": (bodies[1], bodies[1])}
    for name, (origin, insertion) in ends.items():
        muscle = opensim.Millard2012EquilibriumMuscle(f"{name}_r", 100.0, 0.1, 0.3, 0.0)
        muscle.addNewPathPoint("origin", origin, opensim.Vec3(0.05, 0.02, 0))
        muscle.addNewPathPoint("insertion", insertion, opensim.Vec3(0.04, -0.1, 0))
        model.addForce(muscle)
    model.finalizeConnections()
    path = tmp_path_factory.mktemp("leg") / "leg.osim"
    model.printToXML(str(path))
    model.initSystem()
    return path, kinematic_tree(model)


def known_length(hip, knee):
    """Of the muscle over both joints, by hand."""

    def turned(angle, x, y):
        return np.array([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y])

    insertion = turned(hip, 0.0, -THIGH) + turned(hip + knee, 0.04, -0.1)
    return np.hypot(insertion[0] - 0.05, insertion[1] - 0.02)


def test_a_fit_follows_the_models_geometry(leg):
    fit = fit_muscle_paths(*leg)
    paths = fit.paths
    assert paths.muscles == ("both_r", "knee_r")
    assert paths.coordinates == ("hip_flexion_r", "knee_angle_r")
    np.testing.assert_array_equal(paths.crosses, [[True, True], [False, True]])
    assert fit.warnings == []
    q = np.random.default_rng(77).uniform(*paths.ranges.T, (50, 2))
    step = 1e-5
    slope = (known_length(q[:, 0] + step, q[:, 1]) - known_length(q[:, 0] - step, q[:, 1])) / (2 * step)
    state = paths.evaluate(q)
    np.testing.assert_allclose(state.length[:, 0], known_length(*q.T), atol=1e-3)
    np.testing.assert_allclose(state.arms[:, 0, 0], -slope, atol=2e-3)


def test_a_fit_is_kept_until_model_or_settings_change(leg, tmp_path, monkeypatch):
    path, tree = leg
    asked = []
    first = fit_muscle_paths(path, tree, tmp_path, asked.append)
    again = fit_muscle_paths(path, tree, tmp_path, asked.append)
    assert len(asked) == 1
    assert again.quality == first.quality
    np.testing.assert_array_equal(again.paths.coefficients, first.paths.coefficients)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:200])
    fit_muscle_paths(path, tree, tmp_path, asked.append)
    assert len(asked) == 2, "a damaged file is fitted anew"
    assert PathFit.load(kept) is not None
    monkeypatch.setattr(muscle_path_fit, "SEED", 21)
    fit_muscle_paths(path, tree, tmp_path, asked.append)
    assert len(asked) == 3


def test_locked_coordinates_are_left_out_and_legless_models_refused(leg, tmp_path):
    path, tree = leg
    fit = fit_muscle_paths(path, dataclasses.replace(tree, locked=np.array([True, False])))
    assert fit.paths.coordinates == ("knee_angle_r",)
    with pytest.raises(ExoError, match="no muscle"):
        fit_muscle_paths(path, dataclasses.replace(tree, locked=np.array([True, True])))
    with pytest.raises(ExoError, match="does not exist"):
        fit_muscle_paths(tmp_path / "missing.osim", tree)
