"""Keypoints seen by several calibrated cameras become points in the room, whatever single cameras get wrong.

For every keypoint and frame all subsets of cameras propose a point; the proposal on
which the cameras agree best wins, cameras far from it are left out, and the point is
refined on the pixels of the rest. Errors are pixels of undistorted images.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.cameras import Camera

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MAX_EXHAUSTIVE = 5  # cameras; up to here all subsets are tried, above it all pairs and the whole
HUBER_SIGMAS = 1.5  # beyond this many standard deviations an error counts linearly
GATE_SIGMAS = 4.0  # beyond this many a camera is left out; a pixel error has two axes
REFINEMENTS = 4
RIDGE = 1e-9  # keeps parallel rays solvable; they are left out by their covariance afterwards
MAX_DEVIATION_M = 0.15  # a point less certain than this in its worst direction is no measurement
TRUSTED_DEVIATION_M = 0.05  # a point this uncertain deserves half the confidence
MIN_DEPTH_M = 0.1
MIN_SIGMA_PX = 1.0  # pixels are discrete, lens models are not perfect
# The median length of a 2-D error with standard deviation 1 on each axis (Rayleigh).
RAYLEIGH_MEDIAN = float(np.sqrt(2.0 * np.log(2.0)))


@dataclasses.dataclass(frozen=True)
class Views:
    """Observations of c cameras, ready for geometry.

    Attributes
    ----------
    image : (c, n, k, 2) undistorted normalised image coordinates, NaN where not seen.
    weight : (c, n, k) confidence 0..1; 0 where not seen.
    focal : (c,) px per unit of `image`.
    rotation, translation : (c, 3, 3), (c, 3) m, room to camera.
    """

    image: FloatArray
    weight: FloatArray
    focal: FloatArray
    rotation: FloatArray
    translation: FloatArray

    @property
    def seen(self) -> BoolArray:
        """(c, n, k) which observations are there."""
        return self.weight > 0.0

    def of(self, cameras: Sequence[int]) -> Views:
        """The same for some of the cameras."""
        chosen = list(cameras)
        return Views(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Triangulated:
    """Points in the room.

    Attributes
    ----------
    position : (n, k, 3) m, NaN where fewer than two cameras agree.
    inliers : (c, n, k) which observations the points stand on.
    error : (c, n, k) px between every observation and its point's image, of outliers too; NaN where not seen.
    covariance : (n, k, 3, 3) m².
    confidence : (n, k) 0..1; 0 where there is no point.
    sigma : (c,) px, standard deviation of the cameras' inliers on each pixel axis.
    """

    position: FloatArray
    inliers: BoolArray
    error: FloatArray
    covariance: FloatArray
    confidence: FloatArray
    sigma: FloatArray


def views(observations: FloatArray, cameras: Sequence[Camera]) -> Views:
    """Prepare observations (c, n, k, 3) px, px, weight; NaN or weight 0 where not seen."""
    seen = np.isfinite(observations).all(axis=3) & (observations[..., 2] > 0.0)
    image = np.stack([camera.normalised(o[..., :2]) for camera, o in zip(cameras, observations, strict=True)])
    return Views(
        np.where(seen[..., None], image, np.nan),
        np.where(seen, observations[..., 2], 0.0),
        np.array([(camera.matrix[0, 0] + camera.matrix[1, 1]) / 2.0 for camera in cameras]),
        np.stack([camera.rotation for camera in cameras]),
        np.stack([camera.translation for camera in cameras]),
    )


def residuals(seen: Views, position: FloatArray) -> FloatArray:
    """(c, ..., 2) px of the observations less the images of points (..., 3); NaN where one is missing or behind."""
    camera = in_cameras(seen, position)
    with np.errstate(invalid="ignore", divide="ignore"):
        image = np.where(camera[..., 2:] > MIN_DEPTH_M, camera[..., :2] / camera[..., 2:], np.nan)
    focal = seen.focal.reshape(-1, *([1] * (image.ndim - 1)))
    return np.asarray((seen.image - image) * focal)


def weighted_dlt(seen: Views) -> FloatArray:
    """Plain confidence-weighted linear triangulation of all cameras together: (n, k, 3) m.

    The usual method of the field, here as the one to compare with.
    """
    normal, right = _linear_parts(seen)
    weight = np.where(seen.seen, seen.weight, 0.0) ** 2
    position = _solve(np.einsum("cnk,cnkij->nkij", weight, normal), np.einsum("cnk,cnki->nki", weight, right))
    position[seen.seen.sum(axis=0) < 2] = np.nan
    return position


def triangulate(seen: Views, gate_px: float) -> Triangulated:
    """Robust triangulation of every keypoint in every frame.

    Parameters
    ----------
    gate_px : an observation this far off is surely wrong; the gate is narrowed to the errors found.
    """
    position = best_hypothesis(seen, np.full(len(seen.focal), gate_px))
    sigma = _spread(seen, position, gate_px)
    gate = np.minimum(GATE_SIGMAS * sigma, gate_px)
    position = best_hypothesis(seen, gate)
    for _ in range(2):
        inliers = _within(seen, position, gate)
        position = _refine(seen, position, inliers, sigma)
    inliers = _within(seen, position, gate)
    enough = inliers.sum(axis=0) >= 2
    covariance = _covariance(seen, position, inliers, sigma)
    worst = np.sqrt(np.linalg.eigvalsh(np.where(np.isfinite(covariance), covariance, np.eye(3)))[..., -1])
    good = enough & (worst < MAX_DEVIATION_M) & np.isfinite(position).all(axis=2)
    error = np.linalg.norm(residuals(seen, position), axis=3)
    position, covariance = (
        np.where(good[..., None], position, np.nan),
        np.where(good[..., None, None], covariance, np.nan),
    )
    inliers &= good
    return Triangulated(position, inliers, error, covariance, _confidence(seen, inliers, worst, good), sigma)


def least_squares(seen: Views, sigma_px: float) -> FloatArray:
    """(n, k, 3) m: all that is seen together, errors beyond `sigma_px` counting less; no camera is left out."""
    return _refine(seen, weighted_dlt(seen), seen.seen, np.full(len(seen.focal), sigma_px))


def pair_errors(seen: Views) -> FloatArray:
    """How far the rays of each pair of cameras miss each other: (c, c, n, k) px.

    Only one direction of an error can show: along the epipolar line the pair is blind.
    """
    count = len(seen.focal)
    errors = np.full((count, count, *seen.weight.shape[1:]), np.nan)
    for a, b in itertools.combinations(range(count), 2):
        turn = seen.rotation[b] @ seen.rotation[a].T
        shift = seen.translation[b] - turn @ seen.translation[a]
        miss = ray_miss(seen.image[a], seen.image[b], turn, shift) * (seen.focal[a] + seen.focal[b]) / 2.0
        errors[a, b] = errors[b, a] = miss
    return errors


def ray_miss(first: FloatArray, second: FloatArray, turn: FloatArray, shift: FloatArray) -> FloatArray:
    """Sampson's distance (...,) of normalised image points (..., 2) of two cameras.

    To first order, how far both points together must move for their rays to meet.

    Parameters
    ----------
    turn, shift : (3, 3), (3,) m; X_second = turn @ X_first + shift.
    """
    cross = np.array([[0.0, -shift[2], shift[1]], [shift[2], 0.0, -shift[0]], [-shift[1], shift[0], 0.0]])
    essential = cross @ turn
    line_second = first @ essential[:, :2].T + essential[:, 2]
    line_first = second @ essential[:2] + essential[2]
    product = (second * line_second[..., :2]).sum(axis=-1) + line_second[..., 2]
    length = (line_first[..., :2] ** 2).sum(axis=-1) + (line_second[..., :2] ** 2).sum(axis=-1)
    return np.asarray(np.abs(product) / np.sqrt(length))


def in_cameras(seen: Views, position: FloatArray) -> FloatArray:
    """(c, ..., 3) camera coordinates of points (..., 3) m."""
    shape = (-1, *([1] * (position.ndim - 1)), 3)
    turned = np.einsum("cij,...j->c...i", seen.rotation, position)
    return np.asarray(turned + seen.translation.reshape(shape))


def _linear_parts(seen: Views) -> tuple[FloatArray, FloatArray]:
    """Each observation's share (c, n, k, 3, 3), (c, n, k, 3) of the normal equations of linear triangulation."""
    image = np.where(seen.seen[..., None], seen.image, 0.0)
    rows = seen.rotation[:, None, None, :2] - image[..., None] * seen.rotation[:, None, None, 2:]
    right = image * seen.translation[:, None, None, 2:] - seen.translation[:, None, None, :2]
    scale = np.where(seen.seen, seen.focal[:, None, None], 0.0) ** 2
    return (
        np.einsum("cnk,cnkri,cnkrj->cnkij", scale, rows, rows, optimize=True),
        np.einsum("cnk,cnkri,cnkr->cnki", scale, rows, right, optimize=True),
    )


