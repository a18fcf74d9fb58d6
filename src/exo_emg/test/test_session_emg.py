"""EMG of a session on the clock of its walk, by every way of relating the clocks; and real files that show no taps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, write_trc
from exo_common.session import load
from exo_emg.gait_profile import gait_profiles, stride_peaks
from exo_emg.session_emg import Heels, load_session_emg
from exo_emg.synthesis import EmgSynthesizer

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "gait_speeds"
RATE = 1000.0
OFFSET = -0.35
TAPS = np.array([2.0, 2.8, 4.1, 6.0, 8.7])
PULSES = np.array([1.0, 1.9, 3.3, 4.0, 6.1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session with EMG in mV that started 0.35 s before the walk's clock, taps and pulses in it."""
    time = np.arange(11000) / RATE
    shock, trigger = np.zeros(len(time)), np.zeros(len(time))
    for tap in TAPS - OFFSET:
        since = time - tap
        shock += np.where(since >= 0, np.exp(-since / 0.02) * np.sin(2 * np.pi * 60 * since), 0.0)
    for pulse in PULSES - OFFSET:
        trigger[round(pulse * RATE) : round(pulse * RATE) + 20] = 5000.0
    emg = EmgSynthesizer(3, 0).frame(np.full((len(time), 3), 0.01)) + 4e-4 * shock[:, None]
    table = np.column_stack([time, 1e3 * emg, trigger])
    header = "time,R_soleus,R_TA,CH3,SYNC"
    np.savetxt(tmp_path / "emg.csv", table, delimiter=",", header=header, comments="", fmt="%.7g")
    np.savetxt(tmp_path / "pulses.csv", PULSES, header="time", comments="")
    exchanges = np.column_stack([np.arange(5.0), np.full(5, OFFSET), np.full(5, 1e-3)])
    np.savetxt(tmp_path / "lsl.csv", exchanges, delimiter=",", header="time,offset,uncertainty", comments="")
    write_trc(tmp_path / "walk.trc", Markers(np.arange(3) / 100.0, ("LHeel",), np.zeros((3, 1, 3))))
    return tmp_path


def heels() -> Heels:
    """A heel that is raised and dropped on each tap, at 100 Hz."""
    time = np.arange(1000) / 100.0
    height = np.zeros(len(time))
    for tap in TAPS:
        rise = np.clip((time - tap + 0.45) / 0.3, 0.0, 1.0)
        fall = np.clip((time - tap + 0.111) / 0.111, 0.0, 1.0) ** 2
        height += np.where(time < tap, 0.06 * (0.5 - 0.5 * np.cos(np.pi * rise)) * (1.0 - fall), 0.0)
    heel = np.stack([0 * height, height, 0 * height], axis=1)[:, None]
    return Heels(time, heel + 3e-4 * np.random.default_rng(0).standard_normal(heel.shape))


def session(folder: Path, sync: str, names: str = "CH3: vastus_medialis_r, SYNC: trigger") -> None:
    (folder / "session.yaml").write_text(
        "wearer: {id: w01, height: 1.72, mass: 68.0}\nkeypoints: {file: walk.trc}\n"
        f"emg: {{file: emg.csv, unit: mV, muscles: {{{names}}}, sync: {{{sync}}}}}\n"
    )


@pytest.mark.parametrize(
    ("sync", "method"),
    [
        (f"method: offset, offset: {OFFSET}, uncertainty: 0.004", "stated in the session"),
        ("method: trigger, channel: SYNC, reference: pulses.csv", "trigger pulses"),
        ("method: lsl, reference: lsl.csv", "LSL clock"),
        ("method: taps", "heel taps"),
    ],
)
def test_every_way_finds_the_offset_within_its_own_uncertainty(folder: Path, sync: str, method: str) -> None:
    session(folder, sync)
    emg = load_session_emg(load(folder), heels())
    assert emg.clock.method == method
    assert abs(emg.time_s[0] - OFFSET) <= emg.clock.uncertainty_s + 1e-6 < 0.02
    emg.clock.require(0.0, 11.0)
    assert emg.recording.layout.muscles == ("soleus_r", "tibialis_anterior_r", "vastus_medialis_r")
    assert np.abs(emg.recording.samples).max() < 5e-3, "mV were taken for V"


@pytest.mark.parametrize("edge", ["rising", "falling"])
def test_the_session_says_which_edge_of_long_pulses_the_other_side_saw(folder: Path, edge: str) -> None:
    table = np.loadtxt(folder / "emg.csv", delimiter=",", skiprows=1)
    table[:, 4] = 0.0
    for pulse in PULSES - OFFSET:
        start, end = (0.0, 0.5) if edge == "rising" else (-0.5, 0.0)
        table[(table[:, 0] >= pulse + start - 1e-6) & (table[:, 0] < pulse + end - 1e-6), 4] = 5000.0
    header = "time,R_soleus,R_TA,CH3,SYNC"
    np.savetxt(folder / "emg.csv", table, delimiter=",", header=header, comments="", fmt="%.7g")
    session(folder, "method: trigger, channel: SYNC, reference: pulses.csv")
    with pytest.raises(ExoError, match="which edge"):
        load_session_emg(load(folder))
    session(folder, f"method: trigger, channel: SYNC, reference: pulses.csv, edge: {edge}")
    emg = load_session_emg(load(folder))
    assert abs(emg.time_s[0] - OFFSET) <= emg.clock.uncertainty_s + 1e-6


