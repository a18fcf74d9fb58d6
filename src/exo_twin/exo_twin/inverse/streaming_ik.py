"""Inverse kinematics frame by frame, as a camera or a motion-capture system delivers them. No opensim.

Every frame starts where the last two point to, so two or three iterations do.
Coordinates that no visible marker tells stay where they were last told.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.marker_checks import check_units
from exo_twin.inverse.marker_ik import MIN_MARKERS, MarkerIk
from exo_twin.inverse.pose_solver import Sensitivity
from exo_twin.inverse.recording_fit import MOST_DROPPED

FloatArray = NDArray[np.float64]

STALE_S = 0.25  # after a longer gap the body is looked for anew
LOST_M = 0.08  # RMS of the markers beyond which, if it came suddenly, the body is looked for anew
LOST_TIMES = 3.0
USUAL_M, NOISE_M = 0.03, 0.01  # of a marker's misfit, and its noise per axis, before any has been seen
MEMORY_FRAMES = 100.0  # over which a marker's usual misfit is remembered


@dataclasses.dataclass(frozen=True)
class FramePose:
    """One solved frame.

    Attributes
    ----------
    time : s.
    q, q_sd : (n_coordinates,) rad and m; the deviation is large where no visible marker tells a coordinate.
    residual : (k,) m, distance of each marker from the model; NaN where missing.
    dropped : markers left out because they contradict the others.
    untold : coordinates that no marker tells now; they stay as last told.
    iterations : of the solver.
    """

    time: float
    q: FloatArray
    q_sd: FloatArray
    residual: FloatArray
    dropped: tuple[str, ...]
    untold: tuple[str, ...]
    iterations: int

    @property
    def warnings(self) -> list[str]:
        """Sentences about this frame."""
        found = [f"marker {name} contradicts the others and was left out" for name in self.dropped]
        if self.untold:
            found.append(f"markers are missing: {', '.join(self.untold)} stay as last seen")
        return found


class StreamingIk:
    """The state of one stream.

    Parameters
    ----------
    ik : of the wearer; `ik.tree.markers` says the order in which `step` wants the markers.
    """

    def __init__(self, ik: MarkerIk) -> None:
        self.ik = ik
        k = len(ik.tree.markers)
        self._usual, self._noise = np.full(k, USUAL_M), np.full(k, NOISE_M**2)
        self._told = ik.tree.default.copy()
        self._rms = USUAL_M
        self._last: tuple[float, FloatArray] | None = None
        self._velocity = np.zeros(len(ik.tree.coordinates))

    def step(self, time: float, positions: FloatArray) -> FramePose | None:
        """Solve the next frame.

        Parameters
        ----------
        time : of the acquisition, s; rising.
        positions : (k, 3) m in the ground frame, NaN where a marker is missing.

        Returns
        -------
        The pose, or None if too few markers are visible.

        Raises
        ------
        ExoError : if time goes back, the shape is wrong, or (at the start of the stream) the units are.
        """
        if positions.shape != (len(self.ik.tree.markers), 3):
            raise ExoError(
                f"a frame of {positions.shape} was given, {(len(self.ik.tree.markers), 3)} is needed; "
                "send the model's markers in its order, NaN where missing"
            )
        if self._last is not None and time <= self._last[0]:
            raise ExoError(f"a frame of {time:.3f} s came after one of {self._last[0]:.3f} s; send frames in order")
        seen: NDArray[np.bool_] = np.asarray(np.isfinite(positions).all(axis=1))
        if seen.sum() < MIN_MARKERS:
            return None
        measured = np.where(seen[:, None], positions, 0.0)[None]
        weight = np.where(seen, self.ik.weight, 0.0)[None]
        q, iterations = self._solve(time, measured, weight)
        judged, weight, more = self._without_outliers(q, measured, weight)
        return self._remember(time, q, judged, weight, seen, iterations + more)

    def _solve(self, time: float, measured: FloatArray, weight: FloatArray) -> tuple[FloatArray, int]:
        """Coordinates (1, n_coordinates) with all markers seen, and iterations."""
        ik = self.ik
        if self._last is None:
            check_units(ik.motion, ik.tree, measured, weight > 0.0)
        if self._last is None or time - self._last[0] > STALE_S:
            q, spent = ik.from_scratch(measured, weight)
            poses = ik.solver.solve(measured, weight, q, q)
            return poses.q, int(spent[0] + poses.iterations[0])
        start = (self._last[1] + (time - self._last[0]) * self._velocity)[None]
        poses = ik.solver.solve(measured, weight, start, self._told[None])
        iterations = int(poses.iterations[0])
        if poses.cost[0] > weight.sum() * max(LOST_M, LOST_TIMES * self._rms) ** 2:
            q, spent = ik.from_scratch(measured, weight)
            anew = ik.solver.solve(measured, weight, q, self._told[None])
            iterations += int(spent[0] + anew.iterations[0])
            if anew.cost[0] < poses.cost[0]:
                return anew.q, iterations
        return poses.q, iterations

    def _without_outliers(
        self, q: FloatArray, measured: FloatArray, weight: FloatArray
    ) -> tuple[Sensitivity, FloatArray, int]:
        """Leave out the worst sample until none is far from where the others put it; moves `q` in place."""
        solver, iterations = self.ik.solver, 0
        limit = self.ik.outlier_limit(self._usual)
        weight = weight.copy()
        judged = solver.sensitivity(q, measured, weight)
        for _ in range(int(MOST_DROPPED * (weight > 0.0).sum())):
            off = np.where(weight[0] > 0.0, judged.misfit()[0] / limit, 0.0)
            if off.max() <= 1.0:
                break
            weight[0, off.argmax()] = 0.0
            poses = solver.solve(measured, weight, q, self._told[None])
            q[:] = poses.q
            iterations += int(poses.iterations[0])
            judged = solver.sensitivity(q, measured, weight)
        return judged, weight, iterations

    def _remember(
        self,
        time: float,
        q: FloatArray,
        judged: Sensitivity,
        weight: FloatArray,
        seen: NDArray[np.bool_],
        iterations: int,
    ) -> FramePose:
        ik, used = self.ik, weight[0] > 0.0
        q_sd = ik.deviation(judged, weight, self._noise)[0]
        vague, untold = q_sd > ik.untold_sd, ik.untold(q_sd[None], weight)[0]
        misfit = judged.misfit()[0]
        self._usual[used] += (misfit[used] - self._usual[used]) / MEMORY_FRAMES
        self._noise[used] += (misfit[used] ** 2 / 3.0 - self._noise[used]) / MEMORY_FRAMES
        distance = np.linalg.norm(judged.residual[0], axis=1)
        self._rms += (float(np.sqrt(np.mean(distance[used] ** 2))) - self._rms) / MEMORY_FRAMES
        if self._last is not None and time - self._last[0] <= STALE_S:
            self._velocity = np.where(vague, 0.0, (q[0] - self._last[1]) / (time - self._last[0]))
        else:
            self._velocity[:] = 0.0
        self._told = np.where(vague, self._told, q[0])
        self._last = (time, q[0])
        names = ik.tree.markers
        free = np.zeros(len(untold), dtype=bool)
        free[ik.free] = True
        return FramePose(
            time,
            q[0],
            q_sd,
            np.where(seen, distance, np.nan),
            tuple(names[i] for i in np.flatnonzero(seen & ~used)),
            tuple(ik.tree.coordinates[i] for i in np.flatnonzero(untold & free)),
            iterations,
        )
