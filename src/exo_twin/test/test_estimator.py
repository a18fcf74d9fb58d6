from __future__ import annotations

import dataclasses
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
from estimator_messages import emg, gyro, joints, legs
from twin_fakes import PERIOD_NS, walk, write_twin

from exo_common.errors import ExoError
from exo_emg.processing import ChainConfig, group_delay_s
from exo_twin.calibration import EmgChannel, TwinCalibration
from exo_twin.estimator import Estimator, TwinEstimate
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.live.emg import ENVELOPE_DELAY_S
from exo_twin.live.samples import (
    ENVELOPE,
    IMUS,
    JOINT_STATES,
    KEYPOINTS,
    EnvelopeSample,
    ImuSample,
    JointSample,
    KeypointSample,
    Newest,
    envelope_sample,
    imu_sample,
    joint_sample,
    keypoint_sample,
)
from exo_twin.lockstep import TWIN_STATE, rerun
from exo_twin.nodes.estimator import StateMessage
from exo_twin.periodic import PeriodicCurve
from exo_twin.planar_muscles import MUSCLES
from exo_twin.twin import Twin

DOMAIN = 62
HIP_L, KNEE_L, HIP_R, ANKLE_R = 0, 1, 3, 5


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return Twin.load(write_twin(tmp_path_factory.mktemp("twins") / "twin", moments=True))


def without_moments(twin: Twin) -> Twin:
    return dataclasses.replace(twin, gait=dataclasses.replace(twin.gait, moment_curves={}, moment_curves_sd={}))


def step(estimator: Estimator, stamp: int, q=(0.0, 0.0), qd=(0.0, 0.0), **others) -> TwinEstimate:
    return estimator.step(stamp, JointSample(stamp, q, qd), **others)


def recording(twin: Twin, seconds: float = 3.0) -> list[tuple[str, object]]:
    """Inputs at their own rates, some dropped, and what an estimator made of the newest ones."""
    estimator, newest, messages = Estimator(twin), Newest(), []
    convert = {ENVELOPE: envelope_sample, KEYPOINTS: keypoint_sample, **dict.fromkeys(IMUS, imu_sample)}

    def hear(topic: str, message: object) -> None:
        messages.append((topic, message))
        newest.offer(topic, convert[topic](message))

    for k, (stamp, q, qd, _) in enumerate(walk(twin.gait, seconds, noise_deg=0.5, seed=2)):
        if k % 3 == 0:
            hear(ENVELOPE, emg(stamp - 4_000_000, 0.1 + 0.05 * math.sin(k), MUSCLES[k % 18]))
            hear(KEYPOINTS, legs(stamp - 45_000_000, 0.1 + 0.1 * math.sin(k)))
        if k > 20:
            for topic, rate in zip(IMUS, (0.1 + 0.01 * math.sin(k), -qd[0] + 0.1, -qd[1] + 0.1), strict=True):
                hear(topic, gyro(stamp - 1_000_000, rate))
        message = joints(stamp, q, qd)
        silent = 150 <= k < 170  # encoders: the IMUs trigger
        if not silent:
            messages.append((JOINT_STATES, message))
            newest.offer(JOINT_STATES, joint_sample(message))
        if k % 7 == 6:
            continue  # a control subscriber may skip a sample; the recorder has it all the same
        now = stamp - 1_000_000 if silent else stamp
        estimate = estimator.step(
            now, newest.get(JOINT_STATES), newest.get(ENVELOPE), newest.imus(), newest.get(KEYPOINTS)
        )
        messages.append((TWIN_STATE, StateMessage(estimator.muscles).filled(estimate)))
    return messages


def test_walking_wearer_is_followed(twin: Twin) -> None:
    estimator = Estimator(twin)
    knee = PeriodicCurve(twin.gait.curves["knee_angle_l"])
    hip_error, knee_error, events = [], [], []
    for stamp, q, qd, phase in walk(twin.gait, 6.0, noise_deg=0.5):
        estimate = step(estimator, stamp, q, qd)
        hip_error.append(estimate.position[HIP_L] - q[0])
        knee_error.append(estimate.position[KNEE_L] - knee.at(phase)[0])
        events += estimate.events
    assert np.sqrt(np.mean(np.square(hip_error[300:]))) < math.radians(0.5)
    assert np.sqrt(np.mean(np.square(knee_error[300:]))) < math.radians(3.0)
    known = twin.gait.curves_sd["knee_angle_l"][0]
    assert known < estimate.position_sd[KNEE_L] < 0.2
    assert 4 <= events.count("heel_strike_l") <= 6 and 4 <= events.count("foot_off_r") <= 6