@pytest.mark.parametrize(
    ("sync", "cause"),
    [
        ("method: trigger, channel: CH3, reference: pulses.csv", "trigger"),
        ("method: lsl, reference: pulses.csv", r"must hold rows of 3 number\(s\)"),
        ("method: taps, start: 3, end: 5", "only 1 heel taps were seen by both|at any offset|more than one offset"),
        ("method: taps, end: 1", "the other recording shows no heel taps"),
    ],
)
def test_what_cannot_relate_the_clocks_is_one_sentence(folder: Path, sync: str, cause: str) -> None:
    session(folder, sync)
    with pytest.raises(ExoError, match=cause) as caught:
        load_session_emg(load(folder), heels())
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("sent_s", "here_s", "cause"), [(5e4, 5e4, "of another clock"), (0.0, 9e4, "LSL did not stamp")]
)
def test_lsl_exchanges_of_other_clocks_are_refused(folder: Path, sent_s: float, here_s: float, cause: str) -> None:
    """The EMG's file begins at 0 s, and so does the walk; LSL's clocks count from the start of a computer."""
    rows = np.column_stack([sent_s + np.arange(5.0), np.full(5, here_s - sent_s), np.full(5, 1e-3)])
    np.savetxt(folder / "lsl.csv", rows, delimiter=",", header="time,offset,uncertainty", comments="")
    session(folder, "method: lsl, reference: lsl.csv")
    with pytest.raises(ExoError, match=cause):
        load_session_emg(load(folder), heels())


def test_a_trigger_channel_that_is_not_there_is_named(folder: Path) -> None:
    rows = np.loadtxt(folder / "emg.csv", delimiter=",", skiprows=1)[:, :3]
    np.savetxt(folder / "emg.csv", rows, delimiter=",", header="time,R_soleus,R_TA", comments="")
    session(folder, "method: trigger, channel: SYNC, reference: pulses.csv", names="")
    with pytest.raises(ExoError, match=r"has no channel 'SYNC'; correct emg\.sync\.channel"):
        load_session_emg(load(folder))


def test_taps_need_a_recording_that_saw_the_heels(folder: Path) -> None:
    session(folder, "method: taps")
    with pytest.raises(ExoError, match="asks for taps, but this recording shows none"):
        load_session_emg(load(folder))


@pytest.mark.skipif(not DATA.is_dir(), reason="the reference recordings are not here")
def test_real_walks_without_taps_or_pulses_give_no_offset(tmp_path: Path) -> None:
    """EMG and markers of these files share one clock: whatever is claimed about it must be true, or nothing claimed."""
    walks = sorted(DATA.glob("*/*_C[45]_*.c3d"))
    assert walks
    claimed = 0
    for walk in walks:
        (tmp_path / "walk.c3d").unlink(missing_ok=True)
        (tmp_path / "walk.c3d").symlink_to(walk)
        (tmp_path / "session.yaml").write_text(
            "wearer: {id: w01, height: 1.72, mass: 68.0}\nmarkers: {file: walk.c3d}\nemg: {sync: {method: taps}}\n"
        )
        try:
            clock = load_session_emg(load(tmp_path), real_heels(walk)).clock
            clock.require(0.0, 1.0)
        except ExoError:
            continue
        claimed += 1
        assert abs(clock.offset_s) <= clock.uncertainty_s
    assert claimed <= len(walks) // 10


def real_heels(walk: Path) -> Heels:
    import ezc3d  # type: ignore[import-untyped]

    content = ezc3d.c3d(str(walk))
    labels = content["parameters"]["POINT"]["LABELS"]["value"]
    columns = [labels.index(name) for name in ("L_FCC", "R_FCC") if name in labels]
    assert columns, "no heel markers"
    rate = content["parameters"]["POINT"]["RATE"]["value"][0]
    # The lab's z is up.
    position: NDArray[np.float64] = 1e-3 * content["data"]["points"][[0, 2, 1]][:, columns].transpose(2, 1, 0)
    return Heels(np.arange(len(position)) / rate, position)


def test_profiles_and_peaks_belong_to_the_strides_of_the_own_leg() -> None:
    time = np.arange(400) / 100.0
    bump = np.exp(-(((time % 1.0) - 0.3) ** 2) / 0.005)
    scale = np.where(time < 2.0, 1.0, np.where(time < 3.0, 0.8, 5.0))
    envelope = np.column_stack([scale * bump, np.full(400, 0.2), np.where(time < 0.5, np.nan, 1.0)])
    strides = {"r": [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)], "l": [(0.0, 1.0), (1.2, 2.2), (3.5, 4.5)]}
    names = ("soleus_r", "soleus_l", "vastus_medialis_l")
    profiles = gait_profiles(envelope, time, names, strides)
    assert [profiles[name].strides for name in names] == [3, 2, 1]
    assert int(np.argmax(profiles["soleus_r"].mean)) == 30
    assert profiles["soleus_r"].mean.max() == pytest.approx(2.8 / 3, rel=1e-2)
    assert profiles["soleus_r"].sd.max() == pytest.approx(np.std([1.0, 1.0, 0.8], ddof=1), rel=1e-2)
    peaks = stride_peaks(envelope, time, names, strides)
    assert peaks[0] == pytest.approx(1.0, rel=1e-2), "what lies outside of the strides counts"
    assert gait_profiles(envelope, time, names, {"r": strides["r"]}).keys() == {"soleus_r"}
    # What is known of half a stride is not its peak, unless there is nothing better.
    envelope[:150, 0] = np.nan
    envelope[:, 2] = np.nan
    peaks = stride_peaks(envelope, time, names, strides)
    assert peaks[0] == pytest.approx(0.8, rel=1e-2) and np.isnan(peaks[2])
    assert stride_peaks(envelope, time, names, {"r": [(1.0, 2.0)]})[0] < 0.7
