"""Real walkers for the benches: joint angles and keypoints, from marker recordings, as the truth to be found again.

Every wearer's model is posed in the wearer's own motion, so that keypoints, body
orientations and joint angles agree exactly; what a virtual camera adds is then the only error.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture import filtering, marker_capture, marker_files, marker_frame, marker_labels
from exo_capture import marker_set as marker_sets
from exo_capture.landmarks import ANKLES, EYES, HEELS, HIPS, KNEES, NOSE, SHOULDERS, TOES
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Storage, read_storage
from exo_twin.forward.compiler.skeleton import set_pose
from exo_twin.inverse import fit as fits
from exo_twin.inverse import kinematics, marker_ik, pose_solver, refinement, scaling, tree_from_opensim, tree_motion
from exo_twin.inverse import marker_model as marker_models
from exo_twin.inverse.fit import fit_markers
from exo_twin.inverse.marker_model import body_pose, pose_at
from exo_twin.inverse.models import load_model
from exo_twin.opensim_runtime import logging_to

FloatArray = NDArray[np.float64]

SLOTS = 33
COORDINATES = (*LEG_COORDINATES, "pelvis_tilt", "lumbar_extension")
RATE_HZ = 100.0  # to which the denser published motion is thinned
CUTOFF_HZ = 10.0  # of the joint angles: above it lies the markers' noise (0.2 degrees), not walking
PROCESSES = 2
# Body-fixed points, m, at the size of LaiUhlrich2022; side +1 right, -1 left mirrors the last number.
# The head is part of the torso there. The big toe's tip lies on the ground line before and inside of the toes' joint.
HEAD = {
    (NOSE,): (0.100, 0.560, 0.0),
    (1, 4): (0.085, 0.600, 0.020),
    EYES: (0.085, 0.600, 0.032),
    (3, 6): (0.080, 0.600, 0.045),
    (7, 8): (0.0, 0.580, 0.075),
    (9, 10): (0.095, 0.520, 0.020),
}
HEEL, TOE_TIP = (-0.025, 0.025, -0.005), (0.065, 0.005, -0.020)
# Length of the generic body that such points are scaled by: torso to shoulder joint, heel to toes' joint.
GENERIC_TORSO, GENERIC_FOOT = 0.372, 0.179
LEGS = ("pelvis", "femur", "tibia", "calcn")
# Joint centres: slots (left, right), body whose origin it is, body that carries it.
JOINTS = (
    (SHOULDERS, "humerus", "torso"),
    ((13, 14), "ulna", "humerus"),
    ((15, 16), "hand", "radius"),
    (HIPS, "femur", "pelvis"),
    (KNEES, "tibia", "femur"),
    (ANKLES, "talus", "tibia"),
)


@dataclasses.dataclass(frozen=True)
class RealGait:
    """One walker's motion as truth, walking along +x in OpenSim's frame, low-passed at 10 Hz.

    Leg coordinates may exceed the generic model's range: limits would bend the truth.


    Attributes
    ----------
    wearer : id. height, mass : m, kg.
    time : (n,) s.
    coordinates : COORDINATES -> (n,) rad, of the generating model, OpenSim's signs (flexion positive).
    keypoints : (n, 33, 3) m, BlazePose slots; hands are NaN.
    segment_rotation : (n, 33, 3, 3) body to ground, of the body each keypoint is fixed to.
    marker_rms_mm : of pelvis and leg markers after inverse kinematics; NaN where the motion came ready-made.
    """

    wearer: str
    height: float
    mass: float
    time: FloatArray
    coordinates: dict[str, FloatArray]
    keypoints: FloatArray
    segment_rotation: FloatArray
    marker_rms_mm: float


def walkers(data: Path) -> list[RealGait]:
    """Every walker under `data`: walking_3d and each folder of gait_speeds at the comfortable speed.

    Solving takes about ten seconds a walker, once: results are cached in `.exo/cache` under a hash of inputs and code.

    Raises
    ------
    ExoError : if the folder holds no walker. A walker whose recording cannot be used is left out and named on stderr.
    """
    jobs = []
    if (data / "walking_3d" / "coordinates.sto").is_file():
        jobs.append(data / "walking_3d")
    jobs += sorted(folder for folder in (data / "gait_speeds").glob("*") if any(folder.glob("*_C4_*.c3d")))
    if not jobs:
        raise ExoError(f"{data} holds neither walking_3d nor gait_speeds; give the folder of the reference recordings")
    generic = data / "models" / "LaiUhlrich2022.osim"
    if not generic.is_file():
        # The solver's own generic model must not make the truth, too.
        raise ExoError(f"{generic} is missing; it makes the reference motion, so put LaiUhlrich2022 there")
    caches = [_cache(folder, generic) for folder in jobs]
    new = [(folder, generic, cache) for folder, cache in zip(jobs, caches, strict=True) if not cache.is_file()]
    if new:
        with ProcessPoolExecutor(PROCESSES) as pool:
            for (folder, _, _), failure in zip(new, pool.map(_solve, *zip(*new, strict=True)), strict=True):
                if failure:
                    print(f"{folder.name} is left out: {failure}", file=sys.stderr)
    return [_load(cache) for cache in caches if cache.is_file()]


def _solve(folder: Path, generic: Path, cache: Path) -> str:
    """Write one walker's result to its cache; returns why not, or nothing."""
    try:
        found = _walking_3d(folder) if folder.name == "walking_3d" else _gait_speeds(folder, generic)
    except ExoError as error:
        return str(error)
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(f".{os.getpid()}.npz")
    plain: dict[str, Any] = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    plain |= plain.pop("coordinates")
    np.savez_compressed(partial, **plain)
    partial.replace(cache)
    return ""


