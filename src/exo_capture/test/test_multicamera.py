"""Several cameras end to end on a stick walker: noise, and everything that can be wrong with the cameras."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from exo_capture.camera_health import mirrored
from exo_capture.cameras import Camera
from exo_capture.landmarks import LEG_L, LEG_R, MARKERS, Detections
from exo_capture.multicamera import Reconstruction, reconstruct
from exo_capture.synthetic import NO_NOISE, Noise, film, ring
from exo_capture.synthetic_walker import walker
from exo_common.errors import ExoError

RATE = 50.0
TIME = np.arange(round(3.5 * RATE)) / RATE
WALK = walker(TIME, speed=0.8)
CAMERAS = ring(4, distance=5.0)
STATED = Noise()
LEGS = [list(MARKERS.values()).index(slot) for slot in (*LEG_L, *LEG_R)]


def _filmed(noise: Noise = NO_NOISE, cameras: list[Camera] = CAMERAS, **options: object) -> list[Detections]:
    return film(WALK, TIME, cameras, noise, seed=4, **options)  # type: ignore[arg-type]


def _error_m(result: Reconstruction, walk: NDArray[np.float64] = WALK) -> float:
    """Root mean square distance to the truth, apart from where the origin is."""
    truth = walk[np.round(result.markers.time * RATE).astype(int)][:, list(MARKERS.values())]
    difference = result.markers.position - truth
    difference -= np.nanmedian(difference, axis=(0, 1))
    return float(np.sqrt(np.nanmean(np.sum(difference**2, axis=2))))


def _turned(camera: Camera, axis: tuple[float, float, float], degrees: float) -> Camera:
    turn = cv2.Rodrigues(np.radians(degrees) * np.array(axis))[0]
    return dataclasses.replace(camera, rotation=turn @ camera.rotation, translation=turn @ camera.translation)


def _room(cameras: list[Camera]) -> list[Camera]:
    """The same cameras in a room with z up, turned and shifted."""
    turn = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    shift = np.array([1.0, 2.0, 0.3])
    return [
        dataclasses.replace(c, rotation=c.rotation @ turn.T, translation=c.translation - c.rotation @ turn.T @ shift)
        for c in cameras
    ]


def test_perfect_pictures_give_the_walk_in_opensims_frame() -> None:
    result = reconstruct(_filmed(), _room(CAMERAS))
    assert _error_m(result) < 0.006  # the low-pass alone
    toes = result.markers.position[:, [result.markers.names.index(f"{s}BigToe") for s in "LR"], 1]
    assert abs(np.nanmin(toes)) < 0.02
    assert result.figures["reprojection_px"] < 0.1
    assert result.figures["observations_kept_pct"] > 99.0
    assert not result.warnings


def test_exposed_observations_fit_the_exposed_cameras_and_markers() -> None:
    result = reconstruct(_filmed(), _room(CAMERAS))
    slots = list(MARKERS.values())
    for camera, seen in zip(result.cameras, result.observations, strict=True):
        assert np.nanmax(np.abs(camera.project(result.raw.position) - seen[:, slots, :2])) < 0.5


def test_stated_noise_is_averaged_and_its_size_found() -> None:
    result = reconstruct(_filmed(STATED), CAMERAS)
    assert _error_m(result) < 0.05
    assert all(7.0 < sigma < 12.0 for sigma in result.sigma_px.values())
    assert result.markers.confidence is not None
    assert ((result.markers.confidence >= 0.0) & (result.markers.confidence <= 1.0)).all()


def test_gross_errors_and_exchanged_legs_change_little() -> None:
    plain = reconstruct(_filmed(STATED), CAMERAS)
    wild = reconstruct(_filmed(dataclasses.replace(STATED, outlier_share=0.05)), CAMERAS)
    assert _error_m(wild) < 1.1 * _error_m(plain)
    assert wild.figures["legs_exchanged_pct"] > 0.5
    assert wild.figures["observations_kept_pct"] > 90.0


def test_two_cameras_do() -> None:
    cameras = ring([50.0, 120.0], distance=5.0)
    result = reconstruct(film(WALK, TIME, cameras, STATED, seed=1), cameras)
    assert _error_m(result) < 0.07


def test_covariance_tells_the_error() -> None:
    result = reconstruct(film(WALK, TIME, CAMERAS, Noise(dropout_share=0.0), seed=9), CAMERAS)
    truth = WALK[np.round(result.raw.time * RATE).astype(int)][:, list(MARKERS.values())]
    error = result.raw.position - truth
    error -= np.nanmedian(error, axis=(0, 1))
    whole = np.isfinite(error).all(axis=2)
    squared = np.einsum("ni,nij,nj->n", error[whole], np.linalg.inv(result.covariance[whole]), error[whole])
    assert 1.5 < np.median(squared) < 4.0  # chi-squared with 3 degrees of freedom has its median at 2.4


def test_cameras_started_by_hand_are_synchronised() -> None:
    starts = [0.0, 0.9, -0.45, 0.31]
    result = reconstruct(_filmed(STATED, starts_s=starts), CAMERAS, synchronise=True)
    errors = [RATE * abs(result.offsets_s[c.name] - s) for c, s in zip(CAMERAS, starts, strict=True)]
    assert max(errors) < 0.5
    assert _error_m(result) < 0.05


def test_unsynchronised_cameras_are_noticed_without_being_asked() -> None:
    result = reconstruct(_filmed(starts_s=[0.0, 0.5, 0.2, 0.0]), CAMERAS)
    assert _error_m(result) < 0.01
    assert "clocks differed by up to 0.50 s" in result.warnings[0]


def test_one_missing_camera_is_named_and_the_others_go_on() -> None:
    result = reconstruct(_filmed()[:3], CAMERAS)
    assert _error_m(result) < 0.006
    assert result.warnings == ("cam04 has no recording; the others go on without it",)


def test_one_camera_is_too_few() -> None:
    with pytest.raises(ExoError, match="only 1 of 4 calibrated cameras sees somebody"):
        reconstruct(_filmed()[:1], CAMERAS)


def test_five_frames_are_refused() -> None:
    with pytest.raises(ExoError, match="cam01 holds only 5 frames"):
        reconstruct(film(WALK[:5], TIME[:5], CAMERAS, NO_NOISE, seed=0), CAMERAS)


def test_recordings_without_calibration_are_refused() -> None:
    with pytest.raises(ExoError, match="no calibration for cam04"):
        reconstruct(_filmed(), CAMERAS[:3])


@pytest.mark.parametrize("synchronise", [False, True])
def test_mirrored_picture_is_turned_back_and_named(synchronise: bool) -> None:
    seen = _filmed(STATED)
    seen[1] = mirrored(seen[1])
    result = reconstruct(seen, CAMERAS, synchronise=synchronise)
    assert _error_m(result) < 0.05
    assert any("picture of cam02 is mirrored" in warning for warning in result.warnings)


def test_camera_that_fell_is_left_out() -> None:
    cameras = [*CAMERAS[:2], _turned(CAMERAS[2], (0.3, 1.0, 0.2), 12.0), CAMERAS[3]]
    result = reconstruct(_filmed(STATED), cameras)
    assert _error_m(result) < 0.06
    assert any("cam03 contradicts the other cameras throughout" in warning for warning in result.warnings)


def test_camera_that_turned_a_little_is_put_right() -> None:
    cameras = [*CAMERAS[:2], _turned(CAMERAS[2], (0.0, 1.0, 0.0), 1.2), CAMERAS[3]]
    result = reconstruct(_filmed(), cameras)
    assert result.figures["turn_cam03_deg"] == pytest.approx(1.2, abs=0.2)
    assert result.figures["reprojection_px"] < 2.5
    assert any("cam03 has turned by 1." in warning for warning in result.warnings)


def test_camera_knocked_during_the_recording_is_left_out_from_then_on() -> None:
    before, after = _filmed(STATED), _filmed(STATED, [*CAMERAS[:2], _turned(CAMERAS[2], (0, 1, 0), 6.0), CAMERAS[3]])
    half = int(before[2].frame[-1] // 2)
    mixed = np.where(before[2].frame[:, None, None] < half, before[2].landmarks, np.nan)
    late = after[2].frame >= half
    landmarks = np.concatenate([mixed[before[2].frame < half], after[2].landmarks[late]])
    frame = np.concatenate([before[2].frame[before[2].frame < half], after[2].frame[late]])
    before[2] = dataclasses.replace(before[2], frame=frame, landmarks=landmarks)
    result = reconstruct(before, CAMERAS)
    assert _error_m(result) < 0.06
    assert any("cam03 contradicts the other cameras from " in warning for warning in result.warnings)


def test_wrong_calibration_is_refused() -> None:
    rotated = [dataclasses.replace(camera, name=f"cam0{1 + (i + 1) % 4}") for i, camera in enumerate(CAMERAS)]
    skewed = [_turned(camera, (1.0, 0.3 * i, 0.5), 15.0 + 9.0 * i) for i, camera in enumerate(rotated)]
    with pytest.raises(ExoError, match="belongs to other cameras or places"):
        reconstruct(_filmed(STATED), skewed)


def test_other_picture_size_is_scaled_or_refused() -> None:
    seen = _filmed()
    small = dataclasses.replace(seen[0], size=(960, 540), landmarks=seen[0].landmarks * (0.5, 0.5, 1.0))
    assert _error_m(reconstruct([small, *seen[1:]], CAMERAS)) < 0.006
    with pytest.raises(ExoError, match="cam01's picture is 1080x1920 px but was calibrated at 1920x1080"):
        reconstruct([dataclasses.replace(seen[0], size=(1080, 1920)), *seen[1:]], CAMERAS)


def test_walker_who_leaves_the_picture_is_not_invented() -> None:
    walk = walker(TIME, speed=2.0)
    cameras = ring([60.0, 120.0], distance=3.0)
    result = reconstruct(film(walk, TIME, cameras, NO_NOISE, seed=0), cameras)
    assert 0.5 < np.ptp(result.markers.time) < TIME[-1] - 0.3
    assert _error_m(result, walk) < 0.02


def test_second_person_is_kept_apart() -> None:
    other = walker(TIME + 0.3, speed=-0.5) * np.array([1.0, 0.93, 1.0]) + np.array([0.0, 0.0, 0.9])
    seen = film(np.stack([WALK, other]), TIME, CAMERAS, STATED, seed=2)
    part = [dataclasses.replace(d, frame=d.frame[d.frame < 100], landmarks=d.landmarks[d.frame < 100]) for d in seen]
    both = [reconstruct(part, CAMERAS, person=i) for i in (1, 2)]
    assert min(_error_m(result) for result in both) < 0.06
    heights = [np.nanmean(result.markers.position[:, 0, 1]) for result in both]
    assert abs(heights[0] - heights[1]) > 0.05
    with pytest.raises(ExoError, match="no person 7"):
        reconstruct(part, CAMERAS, person=7)


def test_somebody_standing_faces_forward() -> None:
    still = np.repeat(WALK[:1], len(TIME), axis=0)
    turn = cv2.Rodrigues(np.array([0.0, 2.0, 0.0]))[0]
    result = reconstruct(film(still @ turn.T, TIME, CAMERAS, NO_NOISE, seed=0), CAMERAS)
    left, right = (result.markers.position[0, result.markers.names.index(f"{s}Hip")] for s in "LR")
    across = right - left
    np.testing.assert_allclose(across / np.linalg.norm(across), (0.0, 0.0, 1.0), atol=0.15)
    assert result.facts["motion"] == "stays in place"
