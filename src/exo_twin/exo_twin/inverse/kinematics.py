"""Scaled model and skin markers in, joint angles out: OpenSim's inverse kinematics."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers, Storage, read_storage, write_trc
from exo_twin.inverse.models import GenericModel
from exo_twin.opensim_runtime import opensim

FloatArray = NDArray[np.float64]

TRACKED = ("LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle")  # a frame needs all of them
ACCURACY = 1e-5  # OpenSim's default
SATURATION_DEG = 0.5  # this near to a clamped limit counts as saturated
SATURATION_WARNING = 0.02  # of the frames
TURN = np.array([-1.0, 1.0, -1.0])  # half a turn about the vertical
MARKER_RMS_WARNING = 0.04  # m; OpenSim's advice is below 0.02 for skin markers, keypoints are twice as rough


@dataclasses.dataclass(frozen=True)
class Kinematics:
    """Joint angles of a recording.

    Attributes
    ----------
    coordinates : the model's coordinates over time (degrees and m), knee flexion positive.
    marker_rms : (n,) m, root mean square over markers per frame.
    marker_error : marker -> root mean square over frames of its distance from the model, m.
    saturated : coordinate -> fraction of frames at its clamped limit.
    warnings : sentences.
    angle_sd_deg : leg coordinate -> mean standard deviation, deg, where the method knows it.
    dropped_share : of the samples, left out as outliers.
    """

    coordinates: Storage
    marker_rms: FloatArray
    marker_error: dict[str, float]
    saturated: dict[str, float]
    warnings: list[str]
    angle_sd_deg: dict[str, float] = dataclasses.field(default_factory=dict)
    dropped_share: float = 0.0


def solve_kinematics(
    markers: Markers,
    scaled: Path,
    generic: GenericModel,
    output: Path,
    clamped: bool = True,
) -> Kinematics:
    """Run OpenSim's InverseKinematicsTool on every frame in which both legs are seen.

    Parameters
    ----------
    markers : with their keypoints, in OpenSim's frame, m; walking along +x or -x.
    scaled : the scaled .osim, with its markers.
    output : the .mot to write (degrees).
    clamped : keep the leg coordinates inside the model's ranges, as a twin needs them; walkers
        exceed a generic model's knee extension (0) and hip extension (-30 degrees).

    Raises
    ------
    ExoError : if fewer than two frames show both legs or the solver fails.
    """
    model = opensim.Model(str(scaled.resolve()))
    prepared = walking_forward(_usable_frames(markers))
    if not clamped:
        for name in LEG_COORDINATES:
            model.updCoordinateSet().get(name).setDefaultClamped(False)
    model.initSystem()
    with tempfile.TemporaryDirectory(prefix="exo_ik_") as scratch:
        trc = Path(scratch) / "markers.trc"
        write_trc(trc, prepared)
        _run_tool(model, generic, prepared, trc, output)
        errors = read_storage(Path(scratch) / "_ik_marker_errors.sto")
        on_model = read_storage(Path(scratch) / "_ik_model_marker_locations.sto")
    coordinates = _flexion_positive(read_storage(output), model)
    rms = errors.column("marker_error_RMS")
    saturated = _saturated(coordinates, model)
    return Kinematics(
        coordinates, rms, _marker_errors(prepared, on_model), saturated, kinematics_warnings(rms, saturated)
    )


def kinematics_warnings(marker_rms: FloatArray, saturated: Mapping[str, float]) -> list[str]:
    """Sentences about markers (n,) m off the model and coordinates at their limits (share of the frames)."""
    warnings = [
        f"{name} stands at its limit in {100 * share:.0f} % of the frames; its true value may lie beyond"
        for name, share in saturated.items()
        if share > SATURATION_WARNING
    ]
    rms = float(np.sqrt(np.mean(marker_rms**2)))
    if rms > MARKER_RMS_WARNING:
        warnings.append(f"keypoints miss the model by {1e3 * rms:.0f} mm RMS; joint angles are uncertain")
    return warnings


def walking_forward(markers: Markers) -> Markers:
    """Turn the recording about the vertical so that walking (or, standing, looking) is along +x.

    The toes tell the direction: they lie ahead of the heels.
    """
    ahead = [
        markers.position[:, markers.names.index(f"{side}BigToe"), 0]
        - markers.position[:, markers.names.index(f"{side}Heel"), 0]
        for side in ("L", "R")
    ]
    if float(np.nanmedian(ahead)) >= 0.0:
        return markers
    return dataclasses.replace(markers, position=markers.position * TURN)


def _usable_frames(markers: Markers) -> Markers:
    """From the first to the last frame in which every tracked keypoint is seen."""
    columns = [markers.names.index(name) for name in TRACKED]
    seen = np.flatnonzero(np.isfinite(markers.position[:, columns]).all(axis=(1, 2)))
    if len(seen) < 2:
        raise ExoError("no two frames show hips, knees and ankles of both legs; film the whole person from the side")
    window = slice(seen[0], seen[-1] + 1)
    return Markers(markers.time[window], markers.names, markers.position[window])


def _run_tool(model: Any, generic: GenericModel, markers: Markers, trc: Path, output: Path) -> None:
    tool = opensim.InverseKinematicsTool(str(generic.ik_setup), False)
    tasks = tool.getIKTaskSet()
    for i in range(tasks.getSize()):
        task = tasks.get(i)
        on_marker = opensim.IKMarkerTask.safeDownCast(task) is not None
        task.setApply(on_marker and task.getName() in markers.names)
    tool.setName("")
    tool.setModel(model)
    tool.set_accuracy(ACCURACY)
    tool.setMarkerDataFileName(str(trc))
    tool.setStartTime(float(markers.time[0]))
    tool.setEndTime(float(markers.time[-1]))
    tool.setResultsDir(str(trc.parent))
    tool.set_report_errors(True)
    tool.set_report_marker_locations(True)
    tool.setOutputMotionFileName(str(output.resolve()))
    try:
        solved = tool.run()
    except RuntimeError as error:
        raise ExoError(
            f"inverse kinematics failed ({str(error).strip().splitlines()[0]}); check the keypoints' labels and units"
        ) from None
    if not solved:
        raise ExoError("inverse kinematics did not converge; check the keypoints' labels and units")


def _marker_errors(markers: Markers, on_model: Storage) -> dict[str, float]:
    """RMS distance of every tracked marker from its place on the model, m."""
    rows = [int(np.argmin(np.abs(markers.time - time))) for time in on_model.time]
    found = {}
    for i, name in enumerate(markers.names):
        if f"{name}_tx" in on_model.columns:
            place = np.column_stack([on_model.column(f"{name}_t{axis}") for axis in "xyz"])
            squares = np.sum((markers.position[rows, i] - place) ** 2, axis=1)
            if np.isfinite(squares).any():
                found[name] = float(np.sqrt(np.nanmean(squares)))
    return found


def _flexion_positive(table: Storage, model: Any) -> Storage:
    """Knee flexion positive: models of the gait2392 family count it negative."""
    values = table.values.copy()
    for name in ("knee_angle_l", "knee_angle_r"):
        coordinate = model.getCoordinateSet().get(name)
        if abs(coordinate.getRangeMin()) > abs(coordinate.getRangeMax()):
            values[:, table.columns.index(name)] *= -1.0
    return dataclasses.replace(table, values=values)


def _saturated(table: Storage, model: Any) -> dict[str, float]:
    shares = {}
    for name in LEG_COORDINATES:
        coordinate = model.getCoordinateSet().get(name)
        if coordinate.getDefaultClamped():
            angle = table.column(name)
            low, high = np.rad2deg(coordinate.getRangeMin()), np.rad2deg(coordinate.getRangeMax())
            at_limit = (angle < low + SATURATION_DEG) | (angle > high - SATURATION_DEG)
            shares[name] = round(float(at_limit.mean()), 3)
    return shares
