"""Another tool's 3-D keypoints: turned along the walk, gaps bridged, strides found; what cannot be used is said."""

import cv2
import numpy as np
import pytest

from exo_capture.gait_events import ON_THE_SPOT_NOTE
from exo_capture.keypoint_capture import capture_keypoints
from exo_capture.landmarks import MARKERS
from exo_capture.multicamera_capture import NO_WALKING
from exo_capture.synthetic_walker import walker
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, write_trc

RATE_HZ, SPEED = 60.0, 1.1
TIME = 2.0 + np.arange(round(5.0 * RATE_HZ)) / RATE_HZ
WALK = walker(TIME, speed=SPEED)[:, list(MARKERS.values())]
NAMES = tuple(MARKERS)


def trc(folder, position=WALK, names=NAMES):
    write_trc(folder / "walk.trc", Markers(2.0 + np.arange(len(position)) / RATE_HZ, names, position))
    return folder / "walk.trc"


def test_a_walk_in_any_direction_runs_along_x(tmp_path):
    turn = cv2.Rodrigues(np.array([0.0, 2.0, 0.0]))[0]
    found = capture_keypoints(trc(tmp_path, WALK @ turn.T + (3.0, 0.0, -2.0)))
    assert min(len(found.events.of(side)) for side in "lr") >= 2
    assert found.quality.gait["speed_m_s"] == pytest.approx(SPEED, rel=0.02)
    way = found.markers.position[-1, 0] - found.markers.position[0, 0]
    assert way[0] > 4.0 and abs(way[2]) < 0.1
    bones = [np.linalg.norm(p[:, NAMES.index("LHip")] - p[:, NAMES.index("LKnee")], axis=1)
             for p in (found.raw.position, WALK)]  # fmt: skip
    np.testing.assert_allclose(bones[0], bones[1], atol=1e-5)


def test_gaps_are_bridged_in_the_markers_and_stay_in_the_raw_ones(tmp_path):
    position = WALK.copy()
    position[100:106, NAMES.index("RAnkle")] = np.nan
    found = capture_keypoints(trc(tmp_path, position))
    ankle = found.markers.names.index("RAnkle")
    assert np.isfinite(found.markers.position[:, ankle]).all()
    assert np.isnan(found.raw.position[100:106, ankle]).all()
    assert found.quality.figures["points_interpolated_pct"] > 0.0


def test_a_part_of_the_file(tmp_path):
    found = capture_keypoints(trc(tmp_path), 3.0, 6.0)
    assert found.markers.time[0] == pytest.approx(3.0) and found.markers.time[-1] == pytest.approx(6.0)
    with pytest.raises(ExoError, match=r"it lasts from 2\.0 to 7\.0 s"):
        capture_keypoints(trc(tmp_path), 10.0, 12.0)


def test_somebody_who_stands_has_no_strides(tmp_path):
    found = capture_keypoints(trc(tmp_path, np.repeat(WALK[:1], len(TIME), axis=0)))
    assert not found.events.strides and NO_WALKING in found.quality.warnings


@pytest.mark.parametrize(("back", "begins"), [(1.0, 2.0), (0.6, 2.0), (1.5, 7.0)])
def test_of_an_out_and_back_the_longer_way_is_used_and_the_report_says_so(tmp_path, back, begins):
    returning = walker(2.0 + np.arange(round(back * len(TIME))) / RATE_HZ, speed=SPEED)[:, list(MARKERS.values())]
    returning = returning * (-1.0, 1.0, -1.0)
    returning[..., 0] += WALK[-1, :, 0].mean() - returning[0, :, 0].mean()
    turn = cv2.Rodrigues(np.array([0.0, 1.0, 0.0]))[0]
    found = capture_keypoints(trc(tmp_path, np.concatenate([WALK, returning]) @ turn.T))
    longer = max(back, 1.0) * len(TIME) / RATE_HZ
    assert abs(found.markers.time[0] - begins) < 0.2
    assert found.markers.time[-1] - found.markers.time[0] == pytest.approx(longer, abs=0.2)
    assert min(len(found.events.of(side)) for side in "lr") >= 3
    assert found.quality.gait["speed_m_s"] == pytest.approx(SPEED, rel=0.02)
    assert found.quality.gait["stride_length_cv_pct"] < 2.0 and 60.0 < found.quality.gait["stance_pct"] < 70.0
    assert sum("walks forward only from" in warning for warning in found.quality.warnings) == 1


def test_a_treadmill_has_times_but_no_lengths(tmp_path):
    rng = np.random.default_rng(0)
    belt = walker(TIME, speed=0.0)[:, list(MARKERS.values())]
    found = capture_keypoints(trc(tmp_path, belt + rng.normal(0.0, 0.003, belt.shape)))
    assert min(len(found.events.of(side)) for side in "lr") >= 2
    assert found.quality.gait["stride_time_s"] == pytest.approx(1.1, abs=0.01)
    assert not [name for name in found.quality.gait if name.startswith(("speed", "stride_length", "step_length"))]
    assert ON_THE_SPOT_NOTE in found.quality.warnings and len(found.quality.warnings) == 1


def test_missing_feet_are_named(tmp_path):
    keep = [i for i, name in enumerate(NAMES) if not name.endswith("Heel")]
    with pytest.raises(ExoError, match="no keypoint called LHeel, RHeel; use a model with feet"):
        capture_keypoints(trc(tmp_path, WALK[:, keep], tuple(NAMES[i] for i in keep)))


def test_keypoints_with_large_holes_are_refused(tmp_path):
    position = WALK.copy()
    position[60:220, 5:] = np.nan
    with pytest.raises(ExoError, match=r"walk\.trc cannot be used: .*points_missing_pct"):
        capture_keypoints(trc(tmp_path, position))
