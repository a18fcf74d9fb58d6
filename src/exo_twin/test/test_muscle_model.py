import dataclasses

import numpy as np
import pytest
from muscle_fakes import two_legs

from exo_common.errors import ExoError
from exo_twin.inverse.muscle_curves import Curves
from exo_twin.inverse.muscle_forces import EMG_DRIVEN, MuscleSolver
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.opensim_runtime import opensim

OPTIMAL, SLACK, STRONGEST = 0.08, 0.4, 1500.0


def slider(kind: str, pennation: float = 0.0, **properties: float):
    """A body on a rail that one muscle pulls; the muscle is as long as the coordinate says."""
    model = opensim.Model()
    body = opensim.Body("body", 1.0, opensim.Vec3(0), opensim.Inertia(1.0))
    joint = opensim.SliderJoint("rail", model.getGround(), body)
    joint.updCoordinate().setName("reach")
    model.addBody(body)
    model.addJoint(joint)
    muscle = getattr(opensim, kind)()
    muscle.setName("pull")
    muscle.setMaxIsometricForce(STRONGEST)
    muscle.setOptimalFiberLength(OPTIMAL)
    muscle.setTendonSlackLength(SLACK)
    muscle.setPennationAngleAtOptimalFiberLength(pennation)
    for name, value in properties.items():
        getattr(muscle, f"set_{name}")(value)
    muscle.addNewPathPoint("from", model.getGround(), opensim.Vec3(0))
    muscle.addNewPathPoint("to", body, opensim.Vec3(0))
    model.addForce(muscle)
    model.finalizeConnections()
    return model


def at(model, reach: float, speed: float):
    """State and muscle where the path is so long and lengthens so fast."""
    state = model.initSystem()
    coordinate = model.getCoordinateSet().get("reach")
    coordinate.setValue(state, reach)
    coordinate.setSpeedValue(state, speed)
    model.realizeVelocity(state)
    return state, model.getMuscles().get("pull")


@pytest.mark.parametrize("kind", ["Millard2012EquilibriumMuscle", "DeGrooteFregly2016Muscle", "Thelen2003Muscle"])
def test_active_force_is_that_of_the_class(kind: str) -> None:
    model = slider(kind)
    model.initSystem()
    ours = muscle_model(model, ["pull"])
    for stretch in (0.55, 0.8, 1.0, 1.3):
        for speed in (-0.6, -0.1, 0.0, 0.1, 0.3):
            length, velocity = SLACK + stretch * OPTIMAL, speed * 10.0 * OPTIMAL
            state, muscle = at(model, length, velocity)
            expected = muscle.calcInextensibleTendonActiveFiberForce(state, 1.0)
            found = ours.fibres(np.array([[length]]), np.array([[velocity]])).active[0, 0]
            assert found == pytest.approx(expected, abs=2e-3 * STRONGEST), (stretch, speed)


@pytest.mark.parametrize("kind", ["Millard2012EquilibriumMuscle", "DeGrooteFregly2016Muscle"])
def test_pennation_and_passive_force_are_those_of_the_class(kind: str) -> None:
    model = slider(kind, pennation=0.4, ignore_tendon_compliance=True, fiber_damping=0.0)
    model.initSystem()
    ours = muscle_model(model, ["pull"])
    for along in (0.6, 1.0, 1.4):
        length, velocity = SLACK + along * OPTIMAL, -0.1
        state, muscle = at(model, length, velocity)
        muscle.setActivation(state, 0.3)
        model.realizeDynamics(state)
        fibres = ours.fibres(np.array([[length]]), np.array([[velocity]]))
        found = (0.3 * fibres.active + fibres.passive)[0, 0]
        assert found == pytest.approx(muscle.getTendonForce(state), abs=2e-3 * STRONGEST)
        assert fibres.cos_pennation[0, 0] == pytest.approx(muscle.getCosPennationAngle(state), rel=1e-6)
        assert fibres.length[0, 0] == pytest.approx(muscle.getNormalizedFiberLength(state), rel=1e-6)
        assert fibres.velocity[0, 0] == pytest.approx(muscle.getNormalizedFiberVelocity(state), rel=1e-6)


