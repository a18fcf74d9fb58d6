import itertools

import numpy as np
import pytest

from exo_capture.landmarks import LEG_L, LEG_R
from exo_capture.planar_legs import constant_bones

JITTER_M = 0.01


def metres(truth):
    return truth.landmarks / 220.0


def lengths(points, leg):
    return [np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in itertools.pairwise(leg)]


def knee_deg(points, leg):
    hip, knee, ankle = (points[:, i] for i in leg[:3])
    thigh, shank = ((b - a) for a, b in ((hip, knee), (knee, ankle)))
    cross = thigh[:, 0] * shank[:, 1] - thigh[:, 1] * shank[:, 0]
    return np.degrees(np.arctan2(np.abs(cross), np.sum(thigh * shank, axis=1)))


def test_legs_without_error_stay_where_they_are(walker):
    points = metres(walker())
    moved = constant_bones(points, np.zeros(points.shape[:2], dtype=bool))
    np.testing.assert_allclose(moved, points, atol=1e-4)


@pytest.mark.parametrize("leg", [LEG_L, LEG_R])
def test_bones_are_constant_and_the_knee_is_better(walker, leg):
    truth = metres(walker())
    noisy = truth + np.random.default_rng(0).normal(0.0, JITTER_M, truth.shape)
    moved = constant_bones(noisy, np.zeros(truth.shape[:2], dtype=bool))
    assert (
        max(length.std() for length in lengths(moved, leg)) < 1e-6 < min(length.std() for length in lengths(noisy, leg))
    )
    before, after = (np.sqrt(np.mean((knee_deg(p, leg) - knee_deg(truth, leg)) ** 2)) for p in (noisy, moved))
    assert after < before


def test_a_knee_slid_towards_hip_and_ankle_bends_again(walker):
    truth = metres(walker())
    hidden = truth.copy()
    bent = knee_deg(truth, LEG_R) > 40.0
    middle = (truth[:, LEG_R[0]] + truth[:, LEG_R[2]]) / 2.0
    hidden[bent, LEG_R[1]] += 0.2 * (middle - truth[:, LEG_R[1]])[bent]
    moved = constant_bones(hidden, np.zeros(truth.shape[:2], dtype=bool))
    error = [np.mean((knee_deg(points, LEG_R) - knee_deg(truth, LEG_R))[bent]) for points in (hidden, moved)]
    assert error[0] < -8.0 and abs(error[1]) < 0.75 * abs(error[0])


def test_missing_points_stay_missing(walker):
    points = metres(walker())
    points[10:15, LEG_L[1]] = np.nan
    points[20:25, LEG_L[4]] = np.nan
    moved = constant_bones(points, np.zeros(points.shape[:2], dtype=bool))
    assert (np.isnan(moved) == np.isnan(points)).all()
    np.testing.assert_array_equal(moved[10:15, LEG_L[2]], points[10:15, LEG_L[2]])


def test_a_leg_that_was_never_seen_changes_nothing(walker):
    points = metres(walker())
    points[:, LEG_L] = np.nan
    moved = constant_bones(points, np.zeros(points.shape[:2], dtype=bool))
    np.testing.assert_allclose(moved, points, atol=1e-4)
