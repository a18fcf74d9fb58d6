"""The compiled walker against the OpenSim model it came from."""

import mujoco
import numpy as np
import pytest
from opensim_walk import DATA, generic_model, walk_keypoints

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_twin.forward.compiler.compile import compile_walker
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton
from exo_twin.forward.compiler.mjcf import WalkerOptions, write_mjcf
from exo_twin.forward.compiler.skeleton import neutral_pose, read_skeleton, set_pose
from exo_twin.forward.compiler.tendon_fit import Strand, Tendon
from exo_twin.inverse.scaling import scale_model
from exo_twin.opensim_runtime import logging_to, opensim
from exo_twin.planar_muscles import MEMBERS, MUSCLES, PlanarMuscles

MASS, HEIGHT = 62.0, 1.65


@pytest.fixture(scope="module")
def osim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiler")
    with logging_to(folder / "opensim.log"):
        return scale_model(walk_keypoints(duration=0.8), HEIGHT, MASS, generic_model(), folder / "scaled.osim").model


@pytest.fixture(scope="module")
def compiled(osim):
    return compile_walker(osim, HEIGHT)


@pytest.fixture(scope="module")
def walker(compiled):
    return mujoco.MjModel.from_xml_string(compiled.xml)


@pytest.fixture(scope="module")
def reference(osim):
    opensim.Logger.setLevelString("Error")
    model = opensim.Model(str(osim))
    return model, model.initSystem()


@pytest.fixture(scope="module")
def muscles(compiled):
    return PlanarMuscles.from_arrays(compiled.arrays)


def random_legs(n, seed=3):
    return np.random.default_rng(seed).uniform([-0.4, 0.05, -0.3] * 2, [0.8, 1.1, 0.3] * 2, (n, 6))


def put(walker, q):
    data = mujoco.MjData(walker)
    for name, angle in zip(LEG_COORDINATES, q, strict=True):
        data.joint(name).qpos[0] = angle
    mujoco.mj_forward(walker, data)
    return data


def opensim_arms(reference, q, muscle, coordinate):
    """F_max-weighted mean of OpenSim's own moment arms."""
    model, state = reference
    stem, side = muscle.split("_")
    set_pose(model, state, {**neutral_pose(model), **dict(zip(LEG_COORDINATES, map(float, q), strict=True))})
    parts = [model.getMuscles().get(f"{name}_{side}") for name in MEMBERS[stem][0]]
    peaks = np.array([part.getMaxIsometricForce() for part in parts])
    arms = [part.computeMomentArm(state, model.getCoordinateSet().get(coordinate)) for part in parts]
    return float(np.average(arms, weights=peaks))


def test_names_are_those_of_the_contract(walker):
    actuators = [walker.actuator(i).name for i in range(walker.nu)]
    assert actuators == [*MUSCLES, "hip_exo_l", "hip_exo_r"]
    joints = {walker.joint(i).name for i in range(walker.njnt)}
    assert joints == {"pelvis_tx", "pelvis_tz", "pelvis_tilt", *LEG_COORDINATES}
    for name in ("imu_pelvis", "imu_thigh_l", "imu_thigh_r"):
        for kind in ("gyro", "accelerometer", "orientation"):
            assert walker.sensor(f"{name}_{kind}") is not None


def test_masses_and_joint_centres(walker, compiled, reference):
    model, state = reference
    exo = HipExoskeleton()
    assert walker.body_mass.sum() == pytest.approx(MASS + exo.mass, abs=1e-3)
    assert float(compiled.arrays["mass"]) == pytest.approx(MASS, abs=1e-6)
    for side in SIDES:
        foot = sum(model.getBodySet().get(f"{name}_{side}").getMass() for name in ("talus", "calcn", "toes"))
        assert walker.body(f"foot_{side}").mass[0] == pytest.approx(foot, abs=1e-6)
    for q in random_legs(10):
        data = put(walker, q)
        set_pose(model, state, {**neutral_pose(model), **dict(zip(LEG_COORDINATES, map(float, q), strict=True))})
        for side in SIDES:
            ankle = model.getBodySet().get(f"talus_{side}").getTransformInGround(state).p()
            np.testing.assert_allclose(data.body(f"foot_{side}").xpos[[0, 2]], [ankle.get(0), ankle.get(1)], atol=4e-3)


def test_gravity_moments_are_opensims(compiled, reference):
    model, state = reference
    forces = model.updForceSet()
    for i in range(forces.getSize()):
        forces.get(i).setAppliesForce(state, False)
    bare = mujoco.MjModel.from_xml_string(compiled.xml)
    for name in ("exo_frame", "exo_cuff_l", "exo_cuff_r"):
        bare.body(name).mass[0], bare.body(name).inertia[:] = 0.0, 0.0
    order = {name: speed_index(model, state, name) for name in LEG_COORDINATES}
    solver = opensim.InverseDynamicsSolver(model)
    for q in random_legs(5, seed=5):
        set_pose(model, state, {**neutral_pose(model), **dict(zip(LEG_COORDINATES, map(float, q), strict=True))})
        held = solver.solve(state, opensim.Vector(state.getNU(), 0.0))
        data = put(bare, q)
        for name in LEG_COORDINATES:
            ours = data.qfrc_bias[bare.joint(name).dofadr[0]]
            assert ours == pytest.approx(held.get(order[name]), abs=0.5), name


