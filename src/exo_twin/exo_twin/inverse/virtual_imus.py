"""What encoders and IMUs on a wearer would read, from a recorded walk: for tests and benches of their calibration.

A recording in a laboratory is one or two strides long. One stride of it, closed into a loop, is walked over and over
after a quiet stance, with the variation from stride to stride that people have; sensors sit on soft tissue that moves
with the gait, at any rotation, and have noise and bias.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from exo_common.frames import HIPS, OPENSIM_TO_ROS
from exo_twin.calibration import SEGMENTS
from exo_twin.inverse.body_motion import MovingTree, cross
from exo_twin.inverse.kinematic_tree import KinematicTree, flexion_sign
from exo_twin.inverse.wearable_recording import ImuSignal, WearableRecording
from exo_twin.inverse.wearable_reference import BODIES
from exo_twin.periodic import Periodic

FloatArray = NDArray[np.float64]

RATE_HZ = 100.0
GRAVITY = 9.80665
# Where the sensors sit, m, in the body's axes of OpenSim: behind the sacrum, and outside on the thigh above mid-length.
PLACES = {"pelvis": (-0.12, 0.02, 0.0), "thigh_l": (0.03, -0.18, -0.08), "thigh_r": (0.03, -0.18, 0.08)}
HARMONICS = 8
TRAVEL = ("pelvis_tx", "pelvis_tz")  # of OpenSim's ground; these do not close over a stride
START_S = 1.6  # of getting going: about three steps
TURN_S = 1.0  # of turning round a corner
SWAY_RAD, SWAY_HZ = np.deg2rad(0.4), 0.4


@dataclasses.dataclass(frozen=True)
class Wear:
    """How sensors are worn, and how well they measure; defaults are those of consumer sensors on straps.

    Attributes
    ----------
    mounting : segment -> (3, 3) from the sensor's axes to the segment's (REP-103).
    zero : (2,) rad, what the encoders read at zero flexion, left and right.
    steps : after the start.
    stand_s : of quiet stance.
    wobble_rad : (segment -> (3,)) RMS about the segment's x, y, z of the sensor against the bone, locked to the stride
        (assumed; fluoroscopy of six walkers with artificial knees saw clusters of markers on the thigh turn by some
        10 degrees where it was worst: PMC8631460).
    vary_rad, vary_time : standard deviations of each angle's offset and of stride time, from stride to stride.
    gyro_noise, gyro_bias : rad/s; accelerometer_noise, accelerometer_bias : m/s2; encoder_noise : rad.
    turn_rad, turn_s : about the vertical to the left, TURN_S long, and when it begins.
    treadmill : the belt takes the walker back at the speed of the stride.
    """

    mounting: Mapping[str, FloatArray]
    zero: tuple[float, float] = (0.0, 0.0)
    steps: int = 12
    stand_s: float = 3.5
    wobble_rad: Mapping[str, FloatArray] = dataclasses.field(
        default_factory=lambda: {
            "pelvis": np.deg2rad([1.0, 1.0, 1.0]),
            "thigh_l": np.deg2rad([1.5, 1.5, 2.5]),
            "thigh_r": np.deg2rad([1.5, 1.5, 2.5]),
        }
    )
    vary_rad: float = float(np.deg2rad(0.7))
    vary_time: float = 0.02
    gyro_noise: float = 0.01
    gyro_bias: float = 0.01
    accelerometer_noise: float = 0.08
    accelerometer_bias: float = 0.1
    encoder_noise: float = 0.003
    turn_rad: float = 0.0
    turn_s: float = 0.0
    treadmill: bool = False


def wear(
    tree: KinematicTree,
    time: FloatArray,
    q: FloatArray,
    stride: tuple[float, float],
    standing: FloatArray,
    how: Wear,
    rng: np.random.Generator,
) -> WearableRecording:
    """Three seconds of standing and some steps, as worn sensors see them.

    Parameters
    ----------
    time, q : a recorded walk, (n,) s and (n, n_coordinates) in the tree's order.
    stride : s, begin and end of the stride that is repeated.
    standing : (n_coordinates,) posture of the quiet stance; travel is ignored.
    """
    at, motion = _walk(tree, time, q, stride, standing, how, rng)
    q_rate, q_growth = np.gradient(motion, at, axis=0), np.gradient(np.gradient(motion, at, axis=0), at, axis=0)
    moved = MovingTree(tree).at(motion, q_rate, q_growth)
    phase = _phase(at, stride[1] - stride[0], how)
    turned = how.turn_rad * _smooth((at - how.turn_s) / TURN_S)
    turning = np.outer(np.gradient(turned, at), [0.0, 1.0, 0.0])
    imus = {}
    for name in SEGMENTS:
        body = tree.bodies.index(BODIES[name])
        place = np.array(PLACES[name])
        reach = np.einsum("nij,j->ni", moved.turn[:, body], place)
        spin, spin_rate = moved.spin[:, body], moved.spin_rate[:, body]
        pull = moved.acceleration[:, body] + cross(spin_rate, reach) + cross(spin, cross(spin, reach))
        # In axes that turn with the walker; how far from the turn's middle the sensor sits is left out.
        pull = pull + cross(turning, moved.velocity[:, body] + cross(spin, reach))
        spin = spin + turning
        # In the segment's axes of REP-103.
        to_segment = OPENSIM_TO_ROS @ moved.turn[:, body].transpose(0, 2, 1)
        force = np.einsum("nij,nj->ni", to_segment, pull + np.array([0.0, GRAVITY, 0.0]))
        rate = np.einsum("nij,nj->ni", to_segment, spin)
        wobble = _wobble(phase, how.wobble_rad[name], rng)
        shaken = Rotation.from_rotvec(wobble)
        rate = shaken.inv().apply(rate) + _own_rate(shaken)
        force = shaken.inv().apply(force)
        turn = how.mounting[name]
        gyro = rate @ turn + _errors(rng, len(at), how.gyro_noise, how.gyro_bias)
        accelerometer = force @ turn + _errors(rng, len(at), how.accelerometer_noise, how.accelerometer_bias)
        imus[name] = ImuSignal(at, gyro, accelerometer)
    hips = [tree.index(name) for name in HIPS]
    sign = [flexion_sign(tree, name) for name in HIPS]
    angles = motion[:, hips] * sign + how.zero + how.encoder_noise * rng.standard_normal((len(at), 2))
    return WearableRecording(at, angles, imus)


def closed_stride(tree: KinematicTree, time: FloatArray, q: FloatArray, stride: tuple[float, float]) -> list[Periodic]:
    """Every coordinate of one stride as a periodic function of its phase; travel without its mean speed."""
    at = np.linspace(*stride, 101)
    return [Periodic.from_curve(np.interp(at, time, column), HARMONICS) for column in q.T]


def _walk(
    tree: KinematicTree,
    time: FloatArray,
    q: FloatArray,
    stride: tuple[float, float],
    standing: FloatArray,
    how: Wear,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    period = stride[1] - stride[0]
    walking_s = START_S + (how.steps / 2.0 + 0.5) * period
    at = np.arange(0.0, how.stand_s + walking_s, 1.0 / RATE_HZ)
    pace = _pace(at, how)
    phase = _phase(at, period, how)
    phase = phase + _varied(phase, how.vary_time, rng)
    loops = closed_stride(tree, time, q, stride)
    walking = np.column_stack([loop(phase) for loop in loops])
    turns = tree.turns()
    walking[:, turns] += np.column_stack([_varied(phase, how.vary_rad, rng) for _ in range(int(turns.sum()))])
    sway = SWAY_RAD * np.sin(2.0 * np.pi * (SWAY_HZ * at[:, None] + rng.uniform(size=len(loops)))) * turns
    motion = pace[:, None] * walking + (1.0 - pace[:, None]) * (standing + sway)
    for name in TRAVEL:
        row = tree.index(name)
        ends = np.interp(stride, time, q[:, row])
        speed = 0.0 if how.treadmill else (ends[1] - ends[0]) / period
        # The closed stride's swing about the mean speed, and the speed gained.
        swing = loops[row](phase) - loops[row].coefficients[0].real
        motion[:, row] = pace * swing + np.cumsum(pace * speed) / RATE_HZ
    return at, motion


def _pace(at: FloatArray, how: Wear) -> FloatArray:
    """0 standing to 1 walking, twice smooth."""
    return _smooth((at - how.stand_s) / START_S)


def _smooth(x: FloatArray) -> FloatArray:
    """0 before 0, 1 after 1, twice smooth between."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def _phase(at: FloatArray, period: float, how: Wear) -> FloatArray:
    return np.cumsum(_pace(at, how)) / (RATE_HZ * period)


