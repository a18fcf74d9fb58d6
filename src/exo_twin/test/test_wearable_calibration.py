"""Sensors put on askew are found again, with an honest uncertainty; what cannot serve is refused in one sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from worn_sensors import COORDINATES, STRIDE_S, TIME, ZERO, motion, mountings, recorded, reference, tree

from exo_common.errors import ExoError
from exo_twin.calibration import SEGMENTS
from exo_twin.inverse.strapdown import from_stance, integrated
from exo_twin.inverse.virtual_imus import Wear, wear
from exo_twin.inverse.wearable_calibration import WearableFit, calibrate_wearables
from exo_twin.inverse.wearable_levelled import Levelled
from exo_twin.inverse.wearable_recording import ImuSignal, WearableRecording
from exo_twin.inverse.wearable_reference import GRID, reference_from_motion
from exo_twin.inverse.wearable_strides import Strides

Change = Callable[[WearableRecording], WearableRecording]


def errors(fit: WearableFit, mounting: dict[str, np.ndarray]) -> np.ndarray:
    """(3, 3) rad per segment about its axes."""
    return np.array([Rotation.from_matrix(fit.imus[s].rotation @ mounting[s].T).as_rotvec() for s in SEGMENTS])


@pytest.mark.parametrize("seed", range(4))
def test_slipped_sensors_are_found(seed: int) -> None:
    recording, mounting = recorded(seed)
    fit = calibrate_wearables(recording, reference())
    missed = errors(fit, mounting)
    assert np.degrees(np.linalg.norm(missed, axis=1)).max() < 3.0
    assert (np.abs(missed) < 3.0 * np.array([fit.imus[s].sd for s in SEGMENTS])).all()
    np.testing.assert_allclose(fit.zero, ZERO, atol=np.deg2rad(1.0))
    assert fit.steps >= 8 and not fit.treadmill and fit.imus["pelvis"].speed == pytest.approx(1.2, abs=0.15)


def test_without_noise_it_is_nearly_exact() -> None:
    still = {name: np.zeros(3) for name in SEGMENTS}
    clean = dict.fromkeys(
        ("vary_rad", "vary_time", "gyro_noise", "gyro_bias", "accelerometer_noise", "accelerometer_bias"), 0.0
    )
    recording, mounting = recorded(9, wobble_rad=still, encoder_noise=0.0, **clean)
    missed = errors(calibrate_wearables(recording, reference()), mounting)
    assert np.degrees(np.abs(missed[:, :2])).max() < 0.5 and np.degrees(np.abs(missed[:, 2])).max() < 1.5


def test_a_treadmill_is_noticed_and_costs_certainty() -> None:
    overground = calibrate_wearables(recorded(2)[0], reference())
    recording, mounting = recorded(2, treadmill=True)
    fit = calibrate_wearables(recording, reference())
    assert fit.treadmill and any("treadmill" in warning for warning in fit.warnings)
    assert all("way" not in imu.headings for imu in fit.imus.values())
    assert fit.imus["pelvis"].sd[2] > overground.imus["pelvis"].sd[2]
    assert np.degrees(np.linalg.norm(errors(fit, mounting)[1:], axis=1)).max() < 6.0


def test_a_sagittal_twin_is_said_to_be_less_certain() -> None:
    q = motion()
    q[:, [i for i, name in enumerate(COORDINATES) if name.split("_")[1] in ("list", "rotation", "adduction")]] = 0.0
    flat = reference_from_motion(tree(), TIME, q, [(0.1, 0.1 + STRIDE_S)])
    recording, mounting = recorded(3)
    fit = calibrate_wearables(recording, flat)
    assert any("sagittal plane only" in warning for warning in fit.warnings)
    missed = errors(fit, mounting)
    assert (np.abs(missed) < 3.0 * np.array([fit.imus[s].sd for s in SEGMENTS])).all()
    assert fit.imus["thigh_l"].sd[2] > np.deg2rad(5.0)


def test_another_pace_is_said() -> None:
    recording, _ = recorded(5)
    assert not calibrate_wearables(recording, reference()).warnings
    hurried = calibrate_wearables(recording, dataclasses.replace(reference(), stride_s=0.9))
    assert "at another pace" in hurried.warnings[0]


def test_of_a_long_recording_the_stance_before_the_walk_and_the_walk_after_it_count() -> None:
    first, _ = recorded(11, stand_s=4.0, steps=12)
    second, mounting = recorded(12, stand_s=8.0, steps=40)
    fidget, at = cut(0.0, 6.2)(first), 6.21
    imus = {
        name: ImuSignal(
            *(
                np.concatenate(pair)
                for pair in zip(
                    dataclasses.astuple(fidget.imus[name]),
                    (imu.time + at, imu.gyro, imu.accelerometer),
                    strict=True,
                )
            )
        )
        for name, imu in second.imus.items()
    }
    joined = WearableRecording(
        np.append(fidget.time, second.time + at), np.concatenate([fidget.hips, second.hips]), imus
    )
    fit = calibrate_wearables(joined, reference())
    assert np.degrees(np.linalg.norm(errors(fit, mounting), axis=1)).max() < 3.5
    assert fit.steps <= 26


def test_a_clock_of_another_rate_and_any_origin() -> None:
    recording, mounting = recorded(5)
    moved = {
        name: ImuSignal(imu.time[::2] + 1.7e9, imu.gyro[::2], imu.accelerometer[::2])
        for name, imu in recording.imus.items()
    }
    fit = calibrate_wearables(WearableRecording(recording.time + 1.7e9, recording.hips, moved), reference())
    assert np.degrees(np.linalg.norm(errors(fit, mounting), axis=1)).max() < 4.0


@pytest.mark.parametrize("turn_s", [6.5, 9.5])
def test_of_a_walk_round_a_corner_the_straight_part_counts(turn_s: float) -> None:
    recording, mounting = recorded(3, steps=16, turn_rad=np.pi / 2, turn_s=turn_s)
    fit = calibrate_wearables(recording, reference())
    assert any("turned by" in warning and "only" in warning for warning in fit.warnings)
    assert 6 <= fit.steps <= 14
    assert np.degrees(np.linalg.norm(errors(fit, mounting), axis=1)).max() < 5.0


def test_a_walk_that_turns_all_the_time_is_refused() -> None:
    recording, _ = recorded(3, steps=6, turn_rad=np.pi, turn_s=7.2)
    with pytest.raises(ExoError, match="no 6 steps of it lead straight ahead"):
        calibrate_wearables(recording, reference())


def test_a_drifting_gyro_costs_little() -> None:
    recording, mounting = recorded(7)
    drifting = dataclasses.replace(
        recording,
        imus={n: dataclasses.replace(i, gyro=i.gyro + 0.003 * i.time[:, None]) for n, i in recording.imus.items()},
    )
    fit = calibrate_wearables(drifting, reference())
    assert np.degrees(np.linalg.norm(errors(fit, mounting), axis=1)).max() < 5.0


def test_a_steady_turn_is_taken_out_but_not_where_speed_was_gained() -> None:
    begin = np.arange(1.0, 6.0)
    strides = Strides(np.zeros(1, dtype=bool), begin, begin + 1.0, np.zeros((5, 2, GRID)))
    turn = Rotation.from_rotvec(np.outer(0.1 * (begin + 0.5 - strides.early()), [0.0, 0.0, 1.0])).as_matrix()
    ahead, spin = turn @ [1.0, 0.0, 0.0], turn @ [0.2, 2.0, 0.3]
    own = Levelled(
        np.repeat(turn[:, None], GRID, axis=1),
        np.repeat((ahead[:, 0] + 1j * ahead[:, 1])[:, None], GRID, axis=1),
        np.repeat(spin[:, None], GRID, axis=1),
        1.0 + 0.0j,
        3.0,
    )
    np.testing.assert_allclose(np.ptp(own.headings()), 0.4)
    back = own.straightened(strides)
    np.testing.assert_allclose(back.turn, np.broadcast_to(np.eye(3), back.turn.shape), atol=1e-9)
    np.testing.assert_allclose(back.swing, 1.0)
    np.testing.assert_allclose(back.spin[3, 5], [0.2, 2.0, 0.3])


def test_an_imu_that_gained_another_speed_is_believed_less() -> None:
    recording, _ = recorded(7)
    plain = calibrate_wearables(recording, reference()).imus["pelvis"]
    own = recording.imus["pelvis"]
    leaning = own.accelerometer + np.where(own.time > 3.5, 0.15, 0.0)[:, None] * [1.0, 0.0, 0.0]
    bent = imu("pelvis", lambda i: dataclasses.replace(i, accelerometer=leaning))(recording)
    wrong = calibrate_wearables(bent, reference()).imus["pelvis"]
    assert abs(wrong.speed - plain.speed) > 0.2
    assert wrong.heading_sd["way"] > 2.0 * plain.heading_sd["way"]


def test_upside_down_is_found() -> None:
    over = dict(recorded(4)[1])
    over["thigh_l"] = over["thigh_l"] @ np.diag([1.0, -1.0, -1.0])
    over["pelvis"] = over["pelvis"] @ np.diag([-1.0, -1.0, 1.0])
    recording, mounting = recorded(4, mounting=over)
    fit = calibrate_wearables(recording, reference())
    assert np.degrees(np.linalg.norm(errors(fit, mounting), axis=1)).max() < 3.5
    assert [warning.split(" is turned by")[0] for warning in fit.warnings] == [
        "the IMU of pelvis",
        "the IMU of thigh_l",
    ]


def test_a_walker_who_does_not_roll_and_turn_is_no_mirror_image() -> None:
    flat = motion()
    flat[:, [i for i, name in enumerate(COORDINATES) if name.split("_")[1] in ("list", "rotation", "adduction")]] = 0.0
    how = Wear(mountings(4), zero=ZERO)
    recording = wear(tree(), TIME, flat, (0.1, 0.1 + STRIDE_S), np.zeros(12), how, np.random.default_rng(4))
    assert calibrate_wearables(recording, reference()).steps >= 8


def test_what_a_network_does_to_samples_does_no_harm() -> None:
    recording, _ = recorded(4)
    order = np.arange(len(recording.time))
    order[[300, 301, 700, 704]] = order[[301, 300, 704, 700]]
    order = np.append(order, order[-2:])
    mixed = imu("pelvis", lambda i: ImuSignal(*(v[order] for v in dataclasses.astuple(i))))(recording)
    np.testing.assert_array_equal(
        calibrate_wearables(mixed, reference()).imus["pelvis"].rotation,
        calibrate_wearables(recording, reference()).imus["pelvis"].rotation,
    )


def test_silence_after_the_walk_does_no_harm() -> None:
    recording, mounting = recorded(4, steps=44)
    late = slice(2600, 2640)
    holed = imu("thigh_l", lambda i: ImuSignal(*(np.delete(v, late, axis=0) for v in dataclasses.astuple(i))))
    fit = calibrate_wearables(holed(recording), reference())
    assert np.degrees(np.linalg.norm(errors(fit, mounting), axis=1)).max() < 3.5


def imu(name: str, change: Callable[[ImuSignal], ImuSignal]) -> Change:
    return lambda r: dataclasses.replace(r, imus={**r.imus, name: change(r.imus[name])})


def exchanged(a: str, b: str) -> Change:
    return lambda r: dataclasses.replace(r, imus={**r.imus, a: r.imus[b], b: r.imus[a]})


def hips(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda r: dataclasses.replace(r, hips=change(r.hips))


def cut(begin: float, end: float) -> Change:
    def part(time: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        inside = (time >= begin) & (time <= end)
        return [time[inside], *(value[inside] for value in values)]

    return lambda r: WearableRecording(
        *part(r.time, r.hips), {n: ImuSignal(*part(i.time, i.gyro, i.accelerometer)) for n, i in r.imus.items()}
    )


def holed(time: np.ndarray, values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[400, 1] = np.nan
    return values


def down(*names: str) -> Change:
    return lambda r: dataclasses.replace(
        r,
        imus={
            n: dataclasses.replace(i, accelerometer=-i.accelerometer) if n in names else i for n, i in r.imus.items()
        },
    )


FAULTS: dict[str, tuple[Change, str]] = {
    "missing": (
        lambda r: dataclasses.replace(r, imus={"pelvis": r.imus["pelvis"]}),
        "thigh_l and thigh_r sends nothing",
    ),
    "unplugged": (
        imu("thigh_l", lambda i: ImuSignal(i.time[:700], i.gyro[:700], i.accelerometer[:700])),
        "unplugged",
    ),
    "silent": (
        imu("pelvis", lambda i: ImuSignal(*(np.delete(v, slice(500, 540), axis=0) for v in dataclasses.astuple(i)))),
        "fell silent",
    ),
    "dead": (imu("thigh_r", lambda i: dataclasses.replace(i, gyro=0.0 * i.gyro)), "the same number"),
    "nan": (
        imu("pelvis", lambda i: dataclasses.replace(i, accelerometer=holed(i.time, i.accelerometer))),
        "not finite",
    ),
    "stamps": (imu("pelvis", lambda i: dataclasses.replace(i, time=i.time[::-1])), "do not rise"),
    "two on one topic": (
        imu("pelvis", lambda i: ImuSignal(i.time // 0.02 * 0.02, i.gyro, i.accelerometer)),
        "one device alone",
    ),
    "gravity down": (down(*SEGMENTS), "accelerometers count gravity downwards"),
    "gravity down at one": (down("pelvis"), "gyro and accelerometer of pelvis contradict"),
    "gyro backwards": (
        imu("pelvis", lambda i: dataclasses.replace(i, gyro=-i.gyro)),
        "gyro and accelerometer (of pelvis )?contradict",
    ),
    "everything exchanged": (
        lambda r: exchanged("thigh_l", "thigh_r")(hips(lambda h: h[:, ::-1])(r)),
        "mirror image of the twin's: left and right",
    ),
    "degrees": (imu("thigh_l", lambda i: dataclasses.replace(i, gyro=np.degrees(i.gyro))), "degrees per second"),
    "pelvis in degrees": (
        imu("pelvis", lambda i: dataclasses.replace(i, gyro=np.degrees(i.gyro))),
        "degrees per second",
    ),
    "encoders in degrees": (hips(np.degrees), "a hip encoder swings by .* it counts in degrees"),
    "in g": (imu("pelvis", lambda i: dataclasses.replace(i, accelerometer=i.accelerometer / 9.81)), "counts in g"),
    "no gravity": (
        imu("pelvis", lambda i: dataclasses.replace(i, accelerometer=0.1 * i.accelerometer + 0.2)),
        "at rest instead of",
    ),
    "left and right": (exchanged("thigh_l", "thigh_r"), "other side's encoder"),
    "pelvis and thigh": (exchanged("pelvis", "thigh_r"), "exchanged"),
    "one sign": (hips(lambda h: h * (1.0, -1.0)), "one of the encoders counts backwards"),
    "both signs": (hips(lambda h: -h), "encoders count backwards|unlike the twin's walk"),
    "clock": (imu("thigh_l", lambda i: dataclasses.replace(i, time=i.time + 0.12)), "1[12]0 ms apart|130 ms apart"),
    "other clock": (imu("thigh_l", lambda i: dataclasses.replace(i, time=i.time + 500.0)), "another one"),
    "no stance": (cut(4.4, 20.0), "nobody stood still"),
    "few steps": (cut(0.0, 8.0), "steady steps|no walking"),
    "short": (cut(0.0, 4.0), "is 4.0 s long"),
    "loose": (
        imu("thigh_r", lambda i: dataclasses.replace(i, gyro=i.gyro[:, [1, 2, 0]] * np.sign(i.gyro))),
        "does not move as its hip's encoder|clocks",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_serve_is_refused(name: str) -> None:
    change, words = FAULTS[name]
    with pytest.raises(ExoError, match=words):
        calibrate_wearables(change(recorded(4)[0]), reference())


def test_who_only_stands_is_told_to_walk() -> None:
    recording, _ = recorded(4, stand_s=12.0)
    with pytest.raises(ExoError, match="no walking"):
        calibrate_wearables(cut(0.0, 11.0)(recording), reference())


def test_somebody_else_is_not_the_twin() -> None:
    own = reference()
    other = dataclasses.replace(own, hips=np.roll(own.hips, 25, axis=1) * np.array([[1.0], [-1.0]]))
    with pytest.raises(ExoError, match="unlike the twin's walk"):
        calibrate_wearables(recorded(4)[0], other)


def test_integration_follows_a_known_turn() -> None:
    time = np.linspace(0.0, 2.0, 401)
    turn = integrated(time, np.tile([0.3, -0.2, 0.9], (401, 1)))
    np.testing.assert_allclose(turn[-1], Rotation.from_rotvec([0.6, -0.4, 1.8]).as_matrix(), atol=1e-9)


def test_a_swaying_stance_is_no_gyro_bias() -> None:
    time = np.arange(0.0, 8.0, 0.01)
    lean = 0.01 * np.sin(2 * np.pi * 0.2 * time) * (time < 3.75)
    gyro = np.array([0.02, -0.01, 0.005]) + np.outer(np.gradient(lean, time), [0.0, 1.0, 0.0])
    force = 9.81 * np.column_stack([-np.sin(lean), 0 * lean, np.cos(lean)])
    rate, turn = from_stance(time, gyro, force, time < 3.0)
    np.testing.assert_allclose(rate[-1], 0.0, atol=3e-4)
    assert turn[-1][2, 2] > np.cos(np.deg2rad(0.2))
