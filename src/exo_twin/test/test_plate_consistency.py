"""Plates that do not belong to the motion are refused, slight disagreement is told."""

import dataclasses

import numpy as np
import pytest
from plate_fakes import MASS, on_treadmill, walk

from exo_common.errors import ExoError
from exo_twin.inverse.plate_consistency import check_consistency
from exo_twin.inverse.plates import measured_ground_reaction


def judged(change):
    """Sentences on a treadmill walk whose plates were changed."""
    made = on_treadmill(walk(plates=((0, 2, 4), (1, 3))))
    signals = [change(signal) for signal in made.signals]
    plates = measured_ground_reaction(signals, made.feet, made.events, MASS, made.needed)
    force = sum(force.force for force in plates.external)
    pelvis = made.needed.centre
    moment = sum(force.moment_about(pelvis) for force in plates.external)
    body = dataclasses.replace(
        made.needed,
        residual_force=made.needed.force - force,
        residual_moment=made.needed.moment_about(pelvis) - moment,
    )
    return check_consistency(body, force, plates.valid, np.zeros(len(force)))


def test_plates_that_fit_are_not_talked_about():
    assert not judged(lambda signal: signal)


def test_slight_disagreement_is_told_without_refusing():
    told = judged(lambda s: dataclasses.replace(s, point=s.point + np.array([0.015, 0.0, 0.0])))
    assert len(told) == 1 and "less certain than of the ankle" in told[0]
    told = judged(lambda s: dataclasses.replace(s, point=s.point + np.array([0.03, 0.0, 0.0])))
    assert "hip and knee are uncertain" in told[-1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: dataclasses.replace(s, force=s.force * [-1.0, 1.0, 1.0]), "other way fore and aft"),
        (lambda s: dataclasses.replace(s, force=0.6 * s.force), "calibration"),
        (lambda s: dataclasses.replace(s, point=s.point + np.array([0.0, 0.0, 0.07])), "places"),
    ],
)
def test_plates_of_another_motion_are_refused(change, told):
    with pytest.raises(ExoError, match=told):
        judged(change)
