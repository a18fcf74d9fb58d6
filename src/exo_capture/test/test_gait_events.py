import numpy as np
import pytest

from exo_capture.filtering import smooth
from exo_capture.gait_events import find_events, spatio_temporal
from exo_capture.sagittal import fit_view, to_markers
from exo_common.opensim_files import Markers, read_storage, read_trc

RATE_HZ, STATURE, STRIDE_S, SPEED = 30.0, 1.70, 1.1, 1.2
CONTACT_N = 20.0
# One frame of the 100 Hz markers; heel strikes of Zeni et al. are two frames early.
MEDIAN_ERROR_S, LARGEST_ERROR_S = 0.01, 0.02


def synthetic(walker, **options):
    landmarks = walker(**options).landmarks
    view = fit_view(landmarks, STATURE)
    return to_markers(landmarks, landmarks, np.arange(len(landmarks)) / RATE_HZ, view, STATURE)


@pytest.mark.parametrize("direction", [1, -1])
def test_strides_of_a_known_walk(walker, direction):
    markers = synthetic(walker, seconds=5.0, direction=direction)
    events = find_events(markers)
    assert all(len(events.of(side)) >= 3 for side in "lr")
    for stride in events.strides:
        assert stride.duration == pytest.approx(STRIDE_S, abs=0.02)
        assert stride.start < stride.toe_off < stride.end
        assert stride.length == pytest.approx(SPEED * STRIDE_S, rel=0.05)
    half = (events.heel_strikes["r"][0] - events.heel_strikes["l"][0]) % STRIDE_S
    assert half == pytest.approx(STRIDE_S / 2.0, abs=0.02)
    figures = spatio_temporal(events, markers)
    assert figures["cadence_steps_min"] == pytest.approx(120.0 / STRIDE_S, rel=0.01)
    assert figures["speed_m_s"] == pytest.approx(SPEED, rel=0.05)
    assert figures["stride_time_asymmetry_pct"] < 2.0


def test_a_stride_with_a_gap_is_left_out(walker):
    markers = synthetic(walker, seconds=5.0)
    before = find_events(markers)
    hole = before.of("l")[1]
    position = markers.position.copy()
    middle = np.abs(markers.time - (hole.start + hole.end) / 2.0) < 0.05
    position[middle, markers.names.index("LKnee")] = np.nan
    after = find_events(Markers(markers.time, markers.names, position))
    assert after.of("r") == before.of("r")
    assert after.of("l") == tuple(stride for stride in before.of("l") if stride != hole)


def test_a_recording_that_starts_just_after_a_heel_strike_does_not_invent_one(walker):
    markers = synthetic(walker, seconds=5.0)
    strike = find_events(markers).heel_strikes["l"][1]
    late = markers.time > strike + 0.04
    wiggle = 0.005 * np.sin(np.arange(late.sum()) * 2.0)
    position = markers.position[late].copy()
    position[:, markers.names.index("LHeel"), 0] += wiggle
    found = find_events(Markers(markers.time[late], markers.names, position)).heel_strikes["l"]
    assert found[0] == pytest.approx(strike + STRIDE_S, abs=0.05)


def test_a_standing_person_has_no_strides(walker):
    markers = synthetic(walker, seconds=3.0)
    still = Markers(markers.time, markers.names, np.repeat(markers.position[:1], len(markers.time), axis=0))
    events = find_events(still)
    assert events.strides == () and spatio_temporal(events, still) == {}


def test_steps_double_support_and_symmetry(walker):
    markers = synthetic(walker, seconds=6.0)
    events = find_events(markers)
    figures = spatio_temporal(events, markers)
    assert figures["step_length_m"] == pytest.approx(SPEED * STRIDE_S / 2.0, rel=0.03)
    assert figures["step_time_s"] == pytest.approx(STRIDE_S / 2.0, abs=0.01)
    assert figures["step_length_l_m"] + figures["step_length_r_m"] == pytest.approx(
        figures["stride_length_m"], rel=0.03
    )
    assert figures["double_support_pct"] == pytest.approx(2.0 * figures["stance_pct"] - 100.0, abs=3.0)
    for name in ("stride_time", "stride_length", "step_time", "step_length"):
        assert figures[f"{name}_asymmetry_pct"] < 4.0 and figures[f"{name}_cv_pct"] < 4.0


