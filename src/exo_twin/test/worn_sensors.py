"""A walker of three bodies with sensors on, for tests of their calibration; made without opensim."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jointed_bodies import STILL, place
from scipy.spatial.transform import Rotation

from exo_common.artefact import writing
from exo_common.opensim_files import Storage, write_storage
from exo_safety.envelope import Envelope
from exo_twin.calibration import SEGMENTS
from exo_twin.inverse.kinematic_tree import GROUND, Drive, Joint, KinematicTree
from exo_twin.inverse.tree_file import tree_arrays
from exo_twin.inverse.virtual_imus import Wear, wear
from exo_twin.inverse.wearable_recording import WearableRecording
from exo_twin.inverse.wearable_reference import ReferenceStride, reference_from_motion

COORDINATES = (
    "pelvis_tilt", "pelvis_list", "pelvis_rotation", "pelvis_tx", "pelvis_ty", "pelvis_tz",
    "hip_flexion_l", "hip_adduction_l", "hip_rotation_l", "hip_flexion_r", "hip_adduction_r", "hip_rotation_r",
)  # fmt: skip
STRIDE_S = 1.1
SPEED = 1.2
TIME = np.arange(0.0, 1.5, 0.01)
ZERO = (0.12, -0.2)
# (mean, then cosine and sine of the first harmonics of the left leg's stride), degrees, of healthy adults, rounded.
DEGREES = {
    "pelvis_tilt": (-8.0, (0.0, 0.0), (1.0, 0.5)),
    "pelvis_list": (0.0, (2.0, 3.0), (0.5, -1.0)),
    "pelvis_rotation": (0.0, (-4.0, 1.5), (0.0, 0.5)),
    "hip_flexion": (10.0, (20.0, -3.0), (-3.5, 1.5)),
    "hip_adduction": (0.0, (2.0, 5.0), (1.0, -2.0)),
    "hip_rotation": (-4.0, (1.0, 3.0), (2.0, 0.0)),
}


def tree() -> KinematicTree:
    """Pelvis and femurs with OpenSim's names, axes and signs."""
    turns = np.eye(3)[[2, 0, 1]]

    def hip(first: int, side: float) -> Joint:
        axes = np.vstack([turns * np.array([1.0, side, side])[:, None], np.eye(3)])
        drives = (*[Drive(first + i, 1.0, 0.0) for i in range(3)], *[STILL] * 3)
        return Joint(0, place(-0.07, -0.07, 0.08 * side), place(), axes, drives)

    free = Joint(GROUND, place(), place(), np.vstack([turns, np.eye(3)]), tuple(Drive(i, 1.0, 0.0) for i in range(6)))
    n = len(COORDINATES)
    return KinematicTree(
        ("pelvis", "femur_l", "femur_r"), (free, hip(6, -1.0), hip(9, 1.0)), COORDINATES,
        np.zeros(n), np.full(n, -1.5), np.full(n, 1.5), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool),
        (), np.zeros(0, dtype=np.int64), np.zeros((0, 3)),
    )  # fmt: skip


def motion() -> np.ndarray:
    """(n, 12) coordinates at TIME, rad and m: somewhat asymmetric, walking along x and somewhat to the left."""
    q = np.zeros((len(TIME), len(COORDINATES)))
    phase = TIME / STRIDE_S
    for i, name in enumerate(COORDINATES):
        if name.startswith("pelvis_t") and name != "pelvis_tilt":
            continue
        own = phase + (0.5 if name.endswith("_r") else 0.0)
        mean, *waves = DEGREES[name.removesuffix("_l").removesuffix("_r")]
        degrees = mean + sum(
            c * np.cos(2 * np.pi * k * own) + s * np.sin(2 * np.pi * k * own) for k, (c, s) in enumerate(waves, 1)
        )
        q[:, i] = np.deg2rad(degrees * (0.9 if name.endswith("_r") else 1.0))
    q[:, 3] = SPEED * TIME + 0.02 * np.sin(4 * np.pi * phase)
    q[:, 4] = 0.9 + 0.02 * np.cos(4 * np.pi * phase)
    q[:, 5] = -0.2 * TIME + 0.02 * np.sin(2 * np.pi * phase)
    return q


def reference() -> ReferenceStride:
    """Of the walker's own motion."""
    return reference_from_motion(tree(), TIME, motion(), [(0.1, 0.1 + STRIDE_S)])


def mountings(seed: int, slip_deg: float = 30.0) -> dict[str, np.ndarray]:
    """Sensors slipped about every axis."""
    slip = np.random.default_rng(seed).uniform(-slip_deg, slip_deg, (3, 3))
    return dict(zip(SEGMENTS, Rotation.from_euler("xyz", slip, degrees=True).as_matrix(), strict=True))


def recorded(seed: int = 1, **changed: object) -> tuple[WearableRecording, dict[str, np.ndarray]]:
    """Standing and walking, as sensors on the walker see it, and how they are truly mounted."""
    how = dataclasses.replace(Wear(mountings(seed), zero=ZERO), **changed)  # type: ignore[arg-type]
    standing = np.zeros(len(COORDINATES))
    standing[4] = 0.92
    rng = np.random.default_rng((seed, 1))
    return wear(tree(), TIME, motion(), (0.1, 0.1 + STRIDE_S), standing, how, rng), dict(how.mounting)


def planar_motion() -> np.ndarray:
    """(n, 12) coordinates at TIME of the virtual wearer that `synthetic_twin` describes, who moves in a plane."""
    from synthetic_twin import gait

    q = np.zeros((len(TIME), len(COORDINATES)))
    phase = (TIME - 0.1) / STRIDE_S
    for side, offset in (("l", 0.0), ("r", 0.5)):
        curve = gait().curves[f"hip_flexion_{side}"]
        q[:, COORDINATES.index(f"hip_flexion_{side}")] = np.interp(
            np.mod(phase + offset, 1.0), np.linspace(0, 1, len(curve)), curve
        )
    q[:, 3] = SPEED * TIME
    return q


def write_twin(folder: Path, q: np.ndarray | None = None) -> Path:
    """A twin with what a calibration of the wearables reads, and the virtual device, too."""
    from synthetic_twin import ENVELOPE, gait, walker_xml

    with writing(folder, "twin", "w01", {}, []) as scratch:
        strides = [{"side": "l", "start": 0.1, "toe_off": 0.8, "end": 0.1 + STRIDE_S}]
        dataclasses.replace(gait(), strides=strides).save(scratch / "gait.yaml")
        np.savez(scratch / "model.npz", **tree_arrays(tree()))
        Envelope("w01", ENVELOPE, ENVELOPE, "made up").save(scratch / "envelope.yaml")
        write_storage(scratch / "coordinates.mot", Storage(TIME, COORDINATES, motion() if q is None else q, False))
        (scratch / "walker.xml").write_text(walker_xml(), encoding="utf-8")
    return folder
