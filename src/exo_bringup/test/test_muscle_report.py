"""The page on a twin's muscles, and the EMG that a session has for them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from exo_bringup.muscle_report import write_muscle_page
from exo_bringup.walk_emg import own_emg, use_emg
from exo_capture.landmarks import MARKERS
from exo_capture.session_capture import SessionCapture, capture_session
from exo_capture.synthetic_walker import walker
from exo_common.artefact import writing
from exo_common.frames import LEG_COORDINATES
from exo_common.opensim_files import Markers, Storage, write_storage, write_trc
from exo_common.session import MarkerFiles, Session, Wearer, load
from exo_safety.envelope import Envelope, SideEnvelope
from exo_twin.calibration import CALIBRATION_FILE, EmgChannel, TwinCalibration
from exo_twin.inverse.tolerance import ANGLES, VELOCITIES, Tolerance
from exo_twin.twin import Gait

WEARER = Wearer(id="w01", height=1.7, mass=68.0)
TIME = np.arange(400) / 60.0
STRIDES = [{"side": side, "start": 0.1, "toe_off": 0.7, "end": 1.1} for side in "lr"]


def write_twin(folder: Path, activations: bool) -> Path:
    curve = np.zeros(101)
    gait = Gait(1.0, 1.2, 0.6, 0.5, STRIDES, {}, *[dict.fromkeys(LEG_COORDINATES, curve)] * 2, "a test")
    if activations:
        gait = dataclasses.replace(gait, moment_curves=gait.curves, moment_curves_sd=gait.curves)
    strength = np.full((6, 2, ANGLES, len(VELOCITIES)), 50.0)
    angle = np.tile(np.linspace(-0.5, 1.5, ANGLES), (6, 1))
    still = np.zeros((6, ANGLES))
    tolerance = Tolerance(angle, VELOCITIES, np.zeros(6), strength, np.ones((6, 2)), still, still, angle[:, [0, -1]])
    quality: dict[str, Any] = {"method": "none: the recording tells no joint moments", "warnings": ["glmax1 jumps"]}
    loads = {"measured_share": {"l": 0.33, "r": 1.0}} if activations else None
    with writing(folder, "twin", "w01", {}, ["glmax1 jumps", "one stride only"]) as target:
        if activations:
            time = np.linspace(0.0, 1.2, 50)
            table = Storage(time, ("soleus_l", "soleus_r", "tibant_r"), np.full((50, 3), 0.4), in_degrees=False)
            write_storage(target / "muscle_activations.sto", table)
            write_storage(target / "muscle_emg.sto", Storage(time, ("soleus_r",), np.full((50, 1), 0.3), False))
            figures = {"moment_peak_nm": 120.0, "rms_nm": 1.0, "peak_nm": 30.0, "rms_pct": 0.8, "peak_pct": 25.0}
            quality |= {
                "method": "EMG-assisted optimisation",
                "tendons": "long tendons stretch",
                "frames": 50,
                "reserves": {"ankle_angle_r": {**figures, "verdict": "doubtful"}},
                "emg": {
                    "soleus_r": {"channel": "soleus_r", "r_static": None, "r_estimated": 0.9, "rms_estimated": 0.1}
                },
            }
            emg = {"soleus_r": EmgChannel(("soleus_r",), gain=0.37, delay_s=0.04)}
            TwinCalibration.identity("w01").with_emg(emg, "fractions of a test").save(target / CALIBRATION_FILE)
        gait.save(target / "gait.yaml")
        side = SideEnvelope(-0.4, 0.7, 6.0, 15.0, 150.0, 60.0)
        Envelope("w01", side, side, "a test").save(target / "envelope.yaml")
        np.savez(target / "model.npz", allow_pickle=False, **tolerance.arrays())
        (target / "quality.yaml").write_text(yaml.safe_dump({"muscles": quality, "loads": loads}))
    return folder


@pytest.mark.parametrize("activations", [True, False])
def test_the_page_shows_what_the_twin_holds(tmp_path: Path, activations: bool) -> None:
    write_muscle_page(write_twin(tmp_path / "twin", activations), tmp_path / "muscles.html", WEARER)
    page = (tmp_path / "muscles.html").read_text(encoding="utf-8")
    assert page.count("<svg") == (2 if activations else 1) and "glmax1 jumps" in page
    assert ("doubtful" in page and ">tibant</text>" in page) == activations
    assert ("tells no joint moments; record the walk with" in page) != activations and "one stride only" in page
    told = (
        "mean ± SD of 1 left and",
        "Of 50 frames",
        "33 %, on the right in 100 %",
        "fractions of a test",
        "soleus_r 0.37",
        "40 ms late",
        "Long tendons",
    )
    assert all((text in page) == activations for text in told)
    assert not re.search(r'(src|href)="http', page)


def emg_session(folder: Path, samples: np.ndarray) -> tuple[Session, SessionCapture]:
    write_trc(folder / "walk.trc", Markers(TIME, tuple(MARKERS), walker(TIME)[:, list(MARKERS.values())]))
    time = np.arange(len(samples)) / 1000.0
    write_storage(folder / "emg.sto", Storage(time, ("soleus_r", "soleus_l"), samples, in_degrees=False))
    (folder / "session.yaml").write_text(
        "wearer: {id: w01, height: 1.70, mass: 68.0}\nkeypoints: {file: walk.trc}\n"
        "emg: {file: emg.sto, sync: {method: offset, offset: 0.0, uncertainty: 0.001}}\n"
    )
    session = load(folder)
    return session, capture_session(session)


def test_envelopes_that_somebody_made_serve_the_muscles_but_have_no_verdict(tmp_path: Path) -> None:
    wave = np.sin(2.0 * np.pi * np.arange(6600) / 1100.0) ** 2
    used = use_emg(*emg_session(tmp_path, np.column_stack([0.3 * wave, 0.0 * wave])))
    assert used.walk is None and used.muscles is not None
    assert used.muscles.channels == ("soleus_r", "soleus_l") and used.muscles.full_effort == (False, False)
    assert used.muscles.envelope[:, 0].max() == pytest.approx(1.0, abs=0.02) and not used.muscles.envelope[:, 1].any()
    assert np.median(np.diff(used.muscles.time)) == pytest.approx(0.01)
    assert "bad channels cannot be told" in used.warnings[0]


def test_only_good_channels_serve_the_muscles_and_none_costs_a_sentence(tmp_path: Path) -> None:
    session, capture = emg_session(tmp_path, 1e-4 * np.random.default_rng(0).normal(size=(6600, 2)))
    (tmp_path / "emg.sto").unlink()
    np.savetxt(
        tmp_path / "emg.csv",
        np.column_stack([np.arange(6600) / 1000.0, np.zeros((6600, 2))]),
        delimiter=",",
        header="time,soleus_r,soleus_l",
        comments="",
    )
    assert session.emg is not None
    silent = dataclasses.replace(session, emg=dataclasses.replace(session.emg, file="emg.csv", unit="V"))
    used = use_emg(silent, capture)
    assert used.muscles is None and used.warnings and all("\n" not in text for text in used.warnings)
    assert use_emg(dataclasses.replace(session, emg=None), capture).warnings == ()


def test_markers_in_a_c3d_file_bring_their_own_emg(tmp_path: Path) -> None:
    plain = Session(tmp_path, WEARER, markers=MarkerFiles("walk.c3d"))
    taken = own_emg(plain).emg
    assert taken is not None and taken.file == "walk.c3d" and taken.sync.method == "same_clock"
    assert own_emg(Session(tmp_path, WEARER, markers=MarkerFiles("walk.trc"))).emg is None
