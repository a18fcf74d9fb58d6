"""The pinhole camera with OpenCV's lens distortion: where points of the room fall in the picture, and back."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Camera:
    """A calibrated camera: X_camera = rotation @ X_room + translation, camera axes x right, y down, z forward.

    Attributes
    ----------
    name : of the camera.
    size : (width, height) px that the intrinsics belong to.
    matrix : (3, 3) intrinsics, px.
    distortion : (5,) OpenCV's k1, k2, p1, p2, k3.
    rotation : (3, 3) room to camera.
    translation : (3,) m.
    """

    name: str
    size: tuple[int, int]
    matrix: FloatArray
    distortion: FloatArray
    rotation: FloatArray
    translation: FloatArray

    @property
    def centre(self) -> FloatArray:
        """Place of the camera in the room, (3,) m."""
        return np.asarray(-self.rotation.T @ self.translation)

    @property
    def projection(self) -> FloatArray:
        """(3, 4) matrix from homogeneous room coordinates to undistorted normalised image coordinates."""
        return np.column_stack([self.rotation, self.translation])

    def project(self, points: FloatArray) -> FloatArray:
        """Pixels (..., 2) of room points (..., 3) m; NaN behind the camera."""
        flat = np.asarray(points, dtype=float).reshape(-1, 3)
        seen = np.isfinite(flat).all(axis=1)
        seen[seen] = (flat[seen] @ self.rotation.T + self.translation)[:, 2] > 0.0
        pixels = np.full((len(flat), 2), np.nan)
        if seen.any():
            turn = cv2.Rodrigues(self.rotation)[0]
            pixels[seen] = cv2.projectPoints(flat[seen], turn, self.translation, self.matrix, self.distortion)[0][:, 0]
        return pixels.reshape(*np.shape(points)[:-1], 2)

    def normalised(self, pixels: FloatArray) -> FloatArray:
        """Undistorted normalised image coordinates (..., 2) of pixels (..., 2); NaN stays NaN."""
        flat = np.asarray(pixels, dtype=float).reshape(-1, 2)
        known = np.isfinite(flat).all(axis=1)
        result = np.full(flat.shape, np.nan)
        if known.any():
            result[known] = cv2.undistortPoints(flat[known][:, None], self.matrix, self.distortion)[:, 0]
        return result.reshape(np.shape(pixels))
