"""Joint angles and moments over the gait cycle: curves of every stride, and the figure that a researcher expects.

Moments are shown as the field shows them: internal moments per body mass, extension
and plantarflexion positive. Inside exo flexion is positive; the sign turns here.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from exo_bringup.norms import PERCENT, Band, Bands
from exo_capture.gait_events import Stride
from exo_common.frames import LEG_COORDINATES, SIDES

FloatArray = NDArray[np.float64]

COLOURS = {"l": "#0072B2", "r": "#D55E00"}  # Okabe and Ito 2008: told apart by the colour-blind
WORDS = {"l": "left", "r": "right"}
JOINTS = {"hip_flexion": "Hip", "knee_angle": "Knee", "ankle_angle": "Ankle"}
ANGLE_NAMES = {"hip_flexion": "flexion", "knee_angle": "flexion", "ankle_angle": "dorsiflexion"}
MOMENT_NAMES = {"hip_flexion": "extension", "knee_angle": "extension", "ankle_angle": "plantarflexion"}
SIGNS = "Moments are internal, per body mass; extension and plantarflexion positive."
NO_MOMENTS = "This recording tells no joint moments."
CAPTION_LINE_IN = 0.17  # height of a line of the caption
PELVIS = "Where zero pelvis tilt lies differs between models by some 13°, which moves hip angles against the band."
KNOWN_SHARE = 0.05  # of a stride: fewer known samples are no curve


@dataclasses.dataclass(frozen=True)
class GaitCurves:
    """Every stride's curves of one walk.

    Attributes
    ----------
    angles : leg coordinate -> (strides, 101) degrees, flexion and dorsiflexion positive.
    measured : leg coordinate -> (strides, 101) Nm/kg from measured ground reaction, the field's signs; NaN where it
        was not measured.
    predicted : the same from predicted ground reaction.
    toe_off : side -> mean end of stance, % of the cycle.
    """

    angles: Mapping[str, FloatArray]
    measured: Mapping[str, FloatArray]
    predicted: Mapping[str, FloatArray]
    toe_off: Mapping[str, float]

    def moments(self, coordinate: str) -> FloatArray:
        """Moments (strides, 101) Nm/kg, measured where possible."""
        known = self.measured[coordinate]
        return np.where(np.isfinite(known), known, self.predicted[coordinate])


def stride_curves(
    time: FloatArray, values: FloatArray, strides: Sequence[Stride], known: NDArray[np.bool_] | None = None
) -> FloatArray:
    """One quantity (n,) over each stride, (strides, 101); NaN outside the recording and where it is not known."""
    result = np.full((len(strides), len(PERCENT)), np.nan)
    there = np.ones(len(time)) if known is None else known.astype(float)
    half = 0.5 * float(np.median(np.diff(time)))
    for row, stride in zip(result, strides, strict=True):
        at = stride.start + PERCENT / 100.0 * (stride.end - stride.start)
        good = (at >= time[0] - half) & (at <= time[-1] + half) & (np.interp(at, time, there) > 1.0 - 1e-9)
        row[good] = np.interp(at[good], time, values)
    return result


def gait_curves(
    time: FloatArray,
    angles_deg: Mapping[str, FloatArray],
    measured_nm: Mapping[str, FloatArray] | None,
    known: Mapping[str, NDArray[np.bool_]],
    predicted_nm: Mapping[str, FloatArray] | None,
    strides: Sequence[Stride],
    mass: float,
) -> GaitCurves:
    """Cut a walk into strides, each leg into its own.

    Parameters
    ----------
    time : (n,) s.
    angles_deg, measured_nm, predicted_nm : leg coordinate -> (n,), flexion and dorsiflexion positive; None: no moments.
    known : side -> (n,) where the force on that foot was measured.
    strides : of both legs, those with known foot events.
    mass : kg.
    """
    own = {side: [stride for stride in strides if stride.side == side] for side in SIDES}
    angles, measured, predicted = {}, {}, {}
    for name in LEG_COORDINATES:
        side = name[-1]
        angles[name] = stride_curves(time, angles_deg[name], own[side])
        unknown = np.full_like(angles[name], np.nan)
        predicted[name] = measured[name] = unknown
        if predicted_nm is not None:
            predicted[name] = -stride_curves(time, predicted_nm[name], own[side]) / mass
        if measured_nm is not None:
            measured[name] = -stride_curves(time, measured_nm[name], own[side], known[side]) / mass
    toe_off = {side: 100.0 * float(np.mean([s.stance_share for s in own[side]])) for side in SIDES if own[side]}
    return GaitCurves(angles, measured, predicted, toe_off)


def mean_sd(curves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation over strides, (101,) each; NaN where none is known, SD zero of a single stride."""
    known = np.isfinite(curves)
    count = known.sum(axis=0)
    filled = np.where(known, curves, 0.0)
    mean = np.divide(filled.sum(axis=0), count, out=np.full(curves.shape[1], np.nan), where=count > 0)
    square = np.where(known, curves - mean, 0.0) ** 2
    return mean, np.sqrt(np.divide(square.sum(axis=0), count - 1, out=np.zeros(curves.shape[1]), where=count > 1))


