"""sensor_msgs/Image as a source of live pictures."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from exo_capture.live_sources import Clock, Picture, Source
from exo_common.clock import to_ns
from exo_common.errors import ExoError
from exo_common.qos import CONTROL

Pixels = NDArray[np.uint8]


def _converted(code: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


# Encoding of sensor_msgs/image_encodings.hpp -> bytes per pixel, and how to make RGB of (h, w, bytes).
ENCODINGS: dict[str, tuple[int, Callable[[Pixels], Pixels]]] = {
    "rgb8": (3, lambda pixels: pixels),
    "bgr8": (3, lambda pixels: pixels[:, :, ::-1]),
    "rgba8": (4, lambda pixels: pixels[:, :, :3]),
    "bgra8": (4, lambda pixels: pixels[:, :, 2::-1]),
    "mono8": (1, lambda pixels: np.broadcast_to(pixels, (*pixels.shape[:2], 3))),
    "yuv422": (2, _converted(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (2, _converted(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (2, _converted(cv2.COLOR_YUV2RGB_YUYV)),
    "yuyv": (2, _converted(cv2.COLOR_YUV2RGB_YUYV)),
}

PAIRED = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv")  # two neighbours in a row share their colour


def rgb(message: Image) -> Pixels:
    """The RGB picture (h, w, 3) of a message; a view where the encoding allows it.

    Raises
    ------
    ExoError : if the encoding is unknown, the data do not fill the picture, or it has no pixels or an odd width in an
        encoding of pairs.
    """
    if message.encoding not in ENCODINGS:
        raise ExoError(
            f"pictures are encoded as '{message.encoding}', which is not understood; "
            f"set the camera driver to one of {', '.join(ENCODINGS)}"
        )
    depth, convert = ENCODINGS[message.encoding]
    if not message.width or not message.height:
        raise ExoError(
            f"a picture of {message.width} x {message.height} has no pixels; mend or replace the camera driver"
        )
    if message.encoding in PAIRED and message.width % 2:
        raise ExoError(
            f"a picture in {message.encoding} is {message.width} pixels wide, which must be even; "
            "choose another size or encoding in the camera driver"
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    if message.step < message.width * depth or len(data) < message.step * message.height or not len(data):
        raise ExoError(
            f"a picture of {message.width} x {message.height} in {message.encoding} came with {len(data)} bytes "
            f"in rows of {message.step}; mend or replace the camera driver"
        )
    rows = data[: message.step * message.height].reshape(message.height, message.step)
    return convert(rows[:, : message.width * depth].reshape(message.height, message.width, depth))


class TopicSource(Source):
    """Takes the pictures of an Image topic; the stamp is the message's."""

    def __init__(self, node: Node, topic: str, now_ns: Clock) -> None:
        super().__init__(topic, now_ns)
        self._node = node

    def start(self, at_ns: int | None = None) -> None:
        """Subscribe."""
        self._node.create_subscription(Image, self.name, self._on_image, CONTROL)

    def _on_image(self, message: Image) -> None:
        try:
            image = rgb(message)
        except ExoError as error:
            self.problem = f"{self.name}: {error}"
            self.mailbox.refuse()
            return
        self.problem = ""
        self.mailbox.put(Picture(image, to_ns(message.header.stamp)))
