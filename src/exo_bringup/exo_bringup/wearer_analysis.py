"""One wearer's recordings in; scaled model, and for every walk angles, moments, ground reaction and figures out.

Writes an artefact folder `inverse/`:

    scaled.osim                    the wearer's model, one for all walks
    quality.yaml                   how it was scaled, and what came of every walk
    <walk>/coordinates.mot         joint angles (OpenSim)
    <walk>/inverse_dynamics.sto    joint moments, ground reaction measured where it is known, else predicted
    <walk>/ground_reaction.xml .mot
    <walk>/predicted/              moments and ground reaction as if there were no plates
    <walk>/gait.svg, curves.csv    angles and moments over the gait cycle, with a normative band if one was given
    <walk>/capture.yaml            the recording: strides, speed, direction, doubts
    <walk>/quality.yaml            solution: figures and doubts
"""

from __future__ import annotations

import dataclasses
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_bringup.gait_figures import GaitCurves, gait_curves, gait_figure, mean_sd, write_curves
from exo_bringup.norms import PERCENT, Norms
from exo_bringup.session_analysis import convention_of, forces_of, generic_of
from exo_capture.session_capture import SessionCapture, capture_session, session_inputs
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import write_storage
from exo_common.session import Session, Wearer
from exo_twin.inverse.analysis import WalkAnalysis, analyse_further_walk, analyse_walk, even_motion
from exo_twin.inverse.dynamics_files import force_table
from exo_twin.inverse.external_loads import write_external_loads
from exo_twin.inverse.inverse_dynamics import Dynamics, InverseDynamics
from exo_twin.inverse.loads import WalkLoads, flexion_sign
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.plate_lag import Lag
from exo_twin.opensim_runtime import logging_to

FloatArray = NDArray[np.float64]
Progress = Callable[[str], None]

FOLDER, KIND, QUALITY = "inverse", "inverse", "quality.yaml"
LOWER_BODY = ("pelvis", "femur", "patella", "tibia", "talus", "calcn", "toes")
UNTOLD = "none"  # method of a lag that could not be told
WHOLE_STANCE = 0.95  # share of its samples: the first and the last frame may be doubtful
# A peak of the moments over the gait cycle: joint, and whether it is the largest or the smallest value.
PEAKS = {
    "hip_extension": ("hip_flexion", np.nanmax),
    "hip_flexion": ("hip_flexion", np.nanmin),
    "knee_extension": ("knee_angle", np.nanmax),
    "ankle_plantarflexion": ("ankle_angle", np.nanmax),
}


@dataclasses.dataclass(frozen=True)
class WearerSessions:
    """What one wearer brought: walk -> session, all of the same person, and how they were found, in sentences."""

    wearer: Wearer
    sessions: Mapping[str, Session]
    notes: tuple[str, ...] = ()

    @property
    def inputs(self) -> dict[str, Path]:
        """File name -> path, for the manifest."""
        found = {name: path for own in self.sessions.values() for name, path in session_inputs(own).items()}
        return {name: path for name, path in found.items() if path.exists()}


@dataclasses.dataclass(frozen=True)
class WalkResult:
    """One walk, captured and analysed; `predicted`: dynamics from predicted ground reaction alone."""

    capture: SessionCapture
    analysis: WalkAnalysis
    predicted: Dynamics | None
    curves: GaitCurves

    @property
    def speed(self) -> float | None:
        """m/s, None where the person stays on the spot."""
        found = self.capture.quality.gait.get("speed_m_s")
        return None if found is None else float(found)

    def marker_rms(self, bodies: tuple[str, ...] = ("",)) -> float:
        """Distance of markers and model, m, over all frames and the skin markers on bodies whose names begin so.

        Without skin markers over all keypoints.
        """
        error = self.analysis.fit.kinematics.marker_error
        if self.capture.marker_set is not None:
            places = self.capture.marker_set.markers
            error = {name: e for name, e in error.items() if name in places and places[name].body.startswith(bodies)}
        return float(np.sqrt(np.mean(np.square(list(error.values())))))

    @property
    def warnings(self) -> list[str]:
        """All sentences about this walk."""
        return list(dict.fromkeys([*self.capture.quality.warnings, *self.analysis.warnings]))


@dataclasses.dataclass(frozen=True)
class WearerResult:
    """Summary for people and files, the captured walk that the model was fitted to, and the others.

    `summary` holds `warnings`, `scaling`, and `walks`: one mapping per walk, with `status` "ok" or "failed" and its
    `reason`.
    """

    summary: dict[str, Any]
    fitted: Session
    capture: SessionCapture
    others: tuple[tuple[Session, SessionCapture], ...] = ()


