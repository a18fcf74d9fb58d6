"""Inverse kinematics: measured markers in, coordinates of a kinematic tree with their uncertainty out. No opensim.

Minimises the weighted squared distances of the markers from the model, as OpenSim's
inverse kinematics tool does, within the coordinates' limits. A whole recording
is solved together: a few frames from scratch, the others from their neighbours. Samples
that contradict all others are left out and reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.kinematic_tree import GROUND, KinematicTree
from exo_twin.inverse.marker_checks import check_units, dropped_sentences, find_exchanged, untold_sentences
from exo_twin.inverse.pose_solver import GAIN_ROUGH, PoseSolver, Sensitivity
from exo_twin.inverse.recording_fit import RecordingFit, SolvedFrames
from exo_twin.inverse.tree_motion import TreeMotion

FloatArray = NDArray[np.float64]

BLOCK_FRAMES = 1000  # solved together; more only needs more memory
MIN_MARKERS = 4  # seen in a frame, or nothing is told
# A sample this many times as far off as its marker usually is, but within these bounds (m), is an outlier.
# Skin moves on bone by up to 0.04 m (Leardini et al. 2005, Gait Posture 21:212): twice that is no skin.
OUTLIER_TIMES, OUTLIER_BOUNDS = 5.0, (0.08, 0.25)
ANGLE_SD, LENGTH_SD = 1.0, 1.0  # rad, m: how little is known of a coordinate that no marker tells
UNTOLD_ANGLE, UNTOLD_LENGTH = 0.25, 0.1  # rad, m: standard deviation beyond which a coordinate counts as not told
NOISE_FRAMES = 5.0  # that the mean noise of all markers counts for in each one's
NOISE_LEAST = 1e-3  # m
AT_LIMIT = 0.009  # rad (half a degree) or m


@dataclasses.dataclass(frozen=True)
class MarkerPoses:
    """Solved motion.

    Attributes
    ----------
    time : (n,) s.
    coordinates : names of the tree's coordinates.
    q, q_sd : (n, n_coordinates) rad and m; NaN in frames with too few markers. The deviation is large where
        no marker tells a coordinate; such values follow the neighbouring frames'.
    names : the markers used.
    residual : (n, k) m, distance of each marker from the model, also of those left out; NaN where missing.
    dropped : (n, k) samples left out because they contradict the others.
    saturated : clamped coordinate -> share of the frames at a limit.
    iterations : (n,)
    warnings : sentences.
    """

    time: FloatArray
    coordinates: tuple[str, ...]
    q: FloatArray
    q_sd: FloatArray
    names: tuple[str, ...]
    residual: FloatArray
    dropped: NDArray[np.bool_]
    saturated: dict[str, float]
    iterations: NDArray[np.int64]
    warnings: tuple[str, ...]


class MarkerIk:
    """Inverse kinematics of one wearer's tree.

    Parameters
    ----------
    tree : scaled, with the wearer's markers.
    weights : marker -> weight; markers not named weigh nothing. By default all weigh the same.
    released : clamped coordinates whose limits are not kept.

    Attributes
    ----------
    tree : with the weighted markers only.
    free : indices of the coordinates that are solved for; the others stay at their default.
    prior_sd : (n_coordinates,) rad and m, standard deviation of a coordinate that no marker tells.
    root, upright : indices of the coordinates that carry the whole body, and of the one that turns it about the
        vertical (-1: none).

    Raises
    ------
    ExoError : if too few markers carry weight.
    """

    def __init__(
        self, tree: KinematicTree, weights: Mapping[str, float] | None = None, released: Collection[str] = ()
    ) -> None:
        given = dict.fromkeys(tree.markers, 1.0) if weights is None else weights
        used = [name for name in tree.markers if given.get(name, 0.0) > 0.0]
        if len(used) < MIN_MARKERS:
            raise ExoError(f"only {len(used)} markers of the model have a weight; inverse kinematics needs more")
        self.tree = tree.select(used)
        self.weight = np.array([given[name] for name in used])
        self.motion = TreeMotion(self.tree)
        self._moves = self.tree.moves()
        self.free = np.flatnonzero(self._moves.any(axis=0) & ~tree.locked)
        turns = tree.turns()
        # A full circle is no limit: who walks round must not meet an end.
        clamped = tree.clamped & ~np.isin(tree.coordinates, tuple(released))
        clamped &= ~(turns & (tree.upper - tree.lower >= 2.0 * np.pi - 1e-6))
        self.clamped = clamped
        self.lower = np.where(clamped, tree.lower, -np.inf)
        self.upper = np.where(clamped, tree.upper, np.inf)
        self.solver = PoseSolver(self.motion, self.free, self.lower, self.upper)
        own = np.where(turns, ANGLE_SD, LENGTH_SD)
        self.prior_sd = np.minimum(own, np.where(clamped, (tree.upper - tree.lower) / np.sqrt(12.0), np.inf))
        self.prior_sd[tree.locked] = 0.0
        self.untold_sd = np.where(turns, UNTOLD_ANGLE, UNTOLD_LENGTH)
        roots = [joint for joint in tree.joints if joint.parent == GROUND]
        self.root = np.intersect1d(self.free, [d.coordinate for joint in roots for d in joint.drives])
        self.upright, self._upright_sign = _upright_coordinate(tree, self.root)
        self._at_rest = self.motion.markers(self.motion.place(tree.default[None]))[0]
        self._root_solver = PoseSolver(
            self.motion, self.root, np.full_like(self.lower, -np.inf), np.full_like(self.upper, np.inf)
        )

    def solve(self, markers: Markers) -> MarkerPoses:
        """Solve a recording; markers in the ground frame, m, NaN where missing; unknown names are ignored.

        Raises
        ------
        ExoError : if too few markers are on the model, or the units are wrong.
        """
        measured, weight = self.arrange(markers)
        told = (weight > 0.0).sum(axis=1) >= MIN_MARKERS
        if not told.any():
            raise ExoError(
                f"no frame shows {MIN_MARKERS} markers of the model; check the marker names against the model's"
            )
        check_units(self.motion, self.tree, measured, weight > 0.0)
        rows = np.flatnonzero(told)
        blocks = np.array_split(rows, int(np.ceil(len(rows) / BLOCK_FRAMES)))
        parts = [RecordingFit(self, markers.time[b], measured[b], weight[b]).frames() for b in blocks]
        return self._result(markers, rows, SolvedFrames.joined(parts))

    def arrange(self, markers: Markers) -> tuple[FloatArray, FloatArray]:
        """Measured places (n, k, 3) m of the tree's markers, 0 where missing, and weights (n, k), 0 where missing."""
        measured = np.full((len(markers.time), len(self.tree.markers), 3), np.nan)
        for i, name in enumerate(self.tree.markers):
            if name in markers.names:
                measured[:, i] = markers.position[:, markers.names.index(name)]
        seen = np.isfinite(measured).all(axis=2)
        return np.where(seen[..., None], measured, 0.0), np.where(seen, self.weight, 0.0)

    def from_scratch(self, measured: FloatArray, weight: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
        """Rough poses (n, n_coordinates) from the default posture facing the right way, and iterations (n,)."""
        start = np.tile(self.tree.default, (len(measured), 1))
        if self.upright >= 0:
            start[:, self.upright] += self._upright_sign * _heading(self._at_rest, measured, weight)
        placed = self._root_solver.solve(measured, weight, start, start, GAIN_ROUGH)
        reference = np.broadcast_to(self.tree.default, start.shape)
        poses = self.solver.solve(measured, weight, placed.q, reference, GAIN_ROUGH)
        return poses.q, placed.iterations + poses.iterations

    def outlier_limit(self, usual: FloatArray) -> FloatArray:
        """Distance (k,) m beyond which a sample is left out, from the marker's usual distance (k,) m."""
        return np.clip(OUTLIER_TIMES * usual, *OUTLIER_BOUNDS)

    def noise(self, judged: Sensitivity, weight: FloatArray) -> FloatArray:
        """Variance (k,) m^2 per axis of every marker's misfit, from the residuals of n frames."""
        used = weight > 0.0
        own = np.where(used, judged.misfit() ** 2 / 3.0, 0.0)
        mean = own.sum() / max(int(used.sum()), 1)
        pooled = (own.sum(axis=0) + NOISE_FRAMES * mean) / (used.sum(axis=0) + NOISE_FRAMES)
        return np.asarray(np.maximum(pooled, NOISE_LEAST**2))

    def deviation(self, judged: Sensitivity, weight: FloatArray, noise: FloatArray) -> FloatArray:
        """Standard deviation (n, n_coordinates), rad and m, of the solution given the markers' noise (k,) m^2.

        Weights need not be inverse variances, so the noise goes through the solution
        (H^-1 J^T W S W J H^-1); what no marker tells is as uncertain as before.
        """
        through = self.solver.information(judged.twists, judged.on_model, weight**2 * noise)
        variance = np.einsum("nij,nji->ni", judged.inverse @ through, judged.inverse)
        prior = self.prior_sd[self.free] ** 2
        pulled = self.solver.pull(weight)[:, None, None] * judged.inverse
        variance = variance + np.einsum("nij,j->ni", pulled**2, prior)
        result = np.tile(self.prior_sd, (len(weight), 1))
        result[:, self.free] = np.sqrt(variance * prior / (variance + prior))
        return result

    def untold(self, q_sd: FloatArray, weight: FloatArray) -> NDArray[np.bool_]:
        """(n, n_coordinates): uncertain because markers are missing, not because they never tell it well."""
        return np.asarray((q_sd > self.untold_sd) & ((weight == 0.0) @ self._moves))

    def _result(self, markers: Markers, rows: NDArray[np.int64], fit: SolvedFrames) -> MarkerPoses:
        n, tree, time, seen, distance = len(markers.time), self.tree, fit.time, fit.seen, fit.distance
        dropped = seen & (fit.weight == 0.0)
        if self.upright >= 0:
            fit.q[:, self.upright] = np.unwrap(fit.q[:, self.upright])
        near = (fit.q < self.lower + AT_LIMIT) | (fit.q > self.upper - AT_LIMIT)
        saturated = {tree.coordinates[i]: round(float(near[:, i].mean()), 3) for i in self.free if self.clamped[i]}
        untold = self.untold(fit.q_sd, fit.weight)[:, self.free]
        # All other oddities follow from exchanged labels.
        warnings = find_exchanged(self, fit.measured, seen, fit.q, distance) or [
            *dropped_sentences(tree.markers, time, distance, dropped),
            *untold_sentences([tree.coordinates[i] for i in self.free], time, untold),
        ]

        def whole(values: FloatArray) -> FloatArray:
            filled = np.full((n, values.shape[1]), np.nan)
            filled[rows] = values
            return filled

        left_out, spent = np.zeros((n, len(tree.markers)), dtype=bool), np.zeros(n, dtype=np.int64)
        left_out[rows], spent[rows] = dropped, fit.iterations
        return MarkerPoses(
            markers.time, tree.coordinates, whole(fit.q), whole(fit.q_sd), tree.markers, whole(distance), left_out,
            saturated, spent, tuple(warnings),
        )  # fmt: skip


def _upright_coordinate(tree: KinematicTree, root: NDArray[np.int64]) -> tuple[int, float]:
    """The coordinate that turns the whole body about the vertical, or -1, and whether it turns about +y or -y."""
    best, found, sign = 0.7, -1, 1.0
    for joint in tree.joints:
        if joint.parent == GROUND:
            for axis, drive in zip(joint.axes[:3], joint.drives[:3], strict=True):
                rise = float((joint.in_parent[:3, :3] @ axis)[1]) * drive.slope
                if drive.coordinate in root and abs(rise) > best:
                    best, found, sign = abs(rise), drive.coordinate, float(np.sign(rise))
    return found, sign


def _heading(at_rest: FloatArray, measured: FloatArray, weight: FloatArray) -> FloatArray:
    """Turn (n,) about the vertical, rad, that brings markers at rest (k, 3) nearest to the measured ones (n, k, 3)."""
    share = (weight / weight.sum(axis=1, keepdims=True))[..., None]
    rest = at_rest - (share * at_rest).sum(axis=1, keepdims=True)
    there = measured - (share * measured).sum(axis=1, keepdims=True)
    across = (share * (rest[..., 2] * there[..., 0] - rest[..., 0] * there[..., 2])[..., None]).sum(axis=(1, 2))
    along = (share * (rest[..., 0] * there[..., 0] + rest[..., 2] * there[..., 2])[..., None]).sum(axis=(1, 2))
    return np.asarray(np.arctan2(across, along))
