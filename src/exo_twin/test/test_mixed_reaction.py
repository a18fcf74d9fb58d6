"""Forces of which plates know a part: nothing jumps, nothing is lost, and the rest goes to the other foot."""

import dataclasses

import numpy as np
import pytest
from plate_fakes import MASS, ground_force, landing, side_of, walk

from exo_twin.inverse.foot_stances import stances
from exo_twin.inverse.mixed_reaction import BLEND_S, OTHER, mixed
from exo_twin.inverse.plates import measured_ground_reaction
from exo_twin.inverse.predicted_reaction import LETS_GO_S, predict, predict_other

WEIGHT = MASS * 9.80665


def forces_of(made):
    """Mixed forces of a fake walk, and what plates said."""
    stands = stances(made.events, made.feet)
    plates = measured_ground_reaction(made.signals, made.feet, made.events, MASS, made.needed)
    rest = {side: predict_other(made.needed, side, plates.forces[OTHER[side]], made.feet, stands) for side in "lr"}
    predicted = predict(made.needed, made.feet, stands)
    return mixed(made.feet.time, plates.known, plates.forces, rest, predicted), plates


def test_what_a_measured_foot_leaves_goes_to_the_other_one():
    made = walk()
    forces, plates = forces_of(made)
    one = (plates.known["l"] != plates.known["r"]) & (made.feet.time > 0.7) & (made.feet.time < 2.0)
    assert one.sum() > 10
    missing = made.needed.force - sum(force.force for force in forces.values())
    edges = [edge for stance in stances(made.events, made.feet) for edge in (stance.start, stance.end)]
    inner = one & (np.abs(made.feet.time[:, None] - edges) > LETS_GO_S).all(axis=1)
    assert inner.sum() > 10 and np.abs(missing[inner, 1]).max() < 1e-6
    assert np.abs(missing[one, 1]).max() < 0.1 * WEIGHT
    truth = sum(ground_force(k, made.feet.time) for k in range(5) if side_of(k) == "l")
    assert np.sqrt(np.mean((forces["l"].force - truth)[one] ** 2)) < 0.03 * WEIGHT


@pytest.mark.parametrize("cut", [0.85, 0.95, 1.1])
def test_no_force_jumps_where_plates_begin_or_end_in_a_step(cut):
    """The plates disagree with the motion by a tenth, as bad ones do."""
    made = walk()
    steepest = max(np.abs(np.diff(ground_force(k, made.feet.time)[:, 1])).max() for k in range(5))
    for keep in (lambda time: time < cut, lambda time: time > cut):
        signals = []
        for signal in made.signals:
            rows = keep(signal.time)
            signals.append(
                dataclasses.replace(
                    signal,
                    time=signal.time[rows],
                    force=1.1 * signal.force[rows],
                    point=signal.point[rows],
                    free_moment=signal.free_moment[rows],
                )
            )
        forces, plates = forces_of(dataclasses.replace(made, signals=tuple(signals)))
        assert plates.known["r"].mean() < 1.0
        rows = np.abs(made.feet.time - cut) < 0.1
        for force in forces.values():
            assert np.abs(np.diff(force.force[rows, 1])).max() < steepest + 0.05 * WEIGHT


def test_the_blend_keeps_force_and_moment_and_passes_within_what_is_known():
    made = walk()
    predicted = predict(made.needed, made.feet, stances(made.events, made.feet))
    time = made.feet.time
    known = {side: time > landing(1) + 0.2 for side in "lr"}
    doubled = {
        side: dataclasses.replace(force, force=2.0 * force.force, free_moment=2.0 * force.free_moment)
        for side, force in predicted.items()
    }
    found = mixed(time, known, doubled, predicted, predicted)["r"]
    origin = np.zeros(3)
    weight = np.clip((time - time[~known["r"]][-1]) / BLEND_S, 0.0, 1.0)[:, None]
    np.testing.assert_allclose(found.force, (1.0 + weight) * predicted["r"].force, atol=1e-9)
    np.testing.assert_allclose(
        found.moment_about(origin), (1.0 + weight) * predicted["r"].moment_about(origin), atol=1e-9
    )
    assert 0.0 < weight[np.flatnonzero(known["r"])[0], 0] < 1.0
