"""A captured walk in; the wearer's scaled model, motion and joint loads out: the whole inverse analysis in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.session_capture import SessionCapture
from exo_common.errors import ExoError
from exo_common.opensim_files import Storage
from exo_common.session import Wearer
from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.dynamics_files import read_coordinates
from exo_twin.inverse.fit import Fit, fit_keypoints, fit_markers
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.keypoint_model import BLAZEPOSE
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.kinematics import solve_kinematics, walking_forward
from exo_twin.inverse.loads import LONGEST_GAP_S, WalkLoads, walk_loads
from exo_twin.inverse.models import GenericModel, load_model
from exo_twin.inverse.plate_signals import PlateSignal, plates_of
from exo_twin.inverse.tree_from_opensim import kinematic_tree

FloatArray = NDArray[np.float64]

ONE_CAMERA = "one camera cannot tell the ground's force: there are no joint moments of the recording itself"


@dataclasses.dataclass(frozen=True)
class WalkAnalysis:
    """What a walk says of its wearer.

    Attributes
    ----------
    fit : scaled model and motion.
    tree, inertia : of the scaled model.
    loads : ground reaction and joint moments; None where the recording cannot tell them.
    warnings : sentences, of the fit and the loads.
    """

    fit: Fit
    tree: KinematicTree
    inertia: BodyInertia
    loads: WalkLoads | None
    warnings: tuple[str, ...]


def analyse_walk(
    capture: SessionCapture,
    wearer: Wearer,
    work: Path,
    progress: Callable[[str], None] = lambda _: None,
    convention: str = BLAZEPOSE,
    generic: Path | None = None,
    signals: Sequence[PlateSignal] = (),
) -> WalkAnalysis:
    """Scale, solve the motion, and load it with the ground's force, measured or predicted.

    Parameters
    ----------
    work : folder for `scaled.osim`.
    progress : called with a short phrase at the start of every step.
    convention : what keypoints without a marker set mean, see keypoint_model.
    generic : the unscaled .osim for skin markers; by default the one that keypoints use.
    signals : forces from a file of their own, in the frame of the capture; a recording's own plates need not be given.

    Raises
    ------
    ExoError : one sentence, for any walk that cannot be fitted. Loads that cannot be told cost a warning.
    """
    if capture.marker_set is None:
        fit = fit_keypoints(
            capture.raw,
            wearer.height,
            wearer.mass,
            work,
            progress,
            [dataclasses.asdict(stride) for stride in capture.strides],
            capture.covariance,
            capture.planar,
            convention,
            wearer.sex,
        )
    else:
        fit = fit_markers(
            capture.raw,
            capture.static,
            capture.marker_set,
            wearer.height,
            wearer.mass,
            work,
            progress,
            generic,
            sex=wearer.sex,
        )
    model = load_model(fit.scaling.model)
    model.initSystem()
    tree = kinematic_tree(model)
    progress("ground reaction and joint moments")
    return _loaded(fit, tree, body_inertia(model, tree), capture, wearer, signals)


def analyse_further_walk(
    known: WalkAnalysis, capture: SessionCapture, wearer: Wearer, signals: Sequence[PlateSignal] = ()
) -> WalkAnalysis:
    """Another walk with the same skin markers, on the model that was fitted to an earlier one.

    Parameters
    ----------
    known : of the earlier walk; its scaled .osim must still be there.
    signals : see analyse_walk.

    Raises
    ------
    ExoError : one sentence, for any walk that cannot be solved. Loads that cannot be told cost a warning.
    """
    if capture.marker_set is None:
        raise ExoError("a further walk needs skin markers; fit walks of keypoints one by one")
    scaled = known.fit.scaling.model
    weighted = GenericModel(scaled, scaled, known.fit.weights)
    kinematics = solve_kinematics(walking_forward(capture.raw), scaled, weighted)
    fit = dataclasses.replace(known.fit, kinematics=kinematics)
    return _loaded(fit, known.tree, known.inertia, capture, wearer, signals)


def _loaded(
    fit: Fit,
    tree: KinematicTree,
    inertia: BodyInertia,
    capture: SessionCapture,
    wearer: Wearer,
    signals: Sequence[PlateSignal],
) -> WalkAnalysis:
    """A solved motion with its ground reaction and moments, where they can be told."""
    if capture.planar:
        return WalkAnalysis(fit, tree, inertia, None, (*fit.warnings, ONE_CAMERA))
    given = tuple(signals)
    if not given and capture.recording is not None:
        given = plates_of(capture.recording.plates)
    feet = walking_forward(capture.markers)
    if given and feet is not capture.markers:
        given = tuple(signal.turned(np.diag([-1.0, 1.0, -1.0])) for signal in given)
    try:
        time, q = even_motion(fit.kinematics.coordinates, tree)
        loads = walk_loads(tree, inertia, time, q, feet, capture.events, given)
    except ExoError as refusal:
        told = f"there are no joint moments of the recording itself: {refusal}"
        return WalkAnalysis(fit, tree, inertia, None, (*fit.warnings, told))
    return WalkAnalysis(fit, tree, inertia, loads, (*fit.warnings, *loads.warnings))


def even_motion(table: Storage, tree: KinematicTree) -> tuple[FloatArray, FloatArray]:
    """Evenly spaced times (n,) s and coordinates (n, n_coordinates) in the model's own signs, rad and m.

    Frames without a pose are bridged.

    Raises
    ------
    ExoError : if there are gaps too long to be bridged, or fewer than two frames.
    """
    if len(table.time) < 2:
        raise ExoError("the motion has fewer than two usable frames; use a longer part of the recording")
    gaps = np.diff(table.time)
    step = float(np.median(gaps))
    if gaps.max() > max(LONGEST_GAP_S, 2.0 * step):
        at = int(np.argmax(gaps))
        raise ExoError(f"the motion has a gap of {gaps[at]:.2f} s at {table.time[at]:.2f} s; use the part beside it")
    time = np.linspace(table.time[0], table.time[-1], round(float(np.ptp(table.time)) / step) + 1)
    q = read_coordinates(table, tree)
    return time, np.column_stack([np.interp(time, table.time, column) for column in q.T])
