"""The ground's force on each foot from motion alone: against forces that are known, and its own laws."""

import dataclasses

import numpy as np
import pytest
from plate_fakes import MASS, STANCES, ground_force, side_of, walk

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.foot_stances import stances
from exo_twin.inverse.predicted_reaction import predict

WEIGHT = MASS * 9.80665


@pytest.fixture(scope="module")
def known():
    return walk()


@pytest.fixture(scope="module")
def predicted(known):
    return predict(known.needed, known.feet, stances(known.events, known.feet))


def inside(time):
    """Away from the walk's ends, where the fake body is caught and let go."""
    return (time > 0.8) & (time < 2.2)


def test_each_foot_gets_its_force(known, predicted):
    rows = inside(known.feet.time)
    for side in "lr":
        truth = sum(ground_force(k, known.feet.time) for k in range(STANCES) if side_of(k) == side)
        error = (predicted[side].force - truth)[rows] / WEIGHT
        assert np.sqrt(np.mean(error[:, 1] ** 2)) < 0.10
        assert np.sqrt(np.mean(error[:, 0] ** 2)) < 0.05


def test_the_feet_together_support_the_body_and_none_of_them_pulls(known, predicted):
    rows = inside(known.feet.time)
    total = sum(force.force[:, 1] for force in predicted.values())
    np.testing.assert_allclose(total[rows], known.needed.force[rows, 1], atol=1e-6)
    assert all((force.force[:, 1] >= 0.0).all() for force in predicted.values())


def test_force_and_pressure_give_the_moment_about_the_centre_of_mass(known, predicted):
    rows = inside(known.feet.time)
    centre = known.needed.centre
    given = sum(force.moment_about(centre) for force in predicted.values())[rows, 2]
    wanted = known.needed.moment_about(centre)[rows, 2]
    assert np.sqrt(np.mean((given - wanted) ** 2)) < 0.02 * WEIGHT


def test_the_pressure_stays_under_the_foot(known, predicted):
    for side in "lr":
        heel, toe = (
            known.feet.position[:, known.feet.names.index(f"{side.upper()}{point}"), 0] for point in ("Heel", "BigToe")
        )
        loaded = predicted[side].force[:, 1] > 0.3 * WEIGHT
        place = predicted[side].point[loaded, 0]
        assert (place > heel[loaded] - 0.06).all() and (place < toe[loaded] + 0.06).all()


def test_a_foot_in_the_air_carries_nothing(known, predicted):
    stands = [stance for stance in stances(known.events, known.feet) if stance.side == "r"]
    air = ~np.any([(known.feet.time >= s.start) & (known.feet.time <= s.end) for s in stands], axis=0)
    assert air.any() and not predicted["r"].force[air].any()


def test_what_cannot_be_predicted_from_is_named(known):
    stands = stances(known.events, known.feet)
    with pytest.raises(ExoError, match="cut both alike"):
        predict(known.needed, Markers(known.feet.time[:-1], known.feet.names, known.feet.position[:-1]), stands)
    gap = known.feet.position.copy()
    gap[5, known.feet.names.index("LHeel")] = np.nan
    with pytest.raises(ExoError, match="gaps"):
        predict(known.needed, dataclasses.replace(known.feet, position=gap), stands)
    with pytest.raises(ExoError, match="no foot stands"):
        predict(known.needed, known.feet, [])
