"""Keypoints in, a complete twin artefact out; the envelope stays inside everything it must."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from opensim_walk import true_pose, true_strides, walk_keypoints

from exo_capture.gait_events import GaitEvents, Stride
from exo_capture.quality import Quality
from exo_capture.session_capture import SessionCapture
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import read_storage, write_trc
from exo_common.session import Wearer
from exo_safety.envelope import HARD_CAPS
from exo_twin.calibration import CALIBRATION_FILE, EmgChannel, TwinCalibration
from exo_twin.forward.compiler.exoskeleton import HipExoskeleton
from exo_twin.inverse import build
from exo_twin.inverse.build import build_twin
from exo_twin.inverse.envelope import TORQUE_SHARE, compute_envelope, weaker_capacity
from exo_twin.inverse.marker_ik import MarkerIk
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.tolerance import Tolerance
from exo_twin.inverse.tree_file import tree_from_arrays
from exo_twin.planar_muscles import MUSCLES, PlanarMuscles
from exo_twin.twin import Twin

WEARER = Wearer(id="tester", height=1.65, mass=62.0)


def captured(keypoints, figures):
    """What one camera would have captured of these keypoints."""
    strides = tuple(Stride(s["side"][0], s["start"], s["toe_off"], s["end"], 1.2) for s in true_strides())
    events = GaitEvents({"l": (), "r": ()}, {"l": (), "r": ()}, strides)
    return SessionCapture(keypoints, keypoints, strides, Quality("good", (), figures, {}, {}, {}), events, planar=True)


@pytest.fixture(scope="module")
def keypoints():
    return walk_keypoints(2.1)


@pytest.fixture(scope="module")
def built(keypoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    write_trc(folder / "walk.trc", keypoints)
    steps: list[str] = []
    quality = {"missed_pct": np.float64(1.5000123), "strides": {"l": np.int64(1)}}
    inputs = {"walk.trc": folder / "walk.trc"}
    twin = build_twin(captured(keypoints, quality), WEARER, folder / "twin", inputs, ["filmed at dusk"], steps.append)
    return twin, steps


def test_the_artefact_is_whole_and_loads(built):
    folder, steps = built
    twin = Twin.load(folder, wearer="tester")
    assert {path.name for path in folder.iterdir()} >= {
        "manifest.yaml", "scaled.osim", "coordinates.mot", "walker.xml", "model.npz",
        "gait.yaml", "envelope.yaml", "quality.yaml",
    }  # fmt: skip
    assert steps[0] == "solving the motion" and steps[-1] == "writing the twin"
    assert twin.warnings[0] == "filmed at dusk"
    assert float(twin.model["mass"]) == pytest.approx(62.0, abs=1e-4)
    assert twin.gait.duty_factor == pytest.approx(0.62, abs=0.01)
    tree, weights = tree_from_arrays(twin.model)
    assert MarkerIk(tree, weights).tree.markers == tree.markers and "LHeel" in tree.markers
    for name in LEG_COORDINATES:
        start = 0.0 if name.endswith("_r") else 0.5
        truth = [true_pose(start + float(p))[name] for p in np.linspace(0.0, 1.0, 101)]
        error = np.rad2deg(twin.gait.curves[name] - truth)
        # This walker's trunk leans back and its feet rest unlevel as nobody's do: constants come out otherwise.
        assert np.std(error) < 1.5 and (name.startswith("hip") or abs(np.mean(error)) < 8.0), name


def test_quality_says_how_good_it_is(built):
    text = (built[0] / "quality.yaml").read_text()
    assert "\n- filmed at dusk\n" in text  # sentences one below the other, numbers side by side
    assert "capture:\n  missed_pct: 1.5\n  strides: {l: 1}\n" in text
    quality = yaml.safe_load(text)
    assert quality["capture"] == {"missed_pct": 1.5, "strides": {"l": 1}}
    assert quality["inverse_kinematics"]["marker_rms_mm"] < 10.0
    assert set(quality["inverse_kinematics"]["saturated_share"]) == set(LEG_COORDINATES)
    assert quality["muscles_vs_opensim"]["moment_arm_mm_max"] < 5.0
    assert quality["tendons_retuned"]["soleus"]["mean_fibre_after"] == pytest.approx(1.0, abs=0.01)
    motion = read_storage(built[0] / "coordinates.mot")
    assert motion.in_degrees and len(motion.time) == quality["inverse_kinematics"]["frames"]


def test_every_muscle_group_can_pull_in_the_wearers_own_stride(built):
    twin = Twin.load(built[0])
    muscles = PlanarMuscles.from_arrays(twin.model)
    strongest = np.zeros(18)
    for i in range(0, 100, 5):
        q = np.array([twin.gait.curves[name][i] for name in LEG_COORDINATES])
        strongest = np.maximum(strongest, muscles.force(np.ones(18), q, np.zeros(6)) / muscles.max_isometric_force)
    assert dict(zip(MUSCLES, strongest > 0.6, strict=True)) == dict.fromkeys(MUSCLES, True)


def test_the_envelope_stands_inside_range_strength_device_and_caps(built):
    twin = Twin.load(built[0])
    muscles = PlanarMuscles.from_arrays(twin.model)
    for side, limits in zip("lr", twin.envelope.sides, strict=True):
        curve = twin.gait.curves[f"hip_flexion_{side}"]
        assert limits.angle_min_rad < curve.min() and curve.max() < limits.angle_max_rad
        assert limits.torque_max_nm <= TORQUE_SHARE * weaker_capacity(muscles, twin.gait, side) + 1e-3
        assert limits.torque_max_nm <= min(HARD_CAPS.torque_max_nm, HipExoskeleton().torque_max)
        assert limits.velocity_max_rad_s > np.abs(np.diff(curve)).max() / (twin.gait.stride_time / 100)


def test_a_weaker_wearer_gets_less_torque(built):
    twin = Twin.load(built[0])
    weak = dict(twin.model)
    weak["muscle_curves"] = weak["muscle_curves"].copy()
    weak["muscle_curves"][:, 0] *= 0.1
    tolerance = Tolerance.from_arrays(twin.model)
    strong = compute_envelope("tester", twin.gait, twin.model, tolerance, 1e3)
    feeble = compute_envelope("tester", twin.gait, weak, tolerance, 1e3)
    capacity = weaker_capacity(PlanarMuscles.from_arrays(weak), twin.gait, "l")
    assert feeble.left.torque_max_nm == pytest.approx(TORQUE_SHARE * capacity, abs=1e-3)
    assert feeble.left.torque_max_nm < strong.left.torque_max_nm
    assert feeble.left.power_max_w < strong.left.power_max_w


def test_a_failed_build_leaves_the_earlier_twin(built, keypoints):
    folder = built[0]
    before = (folder / "manifest.yaml").read_bytes()
    with pytest.raises(ExoError, match="keypoint 'RHeel' is missing"):
        nameless = dataclasses.replace(keypoints, names=tuple(n.replace("RHeel", "x") for n in keypoints.names))
        build_twin(captured(nameless, {}), WEARER, folder, {})
    assert (folder / "manifest.yaml").read_bytes() == before


def test_a_rebuilt_twin_keeps_the_emg_of_muscles_that_it_still_has(built, tmp_path):
    earlier = TwinCalibration.identity("tester").with_emg(
        {"soleus_r": EmgChannel(("soleus_r",), 0.4), "ham_r": EmgChannel(("hamstrings_r",), 0.2)}, "the day before"
    )
    earlier.save(tmp_path / CALIBRATION_FILE)
    model = Twin.load(built[0]).model
    muscles = SimpleNamespace(paths=MusclePaths.from_arrays(model), channels={})
    found, (told,) = build._calibration(tmp_path, "tester", muscles, None)
    assert set(found.emg) == {"soleus_r"} and found.source["emg"] == "the day before"
    assert "EMG of ham_r" in told and "record EMG" in told
    found, (told,) = build._calibration(tmp_path, "somebody", muscles, None)
    assert not found.emg and "not kept" in told


def test_further_walks_that_do_not_serve_cost_a_sentence_each(monkeypatch):
    def refused(*_):
        raise ExoError("no strides; walk on")

    monkeypatch.setattr(build, "analyse_further_walk", refused)
    walks = [build.FurtherWalk(None, None)] * 2
    found, told = build._analysed(walks, None, WEARER, "some EMG", lambda _: None)
    assert found == [] and len(told) == 2 and all("no strides; walk on" in text for text in told)
    found, (sentence,) = build._analysed(walks, None, WEARER, None, lambda _: None)
    assert found == [] and "no usable EMG" in sentence
    assert build._analysed([], None, WEARER, None, lambda _: None) == ([], [])
