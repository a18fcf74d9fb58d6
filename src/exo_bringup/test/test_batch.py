"""A batch finds its wearers, runs each alone, outlives any of them, keeps what is finished and names what failed."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from exo_bringup import batch, batch_folder, batch_worker, cli
from exo_bringup.batch import FAILED, OK, PARTLY, BatchOptions, run_batch, summary_table
from exo_bringup.batch_folder import Entry, find_wearers, plain_recordings
from exo_bringup.wearer_analysis import FOLDER, KIND, WearerResult, WearerSessions
from exo_capture.marker_files import Recording, Subject, read_recording
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, read_storage

GAIT = Path(__file__).resolve().parents[4] / "shared" / "data" / "gait_speeds"
GENERIC = GAIT.parent / "models" / "LaiUhlrich2022.osim"

FAKE = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
name = folder.name
(folder / "process").write_text(str(os.getpid()))
(folder / "began").write_text(str(time.monotonic()))
print("step: pretending", flush=True)
if name.startswith("dies"):
    os.kill(os.getpid(), signal.SIGKILL)
if name.startswith("exits"):
    sys.exit(3)
time.sleep(60.0 if name.startswith("hangs") else 0.3)
status = "failed" if name.startswith("bad") else "ok"
walks = [{"walk": "w", "status": "ok", "marker_rms_mm": 7.0, "ground_reaction": "measured"}] if status == "ok" else []
(folder / "result.json").write_text(json.dumps({"wearer": name, "status": status, "seconds": 0.3, "kept": False,
    "reason": "" if status == "ok" else "the labels are wrong", "walks": walks, "warnings": []}))
(folder / "ended").write_text(str(time.monotonic()))
"""


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the work on a wearer by what the wearer's name says."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "pretended_worker.py").write_text(FAKE)
    monkeypatch.setattr(batch, "WORKER", "pretended_worker")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


def folders(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).mkdir(parents=True)
        (base / name / "walk.c3d").write_bytes(b"")
    return base


def quiet() -> Console:
    return Console(file=Path(os.devnull).open("w", encoding="utf-8"))


@pytest.mark.usefixtures("fake_worker")
def test_no_failure_stops_the_others_and_each_has_its_reason(tmp_path: Path) -> None:
    found = run_batch(
        folders(tmp_path / "in", "bad", "dies", "exits", "w1", "w2"), tmp_path / "out", BatchOptions(jobs=2), quiet()
    )
    by_name = {result["wearer"]: result for result in found}
    assert [r["wearer"] for r in found] == ["bad", "dies", "exits", "w1", "w2"]
    assert [r["status"] for r in found] == [FAILED, FAILED, FAILED, OK, OK]
    assert by_name["bad"]["reason"] == "the labels are wrong"
    assert "killed (SIGKILL)" in by_name["dies"]["reason"] and "code 3" in by_name["exits"]["reason"]
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        rows = {row["wearer"]: row for row in csv.DictReader(file)}
    assert rows["w1"]["marker_rms_mm"] == "7.0" and rows["dies"]["reason"] == by_name["dies"]["reason"]
    assert len(json.loads((tmp_path / "out" / "summary.json").read_text())) == 5
    table = summary_table(found)
    assert table.row_count == 5 and "2 of 5" in str(table.title)


