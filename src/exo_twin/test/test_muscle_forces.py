import dataclasses

import numpy as np
import pytest
from muscle_fakes import ARMS, LONG, two_legs, walk_like

from exo_common.errors import ExoError
from exo_twin.inverse import muscle_forces
from exo_twin.inverse.muscle_forces import (
    EMG_ASSISTED,
    EMG_DRIVEN,
    STATIC_OPTIMISATION,
    MuscleSolver,
    StreamingMuscles,
    Weights,
)
from exo_twin.inverse.muscle_model import FibreState


def test_moments_are_met_and_forces_add_up() -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    found = MuscleSolver(paths, model).solve(time, q, qd, moment)
    assert np.max(np.abs(found.reserve)) < 0.2
    arms = paths.evaluate(q, qd).arms
    np.testing.assert_allclose(found.moment, np.einsum("nm,nmc->nc", found.force, arms), atol=1e-9)
    np.testing.assert_allclose(found.moment + found.reserve, moment)
    assert np.all((found.activation >= 0.01) & (found.activation <= 1.0))


def test_a_weaker_muscle_shares_by_the_square_law() -> None:
    """With sum a^2 minimal, free muscles about one joint are active in proportion to moment per activation."""
    paths, model = two_legs()
    strength = np.where(np.arange(len(model.names)) == 0, 0.5, 1.0)
    time, q, qd, moment = walk_like(paths)
    solver = MuscleSolver(paths, model.scaled(strength=strength), passive=False)
    found = solver.solve(time, q, qd, moment)
    free = (found.activation[:, 0] > 0.02) & (found.activation[:, 1] > 0.02)
    assert free.sum() >= 5
    effect = found.fibres.active[free][:, :2] * np.array([0.05, 0.06])
    np.testing.assert_allclose(
        found.activation[free, 0] / found.activation[free, 1], effect[:, 0] / effect[:, 1], rtol=1e-6
    )


def test_weights_make_it_follow_emg_or_moments() -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    target = np.full((len(time), len(paths.muscles)), np.nan)
    target[:, 4] = 0.5
    solver = MuscleSolver(paths, model)
    static, assisted, driven = (
        solver.solve(time, q, qd, moment, target, weights)
        for weights in (STATIC_OPTIMISATION, EMG_ASSISTED, EMG_DRIVEN)
    )
    np.testing.assert_allclose(driven.activation[:, 4], 0.5, atol=1e-5)
    np.testing.assert_allclose(driven.activation[:, 5], 0.01)
    misfit = [np.abs(found.activation[:, 4] - 0.5).mean() for found in (static, assisted)]
    assert misfit[1] < 0.5 * misfit[0]
    assert np.abs(static.reserve).mean() < np.abs(assisted.reserve).mean() < np.abs(driven.reserve).mean()
    assert np.all(assisted.activation_sd[:, 4] < static.activation_sd[:, 4])


def test_what_is_not_known_of_an_activation_is_as_wide_as_its_bounds() -> None:
    paths, model = two_legs()
    found = MuscleSolver(paths, model, EMG_DRIVEN, elastic=True).solve(*walk_like(paths))
    np.testing.assert_allclose(found.activation_sd, 0.99 / np.sqrt(12.0), rtol=1e-3)
    expected = np.sqrt(
        np.sum((found.fibres.active[:, :, None] * paths.evaluate(walk_like(paths)[1]).arms) ** 2, axis=1)
    )
    np.testing.assert_allclose(found.moment_sd, expected * 0.99 / np.sqrt(12.0), rtol=1e-3)


@pytest.mark.parametrize("elastic", [False, True])
def test_paralysed_muscles_pull_nothing_and_the_others_go_on(elastic: bool) -> None:
    paths, model = two_legs()
    strength = np.ones(len(model.names))
    strength[[0, LONG]] = 0.0
    found = MuscleSolver(paths, model.scaled(strength=strength), elastic=elastic).solve(*walk_like(paths))
    np.testing.assert_array_equal(found.force[:, [0, LONG]], 0.0)
    assert np.max(np.abs(found.reserve)) < 0.2
    assert np.all(np.isfinite(found.activation_sd))


