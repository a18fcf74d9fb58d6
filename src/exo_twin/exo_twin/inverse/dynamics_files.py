"""Coordinates in and generalised forces out, as the tables that OpenSim reads and writes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Storage
from exo_twin.inverse.inverse_dynamics import Dynamics
from exo_twin.inverse.kinematic_tree import KinematicTree

FloatArray = NDArray[np.float64]


def read_coordinates(table: Storage, tree: KinematicTree) -> FloatArray:
    """Coordinates (n, n_coordinates) in the tree's order, rad and m; those the table lacks stand at their default.

    Columns may be named by coordinate (a .mot) or by the path of a state (a .sto of states).

    Raises
    ------
    ExoError : if the table holds none of the model's coordinates.
    """
    columns = {_coordinate_name(name): i for i, name in enumerate(table.columns) if not name.endswith("/speed")}
    if not set(columns) & set(tree.coordinates):
        raise ExoError(
            f"the table has none of the model's coordinates ({', '.join(tree.coordinates[:6])} ...); "
            f"its columns are {', '.join(table.columns[:6])} ..."
        )
    result = np.tile(tree.default, (len(table.time), 1))
    angle = tree.turns()
    for i, name in enumerate(tree.coordinates):
        if name in columns:
            factor = np.pi / 180.0 if table.in_degrees and angle[i] else 1.0
            result[:, i] = factor * table.values[:, columns[name]]
    return result


def force_table(time: FloatArray, dynamics: Dynamics, tree: KinematicTree) -> Storage:
    """Generalised forces with the column names of OpenSim's inverse dynamics tool, to be written as .sto."""
    names = tuple(
        f"{name}_moment" if turns else f"{name}_force"
        for name, turns in zip(tree.coordinates, tree.turns(), strict=True)
    )
    return Storage(time, names, dynamics.forces, False)


def _coordinate_name(column: str) -> str:
    """`/jointset/hip_r/hip_flexion_r/value` -> `hip_flexion_r`."""
    parts = column.split("/")
    return parts[-2] if len(parts) > 1 and parts[-1] == "value" else parts[-1]