@pytest.mark.usefixtures("fake_worker")
def test_as_many_at_a_time_as_asked(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    run_batch(folders(tmp_path / "in", *names), tmp_path / "out", BatchOptions(jobs=2), quiet())
    spans = [tuple(float((tmp_path / "out" / n / t).read_text()) for t in ("began", "ended")) for n in names]
    at_once = [sum(began <= start < ended for began, ended in spans) for start, _ in spans]
    assert max(at_once) == 2


@pytest.mark.usefixtures("fake_worker")
def test_an_interrupted_batch_stops_its_jobs(tmp_path: Path) -> None:
    source = folders(tmp_path / "in", "a", "hangs1", "hangs2")
    threading.Timer(3.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_batch(source, tmp_path / "out", BatchOptions(jobs=2), quiet())
    assert time.monotonic() - began < 20.0
    alive = subprocess.run(["pgrep", "-f", f"pretended_worker {tmp_path}"], capture_output=True, check=False).stdout
    assert not alive.strip()
    assert (tmp_path / "out" / "a" / "result.json").is_file()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [result["status"] for result in summary] == [OK, FAILED, FAILED] and "stopped" in summary[1]["reason"]
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        assert [row["wearer"] for row in csv.DictReader(file)] == ["a", "hangs1", "hangs2"]


@pytest.mark.usefixtures("fake_worker")
def test_a_job_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "TIME_LIMIT_S", 2.0)
    found = run_batch(folders(tmp_path / "in", "hangs", "w"), tmp_path / "out", BatchOptions(), quiet())
    assert [r["status"] for r in found] == [FAILED, OK] and "took longer" in found[0]["reason"]


def test_two_batches_never_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    holder = "import fcntl,sys;f=open(sys.argv[1],'a');fcntl.flock(f,fcntl.LOCK_EX);print('held',flush=True);input()"
    other = subprocess.Popen(
        [sys.executable, "-c", holder, str(out / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(ExoError, match="another batch is writing"):
            run_batch(folders(tmp_path / "in", "a"), out, BatchOptions(), quiet())
    finally:
        other.kill()
        other.wait()


@pytest.mark.usefixtures("fake_worker")
def test_jobs_of_a_killed_batch_keep_the_folder(tmp_path: Path) -> None:
    source, out = folders(tmp_path / "in", "hangs"), tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from exo_bringup import batch; batch.WORKER = 'pretended_worker'; "
        "batch.run_batch(Path(sys.argv[1]), Path(sys.argv[2]), batch.BatchOptions())"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(source), str(out)])
    orphan = 0
    try:
        deadline = time.monotonic() + 20.0
        while not (out / "hangs" / "began").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        orphan = int((out / "hangs" / "process").read_text())
        killed.kill()
        killed.wait()
        with pytest.raises(ExoError, match="another batch is writing"):
            run_batch(source, out, BatchOptions(), quiet())
    finally:
        killed.kill()
        if orphan:
            os.kill(orphan, signal.SIGKILL)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    source = folders(tmp_path / "in", "a")
    for options, sentence in (
        (BatchOptions(jobs=0), "--jobs 0"),
        (BatchOptions(generic=tmp_path / "no.osim"), "no.osim is not a file"),
    ):
        with pytest.raises(ExoError, match=sentence):
            run_batch(source, tmp_path / "out", options, quiet())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExoError, match=r"holds no session\.yaml"):
        run_batch(tmp_path / "empty", tmp_path / "out", BatchOptions(), quiet())


def test_wearers_are_sessions_and_plain_folders_at_any_depth_but_not_results(tmp_path: Path) -> None:
    folders(tmp_path, "day1/w1", "day2/w1", "out/w9")
    (tmp_path / "w3" / "twin").mkdir(parents=True)
    (tmp_path / "w3" / "session.yaml").write_text("")
    (tmp_path / "w3" / "twin" / "keypoints.trc").write_text("")
    (tmp_path / "notes").mkdir()
    found = find_wearers(tmp_path, beside=tmp_path / "out")
    assert [entry.name for entry in found] == ["day1_w1", "day2_w1", "w3"]
    assert [entry.has_session for entry in found] == [False, False, True]


def test_no_two_wearers_share_a_name(tmp_path: Path) -> None:
    folders(tmp_path, "a/b_c", "a_b/c", "a/b/c", "a_b_c", "a_b_c_2", "A_b_c")
    names = [entry.name for entry in find_wearers(tmp_path)]
    assert len({name.casefold() for name in names}) == len(names) == 6


def test_a_stray_file_hides_no_wearer(tmp_path: Path) -> None:
    folders(tmp_path / "lab", "w1", "w2")
    (tmp_path / "lab" / "calibration.c3d").write_bytes(b"")
    (tmp_path / "lab" / "w1" / "capture").mkdir()
    for name in ("manifest.yaml", "keypoints.trc"):  # what exo itself wrote
        (tmp_path / "lab" / "w1" / "capture" / name).write_text("")
    assert [entry.name for entry in find_wearers(tmp_path / "lab")] == ["lab", "w1", "w2"]


def recording(moves: bool, subject: Subject) -> Recording:
    """Two markers, one of which swings."""
    time = np.arange(100) / 100.0
    position = np.zeros((100, 2, 3))
    position[:, 0, 0] = np.sin(time) if moves else 0.0
    return Recording(Markers(time, ("heel", "hip"), position), subject=subject)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Recording | str]:
    """A folder's files as the test sets them: a recording, or why it cannot be read."""
    files: dict[str, Recording | str] = {}

    def read(path: Path) -> Recording:
        found = files[path.name]
        if isinstance(found, str):
            raise ExoError(found)
        return found

    monkeypatch.setattr(batch_folder, "read_recording", read)
    monkeypatch.setattr(batch_folder, "_stands", lambda own: not own.markers.position[:, 0].any())
    return files


def write(folder: Path, files: dict[str, Recording | str]) -> Entry:
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_bytes(b"")
    return Entry("w1", folder)