def _varied(phase: FloatArray, spread: float, rng: np.random.Generator) -> FloatArray:
    """A smooth random walk with one independent value per stride, of this standard deviation."""
    knots = np.arange(np.floor(phase[-1]) + 2.0)
    values = spread * rng.standard_normal(len(knots))
    values[0] = 0.0
    blend = _smooth(phase - np.floor(phase))
    at = np.floor(phase).astype(int)
    return values[at] + (values[at + 1] - values[at]) * blend


def _wobble(phase: FloatArray, rms: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(n, 3) rad: first three harmonics of the stride, falling, with random phases; none while standing."""
    size = np.array([1.0, 0.5, 0.25])
    turn = rng.uniform(0.0, 2.0 * np.pi, (3, 3))
    waves = np.cos(2.0 * np.pi * phase[:, None, None] * np.arange(1, 4) + turn) - np.cos(turn)
    waves -= np.where(phase[:, None, None] > 0.0, -np.cos(turn), 0.0) * np.clip(phase[:, None, None], 0.0, 1.0)
    return np.asarray(rms * (waves @ size) * np.sqrt(2.0 / np.sum(size**2)))


def _own_rate(turn: Rotation) -> FloatArray:
    """(n, 3) rad/s in the turned axes, by central differences."""
    step = (turn[:-1].inv() * turn[1:]).as_rotvec() * RATE_HZ
    return np.asarray(0.5 * (np.vstack([step[:1], step]) + np.vstack([step, step[-1:]])))


def _errors(rng: np.random.Generator, n: int, noise: float, bias: float) -> FloatArray:
    return np.asarray(noise * rng.standard_normal((n, 3)) + bias * rng.standard_normal(3))
