import json

import numpy as np
import pytest

from exo_capture.landmark_files import LAYOUTS, keypoints_from_trc, read_json_folder
from exo_capture.landmarks import HIPS, MARKERS, TOES
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, write_trc

SIZE = (1080, 1920)


def person(layout, confidence=0.9):
    """A person whose keypoint of index i lies at (10 i, 20 i)."""
    length = LAYOUTS[layout][0]
    return {"pose_keypoints_2d": [v for i in range(length) for v in (10.0 * i, 20.0 * i, confidence)]}


def write(folder, frames, name="cam01_{:06d}.json"):
    folder.mkdir(exist_ok=True, parents=True)
    for number, people in frames.items():
        (folder / name.format(number)).write_text(json.dumps({"version": 1.3, "people": people}))
    return folder


# Index of the right hip and the left big toe in each tool's documentation.
@pytest.mark.parametrize(
    ("layout", "right_hip", "left_toe"),
    [
        ("BODY_25", 9, 19),
        ("BODY_25B", 12, 19),
        ("HALPE_26", 12, 20),
        ("COCO_17", 12, None),
        ("COCO_133", 12, 17),
        ("BLAZEPOSE", 24, 31),
    ],
)
def test_each_layout_lands_in_the_right_slots(tmp_path, layout, right_hip, left_toe):
    folder = write(tmp_path / "cam01_json", {0: [person(layout)], 1: [person(layout)]})
    seen = read_json_folder(folder, 60.0, SIZE, layout if layout == "BODY_25B" else None)
    assert (seen.camera, seen.size) == ("cam01", SIZE)
    np.testing.assert_allclose(seen.landmarks[0, HIPS[1]], [10.0 * right_hip, 20.0 * right_hip, 0.9])
    if left_toe is None:
        assert np.isnan(seen.landmarks[:, TOES[0]]).all()
    else:
        np.testing.assert_allclose(seen.landmarks[0, TOES[0], 0], 10.0 * left_toe)


def test_picture_numbers_missing_pictures_and_several_people(tmp_path):
    folder = write(
        tmp_path / "left",
        {7: [person("HALPE_26")], 8: [], 10: [person("HALPE_26"), person("HALPE_26", 1.4)]},
        name="take2_{:012d}_keypoints.json",
    )
    seen = read_json_folder(folder, 50.0, SIZE)
    np.testing.assert_allclose(seen.time, np.array([7, 8, 9, 10]) / 50.0)
    assert seen.frame.tolist() == [0, 3, 3] and seen.landmarks.shape == (3, 33, 3)
    assert seen.landmarks[2, 0, 2] == 1.0


def test_no_confidence_is_missing_and_a_person_of_nothing_is_nobody(tmp_path):
    halfway = person("COCO_17")
    halfway["pose_keypoints_2d"][3 * 12 : 3 * 12 + 3] = [0.0, 0.0, 0.0]
    halfway["pose_keypoints_2d"][3 * 11] = None
    folder = write(tmp_path / "a", {0: [person("COCO_17", 0.0), {"pose_keypoints_2d": []}], 1: [halfway]})
    seen = read_json_folder(folder, 50.0, SIZE)
    assert seen.frame.tolist() == [1]
    assert np.isnan(seen.landmarks[0, HIPS]).all() and np.isfinite(seen.landmarks[0, 0]).all()


