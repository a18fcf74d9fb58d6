"""A twin for the live benches from walking_3d's own model, coordinates and moments, without fitting anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from inverse_dynamics import ground_forces
from numpy.typing import NDArray

from exo_common.artefact import writing
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Storage, read_storage
from exo_safety.envelope import Envelope, SideEnvelope
from exo_twin.inverse.gait_cycle import close_curve, is_other
from exo_twin.inverse.models import load_model
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.tree_file import tree_arrays
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.twin import CURVE_POINTS, GAIT_FILE, KIND, Gait

FloatArray = NDArray[np.float64]

WEARER = "walking_3d"
STRIDES_S = np.arange(0.9, 1.3, 0.005)  # where the stride time is looked for; the recording lasts 1.35 s
ON_GROUND_N = 30.0
DUTY_FACTOR = 0.62
# Wide enough never to matter: nobody reads it here.
LIMITS = SideEnvelope(-0.7, 1.8, 10.0, 15.0, 200.0, 60.0)
# Of one stride nobody knows what strides differ by: some degrees, and a tenth of the largest moment.
ANGLE_SD, MOMENT_SD_NM = 0.035, 6.0


def write_twin(data: Path, folder: Path) -> Path:
    """A folder with what the estimator reads: all of the model's leg muscles, one stride's angles and moments."""
    source = data / "walking_3d"
    file = source / "subject_walk_scaled.osim"
    model = load_model(file)
    model.initSystem()
    tree = kinematic_tree(model)
    paths = fit_muscle_paths(file, tree).paths
    arrays: dict[str, Any] = {**tree_arrays(tree), **paths.arrays(), **muscle_model(model, paths.muscles).arrays()}
    with writing(folder, KIND, WEARER, {"model": file}, []) as scratch:
        others = [name for name in paths.coordinates if is_other(name)]
        _gait(source, [*LEG_COORDINATES, *others]).save(scratch / GAIT_FILE)
        np.savez(scratch / "model.npz", **arrays)
        Envelope(WEARER, LIMITS, LIMITS, "a bench").save(scratch / "envelope.yaml")
    return folder


def right_strike(data: Path) -> tuple[float, float]:
    """When walking_3d's right foot comes down, and how long a stride takes, s."""
    gait = _gait(data / "walking_3d", LEG_COORDINATES)
    return float(gait.strides[0]["start"]), gait.stride_time


def _gait(source: Path, names: Sequence[str]) -> Gait:
    angles, moments = read_storage(source / "coordinates.sto"), read_storage(source / "id_walk.sto")
    plates = read_storage(source / "grf_walk.mot")
    hip = _angle(angles, "hip_flexion_r")
    misfit = []
    for stride in STRIDES_S:
        once = angles.time[angles.time < angles.time[-1] - stride]
        misfit.append(np.mean((np.interp(once + stride, angles.time, hip) - np.interp(once, angles.time, hip)) ** 2))
    stride = float(STRIDES_S[int(np.argmin(misfit))])
    strike = dict(
        zip(
            ("r", "l"), (_strike(angles.time, force.force) for force in ground_forces(plates, angles.time)), strict=True
        )
    )

    def curve(time: FloatArray, values: FloatArray, side: str) -> FloatArray:
        """Over the leg's own cycle; what lies before its strike is that of a stride later."""
        at = strike[side] + np.linspace(0.0, 1.0, CURVE_POINTS) * stride
        return close_curve(np.interp(np.where(at > time[-1], at - stride, at), time, values))

    curves = {n: curve(angles.time, _angle(angles, n), n[-1]) for n in names}
    torques = {n: curve(moments.time, moments.column(f"{n}_moment"), n[-1]) for n in names}
    return Gait(
        stride_time=stride,
        speed=None,
        duty_factor=DUTY_FACTOR,
        phase_offset_right=(strike["l"] - strike["r"]) / stride % 1.0,
        strides=[{"side": "r", "start": strike["r"], "end": strike["r"] + stride}],
        rom_deg={},
        curves=curves,
        curves_sd={name: np.full(CURVE_POINTS, ANGLE_SD) for name in curves},
        source="one stride of walking_3d",
        moment_curves=torques,
        moment_curves_sd={name: np.full(CURVE_POINTS, MOMENT_SD_NM) for name in torques},
    )


def _angle(table: Storage, name: str) -> FloatArray:
    return table.column(next(column for column in table.columns if column.endswith(f"/{name}/value")))


def _strike(time: FloatArray, force: FloatArray) -> float:
    """When the foot comes down, s; where it stood from the start, the start."""
    down = np.linalg.norm(force, axis=1) > ON_GROUND_N
    rises = np.flatnonzero(down[1:] & ~down[:-1]) + 1
    return float(time[rises[0] if len(rises) else 0])
