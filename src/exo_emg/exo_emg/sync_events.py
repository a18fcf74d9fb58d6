"""When something happened that other recordings saw, too: pulses of a trigger, a heel that hits the floor.

A heel that is raised and dropped ends in an impact. It shakes every electrode of the
leg at once (a burst of a muscle shakes its own), jerks the foot's keypoints or markers
upwards, and rings in an accelerometer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, find_peaks, savgol_filter, sosfiltfilt

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

# A pulse ends when the signal has fallen to this share of its height, so that noise on an edge is no second pulse.
PULSE_END_SHARE = 0.25
# A trigger is away from its rest for no longer than this share of the time; of one that is, nobody knows which of its
# two edges the other recording wrote down.
PULSE_MAX_SHARE = 0.2
RISING, FALLING = "rising", "falling"
# A trigger stands out from its own noise by so many standard deviations; anything less is no trigger.
PULSE_MIN_SD = 8.0
# Nobody drops a heel faster than this.
TAP_APART_S = 0.25
# A tap stands out from the quiet signal by so many robust standard deviations, and is no weaker than this share of
# the strong ones.
TAP_MIN_SD = 8.0
TAP_MIN_SHARE = 0.4
STRONG_PERCENTILE = 90.0
# The shock passes the electrodes within about 10 ms; it is looked for above the movement of the leg itself.
SHOCK_S = 0.010
SHOCK_LOW_HZ = 20.0
# A dropped heel is stopped with several g; walking and lifting stay below half of one.
IMPACT_MIN_M_S2 = 8.0
# Frames of the parabola that gives the acceleration: the fewest that also smooth.
ACCELERATION_FRAMES = 5


def pulse_times(values: FloatArray, rate_hz: float, start_s: float = 0.0, edge: str = "") -> FloatArray:
    """Edges with which the pulses of a trigger begin, at half their height, s.

    Parameters
    ----------
    values : (n,) in any unit.
    start_s : time of the first sample.
    edge : "rising" or "falling"; "": away from the level at which the trigger rests.

    Raises
    ------
    ExoError : if the channel shows no pulses, or no `edge` is given and it rests at neither level.
    """
    clean = np.where(np.isfinite(values), values, np.nanmedian(values) if np.isfinite(values).any() else 0.0)
    if not len(clean):
        raise ExoError("the trigger channel holds no sample; record or export it again")
    up = clean > 0.5 * (clean.min() + clean.max())
    share_up = float(np.mean(up))
    usual = clean[up == (share_up > 0.5)]
    height = float(np.abs(clean - np.median(usual)).max())
    if height <= PULSE_MIN_SD * _deviation(usual) or height == 0.0:
        raise ExoError("the trigger channel shows no pulses; check its cable, its label and that it was sent")
    if not edge and min(share_up, 1.0 - share_up) > PULSE_MAX_SHARE:
        raise ExoError(
            f"the trigger is high for {100.0 * share_up:.0f} % of the time, so rest cannot be told from pulse; "
            f"say which edge the other recording saw: emg.sync.edge: {RISING} or {FALLING}"
        )
    rising = edge == RISING if edge else share_up < 0.5
    away = (clean - np.median(clean[up != rising])) * (1.0 if rising else -1.0)
    height = float(away.max())
    high, low = away >= 0.5 * height, away <= PULSE_END_SHARE * height
    # State after each sample: 1 in a pulse, 0 at rest, carried over in between.
    state = np.where(high, 1, np.where(low, 0, -1))
    last = np.maximum.accumulate(np.where(state >= 0, np.arange(len(state)), 0))
    state = np.maximum(state[last], 0)
    edges = np.flatnonzero(np.diff(state) == 1) + 1
    before, after = away[edges - 1], away[edges]
    return start_s + (edges - (after - 0.5 * height) / (after - before)) / rate_hz


def emg_tap_times(samples: FloatArray, rate_hz: float, sides: Sequence[str], start_s: float = 0.0) -> FloatArray:
    """Impacts of a heel in EMG: where most electrodes of a leg are shaken at once, s.

    Parameters
    ----------
    samples : (n, channels) V.
    sides : "l" or "r" of each channel.
    """
    clean = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    carrier = sosfiltfilt(butter(2, SHOCK_LOW_HZ, "highpass", fs=rate_hz, output="sos"), clean, axis=0)
    power = uniform_filter1d(np.square(carrier), max(1, round(SHOCK_S * rate_hz)), axis=0)
    level = np.sqrt(np.maximum(power, 0.0))
    rest = np.median(level, axis=0)
    live = rest > 0.0
    times = [np.zeros(0)]
    for side in sorted(set(sides)):
        own = live & np.array([other == side for other in sides])
        if own.any():
            shaken = np.median(level[:, own] / rest[own], axis=1)
            times.append(_onsets(shaken, rate_hz))
    return start_s + _merged(np.sort(np.concatenate(times)))


def foot_tap_times(time: FloatArray, heels: FloatArray) -> FloatArray:
    """Impacts of a heel in its trajectory, s.

    Parameters
    ----------
    time : (n,) s, at equal intervals.
    heels : (n, k, 3) m, y up: one heel or both, as measured (not low-passed); NaN where unseen.
    """
    found = [np.zeros(0)]
    step = float(np.median(np.diff(time)))
    for heel in np.moveaxis(heels[:, :, 1], 1, 0):
        seen = np.isfinite(heel)
        if np.count_nonzero(seen) <= ACCELERATION_FRAMES:
            continue
        whole = np.interp(time, time[seen], heel[seen])
        upwards = savgol_filter(whole, ACCELERATION_FRAMES, 2, deriv=2, delta=step)
        # A filled gap has no acceleration that anybody measured.
        blind = uniform_filter1d((~seen).astype(float), ACCELERATION_FRAMES) > 0.0
        found.append(time[0] + _peaks(np.where(blind, 0.0, upwards), 1.0 / step, IMPACT_MIN_M_S2))
    return _merged(np.sort(np.concatenate(found)))


def imu_tap_times(time: FloatArray, acceleration: FloatArray) -> FloatArray:
    """Impacts in an accelerometer's (n, 3) m/s² at `time` (n,) s: where its length leaves that of gravity most."""
    length = np.linalg.norm(acceleration, axis=1)
    rate = (len(time) - 1) / float(time[-1] - time[0])
    return np.asarray(time[0] + _peaks(np.abs(length - np.median(length)), rate, IMPACT_MIN_M_S2))


