"""Inverse dynamics figures for bench inverse: our solver beside OpenSim's tool, same inputs, same process.

Inputs are walking_3d's published coordinates and plates. Both sides low-pass the coordinates at 6 Hz. The tool
reports what a coupler drives (the patellas) apart; we count it in the driver, so the tool's is added there (it is
0.03 Nm). For the stream, the coordinates come at 100 Hz, as they are and with the jitter of a marker solution added
(white, 0.2 degrees and 1 mm). It is compared with our offline moments of the coordinates as they are, at the time a
streamed moment says it belongs to; so are offline moments of the jittery coordinates. The delay is how far the
streamed curves must be moved to lie best on the offline ones when each is taken as of the moment it came out.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Storage, read_storage, write_storage
from exo_twin.inverse.dynamics_files import read_coordinates
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.motion_derivatives import CUTOFF_HZ, derivatives
from exo_twin.inverse.streaming_derivatives import StreamingConfig
from exo_twin.inverse.streaming_dynamics import StreamingDynamics
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

FloatArray = NDArray[np.float64]

START_S, END_S = 0.45, 1.70  # both feet on plates
REPEATS = 5
STREAM_HZ = 100.0  # the cameras' rate
JITTER_RAD, JITTER_M = np.deg2rad(0.2), 0.001
SEED = 5
SHIFTS_S = np.arange(0.0, 0.2, 0.001)


def measure(data: Path) -> dict[str, float]:
    """Figures of inverse dynamics on `data`/walking_3d.

    Returns
    -------
    id_rms_nm : RMS difference from the tool over hips, knees and ankles (six flexion coordinates), the largest of
        them in id_rms_worst_nm, and the largest over all coordinates of the legs in id_rms_all_leg_nm.
    id_ms_per_frame : filter, splines and dynamics, from arrays to arrays; id_tool_ms_per_frame : the tool's run.
    id_stream_ms, id_stream_p95_ms : of one push.
    id_stream_delay_s : measured; id_stream_stated_delay_s.
    id_stream_rms_nm, id_stream_jitter_rms_nm : from offline, without and with jitter in the coordinates;
        id_offline_jitter_rms_nm : what the same jitter does offline.
    id_residual_force_pct_bw : of the pelvis, RMS, % body weight.
    """
    folder = data / "walking_3d"
    model = opensim.Model(str(folder / "subject_walk_scaled.osim"))
    model.initSystem()
    tree = kinematic_tree(model)
    inertia = body_inertia(model, tree)
    solver = InverseDynamics(tree, inertia)
    with tempfile.TemporaryDirectory(prefix="exo_id_") as scratch:
        table = with_driven(read_storage(folder / "coordinates.sto"), model)
        write_storage(Path(scratch) / "coordinates.mot", table)
        table = read_storage(Path(scratch) / "coordinates.mot")  # rounded as the tool reads it
        reference, tool_s = _tool(model, folder, Path(scratch))
    q, plates = read_coordinates(table, tree), read_storage(folder / "grf_walk.mot")
    external = ground_forces(plates, reference.time)
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        moving = derivatives(table.time, q, CUTOFF_HZ, at=reference.time)
        solved = solver.solve(moving.q, moving.speed, moving.acceleration, external)
        seconds.append(time.perf_counter() - began)
    error = {name: _rms(solved.of(name) - _folded(reference, name)) for name in tree.coordinates}
    legs = [name for name in tree.coordinates if name.startswith(("hip_", "knee_", "ankle_", "subtalar_"))]
    weight = inertia.total_mass * float(np.linalg.norm(inertia.gravity))
    return {
        "id_rms_nm": _rms(np.array([error[name] for name in LEG_COORDINATES])),
        "id_rms_worst_nm": max(error[name] for name in LEG_COORDINATES),
        "id_rms_all_leg_nm": max(error[name] for name in legs),
        "id_ms_per_frame": 1e3 * float(np.median(seconds)) / len(reference.time),
        "id_tool_ms_per_frame": 1e3 * tool_s / len(reference.time),
        "id_residual_force_pct_bw": 100.0 * _rms(np.linalg.norm(solved.whole_body.residual_force, axis=1)) / weight,
        **_stream(solver, table.time, q, plates),
    }


def ground_forces(plates: Storage, wanted: FloatArray) -> list[ExternalForce]:
    """walking_3d's two ground reactions at the wanted times."""
    found = []
    for side in ("r", "l"):
        prefixes = (f"ground_force_{side}_v", f"ground_force_{side}_p", f"ground_torque_{side}_")
        columns = [np.column_stack([plates.column(prefix + axis) for axis in "xyz"]) for prefix in prefixes]
        found.append(ExternalForce(f"calcn_{side}", *columns).at(plates.time, wanted))
    return found


