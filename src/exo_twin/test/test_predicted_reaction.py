"""The ground's force on each foot from motion alone: against forces that are known, and its own laws."""

import dataclasses

import numpy as np
import pytest
from plate_fakes import MASS, STANCES, ground_force, side_of, walk

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.foot_stances import Stance, stances
from exo_twin.inverse.predicted_reaction import MOST_SHIFT, MOST_TWIST, predict

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
    given = sum(force.moment_about(centre) for force in predicted.values())[rows]
    wanted = known.needed.moment_about(centre)[rows]
    error = np.sqrt(np.mean((given - wanted) ** 2, axis=0))
    assert (error < np.array([0.001, 0.006, 0.001]) * WEIGHT).all()


def test_no_foot_is_asked_for_more_than_it_can_give(known):
    """A motion that needs impossible moments, and pulls at the ground for a while."""
    force = known.needed.force.copy()
    force[100:110, 1] = -50.0
    body = dataclasses.replace(known.needed, force=force, moment=known.needed.moment + np.array([0.0, 300.0, 900.0]))
    stands = stances(known.events, known.feet)
    found, usual = predict(body, known.feet, stands), predict(known.needed, known.feet, stands)
    for side, given in found.items():
        assert (given.force[:, 1] >= 0.0).all() and not given.force[100:110, 1].any()
        assert np.abs(given.free_moment).max() == MOST_TWIST
        assert np.abs(given.point - usual[side].point).max() <= 2.0 * MOST_SHIFT + 1e-9


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


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("at", [0.68, 0.72, 0.76, 0.79])
def test_a_double_support_that_the_recording_cuts_is_passed_without_a_jump(known, edge, at):
    """The right foot lands at 0.65 s, the left one leaves at 0.80 s."""
    time = known.feet.time
    rows = time >= at if edge == "start" else time <= at
    inner = (lambda t: t >= at) if edge == "start" else (lambda t: t <= at)
    events = dataclasses.replace(
        known.events,
        heel_strikes={side: tuple(filter(inner, times)) for side, times in known.events.heel_strikes.items()},
        toe_offs={side: tuple(filter(inner, times)) for side, times in known.events.toe_offs.items()},
    )
    feet = Markers(time[rows], known.feet.names, known.feet.position[rows])
    body = dataclasses.replace(
        known.needed,
        **{name: getattr(known.needed, name)[rows] for name in ("centre", "force", "moment")},
    )
    found = predict(body, feet, stances(events, feet))
    near = (feet.time > 0.6) & (feet.time < 0.85)
    truth = {side: sum(ground_force(k, feet.time) for k in range(STANCES) if side_of(k) == side) for side in "lr"}
    for side in "lr":
        error = (found[side].force - truth[side])[near, 1] / WEIGHT
        assert np.sqrt(np.mean(error**2)) < 0.15
        assert np.abs(np.diff(found[side].force[near, 1])).max() < 0.30 * WEIGHT


def test_feet_side_by_side_share_by_the_zero_moment_point(known):
    """Standing on both feet, a little more on the right one."""
    time = np.arange(50) / 100.0
    names = ("LHeel", "LBigToe", "RHeel", "RBigToe")
    place = np.array([[0.0, 0.0, -0.1], [0.24, 0.0, -0.1], [0.0, 0.0, 0.1], [0.24, 0.0, 0.1]])
    feet = Markers(time, names, np.tile(place, (50, 1, 1)))
    force = np.tile([0.0, WEIGHT, 0.0], (50, 1))
    centre = np.tile([0.12, 0.95, 0.04], (50, 1))
    body = dataclasses.replace(known.needed, centre=centre, force=force, moment=np.cross(centre, force))
    found = predict(body, feet, [Stance(side, 0.0, 0.49, False, False) for side in "lr"])
    np.testing.assert_allclose(found["r"].force[:, 1], 0.7 * WEIGHT)
    raised = dataclasses.replace(body, centre=centre + np.array([0.0, 0.3, 0.0]))
    raised = dataclasses.replace(raised, moment=np.cross(raised.centre, force))
    level = {side: np.full(50, 0.3) for side in "lr"}
    higher = predict(raised, feet, [Stance(side, 0.0, 0.49, False, False) for side in "lr"], level)
    np.testing.assert_allclose(higher["r"].force, found["r"].force, atol=1e-9)
    np.testing.assert_allclose(higher["r"].point, found["r"].point + np.array([0.0, 0.3, 0.0]), atol=1e-9)
