"""Muscle numbers found again from moments and EMG made with them; and what cannot be calibrated stays generic."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from muscle_fakes import two_legs

from exo_common.errors import ExoError
from exo_twin.inverse.emg_muscles import EmgMap
from exo_twin.inverse.muscle_calibration import EMG_LED, CalibrationTrial, calibrate_muscles
from exo_twin.inverse.muscle_forces import MuscleSolver
from exo_twin.inverse.muscle_sensitivity import Frames, MomentError
from exo_twin.inverse.muscle_unknowns import FIBRE, GAIN, KINDS, STRENGTH, TENDON, Unknowns, functional_groups

# Of muscle_fakes' ten muscles of a leg, in its order.
STEMS = ("iliacus", "psoas", "glmax1", "glmax2", "vasmed", "bfsh", "tibant", "soleus", "recfem", "gasmed")
CHANNELS = ("gluteus_maximus_r", "vastus_medialis_r", "tibialis_anterior_r", "soleus_r", "gastrocnemius_medialis_r")
TRUE_GAIN = 0.4
TRUE_STRENGTH = {"glmax1": 1.4, "glmax2": 1.4, "soleus": 0.7, "gasmed": 0.7, "tibant": 1.3}


def legs():
    """muscle_fakes' legs with the names of real ones."""
    paths, model = two_legs()
    names = tuple(f"{stem}_{side}" for side in "rl" for stem in STEMS)
    real = {"hip": "hip_flexion", "knee": "knee_angle", "ankle": "ankle_angle"}
    coordinates = tuple(f"{real[name[:-2]]}_{name[-1]}" for name in paths.coordinates)
    return dataclasses.replace(paths, muscles=names, coordinates=coordinates), dataclasses.replace(model, names=names)


def walk(seed, strength=TRUE_STRENGTH, seconds=1.2):
    """A trial of a wearer whose right leg is so strong, with EMG that tells the truth but for its gain."""
    paths, generic = legs()
    true = generic.scaled([strength.get(name[:-2], 1.0) for name in generic.names])
    rng = np.random.default_rng(seed)
    time = np.arange(0.0, seconds, 0.01)
    phase = 2.0 * np.pi * time[:, None] / 1.2
    c = len(paths.coordinates)
    shift = rng.uniform(0.0, 2.0 * np.pi, c)
    q, qd = 0.25 * np.sin(phase + shift), 0.25 * 2.0 * np.pi / 1.2 * np.cos(phase + shift)
    burst = np.exp(3.0 * (np.cos(phase + rng.uniform(0.0, 2.0 * np.pi, len(CHANNELS))) - 1.0))
    emg = EmgMap.of(CHANNELS, paths.muscles)
    activation = np.nan_to_num(emg.activation(burst, TRUE_GAIN), nan=true.min_activation[0])
    state = paths.evaluate(q, qd)
    fibres = true.fibres(state.length, state.velocity)
    force = fibres.active * np.maximum(activation, true.min_activation) + fibres.passive
    moment = np.matmul(force[:, None, :], state.arms)[:, 0]
    moment[:, [not name.endswith("_r") for name in paths.coordinates]] = np.nan
    return CalibrationTrial(time, q, qd, moment, burst)


def reserve(trial, model, gain, shape=0.0):
    paths, _ = legs()
    target = EmgMap.of(CHANNELS, paths.muscles).activation(trial.excitation, gain, shape)
    solved = MuscleSolver(paths, model, EMG_LED).solve(trial.time, trial.q, trial.qd, trial.moment, target)
    return float(np.sqrt(np.nanmean(solved.reserve**2)))


@pytest.fixture(scope="module")
def found():
    return calibrate_muscles([walk(1)], *legs(), CHANNELS)


def test_slopes_are_those_of_the_reserves():
    paths, model = legs()
    right = np.arange(len(STEMS))
    trial = walk(1)
    state = paths.evaluate(trial.q, trial.qd)
    names = tuple(f"{stem}_r" for stem in STEMS)
    own = [i for i, name in enumerate(paths.coordinates) if name.endswith("_r")]
    arms = state.arms[:, right][:, :, own]
    frames = Frames(
        state.length[:, right], state.velocity[:, right], arms, trial.moment[:, own] + 3.0, trial.excitation
    )
    emg = EmgMap.of(CHANNELS, names)
    group = functional_groups(arms.mean(axis=0), tuple(paths.coordinates[i] for i in own), names, emg.share.any(axis=0))
    unknowns = Unknowns.of(group, np.full(len(CHANNELS), 0.3))
    error = MomentError(frames, model.select(right), emg, unknowns, EMG_LED)
    x = unknowns.generic + 0.02 * np.random.default_rng(0).normal(size=len(unknowns.generic))
    x[unknowns.part("shape")] = -0.5
    base, slopes = error.with_slopes(x)
    np.testing.assert_allclose(base, error.reserve(x))
    for i in range(len(x)):
        up, down = x.copy(), x.copy()
        up[i] += 1e-5
        down[i] -= 1e-5
        measured = (error.reserve(up) - error.reserve(down)) / 2e-5
        # A kink, where an activation meets its bound, may lie between the two; hardly ever does.
        off = np.abs(slopes[:, :, i] - measured)
        assert np.quantile(off, 0.98) < 1e-3 * (1.0 + np.abs(measured).max())


