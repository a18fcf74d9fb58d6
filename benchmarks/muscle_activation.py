"""Muscle activations beside OpenSim's StaticOptimization: same coordinates, same plates, same process.

walking_3d between 0.45 and 1.70 s. Both low-pass the coordinates at 6 Hz; the tool runs through AnalyzeTool with a
reserve of 1 Nm per unit of control on every coordinate that muscles cross, which is the price of our moment term, and
actuators on the others. It takes tendons as rigid and fibres without passive force, so the figures to compare are of
our solver with both left out; figures with passive fibres and elastic tendons stand beside.

One difference is left in: the tool takes the pennation angle at the fibre's length in optimal lengths as if it were in
metres (opensim-core 4.6, Millard2012EquilibriumMuscle::calcActiveFiberForceAlongTendon), so its oblique muscles are
stronger by 1/cos. Figures "_same_forces" imitate that.

r counts a muscle if the tool moves it by more than 0.01 (a muscle that both leave at its lowest activation has none);
RMSE counts every muscle.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from inverse_dynamics import END_S, START_S, ground_forces, with_driven
from numpy.typing import NDArray

from exo_common.opensim_files import Storage, read_storage, write_storage
from exo_twin.inverse.dynamics_files import read_coordinates
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.motion_derivatives import CUTOFF_HZ, derivatives
from exo_twin.inverse.muscle_forces import MuscleSolution, MuscleSolver, StreamingMuscles
from exo_twin.inverse.muscle_model import FibreState, MuscleModel
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

FloatArray = NDArray[np.float64]
Case = tuple[FloatArray, FloatArray, FloatArray, FloatArray]  # time, q, qd, moment

EVERY = 10  # of the 1 kHz frames: 100 Hz
RESERVE_NM = 1.0
RESIDUAL = 500.0  # N or Nm per unit of control, where no muscle crosses
REPEATS = 9
MOVES = 0.01


def measure(data: Path) -> dict[str, float]:
    """Figures of the muscle solver on `data`/walking_3d.

    Returns
    -------
    activation_rmse, activation_r : medians over muscles, rigid tendons and no passive force, as the tool;
        activation_rmse_worst, of the single worst muscle; muscles_moving, how many r is the median of.
    activation_rmse_same_forces, activation_r_same_forces : with the tool's pennation, too.
    activation_rmse_elastic, activation_r_elastic : with passive fibres and elastic tendons.
    ms_per_frame : passive fibres, rigid tendons, batch, from coordinates and moments to solution;
        ms_per_frame_elastic; ms_per_frame_live, frame by frame; opensim_so_ms_per_frame; speedup, of the first.
    reserve_rms_nm, reserve_rms_elastic_nm, opensim_reserve_rms_nm : over all coordinates that muscles cross.
    """
    folder = data / "walking_3d"
    osim = folder / "subject_walk_scaled.osim"
    model = opensim.Model(str(osim))
    model.initSystem()
    tree = kinematic_tree(model)
    paths = fit_muscle_paths(osim, tree).paths
    muscles = muscle_model(model, paths.muscles)
    with tempfile.TemporaryDirectory(prefix="exo_so_") as scratch:
        write_storage(Path(scratch) / "coordinates.mot", with_driven(read_storage(folder / "coordinates.sto"), model))
        table = read_storage(Path(scratch) / "coordinates.mot")  # rounded as the tool reads it
        reference, tool_s = _tool(model, paths.coordinates, folder, Path(scratch))
    at = reference.time
    moving = derivatives(table.time, read_coordinates(table, tree), CUTOFF_HZ, at=at)
    external = ground_forces(read_storage(folder / "grf_walk.mot"), at)
    solved = InverseDynamics(tree, body_inertia(model, tree)).solve(
        moving.q, moving.speed, moving.acceleration, external
    )
    columns = [tree.index(name) for name in paths.coordinates]
    case = (at, moving.q[:, columns], moving.speed[:, columns], solved.forces[:, columns])
    wanted = np.column_stack([reference.column(name) for name in paths.muscles])
    reserves = np.column_stack([reference.column(f"reserve_{name}") for name in paths.coordinates])

    like_for_like = MuscleSolver(paths, muscles, passive=False).solve(*case)
    same_forces = MuscleSolver(paths, _ToolsPennation(**_fields(muscles)), passive=False).solve(*case)
    rigid, elastic = MuscleSolver(paths, muscles), MuscleSolver(paths, muscles, elastic=True)
    with_elastic = elastic.solve(*case)
    ours_ms = _batch_ms(rigid, case)
    tool_ms = 1e3 * tool_s / len(at)
    return {
        **_agreement("", like_for_like, wanted),
        "activation_rmse_worst": float(np.max(_rms(like_for_like.activation - wanted))),
        "muscles_moving": float(np.sum(np.ptp(wanted, axis=0) > MOVES)),
        **_agreement("_same_forces", same_forces, wanted),
        **_agreement("_elastic", with_elastic, wanted),
        "ms_per_frame": ours_ms,
        "ms_per_frame_elastic": _batch_ms(elastic, case),
        "ms_per_frame_live": _live_ms(rigid, case),
        "opensim_so_ms_per_frame": tool_ms,
        "speedup": tool_ms / ours_ms,
        "reserve_rms_nm": float(_rms(like_for_like.reserve.ravel())),
        "reserve_rms_elastic_nm": float(_rms(with_elastic.reserve.ravel())),
        "opensim_reserve_rms_nm": float(_rms(RESERVE_NM * reserves.ravel())),
    }


class _ToolsPennation(MuscleModel):
    """Muscles as strong as the tool takes them, see the module."""

    def fibres(self, *arguments: Any, **named: Any) -> FibreState:
        state = super().fibres(*arguments, **named)
        taken = np.sqrt(1.0 - (self.height / state.length) ** 2)
        return dataclasses.replace(state, active=state.active / state.cos_pennation * taken)

    def select(self, muscles: NDArray[np.int64]) -> MuscleModel:
        return _ToolsPennation(**_fields(super().select(muscles)))


def _fields(model: MuscleModel) -> dict[str, Any]:
    return {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}


def _agreement(label: str, solution: MuscleSolution, wanted: FloatArray) -> dict[str, float]:
    """Medians over the muscles; r over those that move."""
    moves = np.flatnonzero(np.ptp(wanted, axis=0) > MOVES)
    r = [np.corrcoef(solution.activation[:, i], wanted[:, i])[0, 1] for i in moves]
    return {
        f"activation_rmse{label}": float(np.median(_rms(solution.activation - wanted))),
        f"activation_r{label}": float(np.median(np.nan_to_num(r))),
    }


def _rms(values: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=0)))


def _batch_ms(solver: MuscleSolver, case: Case) -> float:
    """Median over repetitions, per frame."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        solver.solve(*case)
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds)) / len(case[0])


