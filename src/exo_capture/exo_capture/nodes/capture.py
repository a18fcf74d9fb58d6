"""Live capture: cameras in, the wearer's keypoints in metres out, stamped with the time the pictures were taken."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

from rclpy.node import Node
from visualization_msgs.msg import MarkerArray

from exo_capture.acquisition import RULES, WALKS
from exo_capture.calibration_files import read_calibration
from exo_capture.cameras import Camera
from exo_capture.following import PEOPLE
from exo_capture.live import Fusion, LiveKeypoints, LiveTracker, PlaneFusion, SpaceFusion, WearerView
from exo_capture.live_loop import CaptureLoop
from exo_capture.live_sources import DeviceMode, DeviceSource, FileSource, Source
from exo_capture.nodes.capture_health import CaptureHealth
from exo_capture.nodes.image_topic import TopicSource
from exo_capture.nodes.keypoint_messages import keypoints_message, marker_message
from exo_capture.pose import PoseEstimator
from exo_capture.room import room_to_opensim
from exo_capture.weights import VARIANTS, model_path
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import PUBLISH
from exo_interfaces.msg import Keypoints

MIN_STATURE_M = 1.0
TOPIC = re.compile(r"[~/]?[A-Za-z_][\w/]*")


@dataclasses.dataclass(frozen=True)
class CaptureParameters(Parameters):
    """What is captured, and of whom."""

    cameras: list[str] = parameter(
        [], "", "one or more Image topics, video files (played in real time) or devices such as /dev/video0"
    )
    height: float = parameter(
        0.0, "m", "the wearer's standing height; one camera needs it, several check by it", minimum=0.0, maximum=2.3
    )
    calibration: str = parameter("", "", "calibration file; several cameras need it, named in the order of `cameras`")
    up: str = parameter("z", "", "axis of the calibration's room that points up", choices=("x", "y", "z"))
    heading: float = parameter(
        0.0, "rad", "direction of the walk about that axis, from the axis after it (x for z)", minimum=-6.3, maximum=6.3
    )
    wearer: str = parameter(
        WALKS, "", "who is the wearer: the first who walks across the picture, or the largest in it", choices=RULES
    )
    model: str = parameter("full", "", "pose model", choices=tuple(VARIANTS))
    loop: bool = parameter(False, "", "begin a video file again at its end")
    device_width: int = parameter(1280, "px", "asked of a device; 0 leaves it to the camera", minimum=0, maximum=8192)
    device_height: int = parameter(720, "px", "asked of a device; 0 leaves it to the camera", minimum=0, maximum=8192)
    device_rate: float = parameter(
        30.0, "Hz", "asked of a device; 0 leaves it to the camera", minimum=0.0, maximum=240.0
    )
    wait_for_subscribers: int = parameter(
        0, "", "subscribers of /capture/keypoints to wait for before the cameras start", minimum=0, maximum=20
    )


class CaptureNode(Node):
    """Thin shell around :class:`exo_capture.live_loop.CaptureLoop`."""

    def __init__(self) -> None:
        super().__init__("capture")
        self._config = declare(self, CaptureParameters)
        model = model_path(self._config.model)
        cameras = self._calibrated()
        self._sources = [self._source(name) for name in self._config.cameras]
        self._estimators = [PoseEstimator(model, PEOPLE) for _ in self._sources]
        views = [
            WearerView(estimator.detect, self._config.wearer, camera)
            for estimator, camera in zip(self._estimators, cameras or (None,), strict=True)
        ]
        self._tracker = LiveTracker(views, self._fusion(cameras))
        self._loop = CaptureLoop(self._sources, self._tracker, self._publish)
        self._sequence = 0
        self._keypoints = self.create_publisher(Keypoints, "/capture/keypoints", PUBLISH)
        self._markers = self.create_publisher(MarkerArray, "/capture/markers", PUBLISH)
        self._health = CaptureHealth(self, self._sources, self._tracker)
        when_heard(self, self._keypoints, self._config.wait_for_subscribers, self._begin)
        self.create_timer(1.0, self._report)

    def _begin(self) -> None:
        self._health.begin()
        self._loop.start()

    def _calibrated(self) -> list[Camera]:
        """The calibration of each camera; empty when one camera measures by the wearer's height.

        Raises
        ------
        ExoError : if the parameters needed for this number of cameras are missing.
        """
        names, path = self._config.cameras, self._config.calibration
        if not names:
            raise ExoError(
                "parameter cameras is empty; give topics, video files or devices, e.g. cameras:=[/dev/video0]"
            )
        if len(names) == 1:
            if self._config.height < MIN_STATURE_M:
                raise ExoError(
                    "one camera measures by the wearer's height; give the standing height in m, e.g. height:=1.72"
                )
            return []
        if not path:
            raise ExoError(f"{len(names)} cameras need their calibration; give its file with calibration:=<file>")
        cameras = read_calibration(Path(path))
        if len(cameras) != len(names):
            raise ExoError(
                f"{path} describes {len(cameras)} cameras and {len(names)} are given; "
                "list all of them, in the order of the file"
            )
        return cameras

    def _fusion(self, cameras: list[Camera]) -> Fusion:
        if not cameras:
            return PlaneFusion(self._config.height)
        return SpaceFusion(cameras, room_to_opensim(self._config.up, self._config.heading), self._config.height)

    def _source(self, name: str) -> Source:
        """A number or /dev/... is a device; what exists as a file or cannot name a topic is a file."""
        config = self._config
        if name.isdigit() or name.startswith("/dev/"):
            return DeviceSource(name, DeviceMode(config.device_width, config.device_height, config.device_rate))
        path = Path(name).expanduser()
        if path.exists() or not TOPIC.fullmatch(name):
            return FileSource(path, config.loop)
        return TopicSource(self, name, lambda: int(self.get_clock().now().nanoseconds))

    def _publish(self, keypoints: LiveKeypoints) -> None:
        """Called from the loop's thread."""
        self._keypoints.publish(keypoints_message(keypoints, self._sequence))
        self._sequence += 1
        self._health.published(keypoints)
        if self._markers.get_subscription_count():
            self._markers.publish(marker_message(keypoints))

    def _report(self) -> None:
        if self._loop.failure is not None:
            raise self._loop.failure
        self._health.report()

    def on_stop(self) -> None:
        """End the threads before the node goes."""
        # An estimator must not be closed under the thread that uses it; the process's end does it then.
        if self._loop.close():
            for estimator in self._estimators:
                estimator.close()


def main() -> None:
    """Entry point."""
    # While the pose estimator greets on stderr, for which it has no switch, stderr leads nowhere: logs go to stdout.
    os.environ.setdefault("RCUTILS_LOGGING_USE_STDOUT", "1")
    os.environ.setdefault("RCUTILS_LOGGING_BUFFERED_STREAM", "0")
    sys.exit(run(CaptureNode))


if __name__ == "__main__":
    main()
