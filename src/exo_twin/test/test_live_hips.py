from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from twin_fakes import PERIOD_NS, make_gait, walk

from exo_common.frames import HIPS
from exo_twin.calibration import TwinCalibration
from exo_twin.live.hips import IMU_SD, UNKNOWN_HIP_SD, HipFusion, HipState
from exo_twin.live.imu import GRAVITY
from exo_twin.live.samples import IMUS, NO_PAIR, SEGMENTS, ImuSample, JointSample

GAIT = make_gait()
TILT = -0.12  # of the pelvis, rad
CALIBRATED = dataclasses.replace(TwinCalibration.identity("w"), encoder_zero_sd=dict.fromkeys(HIPS, 0.03))
SECONDS = 20.0


def segment(stamp: int, angle: float, rate: float, rng: np.random.Generator, bias: float = 0.0) -> ImuSample:
    """An IMU on a segment that points `angle` above the horizon, in a walk's accelerations and noise."""
    swing = 3.0 * math.sin(2e-9 * math.pi * stamp / 0.575)
    force = np.array([GRAVITY * math.sin(angle) + swing, 0.0, GRAVITY * math.cos(angle) + 0.5 * swing])
    force += 0.05 * rng.normal(size=3)
    return ImuSample(stamp, (0.0, -rate - bias + 0.005 * rng.normal(), 0.0), tuple(force))


def run(spoil, calibration: TwinCalibration = CALIBRATED, turn: np.ndarray | None = None):
    """Walk with everything; `spoil(second, joints, imus)` breaks it. Gives (second, truth, state) of every tick."""
    rng, fusion, found = np.random.default_rng(1), HipFusion(calibration), []
    for k, (stamp, q, qd, _) in enumerate(walk(GAIT, SECONDS)):
        imus = {IMUS[0]: segment(stamp, TILT, 0.0, rng)}
        for topic, angle, rate in zip(IMUS[1:], q, qd, strict=True):
            imus[topic] = segment(stamp, angle + TILT, rate, rng, bias=0.01)
        if turn is not None:
            imus = {t: ImuSample(s.stamp_ns, tuple(turn.T @ s.rate), tuple(turn.T @ s.force)) for t, s in imus.items()}
        joints, imus = spoil(k / 100.0, JointSample(stamp, q, qd), imus)
        found.append((k / 100.0, q, fusion.step(stamp, joints, imus)))
    return found


def error(found: list[tuple[float, tuple[float, float], HipState]], since: float, side: int = 0) -> float:
    return float(np.sqrt(np.mean([(s.angle[side] - q[side]) ** 2 for t, q, s in found if t >= since])))


def intact(t, joints, imus):
    return joints, imus


def test_encoders_and_imus_together() -> None:
    found = run(intact)
    assert error(found, 0.0) < math.radians(0.5)
    assert found[-1][2].complaints == () and found[-1][2].sd[0] == pytest.approx(math.hypot(0.02, 0.03))


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (lambda t, j, m: (None, m), "the encoders are silent"),
        (lambda t, j, m: (dataclasses.replace(j, position=NO_PAIR), m), "encoder of the left hip tells no number"),
        (lambda t, j, m: (dataclasses.replace(j, position=(1e6, 0.0)), m), "impossible"),
        (lambda t, j, m: (dataclasses.replace(j, position=(0.2, 0.2), velocity=(0.0, 0.0)), m), "or hangs"),
    ],
)
def test_a_hip_without_its_encoder_goes_on_with_the_imus(lose, words: str) -> None:
    found = run(lambda t, j, m: lose(t, j, m) if t >= 10.0 else (j, m))
    before, after = found[999][2], found[-1][2]
    assert any(words in sentence for sentence in after.complaints), after.complaints
    assert after.sd[0] > 1.5 * before.sd[0] and np.isfinite(after.told_angle).all()
    # A frozen encoder is noticed after a third of a second.
    assert error(found, 10.5) < IMU_SD, "where gravity, gyro bias and walking's accelerations pull it"


def test_a_pelvis_without_imu_is_taken_as_still() -> None:
    found = run(lambda t, j, m: (None, {k: v for k, v in m.items() if k != IMUS[0]}) if t >= 10.0 else (j, m))
    assert error(found, 10.0) < 0.15 and found[-1][2].sd[0] > 0.1
    assert any("no IMU of pelvis" in sentence for sentence in found[-1][2].complaints)


