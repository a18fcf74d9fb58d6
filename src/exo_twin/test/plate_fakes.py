"""A walk over force plates with everything known: feet, forces on each of them, and the plates' clock."""

import dataclasses

import numpy as np

from exo_capture.filtering import smooth
from exo_capture.gait_events import GaitEvents
from exo_common.opensim_files import Markers
from exo_twin.inverse.inverse_dynamics import WholeBody
from exo_twin.inverse.plate_signals import PlateSignal

MASS = 70.0
STEP_S, STANCE_S, STEP_M, FOOT_M, ASIDE_M = 0.55, 0.70, 0.65, 0.24, 0.10
STANCES = 5  # left, right, left, right, left: the plates lie under the second and third, unless told otherwise
RATE_HZ, PLATE_HZ = 100.0, 1000.0
DURATION_S = 2.6
FREE = 0.01  # Nm of free moment per N


@dataclasses.dataclass(frozen=True)
class Walk:
    """What the markers and the plates saw; `truth` is stance number -> vertical force (n,) N at the markers' times."""

    feet: Markers
    events: GaitEvents
    needed: WholeBody
    signals: tuple[PlateSignal, ...]
    truth: dict[int, np.ndarray]


def landing(k: int) -> float:
    """Time at which stance number k begins, s."""
    return 0.1 + k * STEP_S


def side_of(k: int) -> str:
    return "lr"[k % 2]


def on_treadmill(made: Walk) -> Walk:
    """The same walk on a belt that runs backwards as fast as the walker forwards; not for plates that are late."""

    def carried(place: np.ndarray, time: np.ndarray) -> np.ndarray:
        back = np.zeros_like(place)
        back[..., 0] = (STEP_M / STEP_S * time).reshape(-1, *[1] * (place.ndim - 2))
        return place - back

    feet = dataclasses.replace(made.feet, position=carried(made.feet.position, made.feet.time))
    signals = tuple(dataclasses.replace(s, point=carried(s.point, s.time)) for s in made.signals)
    body = made.needed
    moment = body.moment - np.cross(body.centre - carried(body.centre, made.feet.time), body.force)
    needed = dataclasses.replace(body, centre=carried(body.centre, made.feet.time), moment=moment)
    return dataclasses.replace(made, feet=feet, signals=signals, needed=needed)


def walk(plates: tuple[tuple[int, ...], ...] = ((1,), (2,)), lag: float = 0.0, share: float = 1.0) -> Walk:
    """Plates that carry these stances, late by `lag` s; the first of them only feels a share of its force."""
    time = np.arange(0.0, DURATION_S, 1.0 / RATE_HZ)
    clock = np.arange(0.0, DURATION_S, 1.0 / PLATE_HZ)
    signals = []
    for i, stances in enumerate(plates):
        force, pull = np.zeros((len(clock), 3)), np.zeros((len(clock), 3))
        for k in stances:
            own = ground_force(k, clock - lag) * (share if i == 0 else 1.0)
            force += own
            pull += own[:, 1:2] * pressure(k, clock - lag)
        point = np.full_like(pull, np.nan)
        loaded = force[:, 1] > 20.0
        point[loaded] = pull[loaded] / force[loaded, 1:2]
        free = np.zeros_like(force)
        free[:, 1] = FREE * force[:, 1]
        signals.append(PlateSignal(f"plate {i + 1}", clock, force, point, free))
    strikes = {side: tuple(landing(k) for k in range(STANCES) if side_of(k) == side) for side in "lr"}
    offs = {side: tuple(t + STANCE_S for t in strikes[side] if t + STANCE_S < DURATION_S) for side in "lr"}
    truth = {k: vertical(k, time) for k in range(STANCES)}
    return Walk(feet(time), GaitEvents(strikes, offs, ()), whole_body(time), tuple(signals), truth)


def whole_body(time: np.ndarray) -> WholeBody:
    """What the forces on all feet, on plates or not, do to a body whose centre travels at a constant speed."""
    force, moment = np.zeros((len(time), 3)), np.zeros((len(time), 3))
    for k in range(STANCES):
        own = ground_force(k, time)
        force += own
        moment += np.cross(pressure(k, time), own) + FREE * own[:, 1:2] * [0.0, 1.0, 0.0]
    force, moment = smooth(force, RATE_HZ), smooth(moment, RATE_HZ)
    centre = np.column_stack([STEP_M / STEP_S * time, np.full(len(time), 0.95), np.zeros(len(time))])
    none = np.zeros_like(force)
    return WholeBody(MASS, centre, none, none, force, moment, none, none)


def ground_force(k: int, time: np.ndarray) -> np.ndarray:
    """Force on the foot of stance k: braking, then pushing, N."""
    up = vertical(k, time)
    return np.column_stack([up * (0.2 * progress(k, time) - 0.1), up, np.zeros(len(time))])


def progress(k: int, time: np.ndarray) -> np.ndarray:
    """Share of stance k that has passed, 0..1."""
    return np.clip((time - landing(k)) / STANCE_S, 0.0, 1.0)


def vertical(k: int, time: np.ndarray) -> np.ndarray:
    """Upward force on the foot of stance k: two humps, N."""
    phase = np.pi * progress(k, time)
    return MASS * 9.81 * np.clip(1.15 * np.sin(phase) + 0.3 * np.sin(3.0 * phase), 0.0, None)


def pressure(k: int, time: np.ndarray) -> np.ndarray:
    """Centre of pressure of stance k, from heel to toes, m."""
    aside = ASIDE_M if side_of(k) == "r" else -ASIDE_M
    return np.column_stack([k * STEP_M + FOOT_M * progress(k, time), np.zeros(len(time)), np.full(len(time), aside)])


def feet(time: np.ndarray) -> Markers:
    """Heels, toes and ankles: still in stance, a smooth way to the next print in swing."""
    names, places = [], []
    for side, first in (("l", 0), ("r", 1)):
        heel = np.full((len(time), 3), 0.0)
        heel[:, 2] = ASIDE_M if side == "r" else -ASIDE_M
        heel[:, 0] = first * STEP_M
        for k in range(first + 2, STANCES + 2, 2):
            off = landing(k - 2) + STANCE_S
            swing = np.clip((time - off) / (landing(k) - off), 0.0, 1.0)
            way = (1.0 - np.cos(np.pi * swing)) / 2.0
            heel[:, 0] += 2.0 * STEP_M * way
            heel[:, 1] += 0.1 * np.sin(np.pi * swing)
        for keypoint, ahead in (("Heel", 0.0), ("Ankle", 0.06), ("BigToe", FOOT_M)):
            names.append(f"{side.upper()}{keypoint}")
            places.append(heel + np.array([ahead, 0.0, 0.0]))
    return Markers(time, tuple(names), np.stack(places, axis=1))
