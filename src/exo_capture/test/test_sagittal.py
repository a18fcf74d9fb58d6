import numpy as np
import pytest

from exo_capture.angles import NEUTRAL_TRUNK_TO_THIGH, sagittal_angles
from exo_capture.landmarks import HIPS
from exo_capture.sagittal import depth, fit_view, lean_drift, to_markers
from exo_common.errors import ExoError

RATE_HZ, STATURE, SPEED, THIGH = 30.0, 1.70, 1.2, 0.42


def markers_of(landmarks):
    view = fit_view(landmarks, STATURE)
    return view, to_markers(landmarks, landmarks, np.arange(len(landmarks)) / RATE_HZ, view, STATURE)


@pytest.mark.parametrize("direction, near", [(1, "r"), (-1, "l")])
@pytest.mark.parametrize("trend", [0.0, 0.08, -0.08])
def test_metres_speed_and_angles_are_recovered(walker, direction, near, trend):
    truth = walker(direction=direction, trend=trend)
    view, markers = markers_of(truth.landmarks)
    assert (view.direction, view.near_side) == (direction, near)
    hip, knee = (markers.position[:, markers.names.index(name)] for name in ("LHip", "LKnee"))
    np.testing.assert_allclose(np.linalg.norm((hip - knee)[:, :2], axis=1), THIGH, rtol=0.03)
    assert np.polyfit(markers.time, hip[:, 0], 1)[0] == pytest.approx(SPEED, rel=0.03)
    feet = [markers.names.index(name) for name in ("LHeel", "RHeel", "LBigToe", "RBigToe")]
    assert np.abs(markers.position[:, feet, 1].min(axis=1)).max() < 0.03
    angles = sagittal_angles(markers)
    for side in "lr":
        np.testing.assert_allclose(angles[f"knee_angle_{side}"], truth.knee[side], atol=np.radians(0.5))
        lean = np.arctan2(0.02, 0.48)
        np.testing.assert_allclose(
            angles[f"hip_flexion_{side}"], truth.hip[side] + lean - NEUTRAL_TRUNK_TO_THIGH, atol=np.radians(0.5)
        )


def test_right_markers_are_to_the_right(walker):
    _, markers = markers_of(walker().landmarks)
    for joint in ("Hip", "Knee", "Ankle", "Shoulder"):
        left, right = (markers.position[:, markers.names.index(side + joint), 2] for side in "LR")
        assert (right > 0.0).all() and (left == -right).all()
    assert depth("Nose") == 0.0


def test_a_reversed_video_is_refused(walker):
    with pytest.raises(ExoError, match="reverse"):
        fit_view(walker().landmarks[::-1], STATURE)


def test_feet_that_are_never_seen_are_said(walker):
    landmarks = walker().landmarks.copy()
    landmarks[10:, 31] = np.nan
    with pytest.raises(ExoError, match="known in only 10 frames"):
        fit_view(landmarks, STATURE)


def test_missing_points_stay_missing(walker):
    landmarks = walker().landmarks.copy()
    landmarks[10:14, 25] = np.nan
    _, markers = markers_of(landmarks)
    knee = markers.position[:, markers.names.index("LKnee")]
    assert np.isnan(knee[10:14]).all() and np.isfinite(knee[14:]).all()


@pytest.mark.parametrize("pitch", [-0.15, 0.0, 0.15])
def test_a_camera_that_looks_up_or_down_is_noticed(walker, pitch):
    focal, centre = 1500.0, np.array([960.0, 540.0])
    x, y = np.moveaxis((walker(seconds=5.0).landmarks - centre) / focal, -1, 0)
    # Turning a camera about its horizontal axis moves the picture by a homography.
    depth = np.cos(pitch) + y * np.sin(pitch)
    picture = centre + focal * np.stack([x, y * np.cos(pitch) - np.sin(pitch)], axis=-1) / depth[..., None]
    way = np.ptp(picture[:, HIPS, 0].mean(axis=1)) / focal
    assert abs(lean_drift(picture)) == pytest.approx(abs(pitch) * way, abs=np.radians(1.0))
