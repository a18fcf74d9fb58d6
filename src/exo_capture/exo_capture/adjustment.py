"""Small errors of the set-up, found together from the person all cameras see: a camera turned a little, a clock off.

A tripod touched after the calibration turns its camera by a fraction of a degree, which
is ten pixels everywhere in the picture and looks like a bad pose estimator. Cameras,
clocks and points are solved at once (bundle adjustment, the points eliminated).
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_capture.cameras import Camera
from exo_capture.triangulation import Triangulated, Views, in_cameras, jacobian, residuals

FloatArray = NDArray[np.float64]

TURN_SIGMA_RAD = float(np.radians(0.5))  # how far a camera may well have turned since its calibration
DELAY_SIGMA_S = 0.02  # what a search over offsets may have left
HUBER_SIGMAS = 1.5
# Errors of one keypoint last about half a second, so neighbouring frames are not independent witnesses.
MEMORY_S = 0.5
MIN_DIRECTIONS, DIRECTION_ROUNDS = 20, 5


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of the adjustment: (c, 3) rad turn about the camera's own axes, and (c,) s to be added to its clock."""

    turn: FloatArray
    delay_s: FloatArray


def adjustment_step(
    seen: Views, points: Triangulated, rate_hz: float, speed: FloatArray | None = None, turns: bool = True
) -> Step:
    """Gauss-Newton step for all cameras' turns and delays together.

    Parameters
    ----------
    points : triangulated from `seen`.
    rate_hz : of the frames in `seen`.
    speed : (c, n, k, 2) px/s of the observations; None leaves the clocks alone. The first clock stays.
    turns : whether cameras may turn.
    """
    count = len(seen.focal)
    error, slope = residuals(seen, points.position), jacobian(seen, points.position)
    by_camera = _camera_slope(seen, points.position)
    known = points.inliers & np.isfinite(error).all(axis=3) & np.isfinite(slope).all(axis=(3, 4))
    if speed is not None:
        known &= np.isfinite(speed).all(axis=3)
        by_camera = np.concatenate([by_camera, np.where(np.isfinite(speed), speed, 0.0)[..., None]], axis=4)
    known &= known.sum(axis=0) >= 2
    sigma = points.sigma[:, None, None]
    length = np.linalg.norm(np.nan_to_num(error), axis=3) / sigma
    witness = 1.0 / max(1.0, MEMORY_S * rate_hz)
    weight = np.where(known, witness * np.minimum(1.0, HUBER_SIGMAS / np.maximum(length, 1e-9)) / sigma**2, 0.0)
    error, slope, by_camera = (np.where(np.isfinite(a), a, 0.0) for a in (error, slope, by_camera))
    size = by_camera.shape[4]
    own = np.einsum("cnk,cnkri,cnkrj->cij", weight, by_camera, by_camera, optimize=True)
    mixed = np.einsum("cnk,cnkri,cnkrj->cnkij", weight, by_camera, slope, optimize=True)
    point = np.einsum("cnk,cnkri,cnkrj->nkij", weight, slope, slope, optimize=True)
    right = np.einsum("cnk,cnkri,cnkr->ci", weight, by_camera, error, optimize=True)
    right_point = np.einsum("cnk,cnkri,cnkr->nki", weight, slope, error, optimize=True)
    used = known.any(axis=0)
    inverse = np.linalg.inv(point[used] + 1e-9 * np.eye(3))
    mixed = mixed[:, used]
    normal = -np.einsum("cpij,pjk,dplk->cidl", mixed, inverse, mixed, optimize=True)
    for c in range(count):
        normal[c, :, c] += own[c]
    right -= np.einsum("cpij,pjk,pk->ci", mixed, inverse, right_point[used], optimize=True)
    prior = np.full((count, size), 1.0 / TURN_SIGMA_RAD**2 if turns else np.inf)
    if speed is not None:
        prior[:, 3] = 1.0 / DELAY_SIGMA_S**2
        prior[0, 3] = np.inf
    free = np.isfinite(prior).ravel()
    matrix = normal.reshape(count * size, -1)[np.ix_(free, free)] + np.diag(prior.ravel()[free])
    solution = np.zeros(count * size)
    solution[free] = np.linalg.solve(matrix, right.ravel()[free])
    table = solution.reshape(count, size)
    return Step(table[:, :3], table[:, 3] if speed is not None else np.zeros(count))


def turn_towards(seen: Views, camera: int, position: FloatArray) -> FloatArray:
    """Rotation vector (3,) rad by which one camera must turn about its centre for points (n, k, 3) m to be where it
    sees them; half of the observations may be wrong."""
    wanted = np.concatenate([seen.image[camera], np.ones((*seen.image.shape[1:3], 1))], axis=2)
    there = in_cameras(seen.of([camera]), position)[0]
    known = np.isfinite(wanted).all(axis=2) & np.isfinite(there).all(axis=2)
    if known.sum() < MIN_DIRECTIONS:
        return np.zeros(3)
    wanted, there = (v[known] / np.linalg.norm(v[known], axis=1, keepdims=True) for v in (wanted, there))
    rotation, weight = np.eye(3), np.ones(len(wanted))
    for _ in range(DIRECTION_ROUNDS):
        # Kabsch: the rotation that brings one set of directions nearest to the other.
        u, _, vt = np.linalg.svd((wanted * weight[:, None]).T @ there)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        miss = np.linalg.norm(wanted - there @ rotation.T, axis=1)
        weight = 1.0 / np.maximum(miss, np.median(miss) + 1e-9)
    return np.asarray(cv2.Rodrigues(rotation)[0][:, 0])


def turned(camera: Camera, turn: FloatArray) -> Camera:
    """The camera turned about its own centre by a rotation vector (3,) rad in its own axes."""
    rotation = cv2.Rodrigues(np.asarray(turn, dtype=float))[0]
    return dataclasses.replace(camera, rotation=rotation @ camera.rotation, translation=rotation @ camera.translation)


def turn_between(before: Camera, after: Camera) -> float:
    """Angle between two attitudes of a camera, rad."""
    return float(np.linalg.norm(cv2.Rodrigues(after.rotation @ before.rotation.T)[0]))


def _camera_slope(seen: Views, position: FloatArray) -> FloatArray:
    """(c, n, k, 2, 3) px/rad: how the points' images move when the camera turns."""
    camera = in_cameras(seen, position)
    x, y = camera[..., 0] / camera[..., 2], camera[..., 1] / camera[..., 2]
    rows = np.stack([np.stack([-x * y, 1.0 + x**2, -y], axis=-1), np.stack([-1.0 - y**2, x * y, x], axis=-1)], axis=-2)
    return np.asarray(rows * seen.focal[:, None, None, None, None])
