"""3CC-r against what can be said of it with pen and paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.fatigue_state import ANKLE, GENERAL, KNEE, Endurance, FatigueState, endurance_of

EIGHTEEN = [
    f"{group}_{side}" for side in "lr" for group in ("GLU", "HFL", "HAM", "RF", "VAS", "BFSH", "GAS", "SOL", "TA")
]


def test_units_are_neither_made_nor_lost() -> None:
    rng = np.random.default_rng(0)
    state = FatigueState(EIGHTEEN)
    for _ in range(2000):
        state.step(rng.uniform(0.0, 1.0, 18) * (rng.uniform(size=18) > 0.3), float(rng.choice([0.001, 0.01, 0.3])))
        assert state.rested + state.active + state.fatigued == pytest.approx(np.ones(18), abs=1e-12)
        assert min(state.rested.min(), state.active.min(), state.fatigued.min()) >= -1e-12
    assert state.capacity == pytest.approx(1.0 - state.fatigued)


def test_full_effort_ends_where_tiring_and_recovering_balance() -> None:
    state = FatigueState(["knee"], [KNEE])
    state.step(np.ones(1), 2000.0)
    # Units flow round: F m_a = R m_f = DRIVE m_r, and add up to one.
    expected = 1.0 / (1.0 + KNEE.fatigue / KNEE.recovery + KNEE.fatigue / 10.0)
    assert state.active[0] == pytest.approx(expected, rel=0.01)


def test_a_held_contraction_tires_as_the_linear_equation_says() -> None:
    state = FatigueState(["ankle"], [ANKLE])
    state.step(np.array([0.3]), 300.0)
    expected = 0.3 * ANKLE.fatigue / ANKLE.recovery * (1.0 - math.exp(-ANKLE.recovery * 300.0))
    assert state.fatigued[0] == pytest.approx(expected, rel=0.01)


def test_rest_recovers_r_times_faster_than_light_load() -> None:
    state = FatigueState(["ankle"], [ANKLE])
    state.step(np.array([0.5]), 120.0)
    state.step(np.zeros(1), 5.0)
    before = state.fatigued[0]
    state.step(np.zeros(1), 60.0)
    assert state.fatigued[0] == pytest.approx(before * math.exp(-15.0 * ANKLE.recovery * 60.0), rel=0.01)


def test_no_hundredth_of_activation_decides_between_rest_and_load() -> None:
    """Half an hour of bursts: what lies between them matters, but nowhere does a little of it matter much."""
    tones = np.linspace(0.0, 0.12, 25)
    state = FatigueState(["soleus_r"] * len(tones))
    burst = 0.5 * np.sin(np.pi * np.arange(0.01, 0.44, 0.02) / 0.44) ** 2
    for _ in range(round(1800.0 / 1.1)):
        for level in [*burst, *np.zeros(33)]:
            state.step(np.maximum(level, tones), 0.02)
    steps = np.diff(state.fatigued)
    assert np.all(steps >= 0.0)
    assert state.fatigued[-1] > 5.0 * state.fatigued[0]
    assert steps.max() < 0.12 * (state.fatigued[-1] - state.fatigued[0])


def test_the_round_off_of_an_activation_is_no_mistake() -> None:
    state, exact = FatigueState(["SOL_r"] * 2), FatigueState(["SOL_r"] * 2)
    state.step(np.array([1.0 + 1e-7, -1e-7]), 1.0)
    exact.step(np.array([1.0, 0.0]), 1.0)
    assert np.array_equal(state.fatigued, exact.fatigued)


def test_endurance_at_half_effort_is_that_of_the_joint() -> None:
    """Frey Law & Avin 2010: holding half of the strength lasts about 150 s at the ankle, 70 s at the knee."""
    state = FatigueState(["soleus_r", "vastus_lateralis_l"])
    lasted = np.full(2, np.nan)
    for second in range(1, 400):
        state.step(np.full(2, 0.5), 1.0)
        lasted[(state.capacity < 0.505) & np.isnan(lasted)] = second
    assert lasted[0] == pytest.approx(150.0, rel=0.25)
    assert lasted[1] == pytest.approx(70.0, rel=0.25)


def test_cutting_time_differently_changes_next_to_nothing() -> None:
    coarse, fine = FatigueState(["VAS_r"]), FatigueState(["VAS_r"])
    coarse.step(np.array([0.4]), 60.0)
    for _ in range(6000):
        fine.step(np.array([0.4]), 0.01)
    assert coarse.fatigued[0] == pytest.approx(fine.fatigued[0], rel=1e-3)


def test_every_group_and_muscle_has_its_joints_parameters() -> None:
    assert endurance_of("SOL_l") is ANKLE and endurance_of("soleus_r") is ANKLE
    assert endurance_of("vastus_medialis_r") is KNEE
    assert endurance_of("GLU_r") is GENERAL and endurance_of("gluteus_medius_r") is GENERAL


def test_bad_input_is_refused_and_changes_nothing() -> None:
    state = FatigueState(["VAS_r"])
    for activation, dt in (([1.2], 0.01), ([math.nan], 0.01), ([0.1, 0.1], 0.01), ([0.1], -1.0), ([0.1], math.nan)):
        with pytest.raises(ExoError):
            state.step(np.array(activation), dt)
    assert state.rested[0] == 1.0
    with pytest.raises(ExoError, match="one for each"):
        FatigueState(["VAS_r"], [Endurance(0.01, 0.001, 15.0)] * 2)
