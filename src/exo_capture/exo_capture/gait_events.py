"""Heel strikes, toe-offs, strides and spatio-temporal parameters from markers.

A heel strikes where it is furthest ahead of the pelvis and a toe leaves where it is
furthest behind it (Zeni et al. 2008, Gait & Posture 27:710); this needs no force
plate and works for slow gait.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_prominences

from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

PROMINENCE_SHARE = 0.4  # of the foot's whole excursion; bumps within a stride have far less
FLANK_SHARE = 0.1  # of it, seen on both sides: at the ends of a recording noise makes maxima of its own
STRIDE_S = (0.5, 2.5)  # a run is shorter, a stop longer
STANCE_SHARE = (0.3, 0.9)


@dataclasses.dataclass(frozen=True)
class Stride:
    """One complete gait cycle of a leg: heel strike to heel strike, s; `length` in m."""

    side: str
    start: float
    toe_off: float
    end: float
    length: float

    @property
    def duration(self) -> float:
        """Stride time, s."""
        return self.end - self.start

    @property
    def stance_share(self) -> float:
        """Share of the cycle with the foot on the ground."""
        return (self.toe_off - self.start) / self.duration


@dataclasses.dataclass(frozen=True)
class GaitEvents:
    """Times, s, of heel strikes and toe-offs by side, and the complete strides in order of time."""

    heel_strikes: dict[str, tuple[float, ...]]
    toe_offs: dict[str, tuple[float, ...]]
    strides: tuple[Stride, ...]

    def of(self, side: str) -> tuple[Stride, ...]:
        """Strides of one leg."""
        return tuple(stride for stride in self.strides if stride.side == side)


def find_events(markers: Markers) -> GaitEvents:
    """Events and strides of BlazePose-named markers in OpenSim's frame (walking along +x).

    Strides with a gap in any of the leg's markers are left out.
    """
    strikes, offs, strides = {}, {}, []
    pelvis = (_x(markers, "LHip") + _x(markers, "RHip")) / 2.0
    for side in SIDES:
        s = side.upper()
        strikes[side] = _peaks(markers.time, _x(markers, f"{s}Heel") - pelvis)
        offs[side] = _peaks(markers.time, pelvis - _x(markers, f"{s}BigToe"))
        leg = [markers.names.index(f"{s}{joint}") for joint in ("Hip", "Knee", "Ankle", "Heel", "BigToe")]
        whole = np.asarray(np.isfinite(markers.position[:, leg]).all(axis=(1, 2)))
        for start, end in zip(strikes[side][:-1], strikes[side][1:], strict=True):
            off = [t for t in offs[side] if start < t < end]
            first, last = np.searchsorted(markers.time, (start, end))
            if len(off) == 1 and whole[first : last + 1].all() and STRIDE_S[0] <= end - start <= STRIDE_S[1]:
                at = np.interp([start, end], markers.time[whole], _x(markers, f"{s}Heel")[whole])
                stride = Stride(side, start, off[0], end, float(at[1] - at[0]))
                if STANCE_SHARE[0] <= stride.stance_share <= STANCE_SHARE[1]:
                    strides.append(stride)
    return GaitEvents(strikes, offs, tuple(sorted(strides, key=lambda stride: stride.start)))


def spatio_temporal(events: GaitEvents) -> dict[str, float]:
    """Means over the strides: stride_time_s, cadence_steps_min, stride_length_m, speed_m_s, stance_pct, and asymmetry.

    `stride_time_asymmetry_pct` is the difference between the legs over their mean;
    present only if both legs have a stride.
    """
    if not events.strides:
        return {}
    duration = float(np.mean([stride.duration for stride in events.strides]))
    length = float(np.mean([stride.length for stride in events.strides]))
    result = {
        "stride_time_s": duration,
        "cadence_steps_min": 120.0 / duration,
        "stride_length_m": length,
        "speed_m_s": length / duration,
        "stance_pct": 100.0 * float(np.mean([stride.stance_share for stride in events.strides])),
    }
    if len(events.strides) > 1:
        spread = float(np.std([stride.duration for stride in events.strides], ddof=1))
        result["stride_time_variability_pct"] = 100.0 * spread / duration
    by_side = [np.mean([stride.duration for stride in events.of(side)]) for side in SIDES if events.of(side)]
    if len(by_side) == len(SIDES):
        result["stride_time_asymmetry_pct"] = 100.0 * float(abs(by_side[0] - by_side[1])) / duration
    return result


def _x(markers: Markers, name: str) -> NDArray[np.float64]:
    return markers.position[:, markers.names.index(name), 0]


def _peaks(time: NDArray[np.float64], signal: NDArray[np.float64]) -> tuple[float, ...]:
    """Times of the distinct maxima, to a fraction of a sample by a parabola through three samples."""
    known = np.isfinite(signal)
    if known.sum() < 3:
        return ()
    filled = np.interp(time, time[known], signal[known])
    # A low value beyond each end lets a maximum shortly before the end count by its other flank.
    padded = np.pad(filled, 1, constant_values=filled.min())
    peaks = find_peaks(padded, prominence=PROMINENCE_SHARE * np.ptp(filled))[0] - 1
    peaks = peaks[(peaks > 0) & (peaks < len(filled) - 1)]
    peaks = peaks[peak_prominences(filled, peaks)[0] > FLANK_SHARE * np.ptp(filled)]
    times = []
    for i in peaks:
        if known[i - 1 : i + 2].all():
            before, here, after = filled[i - 1 : i + 2]
            bend = before - 2.0 * here + after
            shift = 0.5 * (before - after) / bend if bend else 0.0
            times.append(float(time[i] + shift * (time[1] - time[0])))
    return tuple(times)
