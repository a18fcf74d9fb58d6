"""EMG in text tables: CSV in the forms that laboratories export, and OpenSim's STO and MOT.

A table is some lines of talk (`# rate: 2000 Hz`), a line of column names, perhaps a
line of units, then rows of numbers. Separator (comma, semicolon, tab, blanks) and
decimal comma are recognised. Columns that are no muscle but plainly something else
(accelerations, frame numbers, forces ...) are left out, with a note.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_common.c3d import VOLT_UNITS, volt_unit
from exo_common.errors import ExoError
from exo_emg.recording_format import (
    PERCENT_UNITS,
    TIME_NAMES,
    Contents,
    FileOptions,
    FloatArray,
    emg_columns,
    missing_rows,
)

# Rows read at a time: seconds of signal, and no more than some 10 ms of work when they are played.
BLOCK_ROWS = 5000
# The names stand within so many lines, or the file is no table.
HEAD_LINES = 60
# Rates outside are those of a time column in another unit.
RATES_HZ = (20.0, 100000.0)
# A longer hole is two recordings.
LONGEST_HOLE_S = 600.0
# A step may be a hole when it is longer than this many usual ones. Whether it is, and of how many samples, so many rows
# on either side tell together: single times may be rounded or jitter.
HOLE_STEPS = 1.5
HOLE_ROWS = 50
# The period is first taken from so many rows, the straightest of the first block.
PIECE_ROWS = 250
# What the first period cannot count to a quarter of a sample is not bridged when the rate is measured.
COUNT_DOUBT = 0.25
# Times have no more digits than this.
MOST_DIGITS = 9

TIME_UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
RATE_TALK = re.compile(
    r"(?i)(?:sampl\w*|scan)?\s*(?:rate|frequency|freq|hz)\b[^0-9]{0,20}([0-9]+(?:[.,][0-9]+)?)\s*(k?)"
)
BRACKETS = re.compile(r"^(.*?)\s*[\[(]\s*([^\])]*?)\s*[\])]\s*$")
SUFFIX = re.compile(r"(?i)^(.*?)[_ ]([um\u00b5\u03bc]v|volts?)$")
NO_NUMBER = {"", "nan", "na", "n/a", "null", "none", "-", "--", "inf", "-inf", "#n/a"}


@dataclasses.dataclass(frozen=True)
class _Table:
    """Where the numbers of a file are."""

    path: Path
    encoding: str
    separator: str | None  # None: blanks
    decimal_comma: bool
    labels: tuple[str, ...]
    units: tuple[str, ...]
    skip: int  # lines before the first row
    rows: int | None  # as announced
    rate_hz: float  # as announced, or 0


def open_table(path: Path, options: FileOptions, names: Mapping[str, str]) -> Contents:
    """Open a CSV, STO or MOT file.

    Raises
    ------
    ExoError : if it is no table, holds no muscle, or neither times nor a rate are known; later if it is damaged.
    """
    table = _describe(path)
    time = next((i for i, label in enumerate(table.labels) if TIME_NAMES.match(label)), None)
    notes: list[str] = []
    chosen = emg_columns(path, table.labels, table.units, names, notes)
    first = next(_blocks(table), None)
    if first is None or not len(first):
        raise ExoError(f"{path} holds no row of numbers; record or export it again")
    if time is None:
        rate, time0 = options.rate_hz or table.rate_hz, 0.0
        if not rate:
            raise ExoError(f"{path} has no time column and states no rate; give the sampling rate in Hz (rate_hz)")
        clock = None
    else:
        clock = _Clock(table, time, first[:, time])
        _require_new_rows(path, first[:, time], first[:, chosen])
        rate, time0 = clock.rate_hz, clock.start_s
        if options.rate_hz and abs(rate / options.rate_hz - 1.0) > 0.01:
            raise ExoError(
                f"{path} is sampled at {rate:.6g} Hz by its time column, not at {options.rate_hz:g} Hz; "
                "correct rate_hz or leave it out"
            )

    def blocks() -> Iterator[FloatArray]:
        if clock is not None:
            clock.begin()
        for rows in _blocks(table):
            if clock is None:
                yield rows[:, chosen]
            else:
                yield from clock.with_holes(rows[:, clock.column], rows[:, chosen])
        if clock is not None and clock.missing:
            notes.append(f"{clock.missing} samples are missing by the time column and stand as NaN")

    labels, units = (tuple(values[i] for i in chosen) for values in (table.labels, table.units))
    return Contents(labels, units, rate, time0, blocks, notes)


class _Clock:
    """The time column: the rate, and rows of NaN where samples are missing.

    Times are often rounded to fewer digits than the rate needs, or are those of a computer that was busy. The rate is
    therefore that of a straight line through all times of the file, which are read for it when the file is opened.
    """

    def __init__(self, table: _Table, column: int, first: FloatArray) -> None:
        self.column, self._path = column, table.path
        unit = table.units[column].lower()
        if unit not in TIME_UNITS:
            raise ExoError(f"{table.path} gives its time in '{unit}'; export it in s or ms")
        self._scale = TIME_UNITS[unit]
        times = first * self._scale
        steps = np.diff(times)
        if len(steps) < 2 or not np.isfinite(steps).all() or not np.any(steps > 0.0):
            raise ExoError(f"{table.path}: its time column does not rise; export it again, or give rate_hz without it")
        self._quantum = _quantum(first) * self._scale
        self._period = _period(times, self._quantum)
        # A step of rounded times is longer than the period by up to their last digit.
        usual = max(float(np.percentile(steps, 75.0)), self._period)
        self._hole_s = HOLE_STEPS * usual
        self._refuse_rate(1.0 / self._period if self._period > 0.0 else 0.0)
        self.rate_hz, self.start_s = self._survey(table, float(times[0]))
        self._period = 1.0 / self.rate_hz
        self.begin()

    def begin(self) -> None:
        """Read from the start again."""
        self._tail = np.zeros(0)
        self.missing = 0

    def with_holes(self, times: FloatArray, rows: FloatArray) -> Iterator[FloatArray]:
        """The (n, k) rows of these times, with rows of NaN for the samples missing before or between them."""
        holes, lengths = self._holes(times * self._scale)
        self.missing += int(lengths.sum())
        if lengths.sum() <= BLOCK_ROWS:
            yield np.insert(rows, np.repeat(holes, lengths), np.nan, axis=0)
            return
        start = 0
        for hole, length in zip(holes, lengths, strict=True):
            if hole > start:
                yield rows[start:hole]
            yield from missing_rows(int(length), rows.shape[1], BLOCK_ROWS)
            start = hole
        yield rows[start:]

    def _refuse_rate(self, rate: float) -> None:
        if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
            better = next((u for u, s in TIME_UNITS.items() if s < 1.0 and RATES_HZ[0] <= rate / s < 2e4), "")
            hint = f"; it looks like {better}: call the column 'time [{better}]'" if better else "; correct the times"
            raise ExoError(f"{self._path}: its time column means {rate:.3g} Hz, no rate of EMG{hint}")

    def _survey(self, table: _Table, first: float) -> tuple[float, float]:
        """Rate (Hz) and start (s) of the line through all times; holes too long to count begin a line of their own."""
        self.begin()
        most = int(1.01 * self._quantum / self._period) + 1
        doubt = max(self._quantum, 0.1 * self._period) / (PIECE_ROWS * self._period)
        lines = [_Line()]
        times = np.array([first])
        for raw in _times(table, self.column):
            times = raw * self._scale
            self._require_rising(times, most)
            holes, lengths = self._holes(times)
            index = np.ones(len(times))
            index[holes] += lengths
            cuts = holes[lengths * doubt > COUNT_DOUBT]
            for number, (own, ahead) in enumerate(zip(np.split(times, cuts), np.split(index, cuts), strict=True)):
                if number:
                    lines.append(_Line())
                lines[-1].add(own, ahead)
        weight = sum(line.of_index for line in lines)
        period = sum(line.of_both for line in lines) / weight if weight > 0.0 else self._period
        rate, span = 1.0 / period, max(float(times[-1]) - first, period)
        # A whole number of Hz is the rate as long as it takes no time further away than rounding or jitter do.
        scatter = max(self._quantum, 2.0 * max(line.deviation(period) for line in lines))
        if round(rate) and abs(rate / round(rate) - 1.0) * span <= scatter:
            rate = float(round(rate))
        start = lines[0].start(period)
        return rate, first if abs(start - first) <= max(self._quantum, 0.01 * period) else start

    def _require_rising(self, times: FloatArray, most: int) -> None:
        """Raise ExoError where time runs backwards, or stands still for more than `most` rows."""
        seen = np.concatenate([self._tail, times])
        steps = np.diff(seen)
        if not np.isfinite(steps).all() or np.any(steps < 0.0):
            at = seen[int(np.argmax(~(steps >= 0.0))) + 1]
            raise ExoError(f"{self._path}: time runs backwards or is missing near {at:g} s; export it again")
        still = np.flatnonzero(seen[most:] == seen[:-most])
        if len(still):
            raise ExoError(
                f"{self._path}: {most + 1} rows or more share the time {seen[still[0]]:g} s, which rounding to the "
                "last digit does not explain; export it again with more digits"
            )

    def _holes(self, times: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of (n,) times, s, before which samples may be missing, and how many are; in the order of the file."""
        before = len(self._tail)
        seen = np.concatenate([self._tail, times])
        holes = np.flatnonzero(np.diff(seen) > self._hole_s) + 1
        holes = holes[holes >= before]
        bounds = np.concatenate([[0], holes, [len(seen)]])
        lengths = np.zeros(len(holes), dtype=np.int64)
        for i, hole in enumerate(holes):
            earlier = seen[max(bounds[i], hole - HOLE_ROWS) : hole]
            later = seen[hole : min(bounds[i + 2], hole + HOLE_ROWS)]
            due = np.mean(earlier + np.arange(len(earlier), 0, -1) * self._period)
            came = np.mean(later - np.arange(len(later)) * self._period)
            lengths[i] = max(0, round(float(came - due) / self._period))
        if len(lengths) and lengths.max() * self._period > LONGEST_HOLE_S:
            raise ExoError(
                f"{self._path}: its time jumps by {lengths.max() * self._period:.0f} s; cut it into two recordings"
            )
        self._tail = seen[max(bounds[-2], len(seen) - HOLE_ROWS) :]
        return holes - before, lengths


