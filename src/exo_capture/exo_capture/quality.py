"""The quality report: what was found, what was repaired, and whether to trust it, with reasons."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

GOOD, USABLE, NOT_USABLE = "good", "usable", "not usable"

ASSUMPTIONS = (
    "one camera: the walk lies in one vertical plane seen from the side; depth is assumed, not measured",
    "scale comes from the wearer's height; the camera is level and stands still",
    "only sagittal coordinates carry information; lock hip adduction and rotation, pelvis list and rotation",
    "the leg away from the camera is hidden around mid-stance of the near one; its peak knee flexion may read low",
    "the ankle angle has low confidence; the hip reads 10-15 degrees too extended (the estimator's trunk line)",
)


@dataclasses.dataclass(frozen=True)
class Check:
    """A figure with its limits: up to `good` all is well, beyond `usable` the result must not be used."""

    key: str
    good: float
    usable: float
    cure: str


CHECKS = (
    Check("missed_pct", 5.0, 25.0, "film with more light and nothing in front of the wearer"),
    Check("legs_exchanged_pct", 5.0, 20.0, "let the legs differ from the background, e.g. tight dark trousers"),
    Check("joints_rejected_pct", 5.0, 20.0, "let the legs differ from the background, e.g. tight dark trousers"),
    Check("leg_interpolated_pct", 5.0, 20.0, "film with more light and a faster shutter"),
    Check("bone_length_cv_pct", 8.0, 20.0, "walk at right angles to the line of sight, camera at hip height"),
    Check("scale_change_pct", 15.0, 40.0, "walk at right angles to the line of sight, further from the camera"),
    Check("floor_slope_deg", 4.0, 10.0, "level the camera"),
)
STRIDES_PER_LEG_GOOD = 2

BONES = {"thigh": ("Hip", "Knee"), "shank": ("Knee", "Ankle")}


@dataclasses.dataclass(frozen=True)
class Quality:
    """Figures, warnings and verdict of one capture.

    Attributes
    ----------
    figures : name -> number; percentages are of the frames (or leg joints) analysed.
    strides : complete strides by side.
    gait : spatio-temporal parameters (see gait_events.spatio_temporal).
    facts : direction of the walk, near leg, part of the video used.
    """

    verdict: str
    warnings: tuple[str, ...]
    figures: dict[str, float]
    strides: dict[str, int]
    gait: dict[str, float]
    facts: dict[str, str]
    assumptions: tuple[str, ...] = ASSUMPTIONS

    def save(self, path: Path) -> None:
        """Write the report as YAML.

        Raises
        ------
        ExoError : if the file cannot be written.
        """
        content = {
            "verdict": self.verdict,
            "warnings": list(self.warnings),
            "strides": self.strides,
            "gait": {key: round(value, 3) for key, value in self.gait.items()},
            "figures": {key: round(value, 3) for key, value in self.figures.items()},
            "facts": self.facts,
            "assumptions": list(self.assumptions),
        }
        try:
            path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
        except OSError as error:
            raise ExoError(
                f"{path} could not be written ({error.strerror}); free disk space or mend the rights"
            ) from None


def judge(figures: dict[str, float], strides: dict[str, int], gait: dict[str, float], facts: dict[str, str]) -> Quality:
    """Verdict and warnings from the figures; every warning names its figure, its limit and a cure."""
    warnings, verdict = [], GOOD
    for check in CHECKS:
        value = figures[check.key]
        if not value <= check.good:
            level = USABLE if value <= check.usable else NOT_USABLE
            warnings.append(f"{check.key} is {value:.1f} (good up to {check.good:g}): {check.cure}")
            verdict = level if verdict != NOT_USABLE else verdict
    fewest = min(strides.values())
    if fewest < STRIDES_PER_LEG_GOOD:
        warnings.append(f"only {fewest} complete stride(s) on one leg: film a longer walk for a trustworthy mean")
        verdict = USABLE if verdict == GOOD else verdict
    return Quality(verdict, tuple(warnings), figures, strides, gait, facts)


def bone_length_cv_pct(markers: Markers) -> dict[str, float]:
    """Coefficient of variation of each leg bone's length in the walking plane, %, before any length is enforced."""
    result = {}
    for bone, (upper, lower) in BONES.items():
        for side in SIDES:
            ends = [markers.position[:, markers.names.index(side.upper() + end), :2] for end in (upper, lower)]
            length: NDArray[np.float64] = np.linalg.norm(ends[0] - ends[1], axis=1)
            result[f"{bone}_{side}"] = 100.0 * float(np.nanstd(length) / np.nanmean(length))
    return result
