"""Shared by the marker tests: a made-up person with the 52-marker set, walking or standing, and C3D files of it."""

from pathlib import Path

import ezc3d
import numpy as np

from exo_capture.marker_set import MarkerSet
from exo_common.opensim_files import Markers

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
SET = MarkerSet.load("gait_speeds_52")
RATE = 100.0
SPEED, STRIDE = 1.2, 1.1  # m/s, s
# Origins of the right side's bodies of a person of 1.75 m standing at x = z = 0, m.
ORIGINS = {
    "pelvis": (0.0, 0.93, 0.0),
    "torso": (-0.10, 1.01, 0.0),
    "femur": (-0.06, 0.85, 0.08),
    "tibia": (-0.06, 0.44, 0.08),
    "calcn": (-0.11, 0.0, 0.08),
    "humerus": (-0.10, 1.38, 0.17),
    "ulna": (-0.08, 1.10, 0.16),
    "radius": (-0.09, 1.08, 0.19),
    "hand": (-0.10, 0.85, 0.20),
}
# Places of landmarks that the map does not locate: right side, m from the body's origin.
UNLOCATED = {
    "FTC": (0.0, 0.0, 0.08),
    "FAX": (-0.03, -0.05, 0.05),
    "TTC": (0.04, -0.06, 0.0),
    "FM1": (0.18, 0.02, -0.03),
    "TV10": (-0.10, 0.20, 0.0),
    "SXS": (0.08, 0.21, 0.0),
    "SAA": (-0.05, 0.40, 0.15),
    "SRS": (-0.10, 0.37, 0.08),
    "SIA": (-0.12, 0.25, 0.10),
    "UOA": (-0.02, 0.0, 0.0),
    "HM2": (0.02, -0.07, 0.02),
    "HM5": (0.0, -0.07, -0.03),
}


def stance() -> Markers:
    """One frame, facing +x in OpenSim's frame."""
    position = np.empty((1, len(SET.markers), 3))
    for i, (name, place) in enumerate(SET.markers.items()):
        side = SET.side_of(name)
        mirror = np.array([1.0, 1.0, -1.0 if side == "l" else 1.0])
        stem = place.body[:-2] if place.body[-2:] in ("_l", "_r") else place.body
        offset = (
            place.location
            if place.location is not None
            else mirror * UNLOCATED[name.removeprefix("L_").removeprefix("R_")]
        )
        position[0, i] = mirror * ORIGINS[stem] + offset
    return Markers(np.zeros(1), tuple(SET.markers), position)


def walk(duration: float = 3.0) -> Markers:
    """Walking along +x: the legs swing to and fro like pendulums under the hips, right heel ahead at 0.3 s."""
    time = np.arange(0.0, duration, 1.0 / RATE)
    still = stance()
    position = np.repeat(still.position, len(time), axis=0)
    position[..., 0] += SPEED * time[:, None]
    for i, name in enumerate(still.names):
        body = SET.markers[name].body
        if body.startswith(("femur", "tibia", "calcn")):
            below = (0.85 - still.position[0, i, 1]) / 0.85
            start = 0.3 if body.endswith("_r") else 0.3 + STRIDE / 2.0
            position[:, i, 0] += 0.3 * below * np.cos(2.0 * np.pi * (time - start) / STRIDE)
    return Markers(time, still.names, position)


def write_c3d(path: Path, markers: Markers, units: str = "mm", scale: float = 1e3, **groups) -> Path:
    """Markers as a C3D file; `groups` maps GROUP to {PARAMETER: value}, and ANALOG_DATA to (channels, samples)."""
    content = ezc3d.c3d()
    content["parameters"]["POINT"]["RATE"]["value"] = [RATE]
    content["parameters"]["POINT"]["LABELS"]["value"] = list(markers.names)
    content["parameters"]["POINT"]["UNITS"]["value"] = [units]
    points = np.ones((4, len(markers.names), len(markers.time)))
    points[:3] = scale * markers.position.transpose(2, 1, 0)
    residuals = np.zeros((1, len(markers.names), len(markers.time)))
    residuals[0][np.isnan(points[0])] = -1.0
    points[:3][np.isnan(points[:3])] = 0.0
    content["data"]["points"] = points
    content["data"]["meta_points"]["residuals"] = residuals
    analog = groups.pop("ANALOG_DATA", None)
    if analog is not None:
        content["data"]["analogs"] = analog[None]
    for group, values in groups.items():
        for name, value in values.items():
            content.add_parameter(group, name, value)
    content.write(str(path))
    return path
