"""`python -m exo_capture side.mp4 --height 1.72 --out walk`: one side-view video becomes markers and a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from exo_capture.angles import sagittal_angles
from exo_capture.draw import annotated_frames
from exo_capture.gait_events import mean_strides
from exo_capture.monocular import Capture, capture_sagittal
from exo_capture.weights import VARIANTS, model_path
from exo_common.errors import ExoError
from exo_common.opensim_files import write_trc

EXPLANATION = """\
Film from the side: camera level, at hip height and on a tripod, 5-8 m away, whole body in the picture for at least two
strides of each leg (three steps before and after), legs that differ from the background. Writes walk.trc (markers in
OpenSim's frame, m), quality.yaml (verdict, warnings with their cures, gait parameters) and pictures of the skeleton on
the video. Only sagittal angles mean anything with one camera."""


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        with Progress(TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn(), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            capture = capture_sagittal(
                asked.video,
                asked.height,
                model_path(asked.variant),
                asked.start,
                asked.end,
                lambda share, text: bar.update(task, completed=share, description=text),
                asked.person,
            )
        asked.out.mkdir(parents=True, exist_ok=True)
        write_trc(asked.out / "walk.trc", capture.markers)
        capture.quality.save(asked.out / "quality.yaml")
        for index, picture in annotated_frames(capture):
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exo_capture",
        description="Capture a walk from one side-view video.",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("video", type=Path, help="video file, 30 frames/s or more")
    parser.add_argument("--height", type=float, required=True, metavar="M", help="the wearer's standing height, m")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "--person", type=int, metavar="N", help="which walker, if several walk: 1 is the first to appear"
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


def _summarise(capture: Capture, folder: Path) -> None:
    quality, console = capture.quality, Console(soft_wrap=True, highlight=False)
    strides = ", ".join(
        f"{count} {name}" for name, count in zip(("left", "right"), quality.strides.values(), strict=True)
    )
    console.print(f"{quality.verdict}: complete strides: {strides}; written to {folder}")
    gait = quality.gait
    console.print(
        f"speed {gait['speed_m_s']:.2f} m/s, cadence {gait['cadence_steps_min']:.0f} steps/min, "
        f"stride {gait['stride_length_m']:.2f} m, stance {gait['stance_pct']:.0f} %"
    )
    curves = mean_strides(sagittal_angles(capture.markers), capture.markers.time, capture.events)
    ranges = [f"{name} {np.degrees(np.ptp(curve)):.0f}" for name, curve in curves.items()]
    console.print(f"range of the mean stride, deg: {', '.join(ranges)}")
    for warning in quality.warnings:
        console.print(f"warning: {warning}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
