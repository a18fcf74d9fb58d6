"""A marker recording becomes what a video becomes: keypoints, strides, quality; the lab's events agree with ours."""

import dataclasses

import numpy as np
import pytest
from marker_person import DATA, SPEED, STRIDE, stance, walk, write_c3d

from exo_capture.gait_events import GaitEvents
from exo_capture.marker_capture import capture_markers, event_differences
from exo_capture.marker_files import FootEvent
from exo_common.errors import ExoError
from exo_common.opensim_files import write_trc


def test_a_walk_gives_strides_keypoints_and_a_static(tmp_path):
    found = capture_markers(write_c3d(tmp_path / "walk.c3d", walk()), write_c3d(tmp_path / "static.c3d", stance()))
    assert found.marker_set.name == "gait_speeds_52"
    right = [stride for stride in found.strides if stride.side == "r"]
    # The heel is furthest ahead at 0.3 s and lands at or shortly after that.
    assert 0.29 < right[0].start < 0.4 and right[0].duration == pytest.approx(STRIDE, abs=0.01)
    assert found.quality.gait["speed_m_s"] == pytest.approx(SPEED, rel=0.02)
    assert found.quality.facts["events"] == "from the motion"
    assert {"LHip", "RBigToe"} <= set(found.keypoints.names)
    assert found.static is not None and found.static.names == found.markers.names


def test_a_trc_enters_like_a_c3d_and_short_gaps_are_filled(tmp_path):
    truth = walk()
    position = truth.position.copy()
    position[100:110, truth.names.index("L_IAS")] = np.nan
    write_trc(tmp_path / "walk.trc", dataclasses.replace(truth, position=position))
    found = capture_markers(tmp_path / "walk.trc")
    np.testing.assert_allclose(found.markers.position[:, : len(truth.names)], truth.position, atol=2e-3)


def test_a_marker_lost_for_long_is_named_and_one_that_comes_late_is_not(tmp_path):
    truth = walk()
    position = truth.position.copy()
    position[100:150, truth.names.index("R_FTC")] = np.nan
    position[180:220, truth.names.index("R_FTC")] = np.nan
    position[:60, truth.names.index("L_FTC")] = np.nan
    write_trc(tmp_path / "walk.trc", dataclasses.replace(truth, position=position))
    told = [warning for warning in capture_markers(tmp_path / "walk.trc").quality.warnings if "missing from" in warning]
    at = [truth.time[i] for i in (100, 149)]
    assert len(told) == 1
    assert told[0].startswith(f"marker R_FTC is missing from {at[0]:.2f} to {at[1]:.2f} s (longest of 2 gaps)")


def test_the_files_own_events_are_used_where_they_are_complete(tmp_path):
    seconds = [0.32, 0.9, 1.42, 0.87, 1.5, 1.97]
    events = {
        "CONTEXTS": ["Right"] * 3 + ["Left"] * 3,
        "LABELS": ["Foot Strike1", "Foot Off", "Foot Strike2"] * 2,
        "TIMES": np.array([[0.0] * 6, seconds]),
    }
    found = capture_markers(write_c3d(tmp_path / "walk.c3d", walk(), EVENT=events))
    assert found.quality.facts["events"] == "of the file"
    assert [(s.side, s.start, s.end) for s in found.strides] == [
        ("r", pytest.approx(0.32), pytest.approx(1.42)),
        ("l", pytest.approx(0.87), pytest.approx(1.97)),
    ]
    assert "strike_minus_file_ms" in found.quality.figures


def test_events_are_compared_with_their_nearest_partner():
    said = (FootEvent("r", "strike", 1.0), FootEvent("r", "strike", 5.0), FootEvent("l", "off", 1.4))
    ours = GaitEvents({"l": (1.0,), "r": (0.97, 1.1)}, {"l": (1.45,), "r": ()}, ())
    differences = event_differences(said, ours)
    assert differences["strike"] == pytest.approx([-0.03]) and differences["off"] == pytest.approx([0.05])


def test_who_stands_or_takes_one_step_does_not_walk(tmp_path):
    with pytest.raises(ExoError, match="holds no walk"):
        capture_markers(write_c3d(tmp_path / "static.c3d", stance()))
    with pytest.raises(ExoError, match="no complete stride of both legs"):
        capture_markers(write_c3d(tmp_path / "step.c3d", walk(1.0)))
    small = dataclasses.replace(walk(), position=1e-3 * walk().position)
    with pytest.raises(ExoError, match="wrong unit of length"):  # in which no step is seen, either
        capture_markers(write_c3d(tmp_path / "small.c3d", small))


