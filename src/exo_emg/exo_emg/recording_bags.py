"""EMG of rosbag2 recordings: the frames of /emg/raw put together again, holes as NaN.

An amplifier's samples are counted by its own crystal, while the frames are stamped by the clock of everything else in
the bag. Rate and start are therefore those of a robust line through the stamps, not the rate that the device states.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.stats import theilslopes

from exo_common.bag import BagReader
from exo_common.clock import NS_PER_S, to_ns
from exo_common.errors import ExoError
from exo_emg.recording_format import Contents, FloatArray, missing_rows
from exo_emg.time_base import MERGE_LIMIT_S, PRIOR_DRIFT

TOPIC = "/emg/raw"
BLOCK_S = 10.0
# A longer hole is two recordings.
LONGEST_HOLE_S = 600.0
# The line of the stamps and the stated rate are the same when they differ by no more than this at either end.
STAMPS_AGREE_S = 0.001
# All pairs of so many frames give the line's slope.
LINE_FRAMES = 300
# A few frames that were stamped late leave no mark; a clock that was set does.
LATE_FRAMES = 9


def open_bag(path: Path) -> Contents:
    """Open the EMG of a bag; time is ROS time, s since its epoch.

    Raises
    ------
    ExoError : if the bag cannot be read or holds no EMG, or its stamps leave a straight line by more than recordings
        are merged with; later if the channels change in the middle.
    """
    notes: list[str] = []
    with BagReader(path) as reader:
        if reader.damage:
            notes.append(reader.damage)
        first: Any = None
        stamps: list[tuple[int, int]] = []
        for item in reader.messages([TOPIC]):
            frame: Any = item.message
            first = first or frame
            stamps.append((frame.first_sample, to_ns(frame.header.stamp)))
    if first is None:
        raise ExoError(f"{path} holds no {TOPIC}; record the EMG driver's topic too")
    stated, muscles = float(first.sampling_rate_hz), tuple(first.muscles)
    rate, start_s = _line(path, np.array(stamps, dtype=np.int64), stated)
    if rate != stated:
        notes.append(
            f"by its stamps the EMG has {rate:.6g} Hz, not {stated:.6g} Hz ({1e6 * (rate / stated - 1.0):+.0f} ppm); "
            "its times follow the stamps"
        )

    def blocks() -> Iterator[FloatArray]:
        with BagReader(path) as reader:
            frames = (item.message for item in reader.messages([TOPIC]))
            yield from _joined(frames, path, muscles, stated, rate, notes)

    return Contents(muscles, ("V",) * len(muscles), rate, start_s, blocks, notes)


def _line(path: Path, stamps: NDArray[np.int64], stated: float) -> tuple[float, float]:
    """Rate (Hz) and time of the first sample (s) by the (n, 2) indices and stamps (ns) of the frames."""
    index, begin = stamps[:, 0].astype(float), int(stamps[0, 1])
    seconds = (stamps[:, 1] - begin) / NS_PER_S
    # Where the driver was started again it counts from zero; the longest run tells the rate.
    runs = np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) <= 0.0) + 1)
    longest = max(runs, key=len)
    rate = stated / (1.0 + _drift(index[longest] / stated, seconds[longest]))
    for before, run in itertools.pairwise(runs):
        hole = round(float(seconds[run[0]] - seconds[before[-1]]) * rate)
        index[run] += index[before[-1]] + hole - index[run[0]]
    off = seconds - (index - index[0]) / rate
    start = float(np.median(off))
    off = median_filter(off - start, LATE_FRAMES, mode="nearest")
    worst = int(np.argmax(np.abs(off)))
    if abs(off[worst]) > MERGE_LIMIT_S:
        raise ExoError(
            f"{path}: the EMG's stamps leave the line through all of them by {1e3 * off[worst]:+.0f} ms at "
            f"{seconds[worst]:.1f} s: a clock was set, or samples were lost and not counted; record it again"
        )
    return rate, begin / NS_PER_S + (start if abs(start) > STAMPS_AGREE_S else 0.0)


def _drift(counted: FloatArray, stamped: FloatArray) -> float:
    """How much longer stamps say a second of (n,) counted times is, against the prior of two quartzes; 0: no matter."""
    some = np.unique(np.linspace(0, len(counted) - 1, min(len(counted), LINE_FRAMES)).astype(int))
    if len(some) < 3:
        return 0.0
    x, y = counted[some] - counted[some].mean(), (stamped - counted)[some]
    slope = float(theilslopes(y, x)[0])
    residual = y - slope * x
    noise = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    variance = float(x @ x)
    slope *= variance / (variance + (noise / PRIOR_DRIFT) ** 2)
    return slope if abs(slope) * np.ptp(x) > STAMPS_AGREE_S else 0.0


def _joined(
    frames: Iterator[Any], path: Path, muscles: tuple[str, ...], stated: float, rate: float, notes: list[str]
) -> Iterator[FloatArray]:
    """Frames one behind the other, about :data:`BLOCK_S` at a time."""
    waiting: list[FloatArray] = []
    held = 0
    lost = 0
    following: tuple[int, int] | None = None  # index and stamp that continue the frame before
    for frame in frames:
        if tuple(frame.muscles) != muscles or frame.sampling_rate_hz != stated:
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
            lost += hole
            if held + hole >= BLOCK_S * rate:
                if waiting:
                    yield np.concatenate(waiting)
                waiting, held = [], 0
                yield from missing_rows(hole, len(muscles), round(BLOCK_S * rate))
            elif hole:
                waiting.append(np.full((hole, len(muscles)), np.nan))
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
