"""Figures of the report: one visual language, colour-blind safe (Okabe and Ito 2008), as inline SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exo_bringup.analysis import HIP_MUSCLES, Recording, Signals
from exo_bringup.emg_section import Channel, EmgWalk
from exo_emg.muscles import side_of
from exo_twin.twin import Gait

LEFT, RIGHT = "#0072B2", "#D55E00"
WITHOUT, WITH = "#666666", "#009E73"
BAD, BAD_TEXT = "#999999", "#444444"
SIDES = {"l": ("left", LEFT), "r": ("right", RIGHT)}
JOINTS = {"hip_flexion": "Hip flexion", "knee_angle": "Knee flexion", "ankle_angle": "Ankle dorsiflexion"}
MUSCLES = {"GLU": "Gluteals", "HFL": "Hip flexors", "HAM": "Hamstrings", "RF": "Rectus femoris"}
LEVELS = ("disarmed", "armed", "gated", "tripped")
CYCLE = np.linspace(0.0, 100.0, 101)

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "legend.frameon": False,
        "svg.fonttype": "none",
    }
)


def joint_angles(gait: Gait, recording: Recording) -> str:
    """Hip, knee and ankle over the gait cycle: from video beside the simulated twin's, both legs."""
    figure, axes = plt.subplots(2, 3, figsize=(9.5, 5.0), sharex=True)
    for row, (side, (name, colour)) in zip(axes, SIDES.items(), strict=True):
        for axis, (joint, title) in zip(row, JOINTS.items(), strict=True):
            coordinate = f"{joint}_{side}"
            mean, sd = np.rad2deg(gait.curves[coordinate]), np.rad2deg(gait.curves_sd[coordinate])
            axis.fill_between(CYCLE, mean - sd, mean + sd, color=colour, alpha=0.2, lw=0)
            axis.plot(CYCLE, mean, color=colour, lw=2, label="video, mean ± SD")
            twin = np.rad2deg(recording.unassisted.mean[coordinate])
            if side == "r":
                # The recording is cut at left heel strikes; the right leg's own cycle starts later.
                shift = round(100 * (1.0 - gait.phase_offset_right) % 100)
                twin = np.roll(twin[:-1], -shift)
                twin = np.append(twin, twin[0])
            axis.plot(CYCLE, twin, color="black", lw=1, ls="--", label="twin, simulated")
            axis.set_title(f"{title}, {name}")
            axis.axhline(0, color="0.85", lw=0.8, zorder=0)
        row[0].set_ylabel("deg")
        row[0].legend(loc="best", fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("gait cycle of that leg, %")
    return as_svg(figure)


def assistance(recording: Recording) -> str:
    """Exo torque and hip muscle activation over the cycle, without and with help."""
    figure, axes = plt.subplots(2, 5, figsize=(9.5, 4.6), sharex=True)
    for row, (side, (name, _)) in zip(axes, SIDES.items(), strict=True):
        for colour, condition, label in (
            (WITHOUT, recording.unassisted, "without"),
            (WITH, recording.assisted, "with"),
        ):
            _band(row[0], condition.mean[f"torque_{side}"], condition.sd[f"torque_{side}"], colour, label)
            for axis, muscle in zip(row[1:], HIP_MUSCLES, strict=True):
                key = f"{muscle}_{side}"
                _band(axis, condition.mean[key], condition.sd[key], colour, label)
                axis.set_ylim(bottom=0)
                axis.set_title(MUSCLES[muscle])
        row[0].set_title("Exo torque, Nm")
        row[0].set_ylabel(f"{name} side")
        row[0].axhline(0, color="0.85", lw=0.8, zorder=0)
    axes[0, 0].legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("left cycle, %")
    return as_svg(figure)


def timeline(signals: Signals) -> str:
    """Hip angles, applied torque and safety level over the whole run."""
    figure, axes = plt.subplots(3, 1, figsize=(9.5, 4.6), sharex=True, height_ratios=(2, 2, 1))
    for side, (name, colour) in SIDES.items():
        axes[0].plot(
            signals.truth.time,
            np.rad2deg(signals.truth.column(f"hip_flexion_{side}")),
            color=colour,
            lw=0.8,
            label=name,
            gid=f"hip_flexion_{side}",
        )
        axes[1].plot(signals.torque.time, signals.torque.column(f"torque_{side}"), color=colour, lw=0.8)
    axes[0].set_ylabel("hip flexion, deg")
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=8)
    axes[1].set_ylabel("exo torque, Nm")
    axes[2].step(signals.level.time, signals.level.column("level"), color="black", lw=1.2, where="post")
    axes[2].set_yticks(range(len(LEVELS)), LEVELS)
    axes[2].set_ylim(-0.3, len(LEVELS) - 0.7)
    axes[2].set_xlabel("time, s")
    return as_svg(figure)


