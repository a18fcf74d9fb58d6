"""A real walk loaded by its plates, and by what is wrong with them, with the feet, or with the floor."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from exo_capture.marker_capture import capture_markers
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, Storage, read_storage
from exo_twin.inverse.external_loads import read_external_loads
from exo_twin.inverse.loads import NO_PLATES, walk_loads

WALK = Path(__file__).resolve().parents[4] / "shared" / "data" / "walking_3d"
pytestmark = pytest.mark.skipif(not WALK.is_dir(), reason=f"{WALK} is not on this machine")


@pytest.fixture(scope="module")
def recorded():
    """What walk_loads takes, by name."""
    from exo_twin.inverse.dynamics_files import read_coordinates
    from exo_twin.inverse.inertia_from_opensim import body_inertia
    from exo_twin.inverse.models import load_model
    from exo_twin.inverse.tree_from_opensim import kinematic_tree

    model = load_model(WALK / "subject_walk_scaled.osim")
    model.initSystem()
    tree = kinematic_tree(model)
    states = read_storage(WALK / "coordinates.sto")
    every = slice(None, None, 10)  # 1000 Hz, for markers at 100 Hz
    table = dataclasses.replace(states, time=states.time[every], values=states.values[every])
    capture = capture_markers(WALK / "markers_walk.trc")
    return {
        "tree": tree,
        "inertia": body_inertia(model, tree),
        "time": table.time,
        "q": read_coordinates(table, tree),
        "feet": capture.keypoints,
        "events": capture.events,
        "signals": read_external_loads(WALK / "grf_walk.xml"),
    }


@pytest.fixture(scope="module")
def loaded(recorded):
    return walk_loads(**recorded)


def test_plates_are_used_where_they_know_the_force(loaded):
    assert loaded.plates is not None and NO_PLATES not in loaded.warnings
    assert all(measured.all() for measured in loaded.measured.values())
    figures = loaded.quality()
    assert 0.0 < figures["predicted_missed_force_rms_pct_bw"] < 10.0
    assert figures["predicted_missed_moment_rms_nm"] > 0.0
    assert figures["plates"]["lag_ms"] == pytest.approx(1e3 * loaded.plates.lag.seconds, abs=0.06)
    assert figures["plates"]["lag_sd_ms"] > 1.0


def test_what_the_plates_warn_of_is_passed_on(recorded):
    signals = [
        dataclasses.replace(signal, body={"calcn_l": "calcn_r"}.get(signal.body, "calcn_l"))
        for signal in recorded["signals"]
    ]
    found = walk_loads(**recorded | {"signals": signals})
    assert sum("exchange the bodies" in warning for warning in found.warnings) == 2


def test_a_foot_without_a_plate_gets_what_the_other_leaves(recorded, loaded):
    right = [signal for signal in recorded["signals"] if signal.body == "calcn_r"]
    found = walk_loads(**recorded | {"signals": right})
    one = found.measured["l"] != found.measured["r"]
    assert found.measured["r"].all() and one.any()
    mass = found.dynamics.whole_body.mass
    residual = np.linalg.norm(found.dynamics.whole_body.residual_force, axis=1)
    assert residual[one].max() < 0.08 * mass * 9.81
    apart = {name: found.moments[name] - moment for name, moment in loaded.moments.items()}
    assert not np.abs(apart["ankle_angle_r"]).max() > 1e-6 * mass
    assert np.sqrt(np.mean(apart["hip_flexion_l"][one] ** 2)) < 0.17 * mass
    for name, moment in found.moments.items():
        steepest = np.abs(np.diff(loaded.moments[name])).max()
        assert np.abs(np.diff(moment)).max() < steepest + 0.15 * mass, name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: dataclasses.replace(s, force=s.force * [-1.0, 1.0, 1.0]), "other way fore and aft"),
        (lambda s: dataclasses.replace(s, force=0.65 * s.force), "calibration"),
        (lambda s: dataclasses.replace(s, free_moment=s.free_moment + np.array([0.0, 900.0, 0.0])), "Nmm"),
    ],
)
def test_plates_that_cannot_be_true_are_replaced_by_prediction(recorded, change, told):
    found = walk_loads(**recorded | {"signals": [change(signal) for signal in recorded["signals"]]})
    assert found.plates is None and not found.measured["l"].any() and not found.measured["r"].any()
    assert any(warning.startswith("the force plates were not used") and told in warning for warning in found.warnings)
    assert NO_PLATES in found.warnings
    assert found.forces["r"] is found.predicted["r"]


def test_a_floor_at_another_height_changes_nothing(recorded):
    at_zero = walk_loads(**recorded | {"signals": None})
    up = np.zeros(recorded["q"].shape[1])
    up[recorded["tree"].index("pelvis_ty")] = 0.4
    feet = recorded["feet"]
    raised = dataclasses.replace(feet, position=feet.position + np.array([0.0, 0.4, 0.0]))
    found = walk_loads(**recorded | {"signals": None, "q": recorded["q"] + up, "feet": raised})
    assert any("m from y = 0" in warning for warning in found.warnings)
    for name, moment in at_zero.moments.items():
        apart = np.sqrt(np.mean((found.moments[name] - moment) ** 2))
        assert apart < 0.02 * found.dynamics.whole_body.mass, name


def test_a_stance_without_its_foot_is_told_with_its_time(recorded):
    events = recorded["events"]
    offs = {side: tuple(time - 0.25 for time in times) for side, times in events.toe_offs.items()}
    found = walk_loads(**recorded | {"signals": None, "events": dataclasses.replace(events, toe_offs=offs)})
    told = next(warning for warning in found.warnings if "predicted forces and motion disagree" in warning)
    assert " to " in told
    offs = {side: tuple(time + 0.01 for time in times) for side, times in events.heel_strikes.items()}
    with pytest.raises(ExoError, match="do not stand when the motion needs the ground"):
        walk_loads(**recorded | {"signals": None, "events": dataclasses.replace(events, toe_offs=offs)})


def test_a_foot_that_is_lost_for_long_is_not_made_up(recorded):
    feet = recorded["feet"]
    for start, end in ((0.8, 1.2), (1.0, np.inf)):
        position = feet.position.copy()
        position[(feet.time > start) & (feet.time < end), feet.names.index("RHeel")] = np.nan
        with pytest.raises(ExoError, match="Heel of the right foot has gaps"):
            walk_loads(**recorded | {"feet": Markers(feet.time, feet.names, position), "signals": None})
    position = feet.position.copy()
    position[(feet.time > 0.9) & (feet.time < 1.0), feet.names.index("RHeel")] = np.nan
    walk_loads(**recorded | {"feet": Markers(feet.time, feet.names, position), "signals": None})


def test_one_usable_frame_is_no_motion(recorded):
    from exo_twin.inverse.analysis import even_motion

    tree = recorded["tree"]
    table = Storage(np.array([0.5]), tree.coordinates, np.zeros((1, len(tree.coordinates))), True)
    with pytest.raises(ExoError, match="fewer than two usable frames"):
        even_motion(table, tree)
