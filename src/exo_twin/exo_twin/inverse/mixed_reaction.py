"""The ground's force on both feet where plates know only a part: measured, what a measured foot leaves, or predicted.

A switch from one to another in the middle of a step is passed in a few frames: a jump of the force
would appear as a jump of the joints' moments.

Looked at were the 24 walks of gait_speeds and walking_3d with one foot's plate taken away: that foot's hip moment
is then 0.14 and 0.11 Nm/kg (RMS) from the measured one, with prediction alone 0.21 and 0.23. The constants
are round numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import SIDES
from exo_twin.inverse.external_forces import ExternalForce

FloatArray = NDArray[np.float64]

BLEND_S = 0.03  # two or three frames of markers, far shorter than a double support
LEAST_LOAD_N = 20.0  # with less, places of pressure mean nothing
OTHER = {"l": "r", "r": "l"}


def mixed(
    time: FloatArray,
    known: Mapping[str, NDArray[np.bool_]],
    measured: Mapping[str, ExternalForce],
    rest: Mapping[str, ExternalForce],
    predicted: Mapping[str, ExternalForce],
) -> dict[str, ExternalForce]:
    """One force for each foot throughout.

    Parameters
    ----------
    time : (n,) s.
    known : side -> (n,) whether the force on that foot was measured.
    measured : used where known.
    rest : used where only the force on the other foot is known (predicted_reaction.predict_other).
    predicted : used elsewhere.
    """
    weight = {side: _weight(time, known[side]) for side in SIDES}
    return {
        side: _blend(weight[side], measured[side], _blend(weight[OTHER[side]], rest[side], predicted[side]))
        for side in SIDES
    }


def _weight(time: FloatArray, known: NDArray[np.bool_]) -> FloatArray:
    """(n,) 0 where a force is not known, rising to 1 within what is known."""
    if known.all():
        return np.ones(len(time))
    unknown = time[~known]
    after = np.searchsorted(unknown, time)
    before = np.abs(time - unknown[(after - 1).clip(0)])
    distance = np.minimum(before, np.abs(unknown[after.clip(0, len(unknown) - 1)] - time))
    return np.asarray(np.minimum(distance / BLEND_S, 1.0))


def _blend(weight: FloatArray, one: ExternalForce, two: ExternalForce) -> ExternalForce:
    """The forces' and moments' mean, acting between the points by the loads there."""
    share = weight[:, None]
    origin = np.zeros(3)
    force = share * one.force + (1.0 - share) * two.force
    moment = share * one.moment_about(origin) + (1.0 - share) * two.moment_about(origin)
    load_one, load_two = weight * one.force[:, 1], (1.0 - weight) * two.force[:, 1]
    loaded = load_one + load_two > LEAST_LOAD_N
    by_load = np.where(loaded, load_one / np.where(loaded, load_one + load_two, 1.0), weight)[:, None]
    point = by_load * one.point + (1.0 - by_load) * two.point
    return ExternalForce(one.body, force, point, moment - np.cross(point, force))
