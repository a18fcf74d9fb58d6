"""Reads the bodies' masses and inertias out of an OpenSim model."""

from __future__ import annotations

from typing import Any

import numpy as np

from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.kinematic_tree import KinematicTree


def body_inertia(model: Any, tree: KinematicTree) -> BodyInertia:
    """Masses and inertias of an opensim.Model in the order of its tree.

    Raises
    ------
    ExoError : for a negative mass, an impossible inertia, or a model that weighs nothing.
    """
    bodies = [model.getBodySet().get(name) for name in tree.bodies]
    centres = [body.getMassCenter() for body in bodies]
    gravity = model.getGravity()
    return BodyInertia(
        tree.bodies,
        np.array([body.getMass() for body in bodies]),
        np.array([[centre.get(k) for k in range(3)] for centre in centres]),
        np.array([_tensor(body) for body in bodies]),
        np.array([gravity.get(k) for k in range(3)]),
    )


def _tensor(body: Any) -> list[list[float]]:
    """Inertia about the centre of mass, kg m2 (OpenSim stores xx, yy, zz, xy, xz, yz)."""
    stored = body.get_inertia()
    xx, yy, zz, xy, xz, yz = (float(stored.get(k)) for k in range(6))
    return [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]
