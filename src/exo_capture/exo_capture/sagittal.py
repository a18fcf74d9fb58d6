"""From pixels of one side view to metres in OpenSim's frame, under a plane assumption.

The walker is taken to move in one vertical plane: x along the way, y up from the
floor. Depth is not measured; every marker gets the constant depth it has on a
standing person, so that a 3-D model can be scaled and posed, and only sagittal
coordinates of the result mean anything.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import ANKLES, EYES, HEELS, HIPS, MARKERS, SHOULDERS, TOES
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

# Heights above the floor as shares of stature (Drillis & Contini 1966, in Winter, table of body segment lengths).
# The eyes come first: shoulders are less exact, and used only where the estimator knows no eyes.
# The table's shoulder is the acromion (0.818); the joint lies 4.6 cm below it in LaiUhlrich2022's skeleton (1.70 m).
HEIGHT_SHARES = {EYES: 0.936, SHOULDERS: 0.818 - 0.027}
NOSE_HEIGHT_SHARE = 0.91  # between the eyes and the chin (0.87)
MEDIAN_WINDOW = 0.2  # of the frames, for the apparent height
# Eyes and shoulders are at standing height only around mid-stance: that share of the frames lies below the upper line.
UPPER_SHARE = 0.75
ROBUST_ROUNDS = 20
ROBUST_TUNING = 0.02  # of the value fitted: deviations beyond this count less
MIN_FRAMES = 15  # with eyes and both feet known; fewer cannot carry the fits
# A camera that is level shows the floor of a walker who comes nearer lower in the picture; how much depends on the
# height of the lens over the height of the eyes: a tripod at hip height. A lens at eye height makes 1 degree of
# difference for a walker who grows by 5 % over three body heights.
LENS_OVER_EYES = 0.6
FLOOR_ORDER = 2  # real ground outdoors bends; a straight line left 14 cm of false rise and fall of the hips

# Distance of each landmark from the mid-plane, as a share of stature, in the neutral pose of
# Pose2Sim's model (1.69 m) with its BlazePose markers; arms as hanging down.
DEPTH_SHARE = {
    "Nose": 0.0,
    "Eye": 0.018,
    "Shoulder": 0.119,
    "Elbow": 0.130,
    "Wrist": 0.130,
    "Hip": 0.062,
    "Knee": 0.050,
    "Ankle": 0.057,
    "Heel": 0.052,
    "BigToe": 0.054,
}


@dataclasses.dataclass(frozen=True)
class View:
    """How the picture maps to the walking plane.

    Attributes
    ----------
    metre_per_px : (n,) scale at the walker, frame by frame.
    floor : polynomial coefficients (highest first) of the floor y(x) in the picture, px.
    direction : +1 if the walker moves to the right of the picture, -1 if to the left.
    near_side : "l" or "r", the leg nearer to the camera.
    """

    metre_per_px: NDArray[np.float64]
    floor: tuple[float, ...]
    direction: int
    near_side: str

    @property
    def scale_change(self) -> float:
        """Largest over smallest scale, minus one."""
        return float(self.metre_per_px.max() / self.metre_per_px.min() - 1.0)


def apparent_height(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nose-to-foot height of an upright person (n,), px, in every frame, smooth over the walk.

    Parameters
    ----------
    pixels : (n, 33, 2) px, NaN where missing.
    """
    pair = _reference(pixels)
    extent = pixels[:, (*HEELS, *TOES), 1].max(axis=1) - pixels[:, pair, 1].mean(axis=1)
    known = np.flatnonzero(np.isfinite(extent))
    if not len(known):
        return np.full(len(pixels), np.nan)
    half = max(1, round(MEDIAN_WINDOW * len(known) / 2.0))
    smooth = [np.median(extent[known[max(0, i - half) : i + half + 1]]) for i in range(len(known))]
    return np.interp(np.arange(len(pixels)), known, smooth) * NOSE_HEIGHT_SHARE / HEIGHT_SHARES[pair]


def fit_view(pixels: NDArray[np.float64], stature: float) -> View:
    """Scale, floor and direction from the walker's own stature.

    The image size of an upright person on a straight way is a linear function of
    the horizontal image position (1/depth is affine along the projection of a line),
    so a line is fitted; its level is that of mid-stance, where people stand tallest.

    Parameters
    ----------
    pixels : (n, 33, 2) px, NaN where missing.
    stature : m.

    Raises
    ------
    ExoError : if head and feet are hardly ever seen, or the walker faces against the way.
    """
    pair = _reference(pixels)
    x = pixels[:, HIPS, 0].mean(axis=1)
    feet = pixels[:, (*HEELS, *TOES)]
    complete = np.isfinite(feet).all(axis=(1, 2)) & np.isfinite(pixels[:, pair]).all(axis=(1, 2)) & np.isfinite(x)
    rows = np.flatnonzero(complete)
    if len(rows) < MIN_FRAMES:
        raise ExoError(
            f"head and both feet of the walker are known in only {len(rows)} frames; "
            "film with more light and nothing in front of the wearer"
        )
    lowest = feet[rows, np.argmax(feet[rows, :, 1], axis=1)]
    floor = _robust_curve(lowest[:, 0], lowest[:, 1], FLOOR_ORDER)
    floor_y = np.polyval(floor, x[rows])
    above = floor_y - pixels[rows][:, pair, 1].mean(axis=1)
    size = _robust_curve(x[rows], above, 1)
    size[-1] += np.quantile(above - np.polyval(size, x[rows]), UPPER_SHARE)
    known = np.isfinite(x)
    way = np.interp(np.arange(len(x)), np.flatnonzero(known), x[known])
    reference_height = np.polyval(size, way)
    direction = 1 if way[-1] > way[0] else -1
    toes_ahead = direction * np.nanmedian(pixels[:, TOES, 0] - pixels[:, HEELS, 0])
    if toes_ahead < 0.0:
        raise ExoError(
            "the walker's toes point against the way (walking backwards, or a video played in reverse); "
            "give a video of walking forwards"
        )
    scale = HEIGHT_SHARES[pair] * stature / reference_height
    return View(scale, tuple(float(v) for v in floor), direction, "r" if direction > 0 else "l")