def _solve(normal: FloatArray, right: FloatArray) -> FloatArray:
    ridge = RIDGE * (np.trace(normal, axis1=-2, axis2=-1)[..., None, None] + 1.0) * np.eye(3)
    return np.asarray(np.linalg.solve(normal + ridge, right[..., None])[..., 0])


def _subsets(count: int) -> list[tuple[int, ...]]:
    sizes = range(2, count + 1) if count <= MAX_EXHAUSTIVE else (2, count)
    return [subset for size in sizes for subset in itertools.combinations(range(count), size)]


def best_hypothesis(seen: Views, gate: FloatArray) -> FloatArray:
    """Of the points that all subsets of cameras propose, those with the least error, capped at each camera's gate."""
    normal, right = _linear_parts(seen)
    best = np.full((*seen.weight.shape[1:], 3), np.nan)
    least = np.full(seen.weight.shape[1:], np.inf)
    for subset in _subsets(len(seen.focal)):
        members = list(subset)
        usable = seen.seen[members].sum(axis=0) == len(members)
        if not usable.any():
            continue
        at = np.nonzero(usable)
        proposal = _solve(normal[members][:, usable].sum(axis=0), right[members][:, usable].sum(axis=0))
        part = dataclasses.replace(seen, image=seen.image[:, usable], weight=seen.weight[:, usable])
        error = np.linalg.norm(residuals(part, proposal), axis=-1)
        # A point behind a camera that sees it has no image there: the full penalty.
        capped = np.where(np.isfinite(error), np.minimum(error, gate[:, None]), gate[:, None]) ** 2
        cost = (part.weight * capped / gate[:, None] ** 2).sum(axis=0)
        better = cost < least[at]
        chosen = tuple(index[better] for index in at)
        best[chosen], least[chosen] = proposal[better], cost[better]
    return best


