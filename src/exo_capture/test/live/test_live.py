"""Views, fusions and threads of the live capture together, on people who are made up."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from live_fakes import RATE_HZ, World, standing

from exo_capture.acquisition import WALKS
from exo_capture.cameras import Camera
from exo_capture.landmarks import MARKERS
from exo_capture.live import (
    DISAGREE,
    HIDDEN,
    NAMES,
    NOBODY,
    ONE_CAMERA,
    LiveKeypoints,
    LiveTracker,
    PlaneFusion,
    Sighting,
    SpaceFusion,
    WearerView,
)
from exo_capture.live_loop import CaptureLoop
from exo_capture.live_sources import Picture, Source
from exo_capture.room import room_to_opensim
from exo_common.clock import NS_PER_S

Walker = Callable[..., Any]
START_NS = 1_700_000_000 * NS_PER_S
STATURE = 1.75
PERIOD_NS = round(NS_PER_S / RATE_HZ)
ROOM_TO_OPENSIM = room_to_opensim("z", 0.0)


def ring(count: int) -> list[Camera]:
    """Cameras on a circle of 4 m round the origin of a z-up room, 1 m high, looking at its middle."""
    cameras = []
    for i in range(count):
        angle = -0.5 * np.pi + (i - (count - 1) / 2.0) * np.radians(50.0)
        centre = np.array([4.0 * np.cos(angle), 4.0 * np.sin(angle), 1.0])
        ahead = -centre / np.linalg.norm(centre) * (1.0, 1.0, 0.0)
        ahead /= np.linalg.norm(ahead)
        down = np.array([0.0, 0.0, -1.0])
        rotation = np.stack([np.cross(down, ahead), down, ahead])
        matrix = np.array([[1100.0, 0.0, 960.0], [0.0, 1100.0, 540.0], [0.0, 0.0, 1.0]])
        cameras.append(Camera(f"c{i}", (1920, 1080), matrix, np.zeros(5), rotation, -rotation @ centre))
    return cameras


def body_at(seconds: float, x: float = 0.0) -> np.ndarray:
    """(33, 3) m in the z-up room of somebody who glides along +x at 1 m/s, her right hand at -y."""
    body = np.zeros((33, 3))
    for name, landmark in MARKERS.items():
        side = {"L": 0.1, "R": -0.1}.get(name[0], 0.0)
        height = {"Nose": 1.6, "Eye": 1.62, "Shoulder": 1.4, "Elbow": 1.1, "Wrist": 0.9, "Hip": 0.9, "Knee": 0.5}
        part = name if name == "Nose" else name[1:]
        body[landmark] = (0.2 if part == "BigToe" else 0.0, side, height.get(part, 0.05))
    return body + np.array([x + seconds, 0.0, 0.0])


def sighting(camera: Camera, stamp_ns: int, x: float = 0.0, noise_px: float = 0.0) -> Sighting:
    pixels = camera.project(body_at((stamp_ns - START_NS) / NS_PER_S, x))
    pixels += np.random.default_rng(stamp_ns % 2**32).normal(0.0, noise_px, pixels.shape)
    return Sighting(stamp_ns, np.column_stack([pixels, np.ones(33)]), 1)


def opensim(seconds: float) -> np.ndarray:
    """True markers (k, 3) m."""
    return body_at(seconds)[list(MARKERS.values())] @ ROOM_TO_OPENSIM.T


def fuse(cameras: list[Camera], shift_ns: list[int], x: float = 0.0, noise_px: float = 0.0) -> list[LiveKeypoints]:
    """Keypoints of 12 pictures per camera, taken `shift_ns` apart; camera 0 sees somebody `x` m ahead."""
    fusion = SpaceFusion(cameras, ROOM_TO_OPENSIM, STATURE)
    return [
        fusion.fuse(
            {
                c: sighting(camera, START_NS + i * PERIOD_NS + shift_ns[c], 0.0 if c else x, noise_px)
                for c, camera in enumerate(cameras)
            }
        )
        for i in range(12)
    ]


@pytest.mark.parametrize("shift_ms", [(0, 0, 0), (0, 8, 14), (30, 0, 15)])
def test_cameras_out_of_step_agree_on_where_she_was(shift_ms: tuple[int, ...]) -> None:
    results = fuse(ring(3), [ms * 1_000_000 for ms in shift_ms])
    for result in results[1:]:
        assert result.depth_measured and not result.problem
        np.testing.assert_allclose(result.position, opensim((result.stamp_ns - START_NS) / NS_PER_S), atol=1e-3)
        assert (result.confidence > 0.5).all()
    assert all(a.stamp_ns < b.stamp_ns for a, b in itertools.pairwise(results))


def test_one_of_three_who_follows_somebody_else_is_outvoted() -> None:
    for result in fuse(ring(3), [0, 0, 0], x=1.0, noise_px=2.0):
        error = np.linalg.norm(result.position - opensim((result.stamp_ns - START_NS) / NS_PER_S), axis=1)
        assert np.median(error) < 0.02 and np.isfinite(error).mean() > 0.8


def test_two_who_follow_different_people_say_so() -> None:
    results = fuse(ring(2), [0, 0], x=2.0, noise_px=2.0)
    assert {result.problem for result in results} == {DISAGREE} and not any(result.seen for result in results)


def test_pictures_of_another_moment_are_left_out() -> None:
    results = fuse(ring(3), [0, 0, 200_000_000])
    for result in results:
        np.testing.assert_allclose(result.position, opensim((result.stamp_ns - START_NS) / NS_PER_S), atol=1e-3)


def test_what_is_missing_is_said() -> None:
    cameras = ring(2)
    nothing = np.full((33, 3), np.nan)
    for wearers, seen, problem in (((0, 0), (), NOBODY), ((1, 1), (), HIDDEN), ((1, 0), (0,), ONE_CAMERA)):
        views = {
            c: sighting(cameras[c], START_NS) if c in seen else Sighting(START_NS, nothing, wearer)
            for c, wearer in enumerate(wearers)
        }
        result = SpaceFusion(cameras, ROOM_TO_OPENSIM).fuse(views)
        assert result.problem == problem and not result.seen


def test_a_picture_of_another_size_than_calibrated_is_refused() -> None:
    camera = ring(1)[0]
    view = WearerView(lambda image: np.empty((0, 33, 3)), WALKS, camera)
    seen = view.step(Picture(np.zeros((480, 640, 3), np.uint8), START_NS))
    assert not seen.seen and "640" in seen.problem


def test_a_smaller_picture_of_the_same_shape_gives_landmarks_in_calibrated_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = ring(1)[0]
    body = camera.project(body_at(0.0))
    view = WearerView(lambda image: np.empty((0, 33, 3)), WALKS, camera)
    monkeypatch.setattr(view.follower, "step", lambda image, time: np.column_stack([body / 2.0, np.ones(33)]))
    for i in range(3):  # what is kept of one picture for the next is not scaled again
        seen = view.step(Picture(np.zeros((540, 960, 3), np.uint8), START_NS + i * PERIOD_NS))
    np.testing.assert_allclose(seen.landmarks[MARKERS["Nose"], :2], body[MARKERS["Nose"]])


@pytest.mark.parametrize(
    ("up", "heading", "forward", "right"),
    [
        ("z", 0.0, (1, 0, 0), (0, -1, 0)),
        ("z", np.pi / 2.0, (0, 1, 0), (1, 0, 0)),
        ("y", 0.0, (0, 0, 1), (-1, 0, 0)),
        ("x", 0.0, (0, 1, 0), (0, 0, -1)),
    ],
)
def test_rooms_of_any_axis_become_opensims(up: str, heading: float, forward: Any, right: Any) -> None:
    turn = room_to_opensim(up, heading)
    np.testing.assert_allclose(turn @ np.array([forward, right], float).T, [[1, 0], [0, 0], [0, 1]], atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_keypoints_carry_the_stamp_of_their_picture_and_end_at_the_border(walker: Walker) -> None:
    body = walker(seconds=5.0).landmarks
    world = World((900, 1000), [standing(body[10], 300.0, 0.8), lambda f: body[f]])
    tracker = LiveTracker([WearerView(world.detect, WALKS)], PlaneFusion(1.70))
    results = []
    for frame in range(110):
        world.frame = frame
        results.append(tracker.step({0: Picture(world.picture, START_NS + frame * PERIOD_NS)}))
    assert [r.stamp_ns for r in results] == [START_NS + i * PERIOD_NS for i in range(110)]
    seen = [i for i, r in enumerate(results) if r.seen]
    toes = [NAMES.index("LBigToe"), NAMES.index("RBigToe")]
    # Her front foot leaves the picture first, and is left out while her hips are still known.
    gone = [np.isnan(results[i].position[toes, 0]) for i in seen]
    assert any(row.any() for row in gone[-15:]) and not any(row.any() for row in gone[3:-15])
    for i, row in zip(seen, gone, strict=True):
        assert (results[i].confidence[toes][row] == 0.0).all()
    assert not np.isfinite(results[-1].position).any() and results[-1].problem == HIDDEN


def test_a_new_wearer_has_a_scale_of_her_own(walker: Walker) -> None:
    first, second = walker(px_per_m=220.0).landmarks, walker(px_per_m=150.0).landmarks
    fusion, sizes = PlaneFusion(1.70), []
    for person, body in enumerate((first, second), start=1):
        for i in range(20):
            stamp = START_NS + (20 * person + i) * PERIOD_NS
            seen = Sighting(stamp, np.column_stack([body[i], np.ones(33)]), person)
            result = fusion.fuse({0: seen})
        sizes.append(result.position[NAMES.index("LEye"), 1])
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_the_loop_publishes_in_order_and_ends(walker: Walker) -> None:
    body = walker().landmarks
    world = World((1900, 1000), [lambda f: body[f]])
    source, published = Source("made up"), []
    loop = CaptureLoop([source], LiveTracker([WearerView(world.detect, WALKS)], PlaneFusion(1.7)), published.append)
    loop.start()
    now = time.time_ns()
    for frame in range(20):
        world.frame = frame
        source.mailbox.put(Picture(world.picture, now + frame * PERIOD_NS))
        deadline = time.monotonic() + 5.0
        while len(published) <= frame:
            assert time.monotonic() < deadline
            time.sleep(0.002)
    loop.close()
    source.mailbox.put(Picture(world.picture, now + 10 * NS_PER_S))
    time.sleep(0.2)
    assert [k.stamp_ns for k in published] == [now + i * PERIOD_NS for i in range(20)] and loop.failure is None


def test_after_a_clock_was_set_back_the_wearer_is_found_anew(walker: Walker) -> None:
    body = walker(seconds=5.0).landmarks
    world = World((1900, 1000), [lambda f: body[f]])
    back_ns = 0
    source, published = Source("made up", lambda: time.time_ns() - back_ns), []
    view = WearerView(world.detect, WALKS)
    loop = CaptureLoop([source], LiveTracker([view], PlaneFusion(1.7)), published.append)
    loop.start()
    for frame in range(110):
        if frame == 25:
            before, back_ns = len(published), 3600 * NS_PER_S
        world.frame = frame
        source.mailbox.put(Picture(world.picture, time.time_ns() - back_ns))
        time.sleep(1.0 / RATE_HZ)
    loop.close()
    again = [k for k in published[before + 1 :] if k.stamp_ns < published[0].stamp_ns]
    assert any(k.seen for k in published[:before]) and loop.failure is None
    assert len(again) > 20 and view.follower.lost == 1 and view.follower.found == 2
    positions = np.array([k.position for k in again if k.seen])
    assert len(positions) > 10 and np.nanmax(np.abs(positions[..., 1])) < 2.0


def test_several_cameras_are_looked_at_together_and_a_dead_one_is_not_waited_for() -> None:
    moments: list[dict[int, Sighting]] = []

    class Recorder:
        def fuse(self, sightings: Any) -> LiveKeypoints:
            moments.append(dict(sightings))
            return LiveKeypoints(
                min(s.stamp_ns for s in sightings.values()), np.full((19, 3), np.nan), np.zeros(19), True
            )

    def slow(image: np.ndarray) -> np.ndarray:
        time.sleep(0.03)
        return np.empty((0, 33, 3))

    sources = [Source(f"camera {i}") for i in range(3)]
    loop = CaptureLoop(sources, LiveTracker([WearerView(slow, WALKS) for _ in sources], Recorder()), lambda k: None)
    loop.start()
    image = np.zeros((8, 8, 3), np.uint8)
    # 100 pictures a second from two of three cameras, ten times what the views can look at one after the other.
    for _ in range(120):
        stamp = time.time_ns()
        for source in sources[:2]:
            source.mailbox.put(Picture(image, stamp))
        time.sleep(0.01)
    loop.close()
    assert loop.failure is None and len(moments) > 10
    together = [m for m in moments if len(m) == 2]
    assert len(together) >= 0.8 * len(moments)
    skew = [abs(m[0].stamp_ns - m[1].stamp_ns) for m in together]
    assert np.median(skew) <= 15e6
    waits = np.diff([min(s.stamp_ns for s in m.values()) for m in moments]) / NS_PER_S
    assert np.median(waits) < 0.1, "the dead camera was waited for"


def test_a_defect_in_a_thread_does_not_pass_in_silence() -> None:
    def broken(image: np.ndarray) -> np.ndarray:
        raise cv2.error("defect")

    source = Source("made up")
    loop = CaptureLoop([source], LiveTracker([WearerView(broken, WALKS)], PlaneFusion(1.7)), lambda k: None)
    loop.start()
    source.mailbox.put(Picture(np.zeros((9, 9, 3), np.uint8), time.time_ns()))
    deadline = time.monotonic() + 5.0
    while loop.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.close()
    assert isinstance(loop.failure, cv2.error)
