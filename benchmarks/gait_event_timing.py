"""Heel strikes and toe-offs from markers against force plates: ours and Zeni's, median error in ms (early is negative).

Data: walking_3d (3 strikes, 3 offs), and the comfortable and fast trials of the 12 wearers of gait_speeds, whose
plates lag the markers (by about 18 ms according to the dynamics of the trials) and are zeroed below about 50 N; all
errors there include both, so that only the two methods can be compared on them. No constant was fitted to either,
but walking_3d was at hand when the method was chosen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import smooth_markers
from exo_capture.gait_events import find_events
from exo_capture.marker_capture import capture_markers, event_differences
from exo_capture.marker_files import ForcePlate, read_recording
from exo_capture.marker_frame import to_opensim
from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers, read_storage, read_trc

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TRIALS = "*/*_C[45]_*.c3d"  # comfortable and fast
LOADED_N = 20.0
SHORTEST_STANCE_S = 0.3
MATCH_S = 0.15
EDGE_S = 0.1

Contacts = dict[str, tuple[list[float], list[float]]]
Errors = dict[str, list[float]]


def measure() -> dict[str, float]:
    """Median errors and their spread, ms, by data set, event and method; empty without the data."""
    figures: dict[str, float] = {}
    if (DATA / "walking_3d").is_dir():
        figures |= _figures("walking_3d", [_walking_3d()])
    if (DATA / "gait_speeds").is_dir():
        figures |= _figures("gait_speeds", _gait_speeds()) | _against_labs()
    return figures


def _figures(name: str, trials: list[tuple[Markers, Contacts]]) -> dict[str, float]:
    result = {}
    for method, landing in (("ours", True), ("zeni", False)):
        errors: Errors = {"strike": [], "off": []}
        for markers, contacts in trials:
            events = find_events(smooth_markers(markers), landing)
            for side in SIDES:
                for kind, found, truth in zip(
                    errors, (events.heel_strikes[side], events.toe_offs[side]), contacts[side], strict=True
                ):
                    errors[kind] += _differences(np.array(found), truth, markers.time)
        for kind, values in errors.items():
            result[f"{name}_{kind}_{method}_median_ms"] = 1000.0 * float(np.median(values))
            result[f"{name}_{kind}_{method}_sd_ms"] = 1000.0 * float(np.std(values))
            result[f"{name}_{kind}_count"] = float(len(values))
    return result


def _walking_3d() -> tuple[Markers, Contacts]:
    markers = read_trc(DATA / "walking_3d" / "markers_walk.trc")
    forces = read_storage(DATA / "walking_3d" / "grf_walk.mot")
    keypoints = MarkerSet.load("walking_3d_41").keypoints_of(markers)
    contacts = {side: _edges(forces.time, forces.column(f"ground_force_{side}_vy")) for side in SIDES}
    return keypoints, contacts


def _gait_speeds() -> list[tuple[Markers, Contacts]]:
    marker_set, trials = MarkerSet.load("gait_speeds_52"), []
    for path in sorted((DATA / "gait_speeds").glob(TRIALS)):
        try:
            recording = to_opensim(read_recording(path), marker_set)
        except ExoError:
            continue  # labels exchanged in the file
        keypoints = marker_set.keypoints_of(recording.markers)
        contacts: Contacts = {side: ([], []) for side in SIDES}
        for plate in recording.plates:
            time = keypoints.time[0] + np.arange(len(plate.reaction)) / plate.rate_hz
            strikes, offs = _edges(time, plate.reaction[:, 1])
            if len(strikes) == len(offs) == 1 and offs[0] - strikes[0] > SHORTEST_STANCE_S:
                side = _nearest_foot(keypoints, plate, time, (strikes[0] + offs[0]) / 2.0)
                contacts[side][0].append(strikes[0])
                contacts[side][1].append(offs[0])
        trials.append((keypoints, contacts))
    return trials


def _against_labs() -> dict[str, float]:
    """Ours minus the events that the files carry, ms: mean and spread over all trials of gait_speeds."""
    errors: Errors = {"strike": [], "off": []}
    for path in sorted((DATA / "gait_speeds").glob(TRIALS)):
        capture = capture_markers(path)
        for kind, values in event_differences(capture.recording.events, capture.events).items():
            errors[kind] += values
    result = {}
    for kind, values in errors.items():
        result[f"gait_speeds_{kind}_minus_lab_mean_ms"] = 1000.0 * float(np.mean(values))
        result[f"gait_speeds_{kind}_minus_lab_sd_ms"] = 1000.0 * float(np.std(values))
        result[f"gait_speeds_{kind}_minus_lab_count"] = float(len(values))
    return result


def _edges(time: NDArray[np.float64], load: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    change = np.diff((load > LOADED_N).astype(int))
    return [float(t) for t in time[1:][change > 0]], [float(t) for t in time[1:][change < 0]]


def _nearest_foot(keypoints: Markers, plate: ForcePlate, time: NDArray[np.float64], when: float) -> str:
    place = plate.centre_of_pressure[np.searchsorted(time, when)]
    frame = int(np.searchsorted(keypoints.time, when))
    ankles = {side: keypoints.position[frame, keypoints.names.index(f"{side.upper()}Ankle")] for side in SIDES}
    return min(SIDES, key=lambda side: float(np.linalg.norm((ankles[side] - place)[[0, 2]])))


def _differences(found: NDArray[np.float64], truth: list[float], time: NDArray[np.float64]) -> list[float]:
    inside = [t for t in truth if time[0] + EDGE_S < t < time[-1] - EDGE_S and len(found)]
    nearest = [float(min(found - t, key=abs)) for t in inside]
    return [difference for difference in nearest if abs(difference) < MATCH_S]


if __name__ == "__main__":
    for key, value in measure().items():
        print(f"{key:45s} {value:8.1f}")
