"""Where the links of a URDF are: just enough kinematics to publish /tf."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np

from exo_common.errors import ExoError
from exo_common.frames import quaternion_about

Quaternion = tuple[float, float, float, float]  # x, y, z, w


@dataclasses.dataclass(frozen=True)
class Joint:
    """One joint: the child's frame in the parent's when the joint is at zero, and what moves it."""

    name: str
    parent: str
    child: str
    position: tuple[float, float, float]  # m
    orientation: Quaternion
    axis: tuple[float, float, float] | None  # None for a fixed joint

    def rotation(self, angle: float) -> Quaternion:
        """Orientation of the child in the parent at `angle` rad."""
        if self.axis is None:
            return self.orientation
        return multiply(self.orientation, quaternion_about(self.axis, angle))


def read_joints(urdf: str) -> list[Joint]:
    """All joints of a URDF.

    Raises
    ------
    ExoError : if the text is no URDF or has a joint that neither turns nor is fixed.
    """
    try:
        root = ET.fromstring(urdf)
    except ET.ParseError as error:
        raise ExoError(f"the robot description is no valid XML ({error})") from None
    joints = []
    for element in root.findall("joint"):
        kind, name = element.get("type"), element.get("name", "")
        if kind not in ("revolute", "continuous", "fixed"):
            raise ExoError(f"joint {name} of the robot description is of type {kind}; only turning ones are known")
        origin, axis = element.find("origin"), element.find("axis")
        x, y, z = _three(origin, "xyz", "0 0 0")
        turn = _three(origin, "rpy", "0 0 0")
        joints.append(
            Joint(
                name,
                element.find("parent").get("link"),  # type: ignore[union-attr, arg-type]
                element.find("child").get("link"),  # type: ignore[union-attr, arg-type]
                (x, y, z),
                from_roll_pitch_yaw(*turn),
                None if kind == "fixed" else _unit(_three(axis, "xyz", "1 0 0")),
            )
        )
    return joints


def root_link(joints: list[Joint]) -> str:
    """The one link that is nobody's child."""
    children = {joint.child for joint in joints}
    return next(joint.parent for joint in joints if joint.parent not in children)


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """The rotation `b`, then `a`."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def from_roll_pitch_yaw(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Turns about the fixed x, y and z axes, in that order, rad (URDF's `rpy`)."""
    about_x, about_y, about_z = (
        quaternion_about(axis, angle)
        for axis, angle in (((1.0, 0.0, 0.0), roll), ((0.0, 1.0, 0.0), pitch), ((0.0, 0.0, 1.0), yaw))
    )
    return multiply(about_z, multiply(about_y, about_x))


def _three(element: ET.Element | None, name: str, default: str) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in (default if element is None else element.get(name, default)).split())
    return x, y, z


def _unit(axis: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    return float(x), float(y), float(z)
