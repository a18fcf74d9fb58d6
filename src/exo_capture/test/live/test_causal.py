"""What is done to the legs, the metres and the jitter when only the past is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from live_fakes import RATE_HZ

from exo_capture.causal_legs import MAX_DOUBT_S, OTHER_LEG, LegGuard
from exo_capture.causal_plane import LivePlane
from exo_capture.causal_smoothing import OneEuro
from exo_capture.landmarks import LEG_L, LEG_R
from exo_capture.live import NAMES

Walker = Callable[..., Any]
LEGS = [*LEG_L, *LEG_R]
STATURE = 1.70
HEIGHT_PX = 350.0


def guard(landmarks: np.ndarray) -> tuple[LegGuard, np.ndarray]:
    legs = LegGuard()
    seen = np.dstack([landmarks, np.ones(landmarks.shape[:2])])
    return legs, np.array([legs.step(row, HEIGHT_PX, i / RATE_HZ) for i, row in enumerate(seen)])


def noisy(walker: Walker) -> np.ndarray:
    body = walker().landmarks
    return body + np.random.default_rng(3).normal(0.0, 2.0, body.shape)


def test_a_clean_walk_passes_unchanged(walker: Walker) -> None:
    body = noisy(walker)
    legs, mended = guard(body)
    np.testing.assert_array_equal(mended[:, :, :2], body)
    assert legs.exchanged == legs.rejected == 0
    assert mended[5:, LEGS, 2].mean() > 0.9


def test_exchanged_legs_are_exchanged_back_at_once(walker: Walker) -> None:
    body = noisy(walker)
    wrong = body.copy()
    # Where the legs are apart; where they cross nobody can tell.
    swapped = [25, 26, 58, 59, 60]
    wrong[swapped] = body[swapped][:, OTHER_LEG]
    legs, mended = guard(wrong)
    np.testing.assert_array_equal(mended[:, LEGS, :2], body[:, LEGS])
    assert legs.exchanged == len(swapped)


def test_what_lasts_is_believed(walker: Walker) -> None:
    body = noisy(walker)
    body[60:] = body[60:][:, OTHER_LEG]
    legs, mended = guard(body)
    assert legs.exchanged <= round(MAX_DOUBT_S * RATE_HZ) + 1
    np.testing.assert_array_equal(mended[80:, LEGS, :2], body[80:, LEGS])


def test_a_joint_that_jumps_is_left_out_and_comes_back(walker: Walker) -> None:
    body = noisy(walker)
    body[50, 27] += (0.0, -0.4 * HEIGHT_PX)
    legs, mended = guard(body)
    assert np.isnan(mended[50, 27, :2]).all() and mended[50, 27, 2] == 0.0
    assert np.isfinite(mended[51:, 27, :2]).all() and legs.rejected == 1


def knee_angle(position: np.ndarray, side: str) -> np.ndarray:
    """Flexion (n,) rad in the walking plane of (n, k, 3)."""
    hip, knee, ankle = (position[:, NAMES.index(side + part), :2] for part in ("Hip", "Knee", "Ankle"))
    thigh, shank = knee - hip, ankle - knee
    return np.arctan2(thigh[:, 0], -thigh[:, 1]) - np.arctan2(shank[:, 0], -shank[:, 1])


@pytest.mark.parametrize("direction", [1, -1])
def test_one_camera_gives_metres_and_angles_of_the_walk(walker: Walker, direction: int) -> None:
    truth = walker(direction=direction, trend=0.08)
    plane = LivePlane(STATURE)
    steps = [plane.step(row, i / RATE_HZ) for i, row in enumerate(truth.landmarks)]
    assert [i for i, step in enumerate(steps) if step is None] == [0, 1]
    position = np.array([step for step in steps if step is not None])
    for side in "LR":
        error = knee_angle(position, side) - truth.knee[side.lower()][2:]
        assert np.degrees(np.abs(error)).max() < 0.5
    settled = position[45:]
    hip = settled[:, NAMES.index("LHip")]
    seconds = (len(hip) - 1) / RATE_HZ
    assert hip[-1, 0] - hip[0, 0] == pytest.approx(1.2 * seconds, rel=0.03)
    lowest = settled[:, [NAMES.index(n) for n in ("LHeel", "RHeel", "LBigToe", "RBigToe")], 1].min(axis=1)
    assert np.abs(lowest).max() < 0.02
    assert (settled[:, NAMES.index("RKnee"), 2] > 0.0).all() and (settled[:, NAMES.index("LKnee"), 2] < 0.0).all()


def test_who_turns_round_walks_back_along_the_same_axis(walker: Walker) -> None:
    forth, back = walker(seconds=2.0).landmarks, walker(seconds=2.0, direction=-1).landmarks
    back = back + (forth[-1, 23] - back[0, 23])
    plane = LivePlane(STATURE)
    way = [plane.step(row, i / RATE_HZ) for i, row in enumerate(np.concatenate([forth, back]))]
    hip = [step[NAMES.index("LHip")] for step in way if step is not None]
    assert hip[55][0] > 2.0 and abs(hip[-1][0]) < 0.3
    assert hip[55][2] < 0.0 < hip[-1][2], "her left side is on the other side now"


def test_from_the_front_one_camera_says_nothing(walker: Walker) -> None:
    body = walker().landmarks.copy()
    body[:, :, 0] = 900.0 + 0.02 * (body[:, :, 0] - body[:, 23:24, 0])
    plane = LivePlane(STATURE)
    assert all(plane.step(row, i / RATE_HZ) is None for i, row in enumerate(body))


def test_smoothing_takes_jitter_off_what_rests_and_delays_what_moves_as_documented() -> None:
    rng = np.random.default_rng(1)
    time = np.arange(300) / RATE_HZ
    rest = OneEuro(3.0, 10.0)
    still = np.array([rest.step(np.array([v]), t)[0] for v, t in zip(rng.normal(0.0, 0.002, 300), time, strict=True)])
    assert still[30:].std() < 0.75 * 0.002
    ramp = OneEuro(3.0, 10.0)
    moved = np.array([ramp.step(np.array([2.0 * t]), t)[0] for t in time])
    delay = (2.0 * time - moved)[-1] / 2.0
    documented = 1.0 / (2.0 * np.pi * (3.0 + 10.0 * 2.0))
    assert 0.7 * documented < delay < documented


def test_a_missing_value_stays_missing_and_does_not_spread() -> None:
    smooth = OneEuro(3.0, 10.0)
    for i in range(10):
        values = np.array([1.0, 5.0])
        if i == 4:
            values[1] = np.nan
        result = smooth.step(values, i / RATE_HZ)
        assert np.isnan(result[1]) == (i == 4) and result[0] == 1.0
    assert smooth.step(np.array([1.0, 9.0]), 5.0)[1] == 9.0, "after a long gap a value starts afresh"
