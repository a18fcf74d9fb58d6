"""What the estimator is sent, made up."""

from __future__ import annotations

from geometry_msgs.msg import Point
from sensor_msgs.msg import Imu, JointState

from exo_common.clock import to_stamp
from exo_common.frames import HIPS
from exo_interfaces.msg import EmgEnvelope, Keypoints
from exo_twin.live.imu import GRAVITY
from exo_twin.planar_muscles import MUSCLES


def joints(stamp: int, q: tuple[float, float], qd: tuple[float, float]) -> JointState:
    message = JointState(name=["odd", HIPS[1], HIPS[0]], position=[9.0, q[1], q[0]], velocity=[9.0, qd[1], qd[0]])
    message.header.stamp = to_stamp(stamp)
    return message


def emg(stamp: int, level: float, invalid: str = "") -> EmgEnvelope:
    message = EmgEnvelope(
        muscles=list(MUSCLES), envelope=[level + 0.01 * k for k in range(18)], valid=[n != invalid for n in MUSCLES]
    )
    message.header.stamp = to_stamp(stamp)
    return message


def gyro(stamp: int, rate: float) -> Imu:
    message = Imu()
    message.header.stamp = to_stamp(stamp)
    message.angular_velocity.y, message.linear_acceleration.z = rate, GRAVITY
    return message


def legs(stamp: int, bend: float) -> Keypoints:
    message = Keypoints(depth_measured=True, names=["Nose"], position=[Point()], confidence=[1.0])
    message.header.stamp = to_stamp(stamp)
    places = {"Hip": (0.0, 0.9), "Knee": (0.1, 0.5), "Ankle": (0.1 - bend, 0.1), "Heel": (0.05, 0.05)}
    for side, y in (("L", 0.1), ("R", -0.1)):
        for name, (x, z) in {**places, "BigToe": (0.3, 0.05)}.items():
            message.names.append(f"{side}{name}")
            message.position.append(Point(x=x, y=y, z=z))
            message.confidence.append(0.0 if name == "Heel" and side == "L" else 0.9)
    return message
