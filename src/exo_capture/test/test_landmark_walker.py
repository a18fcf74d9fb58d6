"""Another tool's landmarks of a side view are as good as a video: the walker is found among others, feet may hide."""

import numpy as np
import pytest

from exo_capture.angles import sagittal_angles
from exo_capture.landmark_walker import ASSUMPTION, between, reconstruct_landmarks
from exo_capture.landmarks import HEELS, TOES, Detections, hip_centre
from exo_common.errors import ExoError

RATE_HZ, STATURE, SIZE = 30.0, 1.70, (1920, 1080)


def seen(*people):
    """Detections of people (n, 33, 2) px who are all there from the first picture on."""
    order = [(frame, points[frame]) for frame in range(max(map(len, people))) for points in people]
    landmarks = np.array([np.column_stack([points, np.full(33, 0.9)]) for _, points in order])
    time = np.arange(max(map(len, people))) / RATE_HZ
    return Detections("side", SIZE, time, np.array([frame for frame, _ in order], dtype=np.int64), landmarks)


def test_the_walker_is_found_beside_a_bystander_and_with_hidden_feet(walker):
    truth = walker(seconds=5.0)
    still = walker(seconds=5.0, speed=0.0).landmarks
    still = still - hip_centre(still)[:, None] + (900.0, 380.0)
    both = seen(truth.landmarks, still)
    both.landmarks[::14, (HEELS[0], TOES[0])] = np.nan
    result = reconstruct_landmarks(both, STATURE)
    assert all(len(result.events.of(side)) >= 2 for side in "lr")
    for side in "lr":
        error = np.degrees(sagittal_angles(result.markers)[f"knee_angle_{side}"] - truth.knee[side][result.window])
        assert np.sqrt(np.mean(error**2)) < 4.0
    assert ASSUMPTION in result.quality.assumptions


def test_two_walkers_are_told_apart_by_number(walker):
    first, second = walker(seconds=5.0), walker(seconds=5.0, direction=-1)
    apart = second.landmarks + np.array([0.0, 120.0])
    with pytest.raises(ExoError, match="person: N"):
        reconstruct_landmarks(seen(first.landmarks, apart), STATURE)
    directions = {reconstruct_landmarks(seen(first.landmarks, apart), STATURE, n).view.direction for n in (1, 2)}
    assert directions == {1, -1}


def test_landmarks_without_feet_are_refused(walker):
    footless = seen(walker().landmarks)
    footless.landmarks[:, (*HEELS, *TOES)] = np.nan
    with pytest.raises(ExoError, match=r"the landmarks of side lack LHeel.*HALPE_26"):
        reconstruct_landmarks(footless, STATURE)


def test_a_part_keeps_its_times(walker):
    whole = seen(walker().landmarks)
    part = between(whole, 1.0, 2.0)
    assert part.time[0] == pytest.approx(1.0) and part.time[-1] == pytest.approx(2.0)
    assert part.frame[0] == 0 and part.frame[-1] == len(part.time) - 1
    np.testing.assert_array_equal(part.landmarks[0], whole.landmarks[30])
    with pytest.raises(ExoError, match=r"last from 0\.0 to"):
        between(whole, 60.0, 70.0)