@pytest.mark.parametrize("side", [0, 1])
def test_lifting_one_thigh_moves_that_hip_alone(twin: Twin, side: int) -> None:
    estimator = Estimator(twin)
    for k in range(50):
        angle = [0.0, 0.0]
        angle[side] = 0.01 * k
        estimate = step(estimator, k * PERIOD_NS + 1, (angle[0], angle[1]))
    row, other = (HIP_L, HIP_R) if side == 0 else (HIP_R, HIP_L)
    assert estimate.position[row] > 0.4
    assert estimate.position[other] == 0.0


def walked(twin: Twin, **others) -> list[TwinEstimate]:
    estimator = Estimator(twin)
    return [step(estimator, stamp, q, qd, **others) for stamp, q, qd, _ in walk(twin.gait, 6.0)][300:]


def test_muscles_give_the_wearers_moments_where_they_are_known(twin: Twin) -> None:
    wanted = PeriodicCurve(twin.gait.moment_curves["ankle_angle_r"])
    told, blind = walked(twin), walked(without_moments(twin))
    error = [e.moment[ANKLE_R] - wanted.at(e.phase.right)[0] for e in told]
    assert np.sqrt(np.mean(np.square(error))) < 5.0 < wanted.rms
    peak = int(np.argmin([e.moment[ANKLE_R] for e in told]))
    soleus = Estimator(twin).muscles.index("soleus_r")
    assert told[peak].activation[soleus] > 0.1 > blind[peak].activation[soleus]
    assert told[peak].moment_sd[ANKLE_R] < 0.2 * blind[peak].moment_sd[ANKLE_R]
    assert "holds no joint moments" in Estimator(without_moments(twin)).notes[-1]
    standing = step(Estimator(twin), PERIOD_NS)
    assert standing.moment_sd[ANKLE_R] > 5.0 * told[peak].moment_sd[ANKLE_R]


def test_a_model_that_counts_knee_flexion_negative_gives_the_same(twin: Twin) -> None:
    usual, paths = walked(twin), MusclePaths.from_arrays(twin.model)
    knees = [paths.coordinates.index(name) for name in ("knee_angle_l", "knee_angle_r")]
    mirrored = np.ones(6)
    mirrored[knees] = -1.0
    model = {
        **twin.model,
        "tree_coordinates": np.array(paths.coordinates),
        "tree_default": np.zeros(6),
        "tree_lower": np.where(mirrored < 0.0, -2.0, -1.0),
        "tree_upper": np.where(mirrored < 0.0, 0.2, 1.0),
    }
    # The second, first and only variable of a muscle: the sign of the knee's monomial turns.
    coefficients = paths.coefficients.copy()
    for muscle, crossed in enumerate(paths.crosses):
        own = np.flatnonzero(crossed)
        places = [1] if len(own) == 1 else [2, 1]
        for coordinate, place in zip(own, places, strict=True):
            coefficients[muscle, place] *= mirrored[coordinate]
    model |= {"paths_coefficients": coefficients, "paths_arm_coefficients": coefficients}
    for one, other in zip(usual, walked(dataclasses.replace(twin, model=model)), strict=True):
        assert np.allclose(one.activation, other.activation, atol=1e-6)
        assert np.allclose(one.moment, other.moment, atol=1e-6)


def test_what_the_exo_gives_the_muscles_need_not(twin: Twin) -> None:
    def hip(torque: float) -> TwinEstimate:
        estimator = Estimator(twin)
        for stamp, q, qd, _ in walk(twin.gait, 6.0):
            estimate = estimator.step(stamp, JointSample(stamp, q, qd, (math.nan, torque)))
        return estimate

    without, helped = hip(0.0), hip(10.0)
    assert helped.moment[HIP_R] == pytest.approx(without.moment[HIP_R] - 10.0, abs=1.5)
    assert helped.moment[HIP_L] == without.moment[HIP_L]


