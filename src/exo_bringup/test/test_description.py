"""The URDF and /tf: lifting a thigh turns the right joint the right way, on either side."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yourdfpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from exo_bringup.description import Wearer, describe, load_wearer
from exo_bringup.urdf_tree import Joint, multiply, read_joints, root_link
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_common.qos import LATCHED, PUBLISH

DOMAIN = 73
PATIENCE_S = 10.0
LIFT = 0.5  # rad


@pytest.fixture(scope="module")
def urdf() -> str:
    return describe(Wearer())


def model(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays as the compiler writes them, of a wearer unlike the default."""
    names = ["pelvis", "torso", "thigh_l", "shank_l", "foot_l", "thigh_r", "shank_r", "foot_r"]
    places = [
        [0, 0, 0], [-0.1, 0, 0.08], [-0.05, 0.09, -0.07], [0, 0, -0.40], [0, 0, -0.39],
        [-0.05, -0.09, -0.07], [0, 0, -0.42], [0, 0, -0.39],
    ]  # fmt: skip
    return {
        "segments": np.array(names),
        "segment_position": np.array(places, dtype=float),
        "segment_mass": np.array([10.0, 30.0, 8.0, 3.0, 1.0, 8.0, 3.0, 1.0]),
        "height": np.array(1.8),
        "sole": np.array([[-0.05, 0, -0.06], [0.13, 0, -0.06], [0.2, 0, -0.05]]),
        **changes,
    }


def test_the_joints_are_those_of_the_messages(urdf: str) -> None:
    robot = yourdfpy.URDF.load(io.StringIO(urdf))
    assert tuple(robot.actuated_joint_names) == LEG_COORDINATES
    assert root_link(read_joints(urdf)) == "pelvis" == robot.base_link


# What one positive angle does to the end of the segment below, in the pelvis frame (x forward, z up).
@pytest.mark.parametrize("side", ["l", "r"])
@pytest.mark.parametrize(
    ("joint", "end", "forward", "up"),
    [("hip_flexion", "shank", 1, 1), ("knee_angle", "foot", -1, 1), ("ankle_angle", "toe", -1, 1)],
)
def test_flexion_is_positive_on_both_sides(urdf: str, side: str, joint: str, end: str, forward: int, up: int) -> None:
    robot = yourdfpy.URDF.load(io.StringIO(urdf))
    toe = np.array([0.2, 0.0, 0.0, 1.0])

    def places() -> dict[str, np.ndarray]:
        links = {f"{name}_{s}": robot.get_transform(f"{name}_{s}")[:3, 3] for name in ("shank", "foot") for s in "lr"}
        return links | {f"toe_{s}": (robot.get_transform(f"foot_{s}") @ toe)[:3] for s in "lr"}

    robot.update_cfg({name: 0.0 for name in LEG_COORDINATES})
    before = places()
    robot.update_cfg({f"{joint}_{side}": LIFT})
    moved = {name: place - before[name] for name, place in places().items()}
    other = "r" if side == "l" else "l"
    assert np.sign(moved[f"{end}_{side}"][0]) == forward and np.sign(moved[f"{end}_{side}"][2]) == up
    assert all(np.allclose(moved[f"{name}_{other}"], 0.0) for name in ("shank", "foot", "toe"))
    assert (before[f"foot_{side}"][1] > 0) == (side == "l")


def test_the_twins_lengths_and_masses_are_used(tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", allow_pickle=False, **model())
    wearer = load_wearer(tmp_path)
    assert wearer.mass == pytest.approx(64.0)
    robot = yourdfpy.URDF.load(io.StringIO(describe(wearer)))
    hip, knee, ankle = (robot.get_transform(f"{name}_r")[:3, 3] for name in ("thigh", "shank", "foot"))
    np.testing.assert_allclose(hip, [-0.05, -0.09, -0.07])
    assert np.linalg.norm(knee - hip) == pytest.approx(0.41)  # mean of the two legs
    assert np.linalg.norm(ankle - knee) == pytest.approx(0.39)
    assert wearer.pelvis_above_ground == pytest.approx(0.07 + 0.41 + 0.39 + 0.06)
    body = [link for link in robot.robot.links if link.inertial and not link.name.startswith("exo_")]
    assert sum(link.inertial.mass for link in body) == pytest.approx(64.0)


def test_inertias_are_those_of_solid_bodies(urdf: str) -> None:
    for link in yourdfpy.URDF.load(io.StringIO(urdf)).robot.links:
        if link.inertial is None:
            assert link.name.startswith("imu_")
            continue
        x, y, z = np.linalg.eigvalsh(link.inertial.inertia)
        assert link.inertial.mass > 0 and x > 0 and x + y >= z * (1 - 1e-9), link.name


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match=r"no readable model.npz"):
        load_wearer(tmp_path)
    np.savez(tmp_path / "model.npz", mass=np.array(70.0))
    with pytest.raises(ExoError, match="holds no segments"):
        load_wearer(tmp_path)


