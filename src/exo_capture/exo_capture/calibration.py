"""Calibration of all cameras from a folder of board pictures: `python -m exo_capture.calibration --help`."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from exo_capture.board_pictures import FLOOR, CameraViews, View, at_rest, camera_names, find_boards, is_video
from exo_capture.boards import PAPER, Board, printed_board, read_board, write_board, write_pdf
from exo_capture.calibration_files import read_calibration, write_calibration
from exo_capture.cameras import Camera
from exo_capture.lens import Lens, calibrate_lens, spread_views
from exo_capture.rig import Rig, calibrate_rig
from exo_common.errors import ExoError

LENS, ROOM = "lens", "room"
BOARD_FILE = "board.toml"

# What a good calibration reaches; beyond, a warning names the cure.
GOOD_ERROR_PX = 1.0
GOOD_VIEWS = 10
GOOD_COVERAGE = 0.6
GOOD_TILT_DEG = 25.0
GOOD_FOCAL_SD = 0.005
GOOD_MOMENTS = 3
SQUARE_PIXELS = 0.02  # of all cameras sold, fx and fy differ by less
MISREAD = 0.2  # share of views left out
# Where a camera that films a walk stands, m: anything else points to a wrong square size.
CAMERA_DISTANCE_M = (0.5, 25.0)

HELP = """\
Calibrate cameras with a printed board.

