"""A live run of the whole graph: walk without help, arm, walk with help, stop; everything recorded."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from ament_index_python.packages import get_package_share_directory

from exo_bringup.launch_runner import LaunchRunner
from exo_bringup.operator import Operator
from exo_bringup.progress import Report

# The share of a run that is walked without help, for comparison.
UNASSISTED_SHARE = 0.4
# Time after the stop in which the recording sees the torque die away.
AFTER_STOP_S = 1.0
# Domains from here on belong to demos, benches and tests, so that they never meet a worn exo.
FIRST_PRIVATE_DOMAIN = 100
PRIVATE_DOMAINS = 100


@dataclasses.dataclass(frozen=True)
class LiveRun:
    """A finished run."""

    bag: Path
    seconds: float
    start_up_s: float


def private_domain() -> int:
    """A DDS domain that no worn exo uses and other runs on this machine probably neither."""
    return FIRST_PRIVATE_DOMAIN + os.getpid() % PRIVATE_DOMAINS


def launch_file(name: str) -> Path:
    """A launch file of this package, as installed."""
    return Path(get_package_share_directory("exo_bringup")) / "launch" / name


def run_live(twin: Path, controller: Path, bag: Path, seconds: float, progress: Report) -> LiveRun:
    """Run the graph with the virtual device for `seconds` of walking.

    Raises
    ------
    ExoError : if a node does not come up or the supervisor refuses to arm.
    """
    domain = private_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    arguments = {"device": "virtual", "twin": str(twin), "controller": str(controller), "record": str(bag)}
    started = time.monotonic()
    with (
        LaunchRunner(launch_file("exo.launch.xml"), arguments, log=bag.parent / "nodes.log") as runner,
        Operator(domain) as operator,
    ):

        def up() -> bool:
            runner.require_alive()
            return None not in (operator.device, operator.safety, operator.request)

        operator.wait_until(up, "the first messages of device, supervisor and policy")
        start_up = time.monotonic() - started
        walked = time.monotonic()

        def walk(until: float, what: str, helped: bool = False) -> None:
            while (now := time.monotonic() - walked) < until:
                runner.require_alive()
                if helped:
                    operator.keep_armed()
                progress(now / seconds, what)
                time.sleep(0.1)

        walk(UNASSISTED_SHARE * seconds, "walking without help")
        operator.arm()
        walk(seconds, "walking with help", helped=True)
        operator.stop()
        walk(seconds + AFTER_STOP_S, "stopped")
    return LiveRun(bag, seconds, start_up)
