"""The capture node in the graph: only on request, and recorded from its first keypoints on."""

from __future__ import annotations

import pytest
import yaml
from ament_index_python.packages import get_package_share_directory

from exo_bringup.launch_file import read
from exo_bringup.live import launch_file

NEEDED = {"twin": "twin", "controller": "controller"}


def nodes(**arguments: str) -> dict[str, str]:
    """Command lines of the graph's nodes by name."""
    plan = read(launch_file("exo.launch.xml"), {**NEEDED, **arguments})
    return {node.name: " ".join(node.command) for node in plan.nodes}


def test_without_a_camera_nothing_is_captured() -> None:
    assert "capture" not in nodes()


@pytest.mark.parametrize(
    ("camera", "cameras"),
    [
        ("/dev/video0", '["/dev/video0"]'),
        ("/side/image_raw, /front/image_raw", '["/side/image_raw", "/front/image_raw"]'),
        ("/home/me/my walk.mp4", '["/home/me/my walk.mp4"]'),
    ],
)
def test_cameras_reach_the_node(camera: str, cameras: str) -> None:
    command = nodes(camera=camera, height="1.72", calibration="room.toml")["capture"]
    assert f"cameras:={cameras}" in command
    assert "height:=1.72" in command and 'calibration:="room.toml"' in command
    assert "wait_for_subscribers:=0" in command


def test_a_recording_hears_the_first_keypoints() -> None:
    # One listener may be the estimator.
    assert "wait_for_subscribers:=2" in nodes(camera="0", record="bag")["capture"]
    config = f"{get_package_share_directory('exo_bringup')}/config/recorder.yaml"
    with open(config, encoding="utf-8") as file:  # noqa: PTH123
        expected = yaml.safe_load(file)["recorder"]["ros__parameters"]["expected"]
    assert "/capture/keypoints exo_interfaces/msg/Keypoints" in expected