def test_a_plain_folder_tells_walks_stance_and_wearer(tmp_path: Path, plain: dict[str, Recording | str]) -> None:
    adult = Subject(mass=70.0, height=1.75, sex="female")
    plain |= {
        "fast.c3d": recording(True, adult), "slow.c3d": recording(True, adult), "cut.c3d": "cut.c3d is cut",
        "rest.c3d": recording(False, Subject()), "w1_static.c3d": recording(False, Subject()),
    }  # fmt: skip
    found = plain_recordings(write(tmp_path / "x", plain))
    assert (found.wearer.id, found.wearer.height, found.wearer.mass, found.wearer.sex) == ("w1", 1.75, 70.0, "female")
    assert list(found.sessions) == ["cut", "fast", "slow"]  # one that cannot be read is not forgotten
    assert {own.markers.static for own in found.sessions.values() if own.markers} == {"w1_static.c3d"}
    assert "several trials show no steps" in found.notes[0]


def test_a_plain_folder_that_cannot_be_used_says_why(tmp_path: Path, plain: dict[str, Recording | str]) -> None:
    adult = Subject(mass=70.0, height=1.75)
    cases: list[tuple[dict[str, Recording | str], str]] = [
        ({"a.c3d": "a.c3d is cut"}, "holds no walk .a.c3d is cut"),
        ({"a.c3d": recording(False, adult)}, "a.c3d show no steps"),
        ({"a.c3d": recording(True, Subject(mass=70.0))}, "tells the wearer's height"),
        ({"a.c3d": recording(True, adult), "b.c3d": recording(True, Subject(90.0, 1.76))}, "masses of 70 and 90"),
    ]
    for i, (files, sentence) in enumerate(cases):
        plain.clear()
        plain |= files
        with pytest.raises(ExoError, match=sentence):
            plain_recordings(write(tmp_path / str(i), files))


def test_a_trc_beside_its_c3d_replaces_nothing(tmp_path: Path, plain: dict[str, Recording | str]) -> None:
    adult = Subject(mass=70.0, height=1.75)
    plain |= {name: recording(True, adult) for name in ("fast.c3d", "fast.trc", "slow.TRC", "slow.C3D", "x.trc")}
    found = plain_recordings(write(tmp_path / "x", plain))
    files = {name: own.markers.file for name, own in found.sessions.items() if own.markers}
    assert files == {"fast": "fast.c3d", "slow": "slow.C3D", "x": "x.trc"}
    assert [note.split()[0] for note in found.notes if "passed over" in note] == ["fast.trc", "slow.TRC"]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A job whose analysis only writes a file; the list grows with every analysis."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "walk.trc").write_text("recording")
    (source / "session.yaml").write_text(
        "wearer: {id: w01, height: 1.70, mass: 68.0}\nmarkers: {file: walk.trc, forces: plates.xml}\n", encoding="utf-8"
    )
    (source / "plates.xml").write_text("<ExternalLoads><datafile>grf.mot</datafile></ExternalLoads>")
    (source / "grf.mot").write_text("forces")
    done: list[str] = []

    def analyse(brought: WearerSessions, folder: Path, *_: Any) -> WearerResult:
        done.append(brought.wearer.id)
        with writing(folder / FOLDER, KIND, brought.wearer.id, brought.inputs, []) as target:
            (target / "scaled.osim").write_text("model")
        walks = [{"walk": "walk", "status": "ok", "reason": ""}]
        if (source / "walk.trc").read_text() == "half":
            walks.append({"walk": "other", "status": "failed", "reason": "no steps"})
        if (source / "walk.trc").read_text() == "defect":
            raise RuntimeError("boom")
        return WearerResult({"walks": walks, "warnings": []}, next(iter(brought.sessions.values())), None)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_worker, "analyse_wearer", analyse)
    out = tmp_path / "out"
    out.mkdir()
    content = {"name": "w01", "recordings": str(source), "generic": None, "norms": None, "twin": False}
    (out / "job.json").write_text(json.dumps(content))
    return out, done


def run(out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["batch_worker", str(out)])
    assert batch_worker.main() == 0
    return dict(json.loads((out / "result.json").read_text()))


