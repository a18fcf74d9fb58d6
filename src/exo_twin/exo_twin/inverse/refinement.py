"""Body sizes and marker places mended together with the poses, so that one model fits every frame.

Scaling by distances and placing markers in one static pose leave errors that a
walk shows: a joint centre or a marker that is wrong in one posture is wrong the
other way in another. Here sizes, places and all poses are the most probable ones
given the recording (the bilevel problem of AddBiomechanics, Werling et al. 2023,
PLoS ONE 18:e0295152), found by Gauss-Newton. Every frame touches only its own
pose and the shared measures, so poses are eliminated frame by frame (Schur complement).

What markers cannot tell apart is settled by what was known before: anatomical
landmarks stay where the static trial put them, so that "pelvis" and "knee axis"
keep their anatomical meaning (`Refinement.turns_deg` says how well); markers without a landmark follow the body.

The standard deviations below are published figures and round numbers. The comfortable walks of the 12 wearers of
Schreiber & Moissenet (Sci Data 2019, 6:111) were looked at while they were chosen, so residuals on these are no
independent test.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers
from exo_twin.inverse.kinematic_tree import KinematicTree, Posed, pose

FloatArray = NDArray[np.float64]

FRAMES = 50  # of the walk, spread over it; more change nothing
STATIC_WEIGHT = 10.0  # a quiet stance counts as so many frames, for it was recorded to place the markers
# Skin moves over bone: SD per axis, m, of a marker of weight 3; others by the root of the weights' ratio.
SKIN_SD, SKIN_WEIGHT = 0.008, 3.0
# How far a marker may be from where the static pose put it, SD per axis, m: those that define the pelvis' axes,
# other anatomical landmarks (an examiner repeats them within 3-5 mm; Della Croce et al. 2005, Gait Posture 21:226),
# and markers that are no landmarks.
PELVIS_SD, LANDMARK_SD, FREE_SD = 0.001, 0.003, 0.015
# How far two landmarks of a thigh or shank (epicondyles, malleoli) may move against each other, SD per axis, m: their
# line is the joint's axis. Together they move as other landmarks do.
AXIS_SD = 0.001
AXIS_BODIES = ("femur", "tibia")
SIZE_SD = 0.05  # of the logarithm of a segment's factor
POSE_SD = 3.0  # rad or m: only for coordinates that no marker tells
SETTLE_ROUNDS, ROUNDS = 12, 12
DAMPING, DAMPING_DOWN, DAMPING_UP = 10.0, 0.2, 10.0  # of poses, as the inverse of their prior variance
DONE = 1e-6  # relative change of the cost
PELVIS = "pelvis"


@dataclasses.dataclass(frozen=True)
class Refinement:
    """What the recording says beyond scaling and placing.

    Attributes
    ----------
    factors : body -> factor on its present size.
    places : marker -> (3,) m, new place in its body after that scaling.
    rms_before, rms_after : m, root mean square over the walk's frames and the markers that take part.
    segments : segment of the marker set -> factor on its present size.
    turns_deg : thigh or shank -> how far the line through its two landmarks, the knee's or ankle's axis, turned in it.
    """

    factors: dict[str, float]
    places: dict[str, FloatArray]
    rms_before: float
    rms_after: float
    segments: dict[str, float]
    turns_deg: dict[str, float]

    def quality(self) -> dict[str, Any]:
        """Figures for a report."""
        return {
            "marker_rms_mm_before": round(1e3 * self.rms_before, 1),
            "marker_rms_mm_after": round(1e3 * self.rms_after, 1),
            "size_factors": {name: round(factor, 4) for name, factor in self.segments.items()},
            "axis_turns_deg": {body: round(turn, 1) for body, turn in self.turns_deg.items()},
        }


def refine(tree: KinematicTree, walk: Markers, static: Markers | None, marker_set: MarkerSet) -> Refinement:
    """Mend a scaled model with placed markers.

    Parameters
    ----------
    tree : of the scaled model, with its markers.
    walk, static : in OpenSim's frame, m, gaps NaN; of a static trial one frame is used.

    Raises
    ------
    ExoError : if no marker of the set is both on the model and in the recording.
    """
    names = [
        name
        for name in tree.markers
        if name in walk.names and name in marker_set.markers and marker_set.markers[name].weight > 0.0
    ]
    if not names:
        raise ExoError(f"no marker of the set {marker_set.name} is in the recording; choose the right marker set")
    tree = tree.select(names)
    frames = np.unique(np.linspace(0, len(walk.time) - 1, FRAMES).round().astype(int))
    measured, weight = _placed(walk, names)[frames], np.ones(len(frames))
    if static is not None:
        measured = np.concatenate([measured, _placed(static, names)[[len(static.time) // 2]]])
        weight = np.append(weight, STATIC_WEIGHT)
    search = _Search(tree, measured, weight, marker_set)
    search.run(SETTLE_ROUNDS, shared=False)
    before = search.rms(len(frames))
    search.run(ROUNDS, shared=True)
    factors = np.exp(search.groups @ search.size)
    places = factors[tree.marker_body][:, None] * tree.marker_place + search.shift
    return Refinement(
        dict(zip(tree.bodies, map(float, factors), strict=True)),
        dict(zip(names, places, strict=True)),
        before,
        search.rms(len(frames)),
        dict(zip(marker_set.scaling, map(float, np.exp(search.size)), strict=True)),
        {
            tree.bodies[tree.marker_body[i]]: _turn_deg(
                tree.marker_place[i] - tree.marker_place[j], places[i] - places[j]
            )
            for i, j in _axes(names, marker_set)
        },
    )


def _placed(markers: Markers, names: Sequence[str]) -> FloatArray:
    """Positions (n, k, 3) of these markers, NaN for one that is not there."""
    result = np.full((len(markers.time), len(names), 3), np.nan)
    for i, name in enumerate(names):
        if name in markers.names:
            result[:, i] = markers.position[:, markers.names.index(name)]
    return result


class _Search:
    """Poses (n, n_q), log factors (segments,) and shifts (k, 3), and the cost that they minimise."""

    def __init__(self, tree: KinematicTree, measured: FloatArray, weight: FloatArray, marker_set: MarkerSet) -> None:
        self.tree = tree
        self.groups = _groups(tree, marker_set.scaling)
        places = [marker_set.markers[name] for name in tree.markers]
        self.seen: NDArray[np.bool_] = np.asarray(np.isfinite(measured).all(axis=2))
        self.measured = np.where(self.seen[..., None], measured, 0.0)
        self.skin = np.sqrt([place.weight / SKIN_WEIGHT for place in places]) / SKIN_SD
        self.weight = self.seen * self.skin * np.sqrt(weight)[:, None]
        self.shift_precision = _shift_precision(tree.markers, marker_set)
        self.free = ~tree.locked
        self.lower = np.where(tree.clamped, tree.lower, -np.inf)
        self.upper = np.where(tree.clamped, tree.upper, np.inf)
        self.q = np.tile(tree.default, (len(measured), 1))
        self.size, self.shift = np.zeros(self.groups.shape[1]), np.zeros((len(places), 3))
        self.posed = self._pose(self.q, self.size, self.shift)
        off = np.sum((self.measured - self.posed.position) * self.seen[..., None], axis=1)
        off /= np.maximum(self.seen.sum(axis=1), 1)[:, None]
        for axis, name in enumerate(("pelvis_tx", "pelvis_ty", "pelvis_tz")):
            self.q[:, tree.index(name)] += off[:, axis]
        self.posed = self._pose(self.q, self.size, self.shift)

    def run(self, rounds: int, shared: bool) -> None:
        """Improve poses, and with `shared` sizes and places, too."""
        damping, cost = DAMPING, self._cost(self.posed, self.size, self.shift)
        for _ in range(rounds):
            by_pose, by_shared = self._step(damping, shared)
            s = len(self.size)
            moved = np.clip(self.q + by_pose * self.free, self.lower, self.upper)
            trial = (moved, self.size + by_shared[:s], self.shift + by_shared[s:].reshape(-1, 3))
            posed = self._pose(*trial)
            new = self._cost(posed, *trial[1:])
            if new < cost:
                (self.q, self.size, self.shift), self.posed = trial, posed
                finished = cost - new < DONE * cost
                cost, damping = new, damping * DAMPING_DOWN
                if finished:
                    break
            else:
                damping *= DAMPING_UP

    def rms(self, frames: int) -> float:
        """Distance of markers and model, m, over the first frames."""
        squares = np.sum((self.measured - self.posed.position) ** 2, axis=2)[:frames]
        return float(np.sqrt(squares[self.seen[:frames]].mean()))

    def _pose(self, q: FloatArray, size: FloatArray, shift: FloatArray) -> Posed:
        return pose(self.tree, q, np.exp(self.groups @ size), shift)

    def _residual(self, posed: Posed) -> FloatArray:
        return ((self.measured - posed.position) * self.weight[..., None]).reshape(len(self.measured), -1)

    def _cost(self, posed: Posed, size: FloatArray, shift: FloatArray) -> float:
        prior = np.sum((size / SIZE_SD) ** 2) + np.sum(shift * (self.shift_precision @ shift))
        return float(np.sum(self._residual(posed) ** 2) + prior)

    def _step(self, damping: float, shared: bool) -> tuple[FloatArray, FloatArray]:
        """Change of the poses (n, n_q) and of sizes and shifts in a row."""
        n, k, n_q, s = len(self.q), len(self.shift), self.q.shape[1], len(self.size)
        residual = self._residual(self.posed)
        weight = self.weight[..., None, None]
        by_q = (self.posed.by_coordinate * weight * self.free).reshape(n, 3 * k, n_q)
        own = np.einsum("nij,nik->njk", by_q, by_q) + np.eye(n_q) * (damping + POSE_SD**-2)
        right = np.einsum("nij,ni->nj", by_q, residual)[..., None]
        if not shared:
            return np.linalg.solve(own, right)[..., 0], np.zeros(s + 3 * k)
        factors = np.exp(self.groups @ self.size)
        by_shared = np.zeros((n, k, 3, s + 3 * k))
        by_shared[..., :s] = np.einsum("nkib,b,bg->nkig", self.posed.by_scale, factors, self.groups) * weight
        for i in range(k):
            by_shared[:, i, :, s + 3 * i : s + 3 * i + 3] = self.posed.rotation[:, i] * weight[:, i]
        flat = by_shared.reshape(n, 3 * k, -1)
        mixed = np.einsum("nij,nik->njk", by_q, flat)
        precision = np.zeros((s + 3 * k, s + 3 * k))
        precision[:s, :s] = np.eye(s) * SIZE_SD**-2
        precision[s:, s:] = np.kron(self.shift_precision, np.eye(3))
        together = np.einsum("nij,nik->jk", flat, flat, optimize=True) + precision
        toward = np.einsum("nij,ni->j", flat, residual) - precision @ np.concatenate([self.size, self.shift.ravel()])
        solved = np.linalg.solve(own, np.concatenate([mixed, right], axis=2))
        without, alone = solved[..., :-1], solved[..., -1]
        step = np.linalg.solve(
            together - np.einsum("njk,njl->kl", mixed, without, optimize=True),
            toward - np.einsum("njk,nj->k", mixed, alone),
        )
        return alone - without @ step, step


def _turn_deg(before: FloatArray, after: FloatArray) -> float:
    """Angle between two directions (3,), degrees."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(before, after)), before @ after)))


