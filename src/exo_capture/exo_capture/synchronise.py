"""Clocks of cameras that were started by hand: found from the wearer's own motion.

The rays of two calibrated cameras to the same keypoint meet only if both pictures
were taken at the same time; how far they miss each other is searched over the offset.
Where the miss is about equal at several offsets, as one stride apart on a treadmill, the
correlation of the keypoints' vertical speeds decides. (It is no more than a vote: seen
from above, a foot that swings towards one camera sinks in its picture, and rises in
that of the camera behind.) Then all cameras are refined together to a fraction of a frame.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.adjustment import adjustment_step, turned
from exo_capture.association import body_size
from exo_capture.cameras import Camera
from exo_capture.filtering import fill_gaps, smooth
from exo_capture.landmarks import BODY
from exo_capture.triangulation import Views, ray_miss, triangulate, views
from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

GRID_HZ = 100.0  # of the search; a parabola finds the rest
SEARCH_HZ = 30.0  # pictures looked at in the search
MAX_OFFSET_S = 2.0
# Searched beyond that, 1.5 slow strides: else an offset out of reach would be taken for one a stride nearer.
BEYOND_S = 2.0
MIN_OVERLAP_S = 0.7  # below it anything fits anything
SPEED_CLIP = 2.0  # body sizes/s; a swinging foot rises with 1
CORRELATION_VOTE = 0.3  # a perfect correlation makes up for rays that miss by so much more
RIVAL_S = 0.15  # offsets nearer than this are the same
MISS_CAP = 0.1  # body sizes; a wild keypoint counts no more
MAX_MISS = 0.03  # body sizes; synchronised cameras reach 0.005-0.015
MIN_CONFIDENCE = 0.1
MAX_STEP_S = 0.05
JOINT_ROUNDS = 4
SPEED_STEP_S = 0.01
EXACT = 1e-6  # share of a frame


@dataclasses.dataclass(frozen=True)
class Series:
    """One person in one camera: `time` (n,) s on the camera's clock, `landmarks` (n, 33, 3), NaN where unseen."""

    time: FloatArray
    landmarks: FloatArray

    @property
    def rate_hz(self) -> float:
        """Typical frame rate."""
        return float(1.0 / np.median(np.diff(self.time)))


@dataclasses.dataclass(frozen=True)
class Synchronisation:
    """What must be added to each camera's clock to have the first camera's, and how sure that is.

    Attributes
    ----------
    offsets_s : (c,) s; the first is 0.
    confidence : (c,) 0..1: how much better the rays meet than at the next best offset; 1 would be perfect.
    miss : (c,) body sizes, how far the rays miss those of the camera it was compared with.
    person : (c,) which candidate of each camera was compared.
    """

    offsets_s: FloatArray
    confidence: FloatArray
    miss: FloatArray
    person: NDArray[np.int64]


def find_offsets(
    candidates: Sequence[Sequence[Series]], cameras: Sequence[Camera], max_offset_s: float = MAX_OFFSET_S
) -> Synchronisation:
    """Offsets of the cameras' clocks.

    Parameters
    ----------
    candidates : for each camera, the people it sees; which of them is the same person is found on the way.

    Raises
    ------
    ExoError : if a camera's motion resembles no other camera's, or only at an offset beyond `max_offset_s`.
    """
    motions = [[_Motion(person) for person in people] for people in candidates]
    chains = [_chain(motions, first, cameras, max_offset_s) for first in range(len(motions[0]))]
    chain = min(chains, key=lambda chain: float(chain.miss.max()))
    for c, camera in enumerate(cameras):
        if chain.miss[c] > MAX_MISS or chain.confidence[c] < MIN_CONFIDENCE:
            raise ExoError(
                f"{camera.name} cannot be synchronised: at no offset within {max_offset_s:g} s does it clearly agree "
                f"with the other cameras (confidence {max(0.0, chain.confidence[c]):.2f}); start the cameras closer "
                "together, film the same walk with all of them, and check the calibration file"
            )
        offset = chain.offsets_s[c]
        if abs(offset) > max_offset_s + RIVAL_S:
            raise ExoError(
                f"{camera.name} cannot be synchronised: it seems to have been started {abs(offset):.1f} s "
                f"{'after' if offset > 0.0 else 'before'} {cameras[0].name}; start all cameras within "
                f"{max_offset_s:g} s, or cut the videos so that they begin together"
            )
    chosen = [people[i] for people, i in zip(motions, chain.person, strict=True)]
    offsets = _refine_jointly(chosen, cameras, chain.offsets_s)
    return dataclasses.replace(chain, offsets_s=offsets - offsets[0])


