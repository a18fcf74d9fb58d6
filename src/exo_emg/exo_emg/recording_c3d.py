"""The analog channels of a C3D file that are EMG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from exo_common.c3d import read_emg
from exo_emg.recording_format import Contents, FloatArray

BLOCK_S = 10.0


def open_c3d(path: Path) -> Contents:
    """Open a C3D file; time counts from its first marker frame.

    Raises
    ------
    ExoError : if it is damaged or truncated, or holds no channel in volts.
    """
    found = read_emg(path)
    length = max(1, round(BLOCK_S * found.rate_hz))

    def blocks() -> Iterator[FloatArray]:
        for start in range(0, len(found.values), length):
            yield found.values[start : start + length]

    return Contents(found.names, ("V",) * len(found.names), found.rate_hz, 0.0, blocks)