def _axes(names: Sequence[str], marker_set: MarkerSet) -> list[tuple[int, int]]:
    """Pairs of markers (by their index) that are landmarks of the same thigh or shank."""
    places = [marker_set.markers[name] for name in names]
    own = [i for i, place in enumerate(places) if place.location is not None and place.body[:-2] in AXIS_BODIES]
    return [(i, j) for i, j in itertools.combinations(own, 2) if places[i].body == places[j].body]


def _shift_precision(names: Sequence[str], marker_set: MarkerSet) -> FloatArray:
    """(k, k) inverse covariance of the markers' shifts along any axis, 1/m^2."""
    places = [marker_set.markers[name] for name in names]
    own = [FREE_SD if p.location is None else PELVIS_SD if p.body == PELVIS else LANDMARK_SD for p in places]
    precision: FloatArray = np.diag(np.power(own, -2.0))
    for i, j in _axes(names, marker_set):
        precision[np.ix_((i, j), (i, j))] += np.array([[1.0, -1.0], [-1.0, 1.0]]) * AXIS_SD**-2
    return precision


def _groups(tree: KinematicTree, scaling: Mapping[str, tuple[object, tuple[str, ...]]]) -> FloatArray:
    """(n_bodies, segments): which bodies each segment of the marker set's scaling holds."""
    groups = np.zeros((len(tree.bodies), len(scaling)))
    for j, (_, stems) in enumerate(scaling.values()):
        groups[[i for i, body in enumerate(tree.bodies) if body in stems or body[:-2] in stems], j] = 1.0
    return groups
