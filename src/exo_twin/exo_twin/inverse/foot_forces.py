"""Plates' signals as one force per foot, at the times of the motion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import smooth
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.foot_stances import Step
from exo_twin.inverse.plate_contacts import POINT_N
from exo_twin.inverse.plate_signals import PlateSignal

FloatArray = NDArray[np.float64]


def foot_force(
    body: str,
    signals: Sequence[PlateSignal],
    steps: Sequence[Step],
    time: FloatArray,
    lag: float,
    cutoff_hz: float | None,
) -> ExternalForce:
    """What the plates did to one foot.

    Parameters
    ----------
    steps : of this foot, on the plates' clock.
    time : (n,) s on the markers' clock.
    lag : s, by which the plates are late.
    cutoff_hz : of a zero-phase low-pass, of force and moment alike; None leaves them as measured. It should be
        the motion's, or impacts appear as joint moments that no segment's acceleration answers.

    Notes
    -----
    The force and its moment about the ground's origin are exact, whatever the point: where the force is too weak
    for a centre of pressure the point is the nearest good one, and the free moment takes up the difference.
    """
    force, moment = np.zeros((len(time), 3)), np.zeros((len(time), 3))
    point, good = np.zeros((len(time), 3)), np.zeros(len(time), dtype=bool)
    for step in steps:
        own_force, own_moment = _at(signals[step.contact.signal], step, time + lag, cutoff_hz)
        height = float(np.median(signals[step.contact.signal].point[step.contact.rows, 1]))
        strong = own_force[:, 1] > POINT_N
        up = np.where(strong, own_force[:, 1], 1.0)
        # moment = point x force + a couple about the vertical, solved for the point at the plate's height
        x = (own_moment[:, 2] + height * own_force[:, 0]) / up
        z = (height * own_force[:, 2] - own_moment[:, 0]) / up
        point[strong] = np.column_stack([x, np.full(len(time), height), z])[strong]
        good |= strong
        force += own_force
        moment += own_moment
    if good.any():
        point = point[_nearest(good)]
    return ExternalForce(body, force, point, moment - np.cross(point, force))


def total_wrench(signals: Sequence[PlateSignal], time: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Force (n, 3) N and moment (n, 3) Nm about the ground's origin of all plates at some times on their clock."""
    wrenches = [(signal.time, _wrench(signal)) for signal in signals]
    total = np.sum([_interpolated(time, clock, wrench) for clock, wrench in wrenches], axis=0)
    return total[:, :3], total[:, 3:]


def _at(signal: PlateSignal, step: Step, time: FloatArray, cutoff_hz: float | None) -> tuple[FloatArray, FloatArray]:
    """Force and moment about the ground's origin of one contact, low-passed, at times on the plate's clock."""
    rows = step.contact.rows
    wrench = np.zeros((len(signal.time), 6))
    wrench[rows] = _wrench(signal)[rows]
    if cutoff_hz is not None:
        wrench = smooth(wrench, signal.rate_hz, cutoff_hz)
    found = _interpolated(time, signal.time, wrench)
    return found[:, :3], found[:, 3:]


def _wrench(signal: PlateSignal) -> FloatArray:
    """Force and moment about the ground's origin, (n, 6)."""
    return np.hstack([signal.force, np.cross(signal.point, signal.force) + signal.free_moment])


def _interpolated(wanted: FloatArray, time: FloatArray, wrench: FloatArray) -> FloatArray:
    """A wrench (n, 6) at other times; zero where nothing was recorded."""
    return np.column_stack([np.interp(wanted, time, wrench[:, k], left=0.0, right=0.0) for k in range(6)])


def _nearest(good: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For every sample the index of the nearest good one."""
    index, known = np.arange(len(good)), np.flatnonzero(good)
    after = np.searchsorted(known, index).clip(0, len(known) - 1)
    before = (after - 1).clip(0)
    return np.where(np.abs(known[before] - index) <= np.abs(known[after] - index), known[before], known[after])
