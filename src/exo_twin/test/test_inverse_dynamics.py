"""Inverse dynamics obeys mechanics: closed forms, energy, statics; and explains what it cannot use."""

import dataclasses

import numpy as np
import pytest
from jointed_bodies import crooked_chain, two_links, waving

from exo_common.errors import ExoError
from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.body_motion import MovingTree
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.inverse_dynamics import CHUNK, InverseDynamics
from exo_twin.inverse.kinematic_tree import pose
from exo_twin.inverse.tree_file import tree_arrays, tree_from_arrays
from exo_twin.inverse.tree_motion import TreeMotion

G = 9.80665
NOTHING = np.zeros((1, 3))


def upward(body, force, point):
    return ExternalForce(body, np.array([[0.0, force, 0.0]]), np.array([point]), NOTHING)


def test_two_links_follow_the_textbook():
    tree, inertia = two_links()
    q, v, a = waving(np.linspace(0.0, 3.0, 40), 2)
    (m1, m2), (c1, c2), length = inertia.mass, inertia.centre[:, 0], 0.4
    i1, i2 = inertia.tensor[:, 2, 2]
    cosine = m2 * length * c2 * np.cos(q[:, 1])
    bend = m2 * length * c2 * np.sin(q[:, 1])
    m12 = i2 + m2 * c2**2 + cosine
    m11 = i1 + m1 * c1**2 + m2 * length**2 + m12 + cosine
    hang = G * m2 * c2 * np.cos(q.sum(axis=1))
    elbow = m12 * a[:, 0] + (i2 + m2 * c2**2) * a[:, 1] + bend * v[:, 0] ** 2 + hang
    shoulder = m11 * a[:, 0] + m12 * a[:, 1] - bend * (2 * v[:, 0] * v[:, 1] + v[:, 1] ** 2)
    shoulder += G * (m1 * c1 + m2 * length) * np.cos(q[:, 0]) + hang
    solved = InverseDynamics(tree, inertia).solve(q, v, a)
    np.testing.assert_allclose(solved.of("elbow"), elbow, atol=1e-10)
    np.testing.assert_allclose(solved.of("shoulder"), shoulder, atol=1e-10)


@pytest.mark.parametrize("beyond", [0.0, 2.8])
def test_velocities_and_accelerations_are_derivatives_of_the_places(beyond):
    """The curves of the joints are tables from -2 to 2; beyond them they go on straight."""
    tree, _ = crooked_chain()
    moving, h = MovingTree(tree), 1e-4

    def at(t):
        q, v, a = waving([t], 8)
        return moving.at(q + beyond, v, a)

    before, now, after = (at(t) for t in (0.5 - h, 0.5, 0.5 + h))
    np.testing.assert_allclose((after.origin - before.origin) / (2 * h), now.velocity, atol=1e-5)
    np.testing.assert_allclose((after.velocity - before.velocity) / (2 * h), now.acceleration, atol=1e-4)
    np.testing.assert_allclose((after.spin - before.spin) / (2 * h), now.spin_rate, atol=1e-4)
    turning = (after.turn - before.turn) / (2 * h) @ now.turn.swapaxes(-1, -2)
    np.testing.assert_allclose(turning[..., [2, 0, 1], [1, 2, 0]], now.spin, atol=1e-5)


@pytest.mark.parametrize("beyond", [0.0, 2.8])
def test_places_are_those_of_the_plain_tree(beyond):
    tree, _ = crooked_chain()
    origins = np.zeros((3, 3))
    marked = dataclasses.replace(tree, markers=("a", "b", "c"), marker_body=np.arange(3), marker_place=origins)
    q = waving(np.linspace(0.0, 2.0, 5), 8)[0] + beyond
    plain = pose(marked, q, np.ones(3), origins)
    found = MovingTree(tree).at(q, np.zeros_like(q), np.zeros_like(q))
    np.testing.assert_allclose(found.origin, plain.position, atol=1e-12)
    fast = TreeMotion(marked)
    placed = fast.place(q)
    np.testing.assert_allclose(fast.markers(placed), plain.position, atol=1e-12)
    np.testing.assert_allclose(fast.jacobian(fast.twists(placed), plain.position), plain.by_coordinate, atol=1e-12)