def test_a_limp_shows(walker):
    markers = synthetic(walker, seconds=6.0)
    position = markers.position.copy()
    right = [i for i, name in enumerate(markers.names) if name in ("RHeel", "RBigToe", "RAnkle", "RKnee")]
    # The right leg is always 5 cm further ahead of the pelvis: its steps are longer, the left ones shorter.
    position[:, right, 0] += 0.05
    limping = Markers(markers.time, markers.names, position)
    figures = spatio_temporal(find_events(limping), limping)
    assert figures["step_length_r_m"] - figures["step_length_l_m"] == pytest.approx(0.10, abs=0.02)
    assert figures["step_length_asymmetry_pct"] > 10.0


def test_walking_on_a_treadmill_gives_the_same_times(walker):
    markers = synthetic(walker, seconds=5.0)
    position = markers.position.copy()
    position[:, :, 0] -= SPEED * markers.time[:, None]
    on_belt = find_events(Markers(markers.time, markers.names, position))
    overground = find_events(markers)
    for side in "lr":
        np.testing.assert_allclose(on_belt.heel_strikes[side], overground.heel_strikes[side], atol=0.005)


def test_strides_of_somebody_who_turns_round_are_those_of_the_longest_way_forward(walker):
    markers = synthetic(walker, seconds=5.0)
    back = markers.position * (-1.0, 1.0, -1.0)
    time = np.concatenate([markers.time, markers.time[-1] + 1.0 / RATE_HZ + markers.time])
    events = find_events(Markers(time, markers.names, np.concatenate([markers.position, back])))
    forward = find_events(markers)
    assert len(events.strides) == len(forward.strides) and events.notes and not forward.notes
    assert min(stride.length for stride in events.strides) > 0.9 * SPEED * STRIDE_S
    backward = find_events(Markers(markers.time, markers.names, back))
    assert not backward.strides and backward.notes


def plate_errors(shared_data, landing):
    """Differences to force plates, s, of heel strikes and of toe-offs."""
    recorded = read_trc(shared_data / "walking_3d" / "markers_walk.trc")
    forces = read_storage(shared_data / "walking_3d" / "grf_walk.mot")

    def marker(name):
        return smooth(recorded.position[:, recorded.names.index(name)], recorded.rate_hz)

    pelvis = np.mean([marker(name) for name in ("R.ASIS", "L.ASIS", "R.PSIS", "L.PSIS")], axis=0)
    columns = {f"{side}Hip": pelvis for side in "LR"}
    for side in "LR":
        for joint, name in (("Knee", "Knee"), ("Ankle", "Ankle"), ("Heel", "Heel"), ("BigToe", "Toe")):
            columns[f"{side}{joint}"] = marker(f"{side}.{name}")
    events = find_events(Markers(recorded.time, tuple(columns), np.stack(list(columns.values()), axis=1)), landing)
    strikes, offs = [], []
    for side in "lr":
        loaded = forces.column(f"ground_force_{side}_vy") > CONTACT_N
        change = np.diff(loaded.astype(int))
        for errors, found, truth in (
            (strikes, events.heel_strikes[side], forces.time[1:][change > 0]),
            (offs, events.toe_offs[side], forces.time[1:][change < 0]),
        ):
            inside = truth[(truth > recorded.time[0] + 0.1) & (truth < recorded.time[-1] - 0.1)]
            errors += [min(np.array(found) - t, key=abs) for t in inside]
    return np.array(strikes), np.array(offs)


def test_events_agree_with_force_plates(shared_data):
    strikes, offs = plate_errors(shared_data, landing=True)
    zeni, _ = plate_errors(shared_data, landing=False)
    assert len(strikes) == 3 and len(offs) == 3
    for errors in (strikes, offs):
        assert np.median(np.abs(errors)) < MEDIAN_ERROR_S and np.abs(errors).max() < LARGEST_ERROR_S
    assert np.median(np.abs(strikes)) < 0.5 * np.median(np.abs(zeni))
