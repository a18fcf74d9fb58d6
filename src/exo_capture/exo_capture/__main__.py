"""`python -m exo_capture side.mp4 --height 1.72 --out walk`: one side-view video becomes markers and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from exo_capture.angles import sagittal_angles
from exo_capture.calibration_files import cameras_for, read_calibration
from exo_capture.draw import annotated_frames
from exo_capture.gait_events import mean_strides
from exo_capture.monocular import Capture, capture_sagittal
from exo_capture.multicamera_capture import MulticameraCapture, capture_multicamera
from exo_capture.weights import VARIANTS, model_path
from exo_common.errors import ExoError
from exo_common.opensim_files import write_trc

EXPLANATION = """\
One camera: film from the side, the camera level, at hip height, on a tripod, 5-8 m away; the whole body in the picture
for at least two strides of each leg; legs that differ from the background. Only sagittal angles mean anything.
Several cameras: any overlapping views, calibrated; each video is named after its camera in the calibration.
Writes walk.trc (markers in OpenSim's frame, m), quality.yaml (verdict, warnings with their cures, gait parameters)
and, for one camera, pictures of the skeleton on the video."""


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        with Progress(TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn(), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            capture = _capture(asked, lambda share, text: bar.update(task, completed=share, description=text))
        asked.out.mkdir(parents=True, exist_ok=True)
        write_trc(asked.out / "walk.trc", capture.markers)
        capture.quality.save(asked.out / "quality.yaml")
        for index, picture in annotated_frames(capture) if isinstance(capture, Capture) else ():
            (asked.out / f"frame_{index}.png").write_bytes(picture)
    except ExoError as error:
        print(f"exo_capture: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"exo_capture: {asked.out} could not be written ({error.strerror}); choose another folder", file=sys.stderr
        )
        return 2
    _summarise(capture, asked.out)
    return 0


def _capture(asked: argparse.Namespace, report: Callable[[float, str], None]) -> Capture | MulticameraCapture:
    """One camera by its plane, several by their calibration."""
    model, person = model_path(asked.variant), asked.person
    if asked.calibration is None:
        if len(asked.videos) > 1:
            raise ExoError(f"{len(asked.videos)} videos need the cameras' calibration; give --calibration FILE")
        if asked.height is None:
            raise ExoError("one camera takes its scale from the wearer; give --height in m")
        return capture_sagittal(asked.videos[0], asked.height, model, asked.start, asked.end, report, person)
    videos = {video.stem: video for video in asked.videos}
    if len(videos) < max(2, len(asked.videos)):
        raise ExoError("a calibration needs two or more videos with different names; name each after its camera")
    cameras = cameras_for(videos, read_calibration(asked.calibration))
    videos = {camera.name: video for camera, video in zip(cameras, videos.values(), strict=True)}
    return capture_multicamera(
        videos, cameras, model, start_s=asked.start, end_s=asked.end, person=person, progress=report
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exo_capture",
        description="Capture a walk from one side-view video, or from several calibrated cameras.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("videos", type=Path, nargs="+", help="one side view, or several named after their cameras")
    parser.add_argument("--height", type=float, metavar="M", help="the wearer's standing height, m (one camera)")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="of several cameras: .toml or .qca.txt")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "--person",
        type=int,
        metavar="N",
        help="which walker, if several walk: 1 is the first to appear (one camera) or the one seen most",
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="use the video from here on, s")
    parser.add_argument("--end", type=float, default=float("inf"), metavar="S", help="use the video up to here, s")
    parser.add_argument(
        "--variant",
        choices=sorted(VARIANTS),
        default="full",
        help="pose model; heavy is best and slowest (default: full)",
    )
    return parser


def _summarise(capture: Capture | MulticameraCapture, folder: Path) -> None:
    quality, console = capture.quality, Console(soft_wrap=True, highlight=False)
    console.print(
        f"{quality.verdict}: {quality.strides['l']} complete strides left, {quality.strides['r']} right; "
        f"written to {folder}"
    )
    gait = quality.gait
    if gait:
        # On a treadmill there are neither a speed nor lengths.
        travel = (
            f"speed {gait['speed_m_s']:.2f} m/s, stride {gait['stride_length_m']:.2f} m, "
            if "speed_m_s" in gait
            else ""
        )
        console.print(f"{travel}cadence {gait['cadence_steps_min']:.0f} steps/min, stance {gait['stance_pct']:.0f} %")
        curves = mean_strides(sagittal_angles(capture.markers), capture.markers.time, capture.events)
        ranges = [f"{name} {np.degrees(np.ptp(curve)):.0f}" for name, curve in curves.items()]
        console.print(f"range of the mean stride, deg: {', '.join(ranges)}")
    for warning in quality.warnings:
        console.print(f"warning: {warning}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
