"""Strength, passive moment and passive range of a made-up wearer, and published figures that they must meet."""

import dataclasses
import itertools

import numpy as np
import pytest
from jointed_bodies import pin, tree_of
from twin_fakes import make_gait, make_model, make_muscles, make_paths

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_safety.envelope import HARD_CAPS
from exo_twin.inverse.envelope import ANGLE_MARGIN, TORQUE_SHARE, ZERO_MARGIN, compute_envelope
from exo_twin.inverse.kinematic_tree import GROUND
from exo_twin.inverse.passive_moment import passive_moments
from exo_twin.inverse.tolerance import (
    EXTENSION,
    FLEXION,
    STILL,
    VELOCITIES,
    Tolerance,
    compute_tolerance,
)

WEIGHT_HEIGHT = 70.0 * 9.81 * 1.75
POSTURE = {"knee_angle_l": 0.3, "knee_angle_r": 0.3}
HIP, KNEE, ANKLE = range(3)
MODEL = {"joint_range": np.tile([-2.0, 2.0], (6, 1)), **make_muscles().arrays()}


def tree(knee_sign=1.0):
    found = tree_of([pin(GROUND, i) for i in range(6)], LEG_COORDINATES)
    lower = np.tile([-0.6, 0.0, -0.9], 2)
    upper = np.tile([2.0, 2.4, 0.7], 2)
    if knee_sign < 0:
        lower, upper = (
            np.where(np.arange(6) % 3 == KNEE, -own, side) for own, side in ((upper, lower), (lower, upper))
        )
    return dataclasses.replace(found, lower=lower, upper=upper)


def tolerance(strength=1.0, generic=1.0, **kwargs):
    muscles = make_model().scaled(strength=generic)
    gait = kwargs.get("gait", make_gait())
    own = muscles.scaled(strength=strength)
    return compute_tolerance(tree(), make_paths(), muscles, own, gait, POSTURE, WEIGHT_HEIGHT)


def test_strength_is_force_times_moment_arm_of_the_muscles_that_pull_that_way():
    found = tolerance(generic=1e-3)  # so weak that no dynamometer bounds it
    paths, muscles = make_paths(), make_model().scaled(strength=1e-3)
    q = np.array([0.5, 0.3, 0.0, 0.0, 0.3, 0.0])
    path = paths.evaluate(q[None], np.array([[2.0, 0, 0, 0, 0, 0]]))
    active = (muscles.fibres(path.length, path.velocity).active * path.arms[:, :, HIP])[0]
    expected = -active[active < 0].sum(), active[active > 0].sum()
    assert expected[0] > 0.0 and expected[1] > 0.0
    # The table is read between its points.
    told = found.capacity("hip_flexion_l", np.array([0.5]), np.array([2.0]))[:, 0]
    np.testing.assert_allclose(told, expected, rtol=0.03)
    np.testing.assert_array_equal(found.dynamometer, 1.0)


def test_the_table_is_read_linearly_between_its_points_and_held_beyond():
    found = tolerance()
    angle, speed, table = found.angle[HIP], found.velocity, found.strength[HIP]
    between = 0.75 * angle[4] + 0.25 * angle[5]
    told = found.capacity(
        "hip_flexion_l", np.array([angle[4], between, 99.0]), np.array([speed[3], speed[3], speed[3]])
    )
    np.testing.assert_allclose(told[:, 0], table[:, 4, 3])
    np.testing.assert_allclose(told[:, 1], 0.75 * table[:, 4, 3] + 0.25 * table[:, 5, 3])
    np.testing.assert_allclose(told[:, 2], table[:, -1, 3])
    halfway = found.capacity("hip_flexion_l", angle[4:5], np.array([0.8 * speed[3] + 0.2 * speed[4]]))
    np.testing.assert_allclose(halfway[:, 0], 0.8 * table[:, 4, 3] + 0.2 * table[:, 4, 4])


