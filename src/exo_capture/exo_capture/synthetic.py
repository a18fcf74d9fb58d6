"""Virtual cameras that film a known motion: what a planned camera layout would measure, before anything is bought.

The room is OpenSim's: y up, x forward, z to the walker's right. The faults are those
of a real pose estimator: errors that drift for half a second and look like motion,
jitter, keypoints lost for some frames, wild keypoints, left and right leg exchanged.
Every fault has random numbers of its own, so that switching one on leaves the others as they were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import lfilter

from exo_capture.cameras import Camera
from exo_capture.landmarks import LEG_L, LEG_R, MARKERS, Detections
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FIRST_AZIMUTH_DEG = 45.0  # of an even ring: no camera looks straight along the walk
CONFIDENCE = (0.85, 0.99)  # what a real estimator says of right and wrong keypoints alike
MIN_KEYPOINTS = 8  # a person with fewer keypoints in the picture is not found


@dataclasses.dataclass(frozen=True)
class Noise:
    """Faults of a pose estimator; the defaults are those that the benchmarks state.

    Attributes
    ----------
    drift_px, drift_s : Gauss-Markov error of each keypoint, camera and pixel axis: standard deviation, memory.
    white_px : independent error of each frame and pixel axis.
    dropout_share : of the frames in which a keypoint is missing, in bursts of `burst_frames` (least, most).
    outlier_share : of the observations that are grossly wrong.
    swapped_part : of the legs' gross errors that are exchanged legs, for `swap_frames` (least, most) at a time.
    outlier_px : how far a gross error that is no exchange lies off (least, most).
    """

    drift_px: float = 8.0
    drift_s: float = 0.5
    white_px: float = 5.0
    dropout_share: float = 0.05
    burst_frames: tuple[int, int] = (1, 15)
    outlier_share: float = 0.0
    swapped_part: float = 0.5
    swap_frames: tuple[int, int] = (1, 10)
    outlier_px: tuple[float, float] = (50.0, 200.0)


NO_NOISE = Noise(drift_px=0.0, white_px=0.0, dropout_share=0.0)


def ring(
    azimuths_deg: int | Sequence[float],
    distance: float = 4.0,
    height: float = 1.2,
    focal_px: float = 1500.0,
    size: tuple[int, int] = (1920, 1080),
    target: Sequence[float] = (0.0, 0.9, 0.0),
) -> list[Camera]:
    """Cameras without distortion around a place, all looking at it.

    Parameters
    ----------
    azimuths_deg : seen from above; 0 is in front of the walker (+x), 90 on the right (+z). A number of cameras
        stands for that many, evenly around, the first at 45 degrees.
    distance : horizontal, from camera to target, m.
    height : of the cameras above the floor, m.
    size : (width, height) of the pictures, px.
    target : the place looked at, m.
    """
    if isinstance(azimuths_deg, int):
        azimuths_deg = [FIRST_AZIMUTH_DEG + 360.0 * i / azimuths_deg for i in range(azimuths_deg)]
    matrix = np.array([[focal_px, 0.0, size[0] / 2.0], [0.0, focal_px, size[1] / 2.0], [0.0, 0.0, 1.0]])
    up = np.array([0.0, 1.0, 0.0])
    cameras = []
    for i, azimuth in enumerate(np.radians(azimuths_deg)):
        at = np.asarray(target, dtype=float)
        centre = np.array([at[0] + distance * np.cos(azimuth), height, at[2] + distance * np.sin(azimuth)])
        forward = (at - centre) / np.linalg.norm(at - centre)
        right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
        rotation = np.array([right, np.cross(forward, right), forward])
        cameras.append(Camera(f"cam{i + 1:02d}", size, matrix, np.zeros(5), rotation, -rotation @ centre))
    return cameras


def slots(markers: Markers) -> FloatArray:
    """Markers with the names of landmarks.MARKERS in their BlazePose places: (n, 33, 3) m, NaN elsewhere."""
    points = np.full((len(markers.time), 33, 3), np.nan)
    for name, slot in MARKERS.items():
        if name in markers.names:
            points[:, slot] = markers.position[:, markers.names.index(name)]
    return points


def offset_keypoints(
    points: FloatArray, rotations: FloatArray, seed: int, magnitude_m: tuple[float, float] = (0.01, 0.02)
) -> FloatArray:
    """Keypoints where an estimator puts them: each shifted by a constant vector in its own body segment.

    Parameters
    ----------
    points : (n, 33, 3) m.
    rotations : (n, 33, 3, 3) from the frame of each keypoint's segment to the room.
    seed : of the wearer; the same seed gives the same shifts.
    magnitude_m : (least, most) length of a shift; its direction is any.
    """
    random = np.random.default_rng(seed)
    direction = random.standard_normal((points.shape[1], 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    shift = direction * random.uniform(*magnitude_m, size=(points.shape[1], 1))
    return np.asarray(points + np.einsum("nkij,kj->nki", rotations, shift))


def film(
    points: FloatArray,
    time: FloatArray,
    cameras: Sequence[Camera],
    noise: Noise,
    seed: int,
    starts_s: Sequence[float] | None = None,
    rates_hz: Sequence[float] | None = None,
) -> list[Detections]:
    """What a pose estimator would report of people filmed by each camera.

    Parameters
    ----------
    points : (n, 33, 3) m, or (people, n, 33, 3); NaN for keypoints that are never reported.
    time : (n,) s, uniform.
    starts_s : when each camera starts, s of `time`; its own clock is 0 at the zero of `time` less this,
        so `starts_s` is what must be added to its times to have them on the common clock. Default 0.
    rates_hz : frame rate of each camera; default that of `time`.

    Returns
    -------
    One per camera. Landmarks are NaN where a keypoint is lost or outside the picture.
    """
    people = points[None] if points.ndim == 3 else points
    results = []
    for i, (camera, streams) in enumerate(zip(cameras, np.random.SeedSequence(seed).spawn(len(cameras)), strict=True)):
        start = 0.0 if starts_s is None else float(starts_s[i])
        rate = (len(time) - 1) / (time[-1] - time[0]) if rates_hz is None else float(rates_hz[i])
        if start == 0.0 and rates_hz is None:
            taken = time
        else:
            taken = np.arange(max(time[0], time[0] + start), time[-1] + min(0.0, start) + 1e-9, 1.0 / rate)
        frames, landmarks = [], []
        for person, stream in zip(people, streams.spawn(len(people)), strict=True):
            pixels = camera.project(_at(person, time, taken))
            seen = _report(pixels, camera.size, rate, noise, stream)
            found = np.isfinite(seen[:, :, 0]).sum(axis=1) >= MIN_KEYPOINTS
            frames.append(np.flatnonzero(found))
            landmarks.append(seen[found])
        frame = np.concatenate(frames)
        order = np.argsort(frame, kind="stable")
        results.append(
            Detections(camera.name, camera.size, taken - start, frame[order], np.concatenate(landmarks)[order])
        )
    return results


def _at(points: FloatArray, time: FloatArray, wanted: FloatArray) -> FloatArray:
    """Positions (n, 33, 3) at other times within `time`; a gap stays a gap."""
    if wanted is time:
        return points
    flat = points.reshape(len(points), -1)
    result = np.full((len(wanted), flat.shape[1]), np.nan)
    whole = np.isfinite(flat).all(axis=0)
    result[:, whole] = CubicSpline(time, flat[:, whole])(wanted)
    for column in np.flatnonzero(~whole & np.isfinite(flat).any(axis=0)):
        result[:, column] = np.interp(wanted, time, flat[:, column])
    return result.reshape(len(wanted), *points.shape[1:])


def _report(
    pixels: FloatArray, size: tuple[int, int], rate_hz: float, noise: Noise, stream: np.random.SeedSequence
) -> FloatArray:
    """Landmarks (n, 33, 3) that an estimator makes of true pixels (n, 33, 2)."""
    drift, white, dropout, outlier, swap, trust = (np.random.default_rng(s) for s in stream.spawn(6))
    n, k, _ = pixels.shape
    inside: BoolArray = np.all((pixels >= 0.0) & (pixels < size), axis=2)
    seen = pixels + noise.white_px * white.standard_normal(pixels.shape)
    # Exact discretisation of the Ornstein-Uhlenbeck process, started in its stationary state.
    memory = np.exp(-1.0 / (rate_hz * noise.drift_s))
    innovation = drift.standard_normal(pixels.shape) * noise.drift_px
    innovation[1:] *= np.sqrt(1.0 - memory**2)
    seen += lfilter([1.0], [1.0, -memory], innovation, axis=0)
    wild_share = np.full(k, noise.outlier_share)
    wild_share[[*LEG_L, *LEG_R]] *= 1.0 - noise.swapped_part
    wild = outlier.random((n, k)) < wild_share
    angle, length = outlier.uniform(0.0, 2.0 * np.pi, (n, k)), outlier.uniform(*noise.outlier_px, (n, k))
    seen[wild] += (length[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1))[wild]
    swapped = _bursts(n, 1, noise.outlier_share * noise.swapped_part, noise.swap_frames, swap)[:, 0]
    mirror = np.arange(k)
    mirror[[*LEG_L, *LEG_R]] = (*LEG_R, *LEG_L)
    seen[swapped] = seen[swapped][:, mirror]
    inside[swapped] = inside[swapped][:, mirror]
    lost = _bursts(n, k, noise.dropout_share, noise.burst_frames, dropout) | ~inside
    result = np.concatenate([seen, trust.uniform(*CONFIDENCE, (n, k, 1))], axis=2)
    result[lost | ~np.isfinite(pixels[:, :, 0])] = np.nan
    return result


def _bursts(n: int, k: int, share: float, frames: tuple[int, int], random: np.random.Generator) -> BoolArray:
    """(n, k) True in bursts of `frames` (least, most) that cover `share` of each column on average."""
    # Bursts start at random; the chance that none covers a frame is exp(-starts per frame * mean length).
    starts = -np.log1p(-share) / np.mean(frames)
    begin, length = random.random((n + frames[1], k)) < starts, random.integers(frames[0], frames[1] + 1, (n, k))
    covered = np.zeros((n, k), dtype=bool)
    length = np.concatenate([random.integers(frames[0], frames[1] + 1, (frames[1], k)), length])
    for row, column in zip(*np.nonzero(begin), strict=True):
        first = row - frames[1]
        covered[max(0, first) : max(0, first + length[row, column]), column] = True
    return covered
