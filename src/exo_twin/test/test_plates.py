"""Plates and feet to one force per foot: what is found, and every way in which it can be wrong."""

import dataclasses

import numpy as np
import pytest
from plate_fakes import MASS, STANCE_S, landing, on_treadmill, pressure, walk

from exo_capture.filtering import smooth
from exo_common.errors import ExoError
from exo_twin.inverse.plate_contacts import prepare, without_baseline
from exo_twin.inverse.plates import measured_ground_reaction


def measure(made, **changes):
    arguments = {"needed": made.needed, "cutoff_hz": None} | changes
    return measured_ground_reaction(made.signals, made.feet, made.events, MASS, **arguments)


def with_signals(made, change):
    return dataclasses.replace(made, signals=tuple(change(signal) for signal in made.signals))


def test_each_foot_gets_its_own_plate():
    made = walk()
    found = measure(made)
    np.testing.assert_allclose(found.forces["r"].force[:, 1], made.truth[1], atol=15.0)
    np.testing.assert_allclose(found.forces["l"].force[:, 1], made.truth[2], atol=15.0)
    strong = made.truth[1] > 100.0
    np.testing.assert_allclose(found.forces["r"].point[strong], pressure(1, made.feet.time)[strong], atol=1e-3)
    assert found.forces["r"].body == "calcn_r"
    assert not found.warnings


def test_filtering_keeps_the_moment_about_the_ground():
    made = walk()
    raw, filtered = measure(made), measure(made, cutoff_hz=6.0)
    origin = np.zeros(3)
    impulse = raw.forces["r"].moment_about(origin).sum(axis=0)
    np.testing.assert_allclose(filtered.forces["r"].moment_about(origin).sum(axis=0), impulse, rtol=0.01, atol=1.0)
    assert np.ptp(filtered.forces["r"].point[:, 0]) < 0.3  # the point stays under the foot, wherever the force is weak
    steepest = [np.abs(np.diff(found.forces["r"].force[:, 1])).max() for found in (raw, filtered)]
    assert steepest[1] < 0.9 * steepest[0]


@pytest.mark.parametrize("lag", [-0.06, -0.018, 0.0, 0.017, 0.051])
def test_lag_is_found_and_taken_off(lag):
    made = walk(lag=lag)
    found = measure(made)
    assert found.lag.seconds == pytest.approx(lag, abs=0.0008)  # half of a step of the search
    assert found.lag.method == "dynamics"
    assert abs(found.lag.seconds - lag) < 3.0 * found.lag.sd
    assert (found.lag.corrected != 0.0) == (lag != 0.0)
    np.testing.assert_allclose(found.forces["r"].force[:, 1], made.truth[1], atol=40.0)


def test_the_moment_has_a_say_in_the_lag_beside_the_vertical_force():
    """The plates' moment is 20 ms late, their force is not."""
    made = walk()
    body, time = made.needed, made.feet.time
    own = body.moment_about(body.centre)
    early = np.column_stack([np.interp(time + 0.02, time, column) for column in own.T])
    found = measure(made, needed=dataclasses.replace(body, moment=body.moment - own + early))
    assert 0.001 < found.lag.seconds < 0.02


def test_lag_without_dynamics_comes_from_contact_times():
    found = measure(walk(lag=0.05), needed=None)
    assert found.lag.method == "contact times"
    assert found.lag.seconds == pytest.approx(0.05, abs=0.01)
    assert any("contact times" in warning for warning in found.warnings)


def test_window_lasts_while_every_standing_foot_is_on_a_plate():
    found = measure(walk())
    first_off, third_strike = landing(0) + STANCE_S, landing(3)
    assert found.window == pytest.approx((first_off, third_strike), abs=0.011)
    assert not found.known["l"][found.time < first_off - 0.02][15:].any()
    assert found.valid.sum() == pytest.approx((third_strike - first_off) * 100.0, abs=2)


@pytest.mark.parametrize("lag", [-0.3, 0.2])
def test_unsynchronised_plates_are_refused(lag):
    with pytest.raises(ExoError, match="not synchronised"):
        measure(walk(lag=lag))


def test_plates_exchanged_with_each_other_are_refused():
    made = walk()
    one, two = made.signals
    # Each plate keeps its place, but feels the other's foot.
    first = dataclasses.replace(one, force=two.force, point=two.point - np.array([0.65, 0.0, -0.2]))
    second = dataclasses.replace(two, force=one.force, point=one.point + np.array([0.65, 0.0, -0.2]))
    with pytest.raises(ExoError, match="exchanged"):
        measure(dataclasses.replace(made, signals=(first, second)))


def test_force_on_the_wrong_foot_is_told_and_given_to_the_right_one():
    made = walk()
    one, two = made.signals
    swapped = (dataclasses.replace(one, body="calcn_l"), dataclasses.replace(two, body="calcn_r"))
    found = measure(dataclasses.replace(made, signals=swapped))
    assert sum("exchange the bodies" in warning for warning in found.warnings) == 2
    np.testing.assert_allclose(found.forces["r"].force[:, 1], made.truth[1], atol=15.0)


