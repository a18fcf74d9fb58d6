import dataclasses

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from exo_twin.inverse import activation_problem
from exo_twin.inverse.activation_problem import Problem, covariance, response, solve


def problem_of(wanted_nm: float, weight: float = 20.0, n: int = 12, m: int = 15, k: int = 4) -> Problem:
    random = np.random.default_rng(3)
    effect = 100.0 * random.normal(size=(n, k, m)) * (random.random((n, k, m)) < 0.5)
    return Problem(
        np.full((n, m), 10.0),
        random.random((n, m)),
        effect,
        wanted_nm * random.normal(size=(n, k)),
        np.full((n, k), weight),
        np.full((n, m), 0.01),
        np.ones((n, m)),
    )


def reference(problem: Problem, row: int) -> np.ndarray:
    root = np.sqrt(problem.weight[row])[:, None]
    left = np.vstack([np.diag(np.sqrt(problem.curvature[row])), root * problem.effect[row]])
    right = np.concatenate([problem.pull[row] / np.sqrt(problem.curvature[row]), root[:, 0] * problem.wanted[row]])
    return lsq_linear(left, right, (problem.low[row], problem.high[row]), method="bvls", tol=1e-14).x


@pytest.mark.parametrize(
    ("wanted_nm", "weight"), [(0.0, 20.0), (50.0, 20.0), (500.0, 20.0), (5000.0, 20.0), (200.0, 1e-3), (100.0, 1e4)]
)
def test_reaches_the_optimum_also_where_muscles_are_too_weak(wanted_nm: float, weight: float) -> None:
    problem = problem_of(wanted_nm, weight)
    found = solve(problem)
    for row in range(len(problem.wanted)):
        np.testing.assert_allclose(found.activation[row], reference(problem, row), atol=1e-7)
    np.testing.assert_allclose(
        found.price, problem.weight * (problem.wanted - problem.moment(found.activation)), rtol=1e-5, atol=1e-3
    )


def test_a_start_elsewhere_changes_nothing() -> None:
    problem = problem_of(100.0)
    cold, warm = solve(problem), solve(problem, start=np.full(problem.wanted.shape, 5.0))
    np.testing.assert_allclose(warm.activation, cold.activation, atol=1e-9)


def test_frames_that_do_not_converge_are_solved_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(100.0)
    expected = solve(problem)
    monkeypatch.setattr(activation_problem, "STEPS_MAX", 1)
    found = solve(problem)
    assert expected.fallbacks == 0
    assert found.fallbacks == len(problem.wanted)
    np.testing.assert_allclose(found.activation, expected.activation, atol=1e-7)


def test_variances_are_those_of_the_curvature() -> None:
    problem = problem_of(100.0, weight=1e-2)
    variance, spread = covariance(problem, problem.effect)
    effect = problem.effect[2]
    curvature = np.diag(problem.curvature[2]) + effect.T @ np.diag(problem.weight[2]) @ effect
    np.testing.assert_allclose(variance[2], np.diag(np.linalg.inv(curvature)), rtol=1e-6)
    np.testing.assert_allclose(spread[2], np.diag(effect @ np.linalg.inv(curvature) @ effect.T), rtol=1e-6)


def test_response_is_the_derivative_of_the_solution() -> None:
    problem = problem_of(150.0, weight=0.05)
    random = np.random.default_rng(4)
    n, m = problem.pull.shape
    active = 500.0 + 100.0 * random.random((n, m))
    arms = problem.effect / active[:, None, :]
    own = np.array([0, 3, 7])
    more_active, more_passive = 1e-3 * random.normal(size=(n, m)), 1e-3 * random.normal(size=(n, m))
    others = np.setdiff1d(np.arange(m), own)
    more_active[:, others] = more_passive[:, others] = 0.0

    def forces(sign: float) -> np.ndarray:
        changed = dataclasses.replace(
            problem,
            effect=arms * (active + sign * more_active)[:, None, :],
            wanted=problem.wanted - np.matmul(arms, sign * more_passive[:, :, None])[:, :, 0],
        )
        return (active + sign * more_active) * solve(changed).activation + sign * more_passive

    answer = response(problem, solve(problem), active, arms, own).to(more_active[:, own], more_passive[:, own])
    expected = ((forces(1.0) - forces(-1.0)) / 2.0)[:, own]
    np.testing.assert_allclose(answer.sum(axis=2), expected, rtol=1e-3, atol=1e-6)
