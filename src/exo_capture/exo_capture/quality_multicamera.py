"""The quality report of several cameras: how well the rays meet, what was left out, repaired or guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import MARKERS
from exo_capture.quality import bone_length_cv_pct
from exo_capture.skeleton_repair import Repaired
from exo_capture.synchronise import Synchronisation
from exo_capture.triangulation import Triangulated
from exo_common.opensim_files import Markers


def figures_of(
    names: Sequence[str],
    seen: NDArray[np.bool_],
    points: Triangulated,
    raw: Markers,
    repaired: Repaired,
    exchanged: NDArray[np.bool_],
    synchronisation: Synchronisation | None,
) -> dict[str, float]:
    """Figures of one reconstruction.

    `seen` is (c, n, markers) what the cameras saw. `reprojection_px` is the mean over the observations kept,
    `observations_kept_pct` of those that two cameras or more made; percentages of points are of markers times frames;
    `bone_length_cv_pct` is of the thighs and shanks as triangulated, before any length is tested or enforced.
    """
    slots, error, kept = list(MARKERS.values()), points.error, points.inliers
    seen = seen & (seen.sum(axis=0) >= 2)
    bones = bone_length_cv_pct(raw, planar=False)
    figures = {
        "cameras": float(seen.any(axis=(1, 2)).sum()),
        "frames": float(len(raw.time)),
        "frame_rate_hz": raw.rate_hz,
        "reprojection_px": _mean(error[kept]),
        "observations_kept_pct": 100.0 * float(kept.sum() / max(1, seen.sum())),
        "points_missing_pct": 100.0 * float(np.isnan(raw.position[..., 0]).mean()),
        "points_rejected_pct": 100.0 * float(repaired.rejected[:, slots].mean()),
        "points_interpolated_pct": 100.0 * float(repaired.filled[:, slots].mean()),
        "legs_exchanged_pct": 100.0 * float(exchanged.mean()),
        "bone_length_cv_pct": float(np.nanmean(list(bones.values()))),
        **{f"bone_length_cv_{bone}_pct": value for bone, value in bones.items()},
    }
    for c, name in enumerate(names):
        figures[f"reprojection_{name}_px"] = _mean(error[c][kept[c]])
        figures[f"observations_kept_{name}_pct"] = 100.0 * float(kept[c].sum() / max(1, seen[c].sum()))
        figures[f"legs_exchanged_{name}_frames"] = float(exchanged[c].sum())
        if synchronisation is not None:
            figures[f"sync_offset_{name}_s"] = float(synchronisation.offsets_s[c])
            figures[f"sync_confidence_{name}"] = float(synchronisation.confidence[c])
    for i, marker in enumerate(MARKERS):
        figures[f"reprojection_{marker}_px"] = _mean(error[:, :, i][kept[:, :, i]])
    return figures


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
