"""Virtual cameras on real gait: how well joint angles survive a pose estimator's errors, without a lab.

The motion of real wearers (benchmarks/real_gait.py) is filmed by virtual cameras with the
faults of a pose estimator, put through the capture and the keypoint solver as any recording
would be, and compared with the joint angles that made it. The generating model is never given:
the solver scales its own generic model to keypoints and height.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from real_gait import RealGait, walkers

from exo_capture.gait_events import find_events
from exo_capture.multicamera import reconstruct
from exo_capture.sagittal_reconstruction import reconstruct_sagittal
from exo_capture.synthetic import Noise, film, offset_keypoints, ring
from exo_capture.synthetic_walker import walker
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_twin.inverse.keypoint_model import JOINT_CENTRES, KeypointModel, keypoint_model
from exo_twin.inverse.keypoint_motion import KeypointMotion, solve_keypoints
from exo_twin.inverse.models import blazepose_model

FloatArray = NDArray[np.float64]

JOINTS = ("hip_flexion", "knee_angle", "ankle_angle")
# Azimuths, deg: the corners of a room; two cameras on one side, 70 degrees apart; one that sees the right side.
LAYOUTS: Mapping[str, tuple[float, ...]] = {
    "synth4": (45.0, 135.0, 225.0, 315.0),
    "synth2": (55.0, 125.0),
    "synth1": (90.0,),
}
OUTLIER_SHARE = 0.05
# Clocks: cameras of 60 Hz; a recorded walk allows offsets up to a share of its length, a made-up one the whole range.
SYNC_RATE_HZ, SYNC_RANGE_S, SYNC_SHARE = 60.0, 2.0, 0.4
SYNC_SEEDS, LONG_WALK_S = 2, 8.0
PROCESSES = 2


@dataclasses.dataclass(frozen=True)
class Case:
    """One wearer filmed once."""

    wearer: int
    seed: int
    layout: str
    outliers: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Root mean square error of each joint over both legs, deg; or why there is none."""

    case: Case
    rmse_deg: dict[str, float]
    bias_deg: dict[str, float]
    refusal: str = ""


_WALKERS: list[RealGait] = []
_MODEL: list[KeypointModel] = []


def measure(data: Path, seeds: Sequence[int], progress: Callable[[float], None] = lambda _: None) -> dict[str, float]:
    """Figures over all wearers in `data`: medians over wearers and seeds.

    Raises
    ------
    ExoError : if there is no wearer.
    """
    people = walkers(data)
    if not people:
        raise ExoError(f"{data} holds no recorded gait (walking_3d, gait_speeds); give the folder of the recordings")
    cases = [Case(w, s, layout) for w in range(len(people)) for s in seeds for layout in LAYOUTS]
    cases += [Case(w, s, "synth4", outliers=True) for w in range(len(people)) for s in seeds]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(PROCESSES, initializer=_prepare, initargs=(data,)) as pool:
        for done, outcome in enumerate(pool.map(_solve, cases, chunksize=4)):
            outcomes.append(outcome)
            progress((done + 1) / len(cases))
        sync = list(pool.map(_sync_error_frames, [(w, s) for w in range(len(people)) for s in range(SYNC_SEEDS)]))
        long_sync = list(pool.map(_long_sync_error_frames, seeds))
    figures: dict[str, float] = {"synth_wearers": len(people), "synth_refused": sum(bool(o.refusal) for o in outcomes)}
    for layout in LAYOUTS:
        own = [o for o in outcomes if o.case.layout == layout and not o.case.outliers and not o.refusal]
        for joint in JOINTS:
            figures[f"{layout}_{joint.split('_')[0]}_rmse_deg"] = median(o.rmse_deg[joint] for o in own)
            figures[f"{layout}_{joint.split('_')[0]}_bias_deg"] = median(o.bias_deg[joint] for o in own)
    clean = {(o.case.wearer, o.case.seed): o for o in outcomes if o.case.layout == "synth4" and not o.case.outliers}
    changes = [
        o.rmse_deg[joint] - clean[o.case.wearer, o.case.seed].rmse_deg[joint]
        for o in outcomes
        for joint in JOINTS
        if o.case.outliers and not o.refusal and not clean[o.case.wearer, o.case.seed].refusal
    ]
    figures["outlier_change_deg"] = median(changes)
    figures["sync_recorded_walk_error_frames"] = median(sync)
    figures["sync_long_walk_error_frames"] = median(long_sync)
    figures["sync_error_frames"] = max(median(sync), median(long_sync))
    figures["sync_error_frames_worst"] = max(*sync, *long_sync)
    return figures