def resample(series: Series, time: FloatArray) -> FloatArray:
    """The person's landmarks (m, 33, 3) at other times of the same clock, NaN where there was no picture near.

    Each value is one picture's own observation, carried to the wanted time along the
    smoothed motion: an error of one frame stays in one frame.
    """
    return _Motion(series).at(time)


class _Motion:
    """A series and its smooth version, which says where each keypoint moves between pictures."""

    def __init__(self, series: Series) -> None:
        self.series = series

    @functools.cached_property
    def smooth(self) -> FloatArray:
        """(n, 33, 2) px, without jitter, single wild frames and short gaps."""
        landmarks, rate = self.series.landmarks, self.series.rate_hz
        filled, _ = fill_gaps(_running_median(landmarks[:, :, :2].reshape(len(landmarks), -1)), rate)
        return smooth(filled, rate).reshape(*landmarks.shape[:2], 2)

    @functools.cached_property
    def size(self) -> float:
        """Typical size of the body in the picture, px."""
        sizes = body_size(self.smooth)
        return float(np.median(sizes[sizes > 0.0])) if (sizes > 0.0).any() else 1.0

    def vertical_speed(self, time: FloatArray) -> FloatArray:
        """(m, k) body sizes/s upward of the body's keypoints relative to the body as a whole; NaN outside and in gaps.

        The whole rises in the picture when the person comes nearer, which no other camera sees.
        """
        speed = -np.gradient(self.smooth[:, BODY, 1], self.series.time, axis=0) / self.size
        some = np.isfinite(speed).any(axis=1)
        speed[some] -= np.nanmedian(speed[some], axis=1, keepdims=True)
        return _interpolate(self.series.time, np.clip(speed, -SPEED_CLIP, SPEED_CLIP), time)

    def normalised(self, camera: Camera) -> FloatArray:
        """(n, k, 2) undistorted normalised image coordinates of the body's keypoints."""
        return camera.normalised(self.smooth[:, BODY])

    def at(self, time: FloatArray) -> FloatArray:
        """See `resample`."""
        own = self.series.time
        right = np.clip(np.searchsorted(own, time), 1, len(own) - 1)
        nearest = right - (time - own[right - 1] < own[right] - time)
        result = self.series.landmarks[nearest].copy()
        between = np.abs(time - own[nearest]) > EXACT / self.series.rate_hz
        if between.any():
            path = self.smooth.reshape(len(own), -1)
            moved = _interpolate(own, path, time[between]) - path[nearest[between]]
            result[between, :, :2] += moved.reshape(-1, *self.smooth.shape[1:])
        result[np.abs(time - own[nearest]) > 0.75 / self.series.rate_hz] = np.nan
        result[~np.isfinite(result[:, :, 0])] = np.nan
        return result


def _chain(
    motions: Sequence[Sequence[_Motion]], first: int, cameras: Sequence[Camera], max_offset_s: float
) -> Synchronisation:
    """Offsets of all cameras if candidate `first` of the first camera is the person to follow."""
    count = len(motions)
    offsets, confidence = np.zeros(count), np.ones(count)
    miss, person = np.zeros(count), np.zeros(count, dtype=np.int64)
    person[0] = first
    settled: list[int] = [0]
    links: dict[tuple[int, int, int], tuple[float, float, float]] = {}
    while len(settled) < count:
        # The next camera is the one that agrees most clearly with any that is settled.
        for c in set(range(count)) - set(settled):
            for s in settled:
                for p, other in enumerate(motions[c]):
                    if (c, p, s) not in links:
                        links[c, p, s] = _link(motions[s][person[s]], other, (cameras[s], cameras[c]), max_offset_s)
        open_links = [(link, key) for key, link in links.items() if key[0] not in settled]
        (sure, shift, missed), (c, p, s) = max(open_links, key=lambda item: item[0][0])
        offsets[c], confidence[c], miss[c], person[c] = offsets[s] + shift, sure, missed, p
        settled.append(c)
    return Synchronisation(offsets, confidence, miss, person)


