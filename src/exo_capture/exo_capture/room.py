"""From the room of a calibration to OpenSim's frame, when there is no walk yet to align it by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AXES = ("x", "y", "z")


def room_to_opensim(up: str, heading: float) -> NDArray[np.float64]:
    """Rotation (3, 3) from a room to x along the walk, y up, z right.

    Parameters
    ----------
    up : the room's axis that points up: "x", "y" or "z".
    heading : rad about that axis, from the axis after it (z up: from x; y up: from z; x up: from y) to the walk.
    """
    vertical = np.roll(np.eye(3), AXES.index(up), axis=1)[0]
    first, second = np.roll(vertical, 1), np.roll(vertical, 2)
    forward = np.cos(heading) * first + np.sin(heading) * second
    return np.stack([forward, vertical, np.cross(forward, vertical)])
