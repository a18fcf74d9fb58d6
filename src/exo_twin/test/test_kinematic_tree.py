"""The kinematic tree moves its markers as OpenSim does, and its derivatives are those of its positions."""

from pathlib import Path

import numpy as np
import pytest

from exo_twin.inverse.kinematic_tree import pose
from exo_twin.inverse.models import blazepose_model
from exo_twin.inverse.tree_from_opensim import kinematic_tree
from exo_twin.opensim_runtime import opensim

LAI = Path(__file__).resolve().parents[4] / "shared" / "data" / "models" / "LaiUhlrich2022.osim"
POSES = 5


def loaded(name):
    opensim.Logger.setLevelString("Error")
    if name == "pose2sim":
        generic = blazepose_model()
        model = opensim.Model(str(generic.model))
        model.updateMarkerSet(opensim.MarkerSet(str(generic.markers)))
    else:
        if not LAI.is_file():
            pytest.skip("LaiUhlrich2022.osim is not in ../shared/data/models")
        model = opensim.Model(str(LAI))
        for body in ("calcn_l", "toes_r", "torso", "hand_l"):
            marker = opensim.Marker()
            marker.setName(body)
            marker.setParentFrameName(f"/bodyset/{body}")
            marker.set_location(opensim.Vec3(0.01, 0.02, -0.03))
            model.addMarker(marker)
    return model, model.initSystem()


@pytest.fixture(params=["pose2sim", "LaiUhlrich2022"])
def posed(request):
    """The tree, and random postures with the places that OpenSim gives the markers in them."""
    model, state = loaded(request.param)
    tree = kinematic_tree(model)
    random = np.random.default_rng(3)
    q, places = [], []
    for _ in range(POSES):
        wanted = np.clip(tree.default + random.uniform(-0.4, 0.4, len(tree.default)), tree.lower, tree.upper)
        for name, value in zip(tree.coordinates, wanted, strict=True):
            coordinate = model.getCoordinateSet().get(name)
            coordinate.setLocked(state, False)
            coordinate.setValue(state, float(value), False)
        model.assemble(state)
        q.append([model.getCoordinateSet().get(name).getValue(state) for name in tree.coordinates])
        markers = model.getMarkerSet()
        found = [markers.get(name).getLocationInGround(state) for name in tree.markers]
        places.append([[place.get(axis) for axis in range(3)] for place in found])
    return tree, np.array(q), np.array(places)


def test_markers_are_where_opensim_puts_them(posed):
    tree, q, places = posed
    found = pose(tree, q, np.ones(len(tree.bodies)), np.zeros((len(tree.markers), 3)))
    np.testing.assert_allclose(found.position, places, atol=1e-6)


def test_derivatives_match_finite_differences(posed):
    tree, q, _ = posed
    random = np.random.default_rng(4)
    scale, shift = random.uniform(0.8, 1.2, len(tree.bodies)), random.normal(0.0, 0.01, (len(tree.markers), 3))
    exact = pose(tree, q, scale, shift)
    step = 1e-6
    for j in range(len(tree.coordinates)):
        ends = [pose(tree, q + sign * step * np.eye(q.shape[1])[j], scale, shift).position for sign in (1, -1)]
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), exact.by_coordinate[..., j], atol=1e-7)
    for b in range(len(tree.bodies)):
        ends = [pose(tree, q, scale + sign * step * np.eye(len(scale))[b], shift).position for sign in (1, -1)]
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), exact.by_scale[..., b], atol=1e-7)
    moved = pose(tree, q, scale, shift + np.array([0.0, 0.01, 0.0]))
    np.testing.assert_allclose(moved.position - exact.position, 0.01 * exact.rotation[..., 1], atol=1e-9)


def test_a_coordinate_that_cannot_move_a_marker_has_no_derivative(posed):
    tree, q, _ = posed
    found = pose(tree, q, np.ones(len(tree.bodies)), np.zeros((len(tree.markers), 3)))
    assert np.abs(found.by_coordinate.transpose(1, 3, 0, 2)[~tree.moves()]).max() == 0.0
    assert tree.moves()[:, tree.index("pelvis_tx")].all()