@pytest.mark.parametrize(
    ("frames", "name", "layout", "rate", "sentence"),
    [
        ({}, "{}.json", None, 60.0, "holds 0 landmark files"),
        ({0: []}, "nonumber.json", None, 60.0, "holds 0 landmark files"),
        (
            {1700000000000: [], 1700000000033: []},
            "x_{}.json",
            None,
            60.0,
            "times rather than pictures; number the files",
        ),
        ({0: [], 1: []}, "{}.json", None, 0.0, "no frame rate"),
        ({0: [{"pose_keypoints_2d": [1.0] * 30}], 1: []}, "{}.json", None, 60.0, "10 keypoints per person"),
        ({0: [{"pose_keypoints_2d": [1.0] * 31}], 1: []}, "{}.json", None, 60.0, "not an OpenPose-style"),
        ({0: [{"keypoints": []}], 1: []}, "{}.json", None, 60.0, "not an OpenPose-style"),
        ({0: [person("COCO_17")], 1: []}, "{}.json", "BODY_25", 60.0, "BODY_25 has 25"),
        ({0: [person("COCO_17")], 1: []}, "{}.json", "COCO_18", 60.0, "no keypoint layout 'COCO_18'"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, frames, name, layout, rate, sentence):
    folder = write(tmp_path / "a", frames, name)
    with pytest.raises(ExoError, match=sentence):
        read_json_folder(folder, rate, SIZE, layout)


def test_other_wrong_folders(tmp_path):
    with pytest.raises(ExoError, match="is missing; check"):
        read_json_folder(tmp_path / "none", 60.0, SIZE)
    folder = write(tmp_path / "two", {5: []})
    write(folder, {5: [], 6: []}, "other_{}.json")
    with pytest.raises(ExoError, match="both belong to picture 5"):
        read_json_folder(folder, 60.0, SIZE)
    write(tmp_path / "broken", {0: [], 1: []})
    (tmp_path / "broken" / "cam01_000001.json").write_text("{")
    with pytest.raises(ExoError, match="not an OpenPose-style"):
        read_json_folder(tmp_path / "broken", 60.0, SIZE)


HEIGHTS = {"LEye": 1.6, "Nose": 1.56, "LShoulder": 1.4, "LHip": 0.93, "LKnee": 0.5, "LAnkle": 0.08, "LBigToe": 0.0}


def standing(names, factor=1.0, axes=(0, 1, 2), sign=1.0):
    """A person of 1.7 m; `names` maps our names to the file's."""
    heights = {**HEIGHTS, **{"R" + name[1:]: y for name, y in HEIGHTS.items() if name[0] == "L"}}
    position = np.array([[0.0, heights[name], -0.1 if name[0] == "L" else 0.1] for name in names])
    position[:, 1] *= sign
    return Markers(np.arange(10) / 50.0, tuple(names.values()), factor * np.tile(position, (10, 1, 1))[:, :, axes])


ALL = {name: name for name in MARKERS if name in HEIGHTS or "L" + name[1:] in HEIGHTS}
LEGS = {name: name for name in ALL if name[1:] in ("Hip", "Knee", "Ankle")}


@pytest.mark.parametrize(
    "names",
    [
        ALL,
        LEGS,
        {name: name.replace("L", "left_", 1).replace("R", "right_", 1).lower() for name in ALL},
        {name: ("LEFT" if name[0] == "L" else "RIGHT") + "_FOOT_INDEX" if "Toe" in name else name for name in ALL},
        {**ALL, "LKnee": "Lknee"},
    ],
)
def test_keypoints_of_other_tools_get_our_names(tmp_path, names):
    source = standing(names)
    write_trc(tmp_path / "walk.trc", source)
    markers = keypoints_from_trc(tmp_path / "walk.trc")
    assert set(markers.names) == set(names)
    order = [source.names.index(names[name]) for name in markers.names]
    np.testing.assert_allclose(markers.position, source.position[:, order], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"factor": 1000.0}, "Units must be mm"),
        ({"factor": 0.001}, "Units must be m$"),
        ({"factor": 5.0}, "8.* m tall; check its units"),
        ({"axes": (0, 2, 1)}, r"stands along \+z"),
        ({"sign": -1.0}, "stands along -y"),
    ],
)
def test_wrong_units_and_axes_are_refused(tmp_path, change, sentence):
    write_trc(tmp_path / "walk.trc", standing(ALL, **change))
    with pytest.raises(ExoError, match=sentence):
        keypoints_from_trc(tmp_path / "walk.trc")


def test_skin_markers_are_no_keypoints(tmp_path):
    write_trc(tmp_path / "lab.trc", standing({**LEGS, "LHip": "L.ASIS", "RHip": "R.ASIS"}))
    with pytest.raises(ExoError, match="no keypoint called LHip, RHip"):
        keypoints_from_trc(tmp_path / "lab.trc")
