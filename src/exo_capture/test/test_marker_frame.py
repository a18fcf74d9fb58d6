"""Whatever the lab's axes are, the walk ends up along +x with y up; impossible labels are mended or refused."""

import dataclasses

import numpy as np
import pytest
from marker_person import SET, SPEED, stance, walk

from exo_capture.marker_files import ForcePlate, Recording
from exo_capture.marker_frame import to_opensim, walks
from exo_common.errors import ExoError

# OpenSim's axes (columns) in a lab whose z is up, walking along +x, -x, +y and 30 degrees off; and y down.
Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def about_z(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


LABS = {
    "+X": Z_UP,
    "-X": about_z(180.0) @ Z_UP,
    "+Y": about_z(90.0) @ Z_UP,
    "-Y": about_z(-60.0) @ Z_UP,
    "X with -Y up": np.diag([1.0, -1.0, -1.0]),
}


def turned(markers, rotation):
    return dataclasses.replace(markers, position=markers.position @ rotation.T)


def renamed(markers, changes):
    return dataclasses.replace(markers, names=tuple(changes.get(name, name) for name in markers.names))


def exchanged(markers, *pairs):
    return renamed(markers, {a: b for pair in pairs for a, b in (pair, pair[::-1])})


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("recording", [stance, walk])
def test_any_lab_becomes_opensims_frame(lab, recording):
    truth = recording()
    found = to_opensim(Recording(turned(truth, LABS[lab])), SET)
    np.testing.assert_allclose(found.markers.position, truth.position, atol=1e-9)
    assert ("-Y is up" if "up" in lab else "+Z is up") in found.notes[0]
    assert ("walks along" if walks(truth, SET) else "stands facing") in found.notes[1]
    assert lab[:2] in found.notes[1] or "up" in lab


def test_plates_turn_with_the_markers():
    plate = ForcePlate(1000.0, np.array([[0.0, 0.0, 700.0]]), np.array([[0.2, 0.1, 0.0]]), np.array([[0.0, 0.0, 3.0]]))
    found = to_opensim(Recording(turned(walk(), LABS["-X"]), plates=(plate,)), SET).plates[0]
    np.testing.assert_allclose(found.reaction, [[0.0, 700.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(found.centre_of_pressure, [[-0.2, 0.0, 0.1]], atol=1e-9)
    np.testing.assert_allclose(found.free_moment, [[0.0, 3.0, 0.0]], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: dataclasses.replace(m, position=1e3 * m.position), r"the person is 1\.4\de\+03 m tall.*wrong unit"),
        (lambda m: dataclasses.replace(m, position=1e-3 * m.position), "wrong unit of length"),
        (lambda m: turned(m, np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])), "standing upright"),
        (lambda m: renamed(m, {"R_FCC": "C"}), "marker R_FCC of the set gait_speeds_52 is missing"),
        (
            lambda m: renamed(m, {n: {"L": "R", "R": "L"}[n[0]] + n[1:] for n in m.names if n[1] == "_"}),
            "left and right are exchanged at all markers",
        ),
        (
            lambda m: exchanged(
                m, *((f"L_{n}", f"R_{n}") for n in ("FLE", "FME", "FAL", "TAM", "FCC", "FM1", "FM2", "FM5"))
            ),
            "left and right are exchanged at knee, ankle, heel",
        ),
        (
            lambda m: exchanged(m, *((f"{s}_{a}", f"{s}_{b}") for s in "LR" for a, b in (("FCC", "FM1"),))),
            "heel and toe labels are exchanged",
        ),
        (lambda m: renamed(m, {"L_FAL": "L_TAM", "L_TAM": "L_FAX", "L_FAX": "L_FAL"}), "L_FAL, .* do not lie where"),
    ],
)
def test_what_cannot_be_mended_is_a_sentence(change, sentence):
    with pytest.raises(ExoError, match=sentence):
        to_opensim(Recording(change(walk())), SET)


def test_a_walk_backwards_is_refused():
    truth = walk()
    position = truth.position.copy()
    position[..., 0] -= 2.0 * SPEED * truth.time[:, None]
    with pytest.raises(ExoError, match="walks backwards"):
        to_opensim(Recording(dataclasses.replace(truth, position=position)), SET)


@pytest.mark.parametrize("pair", [("SJN", "SXS"), ("L_FLE", "L_FME"), ("R_IAS", "R_IPS")])
def test_two_exchanged_labels_are_mended_and_named(pair):
    truth = walk()
    found = to_opensim(Recording(exchanged(truth, pair)), SET)
    for name in pair:
        got = found.markers.position[:, found.markers.names.index(name)]
        np.testing.assert_allclose(got, truth.position[:, truth.names.index(name)], atol=0.03)
    assert any(f"{pair[0]} and {pair[1]} were exchanged" in note for note in found.notes)
    assert len(to_opensim(Recording(truth), SET).notes) == 2


def test_a_treadmill_walk_is_a_walk():
    truth = walk()
    position = truth.position.copy()
    position[..., 0] -= SPEED * truth.time[:, None]
    found = to_opensim(Recording(turned(dataclasses.replace(truth, position=position), LABS["+Y"])), SET)
    assert "walks on the spot facing the lab's +Y" in found.notes[1]
    assert not walks(stance(), SET)