1. Print a board and glue it to something flat and stiff:
     python -m exo_capture.calibration board session/board.pdf --paper A3
   Print at 100 % (no 'fit to page'), measure a square with a ruler, and mend square_mm in session/board.toml if it
   differs. A larger board can be read from further away: A3 to about 4 m, A1 to about 8 m with a 1080p camera.
   Of a board you already own, write board.toml yourself: columns, rows (squares), square_mm, marker_mm (0 for a
   checkerboard), dictionary (of a ChArUco board, OpenCV's name, e.g. "6X6_250").

2. Lenses: move the board in front of each camera for half a minute: near and far, into every corner of the picture,
   tilted in all directions. Put pictures or a video of each camera into
     session/lens/<camera>/*.jpg      or  session/lens/<camera>.mp4
   Zoom and focus must be those of the later recording.

3. Room: with the cameras where they stay, hold the board still where several cameras see it, and take a picture with
   each camera; repeat at several places. Pictures of one moment have the same name. One of them, called 'floor', shows
   the board lying on the floor, face up: it defines the room. Films of the board lying on the floor also do.
     session/room/<camera>/01.jpg 02.jpg ... floor.jpg   or  session/room/<camera>.mp4

4. python -m exo_capture.calibration calibrate session session/calibration.toml
"""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Cameras, the figures that tell how far to trust them, and what should be done better."""

    cameras: tuple[Camera, ...]
    figures: dict[str, dict[str, float]]
    warnings: tuple[str, ...]

    @property
    def error_px(self) -> float:
        """Mean reprojection error of the cameras, in the room if they share one."""
        key = "room_error_px" if all("room_error_px" in own for own in self.figures.values()) else "lens_error_px"
        return float(np.mean([own[key] for own in self.figures.values()]))

    def save(self, path: Path) -> None:
        """Write cameras (`path`, Pose2Sim's form) and, beside them, the figures and warnings (`.quality.yaml`)."""
        write_calibration(path, self.cameras, self.error_px)
        report: dict[str, Any] = {"cameras": self.figures, "warnings": list(self.warnings)}
        path.with_suffix(".quality.yaml").write_text(yaml.safe_dump(report, sort_keys=False), encoding="utf-8")


def calibrate_folder(
    folder: Path, board: Board | None = None, progress: Callable[[str], None] | None = None
) -> Calibration:
    """Calibrate the cameras of a folder laid out as the command line's help says.

    Parameters
    ----------
    board : by default the one described in the folder's board.toml.
    progress : called with what is being done.

    Raises
    ------
    ExoError : if the folder holds no pictures, a camera's pictures do not determine its lens or place, or a file is
        damaged.
    """
    report = progress or (lambda text: None)
    board = board or read_board(folder / BOARD_FILE)
    names = sorted({*camera_names(folder / LENS), *camera_names(folder / ROOM)})
    if not names:
        raise ExoError(
            f"{folder} holds no pictures of a board; "
            f"put those of each camera into {LENS}/<camera>/ and {ROOM}/<camera>/"
        )
    lenses: dict[str, Lens] = {}
    rooms: dict[str, dict[str, View]] = {}
    for name in names:
        report(f"looking for the board in the pictures of {name}")
        seen, in_room = find_boards(folder / LENS, name, board), find_boards(folder / ROOM, name, board)
        for_lens = seen or in_room
        if for_lens is None:
            raise ExoError(f"{name} has no pictures in {folder}; put some into {LENS}/{name}/")
        lenses[name] = _lens(name, for_lens, board)
        if in_room is not None:
            _require_same_size(name, lenses[name], in_room)
            views = [at_rest(name, in_room)] if is_video(folder / ROOM, name) else in_room.views
            rooms[name] = {view.name.lower(): view for view in views}
    if not rooms:
        report("no pictures of the room: lenses only")
        cameras = [
            Camera(n, lens.size, lens.matrix, lens.distortion, np.eye(3), np.zeros(3)) for n, lens in lenses.items()
        ]
        warnings = [f"cameras have no places; put pictures of the board in the room into {ROOM}/<camera>/"]
        return Calibration(tuple(cameras), _figures(lenses, None), (*_lens_warnings(lenses), *warnings))
    report("placing the cameras in the room")
    rig, has_floor = _place(lenses, rooms, board)
    return Calibration(
        rig.cameras, _figures(lenses, rig), (*_lens_warnings(lenses), *_room_warnings(rig, board, has_floor))
    )


def _lens(name: str, seen: CameraViews, board: Board) -> Lens:
    sightings = [view.sighting for view in seen.views]
    chosen = spread_views(sightings, [view.sharpness for view in seen.views], board, seen.size)
    return calibrate_lens(name, [sightings[i] for i in chosen], board, seen.size)


def _require_same_size(name: str, lens: Lens, in_room: CameraViews) -> None:
    if in_room.size != lens.size:
        raise ExoError(
            f"{name} has pictures of {lens.size[0]}x{lens.size[1]} px in {LENS} but of "
            f"{in_room.size[0]}x{in_room.size[1]} px in {ROOM}; take all in the mode in which the walk is filmed"
        )


def _place(lenses: Mapping[str, Lens], rooms: Mapping[str, Mapping[str, View]], board: Board) -> tuple[Rig, bool]:
    missing = [name for name in lenses if name not in rooms]
    if missing:
        raise ExoError(f"{', '.join(missing)} has no pictures of the room; put some into {ROOM}/{missing[0]}/")
    labels = sorted({label for views in rooms.values() for label in views})
    moments = [{name: views[label].sighting for name, views in rooms.items() if label in views} for label in labels]
    # A moment that one camera alone saw says nothing about the others' places, unless it defines the room.
    kept = [i for i, moment in enumerate(moments) if len(moment) > 1 or labels[i] == FLOOR]
    floor = next((k for k, i in enumerate(kept) if labels[i] == FLOOR), None)
    return calibrate_rig(lenses, [moments[i] for i in kept], board, floor), floor is not None


def _figures(lenses: Mapping[str, Lens], rig: Rig | None) -> dict[str, dict[str, float]]:
    figures = {}
    for name, lens in lenses.items():
        figures[name] = {
            "lens_error_px": round(lens.error_px, 3),
            "lens_views": lens.views,
            "lens_views_left_out": lens.dropped,
            "picture_covered_pct": round(100.0 * lens.coverage, 1),
            "largest_tilt_deg": round(lens.tilt_deg, 1),
            "focal_length_px": round(float(lens.matrix[0, 0]), 2),
            "focal_length_sd_pct": round(100.0 * lens.focal_sd, 3),
        }
        if rig is not None:
            camera = next(camera for camera in rig.cameras if camera.name == name)
            figures[name]["focal_length_px"] = round(float(camera.matrix[0, 0]), 2)
            figures[name] |= {"room_error_px": round(rig.error_px[name], 3), "room_views": rig.sightings[name]}
    return figures


def _lens_warnings(lenses: Mapping[str, Lens]) -> list[str]:
    warnings = []
    for name, lens in lenses.items():
        if lens.views < GOOD_VIEWS:
            warnings.append(f"{name}: only {lens.views} pictures for the lens; take 15 or more")
        if lens.dropped > MISREAD * (lens.views + lens.dropped):
            warnings.append(f"{name}: {lens.dropped} pictures were misread; hold the board still and light it evenly")
        if lens.coverage < GOOD_COVERAGE:
            warnings.append(
                f"{name}: the board was in {100.0 * lens.coverage:.0f} % of the picture only; "
                "show it in every corner of the picture too"
            )
        if lens.tilt_deg < GOOD_TILT_DEG or lens.focal_sd > GOOD_FOCAL_SD:
            warnings.append(
                f"{name}: the focal length is uncertain ({100.0 * lens.focal_sd:.1f} %); "
                "tilt the board by 30 to 45 degrees in several directions, near the camera"
            )
        if lens.error_px > GOOD_ERROR_PX:
            warnings.append(
                f"{name}: corners miss their places by {lens.error_px:.1f} px; "
                "use a flat, stiff board, hold it still, and check the numbers of squares in board.toml"
            )
        if abs(lens.matrix[0, 0] / lens.matrix[1, 1] - 1.0) > SQUARE_PIXELS:
            warnings.append(
                f"{name}: the pixels would not be square (focal lengths {lens.matrix[0, 0]:.0f} and "
                f"{lens.matrix[1, 1]:.0f} px); the board was printed stretched, print it again at 100 %"
            )
    return warnings


def _room_warnings(rig: Rig, board: Board, has_floor: bool) -> list[str]:
    warnings = []
    if not has_floor:
        warnings.append(
            f"the room's axes are those of {rig.cameras[0].name}; "
            f"lay the board on the floor, face up, and call that picture '{FLOOR}' to define origin and vertical"
        )
    for camera in rig.cameras:
        name = camera.name
        if rig.error_px[name] > GOOD_ERROR_PX:
            warnings.append(
                f"{name}: in the room, corners miss their places by {rig.error_px[name]:.1f} px; "
                "leave cameras untouched once their lens is calibrated, and name only pictures of one moment alike"
            )
        if len(rig.cameras) > 1 and rig.sightings[name] < GOOD_MOMENTS:
            warnings.append(
                f"{name}: its place hangs on {rig.sightings[name]} view(s) of the board; take {GOOD_MOMENTS} or more"
            )
        if name in rig.doubtful:
            warnings.append(
                f"{name}: its only view of the board fits two attitudes; take more, or bring the board nearer"
            )
        distances = np.linalg.norm(rig.boards - camera.centre, axis=1)
        if not (CAMERA_DISTANCE_M[0] <= np.median(distances) <= CAMERA_DISTANCE_M[1]):
            warnings.append(
                f"{name}: it would stand {np.median(distances):.2g} m from the board; "
                f"measure the printed square and mend square_mm ({1000.0 * board.square:g}) in {BOARD_FILE}"
            )
        if has_floor and camera.centre[2] <= 0.0:
            warnings.append(f"{name}: it would stand below the floor; lay the board face up for the '{FLOOR}' picture")
    return warnings


def _board(arguments: argparse.Namespace) -> None:
    board = printed_board(arguments.paper)
    description = arguments.pdf.with_name(BOARD_FILE)
    try:
        arguments.pdf.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExoError(f"{arguments.pdf.parent} could not be made ({error.strerror}); choose another folder") from None
    write_pdf(arguments.pdf, board, arguments.paper)
    write_board(description, board)
    print(
        f"{arguments.pdf}: {board.columns}x{board.rows} squares of {1000.0 * board.square:g} mm; print it at 100 % on "
        f"{arguments.paper}, measure a square and mend {description} if it differs"
    )


def _calibrate(arguments: argparse.Namespace) -> None:
    board = read_board(arguments.board) if arguments.board else None
    calibration = calibrate_folder(arguments.folder, board, progress=print)
    calibration.save(arguments.output)
    print(
        f"{'camera':12s} {'lens px':>8s} {'views':>6s} {'covered':>8s} {'focal px':>9s} {'room px':>8s} {'views':>6s}"
    )
    for name, own in calibration.figures.items():
        room = (
            f"{own['room_error_px']:8.2f} {own['room_views']:6.0f}" if "room_views" in own else f"{'-':>8s} {'-':>6s}"
        )
        print(
            f"{name:12s} {own['lens_error_px']:8.2f} {own['lens_views']:6.0f} {own['picture_covered_pct']:6.0f} % "
            f"{own['focal_length_px']:9.1f} {room}"
        )
    for warning in calibration.warnings:
        print(f"warning: {warning}")
    print(f"written: {arguments.output}")


def _convert(arguments: argparse.Namespace) -> None:
    cameras = read_calibration(arguments.file, arguments.binning)
    write_calibration(arguments.output, cameras)
    print(f"{len(cameras)} cameras ({', '.join(camera.name for camera in cameras)}) written: {arguments.output}")


def main(arguments: list[str]) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m exo_capture.calibration", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="board | calibrate | convert")
    board = commands.add_parser("board", help="write a board to be printed")
    board.add_argument("pdf", type=Path, help="the page to be written; board.toml is written beside it")
    board.add_argument("--paper", choices=tuple(PAPER), default="A3", help="sheet to be printed on (default: A3)")
    board.set_defaults(run=_board)
    calibrate = commands.add_parser("calibrate", help="calibrate the cameras of a folder of pictures")
    calibrate.add_argument("folder", type=Path, help="the folder with lens/ and room/ (see above)")
    calibrate.add_argument("output", type=Path, help="calibration to be written (.toml, Pose2Sim's form)")
    calibrate.add_argument("--board", type=Path, help="the board's description (default: <folder>/board.toml)")
    calibrate.set_defaults(run=_calibrate)
    convert = commands.add_parser("convert", help="turn a Qualisys .qca.txt into a .toml")
    convert.add_argument("file", type=Path, help="calibration to be read")
    convert.add_argument("output", type=Path, help="calibration to be written (.toml)")
    convert.add_argument("--binning", type=int, choices=(1, 2, 4), default=1, help="sensor pixels per video pixel")
    convert.set_defaults(run=_convert)
    chosen = parser.parse_args(arguments)
    try:
        chosen.run(chosen)
    except ExoError as error:
        print(f"exo_capture.calibration: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