def test_treadmill_belts_carry_a_foot_each():
    made = on_treadmill(walk(plates=((0, 2, 4), (1, 3))))
    found = measure(made)
    assert [step.stance.side for step in found.steps] == list("lrlrl")
    assert found.lag.seconds == pytest.approx(0.0, abs=0.002)
    assert found.window[0] < 0.13 and found.window[1] > landing(4)
    assert not found.warnings
    together = made.truth[0] + made.truth[2] + made.truth[4]
    np.testing.assert_allclose(found.forces["l"].force[:, 1], together, atol=15.0)


def test_both_feet_on_one_plate_are_refused_where_they_overlap():
    made = walk(plates=((1, 2),))
    found = measure(made)
    assert any("both feet load plate 1" in warning for warning in found.warnings)
    both = (found.time > landing(2) + 0.01) & (found.time < landing(1) + STANCE_S - 0.01)
    assert not found.known["r"][both].any() and not found.known["l"][both].any()
    alone = (found.time > landing(1) + 0.05) & (found.time < landing(2) - 0.02)
    assert found.known["r"][alone].all()
    np.testing.assert_allclose(found.forces["r"].force[alone, 1], made.truth[1][alone], atol=15.0)
    later = found.time > landing(1) + STANCE_S + 0.02
    assert np.abs(found.forces["r"].force[later]).max() == 0.0


def test_a_foot_partly_beside_its_plate_is_not_known():
    found = measure(walk(share=0.7))
    assert any("part of the foot is beside" in warning for warning in found.warnings)
    assert np.abs(found.forces["r"].force).max() == np.abs(found.forces["r"].free_moment).max() == 0.0
    assert found.window is not None and found.window[0] > landing(1) + STANCE_S - 0.02


def test_without_a_whole_foot_on_a_plate_there_is_no_window_and_a_warning():
    found = measure(walk(plates=((1,),), share=0.7))
    assert found.window is None and not found.valid.any()
    assert any("only single legs" in warning for warning in found.warnings)


def test_the_window_ends_with_the_first_plate_s_recording_on_the_markers_clock():
    """Its foot has left by then, but the next one might stand on it unseen."""
    made = walk(lag=0.05)
    one, two = made.signals
    early = cut(dataclasses.replace(made, signals=(one,)), lambda time: time < 1.5).signals
    found = measure(dataclasses.replace(made, signals=(*early, two)))
    assert found.window[1] == pytest.approx(1.45, abs=0.011)


def test_contact_times_that_contradict_the_dynamics_are_a_warning():
    made = walk()
    late = {
        name: {side: tuple(t + 0.06 for t in times) for side, times in getattr(made.events, name).items()}
        for name in ("heel_strikes", "toe_offs")
    }
    found = measure(dataclasses.replace(made, events=dataclasses.replace(made.events, **late)))
    assert found.lag.contact_seconds == pytest.approx(-0.06, abs=1e-3)
    assert any("by the contact times the plates run -60 ms" in warning for warning in found.warnings)


def test_a_pressure_that_leaves_the_foot_is_told():
    made = walk()
    aside = made.signals[0].point + np.outer(made.signals[0].time > 1.1, [0.0, 0.0, 0.1])
    found = measure(
        dataclasses.replace(made, signals=(dataclasses.replace(made.signals[0], point=aside), *made.signals[1:]))
    )
    assert any("plate 1 lies outside the right foot for" in warning for warning in found.warnings)


def test_a_wrong_mass_is_not_taken_for_half_feet():
    made = walk()
    heavier = dataclasses.replace(made.needed, force=1.3 * made.needed.force)
    found = measured_ground_reaction(made.signals, made.feet, made.events, MASS, heavier, None)
    assert any("wearer's mass" in warning for warning in found.warnings)
    assert found.known["r"][(found.time > landing(1)) & (found.time < landing(1) + STANCE_S)].all()


def test_a_load_under_no_foot_is_left_out():
    made = walk(plates=((1,), (2,), (3,)))
    away = dataclasses.replace(made.signals[2], point=made.signals[2].point + np.array([0.0, 0.0, 0.4]))
    found = measure(dataclasses.replace(made, signals=(*made.signals[:2], away)))
    assert any("no foot stands there" in warning for warning in found.warnings)
    np.testing.assert_allclose(found.forces["l"].force[:, 1], made.truth[2], atol=15.0)


