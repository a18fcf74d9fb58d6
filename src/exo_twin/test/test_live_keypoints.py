from __future__ import annotations

import math

import numpy as np
import pytest
from twin_fakes import PERIOD_NS, make_gait

from exo_twin.live.keypoint_offsets import UNKNOWN_SD, keypoint_offsets
from exo_twin.live.keypoints import KNEES_AND_ANKLES, SPACE_SD, KeypointFusion, leg_angles
from exo_twin.live.samples import KeypointSample
from exo_twin.periodic import PeriodicCurve

GAIT = make_gait()
CURVES = {name: PeriodicCurve(GAIT.curves[name]) for name in (*KNEES_AND_ANKLES, "hip_flexion_l", "hip_flexion_r")}
REFERENCE_SD = 0.05
DELAY_NS = 50_000_000
EVERY = 3  # ticks between pictures


def stride(k: int) -> dict[str, float]:
    """Reference angles at a tick."""
    left = k * 0.01 / GAIT.stride_time
    return {n: c.at(left + (GAIT.phase_offset_right if n.endswith("_r") else 0.0))[0] for n, c in CURVES.items()}


def points(angles: dict[str, float], heading: float = 0.0) -> dict[str, tuple[float, float, float]]:
    """A body that faces `heading` (about z), its feet's keypoints level at 0 deg of the ankle."""
    found = {}
    for side, across in (("l", 0.1), ("r", -0.1)):
        at, turn = np.array([0.0, 0.9]), angles[f"hip_flexion_{side}"]
        names = iter(("Knee", "Ankle"))
        legs = {"Hip": at}
        for length, bend in ((0.42, 0.0), (0.41, angles[f"knee_angle_{side}"])):
            turn -= bend
            at = at + length * np.array([math.sin(turn), -math.cos(turn)])
            legs[next(names)] = at
        pitch = turn + angles[f"ankle_angle_{side}"]
        legs["Heel"] = at - 0.05
        legs["BigToe"] = legs["Heel"] + 0.25 * np.array([math.cos(pitch), math.sin(pitch)])
        for name, (x, z) in legs.items():
            place = (
                x * math.cos(heading) - across * math.sin(heading),
                x * math.sin(heading) + across * math.cos(heading),
            )
            found[f"{side.upper()}{name}"] = (float(place[0]), float(place[1]), float(z))
    return found


def run(true, seconds: float = 4.0, noise_m: float = 0.004, depth: bool = True, seen=lambda k, p: p):
    """Fuse pictures of `true(k)` (angles at tick k); gives (tick, result, complaint) of every tick."""
    rng, fusion, found, newest = np.random.default_rng(0), KeypointFusion({}, 0.02), [], None
    for k in range(int(100 * seconds)):
        picture = k - DELAY_NS // PERIOD_NS
        if picture >= 0 and picture % EVERY == 0:
            noisy = {n: tuple(np.array(p) + noise_m * rng.normal(size=3)) for n, p in points(true(picture)).items()}
            newest = KeypointSample(picture * PERIOD_NS + 1, seen(picture, noisy), depth)
        reference = {name: (stride(k)[name], REFERENCE_SD) for name in KNEES_AND_ANKLES}
        found.append((k, fusion.step(k * PERIOD_NS + 1, newest, reference), fusion.complaint))
    return found


def error(found, true, name: str, since: int = 100) -> float:
    return float(np.sqrt(np.mean([(r[name][0] - true(k)[name]) ** 2 for k, r, _ in found if k >= since])))


def stiff(k: int) -> dict[str, float]:
    """The left knee bends 8 deg less than the reference says in swing, the rest is as ever."""
    angles = stride(k)
    return {**angles, "knee_angle_l": angles["knee_angle_l"] - math.radians(12.0) * angles["knee_angle_l"]}


@pytest.mark.parametrize("heading", [0.0, 0.6, math.pi])
def test_angles_between_keypoints(heading: float) -> None:
    for k in range(0, 115, 5):
        true = stride(k)
        found = leg_angles(points(true, heading), depth_measured=True)
        assert {n: pytest.approx(true[n], abs=1e-9) for n in KNEES_AND_ANKLES} == found


def test_pictures_that_come_late_correct_the_reference_as_of_their_time() -> None:
    found = run(stride)
    for name in KNEES_AND_ANKLES:
        assert error(found, stride, name) < math.radians(1.5), "a swinging knee moves 15 deg in the delay"
        assert found[-1][1][name][1] < REFERENCE_SD
    assert {complaint for _, _, complaint in found} == {""}


