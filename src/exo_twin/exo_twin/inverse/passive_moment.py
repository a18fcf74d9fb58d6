"""What a relaxed leg resists with: published passive elastic moments of hip, knee and ankle.

All that is stretched across a joint together: resting muscle, ligaments, capsule and skin. A muscle model knows its
fibres only, and its joints end at a range without saying what that end feels like.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def passive_moments(hip: FloatArray, knee: FloatArray, ankle: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Passive elastic moments about hip, knee and ankle, (n,) Nm each, flexion and dorsiflexion positive.

    Parameters
    ----------
    hip, knee, ankle : (n,) rad, flexion and dorsiflexion positive.

    Notes
    -----
    Riener and Edrich 1999, J Biomech 32:539, double exponentials in degrees, the mean of ten healthy adults; not
    scaled to the wearer. They count plantarflexion positive. Beyond their range of measurement the exponentials rise
    steeply, as the end of a joint's range does.
    """
    h, k, plantar = np.rad2deg(hip), np.rad2deg(knee), -np.rad2deg(ankle)
    about_hip = np.exp(1.4655 - 0.0034 * k - 0.0750 * h) - np.exp(1.3403 - 0.0226 * k + 0.0305 * h) + 8.072
    about_knee = (
        np.exp(1.800 - 0.0460 * plantar - 0.0352 * k + 0.0217 * h)
        - np.exp(-3.971 - 0.0004 * plantar + 0.0495 * k - 0.0128 * h)
        - 4.820
        + np.exp(2.220 - 0.150 * k)
    )
    about_ankle = np.exp(2.1016 - 0.0843 * plantar - 0.0176 * k) - np.exp(-7.9763 + 0.1949 * plantar + 0.0008 * k)
    return about_hip, about_knee, 1.792 - about_ankle
