"""One plate's signal: its axes, its clock and units, and the contacts in it."""

import dataclasses

import numpy as np
import pytest
from plate_fakes import MASS, STANCE_S, landing, walk

from exo_capture.marker_files import ForcePlate
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.plate_contacts import prepare, without, without_baseline
from exo_twin.inverse.plate_signals import PlateSignal, check_units, plates_of, turn_between

QUARTER = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])  # about the vertical: z becomes x


def with_force(signal, force):
    return dataclasses.replace(signal, force=np.column_stack([0.0 * force, force, 0.0 * force]))


def test_force_point_and_free_moment_turn_together():
    vectors = np.arange(18.0).reshape(2, 9)
    signal = PlateSignal("plate 1", np.arange(2.0), vectors[:, :3], vectors[:, 3:6], vectors[:, 6:], "calcn_r")
    turned = signal.turned(QUARTER)
    for name in ("force", "point", "free_moment"):
        x, y, z = getattr(signal, name).T
        np.testing.assert_array_equal(getattr(turned, name), np.column_stack([z, y, -x]), name)
    assert (turned.name, turned.body) == (signal.name, signal.body)


def test_a_recording_s_plates_begin_with_its_first_frame_and_are_counted_from_one():
    reaction, point = np.arange(12.0).reshape(4, 3), np.full((4, 3), np.nan)
    empty = ForcePlate(1000.0, np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)))
    first, second = plates_of([ForcePlate(1000.0, reaction, point, point), empty, ForcePlate(500.0, *[reaction] * 3)])[
        :2
    ]
    np.testing.assert_allclose(first.time, [0.0, 0.001, 0.002, 0.003])
    np.testing.assert_array_equal(first.force, reaction)
    assert not first.free_moment.any() and np.isnan(first.point).all()
    assert (first.name, second.name) == ("plate 1", "plate 3") and second.rate_hz == pytest.approx(500.0)
    np.testing.assert_array_equal(second.free_moment, reaction)


def test_a_mirrored_recording_is_no_turned_one():
    places = np.random.default_rng(1).normal(size=(10, 6, 3))
    time, names = np.arange(10) / 100.0, tuple("abcdef")
    with pytest.raises(ExoError, match="differ"):
        turn_between(Markers(time, names, places), Markers(time, names, places * [1.0, 1.0, -1.0]))


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1.0 / 4.448222, "in lbf"), (0.45, "at most .* % of the body weight"), (4.5, "at most .* % of the body weight")],
)
def test_forces_that_no_walk_makes_are_refused(factor, told):
    made = walk()
    scaled = [dataclasses.replace(signal, force=factor * signal.force) for signal in made.signals]
    with pytest.raises(ExoError, match=told):
        check_units(scaled, made.feet.position, MASS)


def test_points_in_centimetres_are_named():
    made = walk()
    scaled = [dataclasses.replace(signal, point=100.0 * signal.point) for signal in made.signals]
    with pytest.raises(ExoError, match="in cm"):
        check_units(scaled, made.feet.position, MASS)


def test_a_bounce_does_not_end_a_contact_and_a_longer_break_does():
    signal = walk().signals[0]
    for gap, contacts in ((20, 1), (60, 2)):
        force = signal.vertical.copy()
        force[950 : 950 + gap] = 0.0
        assert len(prepare((with_force(signal, force),))[1]) == contacts, gap


@pytest.mark.parametrize(
    ("peak", "duration", "contacts"), [(150.0, 0.6, 1), (80.0, 0.6, 0), (600.0, 0.25, 1), (600.0, 0.1, 0)]
)
def test_what_counts_as_a_step(peak, duration, contacts):
    """A child's or a runner's foot does; what is lighter or shorter is somebody's touch."""
    signal = walk().signals[0]
    hump = peak * np.sin(np.pi * np.clip((signal.time - 0.8) / duration, 0.0, 1.0))
    assert len(prepare((with_force(signal, hump),))[1]) == contacts


def test_a_plate_that_is_never_left_has_no_baseline():
    """On one belt under both feet the lowest force is a good part of the weight."""
    signal = walk().signals[0]
    standing = with_force(signal, 0.5 * signal.vertical + 300.0)
    mended, told = without_baseline(standing)
    assert not told
    np.testing.assert_array_equal(mended.force, standing.force)


def test_outside_the_contacts_and_without_some_of_them_nothing_acts():
    signal = walk().signals[0]
    noise = np.random.default_rng(1).normal(0.0, 0.5, signal.force.shape)
    noise[::7] = np.nan
    (mended,), (contact,), _ = prepare((dataclasses.replace(signal, free_moment=noise),))
    outside = (signal.time < landing(1) - 0.06) | (signal.time > landing(1) + STANCE_S + 0.06)
    assert not mended.free_moment[outside].any() and not mended.force[outside].any()
    assert np.isfinite(mended.free_moment).all() and mended.free_moment.any()
    (silent,) = without((mended,), [contact])
    assert not silent.force.any() and not silent.free_moment.any()
