"""What goes into the search for the most probable motion, and what comes out."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class KeypointNoise:
    """How keypoints err.

    Attributes
    ----------
    sd : m per axis, drift and white noise together, where the source gives no covariance.
    drift_share : of the variance; the rest is white.
    drift_time : s, correlation time of the drift.
    shift_sd : m per axis, constant misplacement of a keypoint on its segment.
    floor : m; a covariance below it is not believed, for a body is not a linkage of rigid segments.
    """

    sd: float = 0.02
    drift_share: float = 0.7
    drift_time: float = 0.5
    shift_sd: float = 0.009
    floor: float = 0.005


@dataclasses.dataclass(frozen=True)
class Segment:
    """Bodies that are scaled together, with the prior of their factor: mean and SD of its logarithm."""

    name: str
    bodies: tuple[str, ...]
    mean: float
    sd: float


@dataclasses.dataclass(frozen=True)
class Level:
    """Two points of the model that are at the same height at some times, e.g. the ends of a sole on the floor.

    Attributes
    ----------
    ends : names of two markers of the tree; they need not be measured.
    during : (n,) at which of the markers' times.
    """

    ends: tuple[str, str]
    during: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """The motion found.

    Attributes
    ----------
    time : (n,) s, as in the markers.
    coordinates : names of all the tree's coordinates.
    q, q_sd : (n, n_coordinates) values and standard deviations, rad and m; 0 where held at a default.
    factors : segment -> scale factor, and `factors_sd`.
    shift : (k, 3) m, found place of every used marker less its scaled place, in its body.
    markers : names of the used markers.
    residual : (n, k, 3) m, measured less modelled; NaN where missing or dropped.
    dropped : share of the samples left out as outliers.
    not_level : which of the levels given the motion contradicts; they were not used.
    """

    time: FloatArray
    coordinates: tuple[str, ...]
    q: FloatArray
    q_sd: FloatArray
    factors: dict[str, float]
    factors_sd: dict[str, float]
    shift: FloatArray
    markers: tuple[str, ...]
    residual: FloatArray
    dropped: float
    not_level: tuple[Level, ...]

    def coordinate(self, name: str) -> FloatArray:
        """One coordinate over time, (n,) rad or m."""
        return np.asarray(self.q[:, self.coordinates.index(name)])
