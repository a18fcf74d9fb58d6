"""Ground reaction predicted from motion alone; no force plate is assumed.

The total is exact for the reference: Newton's law for the whole body,
F = sum m (a + g). Three assumptions share it out:

* in double support the load passes smoothly (`Reference.loading`);
* both feet push towards one point at the height of the centre of mass, so that
  the leading leg brakes while the trailing one drives (cf. Maus et al. 2010);
* the pressure runs from heel to toe, shifted for the whole motion by the one
  distance (at most `PRESSURE_SHIFT_MAX_M`) that needs least support at the pelvis.
  Chasing that support from sample to sample would put the noise of the recording
  into the ankle moment; so it stays a residual, reported by the tracking twin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_twin.forward.reference import GRAVITY_M_S2, PRESSURE_SHIFT_MAX_M, Reference
from exo_twin.forward.walker import Walker

FloatArray = NDArray[np.float64]

# Feet can push only: a reference that would need the ground to pull gets nothing.
VERTICAL_MIN_BODY_WEIGHTS = 0.05
# A foot seen from above is never shorter than this while it carries weight.
FOOT_LENGTH_MIN_M = 0.05
# Friction of a shoe on a floor; a larger shear is an artefact of the reference.
FRICTION = 0.6

# Columns of the prediction, per foot.
FORWARD, UP, PLACE = 0, 1, 2


def predict(walker: Walker, reference: Reference) -> FloatArray:
    """Ground reaction along a reference.

    Returns
    -------
    (n, 2, 3) per sample and foot: force forward N, force up N, and where it
    acts, 0 at the heel to 1 at the toe.
    """
    n = len(reference.q)
    tx, tz, tilt = walker.root
    least = VERTICAL_MIN_BODY_WEIGHTS * walker.mass * GRAVITY_M_S2
    heel, toe = np.zeros((n, 2)), np.zeros((n, 2))
    up, forward, balance, height = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        needed = walker.required_force(reference.q[i], reference.qd[i], reference.qdd[i])
        up[i], forward[i] = max(float(needed[tz]), least), needed[tx]
        pelvis = walker.pelvis()
        # Moment about the pelvis of a force on the ground, positive like pelvis_tilt: dx * up + height * forward.
        balance[i] = pelvis[0] + (needed[tilt] - pelvis[2] * forward[i]) / up[i]
        height[i] = walker.data.subtree_com[0, 2]
        heel[i], toe[i] = walker.pressure_point(np.zeros(2)), walker.pressure_point(np.ones(2))
    length = np.maximum(toe - heel, FOOT_LENGTH_MIN_M)
    nominal = np.sum(reference.loading * (heel + reference.pressure * length), axis=1)
    shift = float(np.sum((balance - nominal) * up) / np.sum(up))
    shift = min(max(shift, -PRESSURE_SHIFT_MAX_M), PRESSURE_SHIFT_MAX_M)

    out = np.zeros((n, 2, 3))
    out[:, :, PLACE] = np.clip(reference.pressure + shift / length, 0.0, 1.0)
    out[:, :, UP] = reference.loading * up[:, None]
    point = heel + out[:, :, PLACE] * length
    meeting = (forward * height + np.sum(out[:, :, UP] * point, axis=1)) / up
    slope = (meeting[:, None] - point) / height[:, None]
    out[:, :, FORWARD] = out[:, :, UP] * np.clip(slope, -FRICTION, FRICTION)
    return out