def _load(path: Path) -> RealGait:
    with np.load(path, allow_pickle=False) as stored:
        return RealGait(
            str(stored["wearer"]),
            float(stored["height"]),
            float(stored["mass"]),
            stored["time"],
            {name: stored[name] for name in COORDINATES},
            stored["keypoints"],
            stored["segment_rotation"],
            float(stored["marker_rms_mm"]),
        )


def _cache(folder: Path, generic: Path) -> Path:
    """File of a walker's result, named by a hash of the inputs and of the code that makes it."""
    modules = (
        filtering,
        marker_capture,
        marker_files,
        marker_frame,
        marker_labels,
        marker_sets,
        fits,
        kinematics,
        marker_ik,
        marker_models,
        pose_solver,
        refinement,
        scaling,
        tree_from_opensim,
        tree_motion,
    )
    code = [Path(module.__file__ or "") for module in modules]
    inputs = [path for path in sorted(folder.iterdir()) if path.suffix in (".c3d", ".osim", ".sto")]
    maps = sorted(marker_sets.FOLDER.glob("*.yaml"))
    digest = hashlib.sha256(folder.name.encode())
    for path in (Path(__file__), *code, *maps, generic, *inputs):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Path(os.environ["EXO_HOME"]) / "cache" / "real_gait" / f"{digest.hexdigest()[:24]}.npz"


def _walking_3d(folder: Path) -> RealGait:
    """opensim-core's example3DWalking as published: its own model, coordinates after residual reduction."""
    table = read_storage(folder / "coordinates.sto")
    names = tuple(name.split("/")[-2] if name.endswith("/value") else name for name in table.columns)
    step = max(1, round(1.0 / RATE_HZ / float(np.median(np.diff(table.time)))))
    motion = Storage(table.time[::step], names, table.values[::step], table.in_degrees)
    with tempfile.TemporaryDirectory() as scratch, logging_to(Path(scratch) / "opensim.log"):
        model = load_model(folder / "subject_walk_scaled.osim")
        state = model.initSystem()
        mass = float(model.getTotalMass(state))
        height = float(model.getMarkerSet().get("Head").getLocationInGround(state).get(1)) - float(
            model.getMarkerSet().get("R.HeelGround").getLocationInGround(state).get(1)
        )
        return _posed(folder.name, height, mass, model, state, motion, float("nan"))


