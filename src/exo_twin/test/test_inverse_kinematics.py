"""Inverse kinematics gives a known motion back; the mean stride is closed, in phase and honest."""

import dataclasses

import numpy as np
import pytest
from opensim_walk import SPEED, STRIDE, TOE_OFF, generic_model, true_pose, true_strides, walk_keypoints

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers, Storage
from exo_twin.inverse.gait_cycle import close_curve, gait_from_motion
from exo_twin.inverse.kinematics import solve_kinematics, walking_forward
from exo_twin.inverse.scaling import scale_model
from exo_twin.opensim_runtime import logging_to
from exo_twin.twin import Gait

DURATION = 1.6


def solve(markers, folder):
    generic = generic_model()
    with logging_to(folder / "opensim.log"):
        scaled = scale_model(markers, 1.65, 62.0, generic, folder / "scaled.osim")
        return solve_kinematics(markers, scaled.model, generic)


@pytest.fixture(scope="module")
def keypoints():
    return walk_keypoints(DURATION)


@pytest.fixture(scope="module")
def solved(keypoints, tmp_path_factory):
    # Walking towards -x, with a gap in one keypoint: neither may matter.
    position = keypoints.position * np.array([-1.0, 1.0, -1.0])
    position[20:25, keypoints.names.index("LHeel")] = np.nan
    return solve(dataclasses.replace(keypoints, position=position), tmp_path_factory.mktemp("ik"))


def test_a_known_motion_comes_back(solved):
    truth = [true_pose(float(t)) for t in solved.coordinates.time]
    for name in LEG_COORDINATES:
        error = solved.coordinates.column(name) - np.rad2deg([pose[name] for pose in truth])
        # Lengths are taken in standing, where these markers are no joint centres: a constant degree or two.
        assert np.sqrt(np.mean(error**2)) < 2.5 and np.std(error) < 1.0, name
    assert solved.coordinates.in_degrees
    assert solved.marker_rms.max() < 0.01
    assert solved.saturated["knee_angle_l"] == 0.0


def test_a_motion_without_both_legs_is_refused(keypoints, tmp_path):
    position = keypoints.position.copy()
    position[::2, keypoints.names.index("LKnee")] = np.nan
    position[1::2, keypoints.names.index("RKnee")] = np.nan
    with pytest.raises(ExoError, match="no frame shows"):
        solve(Markers(keypoints.time, keypoints.names, position), tmp_path)


def test_direction_of_walking(keypoints):
    turned = walking_forward(dataclasses.replace(keypoints, position=keypoints.position * np.array([-1.0, 1.0, -1.0])))
    np.testing.assert_allclose(turned.position, keypoints.position)


def motion(duration: float = 4.1, rate: float = 100.0) -> Storage:
    time = np.arange(0.0, duration, 1.0 / rate)
    poses = [true_pose(float(t)) for t in time]
    columns = tuple(poses[0])
    return Storage(time, columns, np.array([[pose[c] for c in columns] for pose in poses]), in_degrees=False)


def test_the_mean_stride_is_that_of_the_motion(tmp_path):
    gait = gait_from_motion(motion(), true_strides(4.1), "test")
    phase = np.linspace(0.0, 1.0, 101)
    for name in LEG_COORDINATES:
        start = 0.0 if name.endswith("_r") else 0.5
        truth = [true_pose(float(start + p * STRIDE))[name] for p in phase]
        np.testing.assert_allclose(gait.curves[name], truth, atol=2e-3)
        assert gait.curves[name][0] == gait.curves[name][-1]
    assert gait.stride_time == pytest.approx(STRIDE)
    assert gait.duty_factor == pytest.approx(TOE_OFF)
    assert gait.phase_offset_right == pytest.approx(0.5)
    assert gait.speed == pytest.approx(SPEED / 0.93, rel=1e-3)
    gait.save(tmp_path / "gait.yaml")
    assert Gait.load(tmp_path / "gait.yaml").rom_deg == gait.rom_deg


def test_right_phase_runs_ahead_of_the_left_by_the_measured_offset():
    strides = [
        {"side": "l", "start": 1.0, "toe_off": 1.6, "end": 2.0},
        {"side": "r", "start": 0.7, "toe_off": 1.3, "end": 1.7},
    ]
    # At the left heel strike (1.0 s) the right leg is 0.3 s into its stride.
    assert gait_from_motion(motion(), strides, "test").phase_offset_right == pytest.approx(0.3)


def test_closing_a_curve_moves_its_ends_only_by_half_the_mismatch():
    phase = np.linspace(0.0, 1.0, 101)
    open_curve = np.sin(2.0 * np.pi * phase) + 0.1 * phase
    closed = close_curve(open_curve)
    assert closed[0] == closed[-1]
    assert np.abs(closed - open_curve).max() < 0.06
    np.testing.assert_allclose(close_curve(np.sin(2.0 * np.pi * phase)), np.sin(2.0 * np.pi * phase), atol=1e-12)


@pytest.mark.parametrize(
    ("strides", "sentence"),
    [
        ([{"side": "left", "start": 1.0, "toe_off": 1.6, "end": 2.0}], "stride of the right leg"),
        ([{"side": "left", "start": 1.0, "toe_off": 1.6, "end": 1.2}], "not walking"),
        ([{"side": "left", "start": 3.9, "toe_off": 4.5, "end": 4.9}], "outside the motion"),
        ([{"side": "left", "start": 1.0, "end": 2.0}], "no 'toe_off'"),
        ([{"side": "up", "start": 1.0, "toe_off": 1.6, "end": 2.0}], "left or right"),
    ],
)
def test_bad_strides_are_refused(strides, sentence):
    with pytest.raises(ExoError, match=sentence):
        gait_from_motion(motion(), strides, "test")
