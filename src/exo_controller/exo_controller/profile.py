"""Assistance by phase: a share of the wearer's own hip moment, released only while the phase is trusted.

All torques are hip flexion torques on the wearer, Nm, flexion positive; pairs
are (left, right).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_common.parameters import Parameters, parameter
from exo_safety.envelope import SideEnvelope
from exo_twin.periodic import PeriodicCurve
from exo_twin.phase import WALKING, PhaseEstimate

FloatArray = NDArray[np.float64]
Pair = tuple[float, float]

# The profile keeps the slow part of the moment: five harmonics of a 1 s stride end at 5 Hz,
# well inside what a wearer feels as push and a hip actuator can follow.
PROFILE_HARMONICS = 5
CURVE_POINTS = 101
# Share of an envelope limit that a profile may use, so that normal help never meets the limit.
ENVELOPE_SHARE = 0.9
# A longer gap between samples is treated as this long.
LONGEST_GAP_S = 0.05


@dataclasses.dataclass(frozen=True)
class Assist(Parameters):
    """How much help, and when."""

    fraction: float = parameter(0.2, "", "share of the wearer's own hip moment", minimum=0.0, maximum=0.6)
    peak_nm: float = parameter(12.0, "Nm", "largest torque of the profile", minimum=0.0, maximum=25.0)
    timing: float = parameter(
        0.0, "strides", "how much earlier than the wearer's own moment; 0 is in phase", minimum=-0.2, maximum=0.2
    )


@dataclasses.dataclass(frozen=True)
class Release(Parameters):
    """When the profile is let through."""

    confidence_low: float = parameter(
        0.4, "", "phase confidence below which nothing is released", minimum=0.0, maximum=0.9
    )
    confidence_high: float = parameter(
        0.8, "", "phase confidence above which all is released", minimum=0.1, maximum=1.0
    )
    rise_s: float = parameter(0.5, "s", "time from nothing to all", minimum=0.1, maximum=5.0)
    fall_s: float = parameter(0.25, "s", "time from all to nothing", minimum=0.05, maximum=1.0)
    soft_start_strides: float = parameter(
        3.0, "strides", "over which help grows after arming or standing", minimum=1.0, maximum=20.0
    )


@dataclasses.dataclass(frozen=True)
class ShapedProfile:
    """A profile of one side and what held it back.

    Attributes
    ----------
    torque_nm : (101,) over 0..100 % of that leg's own gait cycle.
    scale : 1 when the wanted fraction fits, smaller where a limit asked for less.
    limited_by : the limit that asked for it, empty if none.
    rate_nm_s, power_w : largest torque rate and power at the reference stride.
    """

    torque_nm: FloatArray
    scale: float
    limited_by: str
    rate_nm_s: float
    power_w: float


def shape_profile(
    moment_nm: FloatArray, hip_rad: FloatArray, stride_time: float, assist: Assist, envelope: SideEnvelope
) -> ShapedProfile:
    """Turn a hip moment curve into an assistance profile inside the envelope.

    Parameters
    ----------
    moment_nm : (101,) the wearer's own hip moment over the gait cycle, Nm.
    hip_rad : (101,) hip flexion over the same cycle, rad.
    stride_time : s.
    envelope : limits of this side; the profile keeps :data:`ENVELOPE_SHARE` of them.
    """
    moment = PeriodicCurve(moment_nm, PROFILE_HARMONICS)
    grid = np.linspace(0.0, 1.0, CURVE_POINTS)
    lookups = [moment.at(float(phase) + assist.timing) for phase in grid]
    torque = assist.fraction * np.array([value for value, _ in lookups])
    rate = assist.fraction * np.array([slope for _, slope in lookups]) / stride_time
    hip = PeriodicCurve(hip_rad)
    speed = np.array([hip.at(float(phase))[1] for phase in grid]) / stride_time
    peaks = (float(np.max(np.abs(torque))), float(np.max(np.abs(rate))), float(np.max(np.abs(torque * speed))))
    limits = {
        "peak_nm": (assist.peak_nm, peaks[0]),
        "torque_max_nm": (ENVELOPE_SHARE * envelope.torque_max_nm, peaks[0]),
        "torque_rate_max_nm_s": (ENVELOPE_SHARE * envelope.torque_rate_max_nm_s, peaks[1]),
        "power_max_w": (ENVELOPE_SHARE * envelope.power_max_w, peaks[2]),
    }
    scale, limited_by = 1.0, ""
    for name, (limit, reached) in limits.items():
        if scale * reached > limit:
            scale, limited_by = limit / reached, name
    return ShapedProfile(scale * torque, scale, limited_by, scale * peaks[1], scale * peaks[2])


class Assistance:
    """Torque from phase, with a release that only opens while everything is in order.

    Parameters
    ----------
    left_nm, right_nm : (101,) profiles over each leg's own gait cycle.
    release : when to let them through.
    """

    def __init__(self, left_nm: FloatArray, right_nm: FloatArray, release: Release) -> None:
        self._curves = (PeriodicCurve(left_nm, PROFILE_HARMONICS), PeriodicCurve(right_nm, PROFILE_HARMONICS))
        self._release = release
        self._stamp: int | None = None
        self._gain = 0.0
        self._start = 0.0

    @property
    def released(self) -> float:
        """Share of the profile let through now, 0..1."""
        return self._gain * self._start

    def step(self, stamp_ns: int, phase: PhaseEstimate, armed: bool) -> Pair:
        """Torque (left, right), Nm.

        Parameters
        ----------
        stamp_ns : acquisition time of the sample behind `phase`.
        armed : whether the supervisor passes torque. While it does not, the request is zero,
            so that arming begins at zero and help grows from there.
        """
        elapsed = 0.0 if self._stamp is None else (stamp_ns - self._stamp) / NS_PER_S
        self._stamp = stamp_ns
        dt = min(max(elapsed, 0.0), LONGEST_GAP_S)
        if not armed:
            self._gain = self._start = 0.0
            return (0.0, 0.0)
        target = self._trust(phase)
        up, down = dt / self._release.rise_s, dt / self._release.fall_s
        self._gain += max(-down, min(up, target - self._gain))
        if target > 0.0:
            self._start = min(1.0, self._start + phase.rate * dt / self._release.soft_start_strides)
        elif self._gain == 0.0:
            self._start = 0.0
        share = self.released
        return (share * self._curves[0].at(phase.left)[0], share * self._curves[1].at(phase.right)[0])

    def _trust(self, phase: PhaseEstimate) -> float:
        if phase.mode != WALKING or not math.isfinite(phase.confidence):
            return 0.0
        low, high = self._release.confidence_low, self._release.confidence_high
        return max(0.0, min(1.0, (phase.confidence - low) / max(high - low, 1e-6)))
