"""sensor_msgs/Image of all encodings that cameras send."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image

from exo_capture.nodes.image_topic import ENCODINGS, TopicSource, rgb
from exo_common.errors import ExoError

RED = np.zeros((4, 6, 3), np.uint8)
RED[:, :, 0] = 200
YUYV = cv2.cvtColor(RED, cv2.COLOR_RGB2YUV_YUY2)
AS_SENT = {
    "rgb8": RED,
    "bgr8": RED[:, :, ::-1],
    "rgba8": np.dstack([RED, RED[:, :, 1]]),
    "bgra8": np.dstack([RED[:, :, ::-1], RED[:, :, 1]]),
    "mono8": RED[:, :, :1],
    "yuv422_yuy2": YUYV,
    "yuyv": YUYV,
    "yuv422": YUYV[:, :, ::-1],
    "uyvy": YUYV[:, :, ::-1],
}


def message(encoding: str, padding: int = 0) -> Image:
    pixels = AS_SENT[encoding]
    rows = np.pad(pixels.reshape(pixels.shape[0], -1), ((0, 0), (0, padding)))
    sent = Image(height=4, width=6, encoding=encoding, step=rows.shape[1])
    sent.data.frombytes(np.ascontiguousarray(rows).tobytes())
    return sent


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_becomes_rgb(encoding: str, padding: int) -> None:
    expected = np.full_like(RED, 200) if encoding == "mono8" else RED
    np.testing.assert_allclose(rgb(message(encoding, padding)).astype(int), expected, atol=4)


def test_unknown_encodings_and_short_pictures_are_refused() -> None:
    strange = message("rgb8")
    strange.encoding = "16UC1"
    with pytest.raises(ExoError, match="'16UC1', which is not understood; set the camera driver"):
        rgb(strange)
    short = message("rgb8")
    short.data = short.data[:-1]
    with pytest.raises(ExoError, match="came with 71 bytes"):
        rgb(short)
    with pytest.raises(ExoError, match="0 bytes"):
        rgb(Image(encoding="mono8", width=1, height=1, step=1))


@pytest.mark.parametrize(
    ("width", "height", "encoding", "why"),
    [
        (5, 4, "yuyv", "is 5 pixels wide, which must be even"),
        (5, 4, "uyvy", "is 5 pixels wide, which must be even"),
        (6, 0, "rgb8", "has no pixels"),
        (0, 4, "yuyv", "has no pixels"),
    ],
)
def test_a_picture_of_an_impossible_size_is_refused_and_counted(
    width: int, height: int, encoding: str, why: str
) -> None:
    source: Any = TopicSource(Mock(), "/side/image_raw", lambda: 0)
    sent = Image(height=height, width=width, encoding=encoding, step=2 * width)
    sent.data.frombytes(bytes(2 * width * 4 + 12))
    source._on_image(sent)
    assert why in source.problem and "camera driver" in source.problem
    assert (source.mailbox.counts.received, source.mailbox.counts.broken) == (1, 1)
    assert source.mailbox.take(0.0) is None
    source._on_image(message("yuyv"))
    assert source.problem == ""
