"""Calibration judged on pictures of a board rendered through cameras that are known."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest

from exo_capture import calibration
from exo_capture.boards import Board, Sighting, printed_board, read_board, write_board
from exo_capture.bundle import Pose
from exo_capture.calibration import calibrate_folder, main
from exo_capture.calibration_files import read_calibration
from exo_capture.cameras import Camera
from exo_capture.lens import spread_views
from exo_capture.rig import BOARD_FROM_ROOM
from exo_common.errors import ExoError

SIZE = (1280, 720)
BOARD = printed_board("A1")
TEXTURE_PX_PER_M, BORDER_M = 1000.0, 0.03


def looking_at(name, place, target, focal, distortion):
    """A camera that stands upright in a room whose z axis points up."""
    ahead = np.subtract(target, place)
    ahead = ahead / np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.array([right, np.cross(ahead, right), ahead])
    matrix = np.array([[focal, 0.0, 631.0], [0.0, 1.002 * focal, 371.0], [0.0, 0.0, 1.0]])
    return Camera(name, SIZE, matrix, np.array(distortion), rotation, -rotation @ np.array(place))


CAMERAS = [
    looking_at("a", (2.6, -1.8, 2.0), (0.0, 0.0, 0.6), 1070.0, [-0.15, 0.05, 0.001, -0.001, 0.0]),
    looking_at("b", (2.6, 2.0, 1.8), (0.0, 0.0, 0.6), 1010.0, [-0.05, 0.01, 0.0, 0.0005, 0.0]),
    looking_at("c", (-2.8, 1.0, 2.2), (0.0, 0.0, 0.4), 1200.0, [0.05, -0.08, -0.001, 0.0, 0.0]),
]


class Renderer:
    """Pictures of a board seen by one camera: its rays, met with a drawing of the board blurred to the pixels' size."""

    def __init__(self, camera, board=BOARD):
        self.camera, self.board = camera, board
        pixels = np.stack(np.meshgrid(*(np.arange(n) for n in camera.size)), axis=-1)
        self.rays = np.dstack([camera.normalised(pixels), np.ones(pixels.shape[:2])]).astype(np.float32)
        self.noise = np.random.default_rng(0).normal(0.0, 2.0, pixels.shape[:2]).astype(np.float32)
        size = np.array([board.columns, board.rows]) * board.square + 2.0 * BORDER_M
        self.texture = np.full(np.ceil(size[::-1] * TEXTURE_PX_PER_M).astype(int), 250, np.uint8)
        edges = board.black()
        edges[:, 2:] += edges[:, :2]
        # A hair more, so that edges halfway between two pixels fall on the same side for neighbours.
        for left, top, right, bottom in np.round((edges + BORDER_M) * TEXTURE_PX_PER_M + 1e-6).astype(int):
            self.texture[top:bottom, left:right] = 10

    def picture(self, board_to_camera):
        """The board at a pose in the camera's frame, before a grey wall; a little noise."""
        # A ray meets the plane z = 0 of the board where this matrix maps it, homogeneous coordinates.
        plane = np.linalg.inv(np.column_stack([board_to_camera.rotation[:, :2], board_to_camera.translation]))
        hit = self.rays @ plane.T.astype(np.float32)
        at = (hit[..., :2] / hit[..., 2:] + np.float32(BORDER_M)) * np.float32(TEXTURE_PX_PER_M) - np.float32(0.5)
        at[hit[..., 2] <= 0.0] = -1e4
        scale = TEXTURE_PX_PER_M * board_to_camera.translation[2] / self.camera.matrix[0, 0]
        texture = cv2.GaussianBlur(self.texture, (0, 0), max(0.3, 0.4 * scale))
        image = cv2.remap(texture, at, None, cv2.INTER_LINEAR, borderValue=120)
        return np.clip(image + self.noise, 0, 255).astype(np.uint8)


