"""The EMG of a session: bursts of known phase come back; bad channels and unsure clocks stay out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from exo_bringup import personalise as module
from exo_bringup.emg_section import analyse_emg, save_emg
from exo_bringup.personalise import personalise
from exo_bringup.progress import Stages
from exo_bringup.report import emg_page
from exo_capture.landmarks import MARKERS
from exo_capture.session_capture import SessionCapture, capture_session
from exo_capture.synthetic_walker import walker
from exo_common.artefact import read_manifest, writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, read_storage, write_trc
from exo_common.session import Session, load
from exo_emg.calibration import FILE, Calibration, Maximum, write_calibration
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

RATE = 1000.0
TIME = np.arange(400) / 60.0
OFFSET = -0.4
MUSCLES = ("soleus_r", "tibialis_anterior_r", "soleus_l")
BURST = {"soleus_r": 0.45, "tibialis_anterior_r": 0.8, "soleus_l": 0.45}
LEVEL = 0.6
SYNC = f"method: offset, offset: {OFFSET}, uncertainty: 0.003"


def write_session(folder: Path, sync: str) -> Session:
    (folder / "session.yaml").write_text(
        "wearer: {id: w01, height: 1.70, mass: 68.0}\nkeypoints: {file: walk.trc}\n"
        f"emg: {{file: emg.csv, unit: V, sync: {{{sync}}}}}\n"
    )
    return load(folder)


@pytest.fixture
def walk(tmp_path: Path) -> tuple[Session, SessionCapture]:
    """A synthetic walk, and EMG that bursts at known phases of its strides on a clock of its own."""
    write_trc(tmp_path / "walk.trc", Markers(TIME, tuple(MARKERS), walker(TIME)[:, list(MARKERS.values())]))
    (tmp_path / "emg.csv").write_text("to come")
    capture = capture_session(write_session(tmp_path, SYNC))
    write_emg(tmp_path, capture)
    return load(tmp_path), capture


def write_emg(folder: Path, capture: SessionCapture, spoil: str = "", burst_s: float = 0.0) -> None:
    time = np.arange(round(RATE * (TIME[-1] - OFFSET + 1.0))) / RATE
    drive = np.full((len(time), len(MUSCLES)), 0.005)
    for column, name in enumerate(MUSCLES):
        for stride in capture.strides:
            if stride.side == name[-1]:
                centre = stride.start + BURST[name] * stride.duration - OFFSET
                drive[:, column] += LEVEL * np.exp(-(((time - centre) / 0.1) ** 2))
    samples: NDArray[np.float64] = EmgSynthesizer(len(MUSCLES), 0).frame(drive)
    if burst_s:
        # A cable is hit for a tenth of a second, seen by all.
        hit = (time >= burst_s - OFFSET) & (time < burst_s - OFFSET + 0.1)
        samples[hit] = 6e-3 * np.sign(np.sin(2.0 * np.pi * 90.0 * time[hit]))[:, None]
    if spoil:
        samples[:, MUSCLES.index(spoil)] = 0.0
    table = np.column_stack([time, samples])
    header = ",".join(("time", *MUSCLES))
    np.savetxt(folder / "emg.csv", table, delimiter=",", header=header, comments="", fmt="%.9g")


def test_bursts_come_back_at_their_phase_and_level(walk: tuple[Session, SessionCapture]) -> None:
    session, capture = walk
    full = Maximum(SynthesisConfig().maximum_v(), "mvc", RATE)
    write_calibration(session.folder / FILE, Calibration("w01", dict.fromkeys(MUSCLES, full)))
    found = analyse_emg(session, capture)
    assert [channel.name for channel in found.channels] == list(MUSCLES) and not found.bad
    for channel in found.channels:
        assert channel.profile is not None and channel.profile.strides >= 2 and channel.method == "mvc"
        phase = np.average(np.arange(101), weights=channel.profile.mean**2)
        assert phase == pytest.approx(100 * BURST[channel.name], abs=3.0)
        # A burst of 0.1 s is rounded by the 6 Hz low-pass.
        assert channel.profile.mean.max() == pytest.approx(LEVEL, rel=0.25)
    assert "full effort" in found.normalisation and not any("calibration" in text for text in found.warnings)


def test_a_bad_channel_is_left_out_of_the_table_and_named_everywhere(walk: tuple[Session, SessionCapture]) -> None:
    session, capture = walk
    write_emg(session.folder, capture, spoil="tibialis_anterior_r")
    found = analyse_emg(session, capture)
    page = emg_page(found, session.wearer)
    folder = save_emg(found, session, page)
    table = read_storage(folder / "emg.sto")
    assert table.columns == ("soleus_r", "soleus_l")
    assert (table.time[0], table.time[-1]) == pytest.approx(
        (capture.markers.time[0], capture.markers.time[-1]), abs=0.02
    )
    report = yaml.safe_load((folder / "emg_quality.yaml").read_text())
    assert report["channels"]["tibialis_anterior_r"]["verdict"] == "not used"
    assert report["channels"]["tibialis_anterior_r"]["reason"] == "flat"
    assert report["channels"]["soleus_r"]["verdict"] == "good" and report["clock"]["uncertainty_s"] == 0.003
    sentence = "tibialis_anterior_r is not used: there is no signal, not even noise; check cable and electrode"
    assert sentence in page and sentence in found.warnings
    assert page.count("<svg") == 1 and "not used, flat" in page and "gait cycle" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "the page fetches something"
    assert any("there is no calibration of this wearer's EMG" in text for text in found.warnings)
    assert set(read_manifest(folder, "emg", "w01")["inputs"]) == {"session.yaml", "emg.csv"}


def test_a_bad_second_is_a_gap_and_no_maximum(walk: tuple[Session, SessionCapture]) -> None:
    session, capture = walk
    clean = analyse_emg(session, capture)
    stride = capture.strides[0]
    write_emg(session.folder, capture, burst_s=stride.start + 0.5 * stride.duration)
    found = analyse_emg(session, capture)
    assert not found.bad
    for before, after in zip(clean.channels, found.channels, strict=True):
        assert after.maximum_v == pytest.approx(before.maximum_v, rel=0.25)
        assert before.profile is not None and after.profile is not None
        assert after.profile.strides < before.profile.strides or after.name[-1] != stride.side
        assert after.profile.mean.max() < 1.2
    table = read_storage(save_emg(found, session, "") / "emg.sto")
    gone = np.isnan(table.values)
    assert 0.1 < gone.mean() < 0.5 and np.nanmax(table.values) < 2.0


@pytest.mark.parametrize(
    ("sync", "cause"),
    [
        (f"method: offset, offset: {OFFSET}, uncertainty: 0.025", "only known to ±25 ms .* merged up to ±20 ms"),
        ("method: offset, offset: 60.0, uncertainty: 0.001", "share no complete stride"),
        ("method: taps", "heel taps"),
    ],
)
def test_what_cannot_be_merged_is_refused(walk: tuple[Session, SessionCapture], sync: str, cause: str) -> None:
    session, capture = walk
    with pytest.raises(ExoError, match=cause) as caught:
        analyse_emg(write_session(session.folder, sync), capture)
    assert len(str(caught.value).splitlines()) == 1


def test_the_calibration_of_another_wearer_is_refused(walk: tuple[Session, SessionCapture]) -> None:
    session, capture = walk
    write_calibration(session.folder / FILE, Calibration("w02", {"soleus_r": Maximum(1e-4, "mvc", RATE)}))
    with pytest.raises(ExoError, match="belongs to wearer 'w02', not 'w01'"):
        analyse_emg(session, capture)


def test_personalise_writes_the_emg_or_says_why_not_and_makes_the_twin_all_the_same(
    walk: tuple[Session, SessionCapture], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def build_twin(*arguments: Any, **_: Any) -> Path:
        used.append(arguments[-1])
        with writing(arguments[2], "twin", "w01", {}, arguments[4]) as folder:
            (folder / "gait.yaml").write_text("{}")
        return Path(arguments[2])

    monkeypatch.setattr(module, "build_twin", build_twin)
    monkeypatch.setattr(module, "write_muscle_page", lambda twin, path, wearer: path.write_text("muscles"))
    monkeypatch.setattr(module, "build_controller", lambda twin, folder: folder)
    session, _ = walk
    result = personalise(session, Stages())
    assert result.emg is not None and (session.folder / "emg" / "emg.sto").is_file()
    poor = personalise(write_session(session.folder, SYNC.replace("0.003", "0.05")), Stages())
    assert poor.emg is None and poor.twin.is_dir()
    good = [channel.name for channel in result.emg.channels if not channel.reason]
    assert used[0].channels == tuple(good) and used[0].envelope.shape == (len(used[0].time), len(good))
    assert used[1] is None
    assert (session.folder / "muscles.html").is_file()
    assert any(text.startswith("the EMG is left out: the clocks are only known to") for text in poor.warnings)
