"""Ground reaction predicted from motion alone; no force plate is assumed.

The total is exact for the reference: Newton's law for the whole body,
F = sum m (a + g). Its split between the feet in double support and the centre
of pressure are assumptions: the load passes smoothly (`Reference.loading`), and
the pressure runs from heel to toe, shifted by at most :data:`SHIFT_MAX_M` towards
the point where the reference needs no support at the pelvis. What remains is a
residual, reported by the tracking twin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_twin.forward.reference import Reference
from exo_twin.forward.walker import Walker

FloatArray = NDArray[np.float64]

# Feet can push only: a reference that would need the ground to pull gets nothing.
VERTICAL_MIN_BODY_WEIGHTS = 0.05
# The last contact is under the hallux, not at the tip of the toes.
PROGRESS_AT_TOE_OFF = 0.85
# Spread of the centre of pressure between healthy walkers, along the foot.
SHIFT_MAX_M = 0.05
# Friction of a shoe on a floor; a larger shear is an artefact of the reference.
FRICTION = 0.6
GRAVITY_M_S2 = 9.81

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
    out = np.zeros((n, 2, 3))
    tx, tz, tilt = walker.root
    least = VERTICAL_MIN_BODY_WEIGHTS * walker.mass * GRAVITY_M_S2
    for i in range(n):
        needed = walker.required_force(reference.q[i], reference.qd[i], reference.qdd[i])
        up = max(float(needed[tz]), least)
        forward = float(np.clip(needed[tx], -FRICTION * up, FRICTION * up))
        pelvis = walker.data.xanchor[walker.model.dof_jntid[tilt]]
        # Moment about the pelvis of a force on the ground, positive like pelvis_tilt: dx * up + height * forward.
        balance = pelvis[0] + (needed[tilt] - pelvis[2] * forward) / up
        heel = walker.data.geom_xpos[walker.heel, 0]
        length = walker.data.geom_xpos[walker.toe, 0] - heel
        nominal = heel + PROGRESS_AT_TOE_OFF * reference.progress[i] * length
        shift = np.clip(balance - np.sum(reference.loading[i] * nominal), -SHIFT_MAX_M, SHIFT_MAX_M)
        out[i, :, FORWARD] = reference.loading[i] * forward
        out[i, :, UP] = reference.loading[i] * up
        out[i, :, PLACE] = np.clip((nominal + shift - heel) / np.where(np.abs(length) > 1e-3, length, 1e-3), 0.0, 1.0)
    return out
