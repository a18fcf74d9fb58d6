"""A wearer for tests: a textbook stride, and walking that departs from it in known ways."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from exo_common.artefact import writing
from exo_common.frames import LEG_COORDINATES
from exo_safety.envelope import Envelope, SideEnvelope
from exo_twin.inverse.muscle_curves import Curves
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.periodic import PeriodicCurve
from exo_twin.planar_muscles import DEGREE, MUSCLES, PlanarMuscles
from exo_twin.twin import Gait

PERIOD_NS = 10_000_000
PHASE = np.linspace(0.0, 1.0, 101)
# Harmonics (cosine, sine) in deg of hip, knee and ankle over the stride of a healthy adult, rounded.
HARMONICS = {
    "hip_flexion": [(10.0, 0.0), (20.0, -3.0), (-3.5, 1.5), (0.6, 0.8)],
    "knee_angle": [(24.0, 0.0), (-8.0, -17.0), (-9.0, 13.0), (1.0, 3.0)],
    "ankle_angle": [(1.0, 0.0), (-1.5, -5.5), (-6.0, 6.5), (3.0, -2.5)],
}


def make_gait(stride_time: float = 1.15) -> Gait:
    curves = {}
    for name in LEG_COORDINATES:
        scale = 1.0 if name.endswith("_l") else 0.92
        degrees = sum(
            c * np.cos(2 * np.pi * k * PHASE) + s * np.sin(2 * np.pi * k * PHASE)
            for k, (c, s) in enumerate(HARMONICS[name[:-2]])
        )
        curves[name] = np.radians(scale * degrees)
    return Gait(
        stride_time=stride_time,
        speed=1.2,
        duty_factor=0.62,
        phase_offset_right=0.48,
        strides=[],
        rom_deg={},
        curves=curves,
        curves_sd={name: np.full(101, 0.03) for name in curves},
        source="a test",
    )


def walk(
    gait: Gait,
    seconds: float,
    speed: float = 1.0,
    amplitude: float = 1.0,
    noise_deg: float = 0.0,
    start: float = 0.0,
    seed: int = 0,
    stride_sd: float = 0.02,
) -> Iterator[tuple[int, tuple[float, float], tuple[float, float], float]]:
    """Yield (stamp ns, hip angles, hip velocities, true left phase) at 100 Hz.

    The cadence is `speed` times the reference's and wanders by `stride_sd`;
    velocities carry the noise of differentiated angles, low-passed as an encoder drive does.
    """
    rng = np.random.default_rng(seed)
    left, right = (PeriodicCurve(gait.curves[f"hip_flexion_{side}"]) for side in "lr")
    phase, wander = start, 0.0
    for k in range(int(seconds * 100)):
        rate = speed / gait.stride_time * (1.0 + wander)
        wander += -0.01 * wander + stride_sd * math.sqrt(0.02) * rng.normal()
        q, qd = [], []
        for curve, offset in ((left, 0.0), (right, gait.phase_offset_right)):
            value, slope = curve.at(phase + offset)
            q.append(curve.mean + amplitude * (value - curve.mean) + math.radians(noise_deg) * rng.normal())
            qd.append(amplitude * slope * rate + 5.0 * math.radians(noise_deg) * rng.normal())
        yield 1_000_000_000 + k * PERIOD_NS, (q[0], q[1]), (qd[0], qd[1]), phase % 1.0
        phase += rate * 0.01


# Moment arms, m, positive where shortening increases the coordinate: (joint, arm) pairs per group.
ARMS = {
    "GLU": (("hip", -0.06),),
    "HFL": (("hip", 0.05),),
    "HAM": (("hip", -0.06), ("knee", 0.03)),
    "RF": (("hip", 0.04), ("knee", -0.04)),
    "VAS": (("knee", -0.04),),
    "BFSH": (("knee", 0.03),),
    "GAS": (("knee", 0.02), ("ankle", -0.045)),
    "SOL": (("ankle", -0.045),),
    "TA": (("ankle", 0.04),),
}
JOINT_ROWS = {"hip": 0, "knee": 1, "ankle": 2}


def make_muscles() -> PlanarMuscles:
    """Eighteen muscles of constant moment arm, 1000 N each, at optimal length in the zero posture."""
    n = len(MUSCLES)
    coordinates = np.zeros((n, 2), dtype=np.int64)
    coefficients = np.zeros((n, DEGREE + 1, DEGREE + 1))
    for row, name in enumerate(MUSCLES):
        group, side = name.split("_")
        arms = ARMS[group]
        coordinates[row] = [JOINT_ROWS[joint] + (3 if side == "r" else 0) for joint, _ in (arms * 2)[:2]]
        coefficients[row, 0, 0] = 0.4
        coefficients[row, 1, 0] = -arms[0][1]
        if len(arms) == 2:
            coefficients[row, 0, 1] = -arms[1][1]
    curves = np.tile([1000.0, 0.2, 0.2, 0.5, 1.6, 10.0, 1.3, 1.2], (n, 1))
    return PlanarMuscles(
        names=MUSCLES,
        max_isometric_force=np.full(n, 1000.0),
        coordinates=coordinates,
        centre=np.zeros((n, 2)),
        half_range=np.ones((n, 2)),
        coefficients=coefficients,
        curves=curves,
    )


# One model muscle for each group, in the Rajagopal family's names.
MODEL_MUSCLES = {
    "GLU": "glmax1",
    "HFL": "psoas",
    "HAM": "semiten",
    "RF": "recfem",
    "VAS": "vaslat",
    "BFSH": "bfsh",
    "GAS": "gasmed",
    "SOL": "soleus",
    "TA": "tibant",
}
RANGE = 2.0  # rad, on either side


def make_paths() -> MusclePaths:
    """The moment arms of :data:`ARMS` over the six leg coordinates, 0.4 m long in the zero posture."""
    n = len(MUSCLES)
    crosses, coefficients = np.zeros((n, len(LEG_COORDINATES)), dtype=bool), np.zeros((n, 3))
    for row, name in enumerate(MUSCLES):
        group, side = name.split("_")
        coefficients[row, 0] = 0.4
        for place, (joint, arm) in enumerate(ARMS[group], start=1):
            crosses[row, JOINT_ROWS[joint] + (3 if side == "r" else 0)] = True
            # Monomials of two variables come as 1, second, first.
            coefficients[row, place if len(ARMS[group]) == 1 else 3 - place] = -RANGE * arm
    names = tuple(f"{MODEL_MUSCLES[name.split('_')[0]]}_{name[-1]}" for name in MUSCLES)
    ranges = np.tile([-RANGE, RANGE], (6, 1))
    return MusclePaths(names, LEG_COORDINATES, ranges, crosses, coefficients, coefficients)


def make_model() -> MuscleModel:
    """Muscles of 3000 N at optimal length in the zero posture, with curves of the usual shape."""
    n = len(MUSCLES)
    stretch, speed, pull = np.linspace(0.0, 2.0, 81), np.linspace(-1.0, 1.0, 81), np.linspace(0.0, 1.5, 31)
    shorter, longer = np.minimum(speed, 0.0), np.maximum(speed, 0.0)
    tables = {
        "active_force_length": (stretch, np.exp(-(((stretch - 1.0) / 0.45) ** 2))),
        "force_velocity": (speed, (1.0 + shorter) / (1.0 - 4.0 * shorter) + 0.4 * longer / (longer + 0.1)),
        "passive_force_length": (stretch, np.maximum(stretch - 1.0, 0.0) ** 2),
        "tendon_strain": (pull, 0.05 * pull),
    }
    row = np.zeros(n, dtype=np.int64)
    curves = {
        name: Curves(float(x[0]), float(x[1] - x[0]), y[None], np.gradient(y, x)[None], row)
        for name, (x, y) in tables.items()
    }
    return MuscleModel(
        names=make_paths().muscles,
        max_isometric_force=np.full(n, 3000.0),
        optimal_fiber_length=np.full(n, 0.2),
        tendon_slack_length=np.full(n, 0.2),
        pennation_angle_at_optimal=np.zeros(n),
        max_contraction_velocity=np.full(n, 10.0),
        min_activation=np.full(n, 0.01),
        **curves,
    )


def make_moments() -> dict[str, np.ndarray]:
    """Joint moments of walking, roughly: extension of hip and knee in early stance, push-off of the ankle."""
    bumps = {"hip_flexion": (-40.0, 0.1), "knee_angle": (-35.0, 0.15), "ankle_angle": (-90.0, 0.48)}
    shape = {n: h * np.exp(-(((PHASE - at) / 0.1) ** 2)) for n, (h, at) in bumps.items()}
    return {name: shape[name[:-2]] for name in LEG_COORDINATES}


SIDE_ENVELOPE = SideEnvelope(-0.6, 1.6, 8.0, 15.0, 200.0, 60.0)


def write_twin(folder: Path, wearer: str = "w1", moments: bool = False) -> Path:
    """A twin folder with everything live nodes read."""
    with writing(folder, "twin", wearer, {}, []) as scratch:
        gait = make_gait()
        if moments:
            spread = {name: np.full(101, 4.0) for name in LEG_COORDINATES}
            gait = dataclasses.replace(gait, moment_curves=make_moments(), moment_curves_sd=spread)
        gait.save(scratch / "gait.yaml")
        arrays = {**make_muscles().arrays(), **make_paths().arrays(), **make_model().arrays()}
        np.savez(scratch / "model.npz", mass=np.array(70.0), height=np.array(1.75), **arrays)
        Envelope(wearer, SIDE_ENVELOPE, SIDE_ENVELOPE, "a test").save(scratch / "envelope.yaml")
    return folder
