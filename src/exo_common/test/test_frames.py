"""Conventions that every package leans on."""

import numpy as np

from exo_common.clock import to_ns, to_stamp
from exo_common.frames import LEG_COORDINATES, opensim_to_ros, quaternion_about


def test_opensims_up_and_right_become_ros_up_and_minus_left() -> None:
    np.testing.assert_array_equal(opensim_to_ros(np.eye(3)), [[1, 0, 0], [0, 0, 1], [0, -1, 0]])


def test_left_comes_first() -> None:
    assert LEG_COORDINATES[0] == "hip_flexion_l"
    assert LEG_COORDINATES[3] == "hip_flexion_r"


def test_flexion_about_minus_y_swings_the_thigh_forward() -> None:
    x, y, z, w = quaternion_about((0.0, -1.0, 0.0), np.pi / 2)
    down = np.array([0.0, 0.0, -1.0])
    u = np.array([x, y, z])
    rotated = down + 2 * np.cross(u, np.cross(u, down) + w * down)
    np.testing.assert_allclose(rotated, [1.0, 0.0, 0.0], atol=1e-12)


def test_stamps_keep_every_nanosecond() -> None:
    ns = 1_700_000_000_123_456_789
    assert to_ns(to_stamp(ns)) == ns