def gait_figure(path: Path, title: str, curves: GaitCurves, bands: Bands | None, notes: Sequence[str] = ()) -> None:
    """Draw angles and moments of both legs over the gait cycle into an .svg or .png file.

    Solid: mean and standard deviation of the strides, moments from measured ground reaction. Dashed: moments from
    predicted ground reaction. Grey: the normative band. `notes` are sentences for the caption.
    """
    loaded = any(np.isfinite(curves.moments(name)).any() for name in LEG_COORDINATES)
    rows = 2 if loaded else 1
    figure, axes = plt.subplots(rows, 3, figsize=(9.5, 2.4 * rows + 1.4), sharex=True, squeeze=False)
    for column, joint in enumerate(JOINTS):
        _angles(axes[0, column], joint, curves, bands)
        if loaded:
            _moments(axes[1, column], joint, curves, bands)
        axes[-1, column].set_xlabel("gait cycle of that leg, %")
        axes[-1, column].set_xlim(0.0, 100.0)
    caption = [SIGNS if loaded else NO_MOMENTS, "Mean ± SD of the strides; dotted: toe-off."]
    if bands is not None:
        caption += [f"Grey: {bands.source}.", PELVIS]
    caption += notes
    line = CAPTION_LINE_IN / figure.get_figheight()
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0.0, line * (len(caption) + 2), 1.0, 1.0))
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    if handles:
        place = (0.5, line * len(caption))
        figure.legend(
            handles, labels, loc="lower center", ncols=len(handles), fontsize=8, frameon=False, bbox_to_anchor=place
        )
    figure.text(0.02, 0.01, "\n".join(caption), fontsize=7.5, va="bottom", color="0.25")
    buffer = io.BytesIO()
    kind = path.suffix.lstrip(".")
    figure.savefig(buffer, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)
    path.write_bytes(buffer.getvalue())


def write_curves(path: Path, curves: GaitCurves) -> None:
    """Write means and standard deviations as CSV, one row per percent of the gait cycle."""
    columns: dict[str, FloatArray] = {"gait_cycle_pct": PERCENT}
    for name in LEG_COORDINATES:
        for what, table in (
            (f"{name}_deg", curves.angles),
            (f"{name}_moment_measured_nm_kg", curves.measured),
            (f"{name}_moment_predicted_nm_kg", curves.predicted),
        ):
            mean, sd = mean_sd(table[name])
            columns |= {what: mean, f"{what}_sd": sd}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow("" if np.isnan(value) else f"{value:.6g}" for value in row)


def _angles(axis: Axes, joint: str, curves: GaitCurves, bands: Bands | None) -> None:
    axis.set_title(f"{JOINTS[joint]} {ANGLE_NAMES[joint]}, °", fontsize=10)
    if bands is not None:
        _shade(axis, bands.angles[joint])
    for side in SIDES:
        _curve(axis, curves.angles[f"{joint}_{side}"], side, "-", WORDS[side])
    _marks(axis, curves)


def _moments(axis: Axes, joint: str, curves: GaitCurves, bands: Bands | None) -> None:
    axis.set_title(f"{JOINTS[joint]} {MOMENT_NAMES[joint]} moment, Nm/kg", fontsize=10)
    if bands is not None:
        _shade(axis, bands.moments[joint])
    for side in SIDES:
        name = f"{joint}_{side}"
        _curve(axis, curves.measured[name], side, "-", f"{WORDS[side]}, ground reaction measured")
        _curve(axis, curves.predicted[name], side, "--", f"{WORDS[side]}, ground reaction predicted")
    _marks(axis, curves)


def _marks(axis: Axes, curves: GaitCurves) -> None:
    """Zero and toe-off."""
    axis.axhline(0.0, color="0.6", lw=0.6, zorder=0)
    for side, percent in curves.toe_off.items():
        axis.axvline(percent, color=COLOURS[side], lw=0.6, ls=":", zorder=0)
    axis.spines[["top", "right"]].set_visible(False)


def _curve(axis: Axes, curves: FloatArray, side: str, style: str, label: str) -> None:
    if not curves.size or np.isfinite(curves).mean() < KNOWN_SHARE:
        return
    mean, sd = mean_sd(curves)
    if style == "-":
        axis.fill_between(PERCENT, mean - sd, mean + sd, color=COLOURS[side], alpha=0.2, lw=0)
    axis.plot(PERCENT, mean, color=COLOURS[side], lw=1.6 if style == "-" else 1.0, ls=style, label=label)


def _shade(axis: Axes, band: Band) -> None:
    axis.fill_between(PERCENT, band.lower, band.upper, color="0.88", lw=0, zorder=-1)
