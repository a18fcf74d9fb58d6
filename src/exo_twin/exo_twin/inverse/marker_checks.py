"""What markers and their misfit say about the recording: wrong units, exchanged labels, wild or missing markers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.tree_motion import TreeMotion

if TYPE_CHECKING:
    from exo_twin.inverse.marker_ik import MarkerIk

FloatArray = NDArray[np.float64]

SPREAD_LIMITS = (0.3, 3.0)  # of the recording's markers over the model's; a person bends and stretches, no more
UNITS = ((1e3, "mm"), (1e2, "cm"), (1e-2, "m divided by 100"), (1e-3, "m divided by 1000"))
# A marker this far off in this share of the frames may carry another one's label.
SUSPECT_M, SUSPECT_SHARE = 0.06, 0.25
EXCHANGE_GAIN = 0.5  # of the misfit, by which an exchange must lower it
SAMPLE_FRAMES = 7  # in which exchanges are tried
MIRROR_M = 0.08  # markers whose places are mirror images to this are a pair
LEG, ARM = ("femur", "tibia", "talus", "calcn", "toes"), ("humerus", "ulna", "radius", "hand")
PARTS = {"all markers": ("",), "the legs": LEG, "the arms": ARM, "the pelvis": ("pelvis",), "the thighs": ("femur",),
         "the shanks": ("tibia",), "the feet": ("talus", "calcn", "toes")}  # fmt: skip
PAIRS_TRIED = 6
NAMED = 4  # markers that get a sentence of their own


def check_units(motion: TreeMotion, tree: KinematicTree, measured: FloatArray, seen: NDArray[np.bool_]) -> None:
    """Compare how far the markers spread with how far they do on the model.

    Raises
    ------
    ExoError : if the recording cannot be in m.
    """
    frame = int(seen.sum(axis=1).argmax())
    on_model = motion.markers(motion.place(tree.default[None]))[0]
    ratio = _spread(measured[frame][seen[frame]]) / _spread(on_model[seen[frame]])
    if SPREAD_LIMITS[0] <= ratio <= SPREAD_LIMITS[1]:
        return
    unit = min(UNITS, key=lambda u: abs(np.log(ratio / u[0])))
    raise ExoError(
        f"the markers spread {ratio:.3g} times as far as on the model: the recording is not in m but "
        f"probably in {unit[1]}; correct its unit of length"
    )


def _spread(points: FloatArray) -> float:
    return float(np.median(np.linalg.norm(points - np.median(points, axis=0), axis=1)))


def dropped_sentences(
    names: Sequence[str], time: FloatArray, distance: FloatArray, dropped: NDArray[np.bool_]
) -> list[str]:
    """Which samples (n, k) were left out: a sentence per marker, the most frequent first."""
    often = dropped.sum(axis=0)
    worst = [int(i) for i in np.argsort(-often, kind="stable") if often[i]]
    found = []
    for i in worst[:NAMED]:
        found.append(
            f"marker {names[i]} lies {np.median(distance[dropped[:, i], i]):.2f} m from where the others put it "
            f"{_when(time, dropped[:, [i]])} and was left out there; check its label"
        )
    if worst[NAMED:]:
        rest = dropped[:, worst[NAMED:]]
        found.append(f"so do {', '.join(names[i] for i in worst[NAMED:])} {_when(time, rest)}; labels may be exchanged")
    return found


def untold_sentences(coordinates: Sequence[str], time: FloatArray, untold: NDArray[np.bool_]) -> list[str]:
    """A sentence on coordinates that are not told where markers are missing (n, f)."""
    names = [name for name, column in zip(coordinates, untold.T, strict=True) if column.any()]
    if not names:
        return []
    return [f"markers are missing and {', '.join(names)} guessed {_when(time, untold)}"]


def _when(time: FloatArray, samples: NDArray[np.bool_]) -> str:
    """In words, the frames with any of some samples (n, m)."""
    at = time[np.flatnonzero(samples.any(axis=1))]
    if len(at) == len(time):
        return "in every frame"
    if len(at) == 1:
        return f"in one frame at {at[0]:.2f} s"
    return f"in {len(at)} frames from {at[0]:.2f} to {at[-1]:.2f} s"


def find_exchanged(
    ik: MarkerIk, measured: FloatArray, seen: NDArray[np.bool_], q: FloatArray, distance: FloatArray
) -> list[str]:
    """Sentences about labels that seem to be exchanged, by the misfit with and without an exchange.

    Parameters
    ----------
    measured, seen : (n, k, 3) m and (n, k).
    q : (n, n_coordinates) as solved. distance : (n, k) m, of the markers from the model, NaN where missing.
    """
    names = ik.tree.markers
    high = 100.0 * (1.0 - SUSPECT_SHARE)
    usual = np.array([np.nanpercentile(column, high) if np.isfinite(column).any() else 0.0 for column in distance.T])
    suspects = np.flatnonzero(usual > SUSPECT_M)
    if not len(suspects):
        return []
    sample = np.unique(np.linspace(0, len(q) - 1, SAMPLE_FRAMES).round().astype(int))
    mirror = mirror_pairs(ik.tree)
    before = _misfit(ik, measured[sample], seen[sample], np.arange(len(names)))
    trials: list[tuple[float, str, str]] = []
    for what, stems in PARTS.items():
        order = _exchanged(ik.tree, mirror, stems)
        if np.isin(suspects, np.flatnonzero(order != np.arange(len(names)))).any():
            trials.append((_misfit(ik, measured[sample], seen[sample], order), f"left and right of {what}", ""))
    pairs = [(i, j) for i, j in mirror.items() if i < j and (i in suspects or j in suspects)]
    for i, j in {*pairs, *_likely_pairs(ik, measured, seen, q, suspects, usual)}:
        order = np.arange(len(names))
        order[[i, j]] = j, i
        trials.append((_misfit(ik, measured[sample], seen[sample], order), f"{names[i]} and {names[j]}", "markers "))
    found = min(trials, default=(np.inf, "", ""))
    if found[0] > EXCHANGE_GAIN * before:
        return []
    return [
        f"the labels of {found[2]}{found[1]} seem to be exchanged (the markers miss the model by {1e3 * before:.0f} mm "
        f"RMS, by {1e3 * found[0]:.0f} mm with the labels the other way round); correct the labels"
    ]


def mirror_pairs(tree: KinematicTree) -> dict[int, int]:
    """Marker -> marker in the mirrored place, both ways."""
    bodies = [tree.bodies[b] for b in tree.marker_body]
    other = {"_l": "_r", "_r": "_l"}
    mirrored = tree.marker_place * np.array([1.0, 1.0, -1.0])
    pairs: dict[int, int] = {}
    for i, body in enumerate(bodies):
        twin = body[:-2] + other[body[-2:]] if body[-2:] in other else body
        apart = np.linalg.norm(tree.marker_place - mirrored[i], axis=1)
        apart[[b != twin for b in bodies]] = np.inf
        j = int(apart.argmin())
        if j != i and apart[j] < MIRROR_M:
            pairs[i] = j
    return {i: j for i, j in pairs.items() if pairs.get(j) == i}


def _exchanged(tree: KinematicTree, mirror: dict[int, int], stems: Sequence[str]) -> NDArray[np.int64]:
    """Order of the markers after an exchange of left and right on bodies whose names begin so."""
    order = np.arange(len(tree.markers))
    for i, j in mirror.items():
        if tree.bodies[tree.marker_body[i]].startswith(tuple(stems)):
            order[i] = j
    return order


def _likely_pairs(
    ik: MarkerIk,
    measured: FloatArray,
    seen: NDArray[np.bool_],
    q: FloatArray,
    suspects: NDArray[np.int64],
    usual: FloatArray,
) -> list[tuple[int, int]]:
    """Pairs of far-off markers of which each lies near the other's place on the model, the likeliest first."""
    on_model = ik.motion.markers(ik.motion.place(q))
    found = []
    for a, i in enumerate(suspects):
        for j in suspects[a + 1 :]:
            both = seen[:, i] & seen[:, j]
            if both.any():
                crossed = [
                    float(np.median(np.linalg.norm(measured[both, m] - on_model[both, o], axis=1)))
                    for m, o in ((i, j), (j, i))
                ]
                if sum(crossed) < usual[i] + usual[j]:
                    found.append((sum(crossed) / (usual[i] + usual[j]), int(i), int(j)))
    return [(i, j) for _, i, j in sorted(found)[:PAIRS_TRIED]]


def _misfit(ik: MarkerIk, measured: FloatArray, seen: NDArray[np.bool_], order: NDArray[np.int64]) -> float:
    """RMS distance, m, of the best poses if the labels were in another order: no sample left out, median frame."""
    places, there = measured[:, order], seen[:, order]
    weight = np.where(there, ik.weight, 0.0)
    start, _ = ik.from_scratch(places, weight)
    q = ik.solver.solve(places, weight, start, start).q
    square = ((places - ik.motion.markers(ik.motion.place(q))) ** 2).sum(axis=2)
    return float(np.sqrt(np.median((square * there).sum(axis=1) / there.sum(axis=1))))