@pytest.mark.parametrize("weights", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 0.0, 1e9), (1.0, 0.0, np.nan)])
def test_weights_that_cannot_be_solved_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(ExoError, match="muscle weights must be positive"):
        Weights(*weights)


def test_a_moment_that_is_not_wanted_is_not_served() -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    moment[:, paths.coordinates.index("ankle_r")] = np.nan
    found = MuscleSolver(paths, model, passive=False).solve(time, q, qd, moment)
    assert np.all(np.isnan(found.reserve[:, paths.coordinates.index("ankle_r")]))
    np.testing.assert_allclose(found.activation[:, paths.muscles.index("m6_r")], 0.01)
    assert np.all(np.isfinite(found.activation))


def test_one_leg_does_not_hear_of_the_other() -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    solver = MuscleSolver(paths, model)
    left = [paths.coordinates.index(f"{joint}_l") for joint in ("hip", "knee", "ankle")]
    changed = moment.copy()
    changed[:, left] *= -1.0
    one, two = solver.solve(time, q, qd, moment), solver.solve(time, q, qd, changed)
    np.testing.assert_array_equal(one.activation[:, : len(ARMS)], two.activation[:, : len(ARMS)])
    assert np.max(np.abs(one.activation - two.activation)) > 0.1


@pytest.mark.parametrize("weights", [STATIC_OPTIMISATION, EMG_ASSISTED])
def test_frame_by_frame_is_the_same_as_all_at_once(weights: Weights) -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    target = np.full((len(time), len(paths.muscles)), np.nan)
    target[:, 2] = 0.3
    solver = MuscleSolver(paths, model, weights)
    batch = solver.solve(time, q, qd, moment, target)
    stream = StreamingMuscles(solver)
    live = [stream.push(*frame) for frame in zip(time, q, qd, moment, target, strict=True)]
    np.testing.assert_allclose(np.concatenate([one.activation for one in live]), batch.activation, atol=1e-8)
    np.testing.assert_allclose(np.concatenate([one.force for one in live]), batch.force, atol=1e-4)


@pytest.mark.parametrize("weights", [STATIC_OPTIMISATION, EMG_ASSISTED, EMG_DRIVEN])
def test_elastic_tendons_and_fibres_agree(weights: Weights) -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    target = np.full((len(time), len(paths.muscles)), 0.3) + 0.2 * np.sin(20.0 * time)[:, None]
    solver = MuscleSolver(paths, model, weights, elastic=True)
    found = solver.solve(time, q, qd, moment, target)
    assert found.warnings == ()
    stretched = found.tendon_length[:, LONG] - model.tendon_slack_length[LONG]
    expected = model.tendon_length(found.force)[:, LONG] - model.tendon_slack_length[LONG]
    np.testing.assert_allclose(stretched, expected, atol=1e-4)
    assert np.max(stretched) > 0.005
    np.testing.assert_array_equal(found.tendon_length[:, 0], model.tendon_slack_length[0])
    path = paths.evaluate(q, qd)
    along = found.fibres.length * model.optimal_fiber_length * found.fibres.cos_pennation
    np.testing.assert_allclose(along + found.tendon_length, path.length, atol=1e-9)
    stream = StreamingMuscles(solver)
    live = [stream.push(*frame) for frame in zip(time, q, qd, moment, target, strict=True)]
    activation = np.concatenate([one.activation for one in live])
    assert np.sqrt(np.mean((activation - found.activation)[5:] ** 2)) < 0.02

    def tendon_velocity(state: FibreState) -> np.ndarray:
        """What the fibres leave of the path's velocity."""
        fastest = model.optimal_fiber_length * model.max_contraction_velocity
        return (path.velocity - state.velocity * fastest / state.cos_pennation)[:, LONG]

    tendon = found.tendon_length[:, LONG]
    np.testing.assert_allclose(tendon_velocity(found.fibres)[1:-1], np.gradient(tendon, time)[1:-1], atol=1e-9)
    tendon = np.concatenate([one.tendon_length for one in live])[:, LONG]
    velocity = np.concatenate([one.fibres.velocity for one in live])
    cosine = np.concatenate([one.fibres.cos_pennation for one in live])
    at_once = dataclasses.replace(found.fibres, velocity=velocity, cos_pennation=cosine)
    np.testing.assert_allclose(tendon_velocity(at_once)[1:], np.diff(tendon) / np.diff(time), atol=1e-9)


