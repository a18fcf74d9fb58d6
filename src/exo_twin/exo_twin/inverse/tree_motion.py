"""Fast forward kinematics of a kinematic tree: prepared once, evaluated for many frames or for one, without loops.

`kinematic_tree.pose` also differentiates by scale and by marker place and so
serves fitting; here only the coordinates move, which a solver asks for at every
step of every frame. Both give the same places.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from exo_twin.inverse.kinematic_tree import GROUND, Drive, KinematicTree

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Placed:
    """The tree in n poses.

    Attributes
    ----------
    bodies : (n, 1 + b, 4, 4) places of the ground and of the bodies that carry markers or lead to them.
    joint_place, slope, first_turns : what `TreeMotion.twists` needs of the joints.
    """

    bodies: FloatArray
    joint_place: FloatArray
    slope: FloatArray
    first_turns: tuple[FloatArray, FloatArray]

    def rows(self, chosen: NDArray[np.bool_]) -> Placed:
        """Some of the poses."""
        first, second = self.first_turns
        return Placed(
            self.bodies[chosen], self.joint_place[chosen], self.slope[chosen], (first[chosen], second[chosen])
        )


class TreeMotion:
    """One tree, unscaled and with its markers where they are, ready to be posed.

    Parameters
    ----------
    tree : bodies that lead to no marker are left out.

    Attributes
    ----------
    carriers : (c,) the bodies that carry markers, as indices into `Placed.bodies`.
    carrier : (k,) of each marker, index into `carriers`.
    """

    def __init__(self, tree: KinematicTree) -> None:
        self.tree = tree
        kept = _ancestors(tree)
        row = {body: i + 1 for i, body in enumerate(kept)}
        joints = [tree.joints[body] for body in kept]
        parent = np.array([0 if joint.parent == GROUND else row[joint.parent] for joint in joints])
        self._levels = _levels(parent)
        self._parent = parent
        self._in_parent = np.array([joint.in_parent for joint in joints])
        self._from_body = np.array([np.linalg.inv(joint.in_body) for joint in joints])
        self._axes = np.array([joint.axes for joint in joints])
        x, y, z = np.moveaxis(self._axes[:, :3], -1, 0)
        zero = np.zeros_like(x)
        rows = [np.stack(part, axis=-1) for part in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
        self._cross = np.stack(rows, axis=-2)
        self._cross_twice = self._cross @ self._cross
        self._prepare_drives([drive for joint in joints for drive in joint.drives])
        on = np.array([row[body] for body in tree.marker_body], dtype=np.int64)
        self.carriers, self.carrier = np.unique(on, return_inverse=True)
        self._place = np.concatenate([tree.marker_place, np.ones((len(on), 1))], axis=1)
        self._on = on
        self._prepare_paths(parent)

    def _prepare_drives(self, drives: list[Drive]) -> None:
        n_q = len(self.tree.coordinates)
        self._slope = np.array([0.0 if d.coordinate < 0 or d.table is not None else d.slope for d in drives])
        self._offset = np.array([0.0 if d.table is not None else d.offset for d in drives])
        self._line = np.zeros((n_q, len(drives)))
        for i, drive in enumerate(drives):
            if drive.coordinate >= 0:
                self._line[drive.coordinate, i] = self._slope[i]
        curved = [i for i, drive in enumerate(drives) if drive.table is not None]
        tables = [drive.table for drive in drives if drive.table is not None]
        self._coordinate = np.array([drive.coordinate for drive in drives])
        self._curved = np.array(curved, dtype=np.int64)
        self._curved_by = self._coordinate[self._curved]
        splines = [CubicSpline(*table) for table in tables]
        self._knots = np.concatenate([table[0, :-1] for table in tables]) if tables else np.zeros(0)
        self._cubic = np.concatenate([spline.c.T for spline in splines]) if tables else np.zeros((0, 4))
        counts = np.array([table.shape[1] - 1 for table in tables], dtype=np.int64)
        self._pieces = counts
        self._first_piece = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        self._low = np.array([table[0, 0] for table in tables])
        self._high = np.array([table[0, -1] for table in tables])

    def _prepare_paths(self, parent: NDArray[np.int64]) -> None:
        """Which moving axes lead to which carrier, and by which coordinate."""
        self._moving = np.flatnonzero(self._coordinate >= 0)
        body = self._moving // 6
        self._rotates = self._moving % 6 < 3
        self._moved_joint = body
        n_q = len(self.tree.coordinates)
        path = np.zeros((len(self._moving), len(self.carriers), n_q))
        for i, carrier in enumerate(self.carriers):
            at = int(carrier)
            while at:
                own = np.flatnonzero(body == at - 1)
                path[own, i, self._coordinate[self._moving[own]]] = 1.0
                at = int(parent[at - 1])
        self._path = path.reshape(len(self._moving), -1)

    def order(self) -> NDArray[np.int64]:
        """Rank (n_coordinates,) such that along any path from the ground coordinates have rising ranks."""
        rank = np.full(len(self.tree.coordinates), 6 * len(self._parent))
        for i in self._moving:
            # A joint's translations (axes 3-5) come before its turns.
            rank[self._coordinate[i]] = min(rank[self._coordinate[i]], i - i % 6 + (i % 6 + 3) % 6)
        return rank

    def place(self, q: FloatArray) -> Placed:
        """Pose the tree in coordinates (n, n_coordinates), rad and m."""
        n, joints = len(q), len(self._parent)
        value, slope = self._drive(q)
        value = value.reshape(n, joints, 6)
        angle = value[..., :3]
        turn = np.eye(3) + np.sin(angle)[..., None, None] * self._cross
        turn += (1.0 - np.cos(angle))[..., None, None] * self._cross_twice
        first = turn[:, :, 0]
        second = first @ turn[:, :, 1]
        moved = np.zeros((n, joints, 4, 4))
        moved[..., :3, :3] = second @ turn[:, :, 2]
        moved[..., :3, 3] = (value[..., None, 3:] @ self._axes[:, 3:])[..., 0, :]
        moved[..., 3, 3] = 1.0
        local = self._in_parent @ moved
        step = local @ self._from_body
        bodies = np.zeros((n, joints + 1, 4, 4))
        bodies[:, 0] = np.eye(4)
        for rows, parents in self._levels:
            bodies[:, rows] = bodies[:, parents] @ step[:, rows - 1]
        return Placed(bodies, local, slope, (first, second))

    def markers(self, placed: Placed) -> FloatArray:
        """Places (n, k, 3) of the markers in the ground frame, m."""
        return np.asarray((placed.bodies[:, self._on, :3] @ self._place[:, :, None])[..., 0])

    def twists(self, placed: Placed) -> FloatArray:
        """How every carrier moves by every coordinate.

        Returns
        -------
        (n, c, 6, n_coordinates) : angular velocity in rad, then velocity in m of the body's point at the
            ground's origin, per unit of the coordinate.
        """
        joint = self._moved_joint
        base = placed.bodies[:, self._parent[joint]]
        frame = base[..., :3, :3] @ self._in_parent[joint, :3, :3]
        which = self._moving % 6
        own = self._axes.reshape(-1, 3)[self._moving]
        # A joint's second axis is carried by its first turn, the third by both; translations by none.
        carried = np.broadcast_to(own, (len(base), *own.shape)).copy()
        for axis, turn in ((1, placed.first_turns[0]), (2, placed.first_turns[1])):
            chosen = which == axis
            carried[:, chosen] = (turn[:, joint[chosen]] @ own[chosen][..., None])[..., 0]
        along = (frame @ carried[..., None])[..., 0] * placed.slope[:, self._moving, None]
        centre = (base[..., :3, :3] @ placed.joint_place[:, joint, :3, 3:])[..., 0] + base[..., :3, 3]
        twist = np.zeros((len(base), 6, len(self._moving)))
        rotates = self._rotates
        twist[:, :3, rotates] = along[:, rotates].transpose(0, 2, 1)
        twist[:, 3:, rotates] = cross(centre[:, rotates], along[:, rotates]).transpose(0, 2, 1)
        twist[:, 3:, ~rotates] = along[:, ~rotates].transpose(0, 2, 1)
        by = (twist.reshape(-1, len(self._moving)) @ self._path).reshape(len(base), 6, len(self.carriers), -1)
        return np.ascontiguousarray(by.transpose(0, 2, 1, 3))

    def jacobian(self, twists: FloatArray, markers: FloatArray) -> FloatArray:
        """Derivatives (n, k, 3, n_coordinates) of the markers' places (n, k, 3), from the carriers' twists."""
        own = twists[:, self.carrier]
        turn, x = own[:, :, :3], markers
        result = own[:, :, 3:].copy()
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            result[:, :, i] += turn[:, :, j] * x[:, :, k, None] - turn[:, :, k] * x[:, :, j, None]
        return result

    def _drive(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Value and slope (n, 6 joints) of all joint axes."""
        value = q @ self._line + self._offset
        slope = np.broadcast_to(self._slope, value.shape)
        if len(self._curved):
            slope = slope.copy()
            x = q[:, self._curved_by]
            inside = np.clip(x, self._low, self._high)
            share = (inside - self._low) / (self._high - self._low)
            piece = np.minimum((share * self._pieces).astype(np.int64), self._pieces - 1) + self._first_piece
            t = inside - self._knots[piece]
            a, b, c, d = np.moveaxis(self._cubic[piece], -1, 0)
            steep = (3.0 * a * t + 2.0 * b) * t + c
            slope[:, self._curved] = steep
            value[:, self._curved] = ((a * t + b) * t + c) * t + d + steep * (x - inside)
        return value, slope


def _ancestors(tree: KinematicTree) -> list[int]:
    """Bodies that carry a marker or lead to one, in the tree's order."""
    kept: set[int] = set()
    for carrier in np.unique(tree.marker_body):
        body = int(carrier)
        while body != GROUND and body not in kept:
            kept.add(body)
            body = tree.joints[body].parent
    return sorted(kept)


def _levels(parent: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of bodies (ground is 0) that hang equally deep, with their parents' rows, shallow first."""
    depth = np.zeros(len(parent) + 1, dtype=np.int64)
    for row, above in enumerate(parent, start=1):
        depth[row] = depth[above] + 1
    levels = [np.flatnonzero(depth == level) for level in range(1, int(depth.max()) + 1)]
    return [(rows, parent[rows - 1]) for rows in levels]


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product over the last axis; much faster than numpy's for small arrays."""
    x = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    y = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    z = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return np.stack([x, y, z], axis=-1)