class _Line:
    """Sums of a straight line through times over the index of their samples."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._next = 0.0
        self._count = self._k = self._t = self._kk = self._kt = self._tt = 0.0

    def add(self, times: FloatArray, ahead: FloatArray) -> None:
        """(n,) times, s, each `ahead` samples after the one before."""
        if not len(times):
            return
        if self._first is None:
            self._first, self._next = float(times[0]), -float(ahead[0])
        k, t = self._next + np.cumsum(ahead), times - self._first
        self._next = float(k[-1])
        self._count += len(k)
        self._k, self._t = self._k + float(k.sum()), self._t + float(t.sum())
        self._kk, self._kt, self._tt = self._kk + float(k @ k), self._kt + float(k @ t), self._tt + float(t @ t)

    @property
    def of_index(self) -> float:
        """Sum of squares of the index about its mean."""
        return self._kk - self._k**2 / self._count if self._count else 0.0

    @property
    def of_both(self) -> float:
        """Sum of products of index and time about their means, s."""
        return self._kt - self._k * self._t / self._count if self._count else 0.0

    def deviation(self, period: float) -> float:
        """Standard deviation of the times from the line of a period, s."""
        if not self._count:
            return 0.0
        of_time = self._tt - self._t**2 / self._count
        left = of_time - 2.0 * period * self.of_both + period**2 * self.of_index
        return float(np.sqrt(max(0.0, left) / self._count))

    def start(self, period: float) -> float:
        """Time of the first sample by the line, s."""
        assert self._first is not None, "add first"
        return self._first + (self._t - period * self._k) / self._count


def _quantum(values: FloatArray) -> float:
    """What the last digit of numbers is worth, in their unit; 0 where they are not rounded."""
    apart = values - values[0]
    for digits in range(MOST_DIGITS + 1):
        scaled = apart * 10.0**digits
        # Not exact: seconds since 1970 leave no digits for the microseconds.
        if np.abs(scaled - np.rint(scaled)).max() < 0.02:
            return float(10.0**-digits)
    return 0.0


def _period(times: FloatArray, quantum: float) -> float:
    """The period in a block of times, s: of its straightest piece if only rounding bends it, or by usual steps."""
    pieces = [times[at : at + PIECE_ROWS] for at in range(0, max(1, len(times) - PIECE_ROWS + 1), PIECE_ROWS)]
    index = np.arange(len(pieces[0]))
    slopes = [float(np.polyfit(index, piece, 1)[0]) for piece in pieces]
    spread = [float(np.ptp(piece - slope * index)) for piece, slope in zip(pieces, slopes, strict=True)]
    best = int(np.argmin(spread))
    if spread[best] <= 1.1 * quantum:
        return slopes[best]
    steps = np.diff(times)
    usual = float(np.percentile(steps, 75.0))
    return float(np.mean(steps[(steps >= 0.0) & (steps <= HOLE_STEPS * usual)]))


def _require_new_rows(path: Path, times: FloatArray, rows: FloatArray) -> None:
    """Raise ExoError if rows of one time are mostly one row written twice, which looks like a time that was rounded."""
    still = np.diff(times) == 0.0
    same = (np.diff(rows, axis=0) == 0.0).all(axis=1)
    if still.sum() > 2 and same[still].mean() > 0.5 and same[~still].mean() < 0.5:
        raise ExoError(f"{path}: rows are written twice, the first near {times[np.argmax(still)]:g}; export it again")


def _describe(path: Path) -> _Table:
    """Find names, units, separator and the first row."""
    encoding, head = _head(path)
    ends = [i for i, line in enumerate(head) if line.strip().lower() == "endheader"]
    announced = dict(line.split("=", 1) for line in head[: ends[0]] if "=" in line) if ends else {}
    start = ends[0] + 1 if ends else 0
    separator = None if ends else _separator(head)
    at = next((i for i in range(start, len(head)) if _numeric(head[i], separator)), None)
    if at is None:
        raise ExoError(f"{path} is no table: no row of numbers in its first lines; export it as CSV, STO or MOT")
    talk = [i for i in range(start, at) if head[i].strip()]
    if not talk:
        raise ExoError(f"{path} does not name its columns; add a first line such as time,tibialis_anterior_r")
    columns = len(_cells(head[at], separator))
    named = [i for i in talk if len(_cells(head[i], separator)) == columns]
    if not named:
        raise ExoError(f"{path} has {columns} columns of numbers, but no line with as many names; export it again")
    line, units_line = named[-1], [""] * columns
    if len(named) > 1 and _are_units(_cells(head[line], separator)):
        line, units_line = named[-2], _cells(head[line], separator)
    parts = [
        _label_and_unit(cell) for cell in _cells(head[line].lstrip("#% \t") if not ends else head[line], separator)
    ]
    return _Table(
        path=path,
        encoding=encoding,
        separator=separator,
        decimal_comma=separator != "," and "," in head[at],
        labels=tuple(label for label, _ in parts),
        units=tuple(volt_unit(unit or below) for (_, unit), below in zip(parts, units_line, strict=True)),
        skip=at,
        rows=_announced_rows(announced),
        rate_hz=0.0 if ends else _stated(head[:line]),
    )


def _head(path: Path) -> tuple[str, list[str]]:
    """Encoding and first lines."""
    for encoding in ("utf-8-sig", "latin-1"):
        try:
            with path.open(encoding=encoding) as file:
                head = [line.rstrip("\r\n") for line in itertools.islice(file, HEAD_LINES)]
        except UnicodeDecodeError:
            continue
        except OSError as error:
            raise ExoError(f"{path} cannot be read ({error.strerror}); check the file") from None
        if any("\0" in line for line in head):
            break
        return encoding, head
    raise ExoError(f"{path} is not a text file; export the EMG as CSV, STO, MOT or C3D")


def _separator(head: list[str]) -> str | None:
    """The separator that most of the last lines share; None for blanks."""
    tail = [line for line in head[-10:] if line.strip()]
    for separator in (";", "\t", ","):
        if tail and sum(separator in line for line in tail) > len(tail) / 2:
            return separator
    return None


def _cells(line: str, separator: str | None) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.strip("\r\n").split(separator)]


def _numeric(line: str, separator: str | None) -> bool:
    cells = _cells(line, separator)
    numbers = [cell for cell in cells if _is_number(cell)]
    return bool(numbers) and all(_is_number(cell) or cell.lower() in NO_NUMBER for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ".", 1))
    except ValueError:
        return False
    return cell.lower() not in NO_NUMBER


def _are_units(cells: list[str]) -> bool:
    units = {*VOLT_UNITS, *TIME_UNITS, *PERCENT_UNITS, "N", "Nm", "deg", "g", "#"}
    return all(volt_unit(cell) in units for cell in cells)


def _label_and_unit(cell: str) -> tuple[str, str]:
    """Name and unit of a column written as 'TA_R [mV]', 'TA_R (mV)' or 'TA_R_mV'."""
    found = BRACKETS.match(cell) or SUFFIX.match(cell)
    return (found[1], found[2]) if found else (cell, "")


def _stated(talk: list[str]) -> float:
    """The rate that the lines before the names state, Hz; 0 where they are silent."""
    for line in talk:
        found = RATE_TALK.search(line)
        if found:
            return float(found[1].replace(",", ".")) * (1000.0 if found[2] else 1.0)
    return 0.0


def _announced_rows(header: Mapping[str, str]) -> int | None:
    value = next((value for key, value in header.items() if key.strip().lower() == "nrows"), "")
    return int(value) if value.strip().isdigit() else None


def _blocks(table: _Table) -> Iterator[FloatArray]:
    """The rows of numbers, some thousand at a time."""
    read = 0
    with table.path.open(encoding=table.encoding) as file:
        for _ in range(table.skip):
            next(file)
        while lines := list(itertools.islice(file, BLOCK_ROWS)):
            rows = _rows(table, lines, table.skip + read + 1)
            read += len(lines)
            if len(rows):
                yield rows
        if table.rows is not None and read < table.rows:
            raise ExoError(f"{table.path} is truncated: {read} of {table.rows} rows are there; copy or export it again")


def _times(table: _Table, column: int) -> Iterator[FloatArray]:
    """The numbers of one column, as many rows at a time as :func:`_blocks`."""
    read = 0
    with table.path.open(encoding=table.encoding) as file:
        for _ in range(table.skip):
            next(file)
        while lines := list(itertools.islice(file, BLOCK_ROWS)):
            try:
                cells = [line.split(table.separator, column + 1)[column] for line in lines]
                if table.decimal_comma:
                    cells = [cell.replace(",", ".") for cell in cells]
                yield np.array(cells, dtype=float)
            except (ValueError, IndexError):
                rows = _rows(table, lines, table.skip + read + 1)
                if len(rows):
                    yield rows[:, column]
            read += len(lines)


def _rows(table: _Table, lines: list[str], first_line: int) -> FloatArray:
    if table.decimal_comma:
        lines = [line.replace(",", ".") for line in lines]
    try:
        rows: FloatArray = np.loadtxt(lines, delimiter=table.separator, ndmin=2, comments=None)
        if rows.shape[1] != len(table.labels):
            raise ValueError
    except ValueError:
        rows = _mended(table, lines, first_line)
    rows[~np.isfinite(rows)] = np.nan
    return rows


def _mended(table: _Table, lines: list[str], first_line: int) -> FloatArray:
    """Row by row: empty cells and words for 'nothing' are NaN; anything else that is no number is refused."""
    rows = []
    for number, line in enumerate(lines, start=first_line):
        if not line.strip():
            continue
        cells = _cells(line, table.separator)
        if len(cells) != len(table.labels):
            raise ExoError(
                f"{table.path} is truncated or damaged: line {number} has {len(cells)} of {len(table.labels)} columns; "
                "copy or export it again"
            )
        wrong = next((cell for cell in cells if not _is_number(cell) and cell.lower() not in NO_NUMBER), None)
        if wrong is not None:
            raise ExoError(f"{table.path}: '{wrong[:20]}' in line {number} is no number; correct it or export it again")
        rows.append([float(cell) if _is_number(cell) else np.nan for cell in cells])
    return np.array(rows, dtype=float).reshape(-1, len(table.labels))
