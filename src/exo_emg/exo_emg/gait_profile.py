"""Envelopes over the gait cycle: mean and spread of the strides, channel by channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_emg.muscles import side_of

FloatArray = NDArray[np.float64]

POINTS = 101
# A stride's peak jitters with the signal's own noise: of many strides, this percentile of the peaks is reached again
# and outliers do not reach it.
PEAK_PERCENTILE = 90.0


@dataclasses.dataclass(frozen=True)
class Profile:
    """One channel over its own leg's gait cycle, 0..100 %.

    Attributes
    ----------
    mean, sd : (101,) fraction of the calibrated maximum.
    strides : how many were averaged.
    """

    mean: FloatArray
    sd: FloatArray
    strides: int


def gait_profiles(
    envelope: FloatArray,
    time: FloatArray,
    muscles: Sequence[str],
    strides: Mapping[str, Sequence[tuple[float, float]]],
) -> dict[str, Profile]:
    """Mean and standard deviation of every channel over the strides of its own leg.

    Parameters
    ----------
    envelope : (n, channels); NaN where it is not known.
    time : (n,) s.
    strides : side "l" or "r" -> start and end of its strides, s on the same clock.

    Returns
    -------
    Profiles by channel; a channel without a stride of its leg in the recording is left out.
    """
    grid = np.linspace(0.0, 1.0, POINTS)
    found = {}
    for column, name in enumerate(muscles):
        side = side_of(name)[1] or ""
        curves = [
            np.interp(start + grid * (end - start), time, envelope[:, column])
            for start, end in strides.get(side, ())
            if start >= time[0] and end <= time[-1]
        ]
        curves = [curve for curve in curves if np.isfinite(curve).all()]
        if curves:
            sd = np.std(curves, axis=0, ddof=1) if len(curves) > 1 else np.zeros(POINTS)
            found[name] = Profile(np.mean(curves, axis=0), sd, len(curves))
    return found


def stride_peaks(
    envelope: FloatArray,
    time: FloatArray,
    muscles: Sequence[str],
    strides: Mapping[str, Sequence[tuple[float, float]]],
) -> FloatArray:
    """(channels,) robust peak over the strides of each channel's leg; parameters as of :func:`gait_profiles`.

    Strides that are known throughout count; where there is none, what is known of the others; a channel without
    strides has the same percentile of its whole recording, NaN where nothing is known.
    """
    peaks = []
    for column, name in enumerate(muscles):
        own = envelope[:, column]
        inside = [own[(time >= start) & (time <= end)] for start, end in strides.get(side_of(name)[1] or "", ())]
        inside = [stride for stride in inside if np.isfinite(stride).any()]
        whole = [stride for stride in inside if np.isfinite(stride).all()]
        found = [np.nanmax(stride) for stride in whole or inside] or own[np.isfinite(own)]
        peaks.append(np.percentile(found, PEAK_PERCENTILE) if len(found) else np.nan)
    return np.array(peaks)
