import dataclasses
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from exo_capture.calibration_files import cameras_for, picture_scale, read_calibration, write_calibration
from exo_capture.cameras import Camera
from exo_common.errors import ExoError

# What Pose2Sim 0.10's own reader (calib_qca_fun) makes of its demo's first and third camera.
POSE2SIM = {
    "cam01": (
        [1681.244873, 532.973694, 1681.075439, 948.137390],
        [1.68827548, 1.04832205, -0.41955852],
        [0.32110489, 0.95633206, 2.89071305],
    ),
    "cam03": (
        [1681.598389, 513.208374, 1681.509888, 955.005127],
        [0.81096549, -2.19721293, 1.37602778],
        [-0.79348039, 0.32283594, 4.35351487],
    ),
}

QCA = """<?xml version="1.0" encoding="ASCII"?>
<calibration type="regular"><cameras>
 <camera active="1" serial="7" model="Oqus 300+" viewrotation="0"/>
 <camera active="1" serial="26580" model="Miqus Video" viewrotation="0">
  <fov_video left="4" top="8" right="1923" bottom="1087"/>
  <transform x="0" y="-4000" z="1500" r11="1" r12="0" r13="0" r21="0" r22="0" r23="1" r31="0" r32="-1" r33="0"/>
  <intrinsic focallength="9" focalLengthU="96000" focalLengthV="96064" centerPointU="61696" centerPointV="35072"
   skew="0" sensorMinU="0" sensorMaxU="122879" sensorMinV="0" sensorMaxV="69631" radialDistortion1="-0.05"
   radialDistortion2="0.14" radialDistortion3="0.01" tangentalDistortion1="0.001" tangentalDistortion2="-0.002"/>
 </camera></cameras></calibration>"""

TOML = """
[left]
name = "left"
size = [ 1920.0, 1080.0]
matrix = [ [ 1500.0, 0.0, 960.0], [ 0.0, 1500.0, 540.0], [ 0.0, 0.0, 1.0]]
distortions = [ -0.1, 0.02, 0.0, 0.0]
rotation = [ 0.0, 0.0, 0.0]
translation = [ 0.5, 0.0, 4.0]
fisheye = false

[metadata]
adjusted = false
error = 0.0
"""


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.find_spec("Pose2Sim")
    if spec is None or spec.origin is None:
        pytest.skip("pose2sim is not installed")
    return Path(spec.origin).parent / "Demo_SinglePerson"


