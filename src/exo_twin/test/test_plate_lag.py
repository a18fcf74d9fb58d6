"""The lag of the plates on a real walk, against the force that its own motion needs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from exo_capture.marker_capture import capture_markers
from exo_common.opensim_files import read_storage
from exo_twin.inverse.external_loads import read_external_loads
from exo_twin.inverse.plate_lag import CORRECTABLE_S, Lag
from exo_twin.inverse.plates import measured_ground_reaction

WALK = Path(__file__).resolve().parents[4] / "shared" / "data" / "walking_3d"
needs_walk = pytest.mark.skipif(not WALK.is_dir(), reason=f"{WALK} is not on this machine")


@pytest.fixture(scope="module")
def real_walk():
    """Feet, their events, the plates, the mass, and the force the published motion needs."""
    from exo_twin.inverse.dynamics_files import read_coordinates
    from exo_twin.inverse.inertia_from_opensim import body_inertia
    from exo_twin.inverse.inverse_dynamics import InverseDynamics
    from exo_twin.inverse.models import load_model
    from exo_twin.inverse.motion_derivatives import derivatives
    from exo_twin.inverse.tree_from_opensim import kinematic_tree

    model = load_model(WALK / "subject_walk_scaled.osim")
    model.initSystem()
    tree = kinematic_tree(model)
    inertia = body_inertia(model, tree)
    states = read_storage(WALK / "coordinates.sto")
    every = slice(None, None, 10)  # 1000 Hz, for markers at 100 Hz
    table = dataclasses.replace(states, time=states.time[every], values=states.values[every])
    capture = capture_markers(WALK / "markers_walk.trc")
    inside = (capture.keypoints.time >= table.time[0]) & (capture.keypoints.time <= table.time[-1])
    feet = dataclasses.replace(
        capture.keypoints, time=capture.keypoints.time[inside], position=capture.keypoints.position[inside]
    )
    motion = derivatives(table.time, read_coordinates(table, tree), at=feet.time)
    needed = InverseDynamics(tree, inertia).solve(motion.q, motion.speed, motion.acceleration).whole_body
    return feet, capture.events, read_external_loads(WALK / "grf_walk.xml"), inertia.total_mass, needed


@needs_walk
@pytest.mark.parametrize("shift", [-0.05, -0.02, 0.0, 0.02, 0.05])
def test_a_shift_of_the_plates_is_found_again(real_walk, shift):
    feet, events, signals, mass, needed = real_walk
    late = [dataclasses.replace(signal, time=signal.time + shift) for signal in signals]
    found = measured_ground_reaction(late, feet, events, mass, needed)
    assert found.lag.method == "dynamics"
    assert found.lag.seconds == pytest.approx(shift, abs=0.005)
    assert (found.lag.corrected != 0.0) == (shift != 0.0)
    assert 0.002 < found.lag.sd < 0.008
    assert found.lag.contact_seconds == pytest.approx(shift, abs=0.015)
    assert not found.warnings


def test_the_sentence_tells_the_lag_and_what_was_done():
    assert Lag(0.018, 0.004, "dynamics", corrected=0.018).sentence() == (
        "the plates run +18 ± 4 ms behind the markers (dynamics); corrected"
    )
    assert "not corrected" in Lag(0.004, 0.004, "dynamics").sentence()
    assert "could not be told" in Lag(0.0, np.nan, "none").sentence()
    assert not Lag(0.0, np.nan, "none").sure


def test_two_methods_may_contradict_each_other():
    assert Lag(0.02, 0.004, "dynamics", contact_seconds=CORRECTABLE_S).contradicted
    assert not Lag(0.02, 0.004, "dynamics", contact_seconds=0.01).contradicted
