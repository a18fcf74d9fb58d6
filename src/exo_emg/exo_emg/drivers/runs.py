"""Samples with a count each, cut into readings where the count jumps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from exo_common.clock import NS_PER_S
from exo_emg.drivers.interface import Reading


def readings(
    index: NDArray[np.int64], samples: NDArray[np.float64], last_stamp_ns: int, rate_hz: float
) -> list[Reading]:
    """Readings, each without a gap inside.

    Parameters
    ----------
    index : (n,) rising count of the samples, n >= 1.
    samples : (n, channels) V.
    last_stamp_ns : stamp of the last sample; those before are reckoned back from it.
    """
    cuts = np.flatnonzero(np.diff(index) != 1) + 1
    starts, ends = np.r_[0, cuts], np.r_[cuts, len(index)]
    return [
        Reading(
            int(index[a]),
            samples[a:b],
            last_stamp_ns - round((int(index[-1]) - int(index[b - 1])) * NS_PER_S / rate_hz),
        )
        for a, b in zip(starts, ends, strict=True)
    ]
