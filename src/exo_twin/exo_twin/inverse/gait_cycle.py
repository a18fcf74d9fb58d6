"""From joint angles over time to the wearer's mean stride."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Storage
from exo_twin.periodic import HARMONICS, Periodic
from exo_twin.twin import CURVE_POINTS, Gait

FloatArray = NDArray[np.float64]

# A plausible stride, s; outside it an event was missed or invented.
STRIDE_LIMITS = (0.5, 3.0)
# m/s; a pelvis slower than this does not travel (treadmill, or a picture without scale).
SPEED_RESOLUTION = 0.2
# Stance as a fraction of the stride; running lies below, standing above.
STANCE_LIMITS = (0.4, 0.85)
# What else moves a leg, where the model has it: the live estimator takes it from the mean stride.
OTHER_JOINTS = ("hip_adduction", "hip_rotation", "subtalar_angle")
# Of a stride's samples: its force counts as measured although an edge of a contact was not.
MEASURED_SHARE = 0.95


@dataclasses.dataclass(frozen=True)
class StrideMoments:
    """Joint moments of a recording: `time` (n,) s; `moments` leg coordinate, also of :data:`OTHER_JOINTS`, -> (n,) Nm,
    flexion positive; `measured` side -> (n,) whether the ground's force on that foot was measured."""

    time: FloatArray
    moments: Mapping[str, FloatArray]
    measured: Mapping[str, NDArray[np.bool_]]


def gait_from_motion(
    coordinates: Storage,
    strides: Sequence[Mapping[str, Any]],
    source: str,
    moments: StrideMoments | None = None,
) -> Gait:
    """Average the strides of a recording into one closed mean stride per coordinate.

    Parameters
    ----------
    coordinates : OpenSim coordinates, degrees or radians by its flag; knee flexion positive.
    strides : complete strides, each with `side` ("l", "r", "left" or "right") and the
        times `start`, `toe_off` and `end` in s.
    source : where the motion comes from, in words.
    moments : of the same recording, where it tells them.

    Returns
    -------
    The mean stride. Beside the six leg coordinates its curves hold :data:`OTHER_JOINTS` (rad), `pelvis_tilt` (rad),
    `pelvis_tz` (m, height) and `pelvis_tx_velocity` (m/s) where the recording has them.

    Raises
    ------
    ExoError : if a leg has no complete stride, a stride is implausible or lies
        outside the recording, or a coordinate is missing or not finite.
    """
    own = [_stride(entry, coordinates) for entry in strides]
    by_side = {side: [s for s in own if s["side"] == side] for side in SIDES}
    for side, word in zip(SIDES, ("left", "right"), strict=True):
        if not by_side[side]:
            raise ExoError(
                f"no complete stride of the {word} leg was found; record at least two strides of each leg in view"
            )
    duty_factor = float(np.mean([(s["toe_off"] - s["start"]) / (s["end"] - s["start"]) for s in own]))
    if not STANCE_LIMITS[0] <= duty_factor <= STANCE_LIMITS[1]:
        raise ExoError(
            f"stance takes {100 * duty_factor:.0f} % of the stride, walking's takes 40-85 %; check the foot events"
        )
    series = _series(coordinates)
    curves, deviations, rom = {}, {}, {}
    for name, values in series.items():
        cycles = np.array([_resample(coordinates.time, values, s) for s in by_side[_side_of(name)]])
        if not np.all(np.isfinite(cycles)):
            raise ExoError(f"coordinate '{name}' has gaps inside a stride; leave that stride out")
        curves[name] = close_curve(cycles.mean(axis=0))
        deviations[name] = cycles.std(axis=0, ddof=1) if len(cycles) > 1 else np.zeros(CURVE_POINTS)
        if name in LEG_COORDINATES or name == "pelvis_tilt":
            rom[name] = round(float(np.rad2deg(np.ptp(cycles, axis=1)).mean()), 1)
    moment_curves, moment_spread = _moment_curves(moments, by_side) if moments is not None else ({}, {})
    return Gait(
        stride_time=float(np.mean([s["end"] - s["start"] for s in own])),
        speed=_speed(coordinates, own),
        duty_factor=duty_factor,
        phase_offset_right=_phase_offset(by_side),
        strides=own,
        rom_deg=rom,
        curves=curves,
        curves_sd=deviations,
        source=source,
        moment_curves=moment_curves,
        moment_curves_sd=moment_spread,
    )


