"""Bundle adjustment: lenses, cameras and boards of all pictures at once, so that all corners fit best."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, diags
from scipy.sparse.linalg import splu

from exo_capture.boards import Board, Sighting
from exo_capture.lens import Lens

FloatArray = NDArray[np.float64]

OUTLIER_PX = 1.0  # beyond it a corner's pull no longer grows with its distance
MAX_STEPS = 50  # from a good start it needs ten
SMALLEST_GAIN = 1e-9  # of the cost, relative: below, nothing is left to be gained
DAMPING = 1e-3  # of the diagonal, at the start


@dataclasses.dataclass(frozen=True)
class Pose:
    """X_outer = rotation @ X_inner + translation."""

    rotation: FloatArray
    translation: FloatArray

    def __matmul__(self, inner: Pose) -> Pose:
        return Pose(self.rotation @ inner.rotation, self.rotation @ inner.translation + self.translation)

    @property
    def inverse(self) -> Pose:
        return Pose(self.rotation.T, -self.rotation.T @ self.translation)

    @property
    def vector(self) -> FloatArray:
        """Rotation vector and translation, (6,)."""
        return np.concatenate([cv2.Rodrigues(self.rotation)[0].ravel(), self.translation])

    @staticmethod
    def of(vector: FloatArray) -> Pose:
        """The pose of a rotation vector and translation (6,)."""
        return Pose(np.asarray(cv2.Rodrigues(vector[:3])[0]), vector[3:])


@dataclasses.dataclass(frozen=True)
class View:
    """One picture: the camera's name, the index of the board's pose, and the corners seen."""

    camera: str
    board: int
    sighting: Sighting


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is sought.

    Attributes
    ----------
    lenses : of each camera its lens vector, see `lens_vector`.
    cameras : pose of each (first camera's frame to its own); the first stays where it is.
    boards : poses (board's frame to the first camera's).
    """

    lenses: dict[str, FloatArray]
    cameras: dict[str, Pose]
    boards: list[Pose]

    def moved(self, step: FloatArray) -> Estimate:
        """This estimate after a step (in the order lenses, cameras but the first, boards)."""
        names = list(self.lenses)
        parts = [*self.lenses.values(), *(self.cameras[n].vector for n in names[1:]), *(p.vector for p in self.boards)]
        ends = np.cumsum([len(part) for part in parts])
        changed = [part + change for part, change in zip(parts, np.split(step, ends[:-1]), strict=True)]
        first_board = 2 * len(names) - 1
        poses = [Pose.of(vector) for vector in changed[len(names) :]]
        return Estimate(
            dict(zip(names, changed[: len(names)], strict=True)),
            {names[0]: self.cameras[names[0]], **dict(zip(names[1:], poses, strict=False))},
            poses[first_board - len(names) :],
        )


def lens_vector(lens: Lens) -> FloatArray:
    """Focal lengths, optical centre and the lens's free distortion coefficients, (8 or 9,)."""
    free = lens.distortion if lens.distortion[4] else lens.distortion[:4]
    return np.concatenate([lens.matrix[[0, 1, 0, 1], [0, 1, 2, 2]], free])


