"""Many wearers without anybody watching: each in a process and a folder of its own, no failure stops the others.

A batch that is started again keeps what is finished: a wearer whose recordings
and options are the same and whose results are whole and by the same version of
exo is not worked on again. To have everything anew, give another folder.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from exo_bringup.batch_folder import Entry, find_wearers
from exo_common.errors import ExoError

OK, PARTLY, FAILED = "ok", "partly", "failed"
WORKER = "exo_bringup.batch_worker"
RESULT, LOG, JOB = "result.json", "batch.log", "job.json"
SUMMARY_CSV, SUMMARY_JSON = "summary.csv", "summary.json"
TIME_LIMIT_S = 3600.0  # for one wearer; a job that takes longer hangs
POLL_S = 0.2
STOPPED = "the batch was stopped before it was finished; the same command continues"
STOP_S = 5.0  # that an interrupted job has to end by itself
STEP = "step: "  # a line of a job's log that tells what it is doing
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
COLOURS = {OK: "green", PARTLY: "yellow", FAILED: "red"}


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """What to do with every wearer.

    Attributes
    ----------
    generic : the unscaled OpenSim model of skin markers; None for the one that keypoints use.
    norms : file of normative bands, or None.
    twin : build the twin, too, not only the inverse analysis.
    jobs : wearers at a time.
    """

    generic: Path | None = None
    norms: Path | None = None
    twin: bool = True
    jobs: int = 2


@dataclasses.dataclass
class _Running:
    entry: Entry
    folder: Path
    process: subprocess.Popen[bytes]
    started: float


def run_batch(folder: Path, out: Path, options: BatchOptions, console: Console | None = None) -> list[dict[str, Any]]:
    """Work on every wearer below `folder`; writes `out`/<wearer>/ and the summary of all.

    Returns
    -------
    One result per wearer, in the order of their names: `wearer`, `status` (ok, partly, failed), `reason`, `seconds`,
    `kept` (finished earlier), `walks`, `warnings`.

    Raises
    ------
    ExoError : if the folder holds no wearer, an option's file is missing, or another batch writes to `out`.
    """
    if options.jobs < 1:
        raise ExoError(f"--jobs {options.jobs} is not a number of wearers at a time; give 1 or more")
    for path in (options.generic, options.norms):
        if path is not None and not path.is_file():
            raise ExoError(f"{path} is not a file; check its name")
    entries = find_wearers(folder, beside=out)
    console = console or Console(stderr=True)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = {entry.name: _failure(entry, STOPPED) for entry in entries}
    with _alone(out) as lock, _stopped_like_interrupted():
        try:
            _work(entries, out, options, console, results, lock)
        finally:
            write_summary(out, results)
    return [results[entry.name] for entry in entries]


def write_summary(out: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write summary.json (everything) and summary.csv (one row per walk, one for a wearer without any)."""
    (out / SUMMARY_JSON).write_text(json.dumps(list(results.values()), indent=2) + "\n", encoding="utf-8")
    rows: list[dict[str, Any]] = []
    for name, result in results.items():
        for walk in result["walks"] or [{"walk": "", "status": result["status"], "reason": result["reason"]}]:
            rows.append({"wearer": name, **walk})
    columns = dict.fromkeys(key for row in rows for key in row)
    with (out / SUMMARY_CSV).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="")
        writer.writeheader()
        writer.writerows(rows)


def summary_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """What came of every wearer, for people."""
    table = Table(title=f"{sum(r['status'] == OK for r in results)} of {len(results)} wearers without a failure")
    for title, options in (
        ("wearer", {}),
        ("result", {}),
        ("walks", {"justify": "right"}),
        ("marker RMS, mm", {"justify": "right"}),
        ("ground reaction", {}),
        ("s", {"justify": "right"}),
        ("reason", {"overflow": "fold"}),
    ):
        table.add_column(title, **options)  # type: ignore[arg-type]
    for result in results:
        good = [walk for walk in result["walks"] if walk["status"] == OK]
        rms = [walk["marker_rms_mm"] for walk in good if walk.get("marker_rms_mm") is not None]
        forces = collections.Counter(walk["ground_reaction"] for walk in good if "ground_reaction" in walk)
        table.add_row(
            result["wearer"],
            f"[{COLOURS[result['status']]}]{result['status']}[/]" + (" (kept)" if result["kept"] else ""),
            f"{len(good)} of {len(result['walks'])}",
            f"{min(rms):.1f}" if len(set(rms)) == 1 else f"{min(rms):.1f}-{max(rms):.1f}" if rms else "",
            ", ".join(forces),
            f"{result['seconds']:.0f}",
            result["reason"],
        )
    return table


