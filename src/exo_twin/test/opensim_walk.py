"""Shared by the OpenSim tests: keypoints of a known body in a known motion, made with the generic model."""

import dataclasses
from pathlib import Path

import numpy as np

from exo_common.opensim_files import Markers
from exo_twin.forward.compiler.skeleton import set_pose
from exo_twin.inverse.models import GenericModel, blazepose_model
from exo_twin.inverse.scaling import ARMS_DOWN
from exo_twin.opensim_runtime import opensim

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
STRIDE = 1.0  # s
SPEED = 1.2  # m/s
TOE_OFF = 0.62
BODY_SCALE = 0.93
SEGMENTS = {
    "trunk": (
        (("LHip+RHip", "LShoulder+RShoulder"),),
        ("torso", "lumbar1", "lumbar2", "lumbar3", "lumbar4", "lumbar5"),
    ),
    "thigh": ((("LHip", "LKnee"), ("RHip", "RKnee")), ("femur", "patella")),
    "shank": ((("LKnee", "LAnkle"), ("RKnee", "RAnkle")), ("tibia",)),
    "foot": ((("LHeel", "LBigToe"), ("RHeel", "RBigToe")), ("talus", "calcn", "toes")),
}


def generic_model() -> GenericModel:
    """The generic model with keypoints as if they were markers, to be scaled by their distances."""
    return dataclasses.replace(blazepose_model(), segments=SEGMENTS)


def true_pose(t: float) -> dict[str, float]:
    """Pelvis and leg coordinates of the known walk, rad and m: right heel strike at 0 s, left half a stride later."""
    pose = {
        "pelvis_tx": SPEED * t / BODY_SCALE,
        "pelvis_ty": 0.94,
        "pelvis_tilt": 0.03 * np.sin(4 * np.pi * t / STRIDE),
    }
    for side, start in (("r", 0.0), ("l", 0.5)):
        phase = 2.0 * np.pi * (t / STRIDE - start)
        pose[f"hip_flexion_{side}"] = 0.15 + 0.4 * np.cos(phase)
        pose[f"knee_angle_{side}"] = 0.5 + 0.3 * np.cos(phase + 1.5) + 0.15 * np.cos(2.0 * phase)
        pose[f"ankle_angle_{side}"] = 0.2 * np.sin(phase)
    return pose


def walk_keypoints(duration: float = 2.1, rate: float = 30.0, thigh_stretch: float = 1.0) -> Markers:
    """BlazePose keypoints of a body 0.93 times the generic one, its thighs stretched further, walking along +x."""
    generic = blazepose_model()
    opensim.Logger.setLevelString("Error")
    model = opensim.Model(str(generic.model))
    model.updateMarkerSet(opensim.MarkerSet(str(generic.markers)))
    state = model.initSystem()
    marker_set = model.getMarkerSet()
    names = tuple(marker_set.get(i).getName() for i in range(marker_set.getSize()))
    time = np.arange(0.0, duration, 1.0 / rate)
    position = np.empty((len(time), len(names), 3))
    for row, t in zip(position, time, strict=True):
        set_pose(model, state, {**true_pose(float(t)), **ARMS_DOWN})
        for i in range(len(names)):
            place = marker_set.get(i).getLocationInGround(state)
            row[i] = [place.get(axis) for axis in range(3)]
        _stretch_thighs(row, names, thigh_stretch)
    return Markers(time, names, BODY_SCALE * position)


def _stretch_thighs(row: np.ndarray, names: tuple[str, ...], stretch: float) -> None:
    for side in ("L", "R"):
        hip, knee = row[names.index(f"{side}Hip")], row[names.index(f"{side}Knee")]
        shift = (stretch - 1.0) * (knee - hip)
        for joint in ("Knee", "Ankle", "Heel", "BigToe"):
            row[names.index(f"{side}{joint}")] += shift


def true_strides(duration: float = 2.1) -> list[dict[str, float | str]]:
    """Complete strides of the known walk."""
    found: list[dict[str, float | str]] = []
    for side, first in (("right", 0.0), ("left", 0.5)):
        start = first
        while start + STRIDE <= duration:
            found.append({"side": side, "start": start, "toe_off": start + TOE_OFF * STRIDE, "end": start + STRIDE})
            start += STRIDE
    return found
