"""Who is who within a view and across views."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from exo_capture.association import Person, Tracklet, choose_person, find_people, find_tracklets
from exo_capture.landmarks import Detections
from exo_capture.mirrored_pose import OTHER_SIDE
from exo_capture.synthetic import Noise, film, ring
from exo_capture.synthetic_walker import walker
from exo_common.errors import ExoError

TIME = np.arange(80) / 40.0
CAMERAS = ring([30.0, 80.0, 140.0], distance=5.0)
FIRST = walker(TIME, speed=0.8)
SECOND = walker(TIME + 0.4, speed=-0.8) + np.array([0.0, 0.0, 1.0])


def _filmed() -> list[Detections]:
    return film(np.stack([FIRST, SECOND]), TIME, CAMERAS, Noise(), seed=1)


def test_two_people_are_two_in_every_view_and_the_same_two_in_all() -> None:
    seen = _filmed()
    tracklets = [find_tracklets(d, c) for c, d in enumerate(seen)]
    people = find_people(seen, CAMERAS, [t for view in tracklets for t in view], [d.time for d in seen])
    whole = [person for person in people if len({t.camera for t in person.tracklets}) == len(CAMERAS)]
    assert len(whole) == 2
    for person in whole:
        # film() reports the first person first in every picture.
        of_first = [
            np.mean(t.row == np.searchsorted(seen[t.camera].frame, seen[t.camera].frame[t.row]))
            for t in person.tracklets
        ]
        assert min(of_first) > 0.9 or max(of_first) < 0.1


def test_duplicates_are_one_person() -> None:
    single = film(FIRST, TIME, CAMERAS[:1], Noise(), seed=1)[0]
    twice = dataclasses.replace(
        single, frame=np.repeat(single.frame, 2), landmarks=np.repeat(single.landmarks, 2, axis=0) + 2.0
    )
    assert [len(t.row) for t in find_tracklets(twice, 0)] == [len(single.frame)]


def test_back_taken_for_front_is_still_the_same_person() -> None:
    single = film(FIRST, TIME, CAMERAS[:1], Noise(), seed=1)[0]
    landmarks = single.landmarks.copy()
    landmarks[30:50] = landmarks[30:50][:, OTHER_SIDE]
    found = find_tracklets(dataclasses.replace(single, landmarks=landmarks), 0)
    assert [len(t.row) for t in found] == [len(single.frame)]


def test_the_wearer_is_seen_most_and_moves() -> None:
    rows = np.arange(100)
    stander = Person((Tracklet(0, rows), Tracklet(1, rows)))
    walks = Person((Tracklet(0, rows), Tracklet(1, rows[:80])))
    passer = Person((Tracklet(0, rows[:20]), Tracklet(1, rows[:20])))
    assert choose_person([stander, walks, passer], [0.1, 3.0, 2.0], None) == (1, True)
    assert choose_person([walks, passer], [3.0, 2.0], None) == (0, False)
    assert choose_person([stander, walks], [0.1, 3.0], 1) == (0, False)
    with pytest.raises(ExoError, match=r"no person 0.*choose 1 to 2"):
        choose_person([stander, walks], [0.1, 3.0], 0)
    with pytest.raises(ExoError, match="nobody"):
        choose_person([], [], None)
