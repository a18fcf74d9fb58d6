"""Clock exchanges with a real LSL outlet on this machine: sender and receiver have one clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exo_emg.__main__ import main
from exo_emg.time_base import from_lsl

pylsl = pytest.importorskip("pylsl")


def test_exchanges_with_a_sender_on_this_machine_give_no_offset(tmp_path: Path) -> None:
    name = f"exo-clock-{tmp_path.name}"
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo(name, "EMG", 1, 1000.0, "float32", name))
    path = tmp_path / "corrections.csv"
    assert main(["lsl-clock", name, str(path), "--seconds", "4"]) == 0
    del outlet
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    assert rows.ndim == 2 and rows.shape[1] == 3 and path.read_text().startswith("time,offset,uncertainty\n")
    assert abs(rows[-1, 0] - pylsl.local_clock()) < 60.0
    relation = from_lsl(rows)
    assert abs(relation.offset_s) <= max(relation.uncertainty_s, 1e-3) < 0.02


def test_a_stream_that_is_not_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exo_emg.lsl_clock.FIND_S", 0.3)
    assert main(["lsl-clock", "nobody-sends-this", str(tmp_path / "c.csv")]) == 2
    assert "no LSL stream called 'nobody-sends-this' is in sight" in capsys.readouterr().err