def _gait_speeds(folder: Path, generic: Path) -> RealGait:
    static, trial = sorted(folder.glob("*_ST.c3d")), sorted(folder.glob("*_C4_*.c3d"))
    if not static:
        raise ExoError(f"{folder} has no static trial (*_ST.c3d); copy it beside the walks")
    capture = marker_capture.capture_markers(trial[0], static[0])
    height, mass = capture.subject.height, capture.subject.mass
    if height is None or mass is None or capture.static is None:
        raise ExoError(f"{folder} does not say the subject's height and mass; add them to the C3D's SUBJECT group")
    with tempfile.TemporaryDirectory() as scratch, logging_to(Path(scratch) / "opensim.log"):
        work = Path(scratch)
        fit = fit_markers(
            capture.markers, capture.static, capture.marker_set, height, mass, work, generic=generic, clamped=False
        )
        model = load_model(fit.scaling.model)
        state = model.initSystem()
        rms = 1e3 * _legs_rms(fit.kinematics.marker_error, capture.marker_set)
        return _posed(folder.name, height, mass, model, state, fit.kinematics.coordinates, rms)


def _legs_rms(errors: Mapping[str, float], marker_set: marker_sets.MarkerSet) -> float:
    """RMS over the markers of pelvis and legs that take part, m."""
    places = marker_set.markers
    chosen = [errors[name] for name in errors if places[name].body.startswith(LEGS) and places[name].weight > 0.0]
    return float(np.sqrt(np.mean(np.square(chosen))))


def _posed(wearer: str, height: float, mass: float, model: Any, state: Any, motion: Storage, rms: float) -> RealGait:
    """Keypoints and body orientations of the model in every frame of the motion."""
    rate = 1.0 / float(np.median(np.diff(motion.time)))
    motion = dataclasses.replace(motion, values=filtering.smooth(motion.values, rate, CUTOFF_HZ))
    bodies = {body.getName(): body for body in model.getBodySet()}
    offsets = _body_points(model, state, bodies)
    keypoints = np.full((len(motion.time), SLOTS, 3), np.nan)
    rotations = np.full((len(motion.time), SLOTS, 3, 3), np.nan)
    coordinates = np.empty((len(motion.time), len(COORDINATES)))
    for row in range(len(motion.time)):
        pose = pose_at(model, motion, row)
        set_pose(model, state, pose)
        coordinates[row] = [pose[name] for name in COORDINATES]
        place = {name: body_pose(body, state) for name, body in bodies.items()}
        for slots, origin, carrier in JOINTS:
            for slot, side in zip(slots, ("l", "r"), strict=True):
                body = carrier if carrier in place else f"{carrier}_{side}"
                keypoints[row, slot] = place[f"{origin}_{side}"][1]
                rotations[row, slot] = place[body][0]
        for slot, (body, offset) in offsets.items():
            rotation, position = place[body]
            keypoints[row, slot] = position + rotation @ offset
            rotations[row, slot] = rotation
    return RealGait(
        wearer,
        height,
        mass,
        motion.time,
        dict(zip(COORDINATES, coordinates.T, strict=True)),
        keypoints,
        rotations,
        rms,
    )


def _body_points(model: Any, state: Any, bodies: dict[str, Any]) -> dict[int, tuple[str, FloatArray]]:
    """Slot -> (body, offset in it, m) of the keypoints that are no joint centres, at this wearer's size."""
    set_pose(model, state, {})
    origin = {name: body_pose(body, state)[1] for name, body in bodies.items()}
    torso = float(origin["humerus_r"][1] - origin["torso"][1]) / GENERIC_TORSO
    foot = float(np.linalg.norm(origin["toes_r"] - origin["calcn_r"])) / GENERIC_FOOT
    points = {}
    for slots, offset in HEAD.items():
        for slot, sign in zip(slots, (-1.0, 1.0), strict=False):
            points[slot] = ("torso", torso * np.array(offset) * (1.0, 1.0, sign))
    for slots, body, offset in ((HEELS, "calcn", HEEL), (TOES, "toes", TOE_TIP)):
        for slot, side, sign in zip(slots, ("l", "r"), (-1.0, 1.0), strict=True):
            points[slot] = (f"{body}_{side}", foot * np.array(offset) * (1.0, 1.0, sign))
    return points


def main() -> int:
    """Print the walkers found under a data folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    for walker in walkers(parser.parse_args().data):
        rom = {name: np.degrees(np.ptp(walker.coordinates[name])) for name in LEG_COORDINATES}
        print(
            f"{walker.wearer}: {walker.height:.2f} m, {walker.mass:.1f} kg, {len(walker.time)} frames, "
            f"marker RMS {walker.marker_rms_mm:.1f} mm, ROM "
            + ", ".join(f"{name} {value:.0f}" for name, value in rom.items())
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
