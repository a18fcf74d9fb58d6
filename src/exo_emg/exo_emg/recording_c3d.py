"""The analog channels of a C3D file that are EMG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from exo_common.c3d import read_emg
from exo_emg.recording_format import Contents, FloatArray, emg_columns

BLOCK_S = 10.0


def open_c3d(path: Path, names: Mapping[str, str]) -> Contents:
    """Open a C3D file; time counts from its first marker frame.

    Raises
    ------
    ExoError : if it is damaged or truncated, or holds no channel in volts.
    """
    found = read_emg(path)
    notes = [f"analog channels in other units were left out: {', '.join(found.others)}"] if found.others else []
    chosen = emg_columns(path, found.names, ("V",) * len(found.names), names, notes)
    samples, length = found.values[:, chosen], max(1, round(BLOCK_S * found.rate_hz))

    def blocks() -> Iterator[FloatArray]:
        for start in range(0, len(samples), length):
            yield samples[start : start + length]

    labels = tuple(found.names[i] for i in chosen)
    return Contents(labels, ("V",) * len(labels), found.rate_hz, 0.0, blocks, notes)
