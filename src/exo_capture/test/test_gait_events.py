import numpy as np
import pytest

from exo_capture.gait_events import find_events, spatio_temporal
from exo_capture.sagittal import fit_view, to_markers
from exo_common.opensim_files import Markers, read_storage, read_trc

RATE_HZ, STATURE, STRIDE_S, SPEED = 30.0, 1.70, 1.1, 1.2
CONTACT_N = 20.0
# The gait events of Zeni et al. are within two or three frames of a force plate's.
EVENT_TOLERANCE_S = 0.05


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


def test_events_agree_with_force_plates(shared_data):
    recorded = read_trc(shared_data / "walking_3d" / "markers_walk.trc")
    forces = read_storage(shared_data / "walking_3d" / "grf_walk.mot")

    def marker(name):
        return recorded.position[:, recorded.names.index(name)]

    pelvis = np.mean([marker(name) for name in ("R.ASIS", "L.ASIS", "R.PSIS", "L.PSIS")], axis=0)
    columns = {f"{side}Hip": pelvis for side in "LR"}
    for side in "LR":
        for joint, name in (("Knee", "Knee"), ("Ankle", "Ankle"), ("Heel", "Heel"), ("BigToe", "Toe")):
            columns[f"{side}{joint}"] = marker(f"{side}.{name}")
    events = find_events(Markers(recorded.time, tuple(columns), np.stack(list(columns.values()), axis=1)))
    compared = 0
    for side in "lr":
        loaded = forces.column(f"ground_force_{side}_vy") > CONTACT_N
        change = np.diff(loaded.astype(int))
        for found, truth in (
            (events.heel_strikes[side], forces.time[1:][change > 0]),
            (events.toe_offs[side], forces.time[1:][change < 0]),
        ):
            for t in truth:
                if recorded.time[0] + 0.1 < t < recorded.time[-1] - 0.1:
                    assert min(abs(np.array(found) - t)) < EVENT_TOLERANCE_S
                    compared += 1
    assert compared >= 4
