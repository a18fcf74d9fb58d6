"""Mass, centre of mass and inertia of every body of a kinematic tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

STANDARD_GRAVITY = (0.0, -9.80665, 0.0)  # m/s2 in OpenSim's ground frame; its models' default
PREFIX = "inertia_"  # of the arrays' names in a twin's model.npz


@dataclasses.dataclass(frozen=True)
class BodyInertia:
    """What the bodies of a tree weigh, in the tree's order of bodies.

    Attributes
    ----------
    bodies : their names, to recognise the tree they belong to.
    mass : (n_bodies,) kg; zero for bodies that only carry a joint.
    centre : (n_bodies, 3) m, centre of mass in the body.
    tensor : (n_bodies, 3, 3) kg m2 about the centre of mass, in the body's axes.
    gravity : (3,) m/s2 in the ground frame.

    Raises
    ------
    ExoError : for a negative or unknown mass, an impossible inertia, or a model that weighs nothing.
    """

    bodies: tuple[str, ...]
    mass: FloatArray
    centre: FloatArray
    tensor: FloatArray
    gravity: FloatArray = dataclasses.field(default_factory=lambda: np.array(STANDARD_GRAVITY))

    def __post_init__(self) -> None:
        n = len(self.bodies)
        for name, shape in (("mass", (n,)), ("centre", (n, 3)), ("tensor", (n, 3, 3)), ("gravity", (3,))):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, value)
            if value.shape != shape:
                raise ExoError(f"the bodies' {name} has shape {value.shape} where {n} bodies need {shape}")
            if not np.isfinite(value).all():
                raise ExoError(f"the bodies' {name} holds a number that is not finite; scale the model again")
        if (self.mass < 0.0).any():
            worst = int(np.argmin(self.mass))
            raise ExoError(
                f"body {self.bodies[worst]} has a mass of {self.mass[worst]:g} kg; a mass cannot be negative: "
                "mend the model or scale it again"
            )
        if self.total_mass <= 0.0:
            raise ExoError("the model weighs 0 kg, so it has no joint moments; scale it with the wearer's mass")
        moments = np.linalg.eigvalsh(self.tensor)
        rounding = 1e-9 * (1.0 + moments.max(axis=1))
        if (moments.min(axis=1) < -rounding).any():
            worst = int(np.argmin(moments.min(axis=1)))
            raise ExoError(
                f"body {self.bodies[worst]} has a negative moment of inertia ({moments[worst].min():g} kg m2); "
                "mend the model or scale it again"
            )

    @property
    def total_mass(self) -> float:
        """Mass of the whole body, kg."""
        return float(self.mass.sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays for a twin's model.npz; `from_arrays` reads them."""
        return {
            PREFIX + "bodies": np.array(self.bodies),
            PREFIX + "mass": self.mass,
            PREFIX + "centre": self.centre,
            PREFIX + "tensor": self.tensor,
            PREFIX + "gravity": self.gravity,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> BodyInertia:
        """The inertias among the arrays of a twin's model.npz.

        Raises
        ------
        ExoError : if the twin was stored without them.
        """
        missing = [name for name in ("bodies", "mass", "centre", "tensor", "gravity") if PREFIX + name not in arrays]
        if missing:
            raise ExoError(f"the twin has no {PREFIX}{missing[0]}: it was built before joint moments; build it again")
        return cls(
            tuple(str(name) for name in arrays[PREFIX + "bodies"]),
            *(np.asarray(arrays[PREFIX + name]) for name in ("mass", "centre", "tensor", "gravity")),
        )
