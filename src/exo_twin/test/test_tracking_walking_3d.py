"""The tracking twin of a real wearer, walker made by the real compiler, against plates and OpenSim's inverse dynamics.

Data: one stride of walking_3d. Its plates and moments enter no computation, but the assumptions about ground reaction
and the low-pass were chosen while looking at them: agreement here is not evidence for other wearers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_common.frames import LEG_COORDINATES, SIDES
from exo_common.opensim_files import Storage, read_storage
from exo_twin.forward.compiler.compile import compile_walker
from exo_twin.forward.motions import make
from exo_twin.forward.reference import GRAVITY_M_S2
from exo_twin.forward.tracking import Record, TrackingTwin, TwinSample, run
from exo_twin.forward.walker import Walker
from exo_twin.twin import CURVE_POINTS, Gait

DATA = Path(__file__).resolve().parents[4] / "shared/data/walking_3d"
GRID = np.linspace(0.0, 1.0, CURVE_POINTS)
CONTACT_N = 30.0
SECONDS = 3.0

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/walking_3d beside the repository")


class Measured:
    """The recorded stride, every quantity over the gait cycle of its own leg."""

    def __init__(self) -> None:
        self.forces = read_storage(DATA / "grf_walk.mot")
        self.strike, off = {}, []
        for side in SIDES:
            on = self.forces.column(f"ground_force_{side}_vy") > CONTACT_N
            rises = self.forces.time[1:][on[1:] & ~on[:-1]]
            falls = self.forces.time[1:][~on[1:] & on[:-1]]
            self.strike[side] = float(rises[0])
            off.append(float(falls[0] - rises[0]))
            if len(rises) > 1:
                self.stride_time = float(rises[1] - rises[0])
        self.duty_factor = float(np.mean(off)) / self.stride_time

    def curve(self, table: Storage, column: str, side: str) -> NDArray[np.float64]:
        """One cycle of a column, from heel strike where it is whole, otherwise wrapped around."""
        start = self.strike[side]
        if start < table.time[0] or start + self.stride_time > table.time[-1]:
            start = table.time[0]
        one = (table.time >= start) & (table.time < start + self.stride_time)
        phase = np.mod((table.time[one] - self.strike[side]) / self.stride_time, 1.0)
        order = np.argsort(phase)
        phase, values = phase[order], table.column(column)[one][order]
        return np.interp(GRID, np.r_[phase - 1, phase, phase + 1], np.tile(values, 3))

    def gait(self) -> Gait:
        table = read_storage(DATA / "coordinates.sto")
        paths = {c.split("/")[-2]: c for c in table.columns if c.endswith("/value")}
        curves = {name: self.curve(table, paths[name], name[-1]) for name in LEG_COORDINATES}
        curves["pelvis_tilt"] = self.curve(table, paths["pelvis_tilt"], "l")
        offset = float(np.mod((self.strike["l"] - self.strike["r"]) / self.stride_time, 1.0))
        none = {name: np.zeros(CURVE_POINTS) for name in curves}
        return Gait(self.stride_time, None, self.duty_factor, offset, [], {}, curves, none, "walking_3d")


@pytest.fixture(scope="module")
def measured() -> Measured:
    return Measured()


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Walker:
    path = tmp_path_factory.mktemp("walking_3d") / "walker.xml"
    path.write_text(compile_walker(DATA / "subject_walk_scaled.osim", 1.8).xml, encoding="utf-8")
    return Walker(path)


@pytest.fixture(scope="module")
def record(walker: Walker, measured: Measured) -> Record:
    return run(TrackingTwin(walker, make("walk", walker, measured.gait())), SECONDS)


def cycle(record: Record, values: NDArray[np.float64], leg: int) -> NDArray[np.float64]:
    """A recorded quantity over the gait cycle of a leg."""
    order = np.argsort(record.phase[:, leg])
    return np.interp(GRID, record.phase[order, leg], values[order])


def test_tracks_the_measured_joints(walker: Walker, record: Record, measured: Measured) -> None:
    gait = measured.gait()
    for i, name in enumerate(LEG_COORDINATES):
        wearer = np.interp(record.phase[:, i // 3], GRID, gait.curves[name])
        rmse = np.degrees(np.sqrt(np.mean((record.q[:, walker.legs[i]] - wearer) ** 2)))
        assert rmse <= (3.0 if "ankle" in name else 2.0), f"{name} is {rmse:.1f} deg off"


def test_predicted_ground_reaction_resembles_the_plates(walker: Walker, record: Record, measured: Measured) -> None:
    for leg, side in enumerate(SIDES):
        for axis, column, limit in ((1, "vy", 0.12), (0, "vx", 0.08)):
            plate = measured.curve(measured.forces, f"ground_force_{side}_{column}", side)
            error = (cycle(record, record.ground[:, leg, axis], leg) - plate) / (walker.mass * GRAVITY_M_S2)
            assert np.sqrt(np.mean(error**2)) < limit, f"{column} of {side}"


def test_joint_moments_resemble_inverse_dynamics_with_plates(
    walker: Walker, record: Record, measured: Measured
) -> None:
    # Loose limits: they catch a wrong sign or a lost force, not noise of the twice differentiated curves.
    table = read_storage(DATA / "id_walk.sto")
    for name, limit in (("hip_flexion", 0.36), ("ankle_angle", 0.25)):
        for leg, side in enumerate(SIDES):
            i = LEG_COORDINATES.index(f"{name}_{side}")
            mine = cycle(record, record.muscle_moment[:, i] + record.reserve[:, i], leg)
            error = (mine - measured.curve(table, f"{name}_{side}_moment", side)) / walker.mass
            assert np.sqrt(np.mean(error**2)) < limit, f"{name}_{side}, Nm/kg"


def test_muscles_explain_the_motion(walker: Walker, record: Record) -> None:
    weight = walker.mass * GRAVITY_M_S2
    forward, up, tilt = np.sqrt(np.mean(record.residual[:, walker.root] ** 2, axis=0))
    assert forward < 0.05 * weight and up < 0.05 * weight and tilt < 0.05 * weight
    assert np.all(np.sqrt(np.mean(record.reserve**2, axis=0)) < 2.0)


def test_a_fifth_of_the_hip_moment_spares_the_hip_muscles(walker: Walker, record: Record, measured: Measured) -> None:
    moment = cycle(record, record.muscle_moment[:, 0], 0)
    reference = make("walk", walker, measured.gait())

    def effort(share: float) -> float:
        def law(sample: TwinSample) -> tuple[float, float]:
            left, right = share * np.interp(sample.phase, GRID, moment)
            return (float(left), float(right))

        return run(TrackingTwin(walker, reference), SECONDS, law).hip_effort()

    doses = [record.hip_effort(), effort(0.1), effort(0.2)]
    assert doses[0] > doses[1] > doses[2]
    assert doses[2] < 0.9 * doses[0]
