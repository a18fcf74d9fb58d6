from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from twin_fakes import PERIOD_NS, PHASE, make_gait, walk

from exo_twin.periodic import PeriodicCurve
from exo_twin.phase import STANDING, WALKING, PhaseEstimator
from exo_twin.twin import Gait

GAIT = make_gait()


def errors(estimator: PhaseEstimator, gait: Gait = GAIT, offset: float = 0.0, **walking) -> tuple[np.ndarray, list]:
    """Absolute phase error, in strides, and the estimates, tick by tick."""
    found, estimates = [], []
    for stamp, q, qd, phase in walk(gait, **walking):
        estimate = estimator.step(stamp, (q[0] + offset, q[1] + offset), qd)
        found.append(abs((estimate.left - phase + 0.5) % 1.0 - 0.5))
        estimates.append(estimate)
    return np.array(found), estimates


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.2])
@pytest.mark.parametrize("amplitude", [0.8, 1.2])
@pytest.mark.parametrize("start", [0.05, 0.4, 0.7])
def test_locks_within_two_strides_from_any_start(speed: float, amplitude: float, start: float) -> None:
    found, estimates = errors(
        PhaseEstimator(GAIT), seconds=12.0, speed=speed, amplitude=amplitude, noise_deg=0.5, start=start, seed=5
    )
    locked = slice(int(2.0 * GAIT.stride_time / speed * 100), None)
    assert np.mean(found[locked]) < 0.01
    assert np.max(found[locked]) < 0.03
    assert min(e.confidence for e in estimates[locked]) > 0.8
    assert all(e.mode == WALKING for e in estimates[locked])
    assert estimates[-1].stride_time == pytest.approx(GAIT.stride_time / speed, rel=0.07)
    assert (estimates[-1].right - estimates[-1].left) % 1.0 == pytest.approx(GAIT.phase_offset_right)


@pytest.mark.parametrize("offset_deg", [-12.0, 12.0])
def test_a_shifted_encoder_zero_is_learnt(offset_deg: float) -> None:
    found, estimates = errors(PhaseEstimator(GAIT), offset=math.radians(offset_deg), seconds=20.0, noise_deg=0.5)
    assert np.max(found[-500:]) < 0.03
    assert estimates[-1].confidence > 0.8


def test_hips_that_move_otherwise_give_no_confidence() -> None:
    """Both legs together, as in jumping or squatting, is not this wearer's walk."""
    estimator = PhaseEstimator(GAIT)
    confidence = [estimator.step(s, (q[0], q[0]), (qd[0], qd[0])).confidence for s, q, qd, _ in walk(GAIT, 8.0)]
    assert max(confidence) < 0.5


def test_follows_a_sudden_change_of_cadence() -> None:
    estimator = PhaseEstimator(GAIT)
    errors(estimator, seconds=6.0, noise_deg=0.5)
    last = 7_000_000_000
    found = []
    for stamp, q, qd, phase in walk(GAIT, 6.0, speed=1.2, noise_deg=0.5, start=0.3):
        estimate = estimator.step(stamp + last, q, qd)
        found.append(abs((estimate.left - phase + 0.5) % 1.0 - 0.5))
    assert np.max(found[200:]) < 0.03


def test_standing_has_no_confidence_and_walking_is_found_again() -> None:
    estimator = PhaseEstimator(GAIT)
    errors(estimator, seconds=4.0)
    modes = []
    for k in range(300):
        modes.append(estimator.step(5_000_000_000 + k * PERIOD_NS, (0.05, 0.05), (0.0, 0.0)))
    assert modes[-1].mode == STANDING and modes[-1].confidence == 0.0 and modes[-1].rate == 0.0
    assert [m.mode for m in modes].index(STANDING) < 200
    resumed = [estimator.step(s + 8_000_000_000, q, qd) for s, q, qd, _ in walk(GAIT, 3.0, start=0.6)]
    assert resumed[-1].mode == WALKING and resumed[-1].confidence > 0.8


def test_old_samples_change_nothing() -> None:
    estimator = PhaseEstimator(GAIT)
    errors(estimator, seconds=4.0)
    stamp = 1_000_000_000 + 400 * PERIOD_NS
    before = estimator.step(stamp, (0.1, 0.2), (0.0, 0.0))
    assert estimator.step(stamp - PERIOD_NS, (0.9, 0.2), (3.0, 0.0)) == before
    assert estimator.step(stamp, (0.9, 0.2), (3.0, 0.0)) == before


@pytest.mark.parametrize("bad", [((math.nan, 0.2), (0.0, 0.0)), ((0.1, 0.2), (0.0, math.inf))])
def test_without_numbers_the_phase_goes_on_and_confidence_falls(bad: tuple[tuple[float, float], ...]) -> None:
    estimator = PhaseEstimator(GAIT)
    samples = list(walk(GAIT, 5.0))
    for stamp, q, qd, _ in samples[:400]:
        before = estimator.step(stamp, q, qd)
    for stamp, _, _, _ in samples[400:420]:
        blind = estimator.step(stamp, *bad)
    expected = (before.left + 0.2 * before.rate) % 1.0
    assert blind.left == pytest.approx(expected, abs=1e-9) and blind.rate == before.rate
    assert blind.confidence == pytest.approx(before.confidence * math.exp(-0.2 / 0.2), rel=1e-6)
    for stamp, q, qd, _ in samples[420:]:
        again = estimator.step(stamp, q, qd)
    assert again.confidence > 0.8


def test_asymmetric_wearer() -> None:
    """A stiff left hip: 40 % of the right one's excursion, and a late right leg."""
    curves = dict(GAIT.curves)
    curves["hip_flexion_l"] = 0.4 * curves["hip_flexion_l"]
    gait = dataclasses.replace(GAIT, curves=curves, phase_offset_right=0.55)
    found, _ = errors(PhaseEstimator(gait), gait=gait, seconds=10.0, noise_deg=0.5, speed=0.9)
    assert np.max(found[300:]) < 0.03


def test_same_samples_same_estimates() -> None:
    runs = [errors(PhaseEstimator(GAIT), seconds=4.0, noise_deg=0.5, seed=9)[1] for _ in range(2)]
    assert runs[0] == runs[1]


def test_fast_enough_for_the_tick() -> None:
    estimator, samples = PhaseEstimator(GAIT), list(walk(GAIT, 4.0))
    begin = time.perf_counter()
    for stamp, q, qd, _ in samples:
        estimator.step(stamp, q, qd)
    assert (time.perf_counter() - begin) / len(samples) < 0.2e-3


def test_periodic_curve_is_closed_and_knows_its_slope() -> None:
    curve = PeriodicCurve(3.0 + np.sin(2 * np.pi * PHASE) + 0.1 * PHASE)
    assert curve.mean == pytest.approx(3.05, abs=0.01)
    assert curve.at(0.9999)[0] == pytest.approx(curve.at(0.0)[0], abs=1e-2)
    pure = PeriodicCurve(np.sin(2 * np.pi * PHASE))
    for phase in (0.013, 0.4, 0.77, 1.4, -0.3):
        assert pure.at(phase) == pytest.approx(
            (math.sin(2 * math.pi * phase), 2 * math.pi * math.cos(2 * math.pi * phase)), abs=2e-3
        )
