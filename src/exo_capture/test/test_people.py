import numpy as np
import pytest

from exo_capture.landmarks import hip_centre
from exo_capture.people import Candidates, choose_walker, find_tracks
from exo_common.errors import ExoError

RATE_HZ = 30.0


def candidates(*people):
    """Candidates from (frames, landmarks (n, 33, 2)) pairs."""
    frame = np.concatenate([np.asarray(frames) for frames, _ in people])
    points = np.concatenate([landmarks for _, landmarks in people])
    visible = np.concatenate([points, np.full((*points.shape[:2], 1), 0.9)], axis=2)
    order = np.argsort(frame, kind="stable")
    return Candidates(frame[order].astype(np.int64), visible[order])


def standing(walker, x, y, size=1.0):
    """Somebody who marks time at one place of the picture, larger or smaller than the walker."""
    landmarks = walker(speed=0.0).landmarks
    return (landmarks - hip_centre(landmarks)[:, None]) * size + (x, y)


def test_walker_is_chosen_over_a_bystander_duplicates_and_chimeras(walker):
    truth = walker()
    n = len(truth.landmarks)
    rng = np.random.default_rng(0)
    seen = np.sort(rng.choice(n, round(0.8 * n), replace=False))
    bystander = standing(walker, 900.0, 400.0, 1.3)
    chimera = truth.landmarks[::7].copy()
    chimera[:, :13, 1] -= 0.5 * truth.height[::7, None]
    duplicate = truth.landmarks[::5] + rng.normal(0.0, 0.03 * truth.height[0], (len(range(0, n, 5)), 1, 2))
    mixed = candidates(
        (seen, truth.landmarks[seen]),
        (np.arange(n), bystander),
        (np.arange(0, n, 7), chimera),
        (np.arange(0, n, 5), duplicate),
    )
    track = choose_walker(find_tracks(mixed, RATE_HZ), RATE_HZ)
    true_hip = hip_centre(truth.landmarks)[track.frame]
    assert np.linalg.norm(track.hip - true_hip, axis=1).max() < 0.15 * truth.height[0]
    assert len(track.frame) > 0.75 * n
    assert np.abs(track.height / truth.height[track.frame] - 1.0).max() < 0.15


def test_a_hidden_walker_stays_one_track(walker):
    truth = walker()
    frames = np.r_[0:50, 72 : len(truth.landmarks)]
    tracks = find_tracks(candidates((frames, truth.landmarks[frames])), RATE_HZ)
    assert len(tracks) == 1
    assert (tracks[0].frame[0], tracks[0].frame[-1]) == (0, len(truth.landmarks) - 1)


def test_only_the_steady_walk_counts(walker):
    truth = walker()
    n = len(truth.landmarks)
    waiting = walker(seconds=2.0, speed=0.0).landmarks
    waiting += hip_centre(truth.landmarks)[0] - hip_centre(waiting)[:, None]
    everything = np.concatenate([waiting, truth.landmarks])
    track = choose_walker(find_tracks(candidates((np.arange(len(everything)), everything)), RATE_HZ), RATE_HZ)
    assert abs(track.frame[0] - len(waiting)) < 0.5 * RATE_HZ
    assert track.frame[-1] == len(waiting) + n - 1


def test_two_walkers_need_a_choice(walker):
    there, back = walker(direction=1).landmarks, walker(direction=-1).landmarks
    frames = np.arange(len(there))
    tracks = find_tracks(candidates((frames, there), (frames, back + np.array([0.0, -300.0]))), RATE_HZ)
    with pytest.raises(
        ExoError, match=r"2 people walk.*person 1: 0\.0-4\.0 s, walking to the (?P<way>right|left)"
    ) as refused:
        choose_walker(tracks, RATE_HZ)
    said = [part.split(" from ")[0].split()[-1] for part in str(refused.value).split("walking to the")[1:]]
    for person in (1, 2):
        chosen = choose_walker(tracks, RATE_HZ, person)
        assert (chosen.hip[-1, 0] > chosen.hip[0, 0]) == (said[person - 1] == "right")
    with pytest.raises(ExoError, match="there is no person 3; choose one of: person 1"):
        choose_walker(tracks, RATE_HZ, 3)


def test_nobody_walks(walker):
    bystander = standing(walker, 900.0, 500.0)
    tracks = find_tracks(candidates((np.arange(len(bystander)), bystander)), RATE_HZ)
    with pytest.raises(ExoError, match=r"nobody walks across the picture.*1 person"):
        choose_walker(tracks, RATE_HZ)


def test_nobody_there():
    nobody = Candidates(np.zeros(0, np.int64), np.zeros((0, 33, 3)))
    with pytest.raises(ExoError, match="no person was found"):
        choose_walker(find_tracks(nobody, RATE_HZ), RATE_HZ)