def test_somebody_else_s_step_during_the_walk_disturbs_nothing():
    made = walk()
    idle = made.signals[0]
    force = np.zeros_like(idle.force)
    force[900:1300, 1] = 300.0 * np.sin(np.linspace(0.0, np.pi, 400))
    beside = dataclasses.replace(
        idle, name="plate 3", force=force, point=np.tile([0.77, 0.0, 0.6], (len(force), 1)), free_moment=0.0 * force
    )
    found = measure(dataclasses.replace(made, signals=(*made.signals, beside)))
    (warning,) = found.warnings
    assert warning.startswith("plate 3 is loaded from 0.90 to 1.30 s while no foot")
    assert found.lag.seconds == pytest.approx(0.0, abs=0.002)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: dataclasses.replace(s, force=1e-3 * s.force), "in kN"),
        (lambda s: dataclasses.replace(s, force=s.force / 9.81), "in kgf"),
        (lambda s: dataclasses.replace(s, force=-s.force), "downward"),
        (lambda s: dataclasses.replace(s, force=0.0 * s.force), "ever loaded"),
        (lambda s: dataclasses.replace(s, point=1e3 * s.point), "in mm"),
        (lambda s: dataclasses.replace(s, point=s.point + np.array([9.0, 0.0, 0.0])), "different frames"),
    ],
)
def test_wrong_units_signs_and_frames_are_named(change, told):
    with pytest.raises(ExoError, match=told):
        measure(with_signals(walk(), change))


def test_impossible_mass_and_gaps_are_refused():
    made = walk()
    with pytest.raises(ExoError, match="mass"):
        measured_ground_reaction(made.signals, made.feet, made.events, 0.0)
    with pytest.raises(ExoError, match="gaps"):
        measure(made, needed=dataclasses.replace(made.needed, force=np.nan * made.needed.force))
    with pytest.raises(ExoError, match="no force plate"):
        measured_ground_reaction((), made.feet, made.events, MASS)


def test_baseline_and_drift_are_taken_off():
    signal = walk().signals[0]
    drift = np.column_stack([0.0 * signal.time, 8.0 + 6.0 * signal.time, 0.0 * signal.time])
    mended, told = without_baseline(dataclasses.replace(signal, force=signal.force + drift))
    assert "drifts" in told[0]
    np.testing.assert_allclose(mended.vertical, signal.vertical, atol=2.0)
    assert without_baseline(signal)[1] == []


def test_edges_that_were_cut_off_are_drawn_out():
    signal = walk().signals[0]
    cut = signal.vertical < 50.0
    point = np.where(cut[:, None], np.nan, signal.point)
    (mended,), (contact,), notes = prepare(
        (dataclasses.replace(signal, force=np.where(cut[:, None], 0.0, signal.force), point=point),)
    )
    assert "zeroed below about 5" in notes[0]
    assert contact.start == pytest.approx(landing(1), abs=0.004)
    assert contact.end == pytest.approx(landing(1) + STANCE_S, abs=0.004)
    np.testing.assert_allclose(mended.vertical, signal.vertical, atol=12.0)
    assert np.isfinite(mended.point).all()


def test_a_kick_is_no_step():
    signal = walk().signals[0]
    kick = signal.force.copy()
    kick[1800:1850, 1] += 200.0
    _, contacts, notes = prepare((dataclasses.replace(signal, force=kick),))
    assert len(contacts) == 1
    assert "too short" in notes[0]


def test_an_idle_plate_with_an_offset_is_idle():
    signal = walk().signals[0]
    offset = np.random.default_rng(2).normal([0.0, 40.0, 0.0], 2.0, signal.force.shape)
    mended, contacts, notes = prepare((dataclasses.replace(signal, force=offset),))
    assert not contacts
    assert "baseline of up to 4" in notes[0]
    assert not np.any(mended[0].force)


def test_slow_flanks_are_no_baseline():
    signal = walk().signals[0]
    slow = smooth(signal.force, signal.rate_hz, 8.0)
    assert without_baseline(dataclasses.replace(signal, force=slow))[1] == []


def cut(made, keep):
    def shortened(signal):
        rows = keep(signal.time)
        parts = {name: getattr(signal, name)[rows] for name in ("time", "force", "point", "free_moment")}
        return dataclasses.replace(signal, **parts)

    return with_signals(made, shortened)


@pytest.mark.parametrize("at", [0.75, 0.95, 1.15])
def test_what_the_plates_did_not_record_is_not_known(at):
    """The right foot stands on plate 1 from 0.65 to 1.35 s; a force of zero would be no measurement."""
    made = walk()
    ended = measure(cut(made, lambda time: time < at))
    standing = (ended.time > landing(1)) & (ended.time < landing(1) + STANCE_S)
    assert not ended.known["r"][standing & (ended.time > at + 0.01)].any()
    assert ended.known["r"][standing & (ended.time < at - 0.01)].all()
    assert any(f"ends at {at:.2f} s, while the foot stands" in warning for warning in ended.warnings)
    assert not any("beside" in warning for warning in ended.warnings)
    begun = measure(cut(made, lambda time: time > at))
    assert not begun.known["r"][standing & (begun.time < at - 0.01)].any()
    assert begun.known["r"][standing & (begun.time > at + 0.01)].all()
    assert any("begins at" in warning for warning in begun.warnings)


def test_free_moments_in_nmm_are_named():
    with pytest.raises(ExoError, match="Nmm"):
        measure(with_signals(walk(), lambda s: dataclasses.replace(s, free_moment=1e3 * s.free_moment)))
