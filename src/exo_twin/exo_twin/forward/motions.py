"""What a simulated wearer can do, by name."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from exo_twin.forward.reference import Reference, smoothstep, standing, walking
from exo_twin.forward.walker import Walker
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

MOTIONS = ("walk", "stand", "lift_left", "lift_right", "stand_and_walk")

# Standing and walking in turn: long enough to be asked to stand for 3 s, then to walk ten steps and a few more.
STAND_S = 6.0
STRIDES = 9
# Getting going and stopping take about three and two steps.
START_S, STOP_S = 1.6, 1.1
SAMPLE_S = 0.004


def make(motion: str, walker: Walker, gait: Gait) -> Reference:
    """The reference of one of :data:`MOTIONS`."""
    if motion == "walk":
        return walking(walker, gait)
    if motion == "stand_and_walk":
        return stand_and_walk(walker, walking(walker, gait), standing(walker))
    return standing(walker, {"stand": None, "lift_left": 0, "lift_right": 1}[motion])


def stand_and_walk(walker: Walker, walk: Reference, stand: Reference) -> Reference:
    """Stand, get going, walk, stop, and so on; made up of a walk and a stand.

    Getting going is a slower walk of smaller amplitude: no weight is shifted beforehand, as people do, and the feet
    slip a little.
    """
    period, rows = walk.stride_time, len(walk.q)
    whole = math.ceil(STRIDES + 0.5 * (START_S + STOP_S) / period)
    stop = STAND_S + START_S + whole * period - 0.5 * (START_S + STOP_S)
    n = round((stop + STOP_S) / SAMPLE_S)
    time = np.arange(n + 1) * (stop + STOP_S) / n
    pace = smoothstep((time - STAND_S) / START_S) - smoothstep((time - stop) / STOP_S)
    strides = CubicSpline(time, pace).antiderivative()(time) / period
    place = np.mod(strides, 1.0)
    nearest = np.round(place * rows).astype(int) % rows

    def blended(walked: FloatArray, stood: FloatArray) -> FloatArray:
        return pace[:, None] * walked + (1.0 - pace[:, None]) * stood[0]

    grid = np.arange(rows + 1) / rows
    swing = walk.q - grid[:-1, None] * walk.advance
    posture = CubicSpline(grid, np.vstack([swing, swing[:1]]), bc_type="periodic")(place)
    q = blended(posture, stand.q) + strides[:, None] * walk.advance
    motion = CubicSpline(time, q)
    return Reference(
        dt=float(time[1]),
        q=q[:-1],
        qd=motion(time, 1)[:-1],
        qdd=motion(time, 2)[:-1],
        loading=blended(walk.loading[nearest], stand.loading)[:-1],
        pressure=blended(walk.pressure[nearest], stand.pressure)[:-1],
        phase=np.mod(strides[:-1, None] + walk.phase[0], 1.0),
        stride_time=float(time[-1]),
        advance=q[-1] - q[0],
    )
