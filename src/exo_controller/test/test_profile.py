from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from twin_fakes import PERIOD_NS, PHASE, make_gait, walk

from exo_controller.profile import Assist, Assistance, Release, shape_profile
from exo_safety.envelope import SideEnvelope
from exo_twin.phase import STANDING, WALKING, PhaseEstimate, PhaseEstimator

WIDE = SideEnvelope(-0.6, 1.6, 8.0, 25.0, 500.0, 150.0)
MOMENT = 40.0 * np.sin(2 * np.pi * PHASE)
HIP = 0.3 * np.cos(2 * np.pi * PHASE)
LEFT = 10.0 * np.cos(2 * np.pi * PHASE)
RIGHT = 5.0 * np.sin(2 * np.pi * PHASE)
TRUSTED = PhaseEstimate(0.0, 0.25, 1.0, 1.0, 1.0, WALKING, 0.01)


def test_profile_is_the_stated_share_of_the_moment() -> None:
    profile = shape_profile(MOMENT, HIP, 1.0, Assist(), WIDE)
    assert profile.torque_nm == pytest.approx(0.2 * MOMENT, abs=0.01)
    assert (profile.scale, profile.limited_by) == (1.0, "")
    assert profile.rate_nm_s == pytest.approx(8.0 * 2 * math.pi, rel=1e-2)


def test_positive_timing_helps_earlier() -> None:
    early = shape_profile(MOMENT, HIP, 1.0, Assist(timing=0.1), WIDE).torque_nm
    assert int(np.argmax(early)) == 15


def test_low_pass_keeps_what_a_wearer_feels() -> None:
    noisy = MOMENT + 10.0 * np.sin(2 * np.pi * 20 * PHASE)
    assert shape_profile(noisy, HIP, 1.0, Assist(), WIDE).torque_nm == pytest.approx(0.2 * MOMENT, abs=0.05)


@pytest.mark.parametrize(
    ("change", "limited_by", "scale"),
    [
        ({"torque_max_nm": 5.0}, "torque_max_nm", 0.9 * 5.0 / 8.0),
        ({"torque_rate_max_nm_s": 40.0}, "torque_rate_max_nm_s", 0.9 * 40.0 / (8.0 * 2 * math.pi)),
        ({"power_max_w": 8.0}, "power_max_w", 0.9 * 8.0 / (8.0 * 0.3 * 2 * math.pi)),
    ],
)
def test_profile_stays_inside_the_envelope(change: dict, limited_by: str, scale: float) -> None:
    profile = shape_profile(MOMENT, HIP, 1.0, Assist(), dataclasses.replace(WIDE, **change))
    assert profile.limited_by == limited_by
    assert profile.scale == pytest.approx(scale, rel=1e-2)


def test_peak_is_limited() -> None:
    profile = shape_profile(10.0 * MOMENT, HIP, 1.0, Assist(), WIDE)
    assert np.max(np.abs(profile.torque_nm)) == pytest.approx(12.0) and profile.limited_by == "peak_nm"


def released(
    assistance: Assistance, ticks: int, phase: PhaseEstimate, armed: bool = True, first: int = 0
) -> list[float]:
    """Left torque per tick at a held phase, where the profile is 10 Nm."""
    return [assistance.step((first + k) * PERIOD_NS, phase, armed)[0] for k in range(ticks)]


def test_help_grows_over_the_soft_start_and_never_while_disarmed() -> None:
    assistance = Assistance(LEFT, RIGHT, Release())
    assert set(released(assistance, 100, TRUSTED, armed=False)) == {0.0}
    torque = released(assistance, 400, TRUSTED, first=100)
    assert torque[0] < 0.2
    assert max(np.diff(torque)) < 0.2
    assert torque[150] == pytest.approx(5.0, rel=0.05)
    assert torque[-1] == pytest.approx(10.0)
    assert assistance.step(600 * PERIOD_NS, TRUSTED, True)[1] == pytest.approx(5.0)
    assert released(assistance, 1, TRUSTED, armed=False, first=601) == [0.0]
    assert released(assistance, 1, TRUSTED, first=602)[0] < 0.2


