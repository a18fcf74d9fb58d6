"""A walk with plates and EMG becomes a complete twin, also when model and EMG hold what nobody can use."""

import dataclasses

import numpy as np
import pytest
import yaml
from opensim_walk import DATA

from exo_capture.marker_files import read_recording
from exo_capture.session_capture import capture_session
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import read_storage
from exo_common.session import load
from exo_twin.calibration import CALIBRATION_FILE, TwinCalibration
from exo_twin.inverse.build import build_twin
from exo_twin.inverse.external_loads import read_external_loads
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscles_from_opensim import muscle_model
from exo_twin.inverse.muscles_to_opensim import replace_unknown, write_muscles
from exo_twin.inverse.plate_signals import turn_between
from exo_twin.inverse.tolerance import Tolerance
from exo_twin.inverse.walk_muscles import WalkEmg
from exo_twin.opensim_runtime import opensim
from exo_twin.planar_muscles import PlanarMuscles
from exo_twin.twin import Twin

WALK, GENERIC = DATA / "walking_3d", DATA / "models" / "LaiUhlrich2022.osim"
FOREIGN = ("soleus_r", "grac_l")
opensim.Logger.setLevelString("Error")
pytestmark = pytest.mark.skipif(not GENERIC.exists(), reason="shared recordings are not there")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """LaiUhlrich2022 with two muscles of a class whose curves exo does not know."""
    path = tmp_path_factory.mktemp("model") / "generic.osim"
    model = opensim.Model(str(GENERIC))
    model.initSystem()
    stand_ins = []
    for name in FOREIGN:
        old, new = model.getMuscles().get(name), opensim.RigidTendonMuscle()
        new.setName(name)
        new.set_path(old.getGeometryPath())
        for what in ("MaxIsometricForce", "OptimalFiberLength", "TendonSlackLength"):
            getattr(new, f"set{what}")(getattr(old, f"get{what}")())
        stand_ins.append(new)
    for new in stand_ins:
        model.updForceSet().remove(model.getForceSet().getIndex(new.getName()))
        model.addForce(new)
    model.finalizeConnections()
    model.printToXML(str(path))
    return path


def walk_emg():
    """The right leg's envelopes; one channel silent, one of a muscle that no model of the leg has."""
    table = read_storage(WALK / "electromyography.sto")
    channels = {
        "soleus_r": table.column("soleus")[::20],
        "tibialis_anterior_r": table.column("tibialis_anterior")[::20],
        "vastus_lateralis_r": 0.0 * table.time[::20],
        "multifidus_r": table.column("gluteus_maximus")[::20],
    }
    envelope = np.column_stack(list(channels.values()))
    return WalkEmg(
        table.time[::20],
        tuple(channels),
        envelope,
        (False,) * len(channels),
        np.ones(len(channels)),
        "fractions of the walk's peak",
    )


