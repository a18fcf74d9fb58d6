"""Joint moments from a motion and the forces of the world: inverse dynamics without opensim.

OpenSim's generalised forces and signs (the knee's sign is the model's). What a
coupler drives (a patella) counts in its driver, by the chain rule; OpenSim's
tool reports it apart. Joint limits, springs and muscles of a model are not
subtracted: the moments are what they must produce together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.body_motion import BodyMotion, MovingTree, cross
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.kinematic_tree import KinematicTree

FloatArray = NDArray[np.float64]

CHUNK = 256  # frames worked on at once: their arrays stay in the processor's cache


@dataclasses.dataclass(frozen=True)
class WholeBody:
    """The body as one: what moves it and what the world must give it.

    Attributes
    ----------
    mass : kg.
    centre, velocity, acceleration : (n, 3) of the centre of mass; m, m/s, m/s2.
    force : (n, 3) N, sum of m (a - g): what the world must push with.
    moment : (n, 3) Nm about the ground frame's origin: what the world must turn with.
    residual_force, residual_moment : (n, 3) N and Nm about the root body's origin (the pelvis), what is left of
        them when the known external forces have done their part; zero if all were perfect.
    """

    mass: float
    centre: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    force: FloatArray
    moment: FloatArray
    residual_force: FloatArray
    residual_moment: FloatArray

    def moment_about(self, place: FloatArray) -> FloatArray:
        """Moment (n, 3) Nm that the world must give about a place (n, 3) or (3,) m in the ground frame."""
        return np.asarray(self.moment - np.cross(np.broadcast_to(place, self.force.shape), self.force))


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """Inverse dynamics of n frames.

    Attributes
    ----------
    coordinates : names, in the tree's order.
    forces : (n, n_coordinates) generalised forces, Nm where the coordinate is an angle and N where it is a shift.
    whole_body : the body as one.
    """

    coordinates: tuple[str, ...]
    forces: FloatArray
    whole_body: WholeBody

    def of(self, coordinate: str) -> FloatArray:
        """The generalised force (n,) of one coordinate."""
        return np.asarray(self.forces[:, self.coordinates.index(coordinate)])


class InverseDynamics:
    """Solves inverse dynamics on one wearer's tree.

    Parameters
    ----------
    tree, inertia : of the same scaled model.

    Raises
    ------
    ExoError : if they belong to different models.
    """

    def __init__(self, tree: KinematicTree, inertia: BodyInertia) -> None:
        if tree.bodies != inertia.bodies:
            raise ExoError("the tree and the inertias are of different models; read both from the same scaled model")
        self.tree, self.inertia = tree, inertia
        self.moving = MovingTree(tree)

    def solve(
        self, q: FloatArray, speed: FloatArray, acceleration: FloatArray, external: Sequence[ExternalForce] = ()
    ) -> Dynamics:
        """Generalised forces and whole-body quantities.

        Parameters
        ----------
        q, speed, acceleration : (n, n_coordinates) in the tree's order; rad and m, per s, per s2.
        external : forces of the world, each with n frames.

        Raises
        ------
        ExoError : for shapes that do not belong together, coordinates that are not finite, or a force on a body
            that the model does not have.
        """
        self._check(q, speed, acceleration, external)
        parts = []
        for start in range(0, len(q), CHUNK):
            rows = slice(start, start + CHUNK)
            motion = self.moving.at(q[rows], speed[rows], acceleration[rows])
            parts.append(self._part(motion, [force.frames(rows) for force in external]))
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        return Dynamics(self.tree.coordinates, joined[0], WholeBody(self.inertia.total_mass, *joined[1:]))

    def generalised(self, motion: BodyMotion, force: FloatArray, moment: FloatArray) -> FloatArray:
        """Generalised forces (n, n_coordinates) equal to forces on the bodies (the Jacobians' transpose).

        Parameters
        ----------
        force : (n, n_bodies, 3) N on each body.
        moment : (n, n_bodies, 3) Nm about the ground frame's origin on each body.
        """
        carried = self.moving.above.T @ force  # by the joint: all that hangs on it
        about_joint = self.moving.above.T @ moment - cross(motion.joint, carried)
        along = np.stack([about_joint, carried], axis=2).repeat(3, axis=2)
        per_axis = (motion.freedom * along).sum(axis=-1)
        return np.asarray(per_axis.reshape(len(force), -1) @ self.moving.driver)

    def _part(self, motion: BodyMotion, external: Sequence[ExternalForce]) -> tuple[FloatArray, ...]:
        """Generalised forces, then the arrays of WholeBody."""
        mass, total = self.inertia.mass, self.inertia.total_mass
        reach = motion.turn @ self.inertia.centre[..., None]
        centre = motion.origin + reach[..., 0]
        velocity = motion.velocity + (motion.sweep @ reach)[..., 0]
        acceleration = motion.acceleration + (motion.carry @ reach)[..., 0]
        force = mass[:, None] * (acceleration - self.inertia.gravity)
        tensor = motion.turn @ self.inertia.tensor @ motion.turn.swapaxes(-1, -2)
        turning = tensor @ motion.spin_rate[..., None] + motion.sweep @ (tensor @ motion.spin[..., None])
        moment = turning[..., 0] + cross(centre, force)
        needed_force, needed_moment = force.sum(axis=1), moment.sum(axis=1)
        for known in external:
            body = self.tree.bodies.index(known.body)
            force[:, body] -= known.force
            moment[:, body] -= cross(known.point, known.force) + known.free_moment
        left_force = force.sum(axis=1)
        left_moment = moment.sum(axis=1) - cross(motion.origin[:, 0], left_force)
        share = mass / total
        whole = (share @ centre, share @ velocity, share @ acceleration)
        generalised = self.generalised(motion, force, moment)
        return generalised, *whole, needed_force, needed_moment, left_force, left_moment

    def _check(
        self, q: FloatArray, speed: FloatArray, acceleration: FloatArray, external: Sequence[ExternalForce]
    ) -> None:
        wanted = (len(q), len(self.tree.coordinates))
        for name, value in (("coordinates", q), ("velocities", speed), ("accelerations", acceleration)):
            if value.shape != wanted or not len(q):
                raise ExoError(f"{name} of shape {value.shape} do not fit the model; it needs (frames, {wanted[1]})")
            if not np.isfinite(value).all():
                frame, column = np.argwhere(~np.isfinite(value))[0]
                raise ExoError(
                    f"{name} are not finite from frame {frame} on ({self.tree.coordinates[column]}); fill or cut gaps"
                )
        for force in external:
            if force.body not in self.tree.bodies:
                raise ExoError(
                    f"a force acts on {force.body}, which the model does not have; it has {', '.join(self.tree.bodies)}"
                )
            if len(force) != len(q):
                raise ExoError(
                    f"the force on {force.body} has {len(force)} frames and the motion {len(q)}; "
                    "resample it with ExternalForce.at"
                )