def _work(
    entries: Sequence[Entry],
    out: Path,
    options: BatchOptions,
    console: Console,
    results: dict[str, dict[str, Any]],
    lock: int,
) -> None:
    """Replace the entries' results, by name, as they are finished."""
    waiting, running = collections.deque(entries), list[_Running]()
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("wearers", total=len(entries), text="")
        try:
            while waiting or running:
                while waiting and len(running) < options.jobs:
                    running.append(_start(waiting.popleft(), out, options, lock))
                time.sleep(POLL_S)
                for job in list(running):
                    if time.monotonic() - job.started > TIME_LIMIT_S:
                        job.process.kill()
                    if job.process.poll() is None:
                        continue
                    running.remove(job)
                    result = results[job.entry.name] = _outcome(job)
                    bar.advance(task)
                    if not console.is_terminal or result["status"] != OK:
                        reason = f": {result['reason']}" if result["reason"] else ""
                        text = f"{job.entry.name} {result['status']} ({result['seconds']:.0f} s){reason}"
                        console.print(text, style=COLOURS[result["status"]], highlight=False, markup=False)
                bar.update(task, text="; ".join(f"{job.entry.name}: {_step(job.folder)}" for job in running))
        finally:
            _stop(running)


def _start(entry: Entry, out: Path, options: BatchOptions, lock: int) -> _Running:
    folder = out / entry.name
    folder.mkdir(exist_ok=True)
    job = {
        "name": entry.name,
        "recordings": str(entry.folder),
        "generic": None if options.generic is None else str(options.generic.resolve()),
        "norms": None if options.norms is None else str(options.norms.resolve()),
        "twin": options.twin,
    }
    (folder / JOB).write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    threads = str(max(1, (os.cpu_count() or 1) // options.jobs))
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            env=os.environ | dict.fromkeys(THREADS, threads) | {"PYTHONUNBUFFERED": "1"},
        )
    return _Running(entry, folder, process, time.monotonic())


def _outcome(job: _Running) -> dict[str, Any]:
    """What a job that has ended left behind; a job that died left nothing."""
    code, path = job.process.returncode, job.folder / RESULT
    if code == 0 and path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    seconds = time.monotonic() - job.started
    if seconds > TIME_LIMIT_S:
        reason = f"it took longer than {TIME_LIMIT_S / 60.0:.0f} min and was stopped"
    elif code < 0:
        reason = f"its process was killed ({signal.Signals(-code).name}); is there enough memory?"
    else:
        reason = f"its process ended with code {code}"
    return _failure(job.entry, f"{reason}; see {job.folder / LOG}", seconds)


def _failure(entry: Entry, reason: str, seconds: float = 0.0) -> dict[str, Any]:
    return {
        "wearer": entry.name,
        "status": FAILED,
        "reason": reason,
        "seconds": round(seconds, 1),
        "kept": False,
        "walks": [],
        "warnings": [],
    }


def _step(folder: Path) -> str:
    """What a job is doing, from its log."""
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.removeprefix(STEP) for line in reversed(lines) if line.startswith(STEP)), "starting")


def _stop(running: Sequence[_Running]) -> None:
    """End our own jobs, gently first."""
    for job in running:
        job.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_S
    for job in running:
        try:
            job.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()


@contextmanager
def _alone(out: Path) -> Iterator[int]:
    """Keep a second batch out of the same folder; yields the lock, which jobs that outlive a killed batch hold, too."""
    with (out / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ExoError(f"another batch is writing to {out}; wait for it, or give --out another folder") from None
        yield lock.fileno()


@contextmanager
def _stopped_like_interrupted() -> Iterator[None]:
    """SIGTERM ends a batch as Ctrl-C does: the jobs are stopped, what is finished is kept."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
