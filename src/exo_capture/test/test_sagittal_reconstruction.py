import numpy as np
import pytest

from exo_capture.angles import sagittal_angles
from exo_capture.landmarks import EYES, LEG_L, LEG_R, MARKERS, NOSE, SHOULDERS
from exo_capture.sagittal import HEIGHT_SHARES, turned
from exo_capture.sagittal_reconstruction import FEET, INTERPOLATED_CONFIDENCE, reconstruct_sagittal
from exo_common.errors import ExoError

STATURE, SIZE, STRIDE_S = 1.70, (1920, 1080), 1.1
JITTER_PX = 2.0


def seen(truth, confidence=0.9):
    return np.dstack([truth.landmarks, np.full(truth.landmarks.shape[:2], confidence)])


def rebuild(landmarks, rate_hz=30.0, **options):
    return reconstruct_sagittal(landmarks, 3.0 + np.arange(len(landmarks)) / rate_hz, SIZE, STATURE, **options)


@pytest.mark.parametrize("rate_hz", [30.0, 60.0, 100.0])
def test_angles_at_any_frame_rate(walker, rate_hz):
    truth = walker(seconds=5.0, rate_hz=rate_hz)
    noise = np.random.default_rng(0).normal(0.0, JITTER_PX, truth.landmarks.shape)
    landmarks = seen(truth)
    landmarks[:, :, :2] += noise
    result = rebuild(landmarks, rate_hz)
    angles = sagittal_angles(result.markers)
    assert all(len(result.events.of(side)) >= 2 for side in "lr")
    for side in "lr":
        error = np.degrees(angles[f"knee_angle_{side}"] - truth.knee[side][result.window])
        assert np.sqrt(np.mean(error**2)) < 3.0


def test_an_estimator_without_eyes_is_scaled_by_the_shoulders(walker):
    with_eyes = seen(walker())
    # The made-up walker's shoulders are put where the table has them, so that both ways must agree.
    feet = with_eyes[:, (29, 30, 31, 32), 1].max(axis=1)
    with_eyes[:, (11, 12), 1] = (
        feet - (feet - with_eyes[:, NOSE, 1]) * HEIGHT_SHARES[SHOULDERS] / HEIGHT_SHARES[EYES]
    )[:, None]
    without = with_eyes.copy()
    without[:, [NOSE, *EYES]] = np.nan
    scales = [np.median(rebuild(landmarks).view.metre_per_px) for landmarks in (with_eyes, without)]
    assert scales[1] == pytest.approx(scales[0], rel=0.02)
    assert np.isnan(rebuild(without).markers.position[:, 0]).all()


def test_what_was_not_measured_has_low_confidence_and_is_missing_in_the_raw_markers(walker):
    landmarks = seen(walker())
    landmarks[50:53, LEG_L[1], :2] = np.nan
    result = rebuild(landmarks)
    knee, hip = list(MARKERS).index("LKnee"), list(MARKERS).index("LHip")
    at = slice(50 - result.window.start, 53 - result.window.start)
    assert np.isfinite(result.markers.position[at, knee]).all() and np.isnan(result.raw.position[at, knee]).all()
    np.testing.assert_allclose(result.markers.confidence[at, knee], 0.9 * INTERPOLATED_CONFIDENCE)
    assert (result.raw.confidence[at, knee] == 0.0).all()
    np.testing.assert_allclose(result.markers.confidence[at, hip], 0.9)
    feet = [i for i, slot in enumerate(MARKERS.values()) if slot in FEET]
    assert result.markers.confidence[:, feet].max() < 0.5


def test_without_a_filter_markers_of_a_clean_walk_are_the_raw_ones(walker):
    result = rebuild(seen(walker()), cutoff_hz=None)
    np.testing.assert_allclose(result.markers.position, result.raw.position, atol=1e-3)


def test_a_short_recording_can_be_asked_for(walker):
    landmarks = seen(walker(seconds=0.9))
    with pytest.raises(ExoError, match="stride"):
        rebuild(landmarks)
    assert rebuild(landmarks, min_strides=0).events.strides == ()


