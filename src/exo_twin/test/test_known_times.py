"""When forces are known: plates that start late, stop early, or run behind the markers."""

import numpy as np
import pytest

from exo_twin.inverse.foot_stances import Stance, Step
from exo_twin.inverse.known_times import Doubt, both_known, longest, recorded, unrecorded
from exo_twin.inverse.plate_contacts import Contact
from exo_twin.inverse.plate_signals import PlateSignal

TIME = np.arange(0.0, 2.0, 0.01)


def plate(start, end):
    clock = np.arange(start, end + 5e-4, 1e-3)
    nothing = np.zeros((len(clock), 3))
    return PlateSignal("plate 1", clock, nothing, nothing, nothing)


def span(mask):
    return pytest.approx((TIME[mask][0], TIME[mask][-1]), abs=0.011)


def test_late_plates_record_earlier_on_the_markers_clock():
    plates = (plate(0.2, 1.5), plate(0.3, 1.8))
    assert span(recorded(TIME, plates, 0.0)) == (0.3, 1.5)
    assert span(recorded(TIME, plates, 0.05)) == (0.25, 1.45)


def test_the_body_is_known_while_somebody_stands_all_plates_record_and_no_foot_is_in_doubt():
    stands = [Stance("l", 0.1, 1.9, True, True)]
    assert span(both_known(TIME, [plate(0.3, 1.5)], stands, [], 0.05)) == (0.25, 1.45)
    assert span(both_known(TIME, [plate(0.3, 1.5)], stands, [Doubt("r", 0.0, 0.5, "")], 0.05)) == (0.5, 1.45)
    assert not both_known(TIME, [plate(0.3, 1.5)], [], [], 0.05).any()


@pytest.mark.parametrize("lag", [0.0, 0.03, -0.03])
def test_the_part_of_a_step_that_was_not_recorded_is_in_doubt_on_the_markers_clock(lag):
    stance = Stance("r", 0.5, 1.2, True, True)
    step = Step(Contact(0, 0, 1, 0.6, 1.0, False, False), stance, 1.0)
    begin, end = unrecorded([step], [plate(0.55, 1.15)], lag)
    assert (begin.start, begin.end) == pytest.approx((0.5, 0.55 - lag))
    assert (end.start, end.end) == pytest.approx((1.15 - lag, 1.2))
    assert unrecorded([step], [plate(0.55 + lag - 0.05, 1.15 + lag + 0.05)], lag) == []


def test_a_doubt_names_its_foot_and_its_time():
    assert Doubt("l", 0.5, 0.75, "a cat sits on plate 1").sentence() == (
        "a cat sits on plate 1; the force on the left foot is not known from 0.50 to 0.75 s"
    )
    assert "right foot" in Doubt("r", 0.0, 1.0, "").sentence()


def test_the_longest_run_is_taken_and_a_single_frame_is_none():
    mask = np.zeros(len(TIME), dtype=bool)
    mask[5] = True
    assert longest(TIME, mask) is None
    mask[20:40], mask[50:60] = True, True
    assert longest(TIME, mask) == pytest.approx((0.20, 0.39))
