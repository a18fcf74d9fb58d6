"""Muscle paths: polynomials against a known function, and a fit against a small OpenSim model of known geometry."""

import dataclasses

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_twin.inverse import muscle_path_fit
from exo_twin.inverse.loads import flexion_sign
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_path_jumps import jumping
from exo_twin.inverse.muscle_path_quality import PathFit, PathQuality, errors, judged
from exo_twin.inverse.muscle_path_samples import PathSamples
from exo_twin.inverse.muscle_path_solve import solve_group
from exo_twin.inverse.muscle_paths import MusclePaths, exponents_of
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import opensim

RANGES = np.array([[-0.5, 1.5], [0.0, 2.0]])
CROSSES = np.array([[True, True], [True, False], [False, True]])
THIGH = 0.4  # m
KNEES = ("knee_angle_r", "knee_angle_l")


@pytest.fixture(autouse=True)
def no_kept_fits(monkeypatch):
    """A fit that another version left in the home folder would be tested instead of this one."""
    monkeypatch.delenv("EXO_HOME", raising=False)


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


def test_muscles_beyond_the_limits_and_jumping_ones_are_named(paths):
    good = PathQuality(0.1, 0.3, 0.5, 1.0, 0.0, "", 0.1, 0.5, from_solver=False, separate=False)
    rows = (
        dataclasses.replace(good, jumps=0.06, jumps_at="hip_flexion_r -30 to -20 deg", rms_length_all_mm=3.0),
        dataclasses.replace(good, rms_arm_mm=2.1),
        dataclasses.replace(good, rms_length_mm=1.2),
    )
    jumping, sharp = PathFit(paths, dict(zip(paths.muscles, rows, strict=True))).warnings
    assert "two (in 6.0 % of poses, at hip_flexion_r -30 to -20 deg)" in jumping
    assert "follows first, second closely" in sharp
    assert "1.2 mm and moment arms to 2.1 mm" in sharp


class OneMuscle:
    """A path sampler of one muscle over one coordinate."""

    def __init__(self, length, arm_factor=1.0):
        self._length, self._arm_factor = length, arm_factor

    def sample(self, q):
        step = 1e-6
        arms = -self._arm_factor * (self._length(q + step) - self._length(q - step)) / (2 * step)
        return PathSamples(q, self._length(q), arms[:, :, None])

    def lengths(self, q, which):
        return self._length(q)[:, which]


def fitted(sampler):
    """Paths of one muscle, and samples that the fit has not seen."""
    random = np.random.default_rng(5)
    ranges, only = np.array([[-1.0, 1.0]]), np.array([0])
    (solved,) = solve_group(*(sampler.sample(random.uniform(-1, 1, (n, 1))) for n in (200, 60)), ranges, only, only)
    terms = max(len(solved.length), len(solved.arms))
    rows = [np.pad(row, (0, terms - len(row)))[None] for row in (solved.length, solved.arms)]
    paths = MusclePaths(("m",), ("a",), ranges, np.array([[True]]), *rows)
    return paths, sampler.sample(np.linspace(-0.99, 0.99, 100)[:, None])


@pytest.mark.parametrize("jump_m", [0.0, 0.012])
def test_lengths_and_arms_that_contradict_each_other_are_both_followed(jump_m):
    muscle = OneMuscle(lambda q: 0.3 + 0.03 * np.sin(2.0 * q) - jump_m * (q > 0.97), arm_factor=2.0)
    paths, held_out = fitted(muscle)
    state = paths.evaluate(held_out.q)
    steady = held_out.q[:, 0] < 0.95
    assert np.sqrt(np.mean((state.arms - held_out.arms)[steady] ** 2)) < 2e-3
    assert np.sqrt(np.mean((state.length - held_out.length)[steady] ** 2)) < 1e-3
    assert not np.array_equal(paths.coefficients, paths.arm_coefficients)


def test_jumps_of_the_model_do_not_bend_the_fit_and_are_told_from_its_errors():
    def smooth(q):
        return 0.3 + 0.03 * np.sin(2.0 * q)

    jumpy = OneMuscle(lambda q: smooth(q) - 0.012 * (q > 0.84))
    paths, held_out = fitted(jumpy)
    np.testing.assert_allclose(paths.evaluate(held_out.q).length, smooth(held_out.q), atol=2e-4)
    jumped = jumping(jumpy, paths, held_out.q, errors(paths, held_out))
    np.testing.assert_array_equal(jumped[:, 0], held_out.q[:, 0] > 0.84)
    quality = judged(paths, held_out, jumped, np.array([False])).quality["m"]
    assert quality.jumps == pytest.approx(0.08)
    assert quality.jumps_at.startswith("a 49 to ")
    assert quality.within_limits()
    assert quality.torn()
    assert not quality.separate
    assert quality.rms_length_all_mm == pytest.approx(12.0 * np.sqrt(0.08), rel=0.02)

    sharp = OneMuscle(lambda q: smooth(q) - 0.006 * np.sin(60.0 * np.maximum(q - 0.7, 0.0)))
    paths, held_out = fitted(sharp)
    assert not jumping(sharp, paths, held_out.q, errors(paths, held_out)).any()