@pytest.mark.parametrize("kind", ["Millard2012EquilibriumMuscle", "Thelen2003Muscle"])
def test_elastic_tendon_finds_opensims_equilibrium(kind: str) -> None:
    model = slider(kind, pennation=0.3)
    model.initSystem()
    ours = muscle_model(model, ["pull"])
    line = np.array([[0.0, 1.0]])  # the path's length is the coordinate's value
    paths = MusclePaths(("pull",), ("reach",), np.array([[-1.0, 1.0]]), np.array([[True]]), line, line)
    solver = MuscleSolver(paths, ours, EMG_DRIVEN, elastic=True)
    for along in (0.85, 1.0, 1.2):
        for activation in (0.1, 0.5, 1.0):
            reach = SLACK + along * OPTIMAL
            state, muscle = at(model, reach, 0.0)
            muscle.setActivation(state, activation)
            model.equilibrateMuscles(state)
            model.realizeDynamics(state)
            found = solver.solve([0.0], [[reach]], [[0.0]], [[np.nan]], [[activation]])
            assert found.warnings == ()
            assert found.force[0, 0] == pytest.approx(muscle.getTendonForce(state), abs=3e-3 * STRONGEST)
            assert found.fibres.length[0, 0] == pytest.approx(muscle.getNormalizedFiberLength(state), abs=2e-3)


def test_a_class_without_curves_and_a_missing_muscle_are_named() -> None:
    model = slider("RigidTendonMuscle")
    with pytest.raises(ExoError, match="'pull' is of class RigidTendonMuscle"):
        muscle_model(model, ["pull"])
    with pytest.raises(ExoError, match="no muscle 'soleus_r'"):
        muscle_model(model, ["soleus_r"])


def test_arrays_bring_the_muscles_back() -> None:
    _, model = two_legs()
    again = MuscleModel.from_arrays(model.arrays())
    length, velocity, force = np.full((3, 20), 0.2), np.full((3, 20), -0.1), np.full((3, 20), 300.0)
    for one, two in zip(
        dataclasses.astuple(model.fibres(length, velocity, force)),
        dataclasses.astuple(again.fibres(length, velocity, force)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("damage", ["missing", "nan", "short"])
def test_damaged_arrays_are_refused(damage: str) -> None:
    _, model = two_legs()
    arrays = model.arrays()
    name = "muscle_model_max_isometric_force"
    if damage == "missing":
        del arrays[name]
    else:
        arrays[name] = np.full(20, np.nan) if damage == "nan" else arrays[name][:-1]
    with pytest.raises(ExoError, match="make the twin again"):
        MuscleModel.from_arrays(arrays)


def test_factors_scale_what_they_name() -> None:
    _, model = two_legs()
    factor = np.linspace(0.8, 1.2, 20)
    scaled = model.scaled(strength=factor, optimal_fiber_length=1.1)
    length, velocity = np.tile(0.065 + model.tendon_slack_length, (1, 1)), np.zeros((1, 20))
    weaker = model.scaled(optimal_fiber_length=1.1).fibres(length, velocity)
    np.testing.assert_allclose(scaled.fibres(length, velocity).active, weaker.active * factor)
    longer = model.scaled(tendon_slack_length=1.02).fibres(length + 0.02 * model.tendon_slack_length, velocity)
    np.testing.assert_allclose(longer.length, model.fibres(length, velocity).length)


def test_a_path_shorter_than_its_tendon_leaves_fibres_that_hardly_pull() -> None:
    _, model = two_legs()
    slack = model.fibres((model.tendon_slack_length - 0.05)[None], np.zeros((1, 20)))
    np.testing.assert_allclose(slack.cos_pennation, 0.1)
    assert np.all((slack.active >= 0.0) & (slack.active < 0.1 * model.max_isometric_force))
    assert not slack.passive.any()


def test_every_muscle_has_its_own_curve_and_straight_lines_beyond_its_ends() -> None:
    x = np.linspace(0.0, 1.0, 11)
    curves = Curves(0.0, 0.1, np.array([x**2, 3.0 * x]), np.array([2.0 * x, np.full(11, 3.0)]), np.array([1, 0]))
    value, slope = curves.at(np.array([[0.55, 0.55], [1.5, 1.5], [-1.0, -1.0]]))
    np.testing.assert_allclose(value, [[1.65, 0.3025], [4.5, 2.0], [-3.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(slope, [[3.0, 1.1], [3.0, 2.0], [3.0, 0.0]], atol=1e-12)
