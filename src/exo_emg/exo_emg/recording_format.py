"""What a reader of one file format is told, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from exo_common.parameters import Parameters, parameter

FloatArray = NDArray[np.float64]

# A synchronisation signal: it stays as it is, and no amplitude is too large for it.
TRIGGER = "trigger"
PERCENT_UNITS = {"%": 0.01, "% MVC": 0.01, "%MVC": 0.01}


@dataclasses.dataclass(frozen=True)
class FileOptions(Parameters):
    """What a file leaves open."""

    unit: str = parameter("", "", "unit of the numbers where the file states none", choices=("", "V", "mV", "uV"))
    rate_hz: float = parameter(
        0.0, "Hz", "sampling rate where the file holds no times; 0: the file tells", minimum=0.0, maximum=50000.0
    )
    side: str = parameter("", "", "leg of the channels that name no side", choices=("", "l", "r"))


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the reader of one format found, before names and units are judged.

    Parameters
    ----------
    labels : of the EMG channels, as written.
    units : per channel, as written; "" where the file is silent.
    rate_hz, time0_s : sampling rate and time of the first sample on the file's own clock.
    blocks : called for every pass; yields (n, channels) in the file's units, without a hole.
    notes : what was left out or mended; grows while blocks are read.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    rate_hz: float
    time0_s: float
    blocks: Callable[[], Iterator[FloatArray]]
    notes: list[str] = dataclasses.field(default_factory=list)
