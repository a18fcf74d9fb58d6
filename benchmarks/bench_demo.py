"""Measures the newcomer's path: the first and the second `./exo demo` of a fresh clone, and a killed policy.

`first_run_s` includes everything a new machine downloads and builds (system
packages aside, where they are already there); `second_run_s` is the same
command again. `kill_policy_to_zero_ms` is the median, over repetitions, of the
time from SIGKILL of the policy to the first device state with zero torque.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from results import report

from exo_bringup.analysis import NO_TORQUE_NM
from exo_bringup.launch_runner import LaunchRunner
from exo_bringup.live import launch_file, private_domain
from exo_bringup.operator import Operator

# Torque at which a kill counts: the device must be pushing when the policy dies.
PUSHING_NM = 1.0


def timed_demo(clone: Path, home: Path) -> float:
    """Wall-clock seconds of `./exo demo` in a clone with its own HOME."""
    keep = ("PATH", "LANG", "PIP_", "SSL_", "HTTP", "http", "REQUESTS_", "NO_PROXY", "OPENBLAS_")
    outside = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if os.environ["EXO_HOME"] not in p)
    environment = {k: v for k, v in os.environ.items() if k.startswith(keep)} | {"HOME": str(home), "PATH": outside}
    started = time.monotonic()
    subprocess.run(["./exo", "demo"], cwd=clone, env=environment, check=True)
    return time.monotonic() - started


def kill_policy(twin: Path, controller: Path, repetitions: int) -> list[float]:
    """Milliseconds from SIGKILL of the policy to zero device torque, one graph per repetition."""
    times = []
    for _ in range(repetitions):
        domain = private_domain()
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        arguments = {"device": "virtual", "twin": str(twin), "controller": str(controller)}
        with LaunchRunner(launch_file("exo.launch.xml"), arguments) as runner, Operator(domain) as operator:
            operator.wait_until(lambda: operator.device is not None, "the device's first message")
            operator.arm()

            def pushing(operator: Operator = operator) -> bool:
                operator.keep_armed()
                return max(map(abs, operator.device.torque_nm)) > PUSHING_NM

            def silent(operator: Operator = operator) -> bool:
                return max(map(abs, operator.device.torque_nm)) < NO_TORQUE_NM

            operator.wait_until(pushing, "torque at the device", 30.0)
            os.kill(runner.processes["policy"], signal.SIGKILL)
            times.append(1e3 * operator.wait_until(silent, "zero torque at the device"))
    return times


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="./exo bench demo", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=10, help="kills of the policy (default: 10)")
    repetitions = parser.parse_args().repetitions
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="exo-bench-") as scratch:
        clone, home = Path(scratch) / "exo", Path(scratch) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "-q", os.environ["EXO_ROOT"], str(clone)], check=True)
        first = timed_demo(clone, home)
        second = timed_demo(clone, home)
        latest = clone / "out" / "demo" / "latest"
        demo = json.loads((latest / "demo.json").read_text(encoding="utf-8"))
        session = latest.resolve() / "session"
        kills = kill_policy(session / "twin", session / "controller", repetitions)
    figures = {
        "first_run_s": first,
        "second_run_s": second,
        "strides_found": demo["strides_found"],
        "hip_rom_deg": statistics.mean(demo["hip_rom_deg"].values()),
        "knee_rom_deg": statistics.mean(demo["knee_rom_deg"].values()),
        "bag_messages": demo["bag_messages"],
        "bag_missing": demo["bag_missing"],
        "kill_policy_to_zero_ms": statistics.median(kills),
        "kill_policy_to_zero_max_ms": max(kills),
    }
    data = f"sports2d's demo video, one walker, 230 frames; {repetitions} kills"
    report("demo", figures, {}, data, [0], time.monotonic() - started)


if __name__ == "__main__":
    main()
