"""Starts the nodes of a launch file where no `ros2 launch` is installed, and stops them for certain.

Each node runs in its own process session, so that Ctrl-C reaches only the runner,
which then ends everything in order: INT, later TERM, later KILL. Should the runner
itself be killed, the kernel sends TERM to the nodes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from exo_bringup.launch_file import Argument, NodeToStart, declared_arguments, read
from exo_common.errors import ExoError

# The recorder needs 1.5 s to collect the last messages; a node that takes longer than this hangs.
INT_PATIENCE_S = 6.0
TERM_PATIENCE_S = 2.0
POLL_S = 0.02
# What a node returns whose parameters or files are wrong (exo_common.node.run).
BAD_INPUT = 2
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class LaunchRunner:
    """The nodes of one launch file as running processes.

    Parameters
    ----------
    path : launch XML.
    arguments : launch arguments by name.
    environment : additions to the environment of every node, such as ROS_DOMAIN_ID.
    log : file for what the nodes print, each line as `[node] line`; default is standard output.

    Attributes
    ----------
    processes : name -> process id; the name is the node's, with its namespace below the root
        (`estimator`, `twin/robot_state_publisher`).
    deaths : one sentence per node that ended by itself with an error.

    Raises
    ------
    ExoError : on construction, if the file or an argument is wrong.

    Notes
    -----
    Call :meth:`start` from a thread that lives as long as the nodes: the kernel ends them with it.
    """

    def __init__(
        self,
        path: Path,
        arguments: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.plan = read(path, arguments)
        self.processes: dict[str, int] = {}
        self._children: dict[str, subprocess.Popen[str]] = {}
        self.deaths: list[str] = []
        self._environment = dict(environment or {})
        self._log = log
        self._log_lock = threading.Lock()
        self._readers: list[threading.Thread] = []
        self._finished: set[str] = set()
        self._end = False
        self._stops_all: set[str] = set()

    def start(self) -> LaunchRunner:
        """Start every node."""
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
        for node in self.plan.nodes:
            name = base = f"{node.namespace.strip('/')}/{node.name}".lstrip("/")
            number = 2
            while name in self.processes:
                name, number = f"{base}-{number}", number + 1
            self._children[name] = self._spawn(node)
            self.processes[name] = self._children[name].pid
            if node.stops_all:
                self._stops_all.add(name)
            reader = threading.Thread(target=self._forward, args=(name, self._children[name]), daemon=True)
            reader.start()
            self._readers.append(reader)
        return self

    def _spawn(self, node: NodeToStart) -> subprocess.Popen[str]:
        environment = dict(os.environ)
        environment.update(RCUTILS_COLORIZED_OUTPUT="0", PYTHONUNBUFFERED="1")
        environment.update(self._environment)
        environment.update(node.environment)
        return subprocess.Popen(
            node.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )

    def _forward(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._output(f"[{name}] {line.rstrip()}")

    def alive(self) -> bool:
        """True while any node runs; notes nodes that ended by themselves."""
        running = False
        for name, process in self._children.items():
            code = process.poll()
            if code is None:
                running = True
            elif name not in self._finished:
                self._finished.add(name)
                if code == BAD_INPUT:
                    # Its sentence is printed; without it the graph makes no sense.
                    self._end = True
                if code != 0:
                    self.deaths.append(f"{name} ended by itself ({_ending(code)})")
                    others = "stopping the others" if self._end else "the others keep running"
                    self._output(f"[launch] {self.deaths[-1]}; {others}")
                elif name in self._stops_all:
                    self._output(f"[launch] {name} has finished; stopping the others")
                if name in self._stops_all:
                    self._end = True
        return running and not self._end

    def require_alive(self) -> None:
        """Raise when a node has died.

        Raises
        ------
        ExoError : naming the first one.
        """
        self.alive()
        if self.deaths:
            where = f"see {self._log}" if self._log else "see its last lines above"
            raise ExoError(f"{self.deaths[0]}; {where}")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the nodes have ended or one with on_exit="shutdown" has; False on timeout (s)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.alive():
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def stop(self) -> None:
        """End every node: INT, after a while TERM, after a while KILL. Can be called again."""
        self.alive()  # an end before this moment was the node's own
        for number, patience in (
            (signal.SIGINT, INT_PATIENCE_S),
            (signal.SIGTERM, TERM_PATIENCE_S),
            (signal.SIGKILL, None),
        ):
            running = [process for process in self._children.values() if process.poll() is None]
            if not running:
                break
            for process in running:
                _signal_group(process, number)
            deadline = None if patience is None else time.monotonic() + patience
            while any(process.poll() is None for process in running):
                if deadline is not None and time.monotonic() > deadline:
                    break
                time.sleep(POLL_S)
        for name, process in self._children.items():
            if name not in self._finished:
                self._finished.add(name)
                if process.returncode not in (0, -signal.SIGINT):
                    self.deaths.append(f"{name} did not stop cleanly ({_ending(process.returncode)})")
                    self._output(f"[launch] {self.deaths[-1]}")
        for reader in self._readers:
            reader.join(timeout=1.0)

    def _output(self, line: str) -> None:
        # On a full disk the words of the nodes are lost, never the nodes.
        with self._log_lock, contextlib.suppress(OSError):
            if self._log is None:
                print(line, flush=True)
                return
            with self._log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    @property
    def exit_code(self) -> int:
        """0 if no node died by itself and all stopped when told, otherwise 1."""
        return 1 if self.deaths else 0

    def __enter__(self) -> LaunchRunner:
        return self if self.processes else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


# ------------------------------------------------------------------ command line


def find_launch_file(package: str, name: str) -> Path:
    """The launch file `name` (with or without `.launch.xml`) of an installed package.

    Raises
    ------
    ExoError : if the package or the file does not exist.
    """
    try:
        folder = Path(get_package_share_directory(package), "launch")
    except (PackageNotFoundError, ValueError):
        raise ExoError(f"package '{package}' is not installed; check the spelling") from None
    for candidate in (name, f"{name}.launch.xml", f"{name}.xml"):
        if (folder / candidate).is_file():
            return folder / candidate
    known = ", ".join(sorted(path.name for path in folder.glob("*.xml"))) or "none"
    raise ExoError(f"package {package} has no launch file '{name}'; it has: {known}")


def describe_arguments(arguments: Sequence[Argument]) -> str:
    """The arguments of a launch file as text for a person."""
    lines = []
    for argument in arguments:
        default = "required" if argument.default is None else f"default '{argument.default}'"
        choices = f", one of {' | '.join(argument.choices)}" if argument.choices else ""
        lines.append(f"  {argument.name}:=  {argument.description} ({default}{choices})")
    return "\n".join(lines) or "  no arguments"


def main(arguments: Sequence[str]) -> int:
    """`<package> <file> [name:=value ...] [--show-args]`, or `<path> ...`; returns the exit code.

    Raises
    ------
    ExoError : if the launch file or an argument is wrong.
    """
    words = [word for word in arguments if ":=" not in word and not word.startswith("-")]
    options = [word for word in arguments if word.startswith("-")]
    if any(option not in ("--show-args", "-s") for option in options):
        raise ExoError(f"option '{options[0]}' is unknown; the only one is --show-args")
    if len(words) == 2:
        path = find_launch_file(*words)
    elif len(words) == 1 and words[0].endswith(".xml"):
        path = Path(words[0])
    else:
        raise ExoError("give a package and a launch file, for example: exo_bringup exo.launch.xml device:=virtual")
    if options:
        print(f"Arguments of {path.name}:\n{describe_arguments(declared_arguments(path))}")
        return 0
    pairs = [word.partition(":=") for word in arguments if ":=" in word]
    runner = LaunchRunner(path, {name: value for name, _, value in pairs})

    interrupted = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with runner:
            while runner.alive() and not interrupted.wait(POLL_S):
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return runner.exit_code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ExoError as error:
        sys.exit(f"exo: {error}")
