"""The quality report: what was found, what was repaired, and whether to trust it, with reasons."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

GOOD, USABLE, NOT_USABLE = "good", "usable", "not usable"

SAGITTAL_ASSUMPTIONS = (
    "one camera: the walk lies in one vertical plane seen from the side; depth is assumed, not measured",
    "scale comes from the wearer's height",
    "only sagittal coordinates carry information; lock hip adduction and rotation, pelvis list and rotation",
    "the pelvis is not seen: hip angles follow the trunk line and OpenSim's neutral posture between trunk and pelvis",
    "the leg away from the camera is hidden around mid-stance of the near one; its peak knee flexion may read low",
    "the ankle angle has low confidence",
)
MULTICAMERA_ASSUMPTIONS = (
    "the calibration still holds: no camera was moved, zoomed or refocused since",
    "the pelvis is seen by its two hip points alone; its tilt follows the trunk",
)


@dataclasses.dataclass(frozen=True)
class Check:
    """A figure with its limits: on the near side of `good` all is well, beyond `usable` the result must not be used.

    A figure that should be large has `good` above `usable`. In `key`, * stands for any name, e.g. of a camera.
    """

    key: str
    good: float
    usable: float
    cure: str

    def level(self, value: float) -> str:
        """Verdict on one value; a figure that could not be computed is not usable."""
        sign = 1.0 if self.good <= self.usable else -1.0
        if sign * value <= sign * self.good:
            return GOOD
        return USABLE if sign * value <= sign * self.usable else NOT_USABLE

    @property
    def limit(self) -> str:
        """Half a sentence."""
        return f"good {'up to' if self.good <= self.usable else 'from'} {self.good:g}"


CONTRAST = "let the legs differ from the background and from each other, e.g. tight dark trousers"
CHECKS = (
    Check("missed_pct", 5.0, 25.0, "film with more light and nothing in front of the wearer"),
    Check("legs_exchanged_pct", 5.0, 20.0, CONTRAST),
    Check("joints_rejected_pct", 5.0, 20.0, CONTRAST),
    Check("leg_interpolated_pct", 5.0, 20.0, "film with more light and a faster shutter"),
    Check("bone_length_cv_pct", 8.0, 20.0, "one camera: walk at right angles to its line of sight; several: calibrate"),
    Check("scale_change_pct", 15.0, 40.0, "walk at right angles to the line of sight, further from the camera"),
    Check("camera_roll_deg", 4.0, 10.0, "level the camera"),
    Check("lean_drift_deg", 5.0, 15.0, "aim the camera level, not up or down, and use no wide-angle lens"),
    Check("camera_motion_pct", 1.0, 4.0, "put the camera on a tripod and do not touch it"),
    Check("frames_dropped_pct", 2.0, 15.0, "record with fewer pixels or to a faster disk"),
    Check("reprojection_px", 10.0, 25.0, "calibrate again, with the board all over every picture"),
    Check("observations_kept_pct", 80.0, 50.0, "check that no camera was moved and that the pictures belong together"),
    Check("observations_kept_*_pct", 70.0, 0.0, "check whether this camera was moved, or leave it out"),
    Check("points_missing_pct", 5.0, 25.0, "add a camera where the view is blocked"),
    Check("points_rejected_pct", 5.0, 20.0, CONTRAST),
    Check("points_interpolated_pct", 5.0, 25.0, "add a camera where the view is blocked"),
    Check("sync_confidence_*", 0.3, 0.0, "let the wearer raise an arm quickly at the start, seen by every camera"),
)
STRIDES_PER_LEG_GOOD = 2
ORDER = (GOOD, USABLE, NOT_USABLE)

BONES = {"thigh": ("Hip", "Knee"), "shank": ("Knee", "Ankle")}


@dataclasses.dataclass(frozen=True)
class Quality:
    """Figures, warnings and verdict of one capture, by one camera or several.

    Attributes
    ----------
    figures : name -> number; percentages are of the frames (or leg joints) analysed.
    strides : complete strides by side.
    gait : spatio-temporal parameters (see gait_events.spatio_temporal).
    facts : direction of the walk, near leg, part of the video used, and the like.
    """

    verdict: str
    warnings: tuple[str, ...]
    figures: dict[str, float]
    strides: dict[str, int]
    gait: dict[str, float]
    facts: dict[str, str]
    assumptions: tuple[str, ...] = SAGITTAL_ASSUMPTIONS

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


def judge(
    figures: Mapping[str, float],
    strides: Mapping[str, int],
    gait: Mapping[str, float],
    facts: Mapping[str, str],
    *,
    notes: Sequence[str] = (),
    assumptions: tuple[str, ...] = SAGITTAL_ASSUMPTIONS,
) -> Quality:
    """Verdict and warnings from the figures; every warning names its figure, its limit and a cure.

    Only the checks whose figures are present are made, so that one camera and
    several are judged alike.

    Parameters
    ----------
    notes : warnings that other stages gave, in sentences; they do not change the verdict.
    """
    warnings, verdict = [], GOOD
    for check in CHECKS:
        for key in fnmatch.filter(figures, check.key):
            level = check.level(figures[key])
            if level != GOOD:
                warnings.append(f"{key} is {figures[key]:.1f} ({check.limit}): {check.cure}")
                verdict = max(verdict, level, key=ORDER.index)
    fewest = min(strides.values())
    if fewest < STRIDES_PER_LEG_GOOD:
        warnings.append(f"only {fewest} complete stride(s) on one leg: film a longer walk for a trustworthy mean")
        verdict = max(verdict, USABLE, key=ORDER.index)
    return Quality(verdict, (*warnings, *notes), dict(figures), dict(strides), dict(gait), dict(facts), assumptions)


def bone_length_cv_pct(markers: Markers, planar: bool) -> dict[str, float]:
    """Coefficient of variation of each leg bone's length, %, by bone and side, e.g. thigh_l; NaN where never seen.

    Parameters
    ----------
    markers : before any length is enforced.
    planar : of the length in the walking plane, as one camera sees it, else in space.
    """
    axes = 2 if planar else 3
    result = {}
    for bone, (upper, lower) in BONES.items():
        for side in SIDES:
            a, b = (markers.position[:, markers.names.index(side.upper() + end), :axes] for end in (upper, lower))
            length: NDArray[np.float64] = np.linalg.norm(a - b, axis=1)
            length = length[np.isfinite(length)]
            result[f"{bone}_{side}"] = 100.0 * float(length.std() / length.mean()) if len(length) else float("nan")
    return result
