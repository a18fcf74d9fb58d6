"""The kinematic tree as plain arrays, so that live nodes have it from `model.npz` without opensim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.kinematic_tree import Drive, Joint, KinematicTree

PREFIX = "tree_"


def tree_arrays(tree: KinematicTree, weights: Mapping[str, float] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays under names that begin with "tree_".

    Parameters
    ----------
    weights : marker -> weight in inverse kinematics; markers not named weigh nothing. None: all weigh the same.
    """
    given = dict.fromkeys(tree.markers, 1.0) if weights is None else weights
    drives = [drive for joint in tree.joints for drive in joint.drives]
    tables = [np.zeros((2, 0)) if drive.table is None else drive.table for drive in drives]
    found: dict[str, Any] = {
        "bodies": np.array(tree.bodies, dtype=np.str_),
        "parent": np.array([joint.parent for joint in tree.joints], dtype=np.int64),
        "in_parent": np.array([joint.in_parent for joint in tree.joints]),
        "in_body": np.array([joint.in_body for joint in tree.joints]),
        "axes": np.array([joint.axes for joint in tree.joints]),
        "drive_coordinate": np.array([drive.coordinate for drive in drives], dtype=np.int64),
        "drive_line": np.array([(drive.slope, drive.offset) for drive in drives]),
        "drive_table": np.concatenate(tables, axis=1),
        "drive_table_points": np.array([table.shape[1] for table in tables], dtype=np.int64),
        "coordinates": np.array(tree.coordinates, dtype=np.str_),
        "default": tree.default,
        "lower": tree.lower,
        "upper": tree.upper,
        "clamped": tree.clamped,
        "locked": tree.locked,
        "markers": np.array(tree.markers, dtype=np.str_),
        "marker_body": tree.marker_body,
        "marker_place": tree.marker_place,
        "marker_weight": np.array([given.get(name, 0.0) for name in tree.markers]),
    }
    return {f"{PREFIX}{name}": value for name, value in found.items()}


def tree_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[KinematicTree, dict[str, float]]:
    """The tree and the markers' weights written by :func:`tree_arrays`, e.g. from `Twin.model`.

    Raises
    ------
    ExoError : if they are missing or do not fit together.
    """
    try:
        a = {name[len(PREFIX) :]: value for name, value in arrays.items() if name.startswith(PREFIX)}
        ends = np.cumsum(a["drive_table_points"])[:-1]
        tables = np.split(a["drive_table"], ends, axis=1)
        drives = [
            Drive(int(coordinate), float(line[0]), float(line[1]), table if table.shape[1] else None)
            for coordinate, line, table in zip(a["drive_coordinate"], a["drive_line"], tables, strict=True)
        ]
        joints = tuple(
            Joint(int(parent), in_parent, in_body, axes, tuple(drives[6 * i : 6 * i + 6]))
            for i, (parent, in_parent, in_body, axes) in enumerate(
                zip(a["parent"], a["in_parent"], a["in_body"], a["axes"], strict=True)
            )
        )
        markers = tuple(map(str, a["markers"]))
        tree = KinematicTree(
            tuple(map(str, a["bodies"])),
            joints,
            tuple(map(str, a["coordinates"])),
            a["default"],
            a["lower"],
            a["upper"],
            a["clamped"],
            a["locked"],
            markers,
            a["marker_body"],
            a["marker_place"],
        )
        return tree, dict(zip(markers, map(float, a["marker_weight"]), strict=True))
    except (KeyError, ValueError, IndexError) as error:
        raise ExoError(
            f"the twin's kinematic tree is missing or damaged ({error}); make the twin again with ./exo personalise"
        ) from None