def test_a_wearer_who_departs_from_the_reference_is_followed() -> None:
    found, without = run(stiff), [(k, {n: (a, 0.0) for n, a in stride(k).items()}, "") for k in range(400)]
    assert error(found, stiff, "knee_angle_l") < 0.8 * error(without, stiff, "knee_angle_l")


def test_far_and_lasting_departures_are_believed_after_a_while() -> None:
    def crouched(k: int) -> dict[str, float]:
        return {name: angle + (0.8 if name == "knee_angle_r" else 0.0) for name, angle in stride(k).items()}

    found = run(crouched)
    assert found[30][1]["knee_angle_r"][0] == pytest.approx(stride(30)["knee_angle_r"])
    assert "contradict" in found[30][2]
    assert error(found, crouched, "knee_angle_r", since=150) < math.radians(8.0)
    assert found[-1][1]["knee_angle_r"][1] < 0.5


@pytest.mark.parametrize("far", [0.5, 8.0, math.nan])
def test_a_keypoint_that_leaps_is_left_out(far: float) -> None:
    def leap(k: int, seen: dict[str, tuple[float, float, float]]) -> dict[str, tuple[float, float, float]]:
        x, y, z = seen["LAnkle"]
        return {**seen, "LAnkle": (x + far, y, z)} if k % 4 == 0 else seen

    assert error(run(stride, seen=leap), stride, "knee_angle_l") < math.radians(2.0)


@pytest.mark.parametrize("depth", [True, False])
def test_exchanged_legs_are_left_out_and_named(depth: bool) -> None:
    def exchange(k: int, seen: dict[str, tuple[float, float, float]]) -> dict[str, tuple[float, float, float]]:
        other = {"L": "R", "R": "L"}
        return {other[name[0]] + name[1:]: place for name, place in seen.items()}

    found = run(stride, seen=exchange, noise_m=0.0, depth=depth)
    assert any("exchanged" in complaint for _, _, complaint in found)
    for name in KNEES_AND_ANKLES:
        assert error(found, stride, name) < math.radians(6.0)


def test_lost_keypoints_fade_away() -> None:
    found = run(stiff, seen=lambda k, p: p if k < 200 else {})
    for name in KNEES_AND_ANKLES:
        assert found[-1][1][name][0] == pytest.approx(stride(399)[name], abs=math.radians(0.5))


def test_one_camera_is_believed_less() -> None:
    space, plane = (run(stride, depth=depth)[-1][1]["knee_angle_l"][1] for depth in (True, False))
    assert space < plane < REFERENCE_SD


def test_pictures_older_than_the_kept_reference_are_refused() -> None:
    fusion = KeypointFusion({}, 0.02)
    reference = {name: (0.2, 0.1) for name in KNEES_AND_ANKLES}
    for k in range(100):
        fusion.step(k * PERIOD_NS + 1, None, reference)
    late = KeypointSample(40 * PERIOD_NS, points(stride(0)), True)
    assert fusion.step(100 * PERIOD_NS, late, reference) == reference
    assert "older" in fusion.complaint


def test_offsets_of_a_twin_without_a_tree_are_unknown() -> None:
    assert keypoint_offsets({}, GAIT) == ({}, UNKNOWN_SD)
    assert SPACE_SD["knee_angle"] < UNKNOWN_SD


def test_keypoints_that_are_no_legs_are_named() -> None:
    def millimetres(k, places):
        return {name: tuple(1e3 * v for v in place) for name, place in places.items()} if k >= 200 else places

    found = run(stride, seen=millimetres)
    assert all(words == "" for k, _, words in found if k < 200)
    assert all("no legs that people can have" in words for k, _, words in found if k > 210)


def test_what_the_first_pictures_show_was_before_the_estimate_and_is_no_fault() -> None:
    fusion, reference = KeypointFusion({}, 0.02), {name: (0.0, REFERENCE_SD) for name in KNEES_AND_ANKLES}
    start, legs = 10_000_000_000, points(stride(0))
    assert fusion.step(start, KeypointSample(start - DELAY_NS, legs, True), reference) == reference
    assert fusion.complaint == ""
    fusion.step(start + PERIOD_NS, KeypointSample(start - 400_000_000, legs, True), reference)
    assert "older than 0.3 s" in fusion.complaint
