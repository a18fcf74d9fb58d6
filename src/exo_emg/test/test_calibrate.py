"""Calibration from recorded files, by the command that users type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exo_emg.__main__ import main
from exo_emg.calibration import FILE, read_calibration
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

RATE = 1000.0
FULL = SynthesisConfig().maximum_v()


@pytest.fixture
def session(tmp_path: Path) -> Path:
    (tmp_path / "session.yaml").write_text("wearer: {id: w01, height: 1.72, mass: 68.0}\n")
    return tmp_path


def write(path: Path, samples: NDArray[np.float64], labels: str = "R_Soleus,CH2") -> Path:
    """A table in mV, as an amplifier's software exports it."""
    rows = np.column_stack([np.arange(len(samples)) / RATE, 1e3 * samples])
    np.savetxt(path, rows, delimiter=",", header=f"time,{labels}", comments="", fmt="%.7g")
    return path


def effort(channel: int, level: float, seed: int) -> NDArray[np.float64]:
    drive = np.full((9000, 2), 0.005)
    drive[4000:8000, channel] = level
    return EmgSynthesizer(2, seed).frame(drive)


OPTIONS = ("--unit", "mV", "--name", "CH2=tibialis_anterior_r")


def test_the_best_effort_of_all_files_counts(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write(session / name, effort(channel, level, seed))
        for seed, (name, channel, level) in enumerate([("a.csv", 0, 0.6), ("b.csv", 0, 1.0), ("c.csv", 1, 0.8)])
    ]
    assert main(["calibrate", str(session), "--from", *map(str, files), *OPTIONS]) == 0
    found = read_calibration(session / FILE, "w01").muscles
    assert found["soleus_r"].maximum_v == pytest.approx(FULL, rel=0.1)
    assert found["tibialis_anterior_r"].maximum_v == pytest.approx(0.8 * FULL, rel=0.1)
    assert (found["soleus_r"].source, found["soleus_r"].method) == ("b.csv", "mvc")
    assert "written: " in capsys.readouterr().out


def test_a_muscle_without_effort_is_named_and_the_others_are_kept(
    session: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(session / "a.csv", effort(0, 1.0, 0))
    assert main(["calibrate", str(session), "--from", str(file), *OPTIONS]) == 1
    assert "tibialis_anterior_r          not calibrated: the effort reads only" in capsys.readouterr().out
    assert list(read_calibration(session / FILE).muscles) == ["soleus_r"]


def test_the_chain_is_chosen_and_kept_throughout_a_session(session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(session / "a.csv", effort(0, 1.0, 0))
    second = write(session / "b.csv", effort(1, 1.0, 1))
    wide = ("--full-scale-v", "0.1875", "--mains", "50")
    assert main(["calibrate", str(session), "--from", str(first), *OPTIONS, *wide]) == 1
    chain = read_calibration(session / FILE).chain
    assert (chain.full_scale_v, chain.mains, chain.envelope_hz) == (0.1875, "50", 6.0)
    assert main(["calibrate", str(session), "--from", str(second), *OPTIONS]) == 2
    assert "calibrated with full_scale_v = 0.1875, but is processed with 0.006" in capsys.readouterr().err
    assert list(read_calibration(session / FILE).muscles) == ["soleus_r"]
    assert main(["calibrate", str(session), "--from", str(second), *OPTIONS, *wide]) == 1
    assert set(read_calibration(session / FILE).muscles) == {"soleus_r", "tibialis_anterior_r"}


def walk(seconds: float) -> NDArray[np.float64]:
    phase = np.arange(round(seconds * RATE))[:, None] / RATE / 1.1 + np.array([0.0, 0.5])
    return EmgSynthesizer(2, 3).frame(0.01 + 0.5 * np.maximum(0.0, np.sin(2 * np.pi * phase)) ** 4)


def test_a_walk_gives_robust_peaks(session: Path) -> None:
    file = write(session / "walk.csv", walk(16.0))
    assert main(["calibrate", str(session), "--walking", "--from", str(file), *OPTIONS]) == 0
    found = read_calibration(session / FILE).muscles
    assert {own.method for own in found.values()} == {"dynamic_peak"}
    assert found["soleus_r"].maximum_v == pytest.approx(0.5 * FULL, rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--walking", "--from", "short.csv"], "strides in the rhythm of its EMG, 10 are needed"),
        (["--from", "none.csv"], "does not exist"),
        (["--from", "quiet.csv"], "no muscle has a maximum"),
    ],
)
def test_what_cannot_calibrate_is_one_sentence_and_writes_nothing(
    session: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], cause: str
) -> None:
    write(session / "short.csv", walk(7.0))
    write(session / "quiet.csv", effort(0, 0.005, 0))
    paths = [str(session / word) if word.endswith(".csv") else word for word in arguments]
    assert main(["calibrate", str(session), *paths, *OPTIONS]) == 2
    said = capsys.readouterr().err
    assert cause in said and len(said.splitlines()) == 1
    assert not (session / FILE).exists()


def test_a_folder_that_is_no_session_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path)]) == 2
    assert "holds no session.yaml" in capsys.readouterr().err