def test_a_walker_who_leaves_the_picture_keeps_the_measured_half(walker):
    landmarks = seen(walker(seconds=5.0))
    # The picture's edge is where the left toe is when it is furthest ahead.
    toe = landmarks[:, LEG_L[-1], 0]
    out = 90 + int(np.argmax((toe - landmarks[:, LEG_L[0], 0])[90:125]))
    landmarks[:, :, 0] += SIZE[0] - toe[out]
    landmarks[out:, LEG_L[-1], 0] = SIZE[0] + 5.0
    result = rebuild(landmarks)
    known = np.isfinite(result.pixels[:, :, 0])
    assert out < result.window.stop < out + 10, "the body would be squeezed into the rest of the picture"
    assert known[: out - 5].all()
    assert not known[out:, LEG_L[-1]].any() and known[out:, LEG_R].all(), "never extrapolated"


@pytest.mark.parametrize("near, warned", [("r", False), ("l", True)])
def test_a_near_leg_that_is_seen_worse_is_said(walker, near, warned):
    landmarks = seen(walker(direction=1))
    landmarks[:, LEG_L if near == "r" else LEG_R, 2] = 0.6
    warnings = rebuild(landmarks).quality.warnings
    assert any("mirrored" in warning for warning in warnings) == warned


def test_five_frames(walker):
    with pytest.raises(ExoError, match="long enough"):
        rebuild(seen(walker())[:5])


def test_a_walk_that_is_never_wholly_in_the_picture(walker):
    landmarks = seen(walker())
    landmarks[:, :, 1] += 300.0
    with pytest.raises(ExoError, match="never in the picture from head to foot"):
        rebuild(landmarks)


def test_half_a_leg_is_refused_with_the_count(walker):
    landmarks = seen(walker())
    landmarks[:, LEG_R[1]] = np.nan
    with pytest.raises(ExoError, match="complete left and 0 right"):
        rebuild(landmarks)


@pytest.mark.parametrize("roll_deg", [-6.0, 3.0])
@pytest.mark.parametrize("trend", [0.0, 0.08])
def test_a_camera_that_is_not_level_is_turned_back(walker, roll_deg, trend):
    truth = walker(trend=trend)
    landmarks = seen(truth)
    centre = np.array(SIZE) / 2.0
    landmarks[:, :, :2] = centre + turned(landmarks[:, :, :2] - centre, -np.radians(roll_deg))
    result = rebuild(landmarks)
    assert result.quality.figures["camera_roll_deg"] == pytest.approx(abs(roll_deg), abs=2.0 if trend else 0.3)
    level = rebuild(seen(truth))
    names = [level.markers.names.index(name) for name in ("LHip", "LKnee", "LShoulder")]
    expected, found = (r.markers.position[:, names, :2] - r.markers.position[:, names[:1], :2] for r in (level, result))
    tilt = [np.arctan2(p[:, 2, 0], p[:, 2, 1]).mean() for p in (expected[10:-10], found[10:-10])]
    assert tilt[1] == pytest.approx(tilt[0], abs=np.radians(2.0 if trend else 0.3))
    np.testing.assert_allclose(result.pixels[20], landmarks[result.window][20, :, :2], atol=5.0)


def test_a_variable_frame_rate_costs_little(walker):
    rng = np.random.default_rng(0)
    even = walker(seconds=5.0, rate_hz=600.0)
    time = np.arange(150) / 30.0 + rng.uniform(-0.4, 0.4, 150) / 30.0
    index = np.round(np.clip(time, 0.0, 4.99) * 600.0).astype(int)
    landmarks = seen(even)[index]
    result = reconstruct_sagittal(landmarks, index / 600.0, SIZE, STATURE)
    blind = reconstruct_sagittal(landmarks, np.arange(150) / 30.0, SIZE, STATURE)
    errors = []
    for r in (result, blind):
        knee = sagittal_angles(r.markers)["knee_angle_l"][10:-10]
        errors.append(np.degrees(np.sqrt(np.mean((knee - even.knee["l"][index][r.window][10:-10]) ** 2))))
    assert errors[0] < 2.5 and errors[0] < errors[1]
    for stride in result.events.strides:
        assert stride.duration == pytest.approx(STRIDE_S, abs=0.03)
