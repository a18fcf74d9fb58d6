"""What the world does to a body: the ground under a foot, a hand on a rail, an exoskeleton's strap."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ExternalForce:
    """A force that the world exerts on one body, in n frames; all in OpenSim's ground frame (x forward, y up, z right).

    Attributes
    ----------
    body : name of the body it acts on, as in the model (calcn_r, say).
    force : (n, 3) N, the force on the body (the ground pushes up: +y).
    point : (n, 3) m, where it acts, in the ground frame; any finite number where the force is zero.
    free_moment : (n, 3) Nm, a couple on the body beside the force at its point.

    Raises
    ------
    ExoError : for shapes that do not belong together, or a number that is not finite.
    """

    body: str
    force: FloatArray
    point: FloatArray
    free_moment: FloatArray

    def __post_init__(self) -> None:
        for name in ("force", "point", "free_moment"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, value)
            if value.ndim != 2 or value.shape[1] != 3 or len(value) != len(self.force):
                raise ExoError(
                    f"the external force on {self.body} has a {name} of shape {value.shape}; give (frames, 3) for all"
                )
            if not np.isfinite(value).all():
                raise ExoError(
                    f"the external force on {self.body} has a {name} that is not finite at frame "
                    f"{int(np.argwhere(~np.isfinite(value))[0, 0])}; write zeros where nothing touches"
                )

    def __len__(self) -> int:
        return len(self.force)

    def moment_about(self, place: FloatArray) -> FloatArray:
        """Moment (n, 3) Nm about a place (n, 3) or (3,) m in the ground frame."""
        return np.asarray(np.cross(self.point - place, self.force) + self.free_moment)

    def frames(self, chosen: slice | NDArray[np.int64] | NDArray[np.bool_]) -> ExternalForce:
        """The same force in some of its frames."""
        return ExternalForce(self.body, self.force[chosen], self.point[chosen], self.free_moment[chosen])

    def at(self, known: FloatArray, wanted: FloatArray) -> ExternalForce:
        """The force at other times: straight between samples, as OpenSim reads external loads.

        Parameters
        ----------
        known : (n,) s, the times of this force's frames, rising.
        wanted : (m,) s, inside them.

        Raises
        ------
        ExoError : if a wanted time lies outside the known ones (a force is never extrapolated).
        """
        if len(known) != len(self) or (np.diff(known) <= 0.0).any():
            raise ExoError(f"the times of the external force on {self.body} must rise, one per frame")
        slack = 1e-6  # s: clocks written with six decimals
        if len(wanted) and (wanted.min() < known[0] - slack or wanted.max() > known[-1] + slack):
            raise ExoError(
                f"the external force on {self.body} is known from {known[0]:.3f} to {known[-1]:.3f} s but asked for "
                f"{wanted.min():.3f} to {wanted.max():.3f} s; cut the motion to the force"
            )
        columns = [
            np.column_stack([np.interp(wanted, known, value[:, k]) for k in range(3)])
            for value in (self.force, self.point, self.free_moment)
        ]
        return ExternalForce(self.body, *columns)
