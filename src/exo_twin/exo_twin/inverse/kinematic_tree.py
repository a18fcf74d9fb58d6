"""An OpenSim model's bodies, joints and markers as plain arrays: forward kinematics without opensim.

Only what moves keypoints is kept: frames, joint axes, the functions that drive
them, coordinate couplers and body-fixed points. Everything is vectorised over
frames, with derivatives by coordinate, by body scale and by marker place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

FloatArray = NDArray[np.float64]
GROUND = -1


@dataclasses.dataclass(frozen=True)
class Drive:
    """What one axis of a joint does as its coordinate changes: a straight line or a smooth table.

    Attributes
    ----------
    coordinate : index of the driving coordinate; -1 for a constant.
    slope, offset : of the straight line, rad/rad or m/rad, and rad or m.
    table : (2, m) coordinate, evenly spaced, and value where the function is curved, else None.
    """

    coordinate: int
    slope: float
    offset: float
    table: FloatArray | None = None

    def value_and_slope(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Value and derivative (n,) for coordinates (n, n_coordinates); straight beyond the ends of a table."""
        if self.coordinate < 0:
            return np.full(len(q), self.offset), np.zeros(len(q))
        x = q[:, self.coordinate]
        if self.table is None:
            return self.slope * x + self.offset, np.full(len(q), self.slope)
        spline = CubicSpline(*self.table)
        inside = np.clip(x, self.table[0, 0], self.table[0, -1])
        slope = spline(inside, 1)
        return spline(inside) + slope * (x - inside), slope


@dataclasses.dataclass(frozen=True)
class Joint:
    """How a body hangs on its parent (OpenSim's CustomJoint, to which the other joints reduce).

    Attributes
    ----------
    parent : index of the parent body, GROUND for the room.
    in_parent, in_body : (4, 4) place of the joint's frames in the two bodies, m.
    axes : (6, 3) three successive rotation axes, then three translation axes in the parent's joint frame.
    drives : one per axis.
    """

    parent: int
    in_parent: FloatArray
    in_body: FloatArray
    axes: FloatArray
    drives: tuple[Drive, ...]


@dataclasses.dataclass(frozen=True)
class KinematicTree:
    """Bodies in an order in which parents come first.

    Attributes
    ----------
    bodies, joints : one joint per body, the one it hangs on.
    coordinates : names; angles in rad, translations in m.
    default, lower, upper : (n_coordinates,) default values and ranges.
    clamped : (n_coordinates,) whether a coordinate must stay in its range.
    locked : (n_coordinates,) whether it stays at its default (locked, or prescribed to be constant).
    markers : names of the body-fixed points.
    marker_body : (k,) index of the body of each.
    marker_place : (k, 3) m, in the body.
    """

    bodies: tuple[str, ...]
    joints: tuple[Joint, ...]
    coordinates: tuple[str, ...]
    default: FloatArray
    lower: FloatArray
    upper: FloatArray
    clamped: NDArray[np.bool_]
    locked: NDArray[np.bool_]
    markers: tuple[str, ...]
    marker_body: NDArray[np.int64]
    marker_place: FloatArray

    def index(self, coordinate: str) -> int:
        """Index of a coordinate by name."""
        return self.coordinates.index(coordinate)

    def turns(self) -> NDArray[np.bool_]:
        """(n_coordinates,): which coordinates are angles; the others are lengths."""
        angles = {drive.coordinate for joint in self.joints for drive in joint.drives[:3]}
        return np.array([i in angles for i in range(len(self.coordinates))])

    def moves(self) -> NDArray[np.bool_]:
        """(n_markers, n_coordinates): which coordinates can move which markers."""
        on_path = np.zeros((len(self.bodies), len(self.coordinates)), dtype=bool)
        for body, joint in enumerate(self.joints):
            if joint.parent != GROUND:
                on_path[body] = on_path[joint.parent]
            for drive in joint.drives:
                if drive.coordinate >= 0:
                    on_path[body, drive.coordinate] = True
        return np.asarray(on_path[self.marker_body])

    def select(self, markers: Sequence[str]) -> KinematicTree:
        """The same tree with only some of its markers, in the order given."""
        rows = [self.markers.index(name) for name in markers]
        return dataclasses.replace(
            self, markers=tuple(markers), marker_body=self.marker_body[rows], marker_place=self.marker_place[rows]
        )


def flexion_sign(tree: KinematicTree, coordinate: str) -> float:
    """-1 for the knee of a model that counts its flexion negative, else 1."""
    i = tree.index(coordinate)
    return -1.0 if coordinate.startswith("knee_angle") and abs(tree.lower[i]) > abs(tree.upper[i]) else 1.0