def analyse_wearer(
    brought: WearerSessions,
    folder: Path,
    generic: Path | None = None,
    norms: Norms | None = None,
    progress: Progress = lambda _: None,
) -> WearerResult:
    """Analyse all walks of a wearer and write `folder`/inverse, whole or not at all.

    The first walk that can be used makes the model. One that cannot costs a row in the summary, not the others.

    Raises
    ------
    ExoError : if no walk can be used.
    """
    wearer = brought.wearer
    warnings = list(brought.notes)
    inputs = brought.inputs | ({generic.name: generic} if generic is not None else {})
    failures: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {}
    first: list[tuple[Session, WalkResult]] = []
    others: list[tuple[Session, SessionCapture]] = []
    with (
        tempfile.TemporaryDirectory(prefix="exo_inverse_") as scratch,
        writing(folder / FOLDER, KIND, wearer.id, inputs, warnings) as target,
        logging_to(target / "opensim.log"),
    ):
        for name, session in brought.sessions.items():

            def solve(name: str = name, session: Session = session) -> None:
                known = first[0][1].analysis if first else None
                walk = _solve(session, Path(scratch), generic, known, lambda text: progress(f"{name}: {text}"))
                save_walk(walk, target / name, f"{wearer.id}, {name}", wearer, norms)
                rows[name] = _row(walk)
                if first:
                    others.append((session, walk.capture))
                else:
                    first.append((session, walk))

            _attempt(name, failures, solve)
        if not first:
            raise ExoError("; ".join(f"{name}: {reason}" for name, reason in failures.items()))
        fit = first[0][1].analysis.fit
        (target / "scaled.osim").write_bytes(fit.scaling.model.read_bytes())
        warnings += [*fit.scaling.warnings, *(f"{name} is left out: {reason}" for name, reason in failures.items())]
        rows |= {name: {"status": "failed", "reason": reason} for name, reason in failures.items()}
        summary = {
            "warnings": warnings,
            "scaling": {
                "source": fit.source,
                "mass_kg": fit.scaling.mass,
                "strength_factor": round(fit.scaling.strength_factor, 3),
                "segments": fit.scaling.lengths,
                "factors": {body: round(factor, 4) for body, factor in fit.scaling.factors.items()},
            },
            "refinement": None if fit.refined is None else fit.refined.quality(),
            "walks": [{"walk": name} | rows[name] for name in brought.sessions],
        }
        (target / QUALITY).write_text(yaml.safe_dump(summary, sort_keys=False, width=120), encoding="utf-8")
    return WearerResult(summary, first[0][0], first[0][1].capture, tuple(others))


def save_walk(walk: WalkResult, folder: Path, title: str, wearer: Wearer, norms: Norms | None) -> None:
    """Write one walk's files, as OpenSim reads them, and its figure."""
    folder.mkdir(parents=True)
    kinematics, loads = walk.analysis.fit.kinematics, walk.analysis.loads
    write_storage(folder / "coordinates.mot", kinematics.coordinates)
    walk.capture.quality.save(folder / "capture.yaml")
    if loads is not None and walk.predicted is not None:
        loads.save(folder)
        alone = folder / "predicted"
        alone.mkdir()
        write_storage(alone / "inverse_dynamics.sto", force_table(loads.time, walk.predicted, loads.tree))
        write_external_loads(alone / "ground_reaction.xml", loads.time, list(loads.predicted.values()))
    write_curves(folder / "curves.csv", walk.curves)
    bands = norms.at(walk.speed, wearer.height) if norms is not None else None
    pace = "" if walk.speed is None else f", {walk.speed:.2f} m/s"
    counts = walk.capture.quality.strides
    caption = f"Strides: {counts['l']} left, {counts['r']} right; recorded with {walk.analysis.fit.source}."
    gait_figure(folder / "gait.svg", f"{title}{pace}", walk.curves, bands, [caption])
    quality = {
        "warnings": walk.warnings,
        "inverse_kinematics": {
            "frames": len(kinematics.marker_rms),
            "marker_rms_mm": round(1e3 * walk.marker_rms(), 2),
            "marker_rms_lower_body_mm": round(1e3 * walk.marker_rms(LOWER_BODY), 2),
            "marker_rms_each_mm": {name: round(1e3 * error, 1) for name, error in kinematics.marker_error.items()},
            "saturated_share": kinematics.saturated,
            "angle_sd_deg": kinematics.angle_sd_deg,
            "dropped_share": kinematics.dropped_share,
        },
        "loads": _loads_quality(loads) if loads is not None else None,
        "peaks_nm_kg": _peaks(walk.curves),
        "peaks_measured_nm_kg": _peaks(walk.curves, measured_only=True),
        "norms": bands.source if bands is not None else None,
    }
    (folder / QUALITY).write_text(
        yaml.safe_dump(quality, sort_keys=False, width=120, default_flow_style=None), encoding="utf-8"
    )


