"""How far a walk's muscle forces can be believed: paths, reserves, agreement with EMG, as figures and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import SIDES
from exo_emg.muscles import side_of
from exo_twin.inverse.loads import WalkLoads
from exo_twin.inverse.muscle_calibration import Calibrated
from exo_twin.inverse.muscle_forces import MuscleSolution
from exo_twin.inverse.muscle_path_quality import PathFit
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.muscle_unknowns import FIBRE, STRENGTH, TENDON, Kind
from exo_twin.inverse.walk_muscles import ADULT_SIZE_NM, WalkMuscles

FloatArray = NDArray[np.float64]

# Reserves that a muscle-driven simulation may need, of the largest moment about that joint: RMS and peak (Hicks et al.
# 2015, J Biomech Eng 137:020905).
RESERVE_RMS_PCT, RESERVE_PEAK_PCT = 5.0, 10.0
# Moments of an adult from markers and plates are known to some 3 Nm, of others in proportion to weight times height. A
# tenth of a moment less than ten times that cannot be told from it, but what is missed can be more.
MOMENT_SD = 3.0 / ADULT_SIZE_NM
SMALL_MOMENT, SMALL_PEAK = 10.0 * MOMENT_SD, 3.0 * MOMENT_SD
# Of a walk's frames: with less, a leg's moments rest on predicted force.
MEASURED_SHARE = 0.5
AT_BOUND, UNCHANGED = 1e-3, 5e-4  # of a factor
GOOD, DOUBTFUL, UNTOLD = "good", "doubtful", "too small a moment to judge"


def paths_quality(fit: PathFit) -> dict[str, Any]:
    """Figures of the path fits, on poses that no fit has seen."""
    found = fit.quality
    length = {name: own.rms_length_mm for name, own in found.items()}
    arm = {name: own.rms_arm_mm for name, own in found.items()}
    longest, widest = max(length, key=length.__getitem__), max(arm, key=arm.__getitem__)
    return {
        "muscles": len(found),
        "length_rms_mm": round(float(np.median(list(length.values()))), 3),
        "length_rms_mm_worst": {longest: round(length[longest], 2)},
        "moment_arm_rms_mm": round(float(np.median(list(arm.values()))), 3),
        "moment_arm_rms_mm_worst": {widest: round(arm[widest], 2)},
    }


def reserves(
    solution: MuscleSolution, wanted: FloatArray, paths: MusclePaths, size: float = ADULT_SIZE_NM
) -> dict[str, dict[str, Any]]:
    """Per coordinate: what the muscles did not deliver, RMS and peak, in Nm and % of the largest moment; a verdict.

    `size` : Nm, the wearer's weight times height.
    """
    found: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(paths.coordinates):
        asked = wanted[:, column]
        known = np.isfinite(asked)
        if not known.any():
            continue
        missed, largest = solution.reserve[known, column], float(np.abs(asked[known]).max())
        rms, peak = float(np.sqrt(np.mean(missed**2))), float(np.abs(missed).max())
        share = (100.0 * rms / max(largest, 1e-9), 100.0 * peak / max(largest, 1e-9))
        unknowable = largest < SMALL_MOMENT * size and rms <= MOMENT_SD * size and peak <= SMALL_PEAK * size
        verdict = GOOD if share[0] <= RESERVE_RMS_PCT and share[1] <= RESERVE_PEAK_PCT else DOUBTFUL
        found[name] = {
            "moment_peak_nm": round(largest, 1),
            "rms_nm": round(rms, 2),
            "peak_nm": round(peak, 2),
            "rms_pct": round(share[0], 1),
            "peak_pct": round(share[1], 1),
            "verdict": UNTOLD if unknowable else verdict,
        }
    return found


def reserve_warnings(found: dict[str, dict[str, Any]], static: dict[str, dict[str, Any]] | None = None) -> list[str]:
    """A sentence on the joints whose muscles fall short, and one on those where they only do beside EMG.

    `static` : the same figures where no EMG takes part.
    """
    doubtful = [name for name, own in found.items() if own["verdict"] == DOUBTFUL]
    weak = [name for name in doubtful if static is None or static[name]["verdict"] == DOUBTFUL]
    text = {
        name: f"{name} ({found[name]['peak_nm']:.0f} of {found[name]['moment_peak_nm']:.0f} Nm)" for name in doubtful
    }
    sentences = []
    if weak:
        sentences.append(
            f"the muscles cannot deliver the whole moment about {', '.join(text[name] for name in weak)}, so forces "
            "about there are doubtful; check the joint angles, the forces of the ground and the wearer's mass"
        )
    if told := [text[name] for name in doubtful if name not in weak]:
        sentences.append(
            f"a part of the moment about {', '.join(told)} is given up to follow the EMG or to spare muscles: forces "
            "about there are doubtful; check the electrodes, their sync with the walk and the forces of the ground"
        )
    return sentences


def force_warnings(loads: WalkLoads) -> list[str]:
    """A sentence on each leg whose foot the plates of the walk saw too rarely."""
    if loads.plates is None:
        return []  # said with the loads
    return [
        f"the force on the {word} foot was measured in only {100.0 * loads.measured[side].mean():.0f} % of the frames, "
        "elsewhere predicted: that leg's moments and muscles are estimates; walk over the plates with both feet"
        for side, word in zip(SIDES, ("left", "right"), strict=True)
        if loads.measured[side].mean() < MEASURED_SHARE
    ]


def emg_agreement(walk: WalkMuscles, muscles: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Per measured muscle: correlation of its activation with EMG, by static optimisation and as finally estimated."""
    if walk.measured is None:
        return {}
    channel = {name: one for one, own in walk.measured.emg.measured.items() for name in own}
    found: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(muscles):
        target = walk.measured.target[:, i]
        known = np.isfinite(target)
        if name not in channel or known.sum() < 2:
            continue
        found[name] = {
            "channel": channel[name],
            "r_static": _correlation(walk.static.activation[known, i], target[known]),
            "r_estimated": _correlation(walk.solution.activation[known, i], target[known]),
            "rms_estimated": round(
                float(np.sqrt(np.mean((walk.solution.activation[known, i] - target[known]) ** 2))), 3
            ),
        }
    return found


