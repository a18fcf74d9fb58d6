"""Small trees of known dynamics, for the tests of inverse dynamics; made without opensim."""

import numpy as np

from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.kinematic_tree import GROUND, Drive, Joint, KinematicTree

STILL = Drive(-1, 0.0, 0.0)
Z = (0.0, 0.0, 1.0)


def place(x=0.0, y=0.0, z=0.0, turn=None):
    frame = np.eye(4)
    frame[:3, 3] = x, y, z
    if turn is not None:
        frame[:3, :3] = turn
    return frame


def tree_of(joints, coordinates):
    n = len(coordinates)
    return KinematicTree(
        tuple(f"body_{i}" for i in range(len(joints))),
        tuple(joints),
        tuple(coordinates),
        np.zeros(n),
        np.full(n, -np.pi),
        np.full(n, np.pi),
        np.zeros(n, dtype=bool),
        np.zeros(n, dtype=bool),
        (),
        np.zeros(0, dtype=np.int64),
        np.zeros((0, 3)),
    )


def pin(parent, coordinate, x=0.0):
    """A hinge about z at x on the parent."""
    axes = np.vstack([np.eye(3)[[2, 0, 1]], np.eye(3)])
    return Joint(parent, place(x), place(), axes, (Drive(coordinate, 1.0, 0.0), *[STILL] * 5))


def two_links(length=0.4, centres=(0.17, 0.2), masses=(8.0, 3.5), moments=(0.12, 0.05)):
    """Two links along their x axes, hinged about z at the ground's origin: tree and inertia."""
    inertia = BodyInertia(
        ("body_0", "body_1"),
        np.array(masses),
        np.array([[c, 0.0, 0.0] for c in centres]),
        np.array([np.diag([0.01, i, i]) for i in moments]),
    )
    return tree_of([pin(GROUND, 0), pin(0, 1, length)], ("shoulder", "elbow")), inertia


def crooked_chain(seed=0):
    """A free root and two bodies on it whose joints follow curves of one coordinate each, as knees do."""
    random = np.random.default_rng(seed)
    free = Joint(GROUND, place(), place(), np.vstack([np.eye(3)] * 2), tuple(Drive(i, 1.0, 0.0) for i in range(6)))
    x = np.linspace(-2.0, 2.0, 81)
    joints = [free]
    for coordinate in (6, 7):
        axes = random.normal(size=(6, 3))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        curves = [
            Drive(coordinate, 0.0, 0.0, np.vstack([x, random.normal() * np.sin(x) + random.normal() * np.cos(0.7 * x)]))
            for _ in range(5)
        ]
        frames = [place(*random.normal(size=3), turn=turned(random)) for _ in range(2)]
        joints.append(Joint(0 if coordinate == 6 else 1, *frames, axes, (Drive(coordinate, 1.3, 0.2), *curves)))
    spread = random.normal(size=(3, 3, 3))
    tensors = np.eye(3) + 0.1 * (spread @ spread.transpose(0, 2, 1))
    inertia = BodyInertia(
        ("body_0", "body_1", "body_2"), np.array([5.0, 2.0, 1.0]), random.normal(size=(3, 3)), tensors
    )
    return tree_of(joints, tuple(f"q{i}" for i in range(8))), inertia


def turned(random):
    """A random rotation matrix."""
    matrix, _ = np.linalg.qr(random.normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))


def waving(time, n, seed=1):
    """n smooth coordinates at times (m,), with exact velocities and accelerations."""
    random = np.random.default_rng(seed)
    size, omega, phase = random.uniform(0.2, 0.6, n), random.uniform(2.0, 6.0, n), random.uniform(0.0, 6.0, n)
    angle = omega * np.asarray(time)[:, None] + phase
    return size * np.sin(angle), size * omega * np.cos(angle), -size * omega**2 * np.sin(angle)
