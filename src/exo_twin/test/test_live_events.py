from __future__ import annotations

import dataclasses

import pytest
from twin_fakes import make_gait, walk

from exo_twin.live.events import GaitEvents
from exo_twin.phase import STANDING, WALKING, PhaseEstimate, PhaseEstimator

GAIT = make_gait()


def phase(left: float, confidence: float = 0.9, mode: str = WALKING) -> PhaseEstimate:
    return PhaseEstimate(left % 1.0, (left + 0.5) % 1.0, 1.0, 1.0, confidence, mode, 0.01)


def test_every_stride_has_its_four_events_at_their_places() -> None:
    estimator, events = PhaseEstimator(GAIT), GaitEvents(GAIT.duty_factor)
    found = []
    for stamp, q, qd, truth in walk(GAIT, 12.0, noise_deg=0.5):
        found += [(event, truth) for event in events.step(estimator.step(stamp, q, qd))]
    settled = found[8:]
    order = ["heel_strike_l", "foot_off_r", "heel_strike_r", "foot_off_l"]
    first = order.index(settled[0][0])
    assert [event for event, _ in settled] == [order[(first + k) % 4] for k in range(len(settled))]
    assert len(settled) > 24
    right = 1.0 - GAIT.phase_offset_right
    places = dict(zip(order, (0.0, right + GAIT.duty_factor, right, GAIT.duty_factor), strict=True))
    for event, truth in settled:
        assert abs((truth - places[event] + 0.5) % 1.0 - 0.5) < 0.03


def test_a_phase_that_trembles_around_an_event_makes_it_once() -> None:
    events = GaitEvents(0.62)
    found = [event for at in (0.97, 0.99, 0.005, 0.995, 0.003, 0.99, 0.01, 0.02) for event in events.step(phase(at))]
    assert found == ["heel_strike_l"]


@pytest.mark.parametrize(
    "steps",
    [
        [phase(0.99), phase(0.4), phase(0.42)],  # found anew
        [phase(0.99, 0.1), phase(0.01, 0.1)],
        [phase(0.99, mode=STANDING), phase(0.01, mode=STANDING)],
        [phase(0.01), phase(0.99)],  # backwards
    ],
)
def test_guesses_and_leaps_make_no_event(steps: list[PhaseEstimate]) -> None:
    events = GaitEvents(0.7)
    assert [event for step in steps for event in events.step(step)] == []


def test_events_come_again_after_a_pause() -> None:
    events = GaitEvents(0.7)
    still = dataclasses.replace(phase(0.2), mode=STANDING)
    found = [e for k in range(30) for e in events.step(phase(0.9 + 0.01 * k))]
    found += [e for _ in range(100) for e in events.step(still)]
    found += [e for k in range(85) for e in events.step(phase(0.2 + 0.01 * k))]
    assert [e for e in found if e == "heel_strike_l"] == ["heel_strike_l"] * 2
