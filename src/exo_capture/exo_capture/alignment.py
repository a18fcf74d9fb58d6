"""From the calibration's room to OpenSim's: y up, the walk along +x, the floor at y = 0."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.cameras import Camera
from exo_capture.landmarks import HEELS, HIPS, SHOULDERS, TOES

FloatArray = NDArray[np.float64]

SNAP_DEG = 15.0  # a room axis this near to the body's own up is the calibration's vertical; a trunk leans by up to 10
MIN_TRAVEL_M = 0.5  # below it the person stands, and faces +x


@dataclasses.dataclass(frozen=True)
class Alignment:
    """X_opensim = rotation @ X_room + translation, and how it was found, for the report."""

    rotation: FloatArray
    translation: FloatArray
    facts: dict[str, str]

    def points(self, room: FloatArray) -> FloatArray:
        """(..., 3) m."""
        return np.asarray(room @ self.rotation.T + self.translation)

    def covariance(self, room: FloatArray) -> FloatArray:
        """(..., 3, 3) m²."""
        return np.asarray(self.rotation @ room @ self.rotation.T)

    def camera(self, camera: Camera) -> Camera:
        """The same camera, for points in OpenSim's frame."""
        rotation = camera.rotation @ self.rotation.T
        return dataclasses.replace(
            camera, rotation=rotation, translation=camera.translation - rotation @ self.translation
        )


def align(position: FloatArray, up: FloatArray | None = None) -> Alignment:
    """Find OpenSim's frame from a person's points (n, 33, 3) m in the room.

    Parameters
    ----------
    up : the room's vertical, (3,), if known. Otherwise it is the room axis nearest to the body's own up, or,
        if none is near, the body's.
    """
    vertical, source = _up(position, up)
    forward, travel = _forward(position, vertical)
    rotation = np.array([forward, vertical, np.cross(forward, vertical)])
    turned = position @ rotation.T
    centre = _mean(turned[:, HIPS], axis=(0, 1))
    translation = np.array([-centre[0], -_floor(turned), -centre[2]])
    motion = f"walks {travel:.1f} m" if travel >= MIN_TRAVEL_M else "stays in place"
    return Alignment(rotation, translation, {"vertical": source, "motion": motion})


def _up(position: FloatArray, up: FloatArray | None) -> tuple[FloatArray, str]:
    if up is not None:
        return np.asarray(up, dtype=float) / np.linalg.norm(up), "given"
    feet = _mean(position[:, (*HEELS, *TOES)], axis=1)
    body = _mean(position[:, SHOULDERS], axis=1) - feet
    mean = _mean(body / np.linalg.norm(body, axis=1, keepdims=True), axis=0)
    mean /= np.linalg.norm(mean)
    axis = int(np.argmax(np.abs(mean)))
    snapped = np.zeros(3)
    snapped[axis] = np.sign(mean[axis])
    tilt = float(np.degrees(np.arccos(np.clip(mean @ snapped, -1.0, 1.0))))
    name = f"{'+' if snapped[axis] > 0 else '-'}{'xyz'[axis]}"
    if tilt <= SNAP_DEG:
        return snapped, f"the calibration's {name} (the body is within {tilt:.0f} degrees of it)"
    return mean, f"the body's mean line from feet to shoulders ({tilt:.0f} degrees from the calibration's {name})"


def _forward(position: FloatArray, vertical: FloatArray) -> tuple[FloatArray, float]:
    """Direction of the walk, or where the person faces; and how far they walk, m."""
    across = _mean(position[:, HIPS[1]] - position[:, HIPS[0]], axis=0)
    shoulders = _mean(position[:, SHOULDERS[1]] - position[:, SHOULDERS[0]], axis=0)
    # Right is forward x up, so forward is up x right.
    facing = np.cross(vertical, _unit(across) + _unit(shoulders))
    feet = _mean(position[:, TOES] - position[:, HEELS], axis=(0, 1))
    facing = _unit(facing) + _unit(feet - vertical * (feet @ vertical))
    hips = position[:, HIPS].mean(axis=1)
    known = np.flatnonzero(np.isfinite(hips).all(axis=1))
    ends = max(1, len(known) // 10)
    way = _mean(hips[known[-ends:]], axis=0) - _mean(hips[known[:ends]], axis=0)
    way -= vertical * (way @ vertical)
    travel = float(np.linalg.norm(way))
    forward = facing if travel < MIN_TRAVEL_M else way * (np.sign(way @ facing) or 1.0)
    return _unit(forward - vertical * (forward @ vertical)), travel


def _floor(turned: FloatArray) -> float:
    """Height of the floor: of the lowest foot point in the median frame, for a walker always has a foot on it."""
    height = turned[:, (*HEELS, *TOES), 1]
    lowest = np.where(np.isfinite(height), height, np.inf).min(axis=1)
    lowest = lowest[np.isfinite(lowest)]
    return float(np.median(lowest)) if len(lowest) else float(np.nanmin(turned[..., 1]))


def _mean(values: FloatArray, axis: int | tuple[int, ...]) -> FloatArray:
    """Mean of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12))
