"""The rules of the house: who may import whom, what a live node may load, what every package has."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each package may import those to its right (exo_safety only exo_common and exo_interfaces).
FLOORS = {
    "exo_bringup": {
        "exo_controller",
        "exo_twin",
        "exo_capture",
        "exo_emg",
        "exo_safety",
        "exo_common",
        "exo_interfaces",
    },
    "exo_controller": {"exo_twin", "exo_capture", "exo_emg", "exo_safety", "exo_common", "exo_interfaces"},
    "exo_twin": {"exo_capture", "exo_emg", "exo_safety", "exo_common", "exo_interfaces"},
    "exo_capture": {"exo_common", "exo_interfaces"},
    "exo_emg": {"exo_common", "exo_interfaces"},
    "exo_safety": {"exo_common", "exo_interfaces"},
    "exo_common": {"exo_interfaces"},
}
LIVE_NODES = (
    "exo_capture.nodes.capture",
    "exo_emg.nodes.emg_driver",
    "exo_emg.nodes.emg_processor",
    "exo_twin.nodes.estimator",
    "exo_controller.nodes.policy",
    "exo_safety.nodes.supervisor",
    "exo_bringup.nodes.recorder",
    "exo_bringup.nodes.robot_state_publisher",
)


def imports(path: Path) -> set[str]:
    """Top-level names a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", FLOORS)
def test_dependencies_point_one_way(package: str) -> None:
    for path in (ROOT / "src" / package / package).rglob("*.py"):
        used = {name for name in imports(path) if name.startswith("exo_")} - {package}
        assert used <= FLOORS[package], f"{path} imports {used - FLOORS[package]}"


@pytest.mark.parametrize("package", sorted(set(FLOORS) - {"exo_common", "exo_bringup"}))
def test_only_nodes_know_ros(package: str) -> None:
    for path in (ROOT / "src" / package / package).rglob("*.py"):
        if "nodes" not in path.parts:
            assert not imports(path) & {"rclpy", "exo_interfaces"}, f"{path} belongs in nodes/ or must not import ROS"


@pytest.mark.parametrize("module", LIVE_NODES)
def test_live_nodes_stay_light(module: str) -> None:
    code = f"import {module}, sys; print([m for m in ('opensim', 'torch', 'mujoco', 'mediapipe') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", sorted(p.parent.name for p in ROOT.glob("src/*/package.xml")))
def test_every_package_explains_itself(package: str) -> None:
    assert len((ROOT / "src" / package / "README.md").read_text().splitlines()) >= 8
    assert "Apache-2.0" in (ROOT / "src" / package / "package.xml").read_text()


def test_the_first_screen_says_it_is_no_medical_device() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:25])
    assert re.search(r"not a certified medical device", first_screen, re.IGNORECASE)
    assert "./exo demo" in first_screen and "./exo test" in first_screen


@pytest.mark.parametrize("readme", sorted(ROOT.glob("README.md")) + sorted(ROOT.glob("src/*/README.md")), ids=str)
def test_local_links_lead_somewhere(readme: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", readme.read_text()):
        assert (readme.parent / target).exists(), target