@pytest.mark.parametrize(
    "doubt",
    [
        dataclasses.replace(TRUSTED, confidence=0.2),
        dataclasses.replace(TRUSTED, mode=STANDING, confidence=0.0, rate=0.0),
        dataclasses.replace(TRUSTED, confidence=math.nan),
    ],
)
def test_help_is_released_smoothly_when_the_phase_is_doubted(doubt: PhaseEstimate) -> None:
    assistance = Assistance(LEFT, RIGHT, Release())
    released(assistance, 400, TRUSTED)
    torque = released(assistance, 40, doubt, first=400)
    assert torque[0] > 9.0 and torque[-1] == 0.0
    assert max(-np.diff(torque)) < 0.5
    assert released(assistance, 30, TRUSTED, first=440)[-1] < 2.0


def test_half_trust_is_half_help() -> None:
    assistance = Assistance(LEFT, RIGHT, Release())
    torque = released(assistance, 800, dataclasses.replace(TRUSTED, confidence=0.6))
    assert torque[-1] == pytest.approx(5.0)


def test_torque_follows_the_phase_of_a_walking_wearer() -> None:
    gait = make_gait()
    estimator, assistance = PhaseEstimator(gait), Assistance(LEFT, RIGHT, Release())
    errors = []
    for stamp, q, qd, phase in walk(gait, 12.0, speed=1.1, noise_deg=0.5):
        left, right = assistance.step(stamp, estimator.step(stamp, q, qd), True)
        true_right = phase + gait.phase_offset_right
        errors.append((left - 10.0 * math.cos(2 * math.pi * phase), right - 5.0 * math.sin(2 * math.pi * true_right)))
    assert np.max(np.abs(errors[800:])) < 1.0


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.2])
def test_help_does_not_flicker_in_normal_walking(speed: float) -> None:
    gait = make_gait()
    estimator, assistance = PhaseEstimator(gait), Assistance(LEFT, RIGHT, Release())
    settle_s = 5.0 * gait.stride_time / speed
    confidence, share = [], []
    for stamp, q, qd, _ in walk(gait, 5.0 * settle_s, speed=speed, amplitude=0.9, noise_deg=0.5):
        estimate = estimator.step(stamp, q, qd)
        assistance.step(stamp, estimate, True)
        confidence.append(estimate.confidence)
        share.append(assistance.released)
    settled = slice(int(100 * settle_s), None)
    assert min(confidence[settled]) >= Release().confidence_high
    assert min(share[settled]) == pytest.approx(1.0)


@pytest.mark.parametrize("stuck_velocity", [False, True], ids=["stopped", "stuck encoder"])
@pytest.mark.parametrize("phase", np.arange(8) / 8)
def test_help_ends_when_the_wearer_stops_anywhere_in_the_stride(phase: float, stuck_velocity: bool) -> None:
    gait = make_gait()
    estimator, assistance = PhaseEstimator(gait), Assistance(LEFT, RIGHT, Release())
    for stamp, q, qd, now in walk(gait, 12.0, noise_deg=0.5):
        assistance.step(stamp, estimator.step(stamp, q, qd), True)
        if stamp > 9_000_000_000 and abs((now - phase + 0.5) % 1.0 - 0.5) < 0.01:
            break
    assert assistance.released == pytest.approx(1.0)
    held = qd if stuck_velocity else (0.0, 0.0)
    requests = []
    for k in range(1, 151):
        estimate = estimator.step(stamp + k * PERIOD_NS, q, held)
        requests.append(assistance.step(stamp + k * PERIOD_NS, estimate, True))
    assert np.max(np.abs(requests[49:])) == 0.0
