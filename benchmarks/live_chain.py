"""The live chain beside the batch chain on one walk: markers and plates frame by frame, and all at once.

Live: `StreamingIk`, `StreamingDynamics`, `StreamingMuscles`, each fed by the one before as frames arrive. Batch:
`MarkerIk.solve`, the offline filter, `InverseDynamics`, `MuscleSolver`. A live result names the time it belongs to,
which lies the stated delay behind the newest frame; it is compared with the batch result at that time. What is left
is the causal filter's and, in the activations, what follows from it.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
from inverse_dynamics import END_S, START_S, ground_forces
from inverse_kinematics import marker_weights, within
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers, read_storage, read_trc
from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.inertia_from_opensim import body_inertia
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.marker_ik import MarkerIk
from exo_twin.inverse.models import load_model
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.muscle_forces import MuscleSolver, StreamingMuscles
from exo_twin.inverse.muscle_path_fit import fit_muscle_paths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.streaming_derivatives import StreamingConfig
from exo_twin.inverse.streaming_dynamics import StreamingDynamics
from exo_twin.inverse.streaming_ik import StreamingIk
from exo_twin.inverse.tree_from_opensim import kinematic_tree

FloatArray = NDArray[np.float64]

STREAM_HZ = 100.0


@dataclasses.dataclass(frozen=True)
class Subject:
    """Everything both chains need: of walking_3d, between the times at which both feet are on plates."""

    ik: MarkerIk
    inertia: BodyInertia
    muscles: MuscleSolver
    markers: Markers
    forces: list[ExternalForce]


@dataclasses.dataclass(frozen=True)
class Chain:
    """Results at n times: angles (n, 6) rad and moments (n, 6) Nm of LEG_COORDINATES, activations (n, m)."""

    time: FloatArray
    angle: FloatArray
    moment: FloatArray
    activation: FloatArray

    def at(self, times: FloatArray) -> Chain:
        """The frames nearest to some times."""
        rows = np.abs(self.time[:, None] - times).argmin(axis=0)
        return Chain(self.time[rows], self.angle[rows], self.moment[rows], self.activation[rows])


def subject(data: Path, cache: Path | None = None) -> Subject:
    """Of `data`/walking_3d."""
    folder = data / "walking_3d"
    file = folder / "subject_walk_scaled.osim"
    model = load_model(file)
    model.initSystem()
    tree = kinematic_tree(model)
    markers = within(read_trc(folder / "markers_walk.trc"), START_S, END_S)
    weights = {n: w for n, w in marker_weights(folder / "ik_tasks_walk.xml").items() if n in markers.names}
    paths = fit_muscle_paths(file, tree, cache).paths
    solver = MuscleSolver(paths, muscle_model(model, paths.muscles))
    forces = ground_forces(read_storage(folder / "grf_walk.mot"), markers.time)
    return Subject(MarkerIk(tree, weights), body_inertia(model, tree), solver, markers, forces)


def batch(own: Subject) -> Chain:
    """All frames at once."""
    tree, paths = own.ik.tree, own.muscles.paths
    q = own.ik.solve(own.markers).q
    moving = derivatives(own.markers.time, q)
    solved = InverseDynamics(tree, own.inertia).solve(moving.q, moving.speed, moving.acceleration, own.forces)
    rows = [tree.index(name) for name in paths.coordinates]
    wanted = np.column_stack([solved.of(name) for name in paths.coordinates])
    shared = own.muscles.solve(own.markers.time, moving.q[:, rows], moving.speed[:, rows], wanted)
    legs = [tree.index(name) for name in LEG_COORDINATES]
    moments = np.column_stack([solved.of(name) for name in LEG_COORDINATES])
    return Chain(own.markers.time, moving.q[:, legs], moments, shared.activation)


def live(own: Subject) -> tuple[Chain, FloatArray, FloatArray]:
    """Frame by frame; also the delay (n,) s of every result and the time (n,) s that its frame took."""
    tree, paths = own.ik.tree, own.muscles.paths
    config = StreamingConfig(rate_hz=STREAM_HZ)
    kinematics, dynamics = StreamingIk(own.ik), StreamingDynamics(tree, own.inertia, config)
    muscles = StreamingMuscles(own.muscles)
    rows, legs = ([tree.index(name) for name in names] for names in (paths.coordinates, LEG_COORDINATES))
    order = [own.markers.names.index(name) for name in tree.markers]
    found, delays, seconds = [], [], []
    for i, now in enumerate(own.markers.time):
        began = time.perf_counter()
        pose = kinematics.step(float(now), own.markers.position[i, order])
        if pose is None:
            continue
        forces = [force.frames(slice(i, i + 1)) for force in own.forces]
        moving = dynamics.push(float(now), pose.q, forces)
        if moving is None:
            continue
        wanted = np.array([moving.dynamics.of(name)[0] for name in paths.coordinates])
        shared = muscles.push(moving.time, moving.motion.q[rows], moving.motion.speed[rows], wanted)
        seconds.append(time.perf_counter() - began)
        delays.append(now - moving.time)
        moments = [moving.dynamics.of(name)[0] for name in LEG_COORDINATES]
        found.append((moving.time, moving.motion.q[legs], moments, shared.activation[0]))
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return Chain(*columns), np.array(delays), np.array(seconds)


def measure(data: Path) -> dict[str, float]:
    """Figures on `data`/walking_3d.

    Returns
    -------
    live_vs_batch_delay_s : of every live result behind its newest frame, as stated by StreamingConfig.
    live_vs_batch_angle_deg, live_vs_batch_moment_nm : RMS difference over hips, knees and ankles.
    live_vs_batch_activation_rmse, live_vs_batch_activation_r : median over muscles.
    live_chain_ms_median, live_chain_ms_p95 : of one frame through all three.
    """
    own = subject(data)
    streamed, delays, seconds = live(own)
    whole = batch(own).at(streamed.time)
    return {
        "live_vs_batch_delay_s": float(np.max(delays)),
        "live_vs_batch_angle_deg": float(np.rad2deg(_rms(streamed.angle - whole.angle))),
        "live_vs_batch_moment_nm": float(_rms(streamed.moment - whole.moment)),
        "live_vs_batch_activation_rmse": float(np.median(_rms(streamed.activation - whole.activation, axis=0))),
        "live_vs_batch_activation_r": float(np.median(correlation(streamed.activation, whole.activation))),
        "live_chain_ms_median": 1e3 * float(np.median(seconds)),
        "live_chain_ms_p95": 1e3 * float(np.percentile(seconds, 95)),
    }


def _rms(values: FloatArray, axis: int | None = None) -> FloatArray:
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=axis)))


def correlation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Of every column that varies."""
    a, b = one - one.mean(axis=0), other - other.mean(axis=0)
    power = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.asarray((a * b).sum(axis=0)[power > 0.0] / power[power > 0.0])