def test_finished_work_is_kept_until_something_changes(
    job: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = job
    assert run(out, monkeypatch)["status"] == OK
    assert run(out, monkeypatch)["kept"] and len(done) == 1
    (out / FOLDER / "scaled.osim").write_text("changed by hand")
    assert not run(out, monkeypatch)["kept"] and len(done) == 2
    assert run(out, monkeypatch)["kept"] and len(done) == 2
    (out.parent / "in" / "walk.trc").write_text("another recording")
    assert not run(out, monkeypatch)["kept"] and len(done) == 3
    (out.parent / "in" / "grf.mot").write_text("other forces")
    assert not run(out, monkeypatch)["kept"] and run(out, monkeypatch)["kept"] and len(done) == 4
    monkeypatch.setattr(batch_worker, "results_version", lambda: "another")
    assert not run(out, monkeypatch)["kept"] and len(done) == 5


def test_results_are_of_one_version_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "computing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(batch_worker, "PACKAGES", ("computing",))
    compute = batch_worker.results_version.__wrapped__
    first = compute()
    assert compute() == first
    (package / "weights.yaml").write_text("a: 1")
    assert compute() != first


def test_what_a_killed_worker_left_is_cleared_and_scratch_stays_in_the_folder(
    job: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = job
    for name in (".scratch", ".inverse.abc", ".twin.xyz"):
        (out / name).mkdir()
        (out / name / "rubbish").write_text("")
    used: list[Path] = []
    real = batch_worker.work
    monkeypatch.setattr(batch_worker, "work", lambda folder: used.append(Path(tempfile.gettempdir())) or real(folder))
    run(out, monkeypatch)
    assert used == [out / ".scratch"] and tempfile.gettempdir() != str(used[0])
    assert {path.name for path in out.iterdir()} == {"job.json", "result.json", FOLDER}


def test_a_part_that_failed_is_told_and_tried_again(
    job: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = job
    (out.parent / "in" / "walk.trc").write_text("half")
    result = run(out, monkeypatch)
    assert (result["status"], result["reason"]) == (PARTLY, "other: no steps")
    run(out, monkeypatch)
    assert len(done) == 2
    (out.parent / "in" / "walk.trc").write_text("defect")
    result = run(out, monkeypatch)
    assert result["status"] == FAILED and "RuntimeError: boom" in result["reason"]
    (out.parent / "in" / "walk.trc").unlink()
    assert "is not a file" in run(out, monkeypatch)["reason"]


@pytest.mark.usefixtures("fake_worker")
def test_the_command_tells_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXO_ROOT", str(tmp_path))
    good, mixed = folders(tmp_path / "good", "w1"), folders(tmp_path / "mixed", "w1", "bad")
    assert cli.main(["personalise", "--batch", str(good)]) == 0
    assert (tmp_path / "out" / "batch" / "good" / "summary.csv").is_file()
    assert cli.main(["personalise", str(mixed), "--batch", "--jobs", "1", "--out", str(tmp_path / "o")]) == 1
    assert "the labels are wrong" in capsys.readouterr().out
    assert cli.main(["personalise", "--batch", str(tmp_path / "nowhere")]) == cli.BAD_INPUT
    assert cli.main(["personalise", str(good), "--no-twin", "--jobs", "3"]) == cli.BAD_INPUT
    assert "--no-twin and --jobs belong to a batch" in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(not GAIT.is_dir(), reason="the shared recordings are not beside this checkout")
def test_a_real_folder_becomes_models_motions_and_loads(tmp_path: Path) -> None:
    for name in ("2014007", "broken"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for path in (GAIT / "2014007").glob("*.c3d"):
        (tmp_path / "in" / "2014007" / path.name).symlink_to(path)
    whole = (GAIT / "2014007" / "2014007_ST.c3d").read_bytes()
    (tmp_path / "in" / "broken" / "walk.c3d").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    good, broken = run_batch(tmp_path / "in", out, BatchOptions(GENERIC, None, twin=False), quiet())
    assert good["status"] == OK and broken["status"] == FAILED and "walk.c3d" in broken["reason"]
    assert [walk["ground_reaction"] for walk in good["walks"]] == ["measured", "measured"]
    assert any("SJN" in walk["warnings"] and "SXS" in walk["warnings"] for walk in good["walks"])  # exchanged labels
    for walk in good["walks"]:
        assert walk["marker_rms_mm"] < 12.0 and 0.0 < walk["plate_lag_ms"] < 40.0
        own = out / "2014007" / FOLDER / walk["walk"]
        motion, loads = read_storage(own / "coordinates.mot"), read_storage(own / "inverse_dynamics.sto")
        assert len(motion.time) == len(loads.time) and "ankle_angle_r_moment" in loads.columns
        assert (own / "gait.svg").is_file() and (own / "predicted" / "ground_reaction.xml").is_file()
        quality = yaml.safe_load((own / "quality.yaml").read_text())
        assert quality["loads"]["plates"]["valid_s"] and quality["loads"]["plates"]["lag_method"] == "dynamics"
        assert set(quality["peaks_measured_nm_kg"]["hip_extension"]) <= {"l", "r"}


@pytest.mark.skipif(not GAIT.is_dir(), reason="the shared recordings are not beside this checkout")
def test_a_walk_in_a_wrong_unit_is_not_taken_for_a_quiet_stance() -> None:
    for name, still in (("2014004_ST", True), ("2014004_C4_02", False)):
        found = read_recording(GAIT / "2014004" / f"{name}.c3d")
        assert batch_folder._stands(found) is still
        small = dataclasses.replace(found.markers, position=1e-3 * found.markers.position)
        assert not batch_folder._stands(dataclasses.replace(found, markers=small))