@pytest.mark.parametrize("torque", [1e4, -1e300, math.inf])
def test_an_impossible_torque_of_the_exo_leaves_that_hips_moment_open(twin: Twin, torque: float) -> None:
    def last(torque: float) -> TwinEstimate:
        estimator = Estimator(twin)
        for stamp, q, qd, _ in walk(twin.gait, 3.0):
            estimate = estimator.step(stamp, JointSample(stamp, q, qd, (math.nan, torque)))
        return estimate

    without, told = last(0.0), last(torque)
    assert not without.complaints and "reports a torque of over 200 Nm" in told.complaints[0]
    assert told.moment_sd[HIP_R] > 2.0 * without.moment_sd[HIP_R] and np.abs(told.moment).max() < 150.0
    assert told.moment[HIP_L] == without.moment[HIP_L]


def test_activations_follow_valid_channels_and_fall_back_without_them(twin: Twin) -> None:
    names = Estimator(twin).muscles
    envelope = EnvelopeSample(
        PERIOD_NS, {"gluteus_maximus_l": 0.5, "HFL_l": math.nan, "iliopsoas_r": 3.0}, ("soleus_l",)
    )
    estimate = step(Estimator(twin), PERIOD_NS, envelope=envelope)
    by_name = dict(zip(names, zip(estimate.activation, estimate.activation_sd, strict=True), strict=True))
    # Effort pulls a little against what is measured with a standard deviation of 0.1.
    assert by_name["glmax1_l"] == pytest.approx((0.45, 0.095), abs=0.005)
    assert by_name["psoas_r"] == pytest.approx((0.9, 0.095), abs=0.005)
    # One whose EMG another muscle lends it follows less and is less sure, but surer than without.
    assert by_name["recfem_l"] == pytest.approx((0.367, 0.136), abs=0.005)
    assert by_name["psoas_l"] == by_name["soleus_l"] == pytest.approx((0.01, 0.207), abs=0.001)
    assert estimate.moment[HIP_L] < 0.0 < estimate.moment[HIP_R]
    assert estimate.complaints[0] == "EMG of soleus_l is marked invalid and not used"
    assert estimate.complaints[1].startswith("EMG of HFL_l tells no numbers") and len(estimate.complaints) == 2
    none = step(Estimator(twin), PERIOD_NS, envelope=EnvelopeSample(PERIOD_NS, {}, ("soleus_l", "soleus_r")))
    assert none.complaints == ("all EMG channels are marked invalid and not used",)
    late = step(Estimator(twin), 30 * PERIOD_NS, envelope=envelope)
    assert np.all(late.activation == 0.01) and "EMG is silent" in late.complaints[0]


def test_emg_in_another_unit_is_named_and_left_out_until_it_is_possible_again(twin: Twin) -> None:
    estimator = Estimator(twin)
    soleus, tibialis = (estimator.muscles.index(name) for name in ("soleus_r", "tibant_r"))
    for k, level in enumerate((0.2, 350.0, 0.2), start=1):
        estimate = step(
            estimator, k * PERIOD_NS, envelope=EnvelopeSample(k * PERIOD_NS, {"soleus_r": level, "TA_r": 0.2})
        )
        if level > 1.0:
            assert "EMG of soleus_r tells no numbers, or over 3 times its maximum" in estimate.complaints[0]
            assert estimate.activation_sd[soleus] > 2.0 * estimate.activation_sd[tibialis]
    assert estimate.complaints == () and estimate.activation[soleus] == pytest.approx(0.18, abs=0.01)


def test_emg_that_is_zero_is_named_and_left_out(twin: Twin) -> None:
    estimator = Estimator(twin)
    for k in range(1, 402):
        envelope = EnvelopeSample(k * PERIOD_NS, {"soleus_r": 0.0, "TA_r": 0.02})
        estimate = step(estimator, k * PERIOD_NS, envelope=envelope)
    spread = dict(zip(estimator.muscles, estimate.activation_sd, strict=True))
    assert estimate.complaints == ("EMG of soleus_r is zero; its muscles are estimated without it",)
    assert spread["soleus_r"] == pytest.approx(0.207, abs=0.001) and spread["tibant_r"] == pytest.approx(
        0.095, abs=0.005
    )