def _onsets(level: FloatArray, rate_hz: float) -> FloatArray:
    """Where strong, sudden bursts cross half of their height, s from the first sample."""
    peaks = _strong(level - np.median(level), rate_hz, TAP_MIN_SD * max(_deviation(level), 1e-12))
    times = []
    for peak in peaks:
        half = np.median(level) + 0.5 * (level[peak] - np.median(level))
        below = np.flatnonzero(level[: peak + 1] < half)
        if len(below):
            i = int(below[-1])
            times.append((i + (half - level[i]) / (level[i + 1] - level[i])) / rate_hz)
    return np.array(times)


def _peaks(values: FloatArray, rate_hz: float, least: float) -> FloatArray:
    """Times of strong peaks, by a parabola to a fraction of a sample, s from the first."""
    peaks = _strong(values, rate_hz, least)
    peaks = peaks[(peaks > 0) & (peaks < len(values) - 1)]
    left, top, right = values[peaks - 1], values[peaks], values[peaks + 1]
    bend = left - 2.0 * top + right
    shift = np.where(bend < 0.0, 0.5 * (left - right) / np.where(bend < 0.0, bend, -1.0), 0.0)
    return np.asarray((peaks + shift) / rate_hz)


def _strong(values: FloatArray, rate_hz: float, least: float) -> NDArray[np.int64]:
    """Peaks that are high enough, far enough apart, and no dwarfs among the others."""
    peaks, found = find_peaks(values, height=least, distance=max(1, round(TAP_APART_S * rate_hz)))
    if not len(peaks):
        return np.zeros(0, dtype=np.int64)
    heights = found["peak_heights"]
    return np.asarray(peaks[heights >= TAP_MIN_SHARE * np.percentile(heights, STRONG_PERCENTILE)], dtype=np.int64)


def _merged(times: FloatArray) -> FloatArray:
    """Rising times without those that follow another too soon: both feet or both legs saw one tap."""
    kept: list[float] = []
    for time in times:
        if not kept or time - kept[-1] >= TAP_APART_S:
            kept.append(float(time))
    return np.array(kept)


def _deviation(values: FloatArray) -> float:
    """Robust standard deviation, from the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