def model_of_legs(folder, sides="r", knee_turns=1.0, kneecap=False):
    """A thigh and a shank on hinges, a muscle over both, one over the knee and one in the shank; and its tree.

    With a kneecap on the thigh that the knee drives, and a muscle from the thigh to it.
    """
    opensim.Logger.setLevelString("Error")
    model = opensim.Model()
    ground, bodies, couplers = model.getGround(), {}, []

    def hinge(body, coordinate, parent, at, turned=0.0, limits=(-2.0, 2.0)):
        bodies[body] = opensim.Body(body, 1.0, opensim.Vec3(0), opensim.Inertia(1, 1, 1))
        turn = opensim.Vec3(turned, 0, 0)
        joint = opensim.PinJoint(f"{body}_joint", parent, at, turn, bodies[body], opensim.Vec3(0), turn)
        joint.updCoordinate().setName(coordinate)
        joint.updCoordinate().setRangeMin(limits[0])
        joint.updCoordinate().setRangeMax(limits[1])
        model.addBody(bodies[body])
        model.addJoint(joint)

    for side in sides:
        thigh, shank = f"femur_{side}", f"tibia_{side}"
        down = opensim.Vec3(0, -THIGH, 0)
        hinge(thigh, f"hip_flexion_{side}", ground, opensim.Vec3(0))
        knee = (0.0, (-0.2, 2.0)) if knee_turns > 0.0 else (np.pi, (-2.0, 0.2))
        hinge(shank, f"knee_angle_{side}", bodies[thigh], down, *knee)
        ends = {"both": (ground, bodies[shank]), "knee": (bodies[thigh], bodies[shank]), "none": (bodies[shank],) * 2}
        if kneecap:
            hinge(f"patella_{side}", f"knee_angle_{side}_beta", bodies[thigh], down)
            ends["cap"] = (bodies[thigh], bodies[f"patella_{side}"])
            couplers.append(side)
        for name, (origin, insertion) in ends.items():
            muscle = opensim.Millard2012EquilibriumMuscle(f"{name}_{side}", 100.0, 0.1, 0.3, 0.0)
            muscle.addNewPathPoint("origin", origin, opensim.Vec3(0.05, 0.02, 0))
            muscle.addNewPathPoint("insertion", insertion, opensim.Vec3(0.04, -0.1, 0))
            model.addForce(muscle)
    model.finalizeConnections()
    for side in couplers:
        coupler, driver = opensim.CoordinateCouplerConstraint(), opensim.ArrayStr()
        driver.append(f"knee_angle_{side}")
        coupler.setIndependentCoordinateNames(driver)
        coupler.setDependentCoordinateName(f"knee_angle_{side}_beta")
        coupler.setFunction(opensim.LinearFunction(0.5, 0.0))
        model.addConstraint(coupler)
    model.finalizeConnections()
    path = folder / "leg.osim"
    model.printToXML(str(path))
    model.initSystem()
    return path, kinematic_tree(model)


@pytest.fixture(scope="module")
def leg(tmp_path_factory):
    return model_of_legs(tmp_path_factory.mktemp("leg"))


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


def test_both_legs_either_sign_of_the_knee_and_driven_kneecaps(tmp_path):
    for turns in (1.0, -1.0):
        path, tree = model_of_legs(tmp_path, "rl", turns, kneecap=True)
        fit = fit_muscle_paths(path, tree)
        paths = fit.paths
        assert paths.muscles == tuple(f"{name}_{side}" for side in "rl" for name in ("both", "knee", "cap"))
        knees = [flexion_sign(tree, name) * paths.ranges[paths.coordinates.index(name)] for name in KNEES]
        assert flexion_sign(tree, "knee_angle_r") == turns
        for knee in knees:
            np.testing.assert_allclose(np.sort(np.rad2deg(knee)), [-10.0, 110.0], atol=1e-6)
        cap = paths.muscles.index("cap_l")
        assert [paths.coordinates[k] for k in np.flatnonzero(paths.crosses[cap])] == ["knee_angle_l"]
        q = np.zeros((1, len(paths.coordinates)))
        half = 0.5 * (0.8 * flexion_sign(tree, "knee_angle_l"))
        q[0, paths.coordinates.index("knee_angle_l")] = 2.0 * half
        end = np.array([np.cos(half) * 0.04 + np.sin(half) * 0.1, np.sin(half) * 0.04 - np.cos(half) * 0.1 - THIGH])
        assert paths.evaluate(q).length[0, cap] == pytest.approx(np.hypot(*(end - [0.05, 0.02])), abs=5e-4)
        assert fit.warnings == []


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