def _live_ms(solver: MuscleSolver, case: Case) -> float:
    """Median of one frame."""
    stream = StreamingMuscles(solver)
    seconds = []
    for now, q, qd, moment in zip(*case, strict=True):
        began = time.perf_counter()
        stream.push(float(now), q, qd, moment)
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds))


def _tool(model: Any, crossed: Sequence[str], folder: Path, scratch: Path) -> tuple[Storage, float]:
    """The tool's activations and how long it took, s."""
    _add_actuators(model, crossed)
    model.printToXML(str(scratch / "model.osim"))
    analysis = opensim.StaticOptimization()
    analysis.setName("so")
    analysis.setStepInterval(EVERY)
    analysis.setStartTime(START_S)
    analysis.setEndTime(END_S)
    analysis.setUseModelForceSet(True)
    analysis.setUseMusclePhysiology(True)
    analysis.setActivationExponent(2)
    tool = opensim.AnalyzeTool()
    tool.getAnalysisSet().cloneAndAppend(analysis)
    tool.setName("walk")
    tool.setModelFilename(str(scratch / "model.osim"))
    tool.setReplaceForceSet(False)
    tool.setCoordinatesFileName(str(scratch / "coordinates.mot"))
    tool.setLowpassCutoffFrequency(CUTOFF_HZ)
    tool.setExternalLoadsFileName(str(folder / "grf_walk.xml"))
    tool.setInitialTime(START_S)
    tool.setFinalTime(END_S)
    tool.setResultsDir(str(scratch))
    tool.printToXML(str(scratch / "setup.xml"))
    with logging_to(scratch / "opensim.log"):
        tool = opensim.AnalyzeTool(str(scratch / "setup.xml"))  # it reads the coordinates only when made from a file
        began = time.perf_counter()
        tool.run()
        seconds = time.perf_counter() - began
    return read_storage(scratch / "walk_so_activation.sto"), seconds


def _add_actuators(model: Any, crossed: Sequence[str]) -> None:
    """Reserves where muscles cross, strong actuators on free coordinates that have none."""
    state = model.initSystem()
    forces, coordinates = model.getForceSet(), model.getCoordinateSet()
    actuators = [opensim.CoordinateActuator.safeDownCast(forces.get(i)) for i in range(forces.getSize())]
    driven = {actuator.get_coordinate() for actuator in actuators if actuator is not None}
    every = [coordinates.get(i) for i in range(coordinates.getSize())]
    free = [item.getName() for item in every if not item.isConstrained(state) and item.getName() not in driven]
    for name in free:
        actuator = opensim.CoordinateActuator(name)
        actuator.setName(f"reserve_{name}")
        actuator.setOptimalForce(RESERVE_NM if name in crossed else RESIDUAL)
        actuator.setMinControl(-np.inf)
        actuator.setMaxControl(np.inf)
        model.addForce(actuator)
    model.finalizeConnections()
