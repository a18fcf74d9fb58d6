"""Inverse dynamics agrees with OpenSim: its solver on random motions of whole models, its tool on a recorded walk."""

from pathlib import Path

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_common.opensim_files import read_storage, write_storage
from exo_twin.inverse.dynamics_files import force_table, read_coordinates
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.models import blazepose_model
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
LAI = DATA / "models" / "LaiUhlrich2022.osim"
WALK = DATA / "walking_3d"
START, END = 0.45, 1.70  # s, with both feet on plates
H = 1e-4  # step of the numerical derivatives of couplers
BAR_NM = 1.5
TABLES_N = 0.1  # N or Nm of thousands: the tree follows curved joints by tables


def loaded(name):
    opensim.Logger.setLevelString("Error")
    if name == "LaiUhlrich2022" and not LAI.is_file():
        pytest.skip("LaiUhlrich2022.osim is not in ../shared/data/models")
    model = opensim.Model(str(blazepose_model().model if name == "pose2sim" else LAI))
    model.updForceSet().clearAndDestroy()
    return model, model.initSystem()


def opensim_forces(model, state, tree, q, v, a):
    """OpenSim's generalised forces with what couplers drive counted in the driver, for one frame."""
    chosen = {name: (q[i], v[i], a[i]) for i, name in enumerate(tree.coordinates)}
    driver, ratio = {}, {}
    constraints = model.getConstraintSet()
    for i in range(constraints.getSize()):
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(i))
        if coupler is None:
            continue
        name, source = coupler.getDependentCoordinateName(), coupler.getIndependentCoordinateNames().get(0)
        x, dx, ddx = chosen[source]
        low, mid, high = (coupler.getFunction().calcValue(opensim.Vector(1, x + s)) for s in (-H, 0.0, H))
        slope, bend = (high - low) / (2 * H), (high - 2 * mid + low) / H**2
        chosen[name] = mid, slope * dx, slope * ddx + bend * dx**2
        driver[name], ratio[name] = source, slope
    order = _speed_order(model, state)
    change = opensim.Vector(len(order), 0.0)
    for name, row in order.items():
        coordinate = model.getCoordinateSet().get(name)
        coordinate.setLocked(state, False)
        coordinate.setValue(state, float(chosen[name][0]), False)
        coordinate.setSpeedValue(state, float(chosen[name][1]))
        change[row] = float(chosen[name][2])
    found = opensim.InverseDynamicsSolver(model).solve(state, change)
    result = {name: found[row] for name, row in order.items()}
    for name, source in driver.items():
        result[source] += ratio[name] * result[name]
    return np.array([result[name] for name in tree.coordinates])


def _speed_order(model, state):
    """Coordinate -> its row among OpenSim's generalised speeds."""
    names = [coordinate.getName() for coordinate in model.getCoordinateSet()]
    for i, name in enumerate(names):
        model.getCoordinateSet().get(name).setSpeedValue(state, float(i))
    speeds = [state.getU()[row] for row in range(len(names))]
    return {name: speeds.index(float(i)) for i, name in enumerate(names)}


@pytest.mark.parametrize("name", ["pose2sim", "LaiUhlrich2022"])
def test_random_motions_of_whole_models(name):
    model, state = loaded(name)
    tree = kinematic_tree(model)
    solver = InverseDynamics(tree, body_inertia(model, tree))
    random = np.random.default_rng(6)
    for _ in range(4):
        middle, half = 0.5 * (tree.lower + tree.upper), 0.5 * np.minimum(tree.upper - tree.lower, 2.0)
        q = middle + half * random.uniform(-0.8, 0.8, len(middle))
        v, a = random.normal(0.0, 2.0, len(q)), random.normal(0.0, 20.0, len(q))
        ours = solver.solve(q[None], v[None], a[None]).forces[0]
        theirs = opensim_forces(model, state, tree, q, v, a)
        assert np.abs(theirs).max() > 100.0
        np.testing.assert_allclose(ours, theirs, atol=TABLES_N)


def test_standing_on_one_foot_carries_the_weight_through_that_leg_alone():
    model, _ = loaded("pose2sim")
    tree = kinematic_tree(model)
    solver = InverseDynamics(tree, body_inertia(model, tree))
    q = tree.default[None]
    still = np.zeros_like(q)
    hanging = solver.solve(q, still, still)
    whole = hanging.whole_body
    under = whole.centre * [1.0, 0.0, 1.0]
    ground = ExternalForce("calcn_r", whole.force, under, np.zeros((1, 3)))
    solved = solver.solve(q, still, still, [ground])
    weight = 9.80665 * solver.inertia.total_mass
    assert whole.force[0] == pytest.approx([0.0, weight, 0.0], abs=1e-9)
    root = [i for i, coordinate in enumerate(tree.coordinates) if coordinate.startswith("pelvis")]
    np.testing.assert_allclose(solved.forces[0, root], 0.0, atol=1e-9)
    other = [i for i, coordinate in enumerate(tree.coordinates) if coordinate.endswith("_l")]
    np.testing.assert_allclose(solved.forces[0, other], hanging.forces[0, other], atol=1e-9)
    motion = solver.moving.at(q, still, still)
    talus = tree.bodies.index("talus_r")
    axis, ankle = motion.freedom[0, talus, 0], motion.joint[0, talus]
    below = solver.moving.above[:, talus] > 0
    reach = motion.origin[0] + np.einsum("bij,bj->bi", motion.turn[0], solver.inertia.centre)
    foot = np.cross(reach - ankle, solver.inertia.mass[:, None] * [0.0, -9.80665, 0.0])[below].sum(axis=0)
    assert solved.of("ankle_angle_r")[0] == pytest.approx(-axis @ (foot + ground.moment_about(ankle)[0]), abs=1e-6)


