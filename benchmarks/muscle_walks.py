"""The walks with EMG that the muscle benches share, each analysed as a session is: gait_speeds and walking_3d.

gait_speeds: 12 wearers at two speeds, one right stride each; generic model scaled and fitted to the first walk. Only
frames of the stride in which the force on the right foot was measured (or known to be none) count. walking_3d: the
published model and coordinates while both feet are on plates, and its published envelopes.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import tempfile
from pathlib import Path

import numpy as np
from inverse_dynamics import END_S, START_S, ground_forces, with_driven
from numpy.typing import NDArray

from exo_bringup.batch_folder import find_wearers, read_wearer
from exo_bringup.session_analysis import forces_of
from exo_capture.session_capture import capture_session
from exo_common.opensim_files import read_storage, write_storage
from exo_emg.gait_profile import stride_peaks
from exo_emg.muscles import channel_name
from exo_emg.offline import process_recording
from exo_emg.processing import ChainConfig
from exo_emg.recordings import read_recording
from exo_twin.inverse.analysis import WalkAnalysis, analyse_further_walk, analyse_walk, even_motion
from exo_twin.inverse.dynamics_files import read_coordinates
from exo_twin.inverse.emg_muscles import ELECTROMECHANICAL_DELAY_S, excitations
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import Dynamics, InverseDynamics
from exo_twin.inverse.models import load_model
from exo_twin.inverse.motion_derivatives import CUTOFF_HZ, derivatives
from exo_twin.inverse.muscle_calibration import CalibrationTrial
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import logging_to, opensim

FloatArray = NDArray[np.float64]

JOBS = 2
SIDE = "r"  # of the electrodes
# Moments that muscles must add up to. Those of subtalar joint and toes hang on where the ground's force passes the
# foot to the centimetre: 1 cm is 7 Nm, more than they are.
WANTED = tuple(
    f"{name}_{SIDE}" for name in ("hip_flexion", "hip_adduction", "hip_rotation", "knee_angle", "ankle_angle")
)
SAGITTAL = tuple(f"{name}_{SIDE}" for name in ("hip_flexion", "knee_angle", "ankle_angle"))
EVERY = 10  # of walking_3d's 1 kHz frames: 100 Hz


@dataclasses.dataclass(frozen=True)
class EmgWalk:
    """One walk of the measured leg.

    Attributes
    ----------
    mass : kg.
    paths, model : of all leg muscles.
    time, q, qd, moment : (n,) s and (n, c) of the paths' coordinates; moments are NaN where not wanted.
    channels : k names of exo_emg.
    excitation : (n, k) V, or fractions of each channel's own maximum: envelopes after delay and lag, NaN where the
        channel must not be used; envelope : (n, k) after the delay alone.
    peak : (k,) of the envelope in this walk, in the same unit; NaN where the channel must not be used.
    """

    wearer: str
    name: str
    mass: float
    paths: MusclePaths
    model: MuscleModel
    time: FloatArray
    q: FloatArray
    qd: FloatArray
    moment: FloatArray
    channels: tuple[str, ...]
    excitation: FloatArray
    envelope: FloatArray
    peak: FloatArray

    def trial(self, peak: FloatArray) -> CalibrationTrial:
        """For calibration, as fractions of the given maxima (k,); channels without one are left out."""
        return CalibrationTrial(self.time, self.q, self.qd, self.moment, self.excitation / peak)


@functools.cache
def gait_speeds(data: Path, generic: Path) -> list[list[EmgWalk]]:
    """The walks of every wearer, comfortable before fast; two wearers at a time, once per process."""
    wearers = [entry.name for entry in find_wearers(data / "gait_speeds")]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(JOBS, mp_context=context) as pool:
        count = len(wearers)
        return list(pool.map(wearer_walks, [data] * count, wearers, [generic] * count))


def wearer_walks(data: Path, name: str, generic: Path) -> list[EmgWalk]:
    """The walks of one wearer, on one model."""
    (entry,) = (entry for entry in find_wearers(data / "gait_speeds") if entry.name == name)
    brought = read_wearer(entry)
    known: WalkAnalysis | None = None
    walks = []
    with tempfile.TemporaryDirectory(prefix="exo_walks_") as scratch, logging_to(Path(scratch) / "opensim.log"):
        for walk, session in brought.sessions.items():
            capture = capture_session(session)
            forces = forces_of(session, capture)
            if known is None:
                found = analyse_walk(capture, session.wearer, Path(scratch), generic=generic, signals=forces)
                known = found
                paths = fit_muscle_paths(found.fit.scaling.model, found.tree).paths
                osim = load_model(found.fit.scaling.model)
                osim.initSystem()
                model = muscle_model(osim, paths.muscles)
            else:
                found = analyse_further_walk(known, capture, session.wearer, forces)
            assert session.markers is not None and found.loads is not None
            spans = [(stride.start, stride.end) for stride in capture.strides if stride.side == SIDE]
            time, q = even_motion(found.fit.kinematics.coordinates, found.tree)
            inside = np.any([(time >= start) & (time <= end) for start, end in spans], axis=0)
            rows = np.flatnonzero(found.loads.measured[SIDE] & inside)
            motion = derivatives(time, q)
            columns = [found.tree.index(name) for name in paths.coordinates]
            channels, emg_time, envelope = _emg(session.path(session.markers.file))
            walks.append(
                EmgWalk(
                    entry.name,
                    walk,
                    session.wearer.mass,
                    paths,
                    model,
                    time[rows],
                    motion.q[rows][:, columns],
                    motion.speed[rows][:, columns],
                    _wanted(found.loads.dynamics, paths)[rows],
                    channels,
                    excitations(time[rows], emg_time, envelope),
                    _delayed(time[rows], emg_time, envelope),
                    stride_peaks(envelope, emg_time, channels, {SIDE: spans}),
                )
            )
    return walks


def walking_3d(data: Path) -> EmgWalk:
    """The published walk."""
    folder = data / "walking_3d"
    osim = folder / "subject_walk_scaled.osim"
    model = opensim.Model(str(osim))
    model.initSystem()
    tree = kinematic_tree(model)
    paths = fit_muscle_paths(osim, tree).paths
    with tempfile.TemporaryDirectory(prefix="exo_walks_") as scratch:
        write_storage(Path(scratch) / "coordinates.mot", with_driven(read_storage(folder / "coordinates.sto"), model))
        table = read_storage(Path(scratch) / "coordinates.mot")
    time = table.time[(table.time >= START_S) & (table.time <= END_S)][::EVERY]
    moving = derivatives(table.time, read_coordinates(table, tree), CUTOFF_HZ, at=time)
    inertia = body_inertia(model, tree)
    external = ground_forces(read_storage(folder / "grf_walk.mot"), time)
    dynamics = InverseDynamics(tree, inertia).solve(moving.q, moving.speed, moving.acceleration, external)
    emg = read_storage(folder / "electromyography.sto")
    channels = tuple(channel_name(label, SIDE) for label in emg.columns)
    columns = [tree.index(name) for name in paths.coordinates]
    inside = (emg.time >= START_S) & (emg.time <= END_S)
    return EmgWalk(
        "walking_3d",
        "walking_3d",
        inertia.total_mass,
        paths,
        muscle_model(model, paths.muscles),
        time,
        moving.q[:, columns],
        moving.speed[:, columns],
        _wanted(dynamics, paths),
        channels,
        excitations(time, emg.time, emg.values),
        _delayed(time, emg.time, emg.values),
        emg.values[inside].max(axis=0),
    )


def _wanted(dynamics: Dynamics, paths: MusclePaths) -> FloatArray:
    """Moments (n, c) Nm, NaN where not wanted."""
    unknown = np.full(len(dynamics.of(WANTED[0])), np.nan)
    return np.column_stack([dynamics.of(name) if name in WANTED else unknown for name in paths.coordinates])


def _emg(path: Path) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
    """Channels, times (j,) s and envelopes (j, k) V of a C3D file, NaN where a channel must not be used."""
    recording = read_recording(path)
    done = process_recording([recording.samples], recording.layout.rate_hz, ChainConfig())
    bad = np.array([bool(report.reason) for report in done.channels])
    time = recording.time0_s + np.arange(len(done.envelope)) / done.rate_hz
    return recording.layout.muscles, time, np.where(bad, np.nan, done.known())


def _delayed(time: FloatArray, emg_time: FloatArray, envelope: FloatArray) -> FloatArray:
    late = time - ELECTROMECHANICAL_DELAY_S
    return np.column_stack([np.interp(late, emg_time, column, np.nan, np.nan) for column in envelope.T])