def _link(a: _Motion, b: _Motion, cameras: tuple[Camera, Camera], max_offset_s: float) -> tuple[float, float, float]:
    """Confidence 0..1, offset to add to b's clock to have a's, and the rays' miss there in body sizes.

    The offset may be up to `BEYOND_S` beyond `max_offset_s`; offsets beyond both it and `max_offset_s` are no rivals.
    """
    reach_s = max_offset_s + BEYOND_S
    lags = np.arange(-round(reach_s * GRID_HZ), round(reach_s * GRID_HZ) + 1) / GRID_HZ
    miss = _misses(a, b, cameras, lags)
    cost = miss * (1.0 - CORRELATION_VOTE * np.maximum(_correlation(a, b, lags), 0.0))
    best = int(np.argmin(cost))
    if not np.isfinite(cost[best]):
        return 0.0, 0.0, np.inf
    likely = np.abs(lags) <= max(max_offset_s, abs(lags[best]))
    rivals = cost[likely & (np.abs(lags - lags[best]) > RIVAL_S) & np.isfinite(cost)]
    confidence = 1.0 - float(cost[best] / rivals.min()) if len(rivals) else 0.0
    return confidence, _parabola(lags, -cost, best), float(miss[best])


def _misses(a: _Motion, b: _Motion, cameras: tuple[Camera, Camera], lags: FloatArray) -> FloatArray:
    """How far the rays miss each other typically, in body sizes, if each lag is added to b's clock; inf if unknown."""
    first, second = (motion.normalised(camera) for motion, camera in zip((a, b), cameras, strict=True))
    focal = np.mean([np.mean(camera.matrix[(0, 1), (0, 1)]) for camera in cameras])
    size = (a.size + b.size) / 2.0
    turn = cameras[1].rotation @ cameras[0].rotation.T
    shift = cameras[1].translation - turn @ cameras[0].translation
    step = max(1, round(a.series.rate_hz / SEARCH_HZ))
    time, first = a.series.time[::step], first[::step]
    result = np.full(len(lags), np.inf)
    for i, lag in enumerate(lags):
        other = _interpolate(b.series.time, second.reshape(len(second), -1), time - lag).reshape(first.shape)
        error = ray_miss(first, other, turn, shift)
        error = error[np.isfinite(error)] * focal / size
        if len(error) > MIN_OVERLAP_S * SEARCH_HZ * len(BODY) / 2.0:
            result[i] = np.minimum(error, MISS_CAP).mean()
    return result


def _correlation(a: _Motion, b: _Motion, lags: FloatArray) -> FloatArray:
    """Normalised correlation of the vertical speeds, if each lag is added to b's clock."""
    step = 1.0 / GRID_HZ
    start = min(a.series.time[0], b.series.time[0])
    grid = np.arange(start, max(a.series.time[-1], b.series.time[-1]) + step, step)
    speed_a, speed_b = a.vertical_speed(grid), b.vertical_speed(grid)
    known_a, known_b = np.isfinite(speed_a), np.isfinite(speed_b)
    speed_a, speed_b = np.where(known_a, speed_a, 0.0), np.where(known_b, speed_b, 0.0)
    length = len(grid) + len(lags)
    index = np.round(lags * GRID_HZ).astype(int)

    def cross(x: FloatArray, y: FloatArray) -> FloatArray:
        spectrum = np.fft.rfft(x, length, axis=0) * np.conj(np.fft.rfft(y, length, axis=0))
        return np.asarray(np.fft.irfft(spectrum.sum(axis=1), length)[index])

    product = cross(speed_a, speed_b)
    power = cross(speed_a**2, known_b.astype(float)) * cross(known_a.astype(float), speed_b**2)
    overlap = np.maximum(cross(known_a.astype(float), known_b.astype(float)), 0.0)
    # A short overlap correlates by chance; the root of its share takes that back.
    return np.asarray(product / np.sqrt(np.maximum(power, 1e-12)) * np.sqrt(overlap / max(overlap.max(), 1.0)))


