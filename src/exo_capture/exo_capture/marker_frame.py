"""From the lab's frame to OpenSim's: up is +y, the walk (or, standing, the gaze) is along +x; labels are checked."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_files import ForcePlate, Recording
from exo_capture.marker_labels import mend_exchanged, refuse_exchanged_sides
from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

PERSON_M = (0.7, 2.6)  # from the lowest to the highest marker of a standing or walking person
UPRIGHT_COSINE = 0.9  # between the ankles-to-pelvis line and the nearest axis of the lab
TRAVEL_M = 0.5  # a pelvis that travels less stands, or walks on a treadmill
ON_THE_SPOT = "walks on the spot facing"
SWING_M = 0.25  # a heel that moves less against the pelvis takes no step


def to_opensim(recording: Recording, marker_set: MarkerSet) -> Recording:
    """Turn a recording into OpenSim's frame, m, and mend exchanged labels; its notes say what was found.

    Up is the lab axis nearest to the line from the ankles to the pelvis. Ahead is
    where the pelvis travels or, if it travels less than 0.5 m, where the feet point.

    Raises
    ------
    ExoError : for a missing marker, wrong units, nobody upright, a walk backwards, or left and right exchanged.
    """
    markers = recording.markers
    missing = [name for name in marker_set.used() if name not in markers.names]
    if missing:
        raise ExoError(
            f"marker {', '.join(missing[:6])} of the set {marker_set.name} is missing; "
            "label it or write a map without it"
        )
    up, axis = _up(markers, marker_set)
    _check_size(markers, up)
    feet = _unit(_horizontal(_feet(markers, marker_set), up))
    travel = _horizontal(_travel(markers, marker_set), up)
    moves = float(np.linalg.norm(travel)) > TRAVEL_M
    ahead = _unit(travel) if moves else feet
    if float(ahead @ feet) < 0.0:
        raise ExoError(
            "the feet point against the walk: heel and toe labels are exchanged or the person walks backwards"
        )
    rotation = np.array([ahead, up, np.cross(ahead, up)])
    markers = dataclasses.replace(markers, position=markers.position @ rotation.T)
    refuse_exchanged_sides(markers, marker_set)
    markers, mended = mend_exchanged(markers, marker_set)
    plates = tuple(
        ForcePlate(
            plate.rate_hz,
            plate.reaction @ rotation.T,
            plate.centre_of_pressure @ rotation.T,
            plate.free_moment @ rotation.T,
        )
        for plate in recording.plates
    )
    manner = "walks along" if moves else ON_THE_SPOT if walks(recording.markers, marker_set) else "stands facing"
    notes = (*recording.notes, f"the lab's {axis} is up", f"the person {manner} {_direction(ahead)}", *mended)
    return dataclasses.replace(recording, markers=markers, plates=plates, notes=notes)


def walks(markers: Markers, marker_set: MarkerSet) -> bool:
    """Whether the person takes steps, over ground or on a treadmill, in any frame."""
    pelvis = _pelvis(markers, marker_set)
    swings = []
    for side in ("L", "R"):
        heel = _centre(markers, marker_set.keypoints[f"{side}Heel"].midpoint) - pelvis
        seen = heel[np.isfinite(heel).all(axis=1)]
        swings.append(float(np.ptp(seen, axis=0).max()) if len(seen) else 0.0)
    return min(swings) > SWING_M


def _up(markers: Markers, marker_set: MarkerSet) -> tuple[FloatArray, str]:
    ankles = tuple(marker for side in ("L", "R") for marker in marker_set.keypoints[f"{side}Ankle"].midpoint)
    rise = _pelvis(markers, marker_set) - _centre(markers, ankles)
    if not np.isfinite(rise).any():
        raise ExoError("no frame shows the pelvis and both ankles together; fill the gaps before export")
    line = _unit(np.nanmean(rise, axis=0))
    index = int(np.argmax(np.abs(line)))
    if abs(line[index]) < UPRIGHT_COSINE:
        raise ExoError("the pelvis is not above the ankles along any axis of the lab; record a person standing upright")
    up = np.zeros(3)
    up[index] = np.sign(line[index])
    return up, ("-" if up[index] < 0 else "+") + "XYZ"[index]


def _check_size(markers: Markers, up: FloatArray) -> None:
    heights = markers.position @ up
    rows = np.isfinite(heights).any(axis=1)
    height = float(np.median(np.nanmax(heights[rows], axis=1) - np.nanmin(heights[rows], axis=1)))
    if not PERSON_M[0] <= height <= PERSON_M[1]:
        raise ExoError(
            f"the person is {height:.3g} m tall from the lowest to the highest marker; "
            "the file names the wrong unit of length (m and mm exchanged?): correct POINT:UNITS"
        )


def _feet(markers: Markers, marker_set: MarkerSet) -> FloatArray:
    """Mean direction from heels to toes, over both feet."""
    steps = [
        _centre(markers, marker_set.keypoints[f"{side}BigToe"].midpoint)
        - _centre(markers, marker_set.keypoints[f"{side}Heel"].midpoint)
        for side in ("L", "R")
    ]
    together = np.concatenate(steps)
    if not np.isfinite(together).any():
        raise ExoError("no frame shows heel and toe of a foot together; fill the gaps before export")
    return np.asarray(np.nanmean(together, axis=0))


def _travel(markers: Markers, marker_set: MarkerSet) -> FloatArray:
    """Way of the pelvis from the first to the last frame in which it is seen, m."""
    pelvis = _pelvis(markers, marker_set)
    seen = np.flatnonzero(np.isfinite(pelvis).all(axis=1))
    return np.asarray(pelvis[seen[-1]] - pelvis[seen[0]]) if len(seen) else np.zeros(3)


def _direction(ahead: FloatArray) -> str:
    index = int(np.argmax(np.abs(ahead)))
    axis = ("-" if ahead[index] < 0 else "+") + "XYZ"[index]
    angle = float(np.degrees(np.arccos(min(1.0, abs(ahead[index])))))
    return f"the lab's {axis} (within {angle:.0f} degrees)"


def _pelvis(markers: Markers, marker_set: MarkerSet) -> FloatArray:
    return _centre(markers, tuple(marker_set.pelvis.values()))


def _centre(markers: Markers, names: tuple[str, ...]) -> FloatArray:
    return np.asarray(np.mean([markers.position[:, markers.names.index(name)] for name in names], axis=0))


def _horizontal(vector: FloatArray, up: FloatArray) -> FloatArray:
    return np.asarray(vector - (vector @ up) * up)


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector))
