"""EMG of rosbag2 recordings: the frames of /emg/raw put together again, holes as NaN."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from exo_common.bag import BagReader
from exo_common.clock import NS_PER_S, to_ns
from exo_common.errors import ExoError
from exo_emg.recording_format import Contents, FloatArray

TOPIC = "/emg/raw"
BLOCK_S = 10.0
# A longer hole is two recordings.
LONGEST_HOLE_S = 600.0


def open_bag(path: Path) -> Contents:
    """Open the EMG of a bag; time is ROS time, s since its epoch.

    Raises
    ------
    ExoError : if the bag cannot be read or holds no EMG; later if the channels change in the middle.
    """
    notes: list[str] = []
    with BagReader(path) as reader:
        if reader.damage:
            notes.append(reader.damage)
        first: Any = next((item.message for item in reader.messages([TOPIC])), None)
    if first is None:
        raise ExoError(f"{path} holds no {TOPIC}; record the EMG driver's topic too")
    rate, muscles = float(first.sampling_rate_hz), tuple(first.muscles)

    def blocks() -> Iterator[FloatArray]:
        with BagReader(path) as reader:
            frames = (item.message for item in reader.messages([TOPIC]))
            yield from _joined(frames, path, muscles, rate, notes)

    return Contents(muscles, ("V",) * len(muscles), rate, to_ns(first.header.stamp) / NS_PER_S, blocks, notes)


def _joined(
    frames: Iterator[Any], path: Path, muscles: tuple[str, ...], rate: float, notes: list[str]
) -> Iterator[FloatArray]:
    """Frames one behind the other, about :data:`BLOCK_S` at a time."""
    waiting: list[FloatArray] = []
    held = 0
    lost = 0
    following: tuple[int, int] | None = None  # index and stamp that continue the frame before
    for frame in frames:
        if tuple(frame.muscles) != muscles or frame.sampling_rate_hz != rate:
            raise ExoError(
                f"{path}: the EMG channels change in the middle; record the two parts into bags of their own"
            )
        if len(frame.samples) % len(muscles):
            raise ExoError(
                f"{path}: the EMG frame at sample {frame.first_sample} holds {len(frame.samples)} numbers for "
                f"{len(muscles)} channels; its driver is broken, record again"
            )
        samples = np.asarray(frame.samples, dtype=float).reshape(-1, len(muscles))
        stamp = to_ns(frame.header.stamp)
        if following is not None:
            hole = frame.first_sample - following[0]
            if hole < 0:
                # The driver began to count again: only the clock can tell how long it was away.
                hole = round((stamp - following[1]) * rate / NS_PER_S)
                notes.append("the EMG driver was started again in the middle; the hole is measured by the stamps")
            if hole < 0 or hole > LONGEST_HOLE_S * rate:
                raise ExoError(
                    f"{path}: the EMG's time jumps by {hole / rate:.0f} s; record the two parts into bags of their own"
                )
            if hole:
                waiting.append(np.full((hole, len(muscles)), np.nan))
                lost += hole
                held += hole
        waiting.append(samples)
        held += len(samples)
        following = (frame.first_sample + len(samples), stamp + round(len(samples) * NS_PER_S / rate))
        if held >= BLOCK_S * rate:
            yield np.concatenate(waiting)
            waiting, held = [], 0
    if waiting:
        yield np.concatenate(waiting)
    if lost:
        notes.append(f"{lost} samples are missing and stand as NaN")