def test_channels_that_nobody_knows_are_named_and_the_rest_goes_on(twin: Twin) -> None:
    envelope = EnvelopeSample(PERIOD_NS, {"soleus_r": 0.4, "left_elbow": 0.4, "sartorius_r": 0.1})
    estimate = step(Estimator(twin), PERIOD_NS, envelope=envelope)
    assert len(estimate.complaints) == 2
    assert any("sartorius_r" in words for words in estimate.complaints)
    assert estimate.activation[Estimator(twin).muscles.index("soleus_r")] > 0.3


def test_calibration_sets_gain_shape_delay_and_muscles(twin: Twin) -> None:
    channel = EmgChannel(("soleus_r",), gain=0.5, delay_s=0.07, shape=-2.0)
    calibration = TwinCalibration.identity("w1").with_emg({"odd": channel}, "a test")
    estimator = Estimator(twin, calibration)
    found = []
    for k in range(1, 21):
        envelope = EnvelopeSample(k * PERIOD_NS, {"odd": 0.8 if k > 10 else 0.2})
        found.append(step(estimator, k * PERIOD_NS, envelope=envelope).activation[estimator.muscles.index("soleus_r")])
    effort = 100.0 / (100.0 + 1.0 / 0.3**2)
    high = effort * math.expm1(-2.0 * 0.4) / math.expm1(-2.0)
    # 40 of the 70 ms the envelope is late already.
    low = effort * math.expm1(-2.0 * 0.1) / math.expm1(-2.0)
    assert found[4:13] == pytest.approx([low] * 9) and found[13] > 2.0 * low
    # Activation lags the drive by some 10 ms.
    assert found[13] < 0.9 * high and found[19] == pytest.approx(high, rel=0.02)


def test_what_the_envelope_is_late_already_is_what_the_emg_chain_says() -> None:
    assert group_delay_s(ChainConfig()) == pytest.approx(ENVELOPE_DELAY_S, abs=0.003)


def test_a_calibration_for_muscles_that_the_model_lacks_is_named(twin: Twin) -> None:
    calibration = TwinCalibration.identity("w1").with_emg({"soleus_r": EmgChannel(("elbow_r",))}, "a test")
    estimate = step(Estimator(twin, calibration), PERIOD_NS, envelope=EnvelopeSample(PERIOD_NS, {"soleus_r": 0.5}))
    assert "gives EMG channel 'soleus_r' to elbow_r" in estimate.complaints[0]
    assert np.all(estimate.activation == 0.01)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_no_input_makes_the_estimate_anything_but_finite(twin: Twin, bad: float) -> None:
    estimator = Estimator(twin)
    samples = [((bad, 0.1), (0.0, 0.0)), ((0.1, 0.1), (0.0, bad)), ((0.1, 0.1), (0.0, 0.0)), ((bad, bad), (bad, bad))]
    for k, (q, qd) in enumerate(samples):
        stamp = k * PERIOD_NS
        e = estimator.step(
            stamp,
            JointSample(stamp, q, qd, (bad, bad)),
            EnvelopeSample(stamp, {"GLU_l": bad}),
            {topic: ImuSample(stamp, (bad, bad, bad), (bad, bad, bad)) for topic in IMUS},
            KeypointSample(stamp, {"LHip": (bad, bad, bad), "LKnee": (0.0, 0.0, 0.0)}, True),
        )
        for name in (
            "position",
            "velocity",
            "moment",
            "position_sd",
            "moment_sd",
            "activation",
            "activation_sd",
            "force",
        ):
            assert np.all(np.isfinite(getattr(e, name))), name
    assert e.position_sd[HIP_L] == 0.3
    assert any("IMU of pelvis tells no numbers" in words for words in e.complaints)


def test_keypoints_move_the_knees(twin: Twin) -> None:
    def knee(bend: float) -> TwinEstimate:
        estimator = Estimator(twin)
        for k in range(50):
            keypoints = keypoint_sample(legs((k - 4) * PERIOD_NS + 1, bend)) if k > 3 else None
            estimate = step(estimator, k * PERIOD_NS + 1, keypoints=keypoints)
        return estimate

    straight, bent = knee(0.1), knee(0.4)
    assert bent.position[KNEE_L] - straight.position[KNEE_L] > 0.4
    assert bent.position_sd[KNEE_L] < 0.7 * step(Estimator(twin), PERIOD_NS).position_sd[KNEE_L]


