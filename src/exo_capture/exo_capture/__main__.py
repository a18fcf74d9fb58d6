"""`python -m exo_capture <video> <height in m> <folder>`: capture a walk and write markers, report and pictures."""

from __future__ import annotations

import sys
from pathlib import Path

from exo_capture.draw import annotated_frames
from exo_capture.monocular import capture_sagittal
from exo_capture.weights import model_path
from exo_common.errors import ExoError
from exo_common.opensim_files import write_trc

USAGE = "usage: python -m exo_capture <video> <height in m> <folder>"


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    try:
        video, height, folder = Path(arguments[0]), float(arguments[1]), Path(arguments[2])
    except (IndexError, ValueError):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        capture = capture_sagittal(video, height, model_path())
        folder.mkdir(parents=True, exist_ok=True)
        write_trc(folder / "walk.trc", capture.markers)
        capture.quality.save(folder / "quality.yaml")
        for index, picture in annotated_frames(capture):
            (folder / f"frame_{index}.png").write_bytes(picture)
    except ExoError as error:
        print(f"exo_capture: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"exo_capture: {folder} could not be written ({error.strerror}); choose another folder", file=sys.stderr)
        return 2
    print(f"{capture.quality.verdict}: {len(capture.strides)} strides, written to {folder}")
    for warning in capture.quality.warnings:
        print(f"warning: {warning}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
