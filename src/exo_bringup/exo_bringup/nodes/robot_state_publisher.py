"""Publishes the wearer's URDF and where its links are, from measured or estimated joint angles.

In a namespace it serves that namespace's `joint_states`: once for the exo
(`/joint_states`), once for the twin (`/twin/joint_states`, frames `twin/...`).
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from exo_bringup.description import describe, load_wearer
from exo_bringup.urdf_tree import Joint, Quaternion, read_joints, root_link
from exo_common.diagnostics import Diagnostics
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import CONTROL, LATCHED, PUBLISH


@dataclasses.dataclass(frozen=True)
class RobotStatePublisherParameters(Parameters):
    """Whose links, and under which names."""

    twin: str = parameter("", "", "folder of the wearer's twin; empty describes a generic adult")
    frame_prefix: str = parameter("", "", "put before every link's name on /tf, such as 'twin/'")
    root_frame: str = parameter("map", "", "frame in which the pelvis is placed, standing still")
    rate: float = parameter(30.0, "Hz", "most transforms per second", minimum=1.0, maximum=200.0)


class RobotStatePublisher(Node):
    """/joint_states in; /robot_description, /tf and /tf_static out."""

    def __init__(self) -> None:
        super().__init__("robot_state_publisher")
        self.parameters = declare(self, RobotStatePublisherParameters)
        wearer = load_wearer(Path(self.parameters.twin).expanduser() if self.parameters.twin else None)
        urdf = describe(wearer)
        joints = read_joints(urdf)
        self._moving = [joint for joint in joints if joint.axis is not None]
        # Joints that nobody measures (the exo sees only the hips) are drawn straight.
        self._angles = {joint.name: 0.0 for joint in self._moving}
        self._next_stamp_ns = 0
        self._transforms = self.create_publisher(TFMessage, "/tf", PUBLISH)
        description = self.create_publisher(String, "robot_description", LATCHED)
        self._static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        description.publish(String(data=urdf))
        now = self.get_clock().now()
        fixed = [self._transform(joint, now) for joint in joints if joint.axis is None]
        pelvis = Joint(
            "",
            self.parameters.root_frame,
            root_link(joints),
            (0.0, 0.0, wearer.pelvis_above_ground),
            (0.0, 0.0, 0.0, 1.0),
            None,
        )
        root = self._transform(pelvis, now)
        root.header.frame_id = self.parameters.root_frame
        self._static.publish(TFMessage(transforms=[root, *fixed]))
        self._diagnostics = Diagnostics(self)
        self._diagnostics.values = {"published": 0}
        self._published = 0
        self.create_subscription(JointState, "joint_states", self._receive, CONTROL)
        self._publish(now)

    def _receive(self, message: JointState) -> None:
        for name, angle in zip(message.name, message.position, strict=False):
            if name in self._angles:
                self._angles[name] = angle
        stamp = Time.from_msg(message.header.stamp)
        if 0 <= self._next_stamp_ns - stamp.nanoseconds <= 1e9 / self.parameters.rate:
            return
        self._publish(stamp)

    def _publish(self, stamp: Time) -> None:
        self._next_stamp_ns = stamp.nanoseconds + round(1e9 / self.parameters.rate)
        self._transforms.publish(TFMessage(transforms=[self._transform(joint, stamp) for joint in self._moving]))
        self._published += 1
        self._diagnostics.values = {"published": self._published}

    def _transform(self, joint: Joint, stamp: Time) -> TransformStamped:
        transform = TransformStamped()
        transform.header.stamp = stamp.to_msg()
        transform.header.frame_id = self.parameters.frame_prefix + joint.parent
        transform.child_frame_id = self.parameters.frame_prefix + joint.child
        place, turn = transform.transform.translation, transform.transform.rotation
        place.x, place.y, place.z = joint.position
        rotation: Quaternion = joint.rotation(self._angles.get(joint.name, 0.0))
        turn.x, turn.y, turn.z, turn.w = rotation
        return transform


def main() -> None:
    """Entry point."""
    sys.exit(run(RobotStatePublisher))


if __name__ == "__main__":
    main()
