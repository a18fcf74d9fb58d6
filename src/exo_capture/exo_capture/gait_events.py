"""Heel strikes, toe-offs, strides and spatio-temporal parameters from markers.

A toe leaves where it is furthest behind the pelvis (Zeni et al. 2008, Gait & Posture
27:710). A heel is furthest ahead of the pelvis, Zeni's heel strike, while it still
flies as fast as the pelvis, 10-20 ms before force plates are loaded; so the strike is
put at the following moment when the heel has lost half of that speed: slower than
this, it stands rather than flies. No force plate is needed, and slow gait and
treadmills are as good as any.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import find_peaks, peak_prominences

from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

PROMINENCE_SHARE = 0.4  # of the foot's whole excursion; bumps within a stride have far less
FLANK_SHARE = 0.1  # of it, seen on both sides: at the ends of a recording noise makes maxima of its own
STRIDE_S = (0.5, 2.5)  # a run is shorter, a stop longer
STANCE_SHARE = (0.3, 0.9)
LANDED_SHARE = 0.5  # of the walking speed: half way between flying with the pelvis and standing
FACING_S = 1.0  # a foot that flies or rolls off points elsewhere for less than half of it
FACING_SHARE = 0.5  # of a foot's full length ahead: within 60 degrees of the walk
TREADMILL_STRIDE_M = 0.1  # a shorter mean stride does not travel; the shortest strides of patients are 0.3 m
LANDING_S = 0.1  # after Zeni's heel strike; a heel that has not slowed down by then did not land
PART_NOTE = "the person walks forward only from {:.1f} to {:.1f} s; strides are taken from that part alone"
ON_THE_SPOT_NOTE = "the person walks on the spot (a treadmill): speed and lengths of strides are not known"


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
    """Times, s, of heel strikes and toe-offs by side, and the complete strides in order of time.

    `part` is from when to when the person walks forward, if that is not the whole recording.
    """

    heel_strikes: dict[str, tuple[float, ...]]
    toe_offs: dict[str, tuple[float, ...]]
    strides: tuple[Stride, ...]
    part: tuple[float, float] | None = None

    def of(self, side: str) -> tuple[Stride, ...]:
        """Strides of one leg."""
        return tuple(stride for stride in self.strides if stride.side == side)

    @property
    def on_the_spot(self) -> bool:
        """Whether the strides lead nowhere, as on a treadmill."""
        return bool(self.strides and abs(np.mean([s.length for s in self.strides])) < TREADMILL_STRIDE_M)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a quality report has to say about the strides, in sentences."""
        notes = []
        if self.part is not None:
            notes.append(PART_NOTE.format(*self.part))
        if self.on_the_spot:
            notes.append(ON_THE_SPOT_NOTE)
        return tuple(notes)


def facing_part(time: NDArray[np.float64], ahead: NDArray[np.float64]) -> slice:
    """The longest part in which somebody faces forward; everything if nothing is known, empty if never.

    Parameters
    ----------
    time : (n,) s.
    ahead : (n,) m, how far the toes are ahead of the heels; NaN where unknown.
    """
    known = np.isfinite(ahead)
    if known.sum() < 2:
        return slice(0, len(time))
    window = max(1, round(FACING_S * (len(time) - 1) / float(time[-1] - time[0])))
    facing = median_filter(np.interp(time, time[known], ahead[known]), window, mode="nearest")
    forward = facing > FACING_SHARE * max(float(facing.max()), 0.0)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], forward, [False]]).astype(int)))
    return max(
        (slice(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True)), key=_length, default=slice(0, 0)
    )


def faces_forward(stride: Stride, markers: Markers) -> bool:
    """Whether the toes are ahead of the heel during a stride."""
    during = (markers.time >= stride.start) & (markers.time <= stride.end)
    side = stride.side.upper()
    return bool(np.nanmedian((_x(markers, f"{side}BigToe") - _x(markers, f"{side}Heel"))[during]) > 0.0)


