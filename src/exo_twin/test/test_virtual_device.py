"""The virtual device without ROS: sensors, guard and the drive of the muscles in lockstep."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic_twin

from exo_emg.drivers.virtual.drive import Drive, State
from exo_emg.drivers.virtual.driver import VirtualConfig
from exo_emg.muscles import GROUP_CHANNELS
from exo_emg.processing import ChainConfig, EnvelopeStream, group_delay_s
from exo_emg.synthesis import EmgSynthesizer
from exo_safety.command_guard import COMMAND_AGE_MAX_S, EMERGENCY_RAMP_S, Command
from exo_twin.forward.pacing import Pacer
from exo_twin.forward.tracking import ACTIVATION_S
from exo_twin.forward.virtual_device import PERIOD_NS, DeviceConfig, DeviceSample, VirtualDevice
from exo_twin.planar_muscles import MUSCLES
from exo_twin.twin import Twin

START = 1_000_000_000
# How long the supervisor takes to answer a sample.
ANSWER_NS = 3_000_000


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Twin:
    return Twin.load(synthetic_twin.write(tmp_path_factory.mktemp("twins") / "twin"))


class Bench:
    """A device and a supervisor that answers every sample."""

    def __init__(self, twin: Twin, **config: object) -> None:
        self.device = VirtualDevice(twin, DeviceConfig(**config))  # type: ignore[arg-type]
        self.periods = 0

    def run(self, periods: int, torque: tuple[float, float] | None = None, session: int = 5) -> list[DeviceSample]:
        samples = []
        for _ in range(periods):
            self.periods += 1
            samples.append(self.device.run(START + self.periods * PERIOD_NS))
            if torque is not None:
                stamp = samples[-1].stamp_ns
                self.device.offer(Command(stamp, self.periods, session, torque), stamp + ANSWER_NS)
        return samples


def test_sensors_agree_with_the_truth(twin: Twin) -> None:
    bench = Bench(twin)
    samples = bench.run(200)
    hips = bench.device.walker.hips
    seen = np.array([s.position for s in samples])
    true = np.array([s.truth.q[hips] for s in samples])
    assert 0.0 < np.std(seen - true) < 1e-3
    rate = np.array([s.truth.qd[hips] for s in samples])
    np.testing.assert_allclose(np.array([s.velocity for s in samples]), rate, atol=0.2)
    # The thigh IMU turns about its left axis with hip and pelvis; flexion turns the front up: negative about y.
    gyro = np.array([s.imus["imu_thigh_l"].angular_velocity[1] for s in samples])
    tilt = np.array([s.truth.qd[bench.device.walker.root[2]] for s in samples])
    np.testing.assert_allclose(gyro, -(rate[:, 0] + tilt), atol=0.05)


def test_a_standing_imu_feels_gravity_upwards(twin: Twin) -> None:
    sample = Bench(twin, motion="stand").run(100)[-1]
    for reading in sample.imus.values():
        np.testing.assert_allclose(reading.acceleration, [0.0, 0.0, 9.81], atol=0.4)
        np.testing.assert_allclose(np.abs(reading.orientation_xyzw), [0.0, 0.0, 0.0, 1.0], atol=0.05)


def test_same_seed_same_device(twin: Twin) -> None:
    a, b, c = (Bench(twin, seed=seed).run(30, (4.0, -4.0))[-1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.position, b.position)
    assert not np.array_equal(a.position, c.position)


def test_commands_become_torque_on_their_own_side(twin: Twin) -> None:
    sample = Bench(twin, motion="stand").run(50, (4.0, -2.0))[-1]
    np.testing.assert_allclose(sample.torque_nm, [4.0, -2.0], atol=0.01)
    np.testing.assert_allclose(sample.truth.exo_nm, [4.0, -2.0], atol=0.01)
    assert sample.arm_session == 5 and sample.refused == 0 and sample.fault == ""


@pytest.mark.parametrize(("arrival_ms", "steps"), [(1, 10), (8, 3), (10, 1), (11, 0)])
def test_a_command_acts_from_its_arrival_on(twin: Twin, arrival_ms: int, steps: int) -> None:
    bench = Bench(twin, motion="stand", torque_bandwidth_hz=200.0)
    stamp = bench.run(1)[0].stamp_ns
    bench.device.offer(Command(stamp, 1, 5, (4.0, 4.0)), stamp + arrival_ms * 1_000_000)
    torque = bench.run(1)[0].torque_nm[0]
    risen = steps * twin.envelope.left.torque_rate_max_nm_s * 1e-3
    assert (torque > 0.0) == (steps > 0) and 0.4 * risen <= torque <= risen


def test_torque_lasts_until_the_command_is_30_ms_old_and_no_longer(twin: Twin) -> None:
    bench = Bench(twin, motion="stand", torque_bandwidth_hz=200.0)
    bench.run(50, (4.0, 4.0))
    held = bench.run(3)
    assert held[2].command_age_s == COMMAND_AGE_MAX_S
    np.testing.assert_allclose(held[2].torque_nm, 4.0, atol=1e-3)
    assert np.all(bench.run(1)[0].torque_nm < 1.0)


def test_the_guard_sees_what_the_encoders_see(twin: Twin) -> None:
    """The noisy reading that is published is the one that was judged."""
    bench = Bench(twin, motion="stand", encoder_rate_noise_rad_s=1.0)
    seen: list[tuple[float, float]] = []
    step = bench.device._guard.step
    bench.device._guard.step = lambda *a: seen.append((*a[2], *a[3])) or step(*a)  # type: ignore[method-assign, func-returns-value]
    sample = bench.run(1)[0]
    assert len(seen) == 10
    np.testing.assert_array_equal(seen[-1], [*sample.position, *sample.velocity])
    assert np.std([s[2] for s in seen]) > 0.1


def test_silence_brings_torque_to_zero_in_bounded_time(twin: Twin) -> None:
    bench = Bench(twin, motion="stand")
    bench.run(50, (4.0, -2.0))
    silent = bench.run(15)
    bound_s = COMMAND_AGE_MAX_S + EMERGENCY_RAMP_S + 0.04
    zero = next(i for i, s in enumerate(silent) if not np.any(s.torque_nm))
    assert (zero + 1) * 0.010 <= bound_s
    assert all(not np.any(s.torque_nm) for s in silent[zero:])
    assert "no fresh command" in silent[-1].fault


def test_commands_age_while_the_host_is_late(twin: Twin) -> None:
    bench = Bench(twin, motion="stand")
    last = bench.run(50, (4.0, 4.0))[-1]
    stalled = bench.device.run(last.stamp_ns + PERIOD_NS, late_ns=100_000_000)
    assert stalled.refused == 1 and stalled.torque_nm[0] < 4.0


def test_the_torque_reported_is_the_one_the_body_feels(twin: Twin) -> None:
    for sample in Bench(twin, motion="stand").run(5, (4.0, -2.0)):
        np.testing.assert_array_equal(sample.torque_nm, sample.truth.exo_nm)


def test_two_writers_mean_no_torque(twin: Twin) -> None:
    bench = Bench(twin, motion="stand")
    bench.run(50, (4.0, 4.0))
    bench.device.writers = 2
    sample = bench.run(6, (4.0, 4.0))[-1]
    assert not np.any(sample.torque_nm) and "publishers" in sample.fault


def test_exo_torque_changes_the_muscles(twin: Twin) -> None:
    plain = Bench(twin, motion="lift_left").run(450)[-1].truth.activation
    helped = Bench(twin, motion="lift_left").run(450, (8.0, 0.0))[-1].truth.activation
    flexors = [1, 3]
    assert helped[flexors].sum() < 0.9 * plain[flexors].sum(), "held thigh: flexors give up what the exo carries"
    np.testing.assert_allclose(helped[9:], plain[9:], atol=1e-3)


def test_emg_envelope_tells_the_activation(twin: Twin) -> None:
    """The wearer's excitation, seen by the EMG driver and the processing, is the twin's activation again."""
    assert MUSCLES == GROUP_CHANNELS
    samples = Bench(twin).run(660)
    config = VirtualConfig()
    drive, synthesizer = Drive(MUSCLES, config.sampling_rate_hz), EmgSynthesizer(MUSCLES, 0, config)
    pieces = []
    for sample in samples:
        phase = (float(sample.truth.phase[0]), float(sample.truth.phase[1]))
        stretch = drive.until(State(sample.stamp_ns, sample.truth.excitation, phase))
        assert stretch is not None and stretch.stamp_ns == sample.stamp_ns
        pieces.append(synthesizer.frame(stretch.excitation, stretch.strikes))
    emg = np.concatenate(pieces)
    assert len(emg) == 6600
    stream = EnvelopeStream(config.sampling_rate_hz, np.full(18, config.maximum_v()), ChainConfig())
    envelope = stream.process(emg)[9::10]
    activation = np.array([s.truth.activation for s in samples])
    # One lag for all muscles, known beforehand: late by the filter, early because EMG leads activation.
    delay = round((group_delay_s(ChainConfig()) - ACTIVATION_S) * 100)
    for m in np.flatnonzero(activation.std(axis=0) > 0.05):
        r = np.corrcoef(envelope[50 + delay :, m], activation[50 : len(activation) - delay, m])[0, 1]
        assert r >= 0.9, f"muscle {m}: r = {r:.2f}"


class FakeTime:
    """A clock that moves only when told to or slept on."""

    def __init__(self) -> None:
        self.now = 0

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


def test_pacer_keeps_the_schedule_catches_up_and_gives_up() -> None:
    fake = FakeTime()
    pacer = Pacer(10, 100, lambda: fake.now, fake.sleep)
    assert [pacer.wait() for _ in range(3)] == [(10, 0), (20, 0), (30, 0)]
    fake.now += 35
    assert [pacer.wait() for _ in range(4)] == [(40, 25), (50, 15), (60, 5), (70, 0)]
    assert (pacer.late, pacer.skipped) == (2, 0)
    fake.now += 1000
    due, behind = pacer.wait()
    assert due + behind == fake.now and behind < 10 and pacer.skipped == 99
