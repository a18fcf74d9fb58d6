"""Whatever a session holds, the capture gives the same things; the slow pose estimation is replaced."""

import json

import numpy as np
import pytest
from marker_person import stance, walk, write_c3d

from exo_capture import session_capture
from exo_capture.calibration_files import write_calibration
from exo_capture.landmarks import MARKERS
from exo_capture.multicamera import reconstruct
from exo_capture.multicamera_capture import MulticameraCapture, judge_walk
from exo_capture.session_capture import capture_session, session_inputs
from exo_capture.synthetic import NO_NOISE, film, ring
from exo_capture.synthetic_walker import walker as room_walker
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, read_storage, read_trc, write_trc
from exo_common.session import load

RATE_HZ = 60.0
TIME = np.arange(round(5.0 * RATE_HZ)) / RATE_HZ
WALK = room_walker(TIME, speed=0.8)
CAMERAS = ring(3, distance=6.0)


def session(folder, text):
    (folder / "session.yaml").write_text(f"wearer: {{id: w01, height: 1.70, mass: 68.0}}\n{text}\n")
    return load(folder)


def json_folder(folder, landmarks, frames):
    """One person's landmarks (m, 33, 3) as another tool's files."""
    folder.mkdir()
    for frame, points in zip(frames, landmarks, strict=True):
        flat = np.nan_to_num(points).ravel().round(3).tolist()
        (folder / f"picture_{frame:06d}.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": flat}]}))


def test_one_camera_by_landmarks(tmp_path, walker):
    points = np.dstack([walker(seconds=5.0).landmarks, np.full((150, 33), 0.9)])
    json_folder(tmp_path / "side_json", points, range(150))
    camera = "cameras: [{name: side, landmarks: side_json, rate: 30, size: [1920, 1080]}]"
    asked = session(tmp_path, camera)
    found = capture_session(asked)
    assert found.planar and found.covariance is None and found.video is None and found.marker_set is None
    found.require_strides()
    assert np.isfinite(found.markers.position).all() and found.raw.names == tuple(MARKERS)
    assert session_inputs(asked)["side_json"] == tmp_path / "side_json"


def test_one_camera_by_video_passes_on_what_the_session_says(tmp_path, monkeypatch):
    said = []

    def capture(*arguments):
        said.extend(arguments)
        raise ExoError("that is enough; stop")

    monkeypatch.setattr(session_capture, "capture_sagittal", capture)
    monkeypatch.setattr(session_capture, "model_path", lambda variant: variant)
    (tmp_path / "side.mp4").write_bytes(b"video")
    uses = "person: 2\npose_model: lite\nwalking: {start: 1, end: 6}"
    with pytest.raises(ExoError, match="that is enough"):
        capture_session(session(tmp_path, f"cameras: [{{name: side, video: side.mp4}}]\n{uses}"))
    video, height, model, start, end, _, person = said
    assert (video, height, model, start, end, person) == (tmp_path / "side.mp4", 1.70, "lite", 1.0, 6.0, 2)


def test_several_cameras_by_landmarks(tmp_path):
    lines = []
    for seen in film(WALK, TIME, CAMERAS, NO_NOISE, seed=0):
        json_folder(tmp_path / f"{seen.camera}_json", seen.landmarks, seen.frame)
        lines.append(f"{{name: {seen.camera}, landmarks: {seen.camera}_json, rate: 60, size: [1920, 1080]}}")
    write_calibration(tmp_path / "rig.toml", CAMERAS)
    asked = session(tmp_path, f"cameras: [{', '.join(lines)}]\ncalibration: rig.toml")
    found = capture_session(asked)
    assert not found.planar and found.covariance is not None and found.covariance.shape == (len(MARKERS), 3, 3)
    assert (np.diagonal(found.covariance, axis1=1, axis2=2) > 0.0).all()
    assert found.quality.gait["speed_m_s"] == pytest.approx(0.8, abs=0.03)
    assert {"session.yaml", "rig.toml", "cam01_json"} <= set(session_inputs(asked))


