"""Labels that people exchange: two markers mended where the map knows their order, whole sides refused."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_set import MarkerSet
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

MARGIN_M = 0.02  # two markers nearer than this, or in wrong order by less, may lie so on a person
AXES = {"ahead of": 0, "above": 1, "outside of": 2}  # in OpenSim's frame; outside is to the left for the left side
SIDED = ("Knee", "Ankle", "Heel", "Shoulder")  # keypoints whose markers tell left from right


def mend_exchanged(markers: Markers, marker_set: MarkerSet) -> tuple[Markers, tuple[str, ...]]:
    """Exchange the labels of marker pairs that lie in impossible order, and say so.

    Parameters
    ----------
    markers : in OpenSim's frame, m.

    Raises
    ------
    ExoError : if exchanging them does not bring every pair into order.
    """
    wrong = _wrong_order(markers, marker_set)
    names = list(markers.names)
    for first, second, _ in wrong:
        i, j = names.index(first), names.index(second)
        names[i], names[j] = names[j], names[i]
    mended = dataclasses.replace(markers, names=tuple(names))
    if still := _wrong_order(mended, marker_set):
        suspects = dict.fromkeys(name for first, second, _ in (*wrong, *still) for name in (first, second))
        raise ExoError(
            f"markers {', '.join(suspects)} do not lie where the set {marker_set.name} puts them; correct the labels"
        )
    notes = tuple(
        f"the labels {first} and {second} were exchanged ({first} must lie {relation} {second}); mended"
        for first, second, relation in wrong
    )
    return mended, notes


def _wrong_order(markers: Markers, marker_set: MarkerSet) -> list[tuple[str, str, str]]:
    """Pairs of the map that lie the other way round in most frames, and how they should lie."""
    wrong = []
    for relation, pairs in marker_set.order.items():
        for first, second in pairs:
            if first in markers.names and second in markers.names:
                gap = (_of(markers, first) - _of(markers, second))[:, AXES[relation]]
                if relation == "outside of" and marker_set.side_of(first) == "l":
                    gap = -gap
                seen = gap[np.isfinite(gap)]
                if len(seen) and float(np.median(seen)) < -MARGIN_M:
                    wrong.append((first, second, relation))
    return wrong


def refuse_exchanged_sides(markers: Markers, marker_set: MarkerSet) -> None:
    """Left and right of pelvis, legs and shoulders against the direction in which the feet point (+x).

    Raises
    ------
    ExoError : naming what is exchanged.
    """
    pairs: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    pairs["pelvis"] = ((marker_set.pelvis["asis_l"],), (marker_set.pelvis["asis_r"],))
    for joint in SIDED:
        left, right = (marker_set.keypoints.get(f"{side}{joint}") for side in ("L", "R"))
        if left and right and all(name in markers.names for name in (*left.midpoint, *right.midpoint)):
            pairs[joint.lower()] = (left.midpoint, right.midpoint)
    exchanged = []
    for part, (left_names, right_names) in pairs.items():
        apart = np.mean([_of(markers, name)[:, 2] for name in right_names], axis=0)
        apart = apart - np.mean([_of(markers, name)[:, 2] for name in left_names], axis=0)
        if np.isfinite(apart).any() and float(np.nanmedian(apart)) < 0.0:
            exchanged.append(part)
    if exchanged:
        what = "all markers" if len(exchanged) == len(pairs) else ", ".join(exchanged)
        raise ExoError(f"left and right are exchanged at {what} (the feet tell ahead from behind); correct the labels")


def _of(markers: Markers, name: str) -> FloatArray:
    return markers.position[:, markers.names.index(name)]
