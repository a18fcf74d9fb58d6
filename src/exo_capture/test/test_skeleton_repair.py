"""Impossible points go, short gaps close, nothing is invented."""

from __future__ import annotations

import numpy as np

from exo_capture.landmarks import ANKLES, KNEES
from exo_capture.skeleton_repair import WRISTS, repair_skeleton
from exo_capture.synthetic_walker import walker

RATE = 50.0
TIME = np.arange(100) / RATE
WALK = walker(TIME)
SURE = np.full(WALK.shape[:2], 0.01)


def test_a_clean_walk_is_left_as_it_is() -> None:
    repaired = repair_skeleton(WALK, SURE, RATE)
    assert not repaired.rejected.any() and not repaired.filled.any()
    np.testing.assert_array_equal(repaired.position, WALK)


def test_a_jump_is_replaced_by_the_motion_around_it() -> None:
    wrong = WALK.copy()
    wrong[50:53, KNEES[0]] += (0.2, 0.1, 0.0)
    repaired = repair_skeleton(wrong, SURE, RATE)
    assert repaired.rejected[50:53, KNEES[0]].all()
    assert np.abs(repaired.position[50:53, KNEES[0]] - WALK[50:53, KNEES[0]]).max() < 0.02


def test_a_long_drift_is_told_by_the_bone_and_not_filled() -> None:
    wrong = WALK.copy()
    wrong[30:70, ANKLES[1], 2] += 0.35 * np.sin(np.linspace(0.0, np.pi, 40))
    repaired = repair_skeleton(wrong, np.where(np.arange(33) == ANKLES[1], 0.05, SURE), RATE)
    assert repaired.rejected[40:60, ANKLES[1]].all()
    assert np.isnan(repaired.position[45:55, ANKLES[1], 0]).all()
    assert np.isfinite(repaired.position[:, KNEES[1]]).all()


def test_the_ends_are_not_extrapolated() -> None:
    short = WALK.copy()
    short[:8, ANKLES[0]] = np.nan
    short[60:64, ANKLES[0]] = np.nan
    repaired = repair_skeleton(short, SURE, RATE)
    assert np.isnan(repaired.position[:8, ANKLES[0]]).all()
    assert repaired.filled[60:64, ANKLES[0]].all()


def test_points_alone_in_time_or_out_of_reach_are_not_trusted() -> None:
    wrong = WALK.copy()
    wrong[:30, WRISTS[0]] = np.nan
    wrong[10, WRISTS[0]] = WALK[10, WRISTS[0]]
    wrong[80, WRISTS[1]] += 2.0
    repaired = repair_skeleton(wrong, SURE, RATE)
    assert repaired.rejected[10, WRISTS[0]] and repaired.rejected[80, WRISTS[1]]
