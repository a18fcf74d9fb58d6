"""Marker-set maps: the shipped ones are complete, keypoints follow from markers, strange labels are named."""

import dataclasses

import numpy as np
import pytest
from marker_person import SET, stance, walk

from exo_capture.landmarks import MARKERS
from exo_capture.marker_set import FOLDER, MarkerSet, recognise, shipped
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers


@pytest.mark.parametrize(("name", "count"), [("gait_speeds_52", 52), ("walking_3d_41", 41)])
def test_shipped_maps_are_complete(name, count):
    found = MarkerSet.load(name)
    assert len(found.markers) == count
    assert set(found.keypoints) <= set(MARKERS)
    known = set(found.markers) | set(found.keypoints)
    assert set(found.used()) <= set(found.markers)
    for pairs, bodies in found.scaling.values():
        assert bodies and {name for pair in pairs for end in pair for name in end.split("+")} <= known
    assert {name for pairs in found.order.values() for pair in pairs for name in pair} <= set(found.markers)
    assert recognise([*found.markers, "some other marker"]).name == name


def test_left_mirrors_right():
    assert SET.markers["L_FLE"].location == pytest.approx(np.multiply(SET.markers["R_FLE"].location, (1, 1, -1)))
    assert SET.markers["L_FLE"].body == "femur_l"
    keypoints = SET.keypoints_of(stance())
    at = dict(zip(keypoints.names, keypoints.position[0], strict=True))
    for joint in ("Hip", "Knee", "Ankle", "Heel", "BigToe", "Shoulder", "Elbow", "Wrist"):
        np.testing.assert_allclose(at[f"L{joint}"], at[f"R{joint}"] * (1, 1, -1), atol=1e-9)


def test_hip_centre_is_harringtons():
    # Pelvis 240 mm wide and 160 mm deep, level: Harrington et al. 2007, regression of table 3.
    place = {
        "R_IAS": (0.0, 1.0, 0.12),
        "L_IAS": (0.0, 1.0, -0.12),
        "R_IPS": (-0.16, 1.0, 0.05),
        "L_IPS": (-0.16, 1.0, -0.05),
    }
    markers = Markers(np.zeros(1), tuple(place), np.array([list(place.values())]))
    keypoints = SET.keypoints_of(markers)
    assert keypoints.names == ("LHip", "RHip")
    expected = (-0.24 * 0.16 - 0.0099, 1.0 - 0.30 * 0.24 - 0.0109, 0.33 * 0.24 + 0.0073)
    np.testing.assert_allclose(keypoints.position[0, 1], expected, atol=1e-12)


def test_lateral_markers_alone_give_joint_centres_inside_the_limb():
    lateral = MarkerSet.load("walking_3d_41")
    place = {
        "R.ASIS": (0.0, 1.0, 0.12), "L.ASIS": (0.0, 1.0, -0.12),
        "R.PSIS": (-0.16, 1.0, 0.05), "L.PSIS": (-0.16, 1.0, -0.05),
        "R.Knee": (0.0, 0.5, 0.14), "L.Knee": (0.0, 0.5, -0.14),
    }  # fmt: skip
    keypoints = lateral.keypoints_of(Markers(np.zeros(1), tuple(place), np.array([list(place.values())])))
    knee = keypoints.position[0, keypoints.names.index("RKnee")]
    assert np.linalg.norm(knee - place["R.Knee"]) == pytest.approx(0.05)
    assert knee[2] < 0.095
    assert keypoints.position[0, keypoints.names.index("LKnee"), 2] == pytest.approx(-knee[2])


def test_keypoints_have_gaps_where_their_markers_have():
    markers = walk(0.5)
    position = markers.position.copy()
    position[3, markers.names.index("L_FME")] = np.nan
    both = SET.with_keypoints(dataclasses.replace(markers, position=position))
    knee = both.position[:, both.names.index("LKnee")]
    assert np.isnan(knee[3]).all() and np.isfinite(np.delete(knee, 3, axis=0)).all()
    assert both.names[: len(markers.names)] == markers.names


def test_unknown_labels_name_the_nearest_map_and_what_it_misses():
    renamed = [name.replace("_", "-") for name in SET.markers]
    with pytest.raises(ExoError, match=r"nearest is gait_speeds_52.*L_IAS.*missing.*rename L_IAS for L-IAS"):
        recognise(renamed)
    with pytest.raises(ExoError, match=r"R_FLE of the set gait_speeds_52 is missing"):
        recognise([name for name in SET.markers if name != "R_FLE"])


def test_a_damaged_or_absent_map_is_a_sentence(tmp_path):
    with pytest.raises(ExoError, match="no marker-set map helen_hayes"):
        MarkerSet.load("helen_hayes")
    text = (FOLDER / f"{shipped()[0]}.yaml").read_text(encoding="utf-8")
    for damage in (text.replace("scaling:", "sizes:"), text.replace("weight: 10}", "weight: heavy}"), "name: [", ""):
        (tmp_path / "map.yaml").write_text(damage, encoding="utf-8")
        with pytest.raises(ExoError, match="is not a marker-set map"):
            MarkerSet.load(tmp_path / "map.yaml")