def _solve(
    session: Session, work: Path, generic: Path | None, known: WalkAnalysis | None, progress: Progress
) -> WalkResult:
    """Capture and analyse one walk, on the model of an earlier one if there is one."""
    progress("reading")
    capture = capture_session(session, lambda share, text: progress(text))
    capture.require_strides()
    if known is None:
        analysis = analyse_walk(
            capture,
            session.wearer,
            work,
            progress,
            convention_of(session),
            generic_of(session, generic),
            forces_of(session, capture),
        )
    else:
        progress("solving on the wearer's model")
        analysis = analyse_further_walk(known, capture, session.wearer, forces_of(session, capture))
    loads, predicted = analysis.loads, None
    time, q = even_motion(analysis.fit.kinematics.coordinates, analysis.tree)
    if loads is not None:
        motion = derivatives(time, q)
        solver = InverseDynamics(analysis.tree, analysis.inertia)
        predicted = solver.solve(motion.q, motion.speed, motion.acceleration, list(loads.predicted.values()))
    sign = {name: flexion_sign(analysis.tree, name) for name in LEG_COORDINATES}
    curves = gait_curves(
        time,
        {name: sign[name] * np.rad2deg(q[:, analysis.tree.index(name)]) for name in LEG_COORDINATES},
        loads.moments if loads is not None and loads.plates is not None else None,
        loads.measured if loads is not None else {},
        {name: sign[name] * predicted.of(name) for name in LEG_COORDINATES} if predicted is not None else None,
        capture.strides,
        session.wearer.mass,
    )
    return WalkResult(capture, analysis, predicted, curves)


def _attempt(name: str, failures: dict[str, str], work: Callable[[], None]) -> None:
    """Do some work on one walk; what goes wrong becomes that walk's reason, and a defect leaves its traceback."""
    try:
        work()
    except ExoError as error:
        failures[name] = str(error)
    except Exception as error:  # a batch goes on
        traceback.print_exc()
        failures[name] = f"a defect of exo ({type(error).__name__}: {error}); please report it with the log"


def _row(walk: WalkResult) -> dict[str, Any]:
    """One walk in the summary."""
    loads, counts = walk.analysis.loads, walk.capture.quality.strides
    row: dict[str, Any] = {
        "status": "ok",
        "reason": "",
        "speed_m_s": None if walk.speed is None else round(walk.speed, 2),
        "strides_l": counts["l"],
        "strides_r": counts["r"],
        "marker_rms_mm": round(1e3 * walk.marker_rms(LOWER_BODY), 1),
        "ground_reaction": "none" if loads is None else "predicted" if loads.plates is None else "measured",
        "plate_lag_ms": None,
        "plate_lag_method": None,
        "valid_from_s": None,
        "valid_to_s": None,
    }
    if loads is not None and loads.plates is not None:
        row |= _lag(loads.plates.lag)
        if loads.plates.window is not None:
            row["valid_from_s"], row["valid_to_s"] = (round(t, 3) for t in loads.plates.window)
    row |= {f"{peak}_{side}_nm_kg": value for peak, own in _peaks(walk.curves).items() for side, value in own.items()}
    return row | {"warnings": " | ".join(walk.warnings)}


def _lag(lag: Lag) -> dict[str, Any]:
    """The plates' lag in the summary; that it could not be told is no lag of zero."""
    return {
        "plate_lag_ms": None if lag.method == UNTOLD else round(1e3 * lag.seconds, 1),
        "plate_lag_method": lag.method,
    }


def _loads_quality(loads: WalkLoads) -> dict[str, Any]:
    """Figures of the loads, and by what the lag of the plates was told."""
    figures = loads.quality()
    if loads.plates is not None:
        figures["plates"]["lag_method"] = loads.plates.lag.method
    return figures


def _peaks(curves: GaitCurves, measured_only: bool = False) -> dict[str, dict[str, float]]:
    """Peak -> side -> size, Nm/kg, of the mean curve, measured where possible.

    `measured_only`: of the strides whose stance was measured as a whole, and of nothing else.
    """
    found: dict[str, dict[str, float]] = {}
    for peak, (joint, extreme) in PEAKS.items():
        found[peak] = {}
        for side in SIDES:
            own = curves.measured[f"{joint}_{side}"] if measured_only else curves.moments(f"{joint}_{side}")
            if measured_only and side in curves.toe_off:
                stance = curves.toe_off[side] >= PERCENT
                own = own[np.isfinite(own[:, stance]).mean(axis=1) >= WHOLE_STANCE]
            if not len(own):
                continue
            mean = mean_sd(own)[0]
            if np.isfinite(mean).any():
                found[peak][side] = round(abs(float(extreme(mean))), 3)
    return found