def test_kinematics_agree_with_yourdfpy(urdf: str) -> None:
    turned = '<robot name="t"><link name="a"/><link name="b"/><joint name="j" type="revolute"><parent link="a"/>\
    <child link="b"/><origin xyz="1 2 3" rpy="0.3 -0.4 1.1"/><axis xyz="0 1 1"/><limit effort="1" velocity="1" \
    lower="-1" upper="1"/></joint></robot>'
    robot = yourdfpy.URDF.load(io.StringIO(turned))
    robot.update_cfg({"j": 0.7})
    joint: Joint = read_joints(turned)[0]
    x, y, z, w = joint.rotation(0.7)
    point = np.array([0.1, 0.2, 0.3])
    q, conjugate = (x, y, z, w), (-x, -y, -z, w)
    rotated = multiply(multiply(q, (*point, 0.0)), conjugate)[:3]
    expected = (robot.get_transform("b") @ [*point, 1.0])[:3]
    np.testing.assert_allclose(np.add(rotated, joint.position), expected, atol=1e-12)
    with pytest.raises(ExoError, match="no valid XML"):
        read_joints("<robot")


# ------------------------------------------------------------------ live node


@pytest.fixture
def node() -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("test", context=context)
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize("side", ["l", "r"])
def test_a_lifted_thigh_turns_the_right_link_on_tf(node: Node, side: str) -> None:
    command = [
        sys.executable,
        "-m",
        "exo_bringup.nodes.robot_state_publisher",
        "--ros-args",
        "-p",
        "frame_prefix:=twin/",
    ]
    process = subprocess.Popen([*command, "-r", "__ns:=/twin"], env=dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN)))
    moving: dict[str, Any] = {}
    static: dict[str, Any] = {}
    texts: list[str] = []
    node.create_subscription(TFMessage, "/tf", lambda m: moving.update({t.child_frame_id: t for t in m.transforms}), 50)
    node.create_subscription(
        TFMessage, "/tf_static", lambda m: static.update({t.child_frame_id: t for t in m.transforms}), LATCHED
    )
    node.create_subscription(String, "/twin/robot_description", lambda m: texts.append(m.data), LATCHED)
    joints = node.create_publisher(JointState, "/twin/joint_states", PUBLISH)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def turned() -> float:
        if f"twin/thigh_{side}" not in moving:
            return 0.0
        turn = moving[f"twin/thigh_{side}"].transform.rotation
        return -2.0 * math.atan2(turn.y, turn.w)

    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not (abs(turned() - LIFT) < 1e-9 and static and texts):
            message = JointState(name=[f"hip_flexion_{side}"], position=[LIFT])
            message.header.stamp = node.get_clock().now().to_msg()
            joints.publish(message)
            executor.spin_once(0.05)
        assert turned() == pytest.approx(LIFT)  # hip axis 0 -1 0: flexion is a negative turn about y
        thigh = moving[f"twin/thigh_{side}"]
        assert thigh.header.frame_id == "twin/pelvis"
        assert set(moving) == {f"twin/{part}_{s}" for part in ("thigh", "shank", "foot") for s in "lr"}
        other = moving["twin/thigh_r" if side == "l" else "twin/thigh_l"]
        assert other.transform.rotation.w == 1.0
        assert static["twin/pelvis"].header.frame_id == "map"
        assert texts[0].startswith("<?xml")
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
