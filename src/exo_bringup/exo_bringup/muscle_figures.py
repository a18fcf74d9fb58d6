"""Figures of a twin's muscles: activation over the gait cycle, and what the wearer's joints tolerate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from exo_bringup.figures import CYCLE, JOINTS, SIDES, as_svg
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Storage
from exo_emg.muscles import side_of
from exo_twin.inverse.tolerance import EXTENSION, FLEXION, STILL, Tolerance
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

COLUMNS = 8
PASSIVE_COLOUR, STRIDE_COLOUR = "#999999", "black"
STRENGTH = {FLEXION: ("flexors", "#009E73"), EXTENSION: ("extensors", "#CC79A7")}


def activations(found: Storage, emg: Storage | None, strides: Sequence[Mapping[str, Any]]) -> str:
    """Every muscle's activation over its own leg's gait cycle, mean ± SD of the strides; EMG dashed on top."""
    stems = list(dict.fromkeys(side_of(name)[0] for name in found.columns))
    rows = -(-len(stems) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(9.5, 1.05 * rows + 0.6), sharex=True, sharey=True, squeeze=False
    )
    for axis in axes.flat[len(stems) :]:
        axis.set_axis_off()
    for axis, stem in zip(axes.flat, stems, strict=False):
        axis.set_title(stem, fontsize=8)
        axis.set(xlim=(0.0, 100.0), ylim=(0.0, 1.0), xticks=(0, 50), yticks=(0.0, 0.5, 1.0))
        for side, (_, colour) in SIDES.items():
            _activation(axis, found, emg, strides, f"{stem}_{side}", colour)
    for axis in axes.flat[max(0, len(stems) - COLUMNS) : len(stems)]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("% of cycle", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("activation", fontsize=8)
    return as_svg(figure)


def _activation(
    axis: Axes, found: Storage, emg: Storage | None, strides: Sequence[Mapping[str, Any]], muscle: str, colour: str
) -> None:
    own = [stride for stride in strides if stride["side"] == muscle[-1]]
    if muscle in found.columns and own:
        cycles = _cycles(found, muscle, own)
        mean, spread = cycles.mean(axis=0), cycles.std(axis=0)
        axis.fill_between(CYCLE, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0)
        axis.plot(CYCLE, mean, color=colour, lw=1.2)
    if emg is not None and muscle in emg.columns and own:
        cycles = _cycles(emg, muscle, own)
        known = np.isfinite(cycles).all(axis=1)
        if known.any():
            axis.plot(CYCLE, cycles[known].mean(axis=0), color=STRIDE_COLOUR, lw=0.9, ls="--")


def _cycles(table: Storage, name: str, strides: Sequence[Mapping[str, Any]]) -> FloatArray:
    """(strides, 101), NaN where the table holds none."""
    at = np.array([np.linspace(stride["start"], stride["end"], len(CYCLE)) for stride in strides])
    return np.interp(at, table.time, table.column(name))


def tolerance(found: Tolerance, gait: Gait) -> str:
    """Strength and passive moment over angle and strength over speed, right leg, the recorded stride on top."""
    figure, axes = plt.subplots(2, 3, figsize=(9.5, 5.4), layout="constrained")
    for column, (joint, title) in enumerate(JOINTS.items()):
        coordinate = f"{joint}_r"
        row = LEG_COORDINATES.index(coordinate)
        over_angle, over_speed = axes[:, column]
        angle = np.rad2deg(found.angle[row])
        middle = int(np.argmin(np.abs(found.angle[row] - found.posture[row])))
        largest = 0.0
        for way, (words, colour) in STRENGTH.items():
            sign = 1.0 if way == FLEXION else -1.0
            over_angle.plot(angle, sign * found.strength[row, way, :, STILL], color=colour, lw=1.6, label=words)
            over_speed.plot(found.velocity, sign * found.strength[row, way, middle], color=colour, lw=1.6)
            largest = max(largest, float(found.strength[row, way].max()))
        over_angle.plot(angle, found.passive_published[row], color=PASSIVE_COLOUR, lw=1.2, label="relaxed, published")
        over_angle.plot(
            angle, found.passive_fibres[row], color=PASSIVE_COLOUR, lw=1.2, ls=":", label="relaxed, model's fibres"
        )
        for limit in np.rad2deg(found.passive_range[row]):
            over_angle.axvline(limit, color=PASSIVE_COLOUR, lw=0.8, ls="--")
        if gait.moment_curves:
            moment, curve = gait.moment_curves[coordinate], gait.curves[coordinate]
            speed = np.gradient(curve, gait.stride_time / (len(curve) - 1))
            over_angle.plot(np.rad2deg(curve), moment, color=STRIDE_COLOUR, lw=1.0, label="walking")
            over_speed.plot(speed, moment, color=STRIDE_COLOUR, lw=1.0)
        for axis in (over_angle, over_speed):
            axis.set_ylim(-1.1 * largest, 1.1 * largest)
            axis.axhline(0.0, color="0.85", lw=0.8, zorder=0)
        over_angle.set_title(title)
        over_angle.set_xlabel("angle, deg")
        over_speed.set_xlabel("angular velocity, rad/s")
    for axis in axes[:, 0]:
        axis.set_ylabel("moment, Nm")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    return as_svg(figure)
