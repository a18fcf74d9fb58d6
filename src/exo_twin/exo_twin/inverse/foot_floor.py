"""How high the floor is under each foot: from the model's soles while they stand, for ramps, stairs and odd frames.

A laboratory calibrates its floor to y = 0 better than a model's foot tells it, so that
small differences, of shoes and of marker placement, are left alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import SIDES
from exo_twin.inverse.body_motion import MovingTree
from exo_twin.inverse.foot_stances import Stance
from exo_twin.inverse.kinematic_tree import KinematicTree

FloatArray = NDArray[np.float64]

SOLE_BODIES = ("calcn", "toes")  # their origins lie at the sole, within a centimetre of bare feet in OpenSim's models
LOWEST = 10.0  # percentile over a stance: heel or toes are down at nearly all times of it
LEVEL_M = 0.05  # differences below are of shoes, markers and the model's foot, not of the floor


@dataclasses.dataclass(frozen=True)
class Floor:
    """Height of the floor under each foot.

    Attributes
    ----------
    height : side -> (n,) m; in swing that of the nearest stance.
    warnings : sentences.
    """

    height: dict[str, FloatArray]
    warnings: tuple[str, ...] = ()


def floor_under(tree: KinematicTree, time: FloatArray, q: FloatArray, stances: Sequence[Stance]) -> Floor:
    """The floor of a motion: y = 0 where that fits, else another level, else one of its own for every stance.

    Parameters
    ----------
    time, q : (n,) s, (n, n_coordinates) rad and m.
    """
    still = np.zeros_like(q)
    origin = MovingTree(tree).at(q, still, still).origin
    soles = {
        side: np.min([origin[:, tree.bodies.index(body), 1] for body in _bodies(tree, side)], axis=0)
        for side in SIDES
        if _bodies(tree, side)
    }
    return floor_of(time, soles, stances)


def floor_of(time: FloatArray, soles: Mapping[str, FloatArray], stances: Sequence[Stance]) -> Floor:
    """The same from heights (n,) m of each foot's lowest part."""
    levels = []
    for stance in stances:
        rows = (time >= stance.start) & (time <= stance.end)
        if stance.side in soles and rows.any():
            levels.append((stance, float(np.percentile(soles[stance.side][rows], LOWEST))))
    flat = {side: np.zeros(len(time)) for side in SIDES}
    heights = [height for _, height in levels]
    if not levels or max(np.abs(heights)) < LEVEL_M:
        return Floor(flat)
    if np.ptp(heights) < LEVEL_M:
        level = float(np.median(heights))
        told = f"the feet stand {level:+.2f} m from y = 0; the floor was taken to be there"
        return Floor({side: zero + level for side, zero in flat.items()}, (told,))
    for side, height in flat.items():
        own = [(stance, level) for stance, level in levels if stance.side == side] or levels
        away = [np.maximum(stance.start - time, time - stance.end).clip(0.0) for stance, _ in own]
        height += np.array([level for _, level in own])[np.argmin(away, axis=0)]
    told = (
        f"the feet stand at heights from {min(heights):.2f} to {max(heights):.2f} m (a ramp, stairs, or a tilted "
        "frame): predicted forces were developed for level walking and are less certain there"
    )
    return Floor(flat, (told,))


def _bodies(tree: KinematicTree, side: str) -> list[str]:
    return [f"{body}_{side}" for body in SOLE_BODIES if f"{body}_{side}" in tree.bodies]
