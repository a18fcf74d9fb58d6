"""Where several cameras stand, from moments at which they see the same board at once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from exo_capture.boards import Board, Sighting
from exo_capture.bundle import Estimate, Pose, View, adjust, lens_of, lens_vector, residuals
from exo_capture.cameras import Camera
from exo_capture.lens import Lens
from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]
# Of one moment: which cameras saw the board, and where.
Moment = Mapping[str, Sighting]

# Poses of one board that differ by more than this (rad, and relative to the distance) contradict each other.
AGREEMENT = 0.1
# The second of the two attitudes in which a flat board looks nearly the same fits this much worse if it is wrong.
CLEARLY_WORSE = 1.5
# Room axes in the board's: x along its columns, z up out of the paper.
BOARD_FROM_ROOM = np.diag([1.0, -1.0, -1.0])


@dataclasses.dataclass(frozen=True)
class Rig:
    """Calibrated cameras in one room.

    Attributes
    ----------
    cameras : in the order of the lenses given, their lenses refined together with their places.
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
    """Places and attitudes of cameras, and their lenses refined with them.

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
    views = [View(name, m, sighting) for m, moment in enumerate(moments) for name, sighting in moment.items()]
    in_room = len(views)
    # The pictures taken for the lenses take part, so that no lens bends to hide that its camera was moved.
    for name, lens in lenses.items():
        for sighting, vector in zip(lens.sightings, lens.poses, strict=True):
            views.append(View(name, len(boards), sighting))
            boards.append(from_reference[name].inverse @ Pose.of(vector))
    fit = adjust(Estimate({n: lens_vector(lens) for n, lens in lenses.items()}, from_reference, boards), views, board)
    squares = [np.sum(residual**2, axis=1) for residual in residuals(fit, views[:in_room], board)]
    origin = Pose(np.eye(3), np.zeros(3))
    if floor is not None:
        origin = fit.boards[floor] @ Pose(BOARD_FROM_ROOM, board.centre)
    cameras, errors = [], {}
    for name in names:
        pose = fit.cameras[name] @ origin
        matrix, distortion = lens_of(fit.lenses[name])
        cameras.append(Camera(name, lenses[name].size, matrix, distortion, pose.rotation, pose.translation))
        own = [square for view, square in zip(views, squares, strict=False) if view.camera == name]
        errors[name] = float(np.sqrt(np.mean(np.concatenate(own)))) if own else 0.0
    doubtful = []
    for name in names:
        seen = [attitudes for (who, _), attitudes in candidates.items() if who == name]
        if len(seen) == 1 and len(seen[0]) > 1 and seen[0][1][1] < CLEARLY_WORSE * seen[0][0][1]:
            doubtful.append(name)
    middles = [origin.inverse @ pose @ Pose(np.eye(3), board.centre) for pose in fit.boards[: len(moments)]]
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
