"""What the exo may do to this wearer: the envelope, computed from the twin and never learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES, SIDES
from exo_safety.envelope import HARD_CAPS, Envelope, SideEnvelope
from exo_twin.inverse.tolerance import Tolerance, closed_velocity
from exo_twin.planar_muscles import PlanarMuscles
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

# Torque of the exo as a share of what the hip muscles that oppose it can produce, at the worst moment of the stride:
# a torque in the wrong direction is then resisted with a quarter of the wearer's strength.
TORQUE_SHARE = 0.25
# Beyond the observed hip range, rad: 5 deg for another day's zero of the encoders, and 5 deg more for other speeds
# where the passive range allows.
ZERO_MARGIN, ANGLE_MARGIN = 0.085, 0.17
OBSERVED_SPREAD = 2.0  # standard deviations over strides that count as observed
# Over the fastest hip movement of the mean stride: a stumble's recovery step is about twice as fast as a step.
VELOCITY_MARGIN = 2.0
# Full torque builds up in not less than this, s, in normal use: the rise of published hip assistance profiles.
TORQUE_RISE = 0.1


def compute_envelope(
    wearer: str, gait: Gait, model: Mapping[str, NDArray[Any]], tolerance: Tolerance, device_torque_max: float
) -> Envelope:
    """The envelope of one wearer.

    Angle: the hip range of the recorded strides with ANGLE_MARGIN, or as much of it above
    ZERO_MARGIN as the wearer's passive range allows, inside the model's. Torque: TORQUE_SHARE of the weaker of hip
    flexors and extensors at the angle and velocity of every instant of the mean stride,
    by the walker's muscle groups or by all muscles of the model, whichever are weaker.
    All inside exo_safety's hard caps and the device's own limit.

    Parameters
    ----------
    wearer : whose.
    gait : the mean stride.
    model : arrays of model.npz: the walker's muscle groups and joint ranges.
    device_torque_max : Nm, what the exo's motors can do.
    """
    muscles = PlanarMuscles.from_arrays(model)
    limits = {}
    for side in SIDES:
        hip = f"hip_flexion_{side}"
        row = LEG_COORDINATES.index(hip)
        curve, spread = gait.curves[hip], OBSERVED_SPREAD * gait.curves_sd[hip]
        seen_low, seen_high = (curve - spread).min(), (curve + spread).max()
        low_of_model, high_of_model = model["joint_range"][row]
        # What was walked is borne, whatever the tissue's model says: the passive range cuts margins only.
        low = max(seen_low - ANGLE_MARGIN, min(seen_low - ZERO_MARGIN, tolerance.passive_range[row, 0]))
        high = min(seen_high + ANGLE_MARGIN, max(seen_high + ZERO_MARGIN, tolerance.passive_range[row, 1]))
        velocity = closed_velocity(curve, gait.stride_time)
        fastest = float(np.abs(velocity).max())
        weaker = min(weaker_capacity(muscles, gait, side), float(tolerance.capacity(hip, curve, velocity).min()))
        torque = min(TORQUE_SHARE * weaker, device_torque_max, HARD_CAPS.torque_max_nm)
        limits[side] = SideEnvelope(
            angle_min_rad=round(float(max(low, low_of_model, HARD_CAPS.angle_min_rad)), 4),
            angle_max_rad=round(float(min(high, high_of_model, HARD_CAPS.angle_max_rad)), 4),
            velocity_max_rad_s=round(min(VELOCITY_MARGIN * fastest, HARD_CAPS.velocity_max_rad_s), 3),
            torque_max_nm=round(torque, 3),
            torque_rate_max_nm_s=round(min(torque / TORQUE_RISE, HARD_CAPS.torque_rate_max_nm_s), 2),
            power_max_w=round(min(torque * fastest, HARD_CAPS.power_max_w), 2),
        )
    source = (
        f"recorded hip range with {np.rad2deg(ZERO_MARGIN):.0f} to {np.rad2deg(ANGLE_MARGIN):.0f} deg margin inside "
        "the passive and the model's range; "
        f"torque at most {100 * TORQUE_SHARE:.0f} % of the weaker of hip flexors and extensors anywhere in the stride; "
        "hard caps above"
    )
    return Envelope(wearer, limits["l"], limits["r"], source)


def weaker_capacity(muscles: PlanarMuscles, gait: Gait, side: str) -> float:
    """Smallest moment, Nm, that fully active hip flexors or extensors produce anywhere in the mean stride."""
    own = [i for i, name in enumerate(LEG_COORDINATES) if name.endswith(f"_{side}")]
    angles = np.zeros((len(gait.curves[LEG_COORDINATES[0]]), len(LEG_COORDINATES)))
    rates = np.zeros_like(angles)
    for i in own:
        angles[:, i] = gait.curves[LEG_COORDINATES[i]]
        rates[:, i] = closed_velocity(angles[:, i], gait.stride_time)
    hip = LEG_COORDINATES.index(f"hip_flexion_{side}")
    everything = np.ones(len(muscles.names))
    smallest = np.inf
    for q, qd in zip(angles, rates, strict=True):
        moments = muscles.force(everything, q, qd) * muscles.moment_arms(q)[:, hip]
        smallest = min(smallest, moments[moments > 0.0].sum(), -moments[moments < 0.0].sum())
    return float(smallest)
