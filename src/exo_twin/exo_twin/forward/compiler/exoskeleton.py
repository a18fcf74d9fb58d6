"""The hip exoskeleton the walker wears: what it weighs, where it sits, what it can pull."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class HipExoskeleton:
    """A rigid pelvis frame with two actuators and two thigh cuffs, concentric with the hips.

    Sizes are those of the common wearable hip assists (2.1-2.8 kg in all,
    torque up to 20 Nm); cuff compliance and misalignment are not modelled here.

    Attributes
    ----------
    frame_mass : kg, on the pelvis, both actuators and battery included.
    frame_size : half extents of the frame's box, m (x, y, z).
    frame_offset : m behind the pelvis origin, where the frame's centre sits.
    cuff_mass : kg, on each thigh.
    cuff_size : half extents of a cuff's box, m.
    cuff_place : where the cuff sits, as a fraction of the thigh from hip to knee.
    torque_max : Nm, the motors' limit on either side.
    """

    frame_mass: float = 2.0
    frame_size: tuple[float, float, float] = (0.04, 0.16, 0.06)
    frame_offset: float = 0.12
    cuff_mass: float = 0.3
    cuff_size: tuple[float, float, float] = (0.07, 0.015, 0.05)
    cuff_place: float = 0.6
    torque_max: float = 20.0

    @property
    def mass(self) -> float:
        """Total mass, kg."""
        return self.frame_mass + 2.0 * self.cuff_mass


def box_inertia(mass: float, half_extents: tuple[float, float, float]) -> tuple[float, float, float]:
    """Principal inertia of a homogeneous box, kg m^2."""
    x, y, z = (2.0 * h for h in half_extents)
    return (mass * (y * y + z * z) / 12.0, mass * (x * x + z * z) / 12.0, mass * (x * x + y * y) / 12.0)
