"""What angles between a wearer's keypoints are above the model's coordinates: keypoints are no joint centres."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES, SIDES, opensim_to_ros
from exo_twin.inverse.kinematic_tree import KinematicTree, flexion_sign, pose
from exo_twin.inverse.tree_file import tree_from_arrays
from exo_twin.live.keypoints import KNEES_AND_ANKLES, leg_angles
from exo_twin.live.samples import LEG_KEYPOINTS
from exo_twin.twin import Gait

# One standard deviation of what is left where the model carries the very keypoints, where their places are guessed from
# its joints, and where it is not known.
OWN_SD, GUESSED_SD, UNKNOWN_SD = math.radians(2.0), math.radians(5.0), math.radians(8.0)
PHASES = 20
# Of a model without keypoints: the body at whose origin a keypoint lies, or where it lies in the body, m (x forward,
# y up, z to the outside) of a foot of adult size.
PLACES: dict[str, tuple[str, tuple[float, float, float]]] = {
    "Hip": ("femur", (0.0, 0.0, 0.0)),
    "Knee": ("tibia", (0.0, 0.0, 0.0)),
    "Ankle": ("talus", (0.0, 0.0, 0.0)),
    "Heel": ("calcn", (-0.022, 0.025, 0.0)),
    "BigToe": ("toes", (0.065, 0.005, -0.02)),
}


def keypoint_offsets(model: Mapping[str, NDArray[Any]], gait: Gait) -> tuple[dict[str, float], float]:
    """Mean over the reference stride of the keypoints' angles above the coordinates, and their uncertainty, rad."""
    if "tree_bodies" not in model:
        return {}, UNKNOWN_SD
    tree, _ = tree_from_arrays(model)
    own = set(LEG_KEYPOINTS) <= set(tree.markers)
    seen = tree.select(LEG_KEYPOINTS) if own else _with_guessed(tree)
    if seen is None or not set(LEG_COORDINATES) <= set(tree.coordinates):
        return {}, UNKNOWN_SD
    q = np.tile(tree.default, (PHASES, 1))
    grid = np.linspace(0.0, 1.0, PHASES, endpoint=False)
    for name in LEG_COORDINATES:
        curve = gait.curves[name]
        q[:, tree.index(name)] = flexion_sign(tree, name) * np.interp(grid, np.linspace(0.0, 1.0, len(curve)), curve)
    places = pose(seen, q, np.ones(len(tree.bodies)), np.zeros((len(LEG_KEYPOINTS), 3))).position
    off: dict[str, list[float]] = {name: [] for name in KNEES_AND_ANKLES}
    for row, places_then in enumerate(opensim_to_ros(places)):
        points = {name: tuple(place) for name, place in zip(LEG_KEYPOINTS, places_then.tolist(), strict=True)}
        for name, angle in leg_angles(points, depth_measured=True).items():
            off[name].append(angle - flexion_sign(tree, name) * float(q[row, tree.index(name)]))
    return {name: float(np.mean(values)) for name, values in off.items() if values}, OWN_SD if own else GUESSED_SD


def _with_guessed(tree: KinematicTree) -> KinematicTree | None:
    """The tree with keypoints at its joints; None if it has other bodies."""
    body, place = [], []
    for side in SIDES:
        outside = np.array([1.0, 1.0, 1.0 if side == "r" else -1.0])
        for name, where in PLACES.values():
            if f"{name}_{side}" not in tree.bodies:
                return None
            body.append(tree.bodies.index(f"{name}_{side}"))
            place.append(outside * where)
    return dataclasses.replace(
        tree, markers=LEG_KEYPOINTS, marker_body=np.array(body, dtype=np.int64), marker_place=np.array(place)
    )
