"""The whole pipeline, on a real video of a real person."""

import itertools
import time

import cv2
import numpy as np
import pytest
import yaml

from exo_capture.angles import sagittal_angles
from exo_capture.draw import annotated_frames
from exo_capture.landmarks import hip_centre
from exo_capture.monocular import capture_sagittal
from exo_capture.sagittal import apparent_height
from exo_common.errors import ExoError
from exo_common.opensim_files import read_trc, write_trc

STATURE = 1.65
# Walking overground, adults: textbook ranges of motion, wide enough for any healthy walker and this method's error.
HIP_ROM_DEG, KNEE_ROM_DEG = (35.0, 65.0), (45.0, 75.0)
TIME_LIMIT_S = 120.0


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def capture(demo_video, model, progress):
    start = time.monotonic()
    result = capture_sagittal(demo_video, STATURE, model, progress=lambda share, text: progress.append((share, text)))
    assert time.monotonic() - start < TIME_LIMIT_S
    return result


def test_the_right_person_in_every_frame(capture):
    hip, height = hip_centre(capture.pixels.landmarks), apparent_height(capture.pixels.landmarks)
    assert capture.quality.figures["person_found_pct"] == 100.0
    # The bystander stands on a wall: hips in the upper third of the picture. The walker crosses the lower half.
    assert (hip[:, 1] > 0.6 * capture.clip.height).all()
    assert np.abs(np.diff(hip, axis=0)).max() < 0.1 * np.median(height)
    assert np.ptp(height) < 0.25 * np.median(height)
    assert np.ptp(hip[:, 0]) > 3.0 * np.median(height)


def test_two_strides_of_each_leg_alternate(capture):
    assert len(capture.events.of("l")) >= 2 and len(capture.events.of("r")) >= 2
    sides = [stride.side for stride in capture.strides]
    assert all(a != b for a, b in itertools.pairwise(sides))
    gait = capture.quality.gait
    assert 0.9 < gait["stride_time_s"] < 1.4 and 0.8 < gait["speed_m_s"] < 1.6 and 55.0 < gait["stance_pct"] < 70.0


@pytest.mark.parametrize("side", ["l", "r"])
def test_hip_and_knee_have_the_shape_of_walking(capture, side):
    angles = sagittal_angles(capture.markers)
    phase = np.linspace(0.0, 1.0, 101)

    def mean(name):
        strides = capture.events.of(side)
        series = np.degrees(angles[f"{name}_{side}"])
        return np.mean([np.interp(s.start + phase * s.duration, capture.markers.time, series) for s in strides], axis=0)

    hip, knee = mean("hip_flexion"), mean("knee_angle")
    assert HIP_ROM_DEG[0] < np.ptp(hip) < HIP_ROM_DEG[1]
    assert KNEE_ROM_DEG[0] < np.ptp(knee) < KNEE_ROM_DEG[1]
    assert 0.45 < phase[np.argmin(hip)] < 0.70, "the hip is most extended around push-off"
    assert 0.60 < phase[np.argmax(knee)] < 0.85, "the knee is most flexed in swing"
    assert 5.0 < knee[5:25].max() < 35.0, "the knee yields when it is loaded"


def test_markers_are_a_person_walking_forwards(capture, tmp_path):
    markers = capture.markers
    write_trc(tmp_path / "walk.trc", markers)
    again = read_trc(tmp_path / "walk.trc")
    assert again.names == markers.names
    np.testing.assert_allclose(again.position, markers.position, atol=1e-5)
    eyes = markers.position[:, [markers.names.index(name) for name in ("LEye", "REye")], 1]
    assert np.nanquantile(eyes, 0.75) == pytest.approx(0.936 * STATURE, rel=0.02)
    hip = markers.position[:, markers.names.index("LHip"), 0]
    assert hip[-1] - hip[0] > 4.0
    feet = markers.position[:, [markers.names.index(name) for name in ("LHeel", "RHeel", "LBigToe", "RBigToe")], 1]
    both_feet = np.isfinite(feet).all(axis=1)
    assert both_feet.mean() > 0.9 and np.abs(feet[both_feet].min(axis=1)).max() < 0.08


def test_report_pictures_and_progress(capture, progress, tmp_path):
    assert capture.quality.verdict in ("good", "usable")
    capture.quality.save(tmp_path / "quality.yaml")
    assert yaml.safe_load((tmp_path / "quality.yaml").read_text())["facts"]["direction"] == "to the left"
    pictures = annotated_frames(capture, count=3)
    assert len(pictures) == 3
    for index, png in pictures:
        assert index in capture.pixels.frame
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[1] == 720
    shares = [share for share, _ in progress]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_one_stride_is_refused_with_the_count(demo_video, model):
    with pytest.raises(ExoError, match=r"complete left and .* right stride"):
        capture_sagittal(demo_video, STATURE, model, start_s=3.0, end_s=4.7)


@pytest.mark.parametrize("height", [165.0, 0.0, float("nan")])
def test_a_height_that_is_not_in_metres(tmp_path, height):
    with pytest.raises(ExoError, match="standing height in m"):
        capture_sagittal(tmp_path / "any.mp4", height, tmp_path / "any.task")


def test_a_video_without_people(model, tmp_path):
    path = tmp_path / "empty.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (320, 240))
    for i in range(50):
        writer.write(np.full((240, 320, 3), i, np.uint8))
    writer.release()
    with pytest.raises(ExoError, match="no person was found"):
        capture_sagittal(path, STATURE, model)