def find_events(markers: Markers, landing: bool = True) -> GaitEvents:
    """Events and strides of BlazePose-named markers in OpenSim's frame (walking along +x), of one camera or several.

    The markers must be low-passed. Of somebody who turns round, the longest part walking forward is used. Strides
    with a gap in any of the leg's markers are left out. Without `landing` heel strikes stay where Zeni et al. have
    them.
    """
    used = facing_part(markers.time, feet_ahead(markers))
    part = None
    if _length(used) < len(markers.time):
        begin, end = markers.time[used.start], markers.time[max(used.stop - 1, used.start)]
        part = (float(begin), float(end))
        markers = Markers(markers.time[used], markers.names, markers.position[used])
    if len(markers.time) < 2:
        return GaitEvents({side: () for side in SIDES}, {side: () for side in SIDES}, (), part)
    strikes, offs, strides = {}, {}, []
    pelvis = (_x(markers, "LHip") + _x(markers, "RHip")) / 2.0
    for side in SIDES:
        s = side.upper()
        ahead = _x(markers, f"{s}Heel") - pelvis
        furthest = _peaks(markers.time, ahead)
        strikes[side] = _landings(markers.time, ahead, furthest) if landing else furthest
        offs[side] = _peaks(markers.time, pelvis - _x(markers, f"{s}BigToe"))
        leg = [markers.names.index(f"{s}{joint}") for joint in ("Hip", "Knee", "Ankle", "Heel", "BigToe")]
        whole = np.asarray(np.isfinite(markers.position[:, leg]).all(axis=(1, 2)))
        for start, end in zip(strikes[side][:-1], strikes[side][1:], strict=True):
            off = [t for t in offs[side] if start < t < end]
            first, last = np.searchsorted(markers.time, (start, end))
            if len(off) == 1 and whole[first : last + 1].all() and STRIDE_S[0] <= end - start <= STRIDE_S[1]:
                at = np.interp([start, end], markers.time[whole], _x(markers, f"{s}Heel")[whole])
                stride = Stride(side, start, off[0], end, float(at[1] - at[0]))
                if STANCE_SHARE[0] <= stride.stance_share <= STANCE_SHARE[1] and faces_forward(stride, markers):
                    strides.append(stride)
    return GaitEvents(strikes, offs, tuple(sorted(strides, key=lambda stride: stride.start)), part)


def mean_strides(
    series: Mapping[str, NDArray[np.float64]], time: NDArray[np.float64], events: GaitEvents
) -> dict[str, NDArray[np.float64]]:
    """Mean stride (101,) of every series (n,) named by its side (..._l, ..._r), over 0-100 % of that leg's cycle.

    Series of a leg without strides are left out.
    """
    phase = np.linspace(0.0, 1.0, 101)
    return {
        name: np.mean([np.interp(s.start + phase * s.duration, time, values) for s in events.of(name[-1])], axis=0)
        for name, values in series.items()
        if events.of(name[-1])
    }


@dataclasses.dataclass(frozen=True)
class Step:
    """From one leg's heel strike to the next one of the other leg, `side`: s, m, and time with both feet down, s."""

    side: str
    duration: float
    length: float
    double_support: float


def find_steps(events: GaitEvents, markers: Markers) -> tuple[Step, ...]:
    """Steps between heel strikes that follow each other from leg to leg, in order of time."""
    heel = {side: _x(markers, f"{side.upper()}Heel") for side in SIDES}
    landed = sorted((time, side) for side in SIDES for time in events.heel_strikes[side])
    steps = []
    for (before, other), (now, side) in itertools.pairwise(landed):
        # The foot behind leaves the ground soon after the foot in front has landed.
        off = [t for t in events.toe_offs[other] if now < t < now + (now - before)]
        ends = [_at(markers.time, heel[s], t) for s, t in ((other, before), (side, now))]
        if side != other and now - before <= STRIDE_S[1] and off and np.isfinite(ends).all():
            steps.append(Step(side, now - before, ends[1] - ends[0], off[0] - now))
    return tuple(steps)


