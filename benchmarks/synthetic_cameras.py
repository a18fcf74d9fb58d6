"""Virtual cameras on real gait: how well joint angles survive a pose estimator's errors, without a lab.

The motion of real wearers (benchmarks/real_gait.py) is filmed by virtual cameras with the
faults of a pose estimator, put through the capture and the keypoint solver as any recording
would be, and compared with the joint angles that made it. The generating model is never given:
the solver scales its own generic model, another of the same family, to keypoints and height.

Two things are easier here than in life. The solver assumes the very errors that the
virtual estimator makes (drift, jitter, misplacement); `synth4_other_noise` shows another kind: quicker drift, more
jitter, keypoints further off. And the mean lean of the trunk, by which the solver tells the pelvis, was taken
from these wearers, so the hip's mean bias is in-sample; its spread is not.
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
OUTLIER_SHARE, OFFSETS_M = 0.05, (0.01, 0.02)
OTHER_NOISE, OTHER_OFFSETS_M, OTHER_SEEDS = Noise(drift_s=0.2, white_px=10.0), (0.01, 0.03), 2
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
    other_noise: bool = False

    @property
    def special(self) -> bool:
        """Not one of the plain cases."""
        return self.outliers or self.other_noise


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
    everybody = range(len(people))
    cases = [Case(w, s, layout) for w in everybody for s in seeds for layout in LAYOUTS]
    cases += [Case(w, s, "synth4", outliers=True) for w in everybody for s in seeds]
    cases += [Case(w, s, "synth4", other_noise=True) for w in everybody for s in list(seeds)[:OTHER_SEEDS]]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(PROCESSES, initializer=_prepare, initargs=(data,)) as pool:
        for done, outcome in enumerate(pool.map(_solve, cases, chunksize=4)):
            outcomes.append(outcome)
            progress((done + 1) / len(cases))
        sync = list(pool.map(_sync_error_frames, [(w, s) for w in everybody for s in range(SYNC_SEEDS)]))
        long_sync = list(pool.map(_long_sync_error_frames, seeds))
    figures: dict[str, float] = {"synth_wearers": len(people), "synth_refused": sum(bool(o.refusal) for o in outcomes)}
    for layout in LAYOUTS:
        figures |= _medians(layout, [o for o in outcomes if o.case.layout == layout and not o.case.special])
    wild = _medians("outliers", [o for o in outcomes if o.case.outliers])
    figures |= _medians("synth4_other_noise", [o for o in outcomes if o.case.other_noise])
    joints = [joint.split("_")[0] for joint in JOINTS]
    figures["outlier_change_deg"] = max(
        wild[f"outliers_{j}_rmse_deg"] - figures[f"synth4_{j}_rmse_deg"] for j in joints
    )
    figures["sync_recorded_walk_error_frames"] = median(sync)
    figures["sync_long_walk_error_frames"] = median(long_sync)
    figures["sync_error_frames"] = max(median(sync), median(long_sync))
    figures["sync_error_frames_worst"] = max(*sync, *long_sync)
    return figures


def _medians(name: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Median errors of each joint; a refused recording counts as infinitely wrong."""
    figures = {}
    for joint in JOINTS:
        short = joint.split("_")[0]
        figures[f"{name}_{short}_rmse_deg"] = median(o.rmse_deg.get(joint, np.inf) for o in outcomes)
        figures[f"{name}_{short}_bias_deg"] = median(o.bias_deg.get(joint, np.inf) for o in outcomes)
    return figures


def _prepare(data: Path) -> None:
    _WALKERS[:] = walkers(data)
    _MODEL[:] = [keypoint_model(blazepose_model(), JOINT_CENTRES)]


def _solve(case: Case) -> Outcome:
    person = _WALKERS[case.wearer]
    try:
        motion = film_and_solve(person, _MODEL[0], case)
    except ExoError as refusal:
        return Outcome(case, {}, {}, str(refusal))
    error = {
        name: np.degrees(motion.angles[name] - np.interp(motion.trajectory.time, person.time, person.coordinates[name]))
        for name in LEG_COORDINATES
    }
    both = {joint: np.concatenate([error[f"{joint}_l"], error[f"{joint}_r"]]) for joint in JOINTS}
    rmse = {joint: float(np.sqrt(np.mean(values**2))) for joint, values in both.items()}
    return Outcome(case, rmse, {joint: float(values.mean()) for joint, values in both.items()})


def film_and_solve(person: RealGait, model: KeypointModel, case: Case) -> KeypointMotion:
    """The motion that the pipeline finds in a virtual recording of a real walk."""
    seed = 1000 * case.wearer + case.seed
    reach = OTHER_OFFSETS_M if case.other_noise else OFFSETS_M
    points = centred(offset_keypoints(person.keypoints, person.segment_rotation, seed, reach))
    cameras = ring(LAYOUTS[case.layout])
    noise = OTHER_NOISE if case.other_noise else Noise(outlier_share=OUTLIER_SHARE if case.outliers else 0.0)
    seen = film(points, person.time, cameras, noise, seed)
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
