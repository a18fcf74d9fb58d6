"""The live muscles: polynomials, curves, borders and speed, without opensim or mujoco."""

import subprocess
import sys
import time

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_twin.planar_muscles import (
    CURVE_COLUMNS,
    DEGREE,
    GROUPS,
    MUSCLES,
    PlanarMuscles,
    active_force_length,
    force_velocity,
    passive_force_length,
)

JOINTS = {"GLU": (0, 0), "HFL": (0, 0), "HAM": (0, 1), "RF": (0, 1), "VAS": (1, 1), "BFSH": (1, 1), "GAS": (1, 2)}
ARM = 0.05  # m


@pytest.fixture
def arrays():
    """Muscles of constant moment arm: 5 cm about their first coordinate, 2 cm about their second."""
    coordinates = np.array(
        [[3 * side + joint for joint in JOINTS.get(group, (2, 2))] for side in range(2) for group in GROUPS]
    )
    coefficients = np.zeros((18, DEGREE + 1, DEGREE + 1))
    coefficients[:, 0, 0] = 0.4
    coefficients[:, 1, 0] = -ARM
    coefficients[coordinates[:, 0] != coordinates[:, 1], 0, 1] = -0.02
    curve = dict(zip(CURVE_COLUMNS, (1000.0, 0.3, 0.1, 0.5, 1.6, 10.0, 1.0, 1.4), strict=True))
    return {
        "muscles": np.array(MUSCLES),
        "max_isometric_force": np.full(18, 1000.0),
        "path_coordinates": coordinates,
        "path_centre": np.zeros((18, 2)),
        "path_half_range": np.ones((18, 2)),
        "path_coefficients": coefficients,
        "muscle_curves": np.tile(list(curve.values()), (18, 1)),
    }


def test_moment_arms_have_opensims_sign_and_their_own_columns(arrays):
    muscles = PlanarMuscles.from_arrays(arrays)
    arms = muscles.moment_arms(np.zeros(6))
    assert arms.shape == (18, 6)
    assert arms[MUSCLES.index("HFL_r"), LEG_COORDINATES.index("hip_flexion_r")] == pytest.approx(ARM)
    assert arms[MUSCLES.index("HAM_l"), LEG_COORDINATES.index("knee_angle_l")] == pytest.approx(0.02)
    assert np.count_nonzero(arms) == 12 + 6 * 2
    flexed = np.zeros(6)
    flexed[LEG_COORDINATES.index("hip_flexion_r")] = 0.1
    shortening = muscles.length(np.zeros(6)) - muscles.length(flexed)
    assert shortening[MUSCLES.index("HFL_r")] == pytest.approx(0.1 * ARM)
    assert shortening[MUSCLES.index("HFL_l")] == 0.0


def test_moment_arms_are_the_slope_of_length_everywhere_and_bounded_outside(arrays):
    rng = np.random.default_rng(0)
    arrays["path_coefficients"] = np.where(
        arrays["path_coefficients"] != 0.0, rng.normal(0.0, 0.05, (18, DEGREE + 1, DEGREE + 1)), 0.0
    )
    arrays["path_coefficients"][:, 3, 0] = 0.01
    muscles = PlanarMuscles.from_arrays(arrays)
    for q in (rng.uniform(-0.9, 0.9, 6), np.full(6, 2.5)):
        for k in range(6):
            step = np.zeros(6)
            step[k] = 1e-6
            slope = (muscles.length(q + step) - muscles.length(q - step)) / 2e-6
            np.testing.assert_allclose(muscles.moment_arms(q)[:, k], -slope, atol=1e-7)
    np.testing.assert_allclose(muscles.moment_arms(np.full(6, 50.0)), muscles.moment_arms(np.full(6, 1.0)), atol=1e-12)


def test_force_at_optimum_and_its_moments(arrays):
    muscles = PlanarMuscles.from_arrays(arrays)
    q, still = np.zeros(6), np.zeros(6)
    np.testing.assert_allclose(muscles.force(np.ones(18), q, still), 1000.0)
    np.testing.assert_allclose(muscles.force(np.zeros(18), q, still), 0.0, atol=1e-9)
    only = np.zeros(18)
    only[MUSCLES.index("SOL_r")] = 0.5
    moments = muscles.moments(only, q, still)
    assert moments[LEG_COORDINATES.index("ankle_angle_r")] == pytest.approx(500.0 * ARM)
    assert np.count_nonzero(np.abs(moments) > 1e-9) == 1
    lengthening = np.zeros(6)
    lengthening[LEG_COORDINATES.index("ankle_angle_r")] = -3.0
    index = MUSCLES.index("SOL_r")
    assert muscles.force(only, q, lengthening)[index] > 500.0 > muscles.force(only, q, -lengthening)[index]


def test_curves_are_mujocos():
    mujoco = pytest.importorskip("mujoco")
    shortest, longest, fastest, passive, eccentric = 0.45, 1.7, 6.0, 1.3, 1.35
    peak, slack, optimal = 900.0, 0.3, 0.1
    # MuJoCo's parameters: range (2), force, scale, lmin, lmax, vmax, fpmax, fvmax.
    parameters = np.array([0.5, 1.5, peak, 1.0, shortest, longest, fastest, passive, eccentric])
    span = np.array([slack + 0.5 * optimal, slack + 1.5 * optimal])
    length = np.linspace(0.32, 0.5, 40)
    speed = np.linspace(-0.8, 0.8, 40)
    fibre, rate = (length - slack) / optimal, speed / (optimal * fastest)
    gain = active_force_length(fibre, np.array(shortest), np.array(longest)) * force_velocity(rate, np.array(eccentric))
    bias = passive_force_length(fibre, np.array(longest), np.array(passive))
    for i in range(len(length)):
        expected = -mujoco.mju_muscleGain(length[i], speed[i], span, 1.0, parameters)
        assert peak * gain[i] == pytest.approx(expected, abs=1e-9)
        assert peak * bias[i] == pytest.approx(-mujoco.mju_muscleBias(length[i], span, 1.0, parameters), abs=1e-9)


def test_fast_enough_for_a_live_node(arrays):
    muscles = PlanarMuscles.from_arrays(arrays)
    activation, q = np.full(18, 0.3), np.full(6, 0.2)
    best = min(_seconds(lambda: muscles.moments(activation, q, q)) for _ in range(20))
    assert best < 0.4e-3  # 0.1 ms alone; the machine is shared


def _seconds(call, repeats=50):
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def test_arrays_round_trip_and_broken_ones_are_refused(arrays):
    muscles = PlanarMuscles.from_arrays(arrays)
    np.testing.assert_array_equal(muscles.arrays()["path_coefficients"], arrays["path_coefficients"])
    for name, broken, sentence in (
        ("muscle_curves", np.full((18, len(CURVE_COLUMNS)), np.nan), "'muscle_curves' must hold finite"),
        ("path_centre", np.zeros(3), "'path_centre' must hold finite"),
        ("muscles", np.array(MUSCLES[::-1]), "does not list the 18"),
    ):
        with pytest.raises(ExoError, match=sentence):
            PlanarMuscles.from_arrays({**arrays, name: broken})
    with pytest.raises(ExoError, match="path_coefficients"):
        PlanarMuscles.from_arrays({k: v for k, v in arrays.items() if k != "path_coefficients"})


def test_imports_neither_opensim_nor_mujoco():
    code = "import sys, exo_twin.planar_muscles; print(sorted({'opensim', 'mujoco', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