def test_a_static_that_walks_and_a_treadmill(tmp_path):
    path = write_c3d(tmp_path / "walk.c3d", walk())
    with pytest.raises(ExoError, match="not a quiet stance"):
        capture_markers(path, path)
    belt = walk()
    position = belt.position - SPEED * belt.time[:, None, None] * np.array([1.0, 0.0, 0.0])
    found = capture_markers(write_c3d(tmp_path / "belt.c3d", dataclasses.replace(belt, position=position)))
    assert any("on the spot" in warning for warning in found.quality.warnings)
    assert "speed_m_s" not in found.quality.gait
    assert found.quality.gait["stride_time_s"] == pytest.approx(STRIDE, abs=0.01)


def test_of_an_out_and_back_the_way_out_is_used(tmp_path):
    out = walk(5.0)
    back = out.position[:300] * (-1.0, 1.0, -1.0)
    back[..., 0] += out.position[-1, :, 0].mean() - back[0, :, 0].mean()
    position = np.concatenate([out.position, back])
    both = dataclasses.replace(out, time=np.arange(len(position)) / 100.0, position=position)
    found = capture_markers(write_c3d(tmp_path / "both.c3d", both))
    assert found.quality.gait["speed_m_s"] == pytest.approx(SPEED, rel=0.02)
    assert max(stride.end for stride in found.strides) < 5.1
    assert any("walks forward only from" in warning for warning in found.quality.warnings)


def test_a_subject_who_is_not_the_sessions_is_remarked(tmp_path):
    said = {"LABELS": ["weight", "height"], "UNITS": ["kg", "m"], "VALUES": [70.0, 1.80]}
    found = capture_markers(write_c3d(tmp_path / "walk.c3d", walk(), SUBJECT=said))
    assert found.disagreements(1.79, 72.0) == ()
    assert [text.split(",")[0] for text in found.disagreements(1.70, 80.0)] == [
        "the recording says a height of 1.8 m",
        "the recording says a mass of 70 kg",
    ]


def test_too_many_gaps_are_refused_with_the_cure(tmp_path):
    truth = walk()
    position = truth.position.copy()
    for name in ("L_IAS", "L_FLE", "R_FLE", "L_FAL", "R_FAL", "L_SAE", "R_SAE", "L_HLE", "R_HLE"):
        position[40:-1, truth.names.index(name)] = np.nan
    events = {
        "CONTEXTS": ["Right"] * 3 + ["Left"] * 3,
        "LABELS": ["Foot Strike", "Foot Off", "Foot Strike"] * 2,
        "TIMES": np.array([[0.0] * 6, [0.3, 0.9, 1.4, 0.85, 1.5, 1.95]]),
    }
    path = write_c3d(tmp_path / "gaps.c3d", dataclasses.replace(truth, position=position), EVENT=events)
    with pytest.raises(ExoError, match=r"markers_missing_pct.*fill the gaps"):
        capture_markers(path)


@pytest.fixture(scope="module")
def lab():
    folder = DATA / "gait_speeds"
    if not folder.is_dir():
        pytest.skip("../shared/data/gait_speeds is not here")
    return folder


def test_exchanged_sternum_markers_of_a_real_file_are_mended(lab):
    found = capture_markers(lab / "2014007" / "2014007_C5_04.c3d", lab / "2014007" / "2014007_ST.c3d")
    assert [note for note in found.quality.warnings if "exchanged" in note] == [
        "static: the labels SJN and SXS were exchanged (SJN must lie above SXS); mended"
    ]
    assert "walks along the lab's -X" in found.quality.facts["frame"]


def test_a_static_that_faces_sideways_is_turned(lab):
    found = capture_markers(lab / "2014031" / "2014031_C4_02.c3d", lab / "2014031" / "2014031_ST.c3d")
    assert "static: the person stands facing the lab's +Y" in found.quality.facts["frame"]
    toe, heel = (found.static.position[0, found.static.names.index(name), 0] for name in ("RBigToe", "RHeel"))
    assert toe - heel > 0.15


def test_our_events_agree_with_the_labs(lab):
    strikes, offs = [], []
    for path in sorted(lab.glob("*/*_C4_*.c3d")):
        found = capture_markers(path)
        differences = event_differences(found.recording.events, found.events)
        strikes += differences["strike"]
        offs += differences["off"]
    assert len(strikes) > 20 and len(offs) > 30
    assert abs(np.mean(strikes)) < 0.03 and np.std(strikes) < 0.02
    assert abs(np.mean(offs)) < 0.03 and np.std(offs) < 0.02