def speed_index(model, state, name):
    """Where a coordinate's force stands in OpenSim's vector of generalised forces."""
    coordinate = model.getCoordinateSet().get(name)
    coordinate.setSpeedValue(state, 1.0)
    index = int(np.argmax([abs(state.getU().get(i)) for i in range(state.getNU())]))
    coordinate.setSpeedValue(state, 0.0)
    return index


def test_moment_arms_agree_with_opensims_own_solver(walker, muscles, reference):
    errors = []
    for q in random_legs(6):
        data = put(walker, q)
        dense = np.zeros((walker.nu, walker.nv))
        mujoco.mju_sparse2dense(dense, data.actuator_moment, data.moment_rownnz, data.moment_rowadr, data.moment_colind)
        own = muscles.moment_arms(q)
        for i, name in enumerate(MUSCLES):
            for joint in MEMBERS[name.split("_")[0]][1]:
                coordinate = f"{joint}_{name[-1]}"
                truth = opensim_arms(reference, q, name, coordinate)
                dof = walker.joint(coordinate).dofadr[0]
                errors.append((-dense[i, dof] - truth, own[i, LEG_COORDINATES.index(coordinate)] - truth))
    assert np.sqrt(np.mean(np.square(errors), axis=0)) == pytest.approx([0.0, 0.0], abs=1.5e-3)
    assert np.abs(errors).max() < 5e-3


def test_agreement_is_reported_and_inside_tolerance(compiled):
    report = compiled.agreement.as_dict()
    assert set(report["moment_arm_mm"]) == set(MUSCLES)
    assert report["moment_arm_mm_max"] < 5.0
    assert report["isometric_pct_max"] < 8.0
    assert compiled.agreement.warnings() == []


def test_the_live_muscles_are_the_walkers(walker, muscles):
    rng = np.random.default_rng(1)
    for q in random_legs(5):
        data = put(walker, q)
        activation, velocity = rng.uniform(0.0, 1.0, 18), rng.normal(0.0, 2.0, 6)
        for i, name in enumerate(MUSCLES):
            data.act[walker.actuator(name).actadr[0]] = activation[i]
        for name, rate in zip(LEG_COORDINATES, velocity, strict=True):
            data.joint(name).qvel[0] = rate
        mujoco.mj_forward(walker, data)
        force = np.array([-data.actuator(name).force[0] for name in MUSCLES])
        np.testing.assert_allclose(
            muscles.force(activation, q, velocity), force, atol=0.03 * muscles.max_isometric_force.max()
        )
        dofs = [walker.joint(name).dofadr[0] for name in LEG_COORDINATES]
        np.testing.assert_allclose(muscles.moments(activation, q, velocity), data.qfrc_actuator[dofs], atol=4.0)


def test_positive_exo_torque_flexes_the_hip_on_its_own_side(walker):
    for side, other in (SIDES, SIDES[::-1]):
        data = mujoco.MjData(walker)
        mujoco.mj_forward(walker, data)
        before = data.body(f"foot_{side}").xpos.copy()
        resting, resting_other = (float(data.joint(f"hip_flexion_{s}").qfrc_actuator[0]) for s in (side, other))
        data.actuator(f"hip_exo_{side}").ctrl[0] = 10.0
        mujoco.mj_forward(walker, data)
        assert data.joint(f"hip_flexion_{side}").qfrc_actuator[0] - resting == pytest.approx(10.0)
        assert data.joint(f"hip_flexion_{other}").qfrc_actuator[0] == pytest.approx(resting_other)
        data.joint(f"hip_flexion_{side}").qpos[0] = 0.3
        mujoco.mj_forward(walker, data)
        assert data.body(f"foot_{side}").xpos[0] > before[0] + 0.1, "a flexed thigh carries its foot forward"
        data.actuator(f"hip_exo_{side}").ctrl[0] = 1e3
        mujoco.mj_forward(walker, data)
        assert data.actuator(f"hip_exo_{side}").force[0] == pytest.approx(HipExoskeleton().torque_max)


def test_ground_contact_is_an_option(compiled, walker, reference):
    assert np.all(walker.geom_contype == 0)
    assert walker.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_CONTACT
    strand = Strand(0, 1, np.array([0.03, 0.05]), np.array([0.03, -0.05]), 1.0)
    xml = write_mjcf(
        "contact",
        read_skeleton(*reference),
        dict.fromkeys(MUSCLES, Tendon((strand,), 0.0)),
        dict(zip(MUSCLES, compiled.arrays["muscle_curves"], strict=True)),
        HipExoskeleton(),
        WalkerOptions(ground_contact=True),
    )
    touching = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(touching)
    mujoco.mj_resetDataKeyframe(touching, data, 0)
    data.qpos[1] -= 0.005
    mujoco.mj_forward(touching, data)
    assert data.ncon == 6, "heel, ball and toe of both feet"


def test_a_model_of_another_family_with_millard_muscles():
    path = DATA / "walking_3d" / "subject_walk_scaled.osim"
    if not path.is_file():
        pytest.skip("the reference recordings of ../shared/data are not here")
    opensim.Logger.setLevelString("Error")
    compiled = compile_walker(path, 1.8)
    assert float(compiled.arrays["mass"]) == pytest.approx(85.27, abs=0.01)
    assert compiled.agreement.warnings() == []
    assert max(compiled.agreement.polynomial_moment_arm_mm.values()) < 2.0


def test_a_broken_model_is_a_sentence(tmp_path):
    broken = tmp_path / "broken.osim"
    broken.write_text("<OpenSimDocument>")
    with pytest.raises(ExoError, match="not a readable OpenSim model"):
        compile_walker(broken, HEIGHT)