def calibration_quality(calibrated: Calibrated, muscles: tuple[str, ...]) -> dict[str, Any]:
    """What calibration changed and what it gained; factors of the muscles that it changed."""
    return {
        "moment_error_nm": {
            "generic": round(calibrated.error_before, 2),
            "calibrated": round(calibrated.error_after, 2),
            "calibrated_on_unseen_frames": round(calibrated.error_unseen, 2),
        },
        "pull_to_generic": calibrated.pull,
        "emg_gain": {name: round(gain, 3) for name, gain in calibrated.gain.items()},
        "activation_shape": round(calibrated.shape, 2),
        "factors": {
            what: {
                name: round(float(v), 3) for name, v in zip(muscles, factor, strict=True) if abs(v - 1.0) > UNCHANGED
            }
            for what, (factor, _) in _factors(calibrated).items()
        },
        "at_bounds": at_bounds(calibrated, muscles),
    }


def at_bounds(calibrated: Calibrated, muscles: tuple[str, ...]) -> dict[str, list[str]]:
    """Number -> muscles whose factor stands at the limit of what is plausible."""
    return {
        what: [
            name
            for name, value in zip(muscles, factor, strict=True)
            if min(abs(value / kind.low - 1.0), abs(value / kind.high - 1.0)) < AT_BOUND
        ]
        for what, (factor, kind) in _factors(calibrated).items()
    }


def bound_warnings(calibrated: Calibrated, muscles: tuple[str, ...]) -> list[str]:
    """One sentence on the muscles whose calibrated numbers are limits, not measurements."""
    found = dict.fromkeys(side_of(name)[0] for own in at_bounds(calibrated, muscles).values() for name in own)
    if not found:
        return []
    return [
        f"calibration took {', '.join(found)} to the limit of what is plausible; do not read their strength or "
        "lengths as this wearer's, and record more or other walks"
    ]


def _factors(calibrated: Calibrated) -> dict[str, tuple[FloatArray, Kind]]:
    return {
        "strength": (calibrated.strength, STRENGTH),
        "optimal_fiber_length": (calibrated.fibre, FIBRE),
        "tendon_slack_length": (calibrated.tendon, TENDON),
    }


def _correlation(a: FloatArray, b: FloatArray) -> float | None:
    """Pearson's r; None where one of them does not change."""
    if np.std(a) < 1e-9 or np.std(b) < 1e-9:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 2)