@dataclasses.dataclass(frozen=True)
class Posed:
    """Markers of a tree in n poses, and how they move.

    Attributes
    ----------
    position : (n, k, 3) m, in the ground frame.
    by_coordinate : (n, k, 3, n_coordinates) m/rad or m/m.
    by_scale : (n, k, 3, n_bodies) m per unit of a body's scale factor.
    rotation : (n, k, 3, 3) of each marker's body: the derivative by a marker's place in the body.
    """

    position: FloatArray
    by_coordinate: FloatArray
    by_scale: FloatArray
    rotation: FloatArray


def pose(tree: KinematicTree, q: FloatArray, scale: FloatArray, shift: FloatArray) -> Posed:
    """Forward kinematics with derivatives.

    Parameters
    ----------
    q : (n, n_coordinates) rad and m.
    scale : (n_bodies,) factor on every length inside a body, as OpenSim scales: a joint's place in its
        parent and its translations by the parent's factor, its place in the body by the body's.
    shift : (k, 3) m added to the scaled place of every marker, in its body.
    """
    n, n_bodies, n_q = len(q), len(tree.bodies), len(tree.coordinates)
    origin = np.zeros((n_bodies, n, 3))
    turn = np.zeros((n_bodies, n, 3, 3))
    origin_by_q = np.zeros((n_bodies, n, 3, n_q))
    spin_by_q = np.zeros((n_bodies, n, 3, n_q))  # angular velocity of the body per unit of coordinate velocity
    origin_by_s = np.zeros((n_bodies, n, 3, n_bodies))
    for b, joint in enumerate(tree.joints):
        p = joint.parent
        if p == GROUND:
            base_turn, base = np.broadcast_to(np.eye(3), (n, 3, 3)), np.zeros((n, 3))
            factor = 1.0
        else:
            base_turn, base, factor = turn[p], origin[p], float(scale[p])
            origin_by_q[b], spin_by_q[b], origin_by_s[b] = origin_by_q[p], spin_by_q[p], origin_by_s[p]
        arm = np.broadcast_to(joint.in_parent[:3, 3], (n, 3)).copy()
        frame = base_turn @ joint.in_parent[:3, :3]
        for axis, drive in zip(joint.axes[3:], joint.drives[3:], strict=True):
            value, slope = drive.value_and_slope(q)
            arm += value[:, None] * (joint.in_parent[:3, :3] @ axis)
            if drive.coordinate >= 0:
                origin_by_q[b, :, :, drive.coordinate] += factor * slope[:, None] * (frame @ axis)
        reach = np.einsum("nij,nj->ni", base_turn, arm)
        if p != GROUND:
            origin_by_q[b] += np.cross(spin_by_q[p], factor * reach[:, :, None], axis=1)
            origin_by_s[b, :, :, p] += reach
        place = base + factor * reach
        for axis, drive in zip(joint.axes[:3], joint.drives[:3], strict=True):
            value, slope = drive.value_and_slope(q)
            if drive.coordinate >= 0:
                spin_by_q[b, :, :, drive.coordinate] += slope[:, None] * (frame @ axis)
            frame = frame @ _rotation(axis, value)
        turn[b] = frame @ joint.in_body[:3, :3].T
        back = -np.einsum("nij,j->ni", turn[b], joint.in_body[:3, 3])
        origin[b] = place + scale[b] * back
        origin_by_q[b] += np.cross(spin_by_q[b], scale[b] * back[:, :, None], axis=1)
        origin_by_s[b, :, :, b] += back
    bodies = tree.marker_body
    rotation = turn[bodies].transpose(1, 0, 2, 3)
    own = np.einsum("nkij,kj->nki", rotation, tree.marker_place)
    reach = scale[bodies][:, None] * own + np.einsum("nkij,kj->nki", rotation, shift)
    by_scale = origin_by_s[bodies].transpose(1, 0, 2, 3)
    by_scale[:, np.arange(len(bodies)), :, bodies] += own.transpose(1, 0, 2)
    by_coordinate = origin_by_q[bodies].transpose(1, 0, 2, 3)
    by_coordinate = by_coordinate + np.cross(spin_by_q[bodies].transpose(1, 0, 2, 3), reach[..., None], axis=2)
    return Posed(origin[bodies].transpose(1, 0, 2) + reach, by_coordinate, by_scale, rotation)


def _rotation(axis: FloatArray, angle: FloatArray) -> FloatArray:
    """Rotation matrices (n, 3, 3) about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.asarray(np.eye(3) + s * cross + (1.0 - c) * (cross @ cross))
