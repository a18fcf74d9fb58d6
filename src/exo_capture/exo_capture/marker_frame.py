"""From the lab's frame to OpenSim's: up is +y, the walk (or, standing, the gaze) is along +x; labels checked on the way."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_files import ForcePlate, Recording
from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

PERSON_M = (0.7, 2.6)  # from the lowest to the highest marker of a standing or walking person
UPRIGHT_COSINE = 0.9  # between the ankles-to-pelvis line and the nearest axis of the lab
WALK_M = 0.5  # a pelvis that travels less stands
AGREE_COSINE = 0.5  # below it two estimates of the direction contradict each other


def to_opensim(recording: Recording, marker_set: MarkerSet) -> Recording:
    """Turn a recording into OpenSim's frame, m; its notes say what was found.

    Up is the lab axis nearest to the line from the ankles to the pelvis. Ahead is
    where the pelvis travels or, if it travels less than 0.5 m, where the feet point.

    Raises
    ------
    ExoError : for wrong units, nobody upright, or left and right labels exchanged.
    """
    at = {name: recording.markers.position[:, i] for i, name in enumerate(recording.markers.names)}
    missing = [name for name in marker_set.used() if name not in at]
    if missing:
        raise ExoError(f"marker {', '.join(missing[:6])} of the set {marker_set.name} is missing; label it")
    up, axis = _up(at, marker_set)
    _check_size(recording.markers, up)
    pelvis = _centre(at, tuple(marker_set.pelvis.values()))
    feet = _horizontal(_feet(at, marker_set), up)
    travel = _horizontal(_travel(pelvis), up)
    walks = float(np.linalg.norm(travel)) > WALK_M
    ahead = _unit(travel) if walks else _unit(feet)
    right = np.cross(ahead, up)
    _check_labels(at, marker_set, _unit(feet), np.cross(_unit(feet), up))
    rotation = np.array([ahead, up, right])
    notes = [f"the lab's {axis} is up", _walk_note(ahead, walks)]
    if walks and float(ahead @ _unit(feet)) < -AGREE_COSINE:
        notes.append("the person walks backwards")
    markers = dataclasses.replace(recording.markers, position=recording.markers.position @ rotation.T)
    plates = tuple(
        ForcePlate(
            plate.rate_hz,
            plate.reaction @ rotation.T,
            plate.centre_of_pressure @ rotation.T,
            plate.free_moment @ rotation.T,
        )
        for plate in recording.plates
    )
    return dataclasses.replace(recording, markers=markers, plates=plates, notes=(*recording.notes, *notes))


def travels(markers: Markers, marker_set: MarkerSet) -> bool:
    """Whether the person walks rather than stands (any frame of reference)."""
    at = {name: markers.position[:, i] for i, name in enumerate(markers.names)}
    return bool(np.linalg.norm(_travel(_centre(at, tuple(marker_set.pelvis.values())))) > WALK_M)


def _up(at: dict[str, FloatArray], marker_set: MarkerSet) -> tuple[FloatArray, str]:
    ankles = [marker for name in ("LAnkle", "RAnkle") for marker in marker_set.keypoints[name].midpoint]
    rise = np.nanmean(_centre(at, tuple(marker_set.pelvis.values())) - _centre(at, tuple(ankles)), axis=0)
    if not np.isfinite(rise).all():
        raise ExoError("no frame shows the pelvis and both ankles together; fill the gaps before export")
    rise = _unit(rise)
    index = int(np.argmax(np.abs(rise)))
    if abs(rise[index]) < UPRIGHT_COSINE:
        raise ExoError("the pelvis is not above the ankles along any axis of the lab; record a person standing upright")
    up = np.zeros(3)
    up[index] = np.sign(rise[index])
    return up, ("-" if up[index] < 0 else "") + "XYZ"[index]


def _check_size(markers: Markers, up: FloatArray) -> None:
    height = float(np.nanmedian(np.ptp(_filled(markers.position @ up), axis=1)))
    if not PERSON_M[0] <= height <= PERSON_M[1]:
        raise ExoError(
            f"the markers span {height:.3g} m from the lowest to the highest, no person does; "
            "the file's length unit is wrong (mm and m exchanged?)"
        )


def _filled(heights: FloatArray) -> FloatArray:
    """Gaps (n, k) take the frame's median, so that they do not widen its span."""
    return np.where(np.isfinite(heights), heights, np.nanmedian(heights, axis=1, keepdims=True))


def _feet(at: dict[str, FloatArray], marker_set: MarkerSet) -> FloatArray:
    """Mean direction from heels to toes."""
    toes = [m for side in ("L", "R") for m in marker_set.keypoints[f"{side}BigToe"].midpoint]
    heels = [m for side in ("L", "R") for m in marker_set.keypoints[f"{side}Heel"].midpoint]
    return np.asarray(np.nanmean(_centre(at, tuple(toes)) - _centre(at, tuple(heels)), axis=0))


def _check_labels(at: dict[str, FloatArray], marker_set: MarkerSet, ahead: FloatArray, right: FloatArray) -> None:
    """Left and right of pelvis and legs, against the side that the feet's direction gives them."""
    pairs = {"pelvis": ((marker_set.pelvis["asis_l"],), (marker_set.pelvis["asis_r"],))}
    for joint in ("Knee", "Ankle", "Heel", "Shoulder"):
        left, right_rule = (marker_set.keypoints.get(f"{side}{joint}") for side in ("L", "R"))
        if left and right_rule and all(name in at for name in (*left.midpoint, *right_rule.midpoint)):
            pairs[joint.lower()] = (left.midpoint, right_rule.midpoint)
    exchanged = [
        part
        for part, (left_names, right_names) in pairs.items()
        if float(np.nanmean((_centre(at, right_names) - _centre(at, left_names)) @ right)) < 0.0
    ]
    if exchanged:
        what = "all markers" if len(exchanged) == len(pairs) else ", ".join(exchanged)
        raise ExoError(f"left and right are exchanged at {what} (the feet tell ahead from behind); relabel the markers")


def _walk_note(ahead: FloatArray, walks: bool) -> str:
    index = int(np.argmax(np.abs(ahead)))
    axis = ("-" if ahead[index] < 0 else "+") + "XYZ"[index]
    angle = float(np.degrees(np.arccos(min(1.0, abs(ahead[index])))))
    return f"the person {'walks along' if walks else 'stands facing'} the lab's {axis} (within {angle:.0f} degrees)"


def _travel(pelvis: FloatArray) -> FloatArray:
    seen = np.flatnonzero(np.isfinite(pelvis).all(axis=1))
    return np.asarray(pelvis[seen[-1]] - pelvis[seen[0]]) if len(seen) else np.zeros(3)


def _centre(at: dict[str, FloatArray], names: tuple[str, ...]) -> FloatArray:
    return np.asarray(np.mean([at[name] for name in names], axis=0))


def _horizontal(vector: FloatArray, up: FloatArray) -> FloatArray:
    return np.asarray(vector - (vector @ up) * up)


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.linalg.norm(vector))