def test_a_clock_that_was_set_back_starts_anew(twin: Twin) -> None:
    samples = list(walk(twin.gait, 4.0))
    fresh, used = Estimator(twin), Estimator(twin)
    for stamp, q, qd, _ in samples:
        step(used, stamp + 10**12, q, qd)
    newest = Newest()
    assert newest.offer(JOINT_STATES, JointSample(10**12, (0.0, 0.0), (0.0, 0.0)))
    assert not newest.offer(JOINT_STATES, JointSample(10**12 - PERIOD_NS, (0.0, 0.0), (0.0, 0.0)))
    assert newest.late == {JOINT_STATES: 1}
    assert newest.offer(JOINT_STATES, JointSample(1, (0.0, 0.0), (0.0, 0.0)))
    for stamp, q, qd, _ in samples:
        assert np.array_equal(step(used, stamp, q, qd).position, step(fresh, stamp, q, qd).position)


def test_a_twin_without_leg_muscles_or_with_anothers_calibration_is_refused(twin: Twin) -> None:
    old = {name: array for name, array in twin.model.items() if not name.startswith(("paths_", "muscle_model_"))}
    with pytest.raises(ExoError, match="make the twin again"):
        Estimator(dataclasses.replace(twin, model=old))
    assert "no calibration" in Estimator(twin).notes[0]
    calibration = twin.folder / "calibration.yaml"
    TwinCalibration.identity("somebody").save(calibration)
    try:
        with pytest.raises(ExoError, match="belongs to wearer 'somebody'"):
            Estimator(twin)
    finally:
        calibration.unlink()


def test_a_recording_is_reproduced_bit_by_bit(twin: Twin) -> None:
    messages = recording(twin)
    result = rerun(twin, messages)
    assert result.identical and result.max_difference == 0.0 and result.compared == 258
    assert "identical" in result.sentence


def test_a_changed_recording_is_noticed(twin: Twin) -> None:
    messages = recording(twin)
    states = [m for t, m in messages if t == TWIN_STATE]
    states[100].activation[3] += 1e-12
    result = rerun(twin, messages)
    assert not result.identical and 0.0 < result.max_difference < 1e-11
    states[101].events = ["heel_strike_l", "heel_strike_r"]
    assert rerun(twin, messages).max_difference == math.inf


def test_a_recording_of_an_earlier_version_is_refused(twin: Twin) -> None:
    old = SimpleNamespace(sequence=0, inputs=[], input_stamps=[])
    assert "earlier version" in rerun(twin, [(TWIN_STATE, old)]).sentence


def test_states_cut_off_by_the_end_of_the_recording_are_left_out_and_said(twin: Twin) -> None:
    messages = recording(twin)
    last = max(k for k, (topic, _) in enumerate(messages) if topic == IMUS[1])
    result = rerun(twin, [pair for k, pair in enumerate(messages) if k != last])
    assert result.identical and result.compared == 257
    assert "the last 1 were cut off" in result.sentence


@pytest.mark.parametrize(
    ("keep", "compared", "words"),
    [
        (lambda t, m, k: t != TWIN_STATE, 0, "holds no /twin/state"),
        (lambda t, m, k: t != TWIN_STATE or m.sequence > 4, 0, "begins at sequence 5"),
        (lambda t, m, k: t != TWIN_STATE or m.sequence != 40, 40, "state 40 is missing"),
        (lambda t, m, k: t != IMUS[0], 18, "message of /imu/pelvis behind state 18"),
        (lambda t, m, k: t != KEYPOINTS, 0, "message of /capture/keypoints behind state 0"),
        (lambda t, m, k: t != ENVELOPE or k < 300, None, "message of /emg/envelope behind state"),
    ],
)
def test_what_a_recording_lacks_is_said(twin: Twin, keep, compared: int | None, words: str) -> None:
    messages = [(t, m) for k, (t, m) in enumerate(recording(twin)) if keep(t, m, k)]
    result = rerun(twin, messages)
    assert words in result.sentence and not result.identical
    if compared is not None:
        assert result.compared == compared


def test_fast_enough_for_the_tick(twin: Twin) -> None:
    estimator, samples = Estimator(twin), list(walk(twin.gait, 3.0))
    begin = time.process_time()
    for stamp, q, qd, _ in samples:
        step(estimator, stamp, q, qd)
    assert (time.process_time() - begin) / len(samples) < 5e-3