def handheld(camera, i, generator):
    """Pose in a camera's frame of a board shown near and far, everywhere in the picture and tilted."""
    tilt = generator.uniform(-0.6, 0.6, 3)
    rotation = cv2.Rodrigues(tilt)[0]
    depth = generator.uniform(1.5, 3.0)
    corner = np.array([(i % 4) / 3.0, (i // 4 % 3) / 2.0]) * 0.7 + 0.15
    middle = depth * np.append(camera.normalised(corner * SIZE), 1.0)
    return Pose(rotation, middle - rotation @ BOARD.centre)


def in_room(place, turn):
    """Pose in the room of a board whose middle is at a place, turned from lying on the floor face up."""
    rotation = cv2.Rodrigues(np.array(turn, dtype=float))[0] @ BOARD_FROM_ROOM.T
    return Pose(rotation, np.array(place) - rotation @ BOARD.centre)


ROOM = {
    "floor": in_room((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    # Turned towards a and b; the others lie so flat that all three see the face.
    "01": in_room((0.2, 0.0, 0.8), (0.0, 1.0, 0.0)),
    "02": in_room((-0.3, 0.3, 0.3), (-0.1, 0.1, 0.2)),
    "03": in_room((0.0, -0.2, 0.5), (0.15, -0.2, 0.5)),
    "04": in_room((0.3, 0.2, 0.8), (0.1, 0.1, 1.0)),
}
LENS_PICTURES, ENOUGH = 14, 8


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A folder as the help asks for."""
    folder = tmp_path_factory.mktemp("session")
    write_board(folder / "board.toml", BOARD)
    for camera in CAMERAS:
        renderer = Renderer(camera)
        generator = np.random.default_rng(5)
        for kind in ("lens", "room"):
            (folder / kind / camera.name).mkdir(parents=True)
        for i in range(LENS_PICTURES):
            picture = renderer.picture(handheld(camera, i, generator))
            cv2.imwrite(str(folder / "lens" / camera.name / f"{i:02d}.png"), picture)
        for name, pose in ROOM.items():
            picture = renderer.picture(Pose(camera.rotation, camera.translation) @ pose)
            cv2.imwrite(str(folder / "room" / camera.name / f"{name}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def calibrated(session):
    return calibrate_folder(session)


def angle_deg(a, b):
    return np.degrees(np.linalg.norm(cv2.Rodrigues(a @ b.T)[0]))


@pytest.mark.parametrize("true", CAMERAS, ids=lambda camera: camera.name)
def test_lens_and_place_of_each_camera(calibrated, true):
    camera = next(camera for camera in calibrated.cameras if camera.name == true.name)
    assert camera.size == SIZE
    np.testing.assert_allclose(camera.matrix[[0, 1], [0, 1]], true.matrix[[0, 1], [0, 1]], rtol=0.005)
    # A lens's optical centre and focal length trade against the camera's place, within these bounds.
    assert np.linalg.norm(camera.centre - true.centre) < 0.008
    assert angle_deg(camera.rotation, true.rotation) < 0.2
    # What counts: the same point of the walking volume falls on the same pixel.
    volume = np.random.default_rng(2).uniform((-0.8, -0.8, 0.0), (0.8, 0.8, 1.6), (200, 3))
    assert np.nanmedian(np.linalg.norm(camera.project(volume) - true.project(volume), axis=1)) < 0.5


def test_points_are_triangulated_where_they_are(calibrated):
    volume = np.random.default_rng(3).uniform((-0.6, -0.6, 0.0), (0.6, 0.6, 1.2), (100, 3))
    equations = []
    for true, camera in zip(CAMERAS, calibrated.cameras, strict=True):
        x, y = camera.normalised(true.project(volume)).T
        for value, row in ((x, 0), (y, 1)):
            equations.append(value[:, None] * camera.projection[2] - camera.projection[row])
    found = np.linalg.svd(np.stack(equations, axis=1))[2][:, -1]
    error = np.linalg.norm(found[:, :3] / found[:, 3:] - volume, axis=1)
    assert np.median(error) < 0.001 and error.max() < 0.002


def test_the_figures_tell_that_it_is_good(calibrated):
    assert [camera.name for camera in calibrated.cameras] == ["a", "b", "c"]
    for own in calibrated.figures.values():
        assert own["lens_error_px"] < 0.3 and own["room_error_px"] < 0.5 and own["lens_views"] >= 12
        assert own["picture_covered_pct"] > 80.0 and own["focal_length_sd_pct"] < 0.5
    assert calibrated.warnings == ()


def test_command_line_writes_what_the_product_reads(session, tmp_path, capsys):
    output = tmp_path / "calibration.toml"
    assert main(["calibrate", str(session), str(output)]) == 0
    shown = capsys.readouterr().out
    assert "room px" in shown and "warning" not in shown
    cameras = read_calibration(output)
    assert [camera.name for camera in cameras] == ["a", "b", "c"]
    assert "focal_length_px" in output.with_suffix(".quality.yaml").read_text()


def changed(session, tmp_path, *parts):
    """A copy of the session with only some of its parts, and of each lens just enough pictures."""
    for part in ("board.toml", *parts):
        source, target = session / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for picture in tmp_path.glob("lens/*/*.png"):
        if int(picture.stem) >= ENOUGH:
            picture.unlink()
    return tmp_path


def test_a_wrong_square_size_is_suspected(session, tmp_path):
    folder = changed(session, tmp_path, "lens/a", "lens/b", "room/a", "room/b")
    write_board(folder / "board.toml", dataclasses.replace(BOARD, square=BOARD.square / 10, marker=BOARD.marker / 10))
    result = calibrate_folder(folder)
    assert any("mend square_mm (11.4)" in warning for warning in result.warnings)


def test_few_pictures_in_one_corner_are_told(session, tmp_path):
    folder = changed(session, tmp_path)
    renderer = Renderer(CAMERAS[0])
    (folder / "lens" / "a").mkdir(parents=True)
    for i in range(7):
        rotation = cv2.Rodrigues(np.array([0.02 * i, 0.03 * i, 0.0]))[0]
        pose = Pose(rotation, np.array([-1.6, -0.9, 3.5 + 0.05 * i]))
        cv2.imwrite(str(folder / "lens" / "a" / f"{i}.png"), renderer.picture(pose))
    warnings = " ".join(calibrate_folder(folder).warnings)
    assert "only 7 pictures" in warnings and "every corner" in warnings and "focal length is uncertain" in warnings
    assert "cameras have no places" in warnings


def test_without_a_floor_picture_the_first_camera_is_the_room(session, tmp_path):
    folder = changed(session, tmp_path, "lens/a", "lens/b", "room/a", "room/b")
    for name in ("a", "b"):
        (folder / "room" / name / "floor.png").unlink()
    result = calibrate_folder(folder)
    assert any("call that picture 'floor'" in warning for warning in result.warnings)
    np.testing.assert_allclose(result.cameras[0].rotation, np.eye(3), atol=1e-12)
    apart = np.linalg.norm(result.cameras[0].centre - result.cameras[1].centre)
    assert apart == pytest.approx(np.linalg.norm(CAMERAS[0].centre - CAMERAS[1].centre), abs=0.01)


def test_films_of_a_board_on_the_floor_place_the_cameras(session, tmp_path):
    folder = changed(session, tmp_path, "lens/a", "lens/b")
    (folder / "room").mkdir()
    for camera in CAMERAS[:2]:
        picture = cv2.imread(str(session / "room" / camera.name / "floor.png"))
        writer = cv2.VideoWriter(
            str(folder / "room" / f"{camera.name}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, SIZE
        )
        for _ in range(20):
            writer.write(picture)
        writer.release()
    result = calibrate_folder(folder)
    for camera, true in zip(result.cameras, CAMERAS, strict=False):
        assert np.linalg.norm(camera.centre - true.centre) < 0.03 and angle_deg(camera.rotation, true.rotation) < 0.5
    assert any("hangs on 1 view" in warning for warning in result.warnings)


def test_cameras_are_chained_through_the_one_that_shares_views_with_both(session, tmp_path):
    folder = changed(session, tmp_path, "lens", "room")
    for name in ("01", "02"):
        (folder / "room" / "c" / f"{name}.png").unlink()
    for name in ("03", "04", "floor"):
        (folder / "room" / "a" / f"{name}.png").unlink()
    result = calibrate_folder(folder)
    for camera, true in zip(result.cameras, CAMERAS, strict=True):
        assert np.linalg.norm(camera.centre - true.centre) < 0.03 and angle_deg(camera.rotation, true.rotation) < 0.5


def test_pictures_of_different_moments_under_one_name_are_told(session, tmp_path):
    folder = changed(session, tmp_path, "lens/a", "lens/b", "room/a", "room/b")
    pictures = folder / "room" / "b"
    (pictures / "02.png").rename(pictures / "keep.png")
    (pictures / "03.png").rename(pictures / "02.png")
    (pictures / "keep.png").rename(pictures / "03.png")
    warnings = calibrate_folder(folder).warnings
    assert any("name only pictures of one moment alike" in warning for warning in warnings)


def test_a_film_of_the_board_calibrates_a_lens(session, tmp_path):
    folder = changed(session, tmp_path)
    (folder / "lens").mkdir()
    writer = cv2.VideoWriter(str(folder / "lens" / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 8.0, SIZE)
    for path in sorted((session / "lens" / "a").iterdir()):
        for _ in range(2):
            writer.write(cv2.imread(str(path)))
    writer.release()
    result = calibrate_folder(folder)
    np.testing.assert_allclose(result.cameras[0].matrix[0, 0], CAMERAS[0].matrix[0, 0], rtol=0.005)
    assert result.figures["a"]["lens_views"] + result.figures["a"]["lens_views_left_out"] == LENS_PICTURES


def test_chosen_views_are_sharp_and_spread():
    centre = SIZE[0] / 2.0
    ids = np.arange(len(BOARD.corners))
    # Fifty views in the middle, one in each corner, and one in a further place that is blurred.
    places = [(centre + i, 300.0) for i in range(50)] + [(60.0, 60.0), (1000.0, 60.0), (60.0, 500.0), (1000.0, 500.0)]
    views = [Sighting(ids, BOARD.corners[:, :2] * 200.0 + place) for place in [*places, (500.0, 60.0)]]
    sharpness = [100.0] * len(places) + [1.0]
    chosen = spread_views(views, sharpness, BOARD, SIZE, limit=6)
    assert {50, 51, 52, 53} <= set(chosen) and 54 not in chosen and len(chosen) == 6


def test_a_camera_that_sees_no_common_board_is_named(session, tmp_path):
    folder = changed(session, tmp_path, "lens", "room")
    for path in (folder / "room" / "c").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    with pytest.raises(ExoError, match="shows the board to c and to a, b at once"):
        calibrate_folder(folder)


def test_wrong_folders_are_one_sentence(session, tmp_path):
    with pytest.raises(ExoError, match=r"board\.toml cannot be read"):
        calibrate_folder(tmp_path)
    folder = changed(session, tmp_path / "empty")
    with pytest.raises(ExoError, match="holds no pictures of a board"):
        calibrate_folder(folder)
    folder = changed(session, tmp_path / "no_room", "lens/a", "lens/b", "room/a")
    with pytest.raises(ExoError, match="b has no pictures of the room"):
        calibrate_folder(folder)
    folder = changed(session, tmp_path / "few", "lens/a")
    for path in sorted((folder / "lens" / "a").iterdir())[3:]:
        path.unlink()
    with pytest.raises(ExoError, match="only 3 pictures of a show the board"):
        calibrate_folder(folder)


def test_wrong_pictures_are_one_sentence(session, tmp_path):
    folder = changed(session, tmp_path / "sizes", "lens/a")
    cv2.imwrite(str(folder / "lens" / "a" / "zz.png"), np.zeros((480, 640), np.uint8))
    with pytest.raises(ExoError, match=r"differ in size \(07\.png: 1280x720 px, zz\.png: 640x480 px\)"):
        calibrate_folder(folder)
    folder = changed(session, tmp_path / "modes", "lens/a", "room/a/01.png")
    for path in (folder / "room" / "a").iterdir():
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (1920, 1080)))
    with pytest.raises(ExoError, match="1280x720 px in lens but of 1920x1080 px in room"):
        calibrate_folder(folder)
    folder = changed(session, tmp_path / "no_board", "lens/a/00.png")
    write_board(folder / "board.toml", Board(9, 6, 0.04, 0.0))
    with pytest.raises(ExoError, match=r"checkerboard of 9x6 squares is in none of a's pictures \(1 looked at\)"):
        calibrate_folder(folder)
    (folder / "lens" / "a" / "00.png").write_bytes(b"no picture")
    with pytest.raises(ExoError, match="cannot be read as a picture"):
        calibrate_folder(folder)


def test_a_checkerboard_does_as_well(tmp_path):
    board = Board(9, 6, 0.08, 0.0)
    write_board(tmp_path / "board.toml", board)
    matrix = CAMERAS[0].matrix * [[0.5], [0.5], [1.0]]
    camera = dataclasses.replace(CAMERAS[0], size=(640, 360), matrix=matrix)
    renderer, generator = Renderer(camera, board), np.random.default_rng(7)
    (tmp_path / "lens" / "a").mkdir(parents=True)
    for i in range(12):
        rotation = cv2.Rodrigues(generator.uniform(-0.6, 0.6, 3))[0]
        middle = generator.uniform(1.2, 1.6) * np.array([(i % 3 - 1) * 0.2, (i // 3 - 1.5) * 0.07, 1.0])
        picture = renderer.picture(Pose(rotation, middle - rotation @ board.centre))
        cv2.imwrite(str(tmp_path / "lens" / "a" / f"{i}.png"), picture)
    found = calibrate_folder(tmp_path).cameras[0]
    np.testing.assert_allclose(found.matrix[[0, 1], [0, 1]], camera.matrix[[0, 1], [0, 1]], rtol=0.005)


def test_the_board_command(tmp_path, capsys):
    assert main(["board", str(tmp_path / "new" / "board.pdf"), "--paper", "A1"]) == 0
    assert read_board(tmp_path / "new" / "board.toml") == BOARD
    assert "print it at 100 %" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "glue it to something flat" in capsys.readouterr().out


def test_errors_of_the_command_line_are_one_sentence(tmp_path, capsys):
    assert main(["calibrate", str(tmp_path), str(tmp_path / "c.toml")]) == 2
    assert main(["convert", str(tmp_path / "none.qca.txt"), str(tmp_path / "c.toml")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert calibration.BOARD_FILE in calibration.HELP
