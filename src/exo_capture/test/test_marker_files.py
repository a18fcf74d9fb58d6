"""C3D files: everything a lab records comes out in SI units, and a bad file is a sentence."""

import dataclasses

import numpy as np
import pytest
from marker_person import DATA, RATE, stance, walk, write_c3d

from exo_capture import marker_files
from exo_capture.marker_files import read_recording
from exo_common.errors import ExoError

SUBJECT = {
    "LABELS": ["age", "gender", "weight", "height", "R_legLength", "L_legLength"],
    "UNITS": ["years", "adimensioned (0: woman, 1: man)", "kg", "cm", "mm", "mm"],
    "VALUES": [40.0, 0.0, 61.8, 165.0, 810.0, 816.0],
}
EVENTS = {
    "CONTEXTS": ["Right", "Left", "Right"],
    "LABELS": ["Foot Strike", "Foot Off", "Foot Strike"],
    "TIMES": np.array([[0.0, 0.0, 0.0], [0.3, 0.4, 1.4]]),
}


def test_markers_emg_events_and_subject_come_in_si_units(tmp_path):
    markers = walk(1.0)
    position = markers.position.copy()
    position[7, 3] = np.nan
    emg = np.vstack([np.linspace(-1.0, 1.0, 1000), np.linspace(0.0, 5.0, 1000)])
    path = write_c3d(
        tmp_path / "walk.c3d",
        dataclasses.replace(markers, position=position),
        SUBJECT=SUBJECT,
        EVENT=EVENTS,
        ANALOG={"LABELS": ["R_soleus", "Fz1"], "UNITS": ["mV", "N"], "RATE": [10 * RATE], "SCALE": [1.0, 1.0]},
        ANALOG_DATA=emg,
    )
    found = read_recording(path)
    assert found.markers.names == markers.names
    np.testing.assert_allclose(found.markers.position, position, atol=1e-6)
    assert found.markers.rate_hz == pytest.approx(RATE)
    assert found.emg is not None and found.emg.names == ("R_soleus",) and found.emg.rate_hz == 10 * RATE
    np.testing.assert_allclose(found.emg.values[:, 0], 1e-3 * emg[0], atol=1e-9)
    assert [(e.side, e.kind) for e in found.events] == [("r", "strike"), ("l", "off"), ("r", "strike")]
    assert [e.time for e in found.events] == pytest.approx([0.3, 0.4, 1.4])
    subject = found.subject
    assert (subject.mass, subject.height, subject.age, subject.sex) == (61.8, 1.65, 40.0, "female")
    assert (subject.leg_length_r, subject.leg_length_l) == (0.81, 0.816)


def test_events_in_one_row_and_a_subject_in_words_are_read(tmp_path):
    times = {"TIMES": np.array([0.0, 0.3, 1.0, 0.4]), "CONTEXTS": ["Left", "Right"], "LABELS": ["Foot Strike"] * 2}
    words = {"LABELS": ["weight", "height", "age"], "UNITS": ["kg", "cm", "years"], "VALUES": ["61.8", "165", "forty"]}
    found = read_recording(write_c3d(tmp_path / "walk.c3d", walk(1.0), EVENT=times, SUBJECT=words))
    assert [(e.side, e.time) for e in found.events] == [("l", pytest.approx(0.3)), ("r", pytest.approx(60.4))]
    assert (found.subject.mass, found.subject.height, found.subject.age) == (61.8, 1.65, None)
    one = {"TIMES": np.array([0.0, 1.2]), "CONTEXTS": ["Left"], "LABELS": ["Foot Strike"]}
    assert [e.time for e in read_recording(write_c3d(tmp_path / "one.c3d", walk(1.0), EVENT=one)).events] == [
        pytest.approx(1.2)
    ]
    odd = {"TIMES": np.array([0.0, 1.2, 3.0]), "CONTEXTS": ["Left"], "LABELS": ["Foot Strike"]}
    with pytest.raises(ExoError, match=r"odd\.c3d is not a whole C3D file"):
        read_recording(write_c3d(tmp_path / "odd.c3d", walk(1.0), EVENT=odd))


@pytest.mark.parametrize(
    ("value", "unit", "sex"),
    [
        ("F", "", "female"),
        (" Male", "", "male"),
        ("woman", "", "female"),
        (1.0, "0: woman, 1: man", "male"),
        (2.0, "1=male, 2=female", "female"),
        (1.0, "", None),
        ("?", "", None),
    ],
)
def test_the_usual_forms_of_sex_are_understood_and_others_are_unknown(tmp_path, value, unit, sex):
    said = {"LABELS": ["sex"], "UNITS": [unit], "VALUES": [value]}
    assert read_recording(write_c3d(tmp_path / "sex.c3d", stance(), SUBJECT=said)).subject.sex == sex


