"""Video through the same inverse analysis: sports2d's walker (one camera) and pose2sim's balancing person (four).

Nobody knows their true angles. Reported is how far the keypoints lie from the fitted model, and how much of the motion
is plausible: ranges of motion of a walk, angles that a person can reach.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_bringup.personalise import demo_session
from exo_capture.calibration_files import read_calibration
from exo_capture.multicamera_capture import capture_multicamera
from exo_capture.session_capture import SessionCapture, capture_session
from exo_capture.weights import model_path
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.session import Wearer
from exo_twin.inverse.analysis import WalkAnalysis, analyse_walk
from exo_twin.inverse.loads import flexion_sign
from exo_twin.opensim_runtime import logging_to

FloatArray = NDArray[np.float64]

# Ranges of motion of adults walking, deg, wide: slow and fast, young and old.
WALKING_ROM_DEG = {"hip_flexion": (30.0, 60.0), "knee_angle": (45.0, 75.0), "ankle_angle": (15.0, 40.0)}
# What joints can reach, deg (usual clinical ranges, 10 degrees added for the keypoints' error).
REACH_DEG = {"hip_flexion": (-40.0, 135.0), "knee_angle": (-15.0, 155.0), "ankle_angle": (-60.0, 40.0)}
# The four-camera clip does not tell who it is; lengths are measured, height is a weak prior.
BALANCING = Wearer(id="balancing", height=1.72, mass=70.0)


def measure() -> dict[str, float]:
    """Figures of both clips.

    Raises
    ------
    ExoError : if a video is missing.
    """
    with tempfile.TemporaryDirectory(prefix="exo_bench_") as scratch:
        work = Path(scratch)
        with logging_to(work / "log"):
            session = demo_session(work / "session")
            walker = capture_session(session)
            one = analyse_walk(walker, session.wearer, work)
            balancing = four_cameras()
            four = analyse_walk(balancing, BALANCING, work)
    rom = _rom_deg(one, walker)
    good = [low <= rom[n] <= high for n in rom for low, high in [WALKING_ROM_DEG[n[:-2]]]]
    figures = {
        "video_one_camera_marker_rms_mm": _marker_rms_mm(one),
        "video_one_camera_plausible_rom_pct": 100.0 * float(np.mean(good)),
        "video_one_camera_reachable_pct": _reachable_pct(one),
        "video_four_cameras_marker_rms_mm": _marker_rms_mm(four),
        "video_four_cameras_reachable_pct": _reachable_pct(four),
    }
    return figures | {f"video_one_camera_{name}_rom_deg": value for name, value in rom.items()}


def four_cameras() -> SessionCapture:
    """pose2sim's four calibrated cameras, 100 frames of one person who balances.

    Raises
    ------
    ExoError : if the package or its videos are missing.
    """
    found = find_spec("Pose2Sim")
    folder = Path(found.origin).parent / "Demo_SinglePerson" if found and found.origin else None
    if folder is None or not folder.is_dir():
        raise ExoError("pose2sim's demo is missing; delete .exo and run the command again")
    cameras = read_calibration(next(folder.glob("calibration/*.qca.txt")))
    files = sorted((folder / "videos").glob("*.mp4"))
    videos = {camera.name: video for camera, video in zip(cameras, files, strict=True)}
    captured = capture_multicamera(videos, cameras, model_path(), synchronise=False)
    seen = captured.reconstruction
    return SessionCapture(
        seen.markers,
        seen.raw,
        captured.events.strides,
        captured.quality,
        captured.events,
        covariance=np.asarray(np.nanmedian(seen.covariance, axis=0)),
    )


def _marker_rms_mm(analysis: WalkAnalysis) -> float:
    return 1e3 * float(np.sqrt(np.mean(analysis.fit.kinematics.marker_rms**2)))


def _rom_deg(analysis: WalkAnalysis, capture: SessionCapture) -> dict[str, float]:
    """Leg coordinate -> mean range of motion over its leg's strides, deg."""
    table = analysis.fit.kinematics.coordinates
    result = {}
    for name in LEG_COORDINATES:
        own = [s for s in capture.strides if s.side == name[-1]]
        spans = [table.column(name)[(table.time >= s.start) & (table.time <= s.end)] for s in own]
        result[name] = float(np.mean([np.ptp(span) for span in spans]))
    return result


def _reachable_pct(analysis: WalkAnalysis) -> float:
    """Share of all samples of hips, knees and ankles within reach, %."""
    table = analysis.fit.kinematics.coordinates
    inside = []
    for name in LEG_COORDINATES:
        low, high = REACH_DEG[name[:-2]]
        angle = flexion_sign(analysis.tree, name) * table.column(name)
        inside.append((angle >= low) & (angle <= high))
    return 100.0 * float(np.mean(inside))