def test_functional_groups_pull_the_same_joints_the_same_way():
    paths, _ = legs()
    arms = paths.evaluate(np.zeros((1, 6))).arms[0]
    told = np.array([name[:-2] not in ("iliacus", "psoas") for name in paths.muscles])
    group = dict(zip(paths.muscles, functional_groups(arms, paths.coordinates, paths.muscles, told), strict=True))
    assert group["glmax1_r"] == group["glmax2_r"] != group["glmax1_l"]
    assert group["soleus_r"] != group["gasmed_r"]
    assert group["iliacus_r"] == group["psoas_l"] == -1


def test_an_unseen_walk_is_explained_better_and_the_truth_comes_near(found):
    _, model = legs()
    unseen, gain = walk(2), np.array(list(found.gain.values()))
    before, after = reserve(unseen, model, np.mean(gain)), reserve(unseen, found.model, gain, found.shape)
    assert after < 0.5 * before
    assert found.error_after < 0.5 * found.error_before
    assert found.error_unseen < found.error_before
    for channel, stem in zip(CHANNELS, ("glmax1", "vasmed", "tibant", "soleus", "gasmed"), strict=True):
        pull = found.gain[channel] * found.strength[STEMS.index(stem)]
        assert pull == pytest.approx(TRUE_GAIN * TRUE_STRENGTH.get(stem, 1.0), rel=0.2), channel


def test_muscles_of_which_emg_tells_nothing_stay_generic_and_the_other_leg_is_alike(found):
    ten = len(STEMS)
    untold = [STEMS.index(stem) for stem in ("iliacus", "psoas", "bfsh")]
    assert (found.strength[untold] == 1.0).all()
    np.testing.assert_array_equal(found.strength[:ten], found.strength[ten:])
    alone = calibrate_muscles([walk(1)], *legs(), CHANNELS, mirror=False)
    np.testing.assert_array_equal(alone.tendon[:ten], found.tendon[:ten])
    assert (alone.tendon[ten:] == 1.0).all()


def test_only_the_kinds_that_may_change_do():
    _, model = legs()
    found = calibrate_muscles([walk(1)], *legs(), CHANNELS, kinds=("gain",))
    np.testing.assert_array_equal(found.model.max_isometric_force, model.max_isometric_force)
    np.testing.assert_array_equal(found.model.tendon_slack_length, model.tendon_slack_length)
    assert found.shape == 0.0
    assert 0.0 < found.error_after < found.error_before
    assert set(KINDS) == {"strength", "fibre", "tendon", "gain", "shape"}


def test_a_lower_frame_rate_finds_nearly_the_same(found):
    trial = walk(1)
    slow = calibrate_muscles([trial.part(np.arange(len(trial.time)) % 3 == 0)], *legs(), CHANNELS)
    np.testing.assert_allclose(slow.strength, found.strength, rtol=0.05)


def test_a_known_gain_is_where_the_solution_begins():
    lonely = dict.fromkeys(CHANNELS, 1.0)
    told = calibrate_muscles([walk(1)], *legs(), CHANNELS, known_gain=lonely)
    free = calibrate_muscles([walk(1)], *legs(), CHANNELS)
    assert told.error_before > 1.5 * free.error_before
    assert told.error_after < 0.5 * told.error_before


def test_numbers_stay_inside_their_bounds():
    giant = dict.fromkeys(STEMS, 6.0)
    found = calibrate_muscles([walk(1, giant)], *legs(), CHANNELS)
    for values, kind in ((found.strength, STRENGTH), (found.fibre, FIBRE), (found.tendon, TENDON)):
        assert (values >= kind.low - 1e-12).all()
        assert (values <= kind.high + 1e-12).all()
    assert max(found.gain.values()) <= GAIN.high + 1e-12
    assert np.isfinite(found.model.max_isometric_force).all()


def test_silent_and_unknown_channels_are_told_and_the_others_calibrated(found):
    trial = walk(1)
    silent = trial.excitation.copy()
    silent[:, CHANNELS.index("soleus_r")] = 0.0
    extra = np.column_stack([silent, np.full(len(silent), 0.3)])
    names = (*CHANNELS, "gluteus_medius_r")
    other = calibrate_muscles([dataclasses.replace(trial, excitation=extra)], *legs(), names)
    assert "soleus_r" not in other.gain
    assert "gluteus_medius_r" not in other.gain
    assert any("soleus_r is zero throughout" in text for text in other.warnings)
    assert any("no muscle for EMG channel 'gluteus_medius_r'" in text for text in other.warnings)
    assert other.pull > 0.0
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: dataclasses.replace(t, excitation=0.0 * t.excitation), "no EMG is usable"),
        (lambda t: t.part(t.time < 0.3), "0.5 s are needed"),
        (lambda t: dataclasses.replace(t, moment=np.full_like(t.moment, np.nan)), "0.5 s are needed"),
    ],
)
def test_what_cannot_be_calibrated_stays_generic_with_a_sentence(change, sentence):
    paths, model = legs()
    found = calibrate_muscles([change(walk(1))], paths, model, CHANNELS)
    assert found.model is model
    assert found.pull == 0.0
    assert sentence in found.warnings[-1]
    assert "stay generic" in found.warnings[-1]


def test_no_trial_and_arrays_that_do_not_fit():
    assert "stay generic" in calibrate_muscles([], *legs(), CHANNELS).warnings[-1]
    trial = walk(1)
    with pytest.raises(ExoError, match="excitation of a calibration trial has shape"):
        calibrate_muscles([dataclasses.replace(trial, excitation=trial.excitation[:, :2])], *legs(), CHANNELS)
