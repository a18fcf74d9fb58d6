"""Whom the live capture follows, and whom never."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from live_fakes import RATE_HZ, World, standing

from exo_capture.acquisition import LARGEST, WALKS
from exo_capture.following import LOST_AFTER_S, Follower, nearest, search_squares
from exo_capture.landmarks import hip_centre

SIZE = (1900, 1000)
Walker = Callable[..., Any]


def follow(world: World, rule: str, frames: range) -> tuple[Follower, np.ndarray]:
    """A follower after some frames, and the hip (n, 2) px of whom it followed, NaN where nobody."""
    follower, hips = Follower(world.detect, rule), np.full((len(frames), 2), np.nan)
    for i, frame in enumerate(frames):
        world.frame = frame
        found = follower.step(world.picture, frame / RATE_HZ)
        if found is not None:
            hips[i] = hip_centre(found)
    return follower, hips


def test_who_walks_is_the_wearer_not_the_larger_who_stands(walker: Walker) -> None:
    body = walker().landmarks
    world = World(SIZE, [standing(body[10], 900.0, 1.3), lambda f: body[f]])
    follower, hips = follow(world, WALKS, range(100))
    first = int(np.flatnonzero(np.isfinite(hips[:, 0]))[0])
    assert first / RATE_HZ < 0.8
    np.testing.assert_allclose(hips[first:], hip_centre(body)[first:100])
    assert (follower.found, follower.lost, follower.rivals) == (1, 0, 0)


def test_the_largest_may_be_asked_for(walker: Walker) -> None:
    body = walker().landmarks
    world = World(SIZE, [lambda f: body[f], standing(body[10], 900.0, 1.3)])
    _, hips = follow(world, LARGEST, range(30))
    assert np.nanmax(np.abs(hips[:, 0] - 900.0)) < 1.0


def test_exercise_on_the_spot_is_no_walk(walker: Walker) -> None:
    body = walker().landmarks
    still = standing(body[10], 900.0)(0)

    def jumping(frame: int) -> np.ndarray:
        sway = 0.04 * 350.0 * np.sin(2.0 * np.pi * frame / 20.0)
        return still + np.array([sway, -abs(3.0 * sway)])

    follower, hips = follow(World(SIZE, [jumping]), WALKS, range(90))
    assert np.isnan(hips).all() and not follower.following


def test_two_who_walk_are_reported(walker: Walker) -> None:
    body = walker().landmarks
    world = World(SIZE, [lambda f: body[f], lambda f: body[f] + (500.0, 0.0)])
    follower, _ = follow(world, WALKS, range(40))
    assert follower.rivals == 1


def test_once_found_only_her_surroundings_are_looked_at(walker: Walker) -> None:
    body = walker().landmarks
    world = World(SIZE, [lambda f: body[f]])
    follow(world, WALKS, range(60))
    assert max(max(look) for look in world.looks[-30:]) < 700 < min(min(look) for look in world.looks[:3])


def test_she_passes_a_bystander_and_is_kept(walker: Walker) -> None:
    body = walker().landmarks
    halfway = hip_centre(body[60])[0]
    world = World(SIZE, [standing(body[60], halfway), lambda f: body[f]])
    follower, hips = follow(world, WALKS, range(110))
    np.testing.assert_allclose(hips[40:], hip_centre(body)[40:110])
    assert follower.lost == 0


def test_hidden_for_a_moment_she_is_found_again_where_she_must_be(walker: Walker) -> None:
    body = walker().landmarks
    world = World(SIZE, [lambda f: None if 50 <= f < 62 else body[f]])
    follower, hips = follow(world, WALKS, range(90))
    assert np.isnan(hips[50:62]).all()
    np.testing.assert_allclose(hips[63:], hip_centre(body)[63:90])
    assert (follower.found, follower.lost) == (1, 0)


@pytest.mark.parametrize("beside", [0.45, 1.0])
def test_when_she_vanishes_nobody_takes_her_place(walker: Walker, beside: float) -> None:
    body = walker().landmarks
    there = hip_centre(body[50])[0] - beside * 370.0
    world = World(SIZE, [standing(body[60], there), lambda f: body[f] if f < 50 else None])
    follower, hips = follow(world, WALKS, range(110))
    assert np.isnan(hips[50:]).all()
    assert (follower.found, follower.lost) == (1, 1) and not follower.following


def test_lost_she_must_qualify_again(walker: Walker) -> None:
    body = walker().landmarks
    away = 40 + round((LOST_AFTER_S + 0.2) * RATE_HZ)
    world = World(SIZE, [lambda f: None if 40 <= f < away else body[f]])
    follower, hips = follow(world, WALKS, range(110))
    again = 40 + int(np.flatnonzero(np.isfinite(hips[40:, 0]))[0])
    assert again - away >= 6, "she was taken at first sight"
    assert (follower.found, follower.lost) == (2, 1)


def test_search_squares_cover_the_picture_and_overlap() -> None:
    squares = search_squares(1768, 994)
    assert squares[0][0] == 0 and squares[-1][2] == 1768 and len(squares) == 3
    assert all(a[2] - b[0] > 300 for a, b in itertools.pairwise(squares))
    assert search_squares(720, 1280) == [(0, 0, 720, 1280)]


def test_of_two_the_one_of_her_size_is_taken(walker: Walker) -> None:
    body = np.dstack([walker().landmarks[[10, 10]], np.ones((2, 33))])
    body[0, :, :2] = standing(body[1, :, :2], hip_centre(body[1])[0] + 20.0, 1.6)(0)
    height = 370.0
    chosen = nearest(body, hip_centre(body[1]), height, 0.25)
    assert chosen is not None and hip_centre(chosen)[0] == hip_centre(body[1])[0]
    assert nearest(body[:1], hip_centre(body[1]), height, 0.25) is None
