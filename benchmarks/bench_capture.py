"""How good the motion capture is: virtual cameras on real gait, real video of one and of four cameras, and live.

Everything that is compared with a truth says what the truth is: joint angles of marker
recordings (virtual cameras), places marked by hand (one real walker), the cameras' agreement among themselves
(pose2sim's four cameras). Peers run in the same minute: plain weighted triangulation, and MediaPipe as it comes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import live_capture
import numpy as np
import real_walker
import synthetic_cameras
from results import report
from rich.progress import Progress

from exo_capture.alignment import align
from exo_capture.calibration_files import read_calibration
from exo_capture.cameras import Camera
from exo_capture.filtering import fill_gaps, smooth
from exo_capture.landmarks import MARKERS, Detections
from exo_capture.multicamera import reconstruct
from exo_capture.multicamera_capture import capture_multicamera
from exo_capture.quality import bone_length_cv_pct
from exo_capture.triangulation import views, weighted_dlt
from exo_capture.weights import model_path
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.keypoint_model import keypoint_model
from exo_twin.inverse.keypoint_motion import solve_keypoints
from exo_twin.inverse.models import blazepose_model
from exo_twin.opensim_runtime import logging_to

FOUR_CAMERAS_HEIGHT_M = 1.72  # assumed; the clip does not say. Lengths are measured, height is a weak prior
SEEDS = 10


def four_cameras() -> tuple[dict[str, float], dict[str, float]]:
    """Figures of pose2sim's four calibrated cameras, and of the same pictures through plain triangulation.

    Raises
    ------
    ExoError : if the package or its videos are missing.
    """
    found = find_spec("Pose2Sim")
    folder = Path(found.origin).parent / "Demo_SinglePerson" if found and found.origin else None
    if folder is None or not folder.is_dir():
        raise ExoError("pose2sim's demo is missing; delete .exo and run the command again")
    calibration = next(folder.glob("calibration/*.qca.txt"))
    cameras = read_calibration(calibration)
    files = sorted((folder / "videos").glob("*.mp4"))
    videos = {camera.name: video for camera, video in zip(cameras, files, strict=True)}
    capture = capture_multicamera(videos, cameras, model_path(), synchronise=False)
    found_by = capture.reconstruction
    own = found_by.figures
    began = time.perf_counter()
    reconstruct(capture.detections, cameras)
    after_pose_ms = 1e3 * (time.perf_counter() - began) / len(found_by.markers.time)
    plain = plain_triangulation(capture.detections, cameras)
    model = keypoint_model(blazepose_model())
    covariance = np.nanmedian(found_by.covariance, axis=0)
    began = time.perf_counter()
    after = solve_keypoints(model, found_by.raw, FOUR_CAMERAS_HEIGHT_M, covariance=covariance)
    solve_ms = 1e3 * (time.perf_counter() - began) / len(found_by.markers.time)
    plain_after = solve_keypoints(model, plain, FOUR_CAMERAS_HEIGHT_M)
    figures = {
        "multicam_reprojection_px": own["reprojection_px"],
        "multicam_observations_kept_pct": own["observations_kept_pct"],
        "multicam_bone_cv_pct": own["bone_length_cv_pct"],
        "multicam_post_pose_ms_per_frame": after_pose_ms,
        "multicam_solve_ms_per_frame": solve_ms,
        "multicam_marker_rms_mm": 1e3 * float(np.sqrt(np.mean(after.marker_rms**2))),
    }
    bones = bone_length_cv_pct(plain, planar=False)
    peers = {
        "weighted_dlt_bone_cv_pct": float(np.mean(list(bones.values()))),
        "weighted_dlt_marker_rms_mm": 1e3 * float(np.sqrt(np.mean(plain_after.marker_rms**2))),
    }
    return figures, peers


def plain_triangulation(detections: Sequence[Detections], cameras: Sequence[Camera]) -> Markers:
    """The usual method: confidence-weighted linear triangulation of all that was seen, as calibrated, low-passed.

    One person is in these pictures, so the first that each camera saw is taken.
    """
    seen = np.full((len(cameras), len(detections[0].time), 33, 3), np.nan)
    for view, own in zip(seen, detections, strict=True):
        frames, first = np.unique(own.frame, return_index=True)
        view[frames[frames < len(view)]] = own.landmarks[first[frames < len(view)]]
    points = np.full(seen.shape[1:], np.nan)
    slots = list(MARKERS.values())
    points[:, slots] = weighted_dlt(views(seen[:, :, slots], cameras))
    time_s = detections[0].time
    rate_hz = (len(time_s) - 1) / (time_s[-1] - time_s[0])
    placed = align(points).points(points[:, slots])
    filled, _ = fill_gaps(placed.reshape(len(placed), -1), rate_hz)
    return Markers(time_s, tuple(MARKERS), smooth(filled, rate_hz).reshape(placed.shape))


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="./exo bench capture", description=__doc__)
    recordings = Path(os.environ["EXO_ROOT"]).parent / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=recordings,
        help="folder with recorded gait: walking_3d and gait_speeds (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="random seeds per wearer (default: %(default)s)")
    parser.add_argument("--plays", type=int, default=3, help="plays of the live clip (default: %(default)s)")
    options = parser.parse_args()
    started = time.monotonic()
    figures: dict[str, float] = {}
    peers: dict[str, float] = {}
    try:
        figures |= real_walker.measure()
        with logging_to(Path(os.environ["EXO_HOME"]) / "bench_capture.log"):
            four, plain = four_cameras()
        figures |= four
        figures["post_pose_ms_per_frame"] = max(
            figures["mono_post_pose_ms_per_frame"], figures["multicam_post_pose_ms_per_frame"]
        )
        with Progress() as bar:
            task = bar.add_task("virtual cameras on real gait", total=1.0)
            virtual = synthetic_cameras.measure(
                options.data, range(options.seeds), lambda share: bar.update(task, completed=share)
            )
        # Last, when nothing else of this bench runs.
        live, peers = live_capture.run(plays=options.plays)
        figures = virtual | figures | live
    except ExoError as error:
        print(f"./exo bench capture: {error}", file=sys.stderr)
        return 2
    data = (
        f"{virtual['synth_wearers']:.0f} wearers' marker recordings filmed by virtual cameras; sports2d's walker "
        "(one person, 20 hand-labelled frames); pose2sim's four cameras (one person, 100 frames)"
    )
    report("capture", figures, peers | plain, data, list(range(options.seeds)), time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