def test_several_cameras_by_video(tmp_path, monkeypatch):
    result = reconstruct(film(WALK, TIME, CAMERAS, NO_NOISE, seed=0), CAMERAS)
    said = {}

    def capture(videos, cameras, model, **options):
        said.update(options, videos=videos, model=model, cameras=[camera.name for camera in cameras])
        return MulticameraCapture(result, *judge_walk(result), ())

    monkeypatch.setattr(session_capture, "capture_multicamera", capture)
    monkeypatch.setattr(session_capture, "model_path", lambda variant: variant)
    names = [camera.name for camera in CAMERAS][::-1]
    for name in names:
        (tmp_path / f"{name}.mp4").write_bytes(b"video")
    write_calibration(tmp_path / "rig.toml", CAMERAS)
    lines = ", ".join(f"{{name: {name}, video: {name}.mp4}}" for name in names)
    found = capture_session(
        session(tmp_path, f"cameras: [{lines}]\ncalibration: rig.toml\npose_model: heavy\nperson: 1")
    )
    assert said["videos"] == {name: tmp_path / f"{name}.mp4" for name in names}
    assert (said["cameras"], said["model"], said["person"]) == (names, "heavy", 1)
    assert found.raw is result.raw and len(found.strides) >= 4


def test_markers(tmp_path):
    said = {"LABELS": ["weight", "height"], "UNITS": ["kg", "m"], "VALUES": [68.0, 1.80]}
    write_c3d(tmp_path / "walk.c3d", walk(), SUBJECT=said)
    write_c3d(tmp_path / "static.c3d", stance())
    found = capture_session(session(tmp_path, "markers: {file: walk.c3d, static: static.c3d}"))
    assert found.marker_set is not None and found.marker_set.name == "gait_speeds_52"
    assert found.static is not None and {"L_IAS", "LHip"} <= set(found.raw.names)
    assert "L_IAS" not in found.markers.names and "LHip" in found.markers.names
    assert any("says a height of 1.8 m, the session 1.7" in warning for warning in found.quality.warnings)
    found.save(tmp_path)
    assert (read_storage(tmp_path / "confidence.sto").values == 1.0).all()
    assert not {"plates.xml", "grf.mot"} & set(session_inputs(session(tmp_path, "markers: {file: walk.c3d}")))
    (tmp_path / "plates.xml").write_text("<ExternalLoads><datafile>C:\\lab\\grf.mot</datafile></ExternalLoads>")
    loaded = session_inputs(session(tmp_path, "markers: {file: walk.c3d, forces: plates.xml}"))
    assert (loaded["plates.xml"], loaded["grf.mot"]) == (tmp_path / "plates.xml", tmp_path / "grf.mot")
    with pytest.raises(ExoError, match="there is no marker-set map other"):
        capture_session(session(tmp_path, "markers: {file: walk.c3d, set: other}"))


def test_keypoints_and_what_is_written(tmp_path):
    position = WALK[:, list(MARKERS.values())].copy()
    position[:40, 0] = np.nan
    write_trc(tmp_path / "walk.trc", Markers(TIME, tuple(MARKERS), position))
    found = capture_session(session(tmp_path, "keypoints: {file: walk.trc}"))
    assert not found.planar and found.covariance is None
    found.save(tmp_path)
    kept = read_trc(tmp_path / "keypoints.trc")
    np.testing.assert_allclose(kept.position, found.markers.position, atol=1e-6)
    trust = read_storage(tmp_path / "confidence.sto")
    assert trust.columns == kept.names and len(trust.time) == len(kept.time)
    assert (trust.column("Nose")[:40] == 0.0).all() and (trust.column("LHip") == 1.0).all()
    assert (tmp_path / "quality.yaml").is_file()


def test_a_recording_without_strides_makes_no_twin(tmp_path):
    still = np.repeat(WALK[:1, list(MARKERS.values())], len(TIME), axis=0)
    write_trc(tmp_path / "walk.trc", Markers(TIME, tuple(MARKERS), still))
    found = capture_session(session(tmp_path, "keypoints: {file: walk.trc}"))
    with pytest.raises(ExoError, match="holds 0 complete strides of the left and 0 of the right"):
        found.require_strides()
