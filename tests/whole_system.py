"""What whole-system tests share: a finished demo, and a running graph of its artefacts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exo_bringup.launch_runner import LaunchRunner
from exo_bringup.live import launch_file
from exo_bringup.operator import Operator

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Demo:
    """A finished demo."""

    folder: Path
    output: str
    result: dict[str, Any]

    @property
    def twin(self) -> Path:
        """Its twin."""
        return self.folder / "session" / "twin"

    @property
    def controller(self) -> Path:
        """Its controller."""
        return self.folder / "session" / "controller"


def run_demo(out: Path) -> Demo:
    """`./exo demo`, shortened to the shortest live run it allows."""
    done = subprocess.run(
        [str(ROOT / "exo"), "demo", "--seconds", "20", "--out", str(out)],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    folder = (out / "latest").resolve()
    return Demo(folder, done.stdout, json.loads((folder / "demo.json").read_text()))


@dataclasses.dataclass(frozen=True)
class Graph:
    """A running graph and the operator's hand on it."""

    runner: LaunchRunner
    operator: Operator
    domain: int


DOMAINS = itertools.cycle(range(30, 90))


def next_domain() -> int:
    """A DDS domain of its own for every graph, so that a dying one cannot disturb the next."""
    return next(DOMAINS)


def run_graph(demo: Demo, **arguments: str) -> Iterator[Graph]:
    """Start exo.launch.xml with the virtual device; stop it whatever happens."""
    domain = next_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    values = {"device": "virtual", "twin": str(demo.twin), "controller": str(demo.controller), **arguments}
    with LaunchRunner(launch_file("exo.launch.xml"), values) as runner, Operator(domain) as operator:
        operator.wait_until(
            lambda: None not in (operator.device, operator.safety, operator.request), "the graph's start"
        )
        yield Graph(runner, operator, domain)