@pytest.mark.parametrize(("mass", "sentence"), [(0.0, "weighs 0 kg"), (-1.0, "cannot be negative")])
def test_a_model_of_impossible_mass_is_refused(mass, sentence):
    model = opensim.Model()
    body = opensim.Body("thigh", 1.0, opensim.Vec3(0.0), opensim.Inertia(1.0, 1.0, 1.0))
    model.addBody(body)
    model.addJoint(opensim.PinJoint("hip", model.getGround(), body))
    model.finalizeConnections()
    tree = kinematic_tree(model)
    body.set_mass(mass)
    with pytest.raises(ExoError, match=sentence):
        body_inertia(model, tree)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """The walk's tree, our coordinates and plates, and the tool's generalised forces of the same files."""
    if not WALK.is_dir():
        pytest.skip("walking_3d is not in ../shared/data")
    opensim.Logger.setLevelString("Error")
    scratch = tmp_path_factory.mktemp("id")
    model = opensim.Model(str(WALK / "subject_walk_scaled.osim"))
    model.initSystem()
    tree = kinematic_tree(model)
    states = read_storage(WALK / "coordinates.sto")
    names = tuple(column.split("/")[-2] for column in states.columns)
    for side in "lr":  # the couplers of this model are the identity
        states.values[:, names.index(f"knee_angle_{side}_beta")] = states.values[:, names.index(f"knee_angle_{side}")]
    table = type(states)(states.time, names, states.values, False)
    write_storage(scratch / "coordinates.mot", table)
    tool = opensim.InverseDynamicsTool()
    tool.setModel(model)
    tool.setCoordinatesFileName(str(scratch / "coordinates.mot"))
    tool.setLowpassCutoffFrequency(6.0)
    tool.setExternalLoadsFileName(str(WALK / "grf_walk.xml"))
    tool.setStartTime(START)
    tool.setEndTime(END)
    muscles = opensim.ArrayStr()
    muscles.append("Muscles")
    tool.setExcludedForces(muscles)
    tool.setResultsDir(str(scratch))
    tool.setOutputGenForceFileName("id.sto")
    with logging_to(scratch / "opensim.log"):
        assert tool.run()
    return model, tree, table, read_storage(scratch / "id.sto")


def test_a_recorded_walk_has_the_moments_of_the_tool(walk, tmp_path):
    model, tree, table, reference = walk
    plates = read_storage(WALK / "grf_walk.mot")
    external = []
    for side in "rl":
        prefixes = (f"ground_force_{side}_v", f"ground_force_{side}_p", f"ground_torque_{side}_")
        columns = [np.column_stack([plates.column(prefix + axis) for axis in "xyz"]) for prefix in prefixes]
        external.append(ExternalForce(f"calcn_{side}", *columns).at(plates.time, reference.time))
    moving = derivatives(table.time, read_coordinates(table, tree), 6.0, at=reference.time)
    solver = InverseDynamics(tree, body_inertia(model, tree))
    solved = solver.solve(moving.q, moving.speed, moving.acceleration, external)
    write_storage(tmp_path / "id.sto", force_table(reference.time, solved, tree))
    written = read_storage(tmp_path / "id.sto")
    for column in written.columns:
        theirs = reference.column(column)
        error = np.sqrt(np.mean((written.column(column) - theirs) ** 2))
        assert error < BAR_NM, column
        if "pelvis" not in column and np.std(theirs) > BAR_NM:
            assert np.corrcoef(written.column(column), theirs)[0, 1] > 0.999, column


def test_tables_are_read_by_name_in_their_units(walk):
    _, tree, table, _ = walk
    q = read_coordinates(table, tree)
    assert q[0, tree.index("mtp_angle_r")] == tree.default[tree.index("mtp_angle_r")]
    degrees = table.values.copy()
    for i, name in enumerate(table.columns):
        if name in tree.coordinates and tree.turns()[tree.index(name)]:
            degrees[:, i] = np.rad2deg(degrees[:, i])
    np.testing.assert_allclose(read_coordinates(type(table)(table.time, table.columns, degrees, True), tree), q)
    with pytest.raises(ExoError, match="none of the model's coordinates"):
        read_coordinates(type(table)(table.time, ("a", "b"), degrees[:, :2], True), tree)