def emg_profiles(walk: EmgWalk) -> str:
    """Every muscle's envelope over its own leg's gait cycle; a channel that is not used is grey and says why."""
    muscles = list(dict.fromkeys(side_of(channel.name)[0] for channel in walk.channels))
    columns = min(4, len(muscles))
    rows = -(-len(muscles) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9.5, 1.9 * rows + 0.5), sharex=True, squeeze=False)
    for axis in axes.flat[len(muscles) :]:
        axis.set_axis_off()
    for axis, muscle in zip(axes.flat, muscles, strict=False):
        axis.set_title(muscle.replace("_", " "), fontsize=9)
        axis.set_xlim(0.0, 100.0)
        shown = [c for c in walk.channels if side_of(c.name)[0] == muscle]
        for i, channel in enumerate(shown):
            side = side_of(channel.name)[1] or ""
            _emg_channel(axis, walk, channel, *SIDES[side], row=i)
        # The same height means the same share of the maximum in every panel that does not exceed it.
        axis.set_ylim(0.0, max(1.05, axis.get_ylim()[1]))
    for axis in axes[:, 0]:
        axis.set_ylabel("of maximum")
    for axis in axes.flat[max(0, len(muscles) - columns) : len(muscles)]:
        axis.set_xlabel("gait cycle, %")
        axis.tick_params(labelbottom=True)
    return as_svg(figure)


def _emg_channel(axis: Axes, walk: EmgWalk, channel: Channel, side: str, colour: str, row: int) -> None:
    """One channel's curve; words stand in the upper corner, one row per side."""
    profile = channel.profile
    if channel.reason:
        words, ink = f"{side}: not used, {channel.reason}", BAD_TEXT
    elif profile is None:
        words, ink = f"{side}: no stride", BAD_TEXT
    else:
        words, ink = f"{side}, {profile.strides} stride{'s' if profile.strides > 1 else ''}", colour
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    at = (0.98, 0.97 - 0.15 * row)
    axis.text(*at, words, color=ink, ha="right", va="top", fontsize=8, transform=axis.transAxes, bbox=paper)
    if profile is None:
        return
    if channel.reason:
        axis.plot(CYCLE, profile.mean, color=BAD, lw=1, ls=":")
        return
    axis.fill_between(CYCLE, profile.mean - profile.sd, profile.mean + profile.sd, color=colour, alpha=0.2, lw=0)
    axis.plot(CYCLE, profile.mean, color=colour, lw=1.5)
    axis.axvline(walk.toe_off_pct[side_of(channel.name)[1] or ""], color=colour, lw=0.8, ls="--", zorder=0)


def stage_times(seconds: Mapping[str, float]) -> str:
    """How long each stage took."""
    figure, axis = plt.subplots(figsize=(9.5, 0.35 * len(seconds) + 0.6))
    names = list(seconds)[::-1]
    bars = axis.barh(names, [seconds[n] for n in names], color=LEFT, height=0.6)
    axis.bar_label(bars, fmt="%.1f s", padding=3)
    axis.set_xlabel("s")
    axis.margins(x=0.12)
    return as_svg(figure)


def _band(axis: Axes, mean: np.ndarray, sd: np.ndarray, colour: str, label: str) -> None:
    axis.fill_between(CYCLE, mean - sd, mean + sd, color=colour, alpha=0.2, lw=0)
    axis.plot(CYCLE, mean, color=colour, lw=1.5, label=label)


def as_svg(figure: Figure) -> str:
    """The figure as an <svg> element; closes it."""
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
