"""What this wearer tolerates from the exo: the envelope, computed from the twin and never learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES, SIDES
from exo_safety.envelope import HARD_CAPS, Envelope, SideEnvelope
from exo_twin.planar_muscles import PlanarMuscles
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

# Torque of the exo as a share of what the hip muscles that oppose it can produce, at the worst moment of the stride:
# a torque in the wrong direction is then resisted with a quarter of the wearer's strength.
TORQUE_SHARE = 0.25
# Beyond the observed hip range, rad (10 deg): other speeds, another day's zero of the encoders.
ANGLE_MARGIN = 0.17
OBSERVED_SPREAD = 2.0  # standard deviations over strides that count as observed
# Over the fastest hip movement of the mean stride: a stumble's recovery step is about twice as fast as a step.
VELOCITY_MARGIN = 2.0
# Full torque builds up in not less than this, s, in normal use: the rise of published hip assistance profiles.
TORQUE_RISE = 0.1


def compute_envelope(wearer: str, gait: Gait, model: Mapping[str, NDArray[Any]], device_torque_max: float) -> Envelope:
    """The envelope of one wearer.

    Angle: the hip range of the recorded strides with margin, inside the model's
    range. Torque: TORQUE_SHARE of the weaker of hip flexors and extensors at the
    angle and velocity of every instant of the mean stride. All inside exo_safety's hard caps
    and the device's own limit.

    Parameters
    ----------
    wearer : whose.
    gait : the mean stride.
    model : arrays of model.npz.
    device_torque_max : Nm, what the exo's motors can do.
    """
    muscles = PlanarMuscles.from_arrays(model)
    limits = {}
    for side in SIDES:
        hip = f"hip_flexion_{side}"
        curve, spread = gait.curves[hip], OBSERVED_SPREAD * gait.curves_sd[hip]
        low_of_model, high_of_model = model["joint_range"][LEG_COORDINATES.index(hip)]
        fastest = float(np.abs(_velocity(curve, gait.stride_time)).max())
        torque = min(TORQUE_SHARE * weaker_capacity(muscles, gait, side), device_torque_max, HARD_CAPS.torque_max_nm)
        limits[side] = SideEnvelope(
            angle_min_rad=round(max((curve - spread).min() - ANGLE_MARGIN, low_of_model, HARD_CAPS.angle_min_rad), 4),
            angle_max_rad=round(min((curve + spread).max() + ANGLE_MARGIN, high_of_model, HARD_CAPS.angle_max_rad), 4),
            velocity_max_rad_s=round(min(VELOCITY_MARGIN * fastest, HARD_CAPS.velocity_max_rad_s), 3),
            torque_max_nm=round(torque, 3),
            torque_rate_max_nm_s=round(min(torque / TORQUE_RISE, HARD_CAPS.torque_rate_max_nm_s), 2),
            power_max_w=round(min(torque * fastest, HARD_CAPS.power_max_w), 2),
        )
    source = (
        f"recorded hip range with {np.rad2deg(ANGLE_MARGIN):.0f} deg margin inside the model's; torque at most "
        f"{100 * TORQUE_SHARE:.0f} % of the weaker of hip flexors and extensors anywhere in the stride; hard caps above"
    )
    return Envelope(wearer, limits["l"], limits["r"], source)


def weaker_capacity(muscles: PlanarMuscles, gait: Gait, side: str) -> float:
    """Smallest moment, Nm, that fully active hip flexors or extensors produce anywhere in the mean stride."""
    own = [i for i, name in enumerate(LEG_COORDINATES) if name.endswith(f"_{side}")]
    angles = np.zeros((len(gait.curves[LEG_COORDINATES[0]]), len(LEG_COORDINATES)))
    rates = np.zeros_like(angles)
    for i in own:
        angles[:, i] = gait.curves[LEG_COORDINATES[i]]
        rates[:, i] = _velocity(angles[:, i], gait.stride_time)
    hip = LEG_COORDINATES.index(f"hip_flexion_{side}")
    everything = np.ones(len(muscles.names))
    smallest = np.inf
    for q, qd in zip(angles, rates, strict=True):
        moments = muscles.force(everything, q, qd) * muscles.moment_arms(q)[:, hip]
        smallest = min(smallest, moments[moments > 0.0].sum(), -moments[moments < 0.0].sum())
    return float(smallest)


def _velocity(curve: FloatArray, stride_time: float) -> FloatArray:
    """Angular velocity of a closed curve, (101,) rad/s."""
    step = stride_time / (len(curve) - 1)
    inner = np.gradient(np.concatenate([curve[-2:-1], curve, curve[1:2]]), step)
    return inner[1:-1]
