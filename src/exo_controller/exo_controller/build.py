"""Offline: from a twin to its controller, with what the help would do on the tracking twin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_common.artefact import MANIFEST, writing
from exo_common.errors import ExoError
from exo_common.frames import HIPS, LEG_COORDINATES
from exo_controller.artefact import EVALUATION_FILE, KIND, POLICY_FILE, Policy
from exo_controller.profile import CURVE_POINTS, Assist, Release, ShapedProfile, shape_profile
from exo_twin.twin import Twin

FloatArray = NDArray[np.float64]

HIP_ROWS = [LEG_COORDINATES.index(name) for name in HIPS]
SIDES = ("left", "right")
# Half the window of the cycle average, in strides: five of the tracking twin's samples of a 1 s stride.
HALF_WINDOW = 0.0125
# The first stride of a run settles; the next ones are averaged.
SETTLE_STRIDES, MEAN_STRIDES = 1, 3
METHOD = (
    "tracking twin: the wearer keeps the recorded motion whatever the exo does and gives up as much muscle as it "
    "helps; an upper bound of the benefit, simulated, not measured on a person"
)


def build_controller(
    twin_folder: Path,
    folder: Path,
    assist: Assist | None = None,
    release: Release | None = None,
    moments_nm: tuple[FloatArray, FloatArray] | None = None,
) -> Path:
    """Write the controller artefact of a twin and return its folder.

    Parameters
    ----------
    assist, release : how much help and when; defaults where None.
    moments_nm : (left, right) hip moment over 0..100 % of each leg's gait cycle, (101,) Nm,
        from elsewhere. By default the tracking twin supplies them, and the help is evaluated on it.

    Raises
    ------
    ExoError : if the twin is missing or damaged, a curve is broken, or the folder cannot be written.
    """
    twin = Twin.load(twin_folder)
    assist, release = assist or Assist(), release or Release()
    simulate = moments_nm is None
    left, right = hip_moments(twin) if moments_nm is None else moments_nm
    profiles = []
    for moment, hip, side in zip((left, right), HIPS, twin.envelope.sides, strict=True):
        if np.shape(moment) != (CURVE_POINTS,) or not np.all(np.isfinite(moment)):
            raise ExoError(f"the moment curve of {hip} must hold {CURVE_POINTS} finite numbers; check the twin")
        profiles.append(shape_profile(moment, twin.gait.curves[hip], twin.gait.stride_time, assist, side))
    policy = Policy(twin.wearer, assist, release, profiles[0].torque_nm, profiles[1].torque_nm)
    figures = _profile_figures((left, right), profiles)
    warnings = [
        f"{name} profile is scaled to {100 * profile.scale:.0f} % to respect {profile.limited_by}"
        for name, profile in zip(SIDES, profiles, strict=True)
        if profile.limited_by
    ]
    if simulate:
        figures.update(evaluate(twin, policy))
    else:
        warnings.append("the moment curves were given; the help was not evaluated on the tracking twin")
    with writing(folder, KIND, twin.wearer, {"twin": twin_folder / MANIFEST}, warnings) as scratch:
        policy.save(scratch / POLICY_FILE)
        evaluation = {"method": METHOD if simulate else "none", "figures": figures, "warnings": warnings}
        (scratch / EVALUATION_FILE).write_text(json.dumps(evaluation, indent=2) + "\n", encoding="utf-8")
    return folder


def hip_moments(twin: Twin) -> tuple[FloatArray, FloatArray]:
    """The wearer's own hip moment over each leg's gait cycle, (101,) Nm each, without assistance.

    Muscle and reserve together: the whole moment the motion asks for.
    """
    from exo_twin.forward import reference, tracking
    from exo_twin.forward.walker import Walker

    walker = Walker(twin.walker)
    period = twin.gait.stride_time
    run = tracking.TrackingTwin(walker, reference.walking(walker, twin.gait))
    record = tracking.run(run, (SETTLE_STRIDES + MEAN_STRIDES) * period)
    kept = record.time >= SETTLE_STRIDES * period
    moment = (record.muscle_moment + record.reserve)[kept][:, HIP_ROWS]
    left, right = (_mean_cycle(record.phase[kept, i], moment[:, i]) for i in (0, 1))
    return left, right


def _mean_cycle(phase: FloatArray, values: FloatArray) -> FloatArray:
    """Mean over strides at 0..100 % of the cycle; the last point repeats the first."""
    edges = np.arange(CURVE_POINTS) / (CURVE_POINTS - 1)
    order = np.argsort(phase, kind="stable")
    # Samples of all strides side by side; each point averages those around it.
    x, y = phase[order], values[order]
    x, y = np.concatenate([x - 1.0, x, x + 1.0]), np.tile(y, 3)
    total = np.concatenate([[0.0], np.cumsum(y)])
    low, high = np.searchsorted(x, edges - HALF_WINDOW), np.searchsorted(x, edges + HALF_WINDOW)
    return (total[high] - total[low]) / np.maximum(high - low, 1)


def evaluate(twin: Twin, policy: Policy) -> dict[str, float]:
    """Effort on the tracking twin with and without the profile, in its true phase."""
    from exo_twin.forward import reference, tracking
    from exo_twin.forward.walker import Walker

    grid = np.linspace(0.0, 1.0, CURVE_POINTS)

    def profile(sample: tracking.TwinSample) -> tuple[float, float]:
        return (
            float(np.interp(sample.phase[0], grid, policy.left_nm)),
            float(np.interp(sample.phase[1], grid, policy.right_nm)),
        )

    walker = Walker(twin.walker)
    motion = reference.walking(walker, twin.gait)
    seconds = (SETTLE_STRIDES + MEAN_STRIDES) * twin.gait.stride_time
    without = tracking.run(tracking.TrackingTwin(walker, motion), seconds)
    assisted = tracking.run(tracking.TrackingTwin(walker, motion), seconds, profile)
    reserve = without.reserve[:, HIP_ROWS]
    return {
        "hip_effort_change_pct": 100.0 * (assisted.hip_effort() / without.hip_effort() - 1.0),
        "effort_change_pct": 100.0 * (assisted.effort() / without.effort() - 1.0),
        "hip_reserve_rms_nm": float(np.sqrt(np.mean(reserve**2))),
    }


def _profile_figures(moments: tuple[FloatArray, FloatArray], profiles: list[ShapedProfile]) -> dict[str, float]:
    figures = {}
    for name, moment, profile in zip(SIDES, moments, profiles, strict=True):
        figures[f"{name}_moment_peak_nm"] = float(np.max(np.abs(moment)))
        figures[f"{name}_torque_peak_nm"] = float(np.max(np.abs(profile.torque_nm)))
        figures[f"{name}_torque_rms_nm"] = float(np.sqrt(np.mean(profile.torque_nm**2)))
        figures[f"{name}_torque_rate_nm_s"] = profile.rate_nm_s
        figures[f"{name}_power_w"] = profile.power_w
        figures[f"{name}_scale"] = profile.scale
    return figures