def test_shortening_muscles_are_weaker_and_lengthening_ones_stronger():
    still = tolerance().strength[:, :, 15, STILL]
    fast = tolerance().strength[:, :, 15, -2]  # in the sense of flexion
    assert (fast[:, FLEXION] < 0.7 * still[:, FLEXION]).all()
    assert (fast[:, EXTENSION] > 1.1 * still[:, EXTENSION]).all()
    assert VELOCITIES[-1] == HARD_CAPS.velocity_max_rad_s and VELOCITIES[STILL] == 0.0


def test_no_joint_is_stronger_than_people_on_a_dynamometer():
    """Anderson et al. 2007: peaks of young men; wide bounds in Nm/kg around what reviews pool for adults."""
    found = tolerance(generic=3.0)
    strongest = found.strength[:, :, :, STILL].max(axis=2) / 70.0
    assert (found.dynamometer < 1.0).all()
    for row, ((least_ext, most_ext), (least_flex, most_flex)) in enumerate(
        (((2.0, 4.5), (1.2, 3.0)), ((2.0, 4.0), (1.0, 2.5)), ((1.2, 3.0), (0.4, 1.0)))
    ):
        assert least_ext < strongest[row, EXTENSION] < most_ext
        assert least_flex < strongest[row, FLEXION] < most_flex
    # Calibration counts from there: half the generic strength is half of what people reach.
    half = tolerance(0.5, generic=3.0)
    np.testing.assert_allclose(half.strength, 0.5 * found.strength, rtol=1e-9)
    # A walk proves no strength, neither by force nor by lengths.
    np.testing.assert_array_equal(tolerance(2.0, generic=3.0).strength, found.strength)
    longer = make_model().scaled(3.0, optimal_fiber_length=1.15)
    other = compute_tolerance(
        tree(), make_paths(), make_model().scaled(3.0), longer, make_gait(), POSTURE, WEIGHT_HEIGHT
    )
    assert (other.strength <= found.strength).all() and (other.strength < 0.999 * found.strength).any()


def test_what_was_walked_is_within_the_wearers_strength():
    shown = {name: np.full(101, -160.0 if name == "ankle_angle_l" else 1.0) for name in LEG_COORDINATES}
    gait = dataclasses.replace(make_gait(), moment_curves=shown)
    found, before = tolerance(gait=gait, generic=3.0), tolerance(generic=3.0)
    curve = gait.curves["ankle_angle_l"]
    still = np.zeros(101)
    able = found.capacity("ankle_angle_l", curve, still)[EXTENSION].min()
    assert able == pytest.approx(160.0) and before.capacity("ankle_angle_l", curve, still)[EXTENSION].min() < 150.0
    np.testing.assert_array_equal(found.strength[HIP], before.strength[HIP])


def test_published_passive_moments_resist_at_both_ends_of_every_joint():
    at = np.deg2rad
    hip = passive_moments(at(np.array([-20.0, 110.0])), at(np.array([0.0, 60.0])), np.zeros(2))[HIP]
    knee = passive_moments(np.zeros(2), at(np.array([-5.0, 140.0])), np.zeros(2))[KNEE]
    ankle = passive_moments(np.zeros(2), np.zeros(2), at(np.array([-60.0, 25.0])))[ANKLE]
    for moment in (hip, knee, ankle):
        assert moment[0] > 8.0 and moment[1] < -8.0
    # Calf muscles cross the knee: bending it slackens them.
    bent = passive_moments(np.zeros(1), at(np.array([60.0])), at(np.array([20.0])))[ANKLE]
    assert passive_moments(np.zeros(1), np.zeros(1), at(np.array([20.0])))[ANKLE] < 1.5 * bent < 0.0


def test_the_passive_range_ends_where_resistance_is_half_of_strength_or_the_model_ends():
    found = tolerance()
    low, high = found.passive_range[ANKLE]
    assert low >= -0.9 and 0.1 < high < 0.7
    passive = np.interp(high, found.angle[ANKLE], np.minimum(found.passive_fibres, found.passive_published)[ANKLE])
    strength = np.interp(high, found.angle[ANKLE], found.strength[ANKLE, FLEXION, :, STILL])
    assert -passive == pytest.approx(0.5 * strength, rel=0.1)
    assert tolerance(0.4).passive_range[ANKLE][1] < high  # the weaker the dorsiflexors, the earlier