def test_a_hip_that_nothing_tells_stays_and_says_so() -> None:
    found = run(lambda t, j, m: (None, {}) if t >= 10.0 else (j, m))
    last, then = found[-1][2], found[1001][2]
    assert last.sd == (UNKNOWN_HIP_SD, UNKNOWN_HIP_SD) and np.isnan(last.told_angle).all()
    assert last.angle == then.angle and abs(last.rate[0]) < 1e-6


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda s: dataclasses.replace(s, stamp_ns=s.stamp_ns - 500_000_000), "is silent"),
        (lambda s: dataclasses.replace(s, rate=(math.nan,) * 3), "tells no numbers"),
        (lambda s: ImuSample(s.stamp_ns, (0.0, 0.1, 0.0), (0.0, 0.0, GRAVITY)), "hangs"),
    ],
)
def test_an_imu_that_fails_is_left_out_and_named(broken, words: str) -> None:
    def spoil(t, joints, imus):
        return joints, {**imus, IMUS[1]: broken(imus[IMUS[1]])} if t >= 10.0 else imus

    found = run(spoil)
    before, after = found[999][2], found[-1][2]
    assert error(found, 10.0) < math.radians(0.5)
    assert after.sd[0] > before.sd[0] and after.sd[1] == before.sd[1]
    assert [words in sentence and "thigh_l" in sentence for sentence in after.complaints] == [True]


def test_calibration_takes_off_zeros_and_mounting() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a sensor strapped on sideways
    calibration = dataclasses.replace(
        CALIBRATED, encoder_zero=dict.fromkeys(HIPS, 0.2), imu_rotation=dict.fromkeys(SEGMENTS, turn)
    )

    def spoil(t, joints, imus):
        shifted = dataclasses.replace(joints, position=(joints.position[0] + 0.2, joints.position[1] + 0.2))
        return (shifted if t < 10.0 else None), imus

    found = run(spoil, calibration, turn)
    assert error(found[:1000], 0.0) < math.radians(0.5) and error(found, 10.0) < IMU_SD
    assert found[999][2].complaints == ()
    wrong = run(spoil, CALIBRATED, turn)
    assert error(wrong[:1000], 0.0) > 0.19


def test_what_the_imus_are_off_by_is_learned_while_the_encoder_works() -> None:
    def spoil(t, joints, imus):
        x, y, z = imus[IMUS[1]].force
        c, s = math.cos(0.2), math.sin(0.2)  # the left thigh's sensor points 0.2 rad too high
        tilted = dataclasses.replace(imus[IMUS[1]], force=(c * x + s * z, y, c * z - s * x))
        return (joints if t < 10.0 else None), {**imus, IMUS[1]: tilted}

    assert error(run(spoil), 10.0) < IMU_SD
    never = run(lambda t, j, m: (None, spoil(t, j, m)[1]))
    assert error(never, 10.0) > 0.15 and never[-1][2].sd[0] > 0.25


def test_a_slipping_mounting_does_not_spoil_the_rate() -> None:
    fusion = HipFusion(CALIBRATED)
    imus = {topic: ImuSample(PERIOD_NS, (0.0, rate, 0.0)) for topic, rate in zip(IMUS, (0.2, -1.0, 1.2), strict=True)}
    state = fusion.step(PERIOD_NS, JointSample(PERIOD_NS, (0.0, 0.0), (1.0, 1.0)), imus)
    # Flexion turns the thigh about -y: 1.0 + 0.2 agrees with the left encoder's 1.0, -1.2 + 0.2 not with the right's.
    assert state.rate == pytest.approx((1.1, 1.0))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda j: dataclasses.replace(j, position=(j.position[0] + 0.5, j.position[1] + 0.5)),
        lambda j: dataclasses.replace(j, position=j.position[::-1], velocity=j.velocity[::-1]),
    ],
    ids=["slipped", "exchanged"],
)
def test_an_encoder_that_contradicts_the_imus_is_named_and_less_sure(spoil) -> None:
    found = run(lambda t, j, m: (spoil(j) if 10.0 <= t < 12.0 else j, m))
    sure = found[999][2].sd[0]
    spoilt = [state for t, _, state in found if 10.0 <= t < 12.0]
    assert any(
        "encoder of the left hip contradicts the IMUs" in state.complaints[0] for state in spoilt if state.complaints
    )
    assert UNKNOWN_HIP_SD >= max(state.sd[0] for state in spoilt) > 5.0 * sure
    assert found[-1][2].complaints == () and found[-1][2].sd[0] == sure, "it is over"
    assert not any(state.complaints for t, _, state in found if t < 10.0)


def test_imus_that_come_back_get_time_to_settle_before_they_contradict() -> None:
    def spoil(t, joints, imus):
        if 8.0 <= t < 9.0:
            return joints, {}
        x, y, z = imus[IMUS[1]].force  # back in the midst of an acceleration
        return joints, {**imus, IMUS[1]: dataclasses.replace(imus[IMUS[1]], force=(x + 8.0 * (9.0 <= t < 9.1), y, z))}

    assert not any("contradicts" in sentence for _, _, state in run(spoil) for sentence in state.complaints)
