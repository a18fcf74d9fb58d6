"""OpenSim's ExternalLoads: read, written, and understood by OpenSim's own inverse dynamics tool."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from exo_capture.marker_capture import capture_markers
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, read_storage, write_storage
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.external_loads import read_external_loads, write_external_loads
from exo_twin.inverse.plate_signals import turn_between
from exo_twin.inverse.plates import measured_ground_reaction

WALK = Path(__file__).resolve().parents[4] / "shared" / "data" / "walking_3d"
needs_walk = pytest.mark.skipif(not WALK.is_dir(), reason=f"{WALK} is not on this machine")
MASS = 85.27


def forces(time):
    ones = np.ones((len(time), 3))
    return [
        ExternalForce("calcn_r", [10.0, 700.0, -5.0] * ones, [0.3, 0.0, 0.1] * ones, [0.1, 2.0, 0.3] * ones),
        ExternalForce("calcn_l", [-10.0, 70.0, 5.0] * ones, [0.9, 0.0, -0.1] * ones, [0.0, -1.0, 0.0] * ones),
    ]


def test_what_is_written_is_read_again(tmp_path):
    time = np.arange(5) / 100.0
    table = write_external_loads(tmp_path / "grf.xml", time, forces(time))
    assert table == tmp_path / "grf.mot"
    for wanted, found in zip(forces(time), read_external_loads(tmp_path / "grf.xml"), strict=True):
        assert found.body == wanted.body
        np.testing.assert_allclose(found.time, time, atol=1e-9)
        np.testing.assert_allclose(found.force, wanted.force)
        np.testing.assert_allclose(found.point, wanted.point)
        np.testing.assert_allclose(found.free_moment, wanted.free_moment)
    columns = read_storage(table).columns
    assert {"ground_force_r_vy", "ground_force_l_pz", "ground_torque_l_my"} <= set(columns)  # as OpenSim's own files


def test_forces_that_do_not_act_are_left_out_and_bodies_may_be_paths(tmp_path):
    path, time = tmp_path / "grf.xml", np.arange(5) / 100.0
    write_external_loads(path, time, forces(time))
    content = path.read_text(encoding="utf-8").replace(">calcn_r<", ">/bodyset/calcn_r<")
    off = content.replace('name="calcn_l_ground">', 'name="calcn_l_ground"><appliesForce>false</appliesForce>')
    assert content != off
    path.write_text(off, encoding="utf-8")
    assert [signal.body for signal in read_external_loads(path)] == ["calcn_r"]


def test_times_that_do_not_rise_are_refused(tmp_path):
    time = np.arange(5) / 100.0
    table = write_external_loads(tmp_path / "grf.xml", time, forces(time))
    storage = read_storage(table)
    write_storage(table, dataclasses.replace(storage, time=storage.time[::-1]))
    with pytest.raises(ExoError, match="rise"):
        read_external_loads(tmp_path / "grf.xml")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("<datafile>grf.mot</datafile>", "<datafile>C:\\lab\\lost.mot</datafile>", "cannot be read"),
        ("<datafile>grf.mot</datafile>", "", "names no table"),
        ("ground_force_r_p", "ground_force_x_p", "lacks"),
        (
            "<force_expressed_in_body>ground</force_expressed_in_body>",
            "<force_expressed_in_body>tibia_r</force_expressed_in_body>",
            "expressed in tibia_r",
        ),
        (
            "<point_expressed_in_body>ground</point_expressed_in_body>",
            "<point_expressed_in_body>calcn_r</point_expressed_in_body>",
            "the point of .* expressed in calcn_r",
        ),
        ("<point_identifier>ground_force_r_p</point_identifier>", "", "no point_identifier"),
        ("</OpenSimDocument>", "", "not a whole XML"),
        ("ExternalForce", "PrescribedForce", "holds no ExternalForce"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path, old, new, told):
    time = np.arange(5) / 100.0
    path = tmp_path / "grf.xml"
    write_external_loads(path, time, forces(time))
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new), encoding="utf-8")
    with pytest.raises(ExoError, match=told):
        read_external_loads(path)


def test_no_force_is_no_file(tmp_path):
    with pytest.raises(ExoError, match="no force"):
        write_external_loads(tmp_path / "grf.xml", np.arange(5) / 100.0, [])
    assert not list(tmp_path.iterdir())


def test_forces_turn_with_the_markers():
    rng = np.random.default_rng(1)
    turn = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    places = rng.normal(size=(10, 6, 3))
    turned = places @ turn.T
    turned[3, 2] = np.nan
    turned[:, [4, 5]] = turned[:, [5, 4]]  # labels that were exchanged and mended
    time, names = np.arange(10) / 100.0, tuple("abcdef")
    found = turn_between(Markers(time, names, places), Markers(time, names, turned))
    np.testing.assert_allclose(found, turn, atol=1e-9)
    with pytest.raises(ExoError, match="differ"):
        turn_between(Markers(time, names, places), Markers(time, names, rng.normal(size=(10, 6, 3))))


@needs_walk
def test_walking_3d_plates_and_opensim_inverse_dynamics(tmp_path):
    """OpenSim's tool finds the same moments with our files as with the published ones."""
    from exo_twin.opensim_runtime import logging_to, opensim

    capture = capture_markers(WALK / "markers_walk.trc")
    signals = read_external_loads(WALK / "grf_walk.xml")
    found = measured_ground_reaction(signals, capture.keypoints, capture.events, MASS, cutoff_hz=None)
    assert found.lag.corrected == 0.0
    assert found.window[0] < 0.46 and found.window[1] > 1.69
    assert not [warning for warning in found.warnings if "lag" not in warning and "behind" not in warning]
    write_external_loads(tmp_path / "grf.xml", found.time, found.external)
    states = read_storage(WALK / "coordinates.sto")
    values = [i for i, name in enumerate(states.columns) if name.endswith("/value")]
    names = tuple(states.columns[i].split("/")[-2] for i in values)
    motion = dataclasses.replace(states, columns=names, values=states.values[:, values])
    write_storage(tmp_path / "motion.mot", motion)
    moments = []
    with logging_to(tmp_path / "log"):
        for loads in (WALK / "grf_walk.xml", tmp_path / "grf.xml"):
            tool = opensim.InverseDynamicsTool()
            tool.setModelFileName(str(WALK / "subject_walk_scaled.osim"))
            tool.setCoordinatesFileName(str(tmp_path / "motion.mot"))
            tool.setExternalLoadsFileName(str(loads))
            tool.setStartTime(0.7)
            tool.setEndTime(0.9)
            tool.setResultsDir(str(tmp_path))
            tool.setOutputGenForceFileName(f"{loads.parent.name}.sto")
            assert tool.run()
            moments.append(read_storage(tmp_path / f"{loads.parent.name}.sto"))
    for name in ("hip_flexion_r_moment", "knee_angle_r_moment", "ankle_angle_l_moment", "pelvis_tilt_moment"):
        # Ours are at the markers' 100 Hz, not 2000 Hz.
        difference = moments[0].column(name) - moments[1].column(name)
        assert np.sqrt(np.mean(difference**2)) < 1.0, name
        assert np.ptp(moments[0].column(name)) > 5.0