def _spread(seen: Views, position: FloatArray, gate_px: float) -> FloatArray:
    """(c,) px standard deviation of each camera's errors on one axis, from the median of those within the gate."""
    error = np.linalg.norm(residuals(seen, position), axis=3)
    error = np.where(error < gate_px, error, np.nan)
    # Points are fitted to the same errors: each takes three of the two-per-camera degrees of freedom.
    per_point = np.isfinite(error).sum(axis=0)
    mean = per_point[per_point >= 2].mean() if (per_point >= 2).any() else 2.0
    shrink = np.sqrt((2.0 * mean - 3.0) / (2.0 * mean))
    flat = error.reshape(len(error), -1)
    known = np.isfinite(flat).any(axis=1)
    sigma = np.full(len(error), gate_px / GATE_SIGMAS)
    sigma[known] = np.nanmedian(flat[known], axis=1) / RAYLEIGH_MEDIAN / shrink
    return np.asarray(np.maximum(sigma, MIN_SIGMA_PX))


def _within(seen: Views, position: FloatArray, gate: FloatArray) -> BoolArray:
    error = np.linalg.norm(residuals(seen, position), axis=3)
    return np.asarray(error < gate[:, None, None])


def jacobian(seen: Views, position: FloatArray) -> FloatArray:
    """(c, n, k, 2, 3) px/m, of the points' images."""
    camera = in_cameras(seen, position)
    depth = np.where(camera[..., 2] > MIN_DEPTH_M, camera[..., 2], np.nan)
    image = camera[..., :2] / depth[..., None]
    slope = seen.rotation[:, None, None, :2] - image[..., None] * seen.rotation[:, None, None, 2:]
    return np.asarray(slope * (seen.focal[:, None, None] / depth)[..., None, None])


def _refine(seen: Views, position: FloatArray, inliers: BoolArray, sigma: FloatArray) -> FloatArray:
    """Gauss-Newton on the pixels of the inliers, Huber's loss, weighted by confidence."""
    position = position.copy()
    some = inliers.sum(axis=0) >= 2
    for _ in range(REFINEMENTS):
        difference = residuals(seen, position) / sigma[:, None, None, None]
        slope = jacobian(seen, position) / sigma[:, None, None, None, None]
        length = np.linalg.norm(difference, axis=3)
        weight = np.where(inliers, seen.weight * np.minimum(1.0, HUBER_SIGMAS / np.maximum(length, 1e-9)), 0.0)
        difference, slope = np.nan_to_num(difference), np.nan_to_num(slope)
        normal = np.einsum("cnk,cnkri,cnkrj->nkij", weight, slope, slope, optimize=True)
        right = np.einsum("cnk,cnkri,cnkr->nki", weight, slope, difference, optimize=True)
        position[some] += _solve(normal[some], right[some])
    return position


def _covariance(seen: Views, position: FloatArray, inliers: BoolArray, sigma: FloatArray) -> FloatArray:
    """(n, k, 3, 3) m²; NaN where fewer than two cameras agree."""
    slope = np.nan_to_num(jacobian(seen, position)) / sigma[:, None, None, None, None]
    information = np.einsum("cnk,cnkri,cnkrj->nkij", inliers.astype(float), slope, slope, optimize=True)
    result = np.full(information.shape, np.nan)
    some = inliers.sum(axis=0) >= 2
    ridge = RIDGE * np.trace(information[some], axis1=-2, axis2=-1)[..., None, None] * np.eye(3)
    result[some] = np.linalg.inv(information[some] + ridge)
    return result


def _confidence(seen: Views, inliers: BoolArray, worst: FloatArray, good: BoolArray) -> FloatArray:
    """What the estimator said, times the share of cameras that agree, times how sharply they locate the point."""
    agreeing = np.maximum(inliers.sum(axis=0), 1)
    said = (seen.weight * inliers).sum(axis=0) / agreeing
    share = agreeing / np.maximum(seen.seen.sum(axis=0), 1)
    sharp = 1.0 / (1.0 + (worst / TRUSTED_DEVIATION_M) ** 2)
    return np.asarray(np.where(good, np.clip(said * share * sharp, 0.0, 1.0), 0.0))
