"""The wearer's keypoints as messages: for computing, and for looking at in rviz."""

from __future__ import annotations

import math

from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from exo_capture.landmarks import SKELETON
from exo_capture.live import LANDMARKS, NAMES, LiveKeypoints
from exo_common.clock import to_stamp
from exo_common.frames import opensim_to_ros
from exo_interfaces.msg import Keypoints

FRAME = "capture"
BONES = tuple((LANDMARKS.index(a), LANDMARKS.index(b)) for a, b in SKELETON)
JOINT_M, BONE_M = 0.05, 0.025  # thickness in rviz
NS = "wearer"


def keypoints_message(keypoints: LiveKeypoints, sequence: int) -> Keypoints:
    """In ROS's z-up frame."""
    message = Keypoints(
        sequence=sequence,
        names=list(NAMES),
        position=_points(keypoints),
        confidence=keypoints.confidence.tolist(),
        depth_measured=keypoints.depth_measured,
    )
    message.header.stamp, message.header.frame_id = to_stamp(keypoints.stamp_ns), FRAME
    return message


def marker_message(keypoints: LiveKeypoints) -> MarkerArray:
    """Joints as balls and bones as lines, from red (no confidence) to green; nothing where nothing was seen."""
    points, colours = _points(keypoints), [_colour(float(c)) for c in keypoints.confidence]
    joints = _marker(keypoints, 0, Marker.SPHERE_LIST, JOINT_M)
    bones = _marker(keypoints, 1, Marker.LINE_LIST, BONE_M)
    seen = [not math.isnan(point.x) for point in points]
    for i, known in enumerate(seen):
        if known:
            joints.points.append(points[i])
            joints.colors.append(colours[i])
    for ends in BONES:
        if seen[ends[0]] and seen[ends[1]]:
            bones.points.extend(points[i] for i in ends)
            bones.colors.extend(colours[i] for i in ends)
    for marker in (joints, bones):
        if not marker.points:
            marker.action = Marker.DELETE
    return MarkerArray(markers=[joints, bones])


def _points(keypoints: LiveKeypoints) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in opensim_to_ros(keypoints.position).tolist()]


def _colour(confidence: float) -> ColorRGBA:
    return ColorRGBA(r=1.0 - confidence, g=confidence, b=0.1, a=1.0)


def _marker(keypoints: LiveKeypoints, number: int, kind: int, thickness_m: float) -> Marker:
    marker = Marker(ns=NS, id=number, type=kind, action=Marker.ADD)
    marker.header.stamp, marker.header.frame_id = to_stamp(keypoints.stamp_ns), FRAME
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = thickness_m
    return marker