@pytest.fixture(scope="module")
def built(foreign, tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    (folder / "walk.trc").symlink_to(WALK / "markers_walk.trc")
    (folder / "session.yaml").write_text("wearer: {id: w1, height: 1.8, mass: 85}\nmarkers: {file: walk.trc}\n")
    session = load(folder)
    capture = capture_session(session)
    turn = turn_between(read_recording(folder / "walk.trc").markers, capture.recording.markers)
    plates = [plate.turned(turn) for plate in read_external_loads(WALK / "grf_walk.xml")]
    worn = TwinCalibration.identity("w1")
    (folder / "twin").mkdir()
    dataclasses.replace(worn, encoder_zero={**worn.encoder_zero, "hip_flexion_l": 0.1}).save(
        folder / "twin" / CALIBRATION_FILE
    )
    return build_twin(capture, session.wearer, folder / "twin", {}, signals=plates, generic=foreign, emg=walk_emg())


def test_every_part_of_the_twin_is_there_and_loads(built):
    twin = Twin.load(built, "w1")
    paths, muscles = MusclePaths.from_arrays(twin.model), MuscleModel.from_arrays(twin.model)
    assert paths.muscles == muscles.names and len(muscles.names) == 80
    assert Tolerance.from_arrays(twin.model).strength.min() >= 0.0
    PlanarMuscles.from_arrays(twin.model)
    for name, column in (("muscle_activations.sto", (0.0, 1.0)), ("muscle_forces.sto", (-1e-6, 2e4))):
        table = read_storage(built / name)
        assert table.columns == muscles.names and table.values.min() >= column[0] and table.values.max() <= column[1]
    assert set(twin.gait.moment_curves) == set(twin.gait.moment_curves_sd)
    told = {*LEG_COORDINATES, "hip_adduction_l", "hip_rotation_r"}
    assert told <= set(twin.gait.moment_curves) and told <= set(twin.gait.curves)
    # The hip is abducted against the weight of the body in stance: the model counts adduction positive.
    assert twin.gait.moment_curves["hip_adduction_r"][:60].min() < -30.0
    assert twin.gait.moment_curves["ankle_angle_r"].min() == pytest.approx(-150.0, abs=25.0)  # Nm, of 85 kg
    quality = yaml.safe_load((built / "quality.yaml").read_text())["muscles"]
    assert quality["method"] == "EMG-assisted optimisation" and quality["paths"]["length_rms_mm"] < 1.0
    assert quality["reserves"]["ankle_angle_r"]["verdict"] == "good"
    assert quality["emg"]["soleus_r"]["r_static"] > 0.6


def test_each_unusable_thing_costs_one_sentence(built):
    warnings = Twin.load(built).warnings
    for words in ("soleus_r, grac_l", "vastus_lateralis_r is zero throughout", "EMG channel 'multifidus_r'"):
        assert sum(words in text for text in warnings) == 1, words
    assert all("\n" not in text for text in warnings)


def test_what_is_worn_keeps_its_calibration_and_the_emg_is_this_walks(built):
    found = TwinCalibration.of_twin(built, "w1")
    assert found.encoder_zero["hip_flexion_l"] == pytest.approx(0.1)
    assert set(found.emg) == {"soleus_r", "tibialis_anterior_r"}
    assert found.emg["soleus_r"].muscles == ("soleus_r",)
    # The manifest does not vouch for it: it changes whenever the exo is put on.
    found.with_emg({}, "").save(built / CALIBRATION_FILE)
    Twin.load(built)


def test_muscles_of_unknown_class_keep_path_and_strength_and_are_scaled(foreign, built, tmp_path):
    with pytest.raises(ExoError, match="'soleus_r' is of class RigidTendonMuscle"):
        muscle_model(_loaded(foreign)[0], FOREIGN)
    path, (sentence,) = replace_unknown(foreign, tmp_path / "model.osim")
    assert "class RigidTendonMuscle" in sentence
    assert replace_unknown(path, tmp_path / "again.osim") == (path, [])
    (before, start), (after, now) = _loaded(GENERIC), _loaded(path)
    scaled, _ = _loaded(built / "scaled.osim")
    for name in FOREIGN:
        old, new = before.getMuscles().get(name), after.getMuscles().get(name)
        assert new.getLength(now) == pytest.approx(old.getLength(start), abs=1e-9)
        assert new.getMaxIsometricForce() == pytest.approx(old.getMaxIsometricForce())
        own, other = (scaled.getMuscles().get(f"{name[:-1]}{side}") for side in "lr")
        assert own.getTendonSlackLength() == pytest.approx(other.getTendonSlackLength(), rel=0.03)


def test_calibrated_numbers_are_in_the_model_file(tmp_path):
    path = tmp_path / "model.osim"
    path.write_bytes(GENERIC.read_bytes())
    names = ("soleus_r", "tibant_l")
    own = muscle_model(_loaded(path)[0], names).scaled([0.7, 1.2], [1.05, 0.95], [0.98, 1.01])
    write_muscles(path, own)
    again = muscle_model(_loaded(path)[0], names)
    for what in ("max_isometric_force", "optimal_fiber_length", "tendon_slack_length"):
        np.testing.assert_allclose(getattr(again, what), getattr(own, what), rtol=1e-9)


def _loaded(path):
    model = opensim.Model(str(path))
    return model, model.initSystem()
