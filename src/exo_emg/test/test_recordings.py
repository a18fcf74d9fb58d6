"""EMG files of every kind become V under muscle names; what cannot be trusted is refused with its cause and cure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exo_common.bag import BagWriter
from exo_common.clock import to_stamp
from exo_common.errors import ExoError
from exo_common.opensim_files import Storage, write_storage
from exo_emg import recording_tables
from exo_emg.recordings import FileOptions, open_recording, read_recording

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
RATE = 1000.0
MUSCLES = ("soleus_r", "tibialis_anterior_l")


def signal(n: int = 3000) -> np.ndarray:
    return 2e-4 * np.random.default_rng(1).standard_normal((n, 2))


def table(path: Path, values: np.ndarray, names: str = "time,R_soleus,Left TA", time: np.ndarray | None = None) -> Path:
    time = np.arange(len(values)) / RATE + 5.0 if time is None else time
    rows = [",".join(f"{v:.9g}" for v in row) for row in np.column_stack([time, values])]
    path.write_text("\n".join([names, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("names", "scale", "unit"),
    [
        ("time,R_soleus,Left TA", 1.0, ""),
        ("Time [s],R_soleus [mV],Left TA [mV]", 1e3, ""),
        ("Time (s),R_soleus (µV),Left TA (uV)", 1e6, ""),
        ("t,R_soleus_mV,L.TibAnt_mV", 1e3, ""),
        ("time,R_soleus,Left TA\ns,uV,uV", 1e6, ""),
        ("time,R_soleus,Left TA", 1e3, "mV"),
    ],
)
def test_names_and_units_of_a_csv(tmp_path: Path, names: str, scale: float, unit: str) -> None:
    found = read_recording(table(tmp_path / "a.csv", scale * signal(), names), FileOptions(unit=unit))
    assert found.layout.muscles == MUSCLES and found.layout.rate_hz == RATE and found.raw
    assert found.time0_s == 5.0 and found.time_s[-1] == pytest.approx(7.999)
    np.testing.assert_allclose(found.samples, signal(), rtol=1e-6)


def test_a_european_csv_without_times(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [";".join(f"{1e3 * v:.9g}".replace(".", ",") for v in row) for row in signal(500)]
    talk = ["Noraxon export", "Sampling rate: 1,5 kHz", "Soleus Rt [mV];Tib. Ant. Lt [mV]"]
    path.write_text("\n".join([*talk, *rows]), encoding="latin-1")
    found = read_recording(path)
    assert found.layout.rate_hz == 1500.0 and found.layout.muscles == MUSCLES
    np.testing.assert_allclose(found.samples, signal(500), rtol=1e-6)


def test_other_columns_are_left_out_with_a_note_and_the_trigger_is_kept_if_asked_for(tmp_path: Path) -> None:
    values = np.column_stack([signal(), np.full(3000, 9.81), np.tile([0.0, 5.0], 1500)])
    path = table(tmp_path / "a.csv", values, "time,R_soleus,L_TA,ACC X,Sync")
    found = read_recording(path)
    assert found.layout.muscles == MUSCLES and any("ACC X, Sync" in note for note in found.notes)
    both = read_recording(path, names={"Sync": "trigger"})
    assert both.layout.muscles == (*MUSCLES, "trigger") and both.samples[:, 2].max() == 5.0
    assert read_recording(path, names={"L_TA": "-"}).layout.muscles == ("soleus_r",)


def test_missing_rows_and_cells_are_nan_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_tables, "BLOCK_ROWS", 400)
    values, keep = signal(), np.r_[0:799, 850:3000]
    path = table(tmp_path / "a.csv", values[keep], time=keep / RATE)
    lines = path.read_text().splitlines()
    lines[4] = lines[4].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines))
    found = read_recording(path)
    assert len(found.samples) == 3000 and any("51 samples are missing" in note for note in found.notes)
    assert np.isnan(found.samples[799:850]).all() and np.isnan(found.samples[3, 1])
    values[799:850] = np.nan
    values[3, 1] = np.nan
    np.testing.assert_allclose(found.samples, values, rtol=1e-6)


def test_times_rounded_to_ms_still_tell_the_rate(tmp_path: Path) -> None:
    rates = {2000.0: 2000.0, 900.0: 900.0, 1926.0: 1926.0, 1111.1111: pytest.approx(1111.1111, rel=1e-6)}
    for rate, expected in rates.items():
        time = np.round(np.arange(30000) / rate, 3)
        found = read_recording(table(tmp_path / "a.csv", signal(30000), time=time))
        assert found.layout.rate_hz == expected and len(found.samples) == 30000, rate
        assert abs(found.time_s[-1] - 29999 / rate) < 1e-3, rate


def test_a_rate_that_is_nearly_whole_is_not_made_whole_where_that_moves_the_end(tmp_path: Path) -> None:
    found = read_recording(table(tmp_path / "a.csv", signal(60000), time=np.arange(60000) / 1000.05))
    assert found.time_s[-1] == pytest.approx(59999 / 1000.05, abs=1e-5)


def test_holes_between_rounded_times_keep_what_follows_in_its_place(tmp_path: Path) -> None:
    keep = np.r_[0:3000, 3051:9000, 9007:15000, 25000:30000]
    found = read_recording(table(tmp_path / "a.csv", signal(30000)[keep], time=np.round(keep / 2000.0, 3)))
    there = np.flatnonzero(np.isfinite(found.samples[:, 0]))
    assert found.layout.rate_hz == 2000.0 and len(there) == len(keep)
    np.testing.assert_array_equal(there, keep)


def test_a_hole_too_long_to_count_at_first_does_not_bend_the_rate(tmp_path: Path) -> None:
    keep = np.r_[0:10000, 700000:710000]
    path = table(tmp_path / "a.csv", np.resize(signal(), (20000, 2)), time=np.round(keep / 1926.0, 3))
    assert open_recording(path).layout.rate_hz == pytest.approx(1926.0, rel=3e-6)
    assert sum(len(block) for block in open_recording(path).blocks()) == pytest.approx(710000, abs=3)


def test_times_of_a_busy_computer_are_no_holes(tmp_path: Path) -> None:
    jitter = np.random.default_rng(2).uniform(-0.45, 0.45, 3000)
    found = read_recording(table(tmp_path / "a.csv", signal(), time=(np.arange(3000) + jitter) / RATE))
    assert len(found.samples) == 3000 and found.layout.rate_hz == RATE
    assert not any("missing" in note for note in found.notes)


def test_repeated_times_that_are_not_rounding_are_refused(tmp_path: Path) -> None:
    twice = np.repeat(signal(1500), 2, axis=0)
    with pytest.raises(ExoError, match="rows are written twice"):
        read_recording(table(tmp_path / "a.csv", twice, time=np.repeat(np.arange(1500) / RATE, 2)))
    time = np.arange(3000) / RATE
    time[2000:2010] = time[2000]
    with pytest.raises(ExoError, match="share the time 2 s, which rounding"):
        read_recording(table(tmp_path / "b.csv", signal(), time=time))


def test_a_long_hole_is_handed_on_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_tables, "BLOCK_ROWS", 500)
    time = np.arange(3000) / RATE + np.where(np.arange(3000) >= 1750, 590.0, 0.0)
    sizes = [len(block) for block in open_recording(table(tmp_path / "a.csv", signal(), time=time)).blocks()]
    assert sum(sizes) == 593000 and max(sizes) == 500
    far = [frame(0, signal()[:10]), frame(590_000, signal()[10:20])]
    sizes = [len(block) for block in open_recording(write_bag(tmp_path / "bag", far)).blocks()]
    assert sum(sizes) == 590_010 and max(sizes) == 10_000


def test_a_large_table_is_never_whole_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_tables, "BLOCK_ROWS", 256)
    file = open_recording(table(tmp_path / "a.csv", signal()))
    assert max(len(block) for block in file.blocks()) == 256
    chunks = list(file.chunks(0.1))
    np.testing.assert_allclose(np.concatenate([c.samples for c in chunks]), signal(), rtol=1e-6)
    assert [c.stamp_ns for c in chunks[:2]] == [5_000_000_000, 5_100_000_000]
    assert all(b.first_sample == a.next_sample for a, b in itertools.pairwise(chunks))


@pytest.mark.parametrize(
    ("names", "scale", "words"),
    [
        ("time,R_soleus,L_TA", 1e3, "looks like mV"),
        ("time,R_soleus,L_TA", 1e6, "looks like uV"),
        ("time,R_soleus [mV],L_TA [mV]", 1e6, "looks like uV"),
        ("time,R_soleus [uV],L_TA [uV]", 1.0, "an amplifier's own noise"),
        ("time,R_soleus,L_TA [bar]", 1.0, "left out|bar"),
        ("time,R_soleos,L_TA", 1.0, "R_soleos.*did you mean soleus"),
        ("time,soleus,L_TA", 1.0, "names no side"),
        ("time,R_GM,L_TA", 1.0, "may be gluteus_maximus or"),
        ("time,R_soleus,Right Soleus", 1.0, "two EMG channels are called soleus_r"),
        ("time [h],R_soleus,L_TA", 1.0, "time in 'h'"),
        ("time,b,c", 1.0, "did you mean"),
        ("4.99,1,2", 1.0, "does not name its columns"),
        ("frame,R_soleus,L_TA", 1.0, "give the sampling rate"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, names: str, scale: float, words: str) -> None:
    path = table(tmp_path / "a.csv", scale * signal(), names)
    if "left out" in words:
        assert any("L_TA" in note for note in read_recording(path).notes)
        return
    with pytest.raises(ExoError, match=words) as refused:
        read_recording(path)
    assert "\n" not in str(refused.value) and "a.csv" in str(refused.value)


def test_one_open_electrode_is_noted_and_a_ground_that_falls_off_is_no_wrong_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_tables, "BLOCK_ROWS", 200)
    hum = 0.05 * np.sin(2.0 * np.pi * 50.0 * np.arange(3000) / RATE)
    open_one, no_ground = signal(), signal()
    open_one[1000:, 1] = hum[1000:]
    no_ground[2600:] = hum[2600:, None]
    found = read_recording(table(tmp_path / "a.csv", open_one))
    np.testing.assert_allclose(found.samples, open_one, rtol=1e-6)
    assert any("tibialis_anterior_l reaches 50 mV" in note for note in found.notes)
    assert not any("soleus_r" in note for note in found.notes)
    assert len(read_recording(table(tmp_path / "b.csv", no_ground)).samples) == 3000


def test_what_is_played_is_never_refused_for_its_amplitude(tmp_path: Path) -> None:
    file = open_recording(table(tmp_path / "a.csv", 1e3 * signal()))
    assert sum(len(block) for block in file.blocks(judge=False)) == 3000
    with pytest.raises(ExoError, match="looks like mV"):
        file.read()


def test_a_file_in_v_that_is_read_as_mv_is_refused(tmp_path: Path) -> None:
    bursts = signal() * (np.arange(3000)[:, None] % 1000 < 400) + 1e-6 * signal(6000)[3000:]
    path = table(tmp_path / "a.csv", bursts)
    assert np.std(read_recording(path).samples) > 1e-4
    with pytest.raises(ExoError, match="amplifier's own noise"):
        read_recording(path, FileOptions(unit="mV"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text[: len(text) - 20], "truncated"),
        (lambda text: text.replace("\n5.1,", "\n5.1,oops,"), "truncated or damaged: line 102"),
        (lambda text: text.replace("\n5.1,", "\nfive,"), "line 102 is no number"),
        (lambda text: text.replace("\n5.1,", "\n4.1,"), "runs backwards"),
        (lambda text: text.replace("\n7.999,", "\n99999,"), "time jumps"),
        (lambda text: "\0\1\2" + text, "not a text file"),
        (lambda text: "", "no table"),
        (lambda text: text.splitlines()[0], "no table"),
    ],
)
def test_a_damaged_table_is_a_sentence(tmp_path: Path, spoil: object, words: str) -> None:
    path = table(tmp_path / "a.csv", signal())
    path.write_text(spoil(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ExoError, match=words):
        read_recording(path)


def test_a_time_in_ms_without_its_unit_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", signal(), time=np.arange(3000.0))
    with pytest.raises(ExoError, match="looks like ms"):
        read_recording(path)


def test_storages_hold_signals_or_envelopes(tmp_path: Path) -> None:
    path, time = tmp_path / "emg.sto", np.arange(3000) / RATE
    write_storage(path, Storage(time, ("soleus_r", "TA_l"), signal(), False))
    raw = read_recording(path)
    assert raw.raw and raw.layout.muscles == ("soleus_r", "TA_l")
    write_storage(path, Storage(time, ("soleus", "tibialis_anterior"), np.abs(1e3 * signal()), False))
    envelope = read_recording(path, FileOptions(side="r"))
    assert not envelope.raw and any("envelopes" in note for note in envelope.notes)
    path.write_text("\n".join(path.read_text().splitlines()[:1000]))
    with pytest.raises(ExoError, match=r"truncated: 993 of 3000 rows"):
        read_recording(path, FileOptions(side="r"))


def frame(first: int, samples: np.ndarray, start_ns: int = 10_000_000_000, muscles: tuple[str, ...] = MUSCLES) -> bytes:
    from rclpy.serialization import serialize_message

    from exo_interfaces.msg import EmgFrame

    message = EmgFrame(first_sample=first, sampling_rate_hz=RATE, muscles=list(muscles))
    message.samples = samples.astype(np.float32).ravel()
    message.header.stamp = to_stamp(start_ns + first * 1_000_000)
    return bytes(serialize_message(message))


def write_bag(folder: Path, frames: list[bytes]) -> Path:
    with BagWriter(folder) as writer:
        for k, data in enumerate(frames):
            writer.write("/emg/raw", "exo_interfaces/msg/EmgFrame", data, k * 10_000_000)
    return folder


def test_a_bag_comes_back_with_its_holes(tmp_path: Path) -> None:
    x = signal(300)
    frames = [frame(k, x[k : k + 10]) for k in range(0, 300, 10) if k not in (100, 110)]
    # The driver is started again and counts from zero: the stamps tell that 40 samples are missing.
    frames += [frame(k, x[k : k + 10], 10_340_000_000) for k in range(0, 100, 10)]
    found = read_recording(write_bag(tmp_path / "bag", frames))
    assert found.layout.muscles == MUSCLES and found.time0_s == 10.0 and len(found.samples) == 440
    assert np.isnan(found.samples[100:120]).all() and np.isnan(found.samples[300:340]).all()
    np.testing.assert_allclose(found.samples[:100], x[:100], rtol=1e-6)
    np.testing.assert_allclose(found.samples[340:], x[:100], rtol=1e-6)
    assert any("60 samples are missing" in note for note in found.notes)
    with pytest.raises(ExoError, match=r"frame at sample 10 holds 19 numbers for 2 channels"):
        read_recording(write_bag(tmp_path / "odd", [frame(0, x[:10]), frame(10, x[10:20].ravel()[:19])]))
    changed = [frame(0, x[:10]), frame(10, x[10:20], muscles=("TA_r", "SOL_r"))]
    with pytest.raises(ExoError, match="change in the middle"):
        read_recording(write_bag(tmp_path / "changed", changed))


def stamped(seconds: float, stamp_s: Callable[[float], float]) -> list[bytes]:
    x = signal(100)
    return [
        frame(k * 100, x, 10_000_000_000 + round(1e9 * stamp_s(k * 0.1)) - k * 100_000_000)
        for k in range(round(seconds * 10))
    ]


def test_a_bags_times_follow_its_stamps_not_the_stated_rate(tmp_path: Path) -> None:
    jitter = np.random.default_rng(0).normal(0.0, 1e-3, 2001)

    def slower(t: float) -> float:
        return t * 1.0002 + jitter[round(10 * t)] + 0.5 * (t == 40.0)

    found = read_recording(write_bag(tmp_path / "bag", stamped(200.0, slower)))
    assert found.time_s[199_900] == pytest.approx(10.0 + 199.9 * 1.0002, abs=1e-3)
    assert any("-200 ppm" in note for note in found.notes)
    short = read_recording(write_bag(tmp_path / "short", stamped(3.0, lambda t: t + 5.0 * jitter[round(10 * t)])))
    assert short.layout.rate_hz == RATE and not short.notes


def test_a_bag_whose_clock_was_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match=r"stamps leave the line .* a clock was set"):
        open_recording(write_bag(tmp_path / "bag", stamped(60.0, lambda t: t + 0.1 * (t > 40.0))))


def test_no_file_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").touch()
    for name, words in (("none.csv", "does not exist"), ("a.xyz", "no EMG file")):
        with pytest.raises(ExoError, match=words):
            open_recording(tmp_path / name)


def c3d(path: Path, channels: dict[str, str], size: float = 2e-4, plates: list[int] | None = None) -> Path:
    ezc3d = pytest.importorskip("ezc3d")
    content, n = ezc3d.c3d(), 1000
    content["parameters"]["POINT"]["RATE"]["value"] = [100.0]
    content["data"]["points"] = np.ones((4, 0, n // 10))
    content["data"]["analogs"] = np.random.default_rng(0).standard_normal((1, len(channels), n)) * size
    content.add_parameter("ANALOG", "RATE", [1000.0])
    content.add_parameter("ANALOG", "LABELS", list(channels))
    content.add_parameter("ANALOG", "UNITS", list(channels.values()))
    content.add_parameter("FORCE_PLATFORM", "CHANNEL", plates or [0])
    content.write(str(path))
    return path


def test_emg_of_a_c3d_is_told_from_force_plates_and_pulses(tmp_path: Path) -> None:
    channels = {"R_soleus": "mV", "Force.Fz1": "V", "Pin 4": "V", "Sync": "V", "L_TA": "uV", "Fz2": "N"}
    path = c3d(tmp_path / "walk.c3d", channels, 0.2, plates=[3, 0])
    found = read_recording(path)
    assert found.layout.muscles == MUSCLES and found.layout.rate_hz == 1000.0
    np.testing.assert_allclose(found.samples.std(axis=0), [2e-4, 2e-7], rtol=0.1)
    assert found.notes == ("columns that are no EMG were left out: Sync",)
    assert "trigger" in read_recording(path, names={"Sync": "trigger"}).layout.muscles


def test_units_of_a_c3d_in_any_spelling_and_a_note_for_others(tmp_path: Path) -> None:
    units = {
        "R_soleus": "volts",
        "L_TA": "uv",
        "R_TA": "v",
        "L_RF": "Microvolts",
        "R_RF": "MV",
        "AccX": "g",
        "L_VM": "",
    }
    path = c3d(tmp_path / "walk.c3d", units)
    found = read_recording(path)
    assert [name[0] for name in found.layout.muscles] == ["s", "t", "t", "r", "r"]
    np.testing.assert_allclose(found.samples.std(axis=0), [2e-4, 2e-10, 2e-4, 2e-10, 2e-7], rtol=0.1)
    assert found.notes == ("analog channels in other units were left out: AccX (g), L_VM (no unit)",)


@pytest.mark.skipif(not DATA.is_dir(), reason="the reference recordings are not here")
def test_recordings_of_laboratories() -> None:
    path = sorted((DATA / "gait_speeds").glob("*/*_C4_*.c3d"))[0]
    lab = read_recording(path)
    assert lab.layout.rate_hz == 1500.0 and len(lab.layout.muscles) == 8 and lab.raw
    assert "tibialis_anterior_r" in lab.layout.muscles and 1e-6 < np.std(lab.samples) < 1e-3
    envelope = read_recording(DATA / "walking_3d" / "electromyography.sto", FileOptions(side="r"))
    assert not envelope.raw and envelope.layout.rate_hz == 2000.0 and len(envelope.samples) == 4780


@pytest.mark.skipif(not DATA.is_dir(), reason="the reference recordings are not here")
def test_a_truncated_c3d_is_refused(tmp_path: Path) -> None:
    whole = sorted((DATA / "gait_speeds").glob("*/*_C4_*.c3d"))[0].read_bytes()
    path = tmp_path / "half.c3d"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExoError, match=r"half\.c3d.*copy"):
        read_recording(path)
