"""Whether measured forces and motion belong together: their residuals at the pelvis beside those of good recordings.

Limits of good recordings: Hicks et al. 2015, J Biomech Eng 137:020905. How many times as much is too much
is a round number, set before any recording was looked at that exceeds it; twelve recorded children stay below 3 times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.inverse_dynamics import WholeBody

FloatArray = NDArray[np.float64]

# Root mean square at the pelvis: force as share of the largest ground reaction, moment as share of it times the height
# of the centre of mass above the floor.
FORCE_RESIDUAL, MOMENT_RESIDUAL = 0.05, 0.01
MILD = 2.0  # times a good residual: only the joints far from the plates suffer
GROSS = 4.0  # times a good residual: the forces are not of this motion
AXES = {0: "fore and aft", 2: "sideways"}
OPPOSED = -0.5  # correlation of measured and needed force along an axis
LEAST_VARIATION = 0.02  # of body weight, RMS: with less, a correlation means nothing


def check_consistency(body: WholeBody, measured: FloatArray, valid: NDArray[np.bool_], floor: FloatArray) -> list[str]:
    """Sentences where plates and motion do not add up.

    Parameters
    ----------
    body : of inverse dynamics with the measured forces, n frames.
    measured : (n, 3) N, on both feet together.
    valid : (n,) frames in which it is known.
    floor : (n,) m, its height.

    Raises
    ------
    ExoError : where the two cannot be of one motion.
    """
    if not valid.any():
        return []
    most = float(np.linalg.norm(measured[valid], axis=1).max())
    height = float(np.mean((body.centre[:, 1] - floor)[valid]))
    force, good_force = _rms(body.residual_force[valid]), FORCE_RESIDUAL * most
    moment, good_moment = _rms(body.residual_moment[valid]), MOMENT_RESIDUAL * most * height
    turned = _opposed(measured[valid], body.force[valid], body.mass * 9.80665)
    if turned or force > GROSS * good_force or moment > GROSS * good_moment:
        cause = (
            f"they push the other way {' and '.join(turned)}; check the axes and signs of their forces"
            if turned
            else "check the plates' axes, places, units and calibration, and the wearer's mass"
        )
        raise ExoError(
            f"motion and plates disagree by {force:.0f} N and {moment:.0f} Nm at the pelvis ({good_force:.0f} N and "
            f"{good_moment:.0f} Nm are good): {cause}"
        )
    warnings = []
    if force > good_force:
        warnings.append(
            f"motion and plates disagree by {force:.0f} N at the pelvis ({100.0 * force / most:.0f} % of the ground's "
            f"force, {100.0 * FORCE_RESIDUAL:.0f} % is good); check the wearer's mass and the plates' calibration"
        )
    if moment > good_moment:
        meaning = (
            "moments of the hip are less certain than of the ankle"
            if moment < MILD * good_moment
            else "moments of hip and knee are uncertain by as much; check the plates' places and the wearer's mass"
        )
        warnings.append(
            f"motion and plates disagree by {moment:.0f} Nm at the pelvis ({good_moment:.0f} Nm is good); {meaning}"
        )
    return warnings


def _opposed(measured: FloatArray, needed: FloatArray, weight: float) -> list[str]:
    """The horizontal directions in which the plates push against what the motion needs."""
    found = []
    for axis, name in AXES.items():
        sizes = np.std(measured[:, axis]), np.std(needed[:, axis])
        varied = min(sizes) > LEAST_VARIATION * weight
        if varied and float(np.corrcoef(measured[:, axis], needed[:, axis])[0, 1]) < OPPOSED:
            found.append(name)
    return found


def _rms(vectors: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))
