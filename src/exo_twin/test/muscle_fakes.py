"""Shared by the muscle tests: a body on a slider that OpenSim muscles of any class pull, and legs made of numbers."""

import numpy as np

from exo_twin.inverse.muscle_curves import Curves
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths, exponents_of

LEG = ("hip", "knee", "ankle")
# Two muscles per direction of every joint and two that cross two joints; arms in m about LEG.
HIPS = [[0.05, 0, 0], [0.06, 0, 0], [-0.06, 0, 0], [-0.05, 0, 0]]
ARMS = np.array([*HIPS, [0, 0.04, 0], [0, -0.03, 0], [0, 0, 0.04], [0, 0, -0.05], [0.04, 0.04, 0], [0, -0.02, -0.05]])
LONG = 9  # of a leg's muscles, the one with a long tendon


def flat_curves(muscles: int) -> dict[str, Curves]:
    """Smooth curves, by formula, the same for all muscles."""
    length, speed, root = np.linspace(0, 2, 201), np.linspace(-1.5, 1.5, 201), np.linspace(0, 2, 201)
    values = {
        "active_force_length": (length, np.exp(-((length - 1.0) ** 2) / 0.45)),
        "force_velocity": (speed, 1.0 + 0.9 * np.tanh(1.5 * speed)),
        "passive_force_length": (length, np.maximum(length - 1.0, 0.0) ** 2),
        "tendon_strain": (root, 0.049 * root),
    }
    row = np.zeros(muscles, dtype=np.int64)
    return {
        name: Curves(float(x[0]), float(x[1] - x[0]), y[None], np.gradient(y, x)[None], row)
        for name, (x, y) in values.items()
    }


def two_legs() -> tuple[MusclePaths, MuscleModel]:
    """Twenty muscles with constant moment arms over six coordinates, columns of the two legs interleaved."""
    coordinates = tuple(f"{joint}_{side}" for joint in LEG for side in "rl")
    names = tuple(f"m{i}_{side}" for side in "rl" for i in range(len(ARMS)))
    arms = np.zeros((len(names), len(coordinates)))
    arms[: len(ARMS), 0::2], arms[len(ARMS) :, 1::2] = ARMS, ARMS
    tendon = np.where(np.arange(len(names)) % len(ARMS) == LONG, 0.35, 0.1)
    coefficients = np.zeros((len(names), 3))
    for i, own in enumerate(arms):
        crossed = np.flatnonzero(own)
        coefficients[i, 0] = tendon[i] + 0.06
        for place, powers in enumerate(exponents_of(len(crossed), 1)):
            if powers.any():
                coefficients[i, place] = -own[crossed[int(np.argmax(powers))]]
    ranges = np.tile([-1.0, 1.0], (len(coordinates), 1))
    paths = MusclePaths(names, coordinates, ranges, arms != 0.0, coefficients, coefficients)
    every = np.ones(len(names))
    model = MuscleModel(
        names, 2000.0 * every, 0.06 * every, tendon, 0.2 * every, 10.0 * every, 0.01 * every, **flat_curves(len(names))
    )
    return paths, model


def walk_like(paths: MusclePaths, frames: int = 60, rate: float = 100.0) -> tuple[np.ndarray, ...]:
    """Time, angles, speeds and moments that swing like a walk."""
    time = np.arange(frames) / rate
    phase = 2.0 * np.pi * time[:, None] + np.arange(len(paths.coordinates))
    return time, 0.2 * np.sin(phase), 0.4 * np.pi * np.cos(phase), 40.0 * np.cos(phase + 1.0)
