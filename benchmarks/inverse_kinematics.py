"""Our inverse kinematics beside OpenSim's tool, on the same frames in the same run.

`measure(data)` serves `./exo bench inverse`; run alone, the figures are printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, Storage, read_storage, read_trc, write_trc
from exo_twin.inverse.marker_ik import MarkerIk
from exo_twin.inverse.models import load_model
from exo_twin.inverse.streaming_ik import StreamingIk
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

FloatArray = NDArray[np.float64]

WINDOW_S = (0.45, 1.70)  # both feet are on the plates
JOINTS = ("pelvis_tilt", "pelvis_list", "pelvis_rotation", "hip_", "knee_angle", "ankle_angle")
ACCURACY = 1e-5  # OpenSim's default
CONVERGED = 1e-7  # to see which of the two is nearer to the minimum
REPEATS = 5


def measure(data: Path) -> dict[str, float]:
    """Agreement and time on walking_3d under `data`.

    Returns
    -------
    ik_rms_deg, ik_rms_worst_deg : RMS difference from OpenSim's tool at its default accuracy, over pelvis, hip, knee
        and ankle angles together and of the worst one.
    ik_rms_converged_deg : of the worst one from the tool at accuracy 1e-7.
    ik_ms_per_frame, ik_tool_ms_per_frame, ik_speedup : wall time per frame, ours the median of five runs, the tool's
        the faster of two runs of the tool itself, without reading the model and the files, as ours.
    ik_streaming_ms_median, ik_streaming_ms_p95 : wall time of single frames, one after the other.

    Raises
    ------
    ExoError : if the recording is not there.
    """
    folder = data / "walking_3d"
    model_file, tasks = folder / "subject_walk_scaled.osim", folder / "ik_tasks_walk.xml"
    if not (model_file.is_file() and tasks.is_file()):
        raise ExoError(f"{folder} does not hold the model and its marker weights; give the reference recordings")
    markers = within(read_trc(folder / "markers_walk.trc"), *WINDOW_S)
    with tempfile.TemporaryDirectory(prefix="exo_ik_") as scratch, logging_to(Path(scratch) / "opensim.log"):
        weights = marker_weights(tasks)
        tool_runs = [timed_opensim_ik(model_file, weights, markers, Path(scratch)) for _ in range(2)]
        tool_s, reference = min(tool_runs, key=lambda run: run[0])
        converged = opensim_ik(model_file, weights, markers, Path(scratch), CONVERGED)
        model = load_model(model_file)
        model.initSystem()
        ik = MarkerIk(kinematic_tree(model), {n: w for n, w in weights.items() if n in markers.names})
    runs = [_timed(lambda: ik.solve(markers)) for _ in range(REPEATS)]
    ours_s = float(np.median([seconds for seconds, _ in runs])) / len(markers.time)
    frames = streaming_seconds(ik, markers)
    q = runs[0][1].q
    apart = differences_deg(ik, q, reference)
    return {
        "ik_rms_deg": float(np.sqrt(np.mean(np.square(list(apart.values()))))),
        "ik_rms_worst_deg": max(apart.values()),
        "ik_rms_converged_deg": max(differences_deg(ik, q, converged).values()),
        "ik_ms_per_frame": 1e3 * ours_s,
        "ik_tool_ms_per_frame": 1e3 * tool_s / len(markers.time),
        "ik_speedup": tool_s / len(markers.time) / ours_s,
        "ik_streaming_ms_median": 1e3 * float(np.median(frames)),
        "ik_streaming_ms_p95": 1e3 * float(np.percentile(frames, 95)),
    }


def within(markers: Markers, start: float, end: float) -> Markers:
    """The frames of a span of time, s."""
    half = 0.5 / markers.rate_hz
    rows = (markers.time > start - half) & (markers.time < end + half)
    return Markers(markers.time[rows], markers.names, markers.position[rows])


def marker_weights(tasks: Path) -> dict[str, float]:
    """Marker -> weight of an IKTaskSet file, the applied ones."""
    task_set = opensim.IKTaskSet(str(tasks.resolve()))
    chosen = [task_set.get(i) for i in range(task_set.getSize())]
    return {task.getName(): float(task.getWeight()) for task in chosen if task.getApply()}


def opensim_ik(
    model_file: Path, weights: dict[str, float], markers: Markers, folder: Path, accuracy: float = ACCURACY
) -> Storage:
    """Coordinates by OpenSim's InverseKinematicsTool, degrees and m; its files go to `folder`."""
    return timed_opensim_ik(model_file, weights, markers, folder, accuracy)[1]


def timed_opensim_ik(
    model_file: Path, weights: dict[str, float], markers: Markers, folder: Path, accuracy: float = ACCURACY
) -> tuple[float, Storage]:
    """Seconds that the tool's run alone took, and its coordinates."""
    trc, motion = folder / "markers.trc", folder / "ik.mot"
    write_trc(trc, markers)
    model = load_model(model_file)
    model.initSystem()
    tool = opensim.InverseKinematicsTool()
    for name, weight in weights.items():
        task = opensim.IKMarkerTask()
        task.setName(name)
        task.setWeight(weight)
        tool.getIKTaskSet().cloneAndAppend(task)
    tool.setModel(model)
    tool.set_accuracy(accuracy)
    tool.setMarkerDataFileName(str(trc.resolve()))
    tool.setStartTime(float(markers.time[0]))
    tool.setEndTime(float(markers.time[-1]))
    tool.setResultsDir(str(folder.resolve()))
    tool.setOutputMotionFileName(str(motion.resolve()))
    seconds, converged = _timed(tool.run)
    if not converged:
        raise ExoError("OpenSim's inverse kinematics tool did not converge; see its messages")
    return seconds, read_storage(motion)


def differences_deg(ik: MarkerIk, q: FloatArray, reference: Storage) -> dict[str, float]:
    """Coordinate -> RMS difference of our q (n, n_coordinates) from the tool's, degrees; pelvis and legs."""
    names = [name for name in ik.tree.coordinates if name.startswith(JOINTS)]
    return {
        name: float(np.sqrt(np.mean((np.degrees(q[:, ik.tree.index(name)]) - reference.column(name)) ** 2)))
        for name in names
    }


def streaming_seconds(ik: MarkerIk, markers: Markers) -> list[float]:
    """Seconds of every frame but the first, which has no start."""
    stream = StreamingIk(ik)
    columns = [markers.names.index(name) for name in ik.tree.markers]
    spent = [
        _timed(partial(stream.step, float(markers.time[i]), markers.position[i, columns]))[0]
        for i in range(len(markers.time))
    ]
    return spent[1:]


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = run()
    return time.perf_counter() - begin, result


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the reference recordings")
    for name, value in measure(parser.parse_args().data).items():
        print(f"{name}: {value:.4g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