def _moment_curves(
    own: StrideMoments, by_side: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Mean and SD over strides, (101,) Nm; of the strides with measured forces where a leg has any, else of all."""
    curves, deviations = {}, {}
    for side in SIDES:
        known = own.measured[side].astype(float)
        share = [float(_resample(own.time, known, stride).mean()) for stride in by_side[side]]
        strides = [s for s, part in zip(by_side[side], share, strict=True) if part >= MEASURED_SHARE] or by_side[side]
        for name in (name for name in own.moments if name[-1] == side):
            cycles = np.array([_resample(own.time, own.moments[name], stride) for stride in strides])
            curves[name] = close_curve(cycles.mean(axis=0))
            deviations[name] = cycles.std(axis=0, ddof=1) if len(cycles) > 1 else np.zeros(CURVE_POINTS)
    return {name: curves[name] for name in own.moments}, {name: deviations[name] for name in own.moments}


def close_curve(curve: FloatArray, harmonics: int = HARMONICS) -> FloatArray:
    """A periodic version of a mean stride, (101,) in and out; first and last value are equal.

    The end mismatch is spread evenly over the stride (half at either end), then
    the curve is cut to its first harmonics.
    """
    n = len(curve) - 1
    closed = Periodic.from_curve(curve, harmonics)(np.arange(n) / n)
    return np.append(closed, closed[0])


def _stride(entry: Mapping[str, Any], table: Storage) -> dict[str, Any]:
    try:
        side = str(entry["side"])[:1].lower()
        start, toe_off, end = (float(entry[key]) for key in ("start", "toe_off", "end"))
    except KeyError as key:
        raise ExoError(f"a stride has no {key}; give side, start, toe_off and end of every stride") from None
    if side not in SIDES:
        raise ExoError(f"a stride has side '{entry['side']}'; it must be left or right")
    if not STRIDE_LIMITS[0] <= end - start <= STRIDE_LIMITS[1]:
        raise ExoError(
            f"a stride from {start:.2f} to {end:.2f} s is not walking (0.5-3 s expected); check the heel strikes"
        )
    step = float(np.median(np.diff(table.time)))
    if start < table.time[0] - step or end > table.time[-1] + step:
        raise ExoError(
            f"a stride from {start:.2f} to {end:.2f} s lies outside the motion "
            f"({table.time[0]:.2f}-{table.time[-1]:.2f} s); leave it out"
        )
    return {"side": side, "start": start, "toe_off": toe_off, "end": end}


def _series(table: Storage) -> dict[str, FloatArray]:
    """Curve name -> values over time, rad, m or m/s."""
    angle = np.deg2rad(1.0) if table.in_degrees else 1.0
    others = [name for name in table.columns if is_other(name)]
    series = {name: angle * table.column(name) for name in (*LEG_COORDINATES, *others)}
    if "pelvis_tilt" in table.columns:
        series["pelvis_tilt"] = angle * table.column("pelvis_tilt")
    if "pelvis_ty" in table.columns:
        series["pelvis_tz"] = table.column("pelvis_ty")
    if "pelvis_tx" in table.columns:
        series["pelvis_tx_velocity"] = np.gradient(table.column("pelvis_tx"), table.time)
    return series


def is_other(coordinate: str) -> bool:
    """Whether it is one of :data:`OTHER_JOINTS`, of either side."""
    return coordinate[:-2] in OTHER_JOINTS and coordinate[-2:] in ("_l", "_r")


def _side_of(name: str) -> str:
    """Whose cycle a curve follows: its own leg's, else the left leg's."""
    return name[-1] if name in LEG_COORDINATES or is_other(name) else SIDES[0]


def _resample(time: FloatArray, values: FloatArray, stride: Mapping[str, Any]) -> FloatArray:
    return np.interp(np.linspace(stride["start"], stride["end"], CURVE_POINTS), time, values)


def _speed(table: Storage, strides: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean forward speed of the pelvis over the strides, m/s; None if it does not travel."""
    if "pelvis_tx" not in table.columns:
        return None
    forward = table.column("pelvis_tx")
    distance = sum(float(np.diff(np.interp([s["start"], s["end"]], table.time, forward))[0]) for s in strides)
    speed = distance / sum(s["end"] - s["start"] for s in strides)
    return float(speed) if speed > SPEED_RESOLUTION else None


def _phase_offset(by_side: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    """Right leg's phase when the left one strikes: circular mean over all pairs of strides."""
    turns = []
    for left in by_side["l"]:
        for right in by_side["r"]:
            duration = 0.5 * (left["end"] - left["start"] + right["end"] - right["start"])
            turns.append(np.exp(2j * np.pi * (left["start"] - right["start"]) / duration))
    return float(np.angle(np.mean(turns)) / (2.0 * np.pi) % 1.0)