def _prepare(data: Path) -> None:
    _WALKERS[:] = walkers(data)
    _MODEL[:] = [keypoint_model(blazepose_model(), JOINT_CENTRES)]


def _solve(case: Case) -> Outcome:
    person = _WALKERS[case.wearer]
    try:
        motion = film_and_solve(person, _MODEL[0], LAYOUTS[case.layout], case.wearer, case.seed, case.outliers)
    except ExoError as refusal:
        return Outcome(case, {}, {}, str(refusal))
    error = {
        name: np.degrees(motion.angles[name] - np.interp(motion.trajectory.time, person.time, person.coordinates[name]))
        for name in LEG_COORDINATES
    }
    both = {joint: np.concatenate([error[f"{joint}_l"], error[f"{joint}_r"]]) for joint in JOINTS}
    rmse = {joint: float(np.sqrt(np.mean(values**2))) for joint, values in both.items()}
    return Outcome(case, rmse, {joint: float(values.mean()) for joint, values in both.items()})


def film_and_solve(
    person: RealGait, model: KeypointModel, azimuths_deg: Sequence[float], wearer: int, seed: int, outliers: bool
) -> KeypointMotion:
    """The motion that the pipeline finds in a virtual recording of a real walk."""
    points = centred(offset_keypoints(person.keypoints, person.segment_rotation, seed=1000 * wearer + seed))
    cameras = ring(azimuths_deg)
    noise = Noise(outlier_share=OUTLIER_SHARE if outliers else 0.0)
    seen = film(points, person.time, cameras, noise, seed=1000 * wearer + seed)
    if len(cameras) == 1:
        landmarks = np.full((len(person.time), *points.shape[1:]), np.nan)
        landmarks[seen[0].frame] = seen[0].landmarks
        side = reconstruct_sagittal(landmarks, person.time, cameras[0].size, person.height, min_strides=0)
        strides = [dataclasses.asdict(stride) for stride in side.events.strides]
        return solve_keypoints(model, side.raw, person.height, strides, planar=True)
    found = reconstruct(seen, cameras, up=(0.0, 1.0, 0.0))
    strides = [dataclasses.asdict(stride) for stride in find_events(found.markers).strides]
    return solve_keypoints(model, found.raw, person.height, strides, np.nanmedian(found.covariance, axis=0))


def centred(points: FloatArray) -> FloatArray:
    """Points (n, 33, 3) moved over the floor so that the walk's middle is where the cameras look."""
    middle = np.nanmean(points[:, 23:25], axis=(0, 1))
    return np.asarray(points - np.array([middle[0], 0.0, middle[2]]))


def _sync_error_frames(case: tuple[int, int]) -> float:
    """Largest error of the clocks found for a wearer's walk, frames."""
    wearer, seed = case
    person = _WALKERS[wearer]
    points = centred(offset_keypoints(person.keypoints, person.segment_rotation, seed=1000 * wearer + seed))
    return sync_error(points, person.time, 1000 * wearer + seed, SYNC_SHARE * float(np.ptp(person.time)))


def _long_sync_error_frames(seed: int) -> float:
    """The same of a made-up walk that is long enough for any offset."""
    time = np.arange(0.0, LONG_WALK_S, 1.0 / SYNC_RATE_HZ)
    return sync_error(centred(walker(time, speed=0.4)), time, seed, SYNC_RANGE_S)


def sync_error(points: FloatArray, time: FloatArray, seed: int, longest_s: float) -> float:
    """Largest error of the clocks found for four cameras that started up to `longest_s` apart, frames."""
    cameras = ring(LAYOUTS["synth4"])
    starts = np.array([0.0, *np.random.default_rng(seed).uniform(-longest_s, longest_s, len(cameras) - 1)])
    seen = film(points, time, cameras, Noise(), seed, starts, [SYNC_RATE_HZ] * len(cameras))
    found = reconstruct(seen, cameras, synchronise=True, up=(0.0, 1.0, 0.0))
    offsets = np.array([found.offsets_s[camera.name] for camera in cameras])
    return float(np.abs((offsets - offsets[0]) - (starts - starts[0])).max() * SYNC_RATE_HZ)
