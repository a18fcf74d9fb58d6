"""Keypoints of a movement in, the most probable motion of the wearer's skeleton out.

One estimate of everything at once: segment lengths, where each keypoint sits on its
segment, and all coordinates over time (maximum a posteriori, Gauss-Newton). Pose
estimators err slowly: a keypoint drifts for half a second at a time, so frames
are not independent and filtering does not help. The drift is modelled as what it is
(a Gauss-Markov process beside white noise), constant misplacement as a shift in
the segment, and segments keep their length; what remains is the motion, with its
standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.map_estimate import MapEstimate
from exo_twin.inverse.trajectory_types import KeypointNoise, Level, Segment, Trajectory

FloatArray = NDArray[np.float64]

MIN_SAMPLES = 8  # of a marker; a rarer one is left out
MAX_RATE_HZ = 40.0  # samples are averaged down to this: keypoints move below 6 Hz
OUTLIER_PASSES = 2
MOST_DROPPED = 0.4  # of the samples; then the markers are not those of a walking person


def fit_trajectory(
    tree: KinematicTree,
    markers: Markers,
    segments: tuple[Segment, ...],
    noise: KeypointNoise,
    covariance: FloatArray | None = None,
    planar: bool = False,
    held: tuple[str, ...] = (),
    phase: FloatArray | None = None,
    levels: Sequence[Level] = (),
    known: Trajectory | None = None,
) -> Trajectory:
    """The most probable motion behind keypoints or markers.

    Parameters
    ----------
    markers : in the ground frame of the tree, m; those without a counterpart in the tree are ignored.
    segments : which bodies share a scale factor; bodies in none keep theirs.
    covariance : (k, 3, 3) m^2 of the markers' samples, where the source knows it (its shape matters: depth
        is told worse than height by cameras on one side).
    planar : depth (z) carries no information; coordinates that leave the sagittal plane belong into `held`.
    held : coordinates that stay at their default.
    phase : (n,) gait phase in strides, unwrapped, where known.
    levels : points known to be at one height at some times; what the markers contradict is not used.
    known : another part of the same recording; its segment factors and shifts are taken over.

    Raises
    ------
    ExoError : if too few markers are left, or no motion explains them.
    """
    used = [
        name
        for i, name in enumerate(markers.names)
        if name in tree.markers and np.isfinite(markers.position[:, i, 0]).sum() >= MIN_SAMPLES
    ]
    if len(used) < MIN_SAMPLES:
        raise ExoError(
            f"only {len(used)} keypoints are on the model and visible in {MIN_SAMPLES} frames or more; "
            "check the names of the keypoints and film the whole body"
        )
    columns = [markers.names.index(name) for name in used]
    extra = sorted({end for level in levels for end in level.ends} - set(used))
    tree = tree.select([*used, *extra])
    position = np.full((len(markers.time), len(tree.markers), 3), np.nan)
    position[:, : len(used)] = markers.position[:, columns]
    time, measured, count = _averaged(markers.time, position)
    if planar:
        measured[..., 2] = np.where(np.isfinite(measured[..., 0]), 0.0, np.nan)
    axes, sd = _directions(covariance, columns, noise, planar, len(extra))
    fit = MapEstimate(tree, time, measured, count, segments, noise, (axes, sd), held)
    fit.use_basis(markers.time, _phases(time, markers.time, phase))
    fit.use_levels(markers.time, levels)
    if known is not None:
        fit.use_person(known)
    unknowns = fit.start()
    for _ in range(OUTLIER_PASSES + 1):
        unknowns, information = fit.solve(unknowns)
        if not fit.drop_outliers(unknowns):
            break
    fit.learn_noise(unknowns, information)
    if known is None:
        fit.marginalise_lengths(unknowns)
    unknowns, information = fit.solve(unknowns)
    if fit.dropped > MOST_DROPPED:
        raise ExoError("no motion of the model explains the keypoints; check their units, labels and direction")
    return fit.result(unknowns, information, markers.time, position, len(used))


def _averaged(time: FloatArray, position: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Times, means and sample counts of blocks of frames, at MAX_RATE_HZ or less."""
    rate = (len(time) - 1) / (time[-1] - time[0])
    block = max(1, int(np.ceil(rate / MAX_RATE_HZ - 1e-6)))
    starts = np.arange(0, len(time), block)
    known = np.asarray(np.isfinite(position).all(axis=2))
    count = np.add.reduceat(known.astype(float), starts, axis=0)
    total = np.add.reduceat(np.where(known[..., None], position, 0.0), starts, axis=0)
    # A block's time is that of all its frames: a marker seen in some of them is a little early or late.
    times = np.add.reduceat(time, starts) / np.diff(np.append(starts, len(time)))
    mean = np.where(count[..., None] > 0.0, total / np.maximum(count, 1.0)[..., None], np.nan)
    return times, mean, count


def _directions(
    covariance: FloatArray | None, columns: list[int], noise: KeypointNoise, planar: bool, unmeasured: int
) -> tuple[FloatArray, FloatArray]:
    """Uncorrelated directions (k, 3, 3; rows) of every marker's noise, and its SD (k, 3) along them, m."""
    axes, sd = np.tile(np.eye(3), (len(columns), 1, 1)), np.full((len(columns), 3), noise.sd)
    if planar:
        sd[:, 2] = np.inf
    elif covariance is not None:
        own = covariance[columns].copy()
        own[~np.isfinite(own).all(axis=(1, 2))] = noise.sd**2 * np.eye(3)
        variance, vectors = np.linalg.eigh(own)
        # A matrix put together from medians need not be one of variances.
        axes, sd = vectors.transpose(0, 2, 1), np.sqrt(np.maximum(variance, noise.floor**2))
    rest = np.tile(np.eye(3), (unmeasured, 1, 1))
    return np.concatenate([axes, rest]), np.concatenate([sd, np.ones((unmeasured, 3))])


def _phases(time: FloatArray, at: FloatArray, phase: FloatArray | None) -> tuple[FloatArray, FloatArray] | None:
    return None if phase is None else (np.interp(time, at, phase), phase)
