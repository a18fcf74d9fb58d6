"""Pictures for a report: the wearer's skeleton on video frames, other people marked as left out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import LEG_L, LEG_R, SKELETON, hip_centre
from exo_capture.monocular import Capture
from exo_capture.people import SAME_PERSON, upright
from exo_capture.sagittal import apparent_height
from exo_capture.video import read_frames

# RGB
LEFT, RIGHT, TRUNK, OTHER = (64, 160, 255), (255, 80, 64), (250, 250, 250), (150, 150, 150)
LINE_SHARE = 0.003  # of the picture height
DARKEN = 0.85  # so that lines stand out
LABEL_HEIGHT_SHARE = 0.03
# The part of the picture shown, in body heights around the wearer's hips.
SHOWN_WIDTH, SHOWN_HEIGHT = 2.4, 1.6


def annotated_frames(capture: Capture, count: int = 4, width: int = 720) -> list[tuple[int, bytes]]:
    """A few frames spread over the walk as (frame index, PNG bytes).

    Left leg blue, right leg red, trunk white; other people in a grey box. `width` is
    that of the pictures, px.
    """
    whole = np.flatnonzero(np.isfinite(capture.pixels.landmarks[:, (*LEG_L, *LEG_R)]).all(axis=(1, 2)))
    spread = whole[np.linspace(0, len(whole) - 1, count + 2)[1:-1].round().astype(int)]
    wanted = {int(capture.pixels.frame[i]): i for i in spread}
    height = apparent_height(capture.pixels.landmarks)
    pictures = []
    for index, image in read_frames(capture.clip):
        if index in wanted:
            i = wanted[index]
            drawn = _draw(image, capture, index, i, height[i])
            drawn = _around(drawn, capture.pixels.landmarks[i], height[i])
            size = (width, round(width * drawn.shape[0] / drawn.shape[1]))
            small = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
            pictures.append((index, cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()))
    return pictures


def _draw(image: NDArray[np.uint8], capture: Capture, index: int, i: int, height: float) -> NDArray[np.uint8]:
    canvas = (image * DARKEN).astype(np.uint8)
    line = max(2, round(2.0 * LINE_SHARE * image.shape[0]))
    wearer = capture.pixels.landmarks[i]
    candidates = capture.pixels.candidates
    people = candidates.landmarks[candidates.frame == index]
    for person in people[upright(people)]:
        if np.linalg.norm(hip_centre(person) - hip_centre(wearer)) > SAME_PERSON * height:
            low, high = person[:, :2].min(axis=0).astype(int), person[:, :2].max(axis=0).astype(int)
            cv2.rectangle(canvas, _point(low), _point(high), OTHER, line)
            _label(canvas, "not the wearer", _point(low), OTHER)
    for a, b in SKELETON:
        if np.isfinite(wearer[[a, b]]).all():
            colour = LEFT if {a, b} <= set(LEG_L) else RIGHT if {a, b} <= set(LEG_R) else TRUNK
            cv2.line(canvas, _point(wearer[a]), _point(wearer[b]), colour, line, cv2.LINE_AA)
    return canvas


def _around(canvas: NDArray[np.uint8], wearer: NDArray[np.float64], height: float) -> NDArray[np.uint8]:
    """The part of a picture around the wearer, as large in every picture, moved inside where it would stick out."""
    centre = hip_centre(wearer)
    ends = []
    for place, share, size in ((centre[0], SHOWN_WIDTH, canvas.shape[1]), (centre[1], SHOWN_HEIGHT, canvas.shape[0])):
        length = min(size, round(share * height))
        start = min(max(0, round(float(place) - length / 2)), size - length)
        ends.append(slice(start, start + length))
    return canvas[ends[1], ends[0]]


def _label(canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = cv2.getFontScaleFromHeight(font, max(8, round(LABEL_HEIGHT_SHARE * canvas.shape[0])))
    cv2.putText(canvas, text, corner, font, scale, colour, 2, cv2.LINE_AA)


def _point(xy: NDArray) -> tuple[int, int]:
    return round(float(xy[0])), round(float(xy[1]))
