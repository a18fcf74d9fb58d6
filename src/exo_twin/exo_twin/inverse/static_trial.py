"""Whether a static trial belongs to the walk that it is to place the markers for."""

from __future__ import annotations

import itertools

import numpy as np

from exo_capture.marker_set import MarkerSet
from exo_common.opensim_files import Markers

# Markers of pelvis and legs that skin moves little on their bone.
BODIES, WEIGHT = ("pelvis", "femur", "tibia", "calcn"), 2.0
# RMS difference of their distances, m. Skin made 3-6 mm between stance and walk of the 12 wearers of Schreiber &
# Moissenet (Sci Data 2019, 6:111); the static trial of another of them 8.6 mm at least.
RMS_WARNING = 0.007
LEAST_PAIRS = 3


def static_warnings(static: Markers, walk: Markers, marker_set: MarkerSet) -> list[str]:
    """A sentence if the distances of markers on the same bone differ between a static trial and a walk, m."""
    pairs, apart = [], []
    for pair in _pairs(marker_set):
        if all(name in recording.names for name in pair for recording in (static, walk)):
            change = 1e3 * (_distance(static, *pair) - _distance(walk, *pair))
            if np.isfinite(change):
                pairs.append(pair)
                apart.append(change)
    if len(apart) < LEAST_PAIRS:
        return []
    rms = float(np.sqrt(np.mean(np.square(apart))))
    if rms <= 1e3 * RMS_WARNING:
        return []
    worst = int(np.argmax(np.abs(apart)))
    return [
        f"distances between markers on the same bone differ by {rms:.0f} mm RMS between the static trial and the walk "
        f"(most {pairs[worst][0]} to {pairs[worst][1]}, {apart[worst]:+.0f} mm); the static trial may be of somebody "
        "else, or markers were moved between"
    ]


def _pairs(marker_set: MarkerSet) -> list[tuple[str, str]]:
    places = {n: p for n, p in marker_set.markers.items() if p.weight >= WEIGHT and p.body.startswith(BODIES)}
    return [(a, b) for a, b in itertools.combinations(places, 2) if places[a].body == places[b].body]


def _distance(markers: Markers, a: str, b: str) -> float:
    """Median over the frames that show both, m; NaN if none does."""
    between = markers.position[:, markers.names.index(a)] - markers.position[:, markers.names.index(b)]
    lengths = np.linalg.norm(between, axis=1)
    return float(np.median(lengths[np.isfinite(lengths)])) if np.isfinite(lengths).any() else float("nan")
