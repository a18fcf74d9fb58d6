"""EMG meets static optimisation: what silent, foreign and unscaled channels do, and what is said of it."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from twin_fakes import make_model, make_paths

from exo_twin.inverse import muscle_forces, walk_muscles
from exo_twin.inverse.elastic_tendon import long_tendons
from exo_twin.inverse.emg_muscles import ELECTROMECHANICAL_DELAY_S
from exo_twin.inverse.muscle_forces import EMG_ASSISTED, EXACT, STATIC_OPTIMISATION, MuscleSolver
from exo_twin.inverse.muscle_quality import (
    DOUBTFUL,
    GOOD,
    UNTOLD,
    emg_agreement,
    force_warnings,
    reserve_warnings,
    reserves,
)
from exo_twin.inverse.walk_muscles import (
    ADULT_SIZE_NM,
    WalkEmg,
    WalkMuscles,
    measured_activation,
    of_size,
    solve_walk,
)

TIME = np.arange(0.0, 2.0, 0.01)
PATHS, MUSCLES = make_paths(), make_model()
SOLVER = MuscleSolver(PATHS, MUSCLES, STATIC_OPTIMISATION)
Q = np.zeros((len(TIME), 6))
MOMENT = np.zeros((len(TIME), 6))
MOMENT[:, 5] = -60.0 * np.sin(np.pi * TIME) ** 2  # the right ankle
STATIC = SOLVER.solve(TIME, Q, Q, MOMENT)
SOLEUS, TIBIALIS = PATHS.muscles.index("soleus_r"), PATHS.muscles.index("tibant_r")
EMG_TIME = np.arange(-0.2, 2.2, 0.005)


def walk_emg(full_effort=False, **channels):
    envelope = np.column_stack(list(channels.values()))
    return WalkEmg(
        EMG_TIME, tuple(channels), envelope, (full_effort,) * len(channels), np.ones(len(channels)), "a test"
    )


def envelope(peak=1.0, delay=ELECTROMECHANICAL_DELAY_S):
    """What a muscle that does what static optimisation says would show."""
    found = np.interp(EMG_TIME + delay, TIME, STATIC.activation[:, SOLEUS])
    return peak * found / found.max()


def test_levels_come_from_the_moments_where_the_maximum_is_not_that_of_full_effort():
    for peak in (1.0, 0.25):
        found, told = measured_activation(walk_emg(soleus_r=envelope(peak)), STATIC, MUSCLES)
        assert told == () and found.emg.channels == ("soleus_r",)
        assert found.gain[0] * peak == pytest.approx(STATIC.activation[:, SOLEUS].max(), rel=0.1)
        # Activation lags its excitation by some 20 ms, which shifts the target by two frames.
        np.testing.assert_allclose(found.target[:, SOLEUS], STATIC.activation[:, SOLEUS], atol=0.04)
        assert np.isnan(found.target[:, TIBIALIS]).all()
    found, _ = measured_activation(walk_emg(True, soleus_r=envelope(0.25)), STATIC, MUSCLES)
    assert found.gain[0] == 1.0 and np.nanmax(found.target[:, SOLEUS]) == pytest.approx(0.25, rel=0.05)


def test_another_walk_is_told_in_the_first_ones_maxima():
    first = dataclasses.replace(
        walk_emg(soleus_r=envelope(), tibialis_anterior_r=envelope()), maximum=np.array([2.0, 1.0])
    )
    other = dataclasses.replace(
        walk_emg(vastus_lateralis_r=envelope(), soleus_r=envelope()), maximum=np.array([1.0, 3.0])
    )
    found = other.like(first)
    assert found.channels == first.channels and found.maximum is first.maximum
    np.testing.assert_allclose(found.envelope[:, 0], 1.5 * envelope())
    assert np.isnan(found.envelope[:, 1]).all()


def test_silent_and_foreign_channels_cost_a_sentence_each_and_the_others_stay():
    emg = walk_emg(soleus_r=envelope(), tibialis_anterior_r=0.0 * EMG_TIME, multifidus_r=envelope())
    found, told = measured_activation(emg, STATIC, MUSCLES)
    assert found.emg.channels == ("soleus_r",)
    assert len(told) == 2 and all("\n" not in text for text in told)
    assert "tibialis_anterior_r is zero throughout" in told[0] and "no muscle for EMG channel 'multifidus_r'" in told[1]


def test_a_channel_that_misses_a_part_of_the_walk_is_named():
    gap = np.where((EMG_TIME > 0.5) & (EMG_TIME < 1.0), np.nan, envelope())
    found, (told,) = measured_activation(walk_emg(soleus_r=gap, tibialis_anterior_r=envelope()), STATIC, MUSCLES)
    assert "soleus_r (7" in told and "tibialis_anterior_r" not in told and "mend the gaps" in told
    assert np.isnan(found.target[80, SOLEUS]) and np.isfinite(found.target[80, TIBIALIS])


@pytest.mark.parametrize(
    ("emg", "sentence"),
    [
        (walk_emg(soleus_r=0.0 * EMG_TIME), "no EMG channel is left"),
        (walk_emg(soleus_r=np.nan * EMG_TIME), "holds no usable sample"),
        (walk_emg(multifidus_r=envelope()), "no muscle for EMG channel 'multifidus_r'"),
        (dataclasses.replace(walk_emg(soleus_r=envelope()), time=EMG_TIME + 60.0), "share no time"),
    ],
)
def test_without_a_usable_channel_there_is_no_emg_and_a_sentence(emg, sentence):
    found, told = measured_activation(emg, STATIC, MUSCLES)
    assert found is None and any(sentence in text for text in told)


def solved(monkeypatch, size, wanted=MOMENT, emg=None):
    """A walk whose motion and moments are these."""
    monkeypatch.setattr(walk_muscles, "walk_motion", lambda *_: (TIME, Q, Q))
    monkeypatch.setattr(walk_muscles, "wanted_moments", lambda *_: wanted)
    loads = SimpleNamespace(dynamics=None)
    return solve_walk(SimpleNamespace(loads=loads, tree=None), PATHS, LONG, emg, size=size)


IS_SOLEUS = np.arange(len(MUSCLES.names)) == SOLEUS
# The fakes' soleus with a short fibre on a tendon seven times as long.
LONG = MUSCLES.scaled(1.0, np.where(IS_SOLEUS, 0.25, 1.0), np.where(IS_SOLEUS, 1.75, 1.0))


def test_long_tendons_stretch_and_those_that_cannot_are_named(monkeypatch):
    assert list(long_tendons(LONG)) == [SOLEUS]
    found = solved(monkeypatch, ADULT_SIZE_NM)
    pulling = found.solution.force[:, SOLEUS] > 0.2 * LONG.max_isometric_force[SOLEUS]
    assert pulling.any()
    stretch = found.solution.tendon_length[pulling, SOLEUS] / LONG.tendon_slack_length[SOLEUS]
    assert stretch.min() > 1.005 and stretch.max() < 1.1
    monkeypatch.setattr(muscle_forces, "TOLERATED", -1.0)  # never settled
    emg = walk_emg(True, soleus_r=envelope())
    stiff = muscle_forces.UNSETTLED["stiff"]
    assert solved(monkeypatch, ADULT_SIZE_NM, emg=emg).warnings == (f"static optimisation: {stiff}", stiff)
    foreign = solved(monkeypatch, ADULT_SIZE_NM, emg=walk_emg(multifidus_r=envelope()))
    assert foreign.measured is None and stiff in foreign.warnings


def test_a_small_wearers_moments_are_known_more_exactly_than_an_adults(monkeypatch):
    emg = walk_emg(True, soleus_r=0.1 * envelope())  # tells far less than the moment asks for
    small = 0.2 * ADULT_SIZE_NM
    missed = [
        np.abs(solved(monkeypatch, size, emg=emg).solution.reserve[:, 5]).max() for size in (ADULT_SIZE_NM, small)
    ]
    assert missed[1] < 0.3 * missed[0]
    assert of_size(STATIC_OPTIMISATION, 1e-6).moment == EXACT * STATIC_OPTIMISATION.effort
    assert reserves(STATIC, 0.2 * MOMENT, PATHS)["ankle_angle_r"]["verdict"] == UNTOLD
    assert reserves(STATIC, 0.2 * MOMENT, PATHS, small)["ankle_angle_r"]["verdict"] != UNTOLD


def test_a_leg_whose_foot_missed_the_plates_is_named():
    rarely, often = np.arange(10) < 3, np.arange(10) < 9
    loads = SimpleNamespace(plates="some", measured={"l": rarely, "r": often})
    (sentence,) = force_warnings(loads)
    assert "left foot" in sentence and "30 %" in sentence and "both feet" in sentence
    assert force_warnings(SimpleNamespace(plates=None, measured=loads.measured)) == []


def test_reserves_are_judged_against_the_moment_of_their_joint():
    missed = STATIC.reserve.copy()
    missed[:, 5] = 0.2 * MOMENT[:, 5]
    wanted = MOMENT.copy()
    wanted[:, 0] = np.nan
    wanted[:, 2] = 1.0
    found = reserves(dataclasses.replace(STATIC, reserve=missed), wanted, PATHS)
    assert "hip_flexion_l" not in found
    assert found["ankle_angle_r"]["verdict"] == DOUBTFUL and found["ankle_angle_r"]["peak_pct"] == pytest.approx(20.0)
    assert found["ankle_angle_l"]["verdict"] == UNTOLD
    large = dataclasses.replace(STATIC, reserve=np.where(np.arange(6) == 2, 12.0, 0.0) * np.ones((len(TIME), 1)))
    assert reserves(large, wanted, PATHS)["ankle_angle_l"]["verdict"] == DOUBTFUL  # 12 Nm are no error of measurement
    (sentence,) = reserve_warnings(found)
    assert "ankle_angle_r (12 of 60 Nm)" in sentence and "ankle_angle_l" not in sentence
    assert reserve_warnings(found, found) == [sentence]
    (other,) = reserve_warnings(found, reserves(STATIC, wanted, PATHS))
    assert "given up to follow the EMG" in other and "ankle_angle_r (12 of 60 Nm)" in other
    spike = STATIC.reserve.copy()
    spike[50, 5] = 0.2 * MOMENT[:, 5].min()
    found = reserves(dataclasses.replace(STATIC, reserve=spike), wanted, PATHS)["ankle_angle_r"]
    assert found["rms_pct"] < 5.0 and found["verdict"] == DOUBTFUL
    fine = reserves(STATIC, wanted, PATHS)
    assert fine["ankle_angle_r"]["verdict"] == GOOD and reserve_warnings(fine) == []


def test_agreement_is_told_of_measured_muscles_only(tmp_path):
    measured, _ = measured_activation(walk_emg(soleus_r=envelope()), STATIC, MUSCLES)
    assisted = SOLVER.solve(TIME, Q, Q, MOMENT, measured.target, EMG_ASSISTED)
    walk = WalkMuscles(assisted, STATIC, MOMENT, measured, ())
    found = emg_agreement(walk, PATHS.muscles)
    assert list(found) == ["soleus_r"] and found["soleus_r"]["r_static"] > 0.98
    walk.save(tmp_path, PATHS.muscles)
    assert {path.name for path in tmp_path.iterdir()} == {
        "muscle_activations.sto", "muscle_forces.sto", "muscle_emg.sto",
    }  # fmt: skip
    assert (tmp_path / "muscle_emg.sto").read_text().splitlines()[6] == "time\tsoleus_r"