def energy(moving, inertia, t):
    motion = moving.at(*waving([t], 8))
    reach = np.einsum("nbij,bj->nbi", motion.turn, inertia.centre)[0]
    velocity = motion.velocity[0] + np.cross(motion.spin[0], reach)
    own = np.einsum("bji,bj->bi", motion.turn[0], motion.spin[0])
    height = (motion.origin[0] + reach)[:, 1]
    kinetic = inertia.mass @ (velocity**2).sum(axis=1) + np.einsum("bi,bij,bj->", own, inertia.tensor, own)
    return 0.5 * kinetic + G * inertia.mass @ height


def test_power_of_the_moments_is_the_change_of_energy_also_over_curved_joints():
    tree, inertia = crooked_chain()
    solver, h = InverseDynamics(tree, inertia), 1e-4
    for t in (0.1, 0.7, 1.9):
        q, v, a = waving([t], 8)
        change = (energy(solver.moving, inertia, t + h) - energy(solver.moving, inertia, t - h)) / (2 * h)
        power = float((solver.solve(q, v, a).forces * v).sum())
        assert abs(power) > 1.0
        assert power == pytest.approx(change, rel=1e-5, abs=1e-4)


def test_an_external_force_does_its_own_work():
    tree, inertia = crooked_chain()
    solver = InverseDynamics(tree, inertia)
    q, v, a = waving([0.3], 8)
    motion = solver.moving.at(q, v, a)
    force, couple, arm = np.array([[30.0, -20.0, 10.0]]), np.array([[1.0, 2.0, -3.0]]), np.array([[0.1, 0.2, 0.3]])
    pushed = ExternalForce("body_2", force, motion.origin[:, 2] + arm, couple)
    less = (solver.solve(q, v, a).forces - solver.solve(q, v, a, [pushed]).forces) @ v[0]
    speed = motion.velocity[:, 2] + np.cross(motion.spin[:, 2], arm)
    np.testing.assert_allclose(less, (force * speed + couple * motion.spin[:, 2]).sum(), rtol=1e-9)


def test_a_link_propped_under_its_centre_needs_no_moment():
    tree, inertia = two_links()
    q = np.array([[0.4, -0.4]])
    still = np.zeros_like(q)
    tip = np.array([0.4 * np.cos(0.4) + 0.2, 0.4 * np.sin(0.4), 0.0])
    solver = InverseDynamics(tree, inertia)
    solved = solver.solve(q, still, still, [upward("body_1", 3.5 * G, tip)])
    assert solved.of("elbow")[0] == pytest.approx(0.0, abs=1e-10)
    assert solved.of("shoulder")[0] == pytest.approx(8.0 * G * 0.17 * np.cos(0.4))
    assert solved.whole_body.residual_force[0, 1] == pytest.approx(8.0 * G)


def test_the_whole_body_is_the_sum_of_its_parts():
    tree, inertia = crooked_chain()
    t, h = 0.8, 1e-4
    solver = InverseDynamics(tree, inertia)
    before, whole, after = (solver.solve(*waving([x], 8)).whole_body for x in (t - h, t, t + h))
    np.testing.assert_allclose((after.centre - before.centre) / (2 * h), whole.velocity, atol=1e-5)
    np.testing.assert_allclose((after.velocity - before.velocity) / (2 * h), whole.acceleration, atol=1e-4)
    np.testing.assert_allclose(whole.force, 8.0 * (whole.acceleration + np.array([0.0, G, 0.0])), atol=1e-9)
    # A free root: the six coordinates that carry it need exactly what the world must give.
    solved = solver.solve(*waving([t], 8))
    np.testing.assert_allclose(solved.forces[:, 3:6], whole.force, atol=1e-9)
    root = solver.moving.at(*waving([t], 8)).origin[:, 0]
    np.testing.assert_allclose(whole.residual_moment, whole.moment_about(root), atol=1e-9)
    given = ExternalForce("body_1", whole.force, whole.centre, whole.moment_about(whole.centre))
    carried = solver.solve(*waving([t], 8), [given])
    np.testing.assert_allclose(carried.forces[:, :6], 0.0, atol=1e-9)
    np.testing.assert_allclose(carried.whole_body.residual_moment, 0.0, atol=1e-9)