def test_vicons_habits_are_understood(tmp_path):
    truth = stance()
    prefixed = dataclasses.replace(truth, names=tuple(f"Anna:{name}" for name in truth.names))
    vicon = {"Bodymass": [61.5], "Height": [1655.0]}
    found = read_recording(write_c3d(tmp_path / "vicon.c3d", prefixed, PROCESSING=vicon))
    assert found.markers.names == truth.names
    assert (found.subject.mass, found.subject.height, found.subject.age) == (61.5, pytest.approx(1.655), None)
    two = dataclasses.replace(truth, names=("Anna:L_IAS", "Otto:L_IAS", *truth.names[2:]))
    with pytest.raises(ExoError, match="L_IAS more than once"):
        read_recording(write_c3d(tmp_path / "two.c3d", two))


def test_a_plate_of_an_unknown_kind_costs_only_the_plates(tmp_path, monkeypatch):
    path, load = write_c3d(tmp_path / "plate.c3d", stance()), marker_files._load

    def load_but_no_plates(name, with_plates):
        if with_plates:
            raise RuntimeError("Force plate of type 99 is not implemented.")
        return load(name, with_plates)

    monkeypatch.setattr(marker_files, "_load", load_but_no_plates)
    found = read_recording(path)
    assert found.plates == ()
    assert found.notes == ("the force plates were left out (Force plate of type 99 is not implemented)",)
    assert found.markers.names == stance().names


@pytest.mark.parametrize("share", [0.9, 0.5, 0.02])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = write_c3d(tmp_path / "walk.c3d", walk(1.0))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ExoError, match="copy"):
        read_recording(path)


@pytest.mark.parametrize("size", [1, 300, 700, 1100])
def test_a_file_cut_inside_its_header_or_parameters_is_refused_at_once(tmp_path, size):
    path = write_c3d(tmp_path / "walk.c3d", walk(1.0))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ExoError, match="copy"):
        read_recording(path)


def test_no_file_other_files_and_empty_files_are_refused(tmp_path):
    with pytest.raises(ExoError, match="does not exist"):
        read_recording(tmp_path / "none.c3d")
    (tmp_path / "video.mp4").write_bytes(b"x")
    with pytest.raises(ExoError, match="neither a C3D nor a TRC"):
        read_recording(tmp_path / "video.mp4")
    (tmp_path / "text.c3d").write_text("not a C3D file\n" * 100)
    with pytest.raises(ExoError, match="not a whole C3D"):
        read_recording(tmp_path / "text.c3d")
    nothing = stance()
    unseen = dataclasses.replace(nothing, position=np.full_like(nothing.position, np.nan))
    with pytest.raises(ExoError, match="no visible marker"):
        read_recording(write_c3d(tmp_path / "unseen.c3d", unseen))
    empty = dataclasses.replace(nothing, names=(), position=np.zeros((1, 0, 3)))
    with pytest.raises(ExoError, match="no marker trajectories"):
        read_recording(write_c3d(tmp_path / "empty.c3d", empty))


def test_unknown_units_are_refused(tmp_path):
    with pytest.raises(ExoError, match="points in 'inch'"):
        read_recording(write_c3d(tmp_path / "inch.c3d", stance(), units="inch"))
    stones = {"LABELS": ["weight"], "UNITS": ["stone"], "VALUES": [10.0]}
    with pytest.raises(ExoError, match="mass in 'stone'"):
        read_recording(write_c3d(tmp_path / "stone.c3d", stance(), SUBJECT=stones))


def test_a_lab_file_has_plates_that_carry_the_subject_and_eight_muscles():
    path = DATA / "gait_speeds" / "2014001" / "2014001_C4_05.c3d"
    if not path.is_file():
        pytest.skip("../shared/data/gait_speeds is not here")
    found = read_recording(path)
    weight = 9.81 * found.subject.mass
    assert len(found.plates) == 2
    for plate in found.plates:
        loaded = plate.reaction[:, 2] > 0.5 * weight
        assert 1.0 < plate.reaction[:, 2].max() / weight < 1.5
        assert np.isfinite(plate.centre_of_pressure[loaded]).all()
        assert np.ptp(plate.centre_of_pressure[loaded][:, 0]) < 0.3  # a foot's length
        assert np.isnan(plate.centre_of_pressure[plate.reaction[:, 2] == 0.0]).all()
        assert np.abs(plate.free_moment[loaded]).max() < 30.0  # Nm, not N mm
    assert len(found.emg.names) == 8 and found.emg.rate_hz == 1500.0
    assert 1e-5 < np.std(found.emg.values[:, 1]) < 1e-2
    assert len(found.events) == 7 and found.subject.height == pytest.approx(1.655)
