"""Recorded and live derivatives: exact where they can be, late by what they say, equal to each other in the limit."""

import subprocess
import sys
import time

import numpy as np
import pytest
from jointed_bodies import crooked_chain, two_links, waving

from exo_common.errors import ExoError
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.inverse_dynamics import InverseDynamics
from exo_twin.inverse.motion_derivatives import derivatives
from exo_twin.inverse.streaming_derivatives import StreamingConfig, StreamingDerivatives
from exo_twin.inverse.streaming_dynamics import StreamingDynamics

TIME = np.arange(0.0, 3.0, 0.01)
MIDDLE = slice(60, -60)


def streamed(config, stamps, q):
    """What comes out of the stream, with the stamp at which it came."""
    stream = StreamingDerivatives(config)
    came = [(stamp, stream.push(float(stamp), row)) for stamp, row in zip(stamps, q, strict=True)]
    return [(stamp, moving) for stamp, moving in came if moving is not None]


def test_unfiltered_derivatives_are_those_of_the_motion():
    q, v, a = waving(TIME, 3)
    found = derivatives(TIME, q, cutoff_hz=None)
    np.testing.assert_allclose(found.q, q, atol=1e-12)
    np.testing.assert_allclose(found.speed[MIDDLE], v[MIDDLE], atol=1e-6)
    np.testing.assert_allclose(found.acceleration[MIDDLE], a[MIDDLE], atol=1e-4)
    between = TIME[100:200] + 0.004
    np.testing.assert_allclose(derivatives(TIME, q, None, at=between).q, waving(between, 3)[0], atol=1e-7)


def test_the_low_pass_halves_its_cut_off_without_moving_it():
    wave = np.sin(2.0 * np.pi * 6.0 * TIME)[:, None]
    np.testing.assert_allclose(derivatives(TIME, wave, 6.0).q[MIDDLE], 0.5 * wave[MIDDLE], atol=5e-3)


def test_times_rounded_to_milliseconds_do_no_harm():
    even = np.arange(0.0, 2.0, 1.0 / 120.0)
    q = waving(even, 2)[0]
    exact, rounded = derivatives(even, q), derivatives(np.round(even, 3), q, at=even[:-1])
    np.testing.assert_allclose(rounded.acceleration, exact.acceleration[:-1], atol=0.2)  # of 10


def test_a_recording_that_cannot_be_differentiated_is_named():
    q = np.zeros((len(TIME), 1))
    with pytest.raises(ExoError, match="too few"):
        derivatives(TIME[:4], q[:4])
    with pytest.raises(ExoError, match="evenly"):
        derivatives(np.delete(TIME, 50), q[1:])
    with pytest.raises(ExoError, match="cut-off"):
        derivatives(TIME, q, 60.0)
    with pytest.raises(ExoError, match="asked for"):
        derivatives(TIME, q, at=TIME + 1.0)
    q[7] = np.nan
    with pytest.raises(ExoError, match="finite"):
        derivatives(TIME, q)


def test_a_stream_with_time_to_look_back_is_the_recorded_filter():
    random = np.random.default_rng(2)
    q = waving(TIME, 2)[0] + 0.005 * random.normal(size=(len(TIME), 2))
    offline = derivatives(TIME, q)
    for delay, tolerance in ((0.3, 0.005), (0.06, 0.15)):
        found = [moving for _, moving in streamed(StreamingConfig(delay_s=delay), TIME, q)]
        rows = np.searchsorted(TIME, [moving.time - 1e-6 for moving in found])
        steady = (rows > 60) & (rows < len(TIME) - 60)
        error = np.array([moving.acceleration for moving in found])[steady] - offline.acceleration[rows[steady]]
        assert np.sqrt(np.mean(error**2)) < tolerance * np.sqrt(np.mean(offline.acceleration**2))


def test_the_delay_is_as_stated_and_a_parabola_is_followed_exactly_also_on_uneven_stamps():
    random = np.random.default_rng(3)
    stamps = np.cumsum(random.uniform(0.005, 0.02, 200))
    q = np.column_stack([1.0 + 2.0 * stamps - 3.0 * stamps**2])
    config = StreamingConfig()
    found = streamed(config, stamps, q)
    behind = [np.searchsorted(stamps, stamp) - np.searchsorted(stamps, moving.time) for stamp, moving in found]
    assert set(behind) == {config.frames_behind} == {6}
    first, last = found[0][1], found[-1][1]
    assert first.time - stamps[0] >= 0.25  # 1.5 periods: until then the guess at the start shows
    assert last.speed[0] == pytest.approx(2.0 - 6.0 * last.time, abs=1e-3)
    assert last.acceleration[0] == pytest.approx(-6.0, abs=1e-2)


def test_after_silence_the_stream_starts_anew_and_old_frames_are_ignored():
    stream = StreamingDerivatives()
    for stamp in TIME[:100]:
        moving = stream.push(float(stamp), np.array([stamp]))
    assert moving is not None
    assert stream.push(float(TIME[50]), np.array([9.0])) is None
    assert stream.push(float(TIME[100]), np.array([TIME[100]])).speed[0] == pytest.approx(1.0, abs=1e-6)
    assert stream.push(1.4, np.array([-40.0])) is None
    with pytest.raises(ExoError, match="not finite"):
        stream.push(1.41, np.array([np.nan]))


def test_live_moments_are_those_of_a_recording_with_the_force_of_the_same_moment():
    tree, inertia = two_links()
    q, v, a = waving(TIME, 2)
    push = np.column_stack([np.zeros(len(TIME)), 50.0 * np.sin(9.0 * TIME), np.zeros(len(TIME))])
    force = ExternalForce("body_1", push, np.tile([0.5, 0.1, 0.0], (len(TIME), 1)), np.zeros_like(push))
    exact = InverseDynamics(tree, inertia).solve(q, v, a, [force])
    stream = StreamingDynamics(tree, inertia, StreamingConfig(cutoff_hz=20.0))
    error = []
    for i, stamp in enumerate(TIME):
        live = stream.push(float(stamp), q[i], [force.frames(slice(i, i + 1))])
        assert stream.push(float(stamp), q[0], [force.frames(slice(0, 1))]) is None  # the same frame once more
        if live is not None and i > 100:
            row = int(np.argmin(np.abs(TIME - live.time)))
            assert row == i - stream.config.frames_behind
            error.append(live.dynamics.forces[0] - exact.forces[row])
    assert np.abs(error).max() < 0.02 * np.abs(exact.forces).max()


def test_one_frame_takes_less_than_a_frame():
    tree, inertia = crooked_chain()
    q = waving(TIME, 8)[0]
    stream, spent = StreamingDynamics(tree, inertia), []
    for stamp, row in zip(TIME, q, strict=True):
        began = time.perf_counter()
        stream.push(float(stamp), row)
        spent.append(time.perf_counter() - began)
    assert np.median(spent) < 2e-3  # s; measured 0.3 ms on a quiet machine


def test_live_moments_need_no_opensim():
    code = "import sys, exo_twin.inverse.streaming_dynamics; sys.exit('opensim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