def lens_of(vector: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Matrix (3, 3) and distortion (5,) of a lens vector."""
    fx, fy, cx, cy = vector[:4]
    matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return matrix, np.concatenate([vector[4:], np.zeros(9 - len(vector))])


def residuals(estimate: Estimate, views: Sequence[View], board: Board) -> list[FloatArray]:
    """Computed minus seen corners of each view, (k, 2) px."""
    result = []
    for view in views:
        vector = (estimate.cameras[view.camera] @ estimate.boards[view.board]).vector
        matrix, distortion = lens_of(estimate.lenses[view.camera])
        corners = board.corners[view.sighting.ids]
        computed = cv2.projectPoints(corners, vector[:3], vector[3:], matrix, distortion)[0][:, 0]
        result.append(computed - view.sighting.pixels)
    return result


def adjust(start: Estimate, views: Sequence[View], board: Board) -> Estimate:
    """The estimate with the least soft-L1 cost near a good start.

    Notes
    -----
    Levenberg-Marquardt on sparse normal equations: a picture ties only its lens, camera and board. (scipy's
    least_squares solves sparse problems by LSMR, which stalls on the correlation of lens and distance.)
    """
    best, damping = start, DAMPING
    cost = _cost(best, views, board)
    for _ in range(MAX_STEPS):
        matrix, gradient = _normal_equations(best, views, board)
        while damping < 1.0 / DAMPING:
            step = -splu(csc_matrix(matrix + damping * diags(matrix.diagonal()))).solve(gradient)
            trial = best.moved(step)
            trial_cost = _cost(trial, views, board)
            if trial_cost < cost:
                break
            damping *= 10.0
        else:
            return best
        gain = (cost - trial_cost) / cost
        best, cost, damping = trial, trial_cost, damping / 10.0
        if gain < SMALLEST_GAIN:
            return best
    return best


def _cost(estimate: Estimate, views: Sequence[View], board: Board) -> float:
    scaled = np.concatenate([part.ravel() for part in residuals(estimate, views, board)]) / OUTLIER_PX
    return float(np.sum(np.sqrt(1.0 + scaled**2) - 1.0))


def _normal_equations(estimate: Estimate, views: Sequence[View], board: Board) -> tuple[csc_matrix, FloatArray]:
    """J'WJ and J'Wr of all views; each row is weighted as the soft-L1 cost asks."""
    names = list(estimate.lenses)
    sizes = [*(len(vector) for vector in estimate.lenses.values()), *[6] * (len(names) - 1 + len(estimate.boards))]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows, columns, values = [], [], []
    gradient = np.zeros(starts[-1])
    for view, residual in zip(views, residuals(estimate, views, board), strict=True):
        camera = names.index(view.camera)
        blocks = _derivatives(estimate, view, board)
        places = [camera, *([len(names) + camera - 1] if camera else []), 2 * len(names) - 1 + view.board]
        used = [blocks[0], *([blocks[1]] if camera else []), blocks[2]]
        jacobian = np.column_stack(used)
        index = np.concatenate([np.arange(starts[place], starts[place + 1]) for place in places])
        weight = 1.0 / np.sqrt(1.0 + (residual.ravel() / OUTLIER_PX) ** 2)
        weighted = jacobian * weight[:, None]
        gradient[index] += weighted.T @ residual.ravel()
        rows.append(np.repeat(index, len(index)))
        columns.append(np.tile(index, len(index)))
        values.append((weighted.T @ jacobian).ravel())
    shape = (int(starts[-1]), int(starts[-1]))
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csc_matrix(entries, shape=shape), gradient


def _derivatives(estimate: Estimate, view: View, board: Board) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Derivatives of a view's pixels (2k,) by its lens vector, its camera's pose and its board's pose."""
    inner, outer = estimate.boards[view.board].vector, estimate.cameras[view.camera].vector
    chained = cv2.composeRT(inner[:3], inner[3:], outer[:3], outer[3:])
    vector = estimate.lenses[view.camera]
    matrix, distortion = lens_of(vector)
    corners = board.corners[view.sighting.ids]
    by = cv2.projectPoints(corners, chained[0], chained[1], matrix, distortion)[1]
    turn_inner, turn_shift_inner, turn_outer, turn_shift_outer = chained[2:6]
    shift_inner, shift_shift_inner, shift_outer, shift_shift_outer = chained[6:10]
    by_turn, by_shift = by[:, :3], by[:, 3:6]
    of_board = np.column_stack(
        [by_turn @ turn_inner + by_shift @ shift_inner, by_turn @ turn_shift_inner + by_shift @ shift_shift_inner]
    )
    of_camera = np.column_stack(
        [by_turn @ turn_outer + by_shift @ shift_outer, by_turn @ turn_shift_outer + by_shift @ shift_shift_outer]
    )
    return by[:, 6 : 6 + len(vector)], of_camera, of_board