@pytest.mark.parametrize("elastic", [False, True])
def test_passive_force_can_be_left_out(elastic: bool) -> None:
    paths, model = two_legs()
    stretched = model.scaled(tendon_slack_length=0.9)
    case = walk_like(paths)
    with_it, without = (MuscleSolver(paths, stretched, passive=p, elastic=elastic).solve(*case) for p in (True, False))
    assert np.min(with_it.fibres.passive[:, LONG]) > 10.0
    np.testing.assert_allclose(with_it.force, with_it.fibres.active * with_it.activation + with_it.fibres.passive)
    assert not without.fibres.passive.any()
    np.testing.assert_allclose(without.force, without.fibres.active * without.activation)
    assert np.max(np.abs(with_it.reserve)) < 0.2


def test_tendons_are_rigid_where_nothing_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    paths, model = two_legs()
    case = walk_like(paths)
    monkeypatch.setattr(muscle_forces, "TOLERATED", -1.0)
    found = MuscleSolver(paths, model, elastic=True).solve(*case)
    assert "tendons are rigid" in found.warnings[0]
    np.testing.assert_allclose(found.force, MuscleSolver(paths, model).solve(*case).force, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"q": np.full((60, 6), np.nan)}, "coordinates hold nan for hip_r"),
        ({"time": np.zeros(60)}, "do not rise"),
        ({"time": np.full(60, np.nan)}, "do not rise"),
        ({"time": np.zeros(0)}, "no frames"),
        ({"moment": np.full((60, 6), np.inf)}, "moments hold inf"),
        ({"qd": np.zeros((60, 5))}, r"shape \(60, 5\) where \(60, 6\)"),
        ({"emg": np.zeros((60, 3))}, r"shape \(60, 3\)"),
        ({"emg": {"soleus_r": np.zeros(60)}}, "'soleus_r', which the model lacks"),
        ({"emg": {"m0_r": np.full(60, np.inf)}}, "m0_r is infinite"),
    ],
)
def test_bad_input_is_told_in_a_sentence(change: dict, sentence: str) -> None:
    paths, model = two_legs()
    time, q, qd, moment = walk_like(paths)
    given = {"time": time, "q": q, "qd": qd, "moment": moment} | change
    with pytest.raises(ExoError, match=sentence):
        MuscleSolver(paths, model).solve(**given)


def test_emg_that_is_zero_throughout_counts_as_not_measured() -> None:
    paths, model = two_legs()
    case = walk_like(paths)
    solver = MuscleSolver(paths, model, EMG_ASSISTED)
    found = solver.solve(*case, emg={"m4_r": np.zeros(60)})
    np.testing.assert_allclose(found.activation, solver.solve(*case).activation)
    assert "m4_r" in found.warnings[0]


def test_a_muscle_that_rests_in_one_frame_is_measured() -> None:
    paths, model = two_legs()
    frame = [values[0] for values in walk_like(paths)]
    rest = StreamingMuscles(MuscleSolver(paths, model, EMG_ASSISTED)).push(*frame, emg=np.zeros(len(paths.muscles)))
    unknown = StreamingMuscles(MuscleSolver(paths, model, EMG_ASSISTED)).push(*frame)
    assert np.all(rest.activation_sd < 0.1) and np.all(unknown.activation_sd > 0.1)
    assert rest.warnings == ()


def test_paths_and_muscles_of_different_models_are_refused() -> None:
    paths, model = two_legs()
    with pytest.raises(ExoError, match="different models"):
        MuscleSolver(paths, dataclasses.replace(model, names=model.names[::-1]))
