"""The search for the most probable motion: normal equations of one recording, Gauss-Newton with step control."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from exo_twin.inverse.kinematic_tree import KinematicTree, Posed, pose
from exo_twin.inverse.motion_prior import coefficient_sd, habit, is_translation, motion_basis
from exo_twin.inverse.trajectory_types import KeypointNoise, Level, Segment, Trajectory

FloatArray = NDArray[np.float64]

INFLATIONS = (8.0, 3.0, 1.0)  # of the noise, one after the other, so that a bad start is forgiven
ROUNDS = 10
HALVINGS = 6  # of a step that makes things worse
ROUGH_STEP = 0.1  # rad or m; near enough while the noise is inflated
RIGID = 1e4  # on the prior of scale factors and shifts while the noise is inflated
STEP_DONE = 5e-3  # rad or m, largest change of a coordinate
STEP_MOST = 0.6  # rad or m; a longer step is shortened, for it leaves the region in which it was computed
OUTLIER_SD = 4.0  # a sample further off than this in any direction is dropped
SETTLED = 1e-3  # m, and of a log factor: SD of what an earlier part of the recording has told
LIMIT_SD = np.deg2rad(1.0)  # how softly a coordinate's range holds
NOISE_RATIO = (0.4**2, 1.5**2)  # of the variance expected
LENGTH_STEP = 0.01  # of a log scale factor, for a derivative
LEVEL_SD = 0.006  # m; how level a sole is in mid-stance: 2 degrees
LEVEL_GATE = 0.045  # m; a sole found steeper than 14 degrees (three SD of keypoints) does not stand flat
UPPER_LESS_LOWER = np.array([1.0, -1.0])


@dataclasses.dataclass
class Unknowns:
    """Mixtures (coordinates, functions), log scale factors (segments,), shifts (markers, 3)."""

    mix: FloatArray
    log_scale: FloatArray
    shift: FloatArray

    @property
    def vector(self) -> FloatArray:
        """All of them in a row."""
        return np.concatenate([self.mix.ravel(), self.log_scale, self.shift.ravel()])

    def moved(self, step: FloatArray) -> Unknowns:
        a, b = self.mix.size, self.mix.size + self.log_scale.size
        return Unknowns(
            self.mix + step[:a].reshape(self.mix.shape),
            self.log_scale + step[a:b],
            self.shift + step[b:].reshape(self.shift.shape),
        )


class MapEstimate:
    """The normal equations of one recording."""

    def __init__(
        self,
        tree: KinematicTree,
        time: FloatArray,
        measured: FloatArray,
        count: FloatArray,
        segments: tuple[Segment, ...],
        noise: KeypointNoise,
        directions: tuple[FloatArray, FloatArray],
        held: tuple[str, ...],
    ) -> None:
        self.tree, self.time, self.measured, self.count = tree, time, measured, count
        self.segments, self.noise = segments, noise
        self.axes, self.sd = directions
        self.free = [i for i, name in enumerate(tree.coordinates) if habit(name) is not None and name not in held]
        self.names = [tree.coordinates[i] for i in self.free]
        self.habits = [h for h in map(habit, self.names) if h is not None]
        moves = tree.moves()[:, self.free]
        self.moving = [np.flatnonzero(row) for row in moves]
        self.groups = np.zeros((len(tree.bodies), len(segments)))
        for g, segment in enumerate(segments):
            self.groups[[tree.bodies.index(body) for body in segment.bodies], g] = 1.0
        self.limited = [i for i, name in zip(self.free, self.names, strict=True) if not name.startswith("pelvis")]
        self.available = np.isfinite(measured[..., 0])
        self.inflations: tuple[float, ...] = INFLATIONS
        self.rigid = False
        self.levels: list[tuple[Level, list[int], NDArray[np.int64]]] = []
        self.not_level: list[Level] = []
        self.length_pull = np.zeros(len(segments))
        self.total = int(self.available.sum())

    # ------------------------------------------------------------ unknowns

    def use_basis(self, at: FloatArray, phase: tuple[FloatArray, FloatArray] | None) -> None:
        self.basis, self.basis_at = motion_basis(self.time, at, phase)
        self.mix_sd = coefficient_sd(self.habits, self.names, self.basis.shape[1], float(np.ptp(self.time)))
        self.mix_mean = np.zeros_like(self.mix_sd)
        for row, item, name in zip(self.mix_mean, self.habits, self.names, strict=True):
            row[0] = item.mean if is_translation(name) else np.deg2rad(item.mean)
        self.prior_mean = np.concatenate(
            [self.mix_mean.ravel(), [s.mean for s in self.segments], np.zeros(3 * len(self.tree.markers))]
        )
        self.prior_sd = np.concatenate(
            [
                self.mix_sd.ravel(),
                [s.sd for s in self.segments],
                np.full(3 * len(self.tree.markers), self.noise.shift_sd),
            ]
        )

    def use_person(self, known: Trajectory) -> None:
        """Segment factors and shifts of an earlier fit, to be kept."""
        a, b = self.mix_sd.size, self.mix_sd.size + len(self.segments)
        self.prior_mean[a:b] = np.log([known.factors[segment.name] for segment in self.segments])
        self.prior_sd[a:b] = SETTLED
        for k, name in enumerate(self.tree.markers):
            if name in known.markers:
                self.prior_mean[b + 3 * k : b + 3 * k + 3] = known.shift[known.markers.index(name)]
                self.prior_sd[b + 3 * k : b + 3 * k + 3] = SETTLED

    @property
    def dropped(self) -> float:
        """Share of the samples left out."""
        return 1.0 - float(self.available.sum()) / self.total

    def start(self) -> Unknowns:
        """Default posture, travelling as the markers' middle travels."""
        mix = self.mix_mean.copy()
        a, b = self.mix_sd.size, self.mix_sd.size + len(self.segments)
        unknowns = Unknowns(mix, self.prior_mean[a:b].copy(), self.prior_mean[b:].reshape(-1, 3).copy())
        difference = self.measured - self.posed(unknowns).position
        known = self.available.any(axis=1)
        offset = np.full((len(difference), 3), np.nan)
        offset[known] = np.nanmean(difference[known], axis=1)
        for axis, name in enumerate(("pelvis_tx", "pelvis_ty", "pelvis_tz")):
            if name in self.names:
                line = np.linalg.lstsq(self.basis[known, :2], offset[known, axis], rcond=None)[0]
                mix[self.names.index(name), :2] += line
        return unknowns

    def q(self, unknowns: Unknowns, basis: FloatArray) -> FloatArray:
        q = np.tile(self.tree.default, (len(basis), 1))
        for i in self.free:
            q[:, i] = 0.0
        q[:, self.free] += basis @ unknowns.mix.T
        return q

    def posed(self, unknowns: Unknowns, basis: FloatArray | None = None) -> Posed:
        scale = np.exp(self.groups @ unknowns.log_scale)
        return pose(self.tree, self.q(unknowns, self.basis if basis is None else basis), scale, unknowns.shift)

    def use_levels(self, at: FloatArray, levels: Sequence[Level]) -> None:
        for level in levels:
            rows = np.flatnonzero(np.interp(self.time, at, level.during.astype(float)) > 0.5)
            if len(rows):
                ends = [self.tree.markers.index(end) for end in level.ends]
                self.levels.append((level, ends, rows))

    # ------------------------------------------------------------ solving

    def solve(self, unknowns: Unknowns) -> tuple[Unknowns, FloatArray]:
        """Gauss-Newton with step control; returns the unknowns and their information (inverse covariance)."""
        whiteners = [self._whitener(k) for k in range(len(self.tree.markers))]
        normal = np.eye(len(self.prior_sd))
        for inflation in self.inflations:
            # The person's measures are found last: a wrong posture would bend them.
            self.rigid = inflation > 1.0
            if not self.rigid:
                self._drop_false_levels(unknowns)
            cost = self._cost(unknowns, whiteners, inflation)
            for _ in range(ROUNDS):
                normal, right = self._normal(unknowns, whiteners, inflation)
                step = cho_solve(cho_factor(normal), right)
                change = self.basis @ step[: self.mix_sd.size].reshape(self.mix_sd.shape).T
                largest = float(np.abs(change).max())
                share = min(1.0, STEP_MOST / largest)
                for _ in range(HALVINGS):
                    trial = unknowns.moved(share * step)
                    new = self._cost(trial, whiteners, inflation)
                    if new < cost:
                        unknowns, cost = trial, new
                        break
                    share /= 2.0
                if share * largest < (STEP_DONE if inflation == 1.0 else ROUGH_STEP):
                    break
            if inflation > 1.0 and self.drop_outliers(unknowns, inflation):
                whiteners = [self._whitener(k) for k in range(len(self.tree.markers))]
        self.inflations = (1.0,)
        return unknowns, normal

    def _cost(
        self, unknowns: Unknowns, whiteners: list[tuple[NDArray[np.int64], FloatArray]], inflation: float
    ) -> float:
        """Minus twice the log posterior, but for a constant."""
        posed = self.posed(unknowns)
        total = self._misfit(posed, whiteners, inflation)
        total += float((((self.prior_mean - unknowns.vector) / self.prior_sd) ** 2).sum())
        if not self.rigid:
            for _, ends, rows in self.levels:
                total += float(((posed.position[rows][:, ends, 1] @ UPPER_LESS_LOWER / LEVEL_SD) ** 2).mean())
        total -= 2.0 * float(self.length_pull @ unknowns.log_scale)
        q = self.q(unknowns, self.basis)[:, self.limited]
        beyond = np.clip(q, self.tree.lower[self.limited], self.tree.upper[self.limited]) - q
        return total + float(((beyond / LIMIT_SD) ** 2).sum())

    def _misfit(self, posed: Posed, whiteners: list[tuple[NDArray[np.int64], FloatArray]], inflation: float) -> float:
        """Sum of the squares of the whitened residuals."""
        residual = self.measured - posed.position
        total = 0.0
        for k, (rows, factor) in enumerate(whiteners):
            seen = np.isfinite(self.sd[k])
            along = residual[rows, k] @ self.axes[k][seen].T / (self.sd[k][seen] * inflation)
            total += float((solve_triangular(factor, along, lower=True, check_finite=False) ** 2).sum())
        return total

    def learn_noise(self, unknowns: Unknowns, information: FloatArray) -> None:
        """Scale the noise to what the residuals show, within limits: estimators and pictures differ."""
        covariance = covariance_of(information)
        whiteners = [self._whitener(k) for k in range(len(self.tree.markers))]
        samples = sum(len(rows) * int(np.isfinite(self.sd[k]).sum()) for k, (rows, _) in enumerate(whiteners))
        used_up = float((1.0 - np.diag(covariance) / self.prior_sd**2).sum())
        ratio = self._misfit(self.posed(unknowns), whiteners, 1.0) / max(samples - used_up, 1.0)
        scaled = self.sd * np.sqrt(np.clip(ratio, *NOISE_RATIO))
        self.sd = np.where(np.isfinite(self.sd), np.maximum(scaled, self.noise.floor), np.inf)

    def marginalise_lengths(self, unknowns: Unknowns) -> None:
        """Ask for the most probable lengths whatever the motion, not together with the most probable motion.

        Angles that follow the noise make a chain of segments too long: noise can
        bend a straight knee but not stretch it (Neyman & Scott 1948). Integrating the motion out (Laplace)
        adds -1/2 log det of its information, whose slope by each length becomes a pull.
        """
        whiteners = [self._whitener(k) for k in range(len(self.tree.markers))]
        a, b = self.mix_sd.size, self.mix_sd.size + len(self.segments)
        rest = np.r_[0:a, b : len(self.prior_sd)]
        normal, _ = self._normal(unknowns, whiteners, 1.0)
        # As a length changes, the motion that is most probable with it changes, too.
        follow = -np.linalg.solve(normal[np.ix_(rest, rest)], normal[np.ix_(rest, np.arange(a, b))])

        def information(g: int, by: float) -> float:
            step = np.zeros(len(self.prior_sd))
            step[rest], step[a + g] = by * follow[:, g], by
            at, _ = self._normal(unknowns.moved(step), whiteners, 1.0)
            return 2.0 * float(np.log(np.diag(np.linalg.cholesky(at[np.ix_(rest, rest)]))).sum())

        for g in range(len(self.segments)):
            rise = information(g, LENGTH_STEP) - information(g, -LENGTH_STEP)
            self.length_pull[g] = -0.25 * rise / LENGTH_STEP

    def _whitener(self, k: int) -> tuple[NDArray[np.int64], FloatArray]:
        """Frames in which marker k is there, and the Cholesky factor of its unit-variance noise over them."""
        rows = np.flatnonzero(self.available[:, k])
        lag = np.abs(self.time[rows, None] - self.time[None, rows])
        share = self.noise.drift_share
        correlation = share * np.exp(-lag / self.noise.drift_time)
        correlation += np.diag((1.0 - share) / self.count[rows, k])
        return rows, np.asarray(np.linalg.cholesky(correlation))

    def _normal(
        self, unknowns: Unknowns, whiteners: list[tuple[NDArray[np.int64], FloatArray]], inflation: float
    ) -> tuple[FloatArray, FloatArray]:
        posed = self.posed(unknowns)
        scale = np.exp(self.groups @ unknowns.log_scale)
        by_segment = np.einsum("nkib,b,bg->nkig", posed.by_scale, scale, self.groups, optimize=True)
        r, a = self.basis.shape[1], self.mix_sd.size
        size = len(self.prior_sd)
        normal, right = np.zeros((size, size)), np.zeros(size)
        for k, (rows, factor) in enumerate(whiteners):
            if not len(rows):
                continue
            moving = self.moving[k]
            index = np.concatenate(
                [
                    (moving[:, None] * r + np.arange(r)).ravel(),
                    a + np.arange(len(self.segments)),
                    a + len(self.segments) + 3 * k + np.arange(3),
                ]
            )
            turned = posed.by_coordinate[rows, k][:, :, np.array(self.free)[moving]]
            blocks = []
            for axis, sd in zip(self.axes[k], self.sd[k], strict=True):
                if not np.isfinite(sd):
                    continue
                by_q = np.einsum("i,nij->nj", axis, turned)
                residual = (self.measured[rows, k] - posed.position[rows, k]) @ axis
                blocks.append(
                    np.hstack(
                        [
                            (by_q[:, :, None] * self.basis[rows][:, None, :]).reshape(len(rows), -1),
                            np.einsum("i,nig->ng", axis, by_segment[rows, k]),
                            np.einsum("i,nij->nj", axis, posed.rotation[rows, k]),
                            residual[:, None],
                        ]
                    )
                    / (sd * inflation)
                )
            # One triangular solve whitens all directions: they share the marker's correlation over time.
            whitened = solve_triangular(factor, np.hstack(blocks), lower=True, check_finite=False)
            stacked = np.vstack(np.split(whitened, len(blocks), axis=1))
            product = stacked.T @ stacked
            normal[np.ix_(index, index)] += product[:-1, :-1]
            right[index] += product[:-1, -1]
        precision = 1.0 / self.prior_sd**2
        normal[np.diag_indices(size)] += precision
        right += precision * (self.prior_mean - unknowns.vector)
        right[a : a + len(self.segments)] += self.length_pull
        if self.rigid:
            normal[np.arange(a, size), np.arange(a, size)] += RIGID / self.prior_sd[a:] ** 2
        self._add_limits(unknowns, normal, right)
        if not self.rigid:
            self._add_levels(posed, by_segment, normal, right)
        return normal, right

    def _add_levels(self, posed: Posed, by_segment: FloatArray, normal: FloatArray, right: FloatArray) -> None:
        """Each level counts as one observation, for what is wrong with it is wrong all the time."""
        r, a = self.basis.shape[1], self.mix_sd.size
        for _, ends, rows in self.levels:
            weight = 1.0 / (LEVEL_SD * np.sqrt(len(rows)))
            moving = np.union1d(*(self.moving[k] for k in ends))
            columns = np.array(self.free)[moving]
            by_q = np.tensordot(posed.by_coordinate[rows][:, ends, 1][:, :, columns], UPPER_LESS_LOWER, (1, 0))
            part = [
                (by_q[:, :, None] * self.basis[rows][:, None, :]).reshape(len(rows), -1),
                np.tensordot(by_segment[rows][:, ends, 1], UPPER_LESS_LOWER, (1, 0)),
            ]
            index = [(moving[:, None] * r + np.arange(r)).ravel(), a + np.arange(len(self.segments))]
            jacobian, at = weight * np.hstack(part), np.concatenate(index)
            height = posed.position[rows][:, ends, 1] @ UPPER_LESS_LOWER
            normal[np.ix_(at, at)] += jacobian.T @ jacobian
            right[at] -= jacobian.T @ (weight * height)

    def _drop_false_levels(self, unknowns: Unknowns) -> None:
        posed = self.posed(unknowns)
        heights = [float((posed.position[rows][:, ends, 1] @ UPPER_LESS_LOWER).mean()) for _, ends, rows in self.levels]
        self.not_level += [lv[0] for lv, h in zip(self.levels, heights, strict=True) if abs(h) > LEVEL_GATE]
        self.levels = [lv for lv, h in zip(self.levels, heights, strict=True) if abs(h) <= LEVEL_GATE]

    def _add_limits(self, unknowns: Unknowns, normal: FloatArray, right: FloatArray) -> None:
        """A coordinate outside its range is pulled back to it, softly."""
        q = self.q(unknowns, self.basis)
        r = self.basis.shape[1]
        for j, i in enumerate(self.free):
            if i not in self.limited:
                continue
            beyond = np.clip(q[:, i], self.tree.lower[i], self.tree.upper[i]) - q[:, i]
            rows = np.flatnonzero(beyond)
            if len(rows):
                part = self.basis[rows] / LIMIT_SD
                normal[j * r : (j + 1) * r, j * r : (j + 1) * r] += part.T @ part
                right[j * r : (j + 1) * r] += part.T @ (beyond[rows] / LIMIT_SD)

    def drop_outliers(self, unknowns: Unknowns, inflation: float = 1.0) -> bool:
        """Leave out samples that are far from the motion; True if there were any."""
        residual = self.measured - self.posed(unknowns).position
        along = np.abs(np.einsum("kai,nki->nka", self.axes, residual)) / self.sd
        wild = self.available & (np.where(np.isfinite(self.sd), along, 0.0) > OUTLIER_SD * inflation).any(axis=2)
        self.available &= ~wild
        return bool(wild.any())

    def result(
        self, unknowns: Unknowns, information: FloatArray, time: FloatArray, position: FloatArray, used: int
    ) -> Trajectory:
        covariance = covariance_of(information)
        posed = self.posed(unknowns, self.basis_at)
        q = self.q(unknowns, self.basis_at)
        r, a = self.basis.shape[1], self.mix_sd.size
        q_sd = np.zeros_like(q)
        for j, i in enumerate(self.free):
            block = covariance[j * r : (j + 1) * r, j * r : (j + 1) * r]
            q_sd[:, i] = np.sqrt(np.einsum("nr,rs,ns->n", self.basis_at, block, self.basis_at, optimize=True))
        # A frame counts as its sample does.
        sample = np.searchsorted((self.time[1:] + self.time[:-1]) / 2.0, time)
        kept = self.available[sample]
        names = [segment.name for segment in self.segments]
        factors = np.exp(unknowns.log_scale)
        factors_sd = factors * np.sqrt(np.diag(covariance)[a : a + len(names)])
        return Trajectory(
            time,
            self.tree.coordinates,
            q,
            q_sd,
            dict(zip(names, map(float, factors), strict=True)),
            dict(zip(names, map(float, factors_sd), strict=True)),
            unknowns.shift[:used],
            self.tree.markers[:used],
            np.where(kept[..., None], position - posed.position, np.nan)[:, :used],
            self.dropped,
            tuple(self.not_level),
        )


def covariance_of(information: FloatArray) -> FloatArray:
    """Inverse of a positive definite matrix."""
    return np.asarray(cho_solve(cho_factor(information), np.eye(len(information))))