def test_a_knee_that_counts_backwards_is_told_with_flexion_positive():
    paths, muscles = make_paths(), make_model()
    turned = np.where(np.arange(6) % 3 == KNEE, -1.0, 1.0)

    class Backwards:
        muscles, coordinates = paths.muscles, paths.coordinates

        @staticmethod
        def evaluate(q, qd):
            path = paths.evaluate(q * turned, qd * turned)
            return dataclasses.replace(path, arms=path.arms * turned)

    posture = {name: -angle for name, angle in POSTURE.items()}
    found = compute_tolerance(tree(-1.0), Backwards(), muscles, muscles, make_gait(), posture, WEIGHT_HEIGHT)
    for name, value in dataclasses.asdict(tolerance()).items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-9, err_msg=name)


def test_arrays_come_back_and_damage_is_named():
    found = tolerance()
    arrays = found.arrays()
    assert all(name.startswith("tolerance_") for name in arrays)
    again = Tolerance.from_arrays(arrays)
    np.testing.assert_allclose(again.strength, found.strength, rtol=1e-6)
    with pytest.raises(ExoError, match="'tolerance_strength' must hold finite numbers"):
        Tolerance.from_arrays({**arrays, "tolerance_strength": np.full_like(arrays["tolerance_strength"], np.nan)})


def test_a_model_without_muscles_about_a_joint_is_refused():
    paths = make_paths()
    fewer = dataclasses.replace(paths, coordinates=(*LEG_COORDINATES[:5], "toe_r"))
    with pytest.raises(ExoError, match="no muscle of the model crosses 'ankle_angle_r'"):
        compute_tolerance(tree(), fewer, make_model(), make_model(), make_gait(), {}, WEIGHT_HEIGHT)


def test_a_weaker_wearer_gets_a_smaller_envelope_and_nobody_more_than_the_caps():
    gait = make_gait()
    sizes = []
    for strength in (1e3, 1.0, 0.5, 0.2):
        envelope = compute_envelope("w", gait, MODEL, tolerance(strength), 1e3)
        for limits in envelope.sides:
            for key, cap in dataclasses.asdict(HARD_CAPS).items():
                assert getattr(limits, key) >= cap if key == "angle_min_rad" else getattr(limits, key) <= cap
        own = envelope.left
        sizes.append((own.torque_max_nm, own.power_max_w, own.angle_max_rad, -own.angle_min_rad))
    assert all(np.all(np.array(weaker) <= stronger) for stronger, weaker in itertools.pairwise(sizes))
    assert sizes[-1][0] < sizes[1][0]
    capacity = tolerance(0.2).capacity("hip_flexion_l", gait.curves["hip_flexion_l"], np.zeros(101)).min()
    assert sizes[-1][0] <= TORQUE_SHARE * capacity


def test_the_passive_range_cuts_the_margin_but_not_what_was_walked_and_a_slipped_cuff():
    gait = make_gait()
    tight = dataclasses.replace(tolerance(), passive_range=np.tile([0.0, 0.01], (6, 1)))
    walked = gait.curves["hip_flexion_l"]
    own = compute_envelope("w", gait, MODEL, tight, 20.0).left
    assert own.angle_min_rad <= walked.min() - ZERO_MARGIN and own.angle_max_rad >= walked.max() + ZERO_MARGIN
    assert own.angle_max_rad == pytest.approx(walked.max() + 2.0 * 0.03 + ZERO_MARGIN, abs=1e-3)
    roomy = dataclasses.replace(tight, passive_range=np.tile([-2.0, 2.0], (6, 1)))
    own = compute_envelope("w", gait, MODEL, roomy, 20.0).left
    assert own.angle_max_rad == pytest.approx(walked.max() + 2.0 * 0.03 + ANGLE_MARGIN, abs=1e-3)
