"""What a reader of one file format is told, and what it gives back."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_common.c3d import VOLT_UNITS
from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.muscles import known

FloatArray = NDArray[np.float64]

# A synchronisation signal: it stays as it is, and no amplitude is too large for it.
TRIGGER = "trigger"
# A channel so named is left out.
UNUSED = "-"
PERCENT_UNITS = {"%": 0.01, "% MVC": 0.01, "%MVC": 0.01}
TIME_NAMES = re.compile(r"^(time|times|timestamp|t|zeit|temps|x)(\s*(axis|stamp))?$", re.IGNORECASE)
# Columns that come with EMG and are none.
OTHERS = re.compile(
    r"(?i)\b(acc|accel\w*|gyro\w*|mag|imu|frame\w*|sample\w*|index|row|marker|trigger|trig|sync\w*|event\w*|force\w*|"
    r"moment\w*|torque\w*|angle\w*|gonio\w*|foot\s*switch\w*|fsr|battery|f[xyz]\d*|m[xyz]\d*|time)\b"
)


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


def missing_rows(count: int, channels: int, most: int) -> Iterator[FloatArray]:
    """`count` rows of NaN, no more than `most` at a time."""
    for start in range(0, count, most):
        yield np.full((min(most, count - start), channels), np.nan)


def emg_columns(
    path: Path, labels: Sequence[str], units: Sequence[str], names: Mapping[str, str], notes: list[str]
) -> list[int]:
    """Which channels of a file are EMG, or plainly meant to be; those left out are noted.

    Raises
    ------
    ExoError : if none is.
    """
    chosen, aside = [], []
    for i, (label, unit) in enumerate(zip(labels, units, strict=True)):
        if TIME_NAMES.match(label) and label not in names:
            continue
        voltage = not unit or unit in VOLT_UNITS or unit in PERCENT_UNITS
        other = OTHERS.search(label.replace("_", " ")) is not None and not known(label)
        if names.get(label, UNUSED if other or not label or not voltage else label) != UNUSED:
            chosen.append(i)
        else:
            aside.append(label)
    if not chosen:
        raise ExoError(f"{path} has no column of a muscle in {', '.join(labels[:12])}; name its columns")
    if aside:
        notes.append(f"columns that are no EMG were left out: {', '.join(aside)}")
    return chosen