def written(tmp_path, text, name="calibration.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def same(a, b):
    return (
        (a.name, a.size) == (b.name, b.size)
        and np.allclose(a.matrix, b.matrix, atol=1e-9)
        and np.allclose(a.distortion, b.distortion, atol=1e-12)
        and np.allclose(a.rotation, b.rotation, atol=1e-9)
        and np.allclose(a.translation, b.translation, atol=1e-9)
    )


@pytest.mark.parametrize("name", POSE2SIM)
def test_qualisys_places_and_lenses_are_those_pose2sim_reads(demo, name):
    camera = next(c for c in read_calibration(demo / "calibration" / "Calib.qca.txt") if c.name == name)
    intrinsics, rotation, translation = POSE2SIM[name]
    np.testing.assert_allclose(camera.matrix[[0, 0, 1, 1], [0, 2, 1, 2]], intrinsics, atol=1e-5)
    np.testing.assert_allclose(cv2.Rodrigues(camera.rotation)[0].ravel(), rotation, atol=1e-6)
    np.testing.assert_allclose(camera.translation, translation, atol=1e-7)
    assert camera.size == (1088, 1920)


def test_qualisys_distortion_keeps_its_unit(demo):
    # Four lenses of one type agree; a 64th of this would be a lens no camera of this kind has.
    for camera in read_calibration(demo / "calibration" / "Calib.qca.txt"):
        np.testing.assert_allclose(camera.distortion[:2], [-0.047, 0.137], atol=0.004)


def test_qualisys_axes_and_picture_origin(tmp_path):
    (camera,) = read_calibration(written(tmp_path, QCA, "a.qca.txt"))
    assert (camera.name, camera.size) == ("26580", (1920, 1080))
    np.testing.assert_allclose(camera.centre, [0.0, -4.0, 1.5])
    np.testing.assert_allclose(camera.matrix[:2, 2], [960.0, 540.0])
    np.testing.assert_allclose(camera.distortion, [-0.05, 0.14, 0.001, -0.002, 0.01])
    # The camera looks along the room's +y; z is up.
    ahead = camera.project(np.array([[0.0, 0.0, 1.5], [1.0, 0.0, 1.5], [0.0, 0.0, 2.5]]))
    np.testing.assert_allclose(ahead[0], [960.0, 540.0])
    assert ahead[1, 0] > 1300.0 and ahead[2, 1] < 200.0


def test_binning_halves_the_picture_but_not_the_lens(tmp_path):
    path = written(tmp_path, QCA, "a.qca.txt")
    (whole,), (half,) = read_calibration(path), read_calibration(path, binning=2)
    assert half.size == (960, 540)
    np.testing.assert_allclose(half.matrix[:2], whole.matrix[:2] / 2.0)
    np.testing.assert_allclose(half.distortion, whole.distortion)


def test_what_is_written_is_read_again(demo, tmp_path):
    cameras = read_calibration(demo / "calibration" / "Calib.qca.txt")
    cameras[0] = dataclasses.replace(
        cameras[0], name="behind the door 2", distortion=np.array([-0.1, 0.05, 0.001, 0.002, 0.03])
    )
    write_calibration(tmp_path / "ours.toml", cameras, 0.41)
    again = read_calibration(tmp_path / "ours.toml")
    assert all(same(a, b) for a, b in zip(cameras, again, strict=True))
    assert "error = 0.41" in (tmp_path / "ours.toml").read_text()


def test_pose2sim_toml(tmp_path):
    (camera,) = read_calibration(written(tmp_path, TOML))
    assert same(
        camera,
        Camera(
            "left",
            (1920, 1080),
            np.array([[1500.0, 0.0, 960.0], [0.0, 1500.0, 540.0], [0.0, 0.0, 1.0]]),
            np.array([-0.1, 0.02, 0.0, 0.0, 0.0]),
            np.eye(3),
            np.array([0.5, 0.0, 4.0]),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("1500.0, 0.0, 960.0", "0.0, 0.0, 960.0", "focal length of 0 px"),
        ("fisheye = false", "fisheye = true", "fisheye camera"),
        ("0.5, 0.0, 4.0", "500.0, 0.0, 4000.0", "would stand 40.. m from the origin; write its translation in metres"),
        ("0.5, 0.0, 4.0", "0.5, 0.0", "translation has 2 numbers instead of 3"),
        ("-0.1, 0.02, 0.0, 0.0", "-0.1, 0.02, 0.0, 0.0, 0.0, 0.1", "6 distortion coefficients"),
        ("size = [ 1920.0, 1080.0]", "", "size is missing"),
        ("1920.0, 1080.0", "640.0, 480.0", "optical centre outside the picture"),
        ("1920.0, 1080.0", "-1920.0, 1080.0", "picture of -1920x1080"),
        ("0.5, 0.0, 4.0", "nan, 0.0, 4.0", "not finite"),
        ("[left]", "[left", "not a complete camera calibration"),
        (TOML, "[project]\nframe_rate = 60\n", "holds no calibrated video camera"),
        (TOML, "", "holds no calibrated video camera"),
    ],
)
def test_a_wrong_toml_is_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(ExoError, match=sentence):
        read_calibration(written(tmp_path, TOML.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('serial="26580" model="Miqus Video" viewrotation="0"', 'serial="1" viewrotation="90"', "turned by 90 degrees"),
        ('focalLengthU="96000"', "", "focalLengthU is missing"),
        ('r11="1"', 'r11="-1"', "rotation that is none"),
        ("<transform", "<moved", "transform is missing"),
        ("Miqus Video", "Miqus M3", "holds no calibrated video camera"),
        ("</cameras>", "", "not a complete camera calibration"),
    ],
)
def test_a_wrong_qualisys_file_is_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(ExoError, match=sentence):
        read_calibration(written(tmp_path, QCA.replace(old, new), "a.qca.txt"))


def test_other_wrong_files(tmp_path):
    with pytest.raises(ExoError, match="cannot be read"):
        read_calibration(tmp_path / "none.toml")
    (tmp_path / "video.mp4").write_bytes(bytes(range(256)))
    with pytest.raises(ExoError, match="not a complete camera calibration"):
        read_calibration(tmp_path / "video.mp4")


def test_lenses_without_places(tmp_path):
    with pytest.raises(ExoError, match="stand at the same place"):
        read_calibration(written(tmp_path, TOML + TOML.replace("left", "right").split("[metadata]")[0]))


def test_a_camera_that_is_missing_is_named(tmp_path):
    cameras = read_calibration(written(tmp_path, TOML))
    assert cameras_for(["left"], cameras) == cameras
    with pytest.raises(ExoError, match=r"lacks right, top \(it has left\)"):
        cameras_for(["right", "left", "top"], cameras)


def test_the_size_of_the_video(tmp_path):
    (camera,) = read_calibration(written(tmp_path, TOML))
    assert picture_scale(camera, (1920, 1080)) == 1.0
    assert picture_scale(dataclasses.replace(camera, size=(1920, 1088)), (1920, 1080)) == 1.0
    assert picture_scale(camera, (1280, 720)) == 1.5
    for size, sentence in (((1440, 1080), "calibrate again"), ((1080, 1920), "turned by 90 degrees")):
        with pytest.raises(ExoError, match=sentence):
            picture_scale(camera, size)