def spatio_temporal(events: GaitEvents, markers: Markers) -> dict[str, float]:
    """Means over strides and steps, their variability, both legs apart and their asymmetry.

    Returns
    -------
    Of strides: `stride_time_s`, `stride_length_m`, `cadence_steps_min`, `speed_m_s`, `stance_pct`; of steps:
    `step_time_s`, `step_length_m`, `double_support_pct` (both of a stride's phases together). With two or more of a
    kind, `<name>_sd` and, in % of the mean, `<name>_cv_pct`. Per leg the same names with `_l` and `_r` before the
    unit, where it has any; `<name>_asymmetry_pct` is the legs' difference over their mean. Empty without strides.
    On a treadmill, whose speed nobody knows, there are neither lengths nor a speed.
    """
    strides = events.strides
    if not strides:
        return {}
    steps = find_steps(events, markers)
    duration = float(np.mean([stride.duration for stride in strides]))
    result = {"cadence_steps_min": 120.0 / duration}
    lengths: list[tuple[str, str, list[tuple[str, float]]]] = []
    if not events.on_the_spot:
        result["speed_m_s"] = float(np.mean([stride.length for stride in strides])) / duration
        lengths = [
            ("stride_length", "m", [(stride.side, stride.length) for stride in strides]),
            ("step_length", "m", [(step.side, step.length) for step in steps]),
        ]
    if steps:
        # A stride holds two steps, each with one phase on both feet.
        result["double_support_pct"] = 200.0 * float(np.mean([step.double_support for step in steps])) / duration
    for name, unit, samples in (
        ("stride_time", "s", [(stride.side, stride.duration) for stride in strides]),
        ("stance", "pct", [(stride.side, 100.0 * stride.stance_share) for stride in strides]),
        ("step_time", "s", [(step.side, step.duration) for step in steps]),
        *lengths,
    ):
        result |= _summary(name, unit, samples)
    return result


def _summary(name: str, unit: str, samples: list[tuple[str, float]]) -> dict[str, float]:
    """Mean, spread, means of both legs, and their asymmetry of (side, value) samples."""
    if not samples:
        return {}
    values = np.array([value for _, value in samples])
    mean = float(values.mean())
    result = {f"{name}_{unit}": mean}
    if len(values) > 1:
        spread = float(np.std(values, ddof=1))
        result |= {f"{name}_sd": spread, f"{name}_cv_pct": 100.0 * spread / mean}
    legs = {side: [value for leg, value in samples if leg == side] for side in SIDES}
    means = {side: float(np.mean(leg)) for side, leg in legs.items() if leg}
    result |= {f"{name}_{side}_{unit}": value for side, value in means.items()}
    if len(means) == len(SIDES):
        result[f"{name}_asymmetry_pct"] = 100.0 * abs(means["l"] - means["r"]) / mean
    return result


def _landings(time: NDArray[np.float64], ahead: NDArray[np.float64], peaks: tuple[float, ...]) -> tuple[float, ...]:
    """The moment after each time of the furthest heel when the heel has lost half of the walking speed.

    Parameters
    ----------
    time : (n,) s.
    ahead : (n,) m, heel ahead of the pelvis.
    """
    velocity = np.gradient(ahead, time)
    # In stance the heel falls behind the pelvis at the walking speed, on the floor and on a treadmill.
    landed = LANDED_SHARE * np.nanmedian(velocity[velocity < 0.0]) if (velocity < 0.0).any() else 0.0
    result = []
    for peak in peaks:
        after = np.flatnonzero((time > peak) & (time <= peak + LANDING_S) & (velocity <= landed))
        i = int(after[0]) if len(after) else 0
        if i and np.isfinite(velocity[i - 1]) and velocity[i - 1] > landed:
            share = (velocity[i - 1] - landed) / (velocity[i - 1] - velocity[i])
            result.append(max(peak, float(time[i - 1] + share * (time[i] - time[i - 1]))))
        else:
            result.append(peak)
    return tuple(result)


def feet_ahead(markers: Markers) -> NDArray[np.float64]:
    """How far (n,) m the toes are ahead of the heels along +x, mean of the feet that are seen; NaN where none is."""
    feet = np.stack([_x(markers, f"{side.upper()}BigToe") - _x(markers, f"{side.upper()}Heel") for side in SIDES])
    seen = np.isfinite(feet)
    total = np.where(seen, feet, 0.0).sum(axis=0)
    return np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), np.nan)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _at(time: NDArray[np.float64], series: NDArray[np.float64], when: float) -> float:
    """A series at a moment; NaN if it is unknown on either side of it."""
    return float(np.interp(when, time, series))


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
    with warnings.catch_warnings():
        # A plateau at an end is no peak without the padding; its prominence is zero and it is dropped.
        warnings.simplefilter("ignore", RuntimeWarning)
        peaks = peaks[peak_prominences(filled, peaks)[0] > FLANK_SHARE * np.ptp(filled)]
    times = []
    for i in peaks:
        if known[i - 1 : i + 2].all():
            before, here, after = filled[i - 1 : i + 2]
            bend = before - 2.0 * here + after
            shift = 0.5 * (before - after) / bend if bend else 0.0
            times.append(float(time[i] + shift * (time[i + 1] - time[i - 1]) / 2.0))
    return tuple(times)