def test_many_frames_are_each_as_if_alone():
    tree, inertia = crooked_chain()
    q, v, a = waving(np.linspace(0.0, 2.0, CHUNK + 3), 8)
    force = ExternalForce("body_1", q[:, :3], q[:, 3:6], v[:, :3])
    solver = InverseDynamics(tree, inertia)
    together = solver.solve(q, v, a, [force]).forces
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        rows = slice(i, i + 1)
        alone = solver.solve(q[rows], v[rows], a[rows], [force.frames(rows)]).forces[0]
        np.testing.assert_allclose(alone, together[i], atol=1e-10)


def test_what_cannot_be_used_is_named():
    tree, inertia = two_links()
    solver, still = InverseDynamics(tree, inertia), np.zeros((1, 2))
    with pytest.raises(ExoError, match="acts on calcn_r"):
        solver.solve(still, still, still, [upward("calcn_r", 1.0, NOTHING[0])])
    with pytest.raises(ExoError, match=r"not finite from frame 0 on \(elbow\)"):
        solver.solve(np.array([[0.0, np.nan]]), still, still)
    with pytest.raises(ExoError, match="do not fit"):
        solver.solve(np.zeros((1, 3)), still, still)
    with pytest.raises(ExoError, match="1 frames and the motion 2"):
        solver.solve(*np.zeros((3, 2, 2)), [upward("body_0", 1.0, NOTHING[0])])
    with pytest.raises(ExoError, match="different models"):
        InverseDynamics(tree, crooked_chain()[1])


@pytest.mark.parametrize(
    ("mass", "sentence"), [((1.0, -2.0), "cannot be negative"), ((0.0, 0.0), "weighs 0 kg"), ((1.0, np.nan), "finite")]
)
def test_an_impossible_mass_is_refused(mass, sentence):
    with pytest.raises(ExoError, match=sentence):
        BodyInertia(("thigh", "shank"), np.array(mass), np.zeros((2, 3)), np.zeros((2, 3, 3)))


def test_a_negative_inertia_is_refused_and_a_massless_link_is_not():
    with pytest.raises(ExoError, match="shank has a negative moment"):
        BodyInertia(("thigh", "shank"), np.ones(2), np.zeros((2, 3)), np.array([np.eye(3), -np.eye(3)]))
    BodyInertia(("thigh", "link"), np.array([1.0, 0.0]), np.zeros((2, 3)), np.array([np.eye(3), np.zeros((3, 3))]))


def test_a_stored_twin_has_the_same_moments(tmp_path):
    tree, inertia = crooked_chain()
    np.savez(tmp_path / "model.npz", **tree_arrays(tree, {}), **inertia.arrays())
    with np.load(tmp_path / "model.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    motion = waving([0.4], 8)
    read = InverseDynamics(tree_from_arrays(arrays)[0], BodyInertia.from_arrays(arrays))
    np.testing.assert_array_equal(read.solve(*motion).forces, InverseDynamics(tree, inertia).solve(*motion).forces)
    with pytest.raises(ExoError, match="build it again"):
        BodyInertia.from_arrays({})


def test_external_forces_are_checked_and_never_extrapolated():
    with pytest.raises(ExoError, match="point of shape"):
        ExternalForce("calcn_r", np.zeros((4, 3)), np.zeros((3, 3)), np.zeros((4, 3)))
    with pytest.raises(ExoError, match="not finite at frame 2"):
        ExternalForce("calcn_r", np.array([[0.0] * 3, [1.0] * 3, [np.nan] * 3]), np.zeros((3, 3)), np.zeros((3, 3)))
    ramp = ExternalForce("calcn_r", np.arange(9.0).reshape(3, 3), np.zeros((3, 3)), np.zeros((3, 3)))
    known = np.array([0.0, 0.1, 0.2])
    np.testing.assert_allclose(ramp.at(known, np.array([0.05])).force, [[1.5, 2.5, 3.5]])
    with pytest.raises(ExoError, match="cut the motion"):
        ramp.at(known, np.array([0.3]))
