"""Scaled model and skin markers in, joint angles and how far to trust them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers, Storage
from exo_twin.inverse.marker_ik import MarkerIk, MarkerPoses
from exo_twin.inverse.models import GenericModel, load_model
from exo_twin.inverse.tree_from_opensim import kinematic_tree

FloatArray = NDArray[np.float64]

TRACKED = ("LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle")  # a frame needs all of them
SATURATION_WARNING = 0.02  # of the frames
TURN = np.array([-1.0, 1.0, -1.0])  # half a turn about the vertical
VAGUE_DEG = 10.0  # standard deviation of a leg coordinate from which its mean curve is not worth showing
MARKER_RMS_WARNING = 0.04  # m; OpenSim's advice is below 0.02 for skin markers, keypoints are twice as rough


@dataclasses.dataclass(frozen=True)
class Kinematics:
    """Joint angles of a recording.

    Attributes
    ----------
    coordinates : over time (degrees and m), in the model's own signs.
    marker_rms : (n,) m, root mean square over markers per frame, without outliers.
    marker_error : marker -> root mean square over frames of its distance from the model, m, with outliers.
    saturated : coordinate -> fraction of frames at its clamped limit.
    warnings : sentences.
    angle_sd_deg : leg coordinate -> mean standard deviation, deg, where the method knows it.
    dropped_share : of the samples, left out as outliers.
    """

    coordinates: Storage
    marker_rms: FloatArray
    marker_error: dict[str, float]
    saturated: dict[str, float]
    warnings: list[str]
    angle_sd_deg: dict[str, float] = dataclasses.field(default_factory=dict)
    dropped_share: float = 0.0


def solve_kinematics(markers: Markers, scaled: Path, generic: GenericModel, clamped: bool = True) -> Kinematics:
    """Solve every frame from the first to the last in which both legs are seen.

    Parameters
    ----------
    markers : with their keypoints, in OpenSim's frame, m; walking along +x or -x.
    scaled : the scaled .osim, with its markers.
    generic : its weights are used.
    clamped : keep the leg coordinates inside the model's ranges, as a twin needs them; walkers
        exceed a generic model's knee extension (0) and hip extension (-30 degrees).

    Raises
    ------
    ExoError : if no frame shows both legs, or the markers are not in m or not the model's.
    """
    model = load_model(scaled)
    model.initSystem()
    ik = MarkerIk(kinematic_tree(model), generic.weights, () if clamped else LEG_COORDINATES)
    return kinematics_of(ik, ik.solve(walking_forward(_usable_frames(markers))))


def kinematics_of(ik: MarkerIk, solved: MarkerPoses) -> Kinematics:
    """Solved poses as a table in degrees and the model's own signs, frames without a pose left out."""
    there = np.isfinite(solved.q).all(axis=1)
    unit = np.where(ik.tree.turns(), 180.0 / np.pi, 1.0)
    values = solved.q[there] * unit
    coordinates = Storage(solved.time[there], solved.coordinates, values, in_degrees=True)
    rms = np.sqrt(np.nanmean(np.where(solved.dropped, np.nan, solved.residual)[there] ** 2, axis=1))
    seen = np.isfinite(solved.residual).any(axis=0)
    error = np.sqrt(np.nanmean(solved.residual[:, seen] ** 2, axis=0))
    angle_sd = {
        name: round(float(np.degrees(solved.q_sd[there, solved.coordinates.index(name)].mean())), 1)
        for name in LEG_COORDINATES
    }
    vague = [
        f"the markers hardly tell {name} (standard deviation {sd:.0f} degrees); put markers on both its segments"
        for name, sd in angle_sd.items()
        if sd > VAGUE_DEG
    ]
    saturated = {name: solved.saturated[name] for name in LEG_COORDINATES if name in solved.saturated}
    return Kinematics(
        coordinates,
        rms,
        dict(zip(np.array(solved.names)[seen].tolist(), map(float, error), strict=True)),
        saturated,
        [*kinematics_warnings(rms, saturated), *solved.warnings, *vague],
        angle_sd,
        round(float(solved.dropped.sum() / max(np.isfinite(solved.residual).sum(), 1)), 3),
    )


def kinematics_warnings(marker_rms: FloatArray, saturated: Mapping[str, float]) -> list[str]:
    """Sentences about markers (n,) m off the model and coordinates at their limits (share of the frames)."""
    warnings = [
        f"{name} stands at its limit in {100 * share:.0f} % of the frames; its true value may lie beyond"
        for name, share in saturated.items()
        if share > SATURATION_WARNING
    ]
    rms = float(np.sqrt(np.mean(marker_rms**2)))
    if rms > MARKER_RMS_WARNING:
        warnings.append(f"keypoints miss the model by {1e3 * rms:.0f} mm RMS; joint angles are uncertain")
    return warnings


def walking_forward(markers: Markers) -> Markers:
    """Turn the recording about the vertical so that walking (or, standing, looking) is along +x.

    The toes tell the direction: they lie ahead of the heels.
    """
    ahead = [
        markers.position[:, markers.names.index(f"{side}BigToe"), 0]
        - markers.position[:, markers.names.index(f"{side}Heel"), 0]
        for side in ("L", "R")
    ]
    if float(np.nanmedian(ahead)) >= 0.0:
        return markers
    return dataclasses.replace(markers, position=markers.position * TURN)


def _usable_frames(markers: Markers) -> Markers:
    """From the first to the last frame in which every tracked keypoint is seen."""
    columns = [markers.names.index(name) for name in TRACKED]
    seen = np.flatnonzero(np.isfinite(markers.position[:, columns]).all(axis=(1, 2)))
    if not len(seen):
        raise ExoError("no frame shows hips, knees and ankles of both legs; label or film the whole person")
    window = slice(seen[0], seen[-1] + 1)
    return Markers(markers.time[window], markers.names, markers.position[window])
