"""One recording being solved: starts, second looks from neighbouring frames, outliers, gaps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.pose_solver import GAIN_ROUGH, Sensitivity

if TYPE_CHECKING:
    from exo_twin.inverse.marker_ik import MarkerIk

FloatArray = NDArray[np.float64]

KEY_S = 0.1  # between frames that are solved from scratch
SHARING_ROUNDS = 5  # so far (in key frames) a good pose travels in each direction
MOST_DROPPED = 0.34  # of a frame's markers
CLEARLY_LESS = 0.99  # of a cost: two rough searches that meet in one valley differ by less


@dataclasses.dataclass(frozen=True)
class SolvedFrames:
    """What is left of n solved frames; see RecordingFit. `distance` (n, k) m, marker to model, NaN where missing."""

    time: FloatArray
    measured: FloatArray
    seen: NDArray[np.bool_]
    weight: FloatArray
    q: FloatArray
    q_sd: FloatArray
    distance: FloatArray
    iterations: NDArray[np.int64]

    @staticmethod
    def joined(parts: Sequence[SolvedFrames]) -> SolvedFrames:
        """One after the other."""
        names = [field.name for field in dataclasses.fields(SolvedFrames)]
        return SolvedFrames(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class RecordingFit:
    """Solves n frames on construction.

    Parameters
    ----------
    time : (n,) s. measured : (n, k, 3) m, finite. weight : (n, k), 0 where a marker is missing.

    Attributes
    ----------
    q, q_sd : (n, n_coordinates) rad and m.
    seen : (n, k) where a marker was measured. weight : (n, k), now also 0 where a sample was left out.
    judged : residuals and what the markers mean for the solution.
    iterations : (n,)
    """

    def __init__(self, ik: MarkerIk, time: FloatArray, measured: FloatArray, weight: FloatArray) -> None:
        self.ik, self.time, self.measured = ik, time, measured
        self.seen, self.weight = weight > 0.0, weight.copy()
        self.iterations = np.zeros(len(time), dtype=np.int64)
        start = self._starts()
        self.reference = np.broadcast_to(ik.tree.default, start.shape).copy()
        poses = ik.solver.solve(measured, weight, start, self.reference)
        self.q = poses.q
        self.iterations += poses.iterations
        self.judged: Sensitivity = ik.solver.sensitivity(self.q, measured, weight)
        self._limit = self._usual_limit()
        self._look_again()
        self._drop_outliers()
        self._take_back()
        self.noise = ik.noise(self.judged, self.weight)
        self.q_sd = ik.deviation(self.judged, self.weight, self.noise)
        self._fill_gaps()

    def frames(self) -> SolvedFrames:
        """The result, without what was needed on the way."""
        distance = np.where(self.seen, np.linalg.norm(self.judged.residual, axis=2), np.nan)
        return SolvedFrames(
            self.time, self.measured, self.seen, self.weight, self.q, self.q_sd, distance, self.iterations
        )

    def _starts(self) -> FloatArray:
        """Key frames solved from scratch, the others between them."""
        time = self.time
        wanted = max(2, int(np.ceil((time[-1] - time[0]) / KEY_S)) + 1)
        keys = np.unique(np.linspace(0, len(time) - 1, min(wanted, len(time))).round().astype(int))
        measured, weight = self.measured[keys], self.weight[keys]
        q, self.iterations[keys] = self.ik.from_scratch(measured, weight)
        self._share_poses(q, measured, weight)
        if self.ik.upright >= 0:
            q[:, self.ik.upright] = np.unwrap(q[:, self.ik.upright])
        return np.column_stack([np.interp(time, time[keys], column) for column in q.T])

    def _share_poses(self, q: FloatArray, measured: FloatArray, weight: FloatArray) -> None:
        """Key frames try their neighbours' poses, in place: from scratch, a limb easily starts in a wrong valley."""
        cost = self._cost(q, measured, weight)
        changed = np.ones(len(q), dtype=bool)
        for _ in range(SHARING_ROUNDS):
            before, changed = changed, np.zeros(len(q), dtype=bool)
            for step in (1, -1):
                source = np.flatnonzero(before)
                source = source[(source + step >= 0) & (source + step < len(q))]
                rows = source + step
                if not len(rows):
                    continue
                start = q[source]
                start[:, self.ik.root] = q[np.ix_(rows, self.ik.root)]
                poses = self.ik.solver.solve(measured[rows], weight[rows], start, q[rows], GAIN_ROUGH)
                better = poses.cost < CLEARLY_LESS * cost[rows]
                q[rows[better]], cost[rows[better]] = poses.q[better], poses.cost[better]
                changed[rows[better]] = True
            if not changed.any():
                return

    def _cost(self, q: FloatArray, measured: FloatArray, weight: FloatArray) -> FloatArray:
        residual = measured - self.ik.motion.markers(self.ik.motion.place(q))
        return np.asarray((weight * (residual**2).sum(axis=2)).sum(axis=1))

    def _look_again(self) -> None:
        """Frames with far-off samples are tried again from the frames around them: a limb may be in a wrong valley."""
        odd: NDArray[np.bool_] = np.asarray(((self.judged.misfit() > self._limit) & self.seen).any(axis=1))
        rows = np.flatnonzero(odd)
        if not len(rows) or odd.all():
            return
        start = _between(self.time, self.q, np.broadcast_to(odd[:, None], self.q.shape))[rows]
        measured, weight = self.measured[rows], self.weight[rows]
        poses = self.ik.solver.solve(measured, weight, start, self.reference[rows])
        self.iterations[rows] += poses.iterations
        better = poses.cost < CLEARLY_LESS * self._cost(self.q[rows], measured, weight)
        if better.any():
            self.q[rows[better]] = poses.q[better]
            self._judge(rows[better])
            self._limit = self._usual_limit()

    def _drop_outliers(self) -> None:
        """Leave out, one by one and the worst first, samples far from where all others put them."""
        undecided = np.ones(len(self.q), dtype=bool)
        most = (MOST_DROPPED * self.seen.sum(axis=1)).astype(int)
        for _ in range(int(most.max())):
            off = np.where(self.weight > 0.0, self.judged.misfit() / self._limit, 0.0)
            undecided &= (off.max(axis=1) > 1.0) & ((self.seen & (self.weight == 0.0)).sum(axis=1) < most)
            rows = np.flatnonzero(undecided)
            if not len(rows):
                break
            self.weight[rows, off.argmax(axis=1)[rows]] = 0.0
            self._solve_again(rows)
            self._limit = np.minimum(self._limit, self._usual_limit())

    def _take_back(self) -> None:
        """Samples that fit after all: another one had been to blame."""
        back = self.seen & (self.weight == 0.0) & (self.judged.misfit() <= self._limit)
        rows = np.flatnonzero(back.any(axis=1))
        if len(rows):
            self.weight = np.where(back, self.ik.weight, self.weight)
            self._solve_again(rows)

    def _fill_gaps(self) -> None:
        """Coordinates not told where markers are missing follow the frames in which they are."""
        wanted = _between(self.time, self.q, self.ik.untold(self.q_sd, self.weight))
        rows = np.flatnonzero((wanted != self.q).any(axis=1))
        if len(rows):
            self.q[rows] = self.reference[rows] = wanted[rows]
            self._solve_again(rows)
            self._take_back()
            self.q_sd = self.ik.deviation(self.judged, self.weight, self.noise)

    def _solve_again(self, rows: NDArray[np.int64]) -> None:
        """Solve some frames from where they are."""
        poses = self.ik.solver.solve(self.measured[rows], self.weight[rows], self.q[rows], self.reference[rows])
        self.q[rows] = poses.q
        self.iterations[rows] += poses.iterations
        self._judge(rows)

    def _judge(self, rows: NDArray[np.int64]) -> None:
        fresh = self.ik.solver.sensitivity(self.q[rows], self.measured[rows], self.weight[rows])
        self.judged = self.judged.with_rows(rows, fresh)

    def _usual_limit(self) -> FloatArray:
        """Misfit (k,) m from which a sample of each marker is an outlier."""
        off = np.where(self.seen, self.judged.misfit(), np.nan)
        usual = np.zeros(off.shape[1])
        ever = self.seen.any(axis=0)
        usual[ever] = np.nanmedian(off[:, ever], axis=0)
        return self.ik.outlier_limit(usual)


def _between(time: FloatArray, q: FloatArray, gap: NDArray[np.bool_]) -> FloatArray:
    """Coordinates (n, n_coordinates) with the marked ones on a line between the frames that are not marked."""
    result = q.copy()
    for i in np.flatnonzero(gap.any(axis=0) & ~gap.all(axis=0)):
        own = gap[:, i]
        result[own, i] = np.interp(time[own], time[~own], q[~own, i])
    return result