def with_driven(table: Storage, model: Any) -> Storage:
    """Columns named by coordinate; what a coupler drives follows its driver (walking_3d's have the identity)."""
    names = tuple(column.split("/")[-2] for column in table.columns)
    values = table.values.copy()
    constraints = model.getConstraintSet()
    for i in range(constraints.getSize()):
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(i))
        driver = names.index(coupler.getIndependentCoordinateNames().get(0))
        driven = names.index(coupler.getDependentCoordinateName())
        values[:, driven] = [coupler.getFunction().calcValue(opensim.Vector(1, x)) for x in values[:, driver]]
    return Storage(table.time, names, values, table.in_degrees)


def _tool(model: Any, folder: Path, scratch: Path) -> tuple[Storage, float]:
    """The tool's generalised forces and how long it took, s."""
    tool = opensim.InverseDynamicsTool()
    tool.setModel(model)
    tool.setCoordinatesFileName(str(scratch / "coordinates.mot"))
    tool.setLowpassCutoffFrequency(CUTOFF_HZ)
    tool.setExternalLoadsFileName(str(folder / "grf_walk.xml"))
    tool.setStartTime(START_S)
    tool.setEndTime(END_S)
    muscles = opensim.ArrayStr()
    muscles.append("Muscles")
    tool.setExcludedForces(muscles)
    tool.setResultsDir(str(scratch))
    tool.setOutputGenForceFileName("id.sto")
    began = time.perf_counter()
    with logging_to(scratch / "opensim.log"):
        tool.run()
    seconds = time.perf_counter() - began
    return read_storage(scratch / "id.sto"), seconds


def _folded(reference: Storage, name: str) -> FloatArray:
    """The tool's generalised force of a coordinate with that of the patella it drives, one to one."""
    columns = [column for column in reference.columns if column in (f"{name}_moment", f"{name}_force")]
    columns += [column for column in reference.columns if column == f"{name}_beta_force"]
    return np.sum([reference.column(column) for column in columns], axis=0)


def _stream(solver: InverseDynamics, recorded: FloatArray, q: FloatArray, plates: Storage) -> dict[str, float]:
    every = round(1.0 / (STREAM_HZ * float(np.median(np.diff(recorded)))))
    recorded, q = recorded[::every], q[::every]
    inside = recorded <= END_S
    external = ground_forces(plates, recorded[inside])
    jitter = np.where(solver.tree.turns(), JITTER_RAD, JITTER_M)
    noisy = q + jitter * np.random.default_rng(SEED).normal(size=q.shape)
    offline = _offline(solver, recorded, q, inside, external)
    clean = _streamed(solver, recorded[inside], q[inside], external, offline)
    return {
        "id_stream_ms": 1e3 * float(np.median(clean["seconds"])),
        "id_stream_p95_ms": 1e3 * float(np.percentile(clean["seconds"], 95)),
        "id_stream_stated_delay_s": StreamingConfig().frames_behind / STREAM_HZ,
        "id_stream_delay_s": float(clean["delay"]),
        "id_stream_rms_nm": _rms(clean["error"]),
        "id_stream_jitter_rms_nm": _rms(_streamed(solver, recorded[inside], noisy[inside], external, offline)["error"]),
        "id_offline_jitter_rms_nm": _rms(_offline(solver, recorded, noisy, inside, external) - offline),
    }


def _offline(
    solver: InverseDynamics,
    recorded: FloatArray,
    q: FloatArray,
    inside: NDArray[np.bool_],
    external: list[ExternalForce],
) -> FloatArray:
    """Moments (n, 6) Nm of LEG_COORDINATES at the recorded times inside."""
    moving = derivatives(recorded, q)
    solved = solver.solve(moving.q[inside], moving.speed[inside], moving.acceleration[inside], external)
    return np.column_stack([solved.of(name) for name in LEG_COORDINATES])


def _streamed(
    solver: InverseDynamics, known: FloatArray, q: FloatArray, external: list[ExternalForce], offline: FloatArray
) -> dict[str, Any]:
    """One pass frame by frame: seconds per push, error (n, 6) Nm from offline, and measured delay, s."""
    stream = StreamingDynamics(solver.tree, solver.inertia)
    seconds, stamps, moments = [], [], []
    for i, now in enumerate(known):
        forces = [force.frames(slice(i, i + 1)) for force in external]
        began = time.perf_counter()
        live = stream.push(float(now), q[i], forces)
        spent = time.perf_counter() - began
        if live is not None:
            seconds.append(spent)
            stamps.append((now, live.time))
            moments.append([live.dynamics.of(name)[0] for name in LEG_COORDINATES])
    came, belongs = np.array(stamps).T
    curves = CubicSpline(known, offline)
    misfit = [_rms(curves(came - shift) - moments) for shift in SHIFTS_S]
    return {
        "seconds": seconds,
        "error": np.array(moments) - curves(belongs),
        "delay": SHIFTS_S[int(np.argmin(misfit))],
    }


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
