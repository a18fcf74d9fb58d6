"""Places, velocities and accelerations of every body of a kinematic tree: exact, without opensim, fast for one frame.

Only the bodies' rotations are chained from parent to child, one level of the
tree at a time. Everything else is a sum over a body's ancestors, taken for all
bodies at once with a constant matrix.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from exo_twin.inverse.kinematic_tree import GROUND, KinematicTree

FloatArray = NDArray[np.float64]

TURNS = 3  # of the six axes of a joint turn; the rest shift


@dataclasses.dataclass(frozen=True)
class BodyMotion:
    """How n_bodies bodies stand and move in n frames; all vectors in the ground frame.

    Attributes
    ----------
    turn : (n, n_bodies, 3, 3) from body to ground.
    origin, velocity, acceleration : (n, n_bodies, 3) of the bodies' origins; m, m/s, m/s2.
    spin, spin_rate : (n, n_bodies, 3) rad/s, rad/s2.
    sweep, carry : (n, n_bodies, 3, 3) times a reach from the body's origin, in the ground frame: how much faster, and
        how much more accelerated, the point there is than the origin.
    joint : (n, n_bodies, 3) m, where the joint that a body hangs on turns it.
    freedom : (n, n_bodies, 6, 3) how the joint moves its body per unit of the coordinate that drives each axis:
        three angular velocities about `joint` and three velocities of it.
    """

    turn: FloatArray
    origin: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    spin: FloatArray
    spin_rate: FloatArray
    sweep: FloatArray
    carry: FloatArray
    joint: FloatArray
    freedom: FloatArray


class MovingTree:
    """A kinematic tree prepared for velocities and accelerations.

    Parameters
    ----------
    tree : couplers are folded into it: a driven coordinate is the function of its driver.

    Attributes
    ----------
    above : (n_bodies, n_bodies) one where the column's body is the row's or one of its ancestors.
    driver : (n_bodies * 6, n_coordinates) one where a joint's axis is driven by a coordinate.
    """

    def __init__(self, tree: KinematicTree) -> None:
        joints = tree.joints
        n_bodies = len(tree.bodies)
        self.tree = tree
        self.above = np.eye(n_bodies)
        depth = np.zeros(n_bodies, dtype=int)
        for b, joint in enumerate(joints):
            if joint.parent != GROUND:
                self.above[b] += self.above[joint.parent]
                depth[b] = depth[joint.parent] + 1
        parents = np.array([joint.parent for joint in joints])
        self._levels = [(rows, parents[rows]) for rows in (np.flatnonzero(depth == d) for d in range(depth.max() + 1))]
        self._parents = parents
        self._frame = np.array([joint.in_parent[:3, :3] for joint in joints])
        self._arm = np.array([joint.in_parent[:3, 3] for joint in joints])
        self._out = np.array([joint.in_body[:3, :3].T for joint in joints])
        self._back = np.array([joint.in_body[:3, 3] for joint in joints])
        self._axes = np.array([joint.axes[:TURNS] for joint in joints])
        self._shifts = np.array([joint.axes[TURNS:] for joint in joints]) @ self._frame.transpose(0, 2, 1)
        self._cross = _cross_matrix(self._axes)
        self._cross_twice = self._cross @ self._cross
        self._prepare_drives(tree)

    def _prepare_drives(self, tree: KinematicTree) -> None:
        drives = [drive for joint in tree.joints for drive in joint.drives]
        chosen = np.array([drive.coordinate for drive in drives])
        self._coordinate = np.maximum(chosen, 0)
        self.driver = np.eye(len(tree.coordinates))[self._coordinate] * (chosen >= 0)[:, None]
        tables = [drive.table for drive in drives]
        straight = [drive.coordinate >= 0 and drive.table is None for drive in drives]
        self._slope = np.where(straight, [drive.slope for drive in drives], 0.0)
        self._offset = np.array([drive.offset for drive in drives])
        self._curved = np.array([i for i, table in enumerate(tables) if table is not None], dtype=int)
        curves = [table for table in tables if table is not None]
        longest = max((table.shape[1] for table in curves), default=2)
        self._knots = np.full((len(curves), longest - 1), np.inf)  # starts of the pieces
        self._end = np.zeros(len(curves))
        self._pieces = np.zeros((len(curves), longest - 1, 4))  # powers 3, 2, 1, 0 of the distance from the start
        for i, table in enumerate(curves):
            pieces = table.shape[1] - 1
            self._knots[i, :pieces], self._end[i] = table[0, :-1], table[0, -1]
            self._pieces[i, :pieces] = CubicSpline(*table).c.T

    def at(self, q: FloatArray, q_rate: FloatArray, q_growth: FloatArray) -> BodyMotion:
        """The motion of the bodies for coordinates, their velocities and accelerations, each (n, n_coordinates)."""
        value, slope, bend = self._drives(q)
        rate = slope * q_rate[:, self._coordinate]
        growth = slope * q_growth[:, self._coordinate] + bend * q_rate[:, self._coordinate] ** 2
        n, n_bodies = len(q), len(self._parents)
        value, rate, growth = (a.reshape(n, n_bodies, 6) for a in (value, rate, growth))
        # In the parent body's frame: the six axes as the turns before them carry them, and the joint's own motion.
        sine, cosine = np.sin(value[..., :TURNS]), np.cos(value[..., :TURNS])
        stack = np.empty((n, n_bodies, 3, 10))
        frame: FloatArray = np.broadcast_to(self._frame, (n, n_bodies, 3, 3))
        for i in range(TURNS):
            stack[..., i] = np.einsum("nbij,bj->nbi", frame, self._axes[:, i])
            turned = (
                sine[..., i, None, None] * self._cross[:, i]
                + (1.0 - cosine[..., i, None, None]) * self._cross_twice[:, i]
            )
            frame = frame + frame @ turned
        stack[..., 3:6] = self._shifts.transpose(0, 2, 1)
        local = frame @ self._out
        stack[..., 6] = self._arm + np.einsum("nbk,bki->nbi", value[..., TURNS:], self._shifts)
        stack[..., 7] = -np.einsum("nbij,bj->nbi", local, self._back)
        spinning = rate[..., None, :TURNS] * stack[..., :TURNS]
        stack[..., 8] = spinning.sum(axis=-1)
        stack[..., 9] = (stack[..., :TURNS] @ growth[..., :TURNS, None])[..., 0]
        # Axes turn with the turns before them.
        before = spinning[..., :2].cumsum(axis=-1).swapaxes(-1, -2)
        stack[..., 9] += cross(before, spinning[..., 1:].swapaxes(-1, -2)).sum(axis=-2)
        turn, base = self._chain(local)
        stack = base @ stack
        arm, back, own_spin, own_rate = (stack[..., i : i + 1] for i in range(6, 10))
        drift, pull = stack[..., 3:6] @ rate[..., TURNS:, None], stack[..., 3:6] @ growth[..., TURNS:, None]
        spin = self._summed(own_spin)
        base_sweep, sweep = _cross_matrix((spin - own_spin)[..., 0]), _cross_matrix(spin[..., 0])
        own_rate = own_rate + base_sweep @ own_spin
        spin_rate = self._summed(own_rate)
        base_carry = _cross_matrix((spin_rate - own_rate)[..., 0]) + base_sweep @ base_sweep
        carry = _cross_matrix(spin_rate[..., 0]) + sweep @ sweep
        origin = self._summed(arm + back)
        velocity = self._summed(base_sweep @ arm + drift + sweep @ back)
        acceleration = self._summed(pull + base_carry @ arm + 2.0 * (base_sweep @ drift) + carry @ back)
        freedom = stack[..., :6].swapaxes(-1, -2) * slope.reshape(n, n_bodies, 6, 1)
        return BodyMotion(
            turn,
            origin[..., 0],
            velocity[..., 0],
            acceleration[..., 0],
            spin[..., 0],
            spin_rate[..., 0],
            sweep,
            carry,
            (origin - back)[..., 0],
            freedom,
        )

    def _summed(self, own: FloatArray) -> FloatArray:
        """Sum of columns (n, n_bodies, 3, 1) over each body and its ancestors."""
        return np.asarray((self.above @ own[..., 0])[..., None])

    def _chain(self, local: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rotations to ground of the bodies, and of their parents, from those to the parents."""
        turn = np.empty((len(local), len(self._parents) + 1, 3, 3))  # the last is the ground's: GROUND is -1
        turn[:, GROUND] = np.eye(3)
        for rows, parents in self._levels:
            turn[:, rows] = turn[:, parents] @ local[:, rows]
        return turn[:, :-1], turn[:, self._parents]

    def _drives(self, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, first and second derivative of every axis' function, each (n, n_bodies * 6)."""
        x = q[:, self._coordinate]
        value = self._slope * x + self._offset
        slope = np.broadcast_to(self._slope, x.shape).copy()
        bend = np.zeros(x.shape)
        if len(self._curved):
            x = x[:, self._curved]
            inside = np.clip(x, self._knots[:, 0], self._end)
            piece = np.maximum((inside[..., None] >= self._knots).sum(axis=-1) - 1, 0)
            table = np.arange(len(self._curved))
            a, b, c, d = np.moveaxis(self._pieces[table, piece], -1, 0)
            step = inside - self._knots[table, piece]
            tangent = (3.0 * a * step + 2.0 * b) * step + c
            value[:, self._curved] = ((a * step + b) * step + c) * step + d + tangent * (x - inside)
            slope[:, self._curved] = tangent
            bend[:, self._curved] = np.where(x == inside, 6.0 * a * step + 2.0 * b, 0.0)
        return value, slope, bend


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Vector product over the last axis of arrays of one shape; several times faster than numpy's for few vectors."""
    result = np.empty(a.shape)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return result


def _cross_matrix(vectors: FloatArray) -> FloatArray:
    """(..., 3, 3) matrices that take the vector product with (..., 3) vectors."""
    result = np.zeros((*vectors.shape, 3))
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[..., k, j], result[..., j, k] = vectors[..., i], -vectors[..., i]
    return result
