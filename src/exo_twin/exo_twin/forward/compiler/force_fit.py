"""MuJoCo's muscle curve fitted to the isometric force and the force-velocity curve of an OpenSim group."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from exo_twin.forward.compiler.groups import VELOCITY_GRID, GroupSamples
from exo_twin.planar_muscles import active_force_length, force_velocity, passive_force_length

FloatArray = NDArray[np.float64]

# Bounds of the eight curve numbers relative to a first guess; see planar_muscles.CURVE_COLUMNS.
SHORTEST = (0.0, 0.9)
LONGEST = (1.1, 2.6)
PASSIVE_MAX = (0.0, 20.0)


def fit_curves(samples: GroupSamples) -> FloatArray:
    """The eight numbers of one muscle (planar_muscles.CURVE_COLUMNS).

    Active and passive force are fitted together over the grid of poses; the velocity curve on its own.
    """
    peak = samples.max_isometric_force
    slack, optimal = samples.slack_length, samples.optimal_length
    start = np.array([1.0, slack, optimal, 0.5, 1.6, 1.0])
    lower = np.array([0.5, slack - 2.0 * optimal, 0.4 * optimal, SHORTEST[0], LONGEST[0], PASSIVE_MAX[0]])
    upper = np.array([1.2, slack + optimal, 2.5 * optimal, SHORTEST[1], LONGEST[1], PASSIVE_MAX[1]])

    def residual(x: FloatArray) -> FloatArray:
        active, passive = isometric(samples.length, x[0], x[1], x[2], x[3], x[4], x[5])
        return np.concatenate([active - samples.active / peak, passive - samples.passive / peak])

    fit = least_squares(residual, start, bounds=(lower, upper), x_scale=np.array([0.1, 0.02, 0.02, 0.1, 0.1, 0.3]))
    scale, slack, optimal, shortest, longest, passive_max = fit.x
    fastest, eccentric = _fit_velocity(samples.velocity_curve)
    # The group's velocity is measured in its members' optimal lengths, the curve's in its own.
    fastest *= samples.max_velocity * samples.optimal_length / optimal
    return np.array([scale * peak, slack, optimal, shortest, longest, fastest, passive_max, eccentric])


def isometric(
    length: FloatArray, scale: float, slack: float, optimal: float, shortest: float, longest: float, passive_max: float
) -> tuple[FloatArray, FloatArray]:
    """Active force at full activation and passive force, both of the group's F_max, at path lengths (m)."""
    fibre = (length - slack) / optimal
    low, high = np.asarray(shortest), np.asarray(longest)
    return (
        scale * active_force_length(fibre, low, high),
        scale * passive_force_length(fibre, high, np.asarray(passive_max)),
    )


def velocity_error(samples: GroupSamples, curve: FloatArray) -> float:
    """RMSE of the fitted force-velocity curve, of the isometric force."""
    ratio = curve[5] * curve[2] / (samples.max_velocity * samples.optimal_length)
    fitted = force_velocity(VELOCITY_GRID / ratio, np.asarray(curve[7]))
    return float(np.sqrt(np.mean((fitted - samples.velocity_curve) ** 2)))


def _fit_velocity(curve: FloatArray) -> tuple[float, float]:
    """Maximum velocity (of the group's) and eccentric plateau that fit best over VELOCITY_GRID."""

    def residual(x: FloatArray) -> FloatArray:
        return force_velocity(VELOCITY_GRID / x[0], x[1]) - curve

    fit = least_squares(residual, [0.7, 1.4], bounds=([0.2, 1.05], [1.5, 2.0]))
    return float(fit.x[0]), float(fit.x[1])