def _refine_jointly(motions: Sequence[_Motion], cameras: Sequence[Camera], offsets: FloatArray) -> FloatArray:
    """All offsets together, with small turns of the cameras, so that these do not pass for delays."""
    offsets, cameras = offsets.copy(), list(cameras)
    rate = min(motions[0].series.rate_hz, SEARCH_HZ)
    time = np.arange(motions[0].series.time[0], motions[0].series.time[-1], 1.0 / rate)
    size = float(np.median([motion.size for motion in motions]))
    for _ in range(JOINT_ROUNDS):
        seen = _smooth_views(motions, cameras, offsets, time)
        before, after = (
            _smooth_views(motions, cameras, offsets + d, time).image for d in (SPEED_STEP_S, -SPEED_STEP_S)
        )
        speed = (after - before) / (2.0 * SPEED_STEP_S) * seen.focal[:, None, None, None]
        step = adjustment_step(seen, triangulate(seen, MISS_CAP * size), rate, speed, turns=len(cameras) > 2)
        offsets += np.clip(step.delay_s, -MAX_STEP_S, MAX_STEP_S)
        cameras = [turned(camera, turn) for camera, turn in zip(cameras, step.turn, strict=True)]
    return offsets


def _smooth_views(
    motions: Sequence[_Motion], cameras: Sequence[Camera], offsets: FloatArray, time: FloatArray
) -> Views:
    observations = np.full((len(cameras), len(time), len(BODY), 3), np.nan)
    for c, motion in enumerate(motions):
        flat = motion.smooth[:, BODY].reshape(len(motion.series.time), -1)
        pixels = _interpolate(motion.series.time, flat, time - offsets[c]).reshape(len(time), -1, 2)
        observations[c, ..., :2] = pixels
        observations[c, ..., 2] = 1.0
    return views(observations, cameras)


def _interpolate(time: FloatArray, values: FloatArray, wanted: FloatArray) -> FloatArray:
    """Linear interpolation of every column; NaN outside and wherever a neighbour is NaN."""
    right = np.clip(np.searchsorted(time, wanted), 1, len(time) - 1)
    share = ((wanted - time[right - 1]) / (time[right] - time[right - 1]))[:, None]
    before, after = values[right - 1], values[right]
    # At a sample itself a missing neighbour does not matter.
    result = np.where(
        share < EXACT, before, np.where(share > 1.0 - EXACT, after, before * (1.0 - share) + after * share)
    )
    result[(wanted < time[0] - 1e-9) | (wanted > time[-1] + 1e-9)] = np.nan
    return np.asarray(result)


def _running_median(values: FloatArray) -> FloatArray:
    """Median of three frames in each column: a single wild frame leaves no trace. NaN stays NaN."""
    padded = np.concatenate([values[:1], values, values[-1:]])
    stack = np.stack([padded[:-2], values, padded[2:]])
    stack = np.where(np.isfinite(stack), stack, values)
    return np.asarray(np.median(stack, axis=0))


def _parabola(x: FloatArray, y: FloatArray, i: int) -> float:
    """Place of the maximum near sample i, to a fraction of a sample; that of the sample if a neighbour is unknown."""
    if not 0 < i < len(x) - 1 or not np.isfinite(y[i - 1 : i + 2]).all():
        return float(x[i])
    bend = y[i - 1] - 2.0 * y[i] + y[i + 1]
    return float(x[i] + (0.5 * (y[i - 1] - y[i + 1]) / bend if bend else 0.0) * (x[1] - x[0]))
