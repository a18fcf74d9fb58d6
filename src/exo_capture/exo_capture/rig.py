"""Where several cameras stand, from moments at which they see the same board at once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix

from exo_capture.boards import Board, Sighting
from exo_capture.cameras import Camera
from exo_capture.lens import Lens
from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]
# Of one moment: which cameras saw the board, and where.
Moment = Mapping[str, Sighting]

OUTLIER_PX = 1.0  # beyond it a corner's pull no longer grows with its distance
MAX_STEPS = 100  # of the adjustment; from a good start it needs ten
# Poses of one board that differ by more than this (rad, and relative to the distance) contradict each other.
AGREEMENT = 0.1
# The second of the two attitudes in which a flat board looks nearly the same fits this much worse if it is wrong.
CLEARLY_WORSE = 1.5
# Room axes in the board's: x along its columns, z up out of the paper.
BOARD_FROM_ROOM = np.diag([1.0, -1.0, -1.0])


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
class Rig:
    """Calibrated cameras in one room.

    Attributes
    ----------
    cameras : in the order of the lenses given.
    error_px : of each camera, root mean square distance between seen and computed corners.
    sightings : of each camera, moments at which it saw the board.
    boards : middle of the board at each moment in the room, (moments, 3) m.
    doubtful : cameras whose place hangs on one view of a board that fits two attitudes.
    """

    cameras: tuple[Camera, ...]
    error_px: dict[str, float]
    sightings: dict[str, int]
    boards: FloatArray
    doubtful: tuple[str, ...]


def calibrate_rig(lenses: Mapping[str, Lens], moments: Sequence[Moment], board: Board, floor: int | None) -> Rig:
    """Places and attitudes of cameras with known lenses.

    Parameters
    ----------
    moments : what the cameras saw at each moment.
    floor : index of the moment at which the board lay on the floor, face up: its middle becomes the room's origin,
        z up, x along its columns. None: the room is the first camera's frame.

    Raises
    ------
    ExoError : if a camera shares no moment with the others, or the board at the floor was not seen.
    """
    names = list(lenses)
    candidates = {
        (name, m): _attitudes(sighting, board, lenses[name])
        for m, moment in enumerate(moments)
        for name, sighting in moment.items()
    }
    from_reference = _chain(names, candidates)
    boards = [
        _place_board([name for name in names if (name, m) in candidates], m, candidates, from_reference)
        for m in range(len(moments))
    ]
    poses, boards, errors = _adjust(lenses, moments, board, from_reference, boards)
    origin = Pose(np.eye(3), np.zeros(3))
    if floor is not None:
        origin = boards[floor] @ Pose(BOARD_FROM_ROOM, board.centre)
    cameras = []
    for name in names:
        pose = poses[name] @ origin
        lens = lenses[name]
        cameras.append(Camera(name, lens.size, lens.matrix, lens.distortion, pose.rotation, pose.translation))
    doubtful = []
    for name in names:
        own = [found for (who, _), found in candidates.items() if who == name]
        if len(own) == 1 and len(own[0]) > 1 and own[0][1][1] < CLEARLY_WORSE * own[0][0][1]:
            doubtful.append(name)
    middles = [origin.inverse @ pose @ Pose(np.eye(3), board.centre) for pose in boards]
    return Rig(
        tuple(cameras),
        errors,
        {name: sum(name in moment for moment in moments) for name in names},
        np.array([middle.translation for middle in middles]),
        tuple(doubtful),
    )


Candidates = Mapping[tuple[str, int], list[tuple[Pose, float]]]


def _attitudes(sighting: Sighting, board: Board, lens: Lens) -> list[tuple[Pose, float]]:
    """The one or two poses in which the flat board looks like this, and their errors in px, best first."""
    corners = board.corners[sighting.ids]
    _, turns, shifts, _ = cv2.solvePnPGeneric(
        corners, sighting.pixels, lens.matrix, lens.distortion, flags=cv2.SOLVEPNP_IPPE
    )
    found = []
    for turn, shift in zip(turns, shifts, strict=True):
        turn, shift = cv2.solvePnPRefineLM(corners, sighting.pixels, lens.matrix, lens.distortion, turn, shift)
        seen = cv2.projectPoints(corners, turn, shift, lens.matrix, lens.distortion)[0][:, 0]
        error = float(np.sqrt(np.mean(np.sum((seen - sighting.pixels) ** 2, axis=1))))
        found.append((Pose(np.asarray(cv2.Rodrigues(turn)[0]), np.ravel(shift)), error))
    return sorted(found, key=lambda item: item[1])


def _chain(names: Sequence[str], candidates: Candidates) -> dict[str, Pose]:
    """Pose of each camera (first camera's frame to its own) along the pairs with most common moments."""
    seen_at = {name: {m for who, m in candidates if who == name} for name in names}
    known = {names[0]: Pose(np.eye(3), np.zeros(3))}
    while len(known) < len(names):
        links = [
            (len(seen_at[a] & seen_at[b]), a, b)
            for a in known
            for b in names
            if b not in known and seen_at[a] & seen_at[b]
        ]
        if not links:
            alone = [name for name in names if name not in known]
            raise ExoError(
                f"no picture shows the board to {', '.join(alone)} and to {', '.join(known)} at once; "
                "hold it where their views overlap, or lay it on the floor, and give the pictures the same name"
            )
        _, a, b = max(links, key=lambda link: link[0])
        known[b] = _relative(a, b, sorted(seen_at[a] & seen_at[b]), candidates) @ known[a]
    return known


def _relative(a: str, b: str, common: Sequence[int], candidates: Candidates) -> Pose:
    """Pose from camera a's frame to camera b's on which most common moments agree."""
    poses, errors, moment = [], [], []
    for m in common:
        for (of_a, error_a), (of_b, error_b) in itertools.product(candidates[a, m], candidates[b, m]):
            poses.append(of_b @ of_a.inverse)
            errors.append(error_a + error_b)
            moment.append(m)
    turns, shifts = np.array([p.rotation for p in poses]), np.array([p.translation for p in poses])
    cosine = (np.einsum("iab,jab->ij", turns, turns) - 1.0) / 2.0
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    scale = max(float(np.median(np.linalg.norm(shifts, axis=1))), 1e-6)
    difference = angle + np.linalg.norm(shifts[:, None] - shifts[None], axis=2) / scale
    cost = np.zeros(len(poses))
    for m in common:
        cost += np.minimum(difference[:, np.array(moment) == m].min(axis=1), AGREEMENT)
    # Equal support is decided by how well the board's attitude fits the pictures.
    return poses[int(np.lexsort((np.array(errors), np.round(cost, 6)))[0])]


def _place_board(names: Sequence[str], m: int, candidates: Candidates, cameras: Mapping[str, Pose]) -> Pose:
    """Pose of the board at a moment (its frame to the first camera's) that the cameras agree on best."""
    options = [(cameras[name].inverse @ pose, error) for name in names for pose, error in candidates[name, m]]

    def disagreement(option: tuple[Pose, float]) -> tuple[float, float]:
        total = 0.0
        for name in names:
            expected = cameras[name] @ option[0]
            total += min(
                float(np.linalg.norm(expected.rotation - pose.rotation))
                + float(np.linalg.norm(expected.translation - pose.translation) / np.linalg.norm(pose.translation))
                for pose, _ in candidates[name, m]
            )
        return round(total, 6), option[1]

    return min(options, key=disagreement)[0]


def _adjust(
    lenses: Mapping[str, Lens],
    moments: Sequence[Moment],
    board: Board,
    cameras: Mapping[str, Pose],
    boards: Sequence[Pose],
) -> tuple[dict[str, Pose], list[Pose], dict[str, float]]:
    """Bundle adjustment: all cameras but the first, and all boards, so that all corners fit best."""
    names = list(lenses)
    moved = names[1:]
    views = [(name, m, sighting) for m, moment in enumerate(moments) for name, sighting in moment.items()]
    rows = np.cumsum([0, *(2 * len(sighting.ids) for _, _, sighting in views)])

    def unpack(x: FloatArray) -> tuple[dict[str, Pose], list[Pose]]:
        parts = [Pose.of(part) for part in x.reshape(-1, 6)]
        return {names[0]: cameras[names[0]], **dict(zip(moved, parts, strict=False))}, parts[len(moved) :]

    def residuals(x: FloatArray) -> FloatArray:
        poses, placed = unpack(x)
        result = np.empty(rows[-1])
        for (name, m, sighting), start, stop in zip(views, rows, rows[1:], strict=False):
            pose, lens = poses[name] @ placed[m], lenses[name]
            vector = pose.vector
            corners = board.corners[sighting.ids]
            seen = cv2.projectPoints(corners, vector[:3], vector[3:], lens.matrix, lens.distortion)[0][:, 0]
            result[start:stop] = (seen - sighting.pixels).ravel()
        return result

    depends = lil_matrix((int(rows[-1]), 6 * (len(moved) + len(boards))), dtype=np.int8)
    for (name, m, _), start, stop in zip(views, rows, rows[1:], strict=False):
        if name in moved:
            depends[start:stop, 6 * moved.index(name) : 6 * moved.index(name) + 6] = 1
        depends[start:stop, 6 * (len(moved) + m) : 6 * (len(moved) + m) + 6] = 1
    start_at = np.concatenate([pose.vector for pose in (*(cameras[name] for name in moved), *boards)])
    solution = least_squares(
        residuals, start_at, jac_sparsity=depends, loss="soft_l1", f_scale=OUTLIER_PX, x_scale="jac", max_nfev=MAX_STEPS
    )
    poses, placed = unpack(solution.x)
    left = residuals(solution.x)
    errors = {}
    for name in names:
        own = [left[start:stop] for (who, _, _), start, stop in zip(views, rows, rows[1:], strict=False) if who == name]
        errors[name] = float(np.sqrt(2.0 * np.mean(np.concatenate(own) ** 2)))
    return poses, placed, errors