def camera_roll(pixels: NDArray[np.float64]) -> float:
    """How far the picture is turned, rad: positive if the floor falls to the right because the camera was not level.

    That a level camera's floor falls or rises because the walker comes nearer or
    goes away is told by the walker's size and left out.
    """
    pair = _reference(pixels)
    x = pixels[:, HIPS, 0].mean(axis=1)
    lowest = pixels[:, (*HEELS, *TOES), 1].max(axis=1)
    above = lowest - pixels[:, pair, 1].mean(axis=1)
    known = np.isfinite(x) & np.isfinite(above)
    if known.sum() < MIN_FRAMES:
        return 0.0
    floor, size = (_robust_curve(x[known], y[known], 1)[0] for y in (lowest, above))
    eyes_over_reference = HEIGHT_SHARES[EYES] / HEIGHT_SHARES[pair]
    return float(np.arctan(floor - LENS_OVER_EYES * eyes_over_reference * size))


def lean_drift(pixels: NDArray[np.float64]) -> float:
    """How much the line from ankles to head (or shoulders) turns in the picture over the walked way, rad.

    A walker leans the same way everywhere; a camera that looks up or down shows
    upright lines fanned out, a lens with distortion shows them bent.
    """
    up = pixels[:, _reference(pixels)].mean(axis=1) - pixels[:, ANKLES].mean(axis=1)
    x = pixels[:, HIPS, 0].mean(axis=1)
    lean = np.arctan2(up[:, 0], -up[:, 1])
    known = np.isfinite(lean) & np.isfinite(x)
    if known.sum() < MIN_FRAMES:
        return 0.0
    return float(np.polyfit(x[known], lean[known], 1)[0] * np.ptp(x[known]))


def turned(pixels: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Points (..., 2) px of a picture that is turned back by `angle`, rad, about its corner."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(pixels @ np.array([[c, -s], [s, c]]))


def to_markers(
    pixels: NDArray[np.float64],
    steady: NDArray[np.float64],
    time: NDArray[np.float64],
    view: View,
    stature: float,
    confidence: NDArray[np.float64] | None = None,
) -> Markers:
    """Markers in OpenSim's frame (x along the walk, y up from the floor, z right), m.

    The way is the sum of the hip's steps in the picture, each at the scale of its
    frame, so that it does not stretch as the walker comes nearer.

    Parameters
    ----------
    pixels : (n, 33, 2) px to be placed, NaN where missing.
    steady : (n, 33, 2) px filled and filtered, whose hips give the way.
    time : (n,) s.
    confidence : (n, 33) of the landmarks.
    """
    measured = steady[:, HIPS, 0].mean(axis=1)
    known = np.isfinite(measured)
    hip = np.interp(np.arange(len(measured)), np.flatnonzero(known), measured[known])
    step = np.diff(hip) * (view.metre_per_px[1:] + view.metre_per_px[:-1]) / 2.0
    way = view.direction * np.concatenate([[0.0], np.cumsum(step)])
    position = np.empty((len(pixels), len(MARKERS), 3))
    for column, (name, landmark) in enumerate(MARKERS.items()):
        point = pixels[:, landmark]
        position[:, column, 0] = way + view.direction * (point[:, 0] - hip) * view.metre_per_px
        position[:, column, 1] = (np.polyval(view.floor, point[:, 0]) - point[:, 1]) * view.metre_per_px
        position[:, column, 2] = np.where(np.isfinite(point[:, 0]), depth(name) * stature, np.nan)
    trust = None if confidence is None else confidence[:, list(MARKERS.values())]
    return Markers(time, tuple(MARKERS), position, trust)


def depth(marker: str) -> float:
    """Assumed depth of a marker as a share of stature; right is positive."""
    if marker in DEPTH_SHARE:
        return DEPTH_SHARE[marker]
    return DEPTH_SHARE[marker[1:]] * (1.0 if marker[0] == "R" else -1.0)


def _robust_curve(x: NDArray[np.float64], y: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Coefficients (highest first) of a polynomial fitted by reweighted least squares (Cauchy weights)."""
    size = float(np.median(np.abs(y)))
    weight = np.ones_like(x)
    coefficients = np.zeros(order + 1)
    for _ in range(ROBUST_ROUNDS):
        coefficients = np.polyfit(x, y, order, w=np.sqrt(weight))
        weight = 1.0 / (1.0 + ((y - np.polyval(coefficients, x)) / (ROBUST_TUNING * size)) ** 2)
    return coefficients


def _reference(pixels: NDArray[np.float64]) -> tuple[int, int]:
    """The pair of landmarks whose standing height gives the scale: the eyes, or else the shoulders."""
    return next((pair for pair in HEIGHT_SHARES if np.isfinite(pixels[:, pair]).any()), SHOULDERS)
