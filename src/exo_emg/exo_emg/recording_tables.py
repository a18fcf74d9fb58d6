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

from exo_common.c3d import VOLT_UNITS, volt_unit
from exo_common.errors import ExoError
from exo_emg.recording_format import PERCENT_UNITS, TIME_NAMES, Contents, FileOptions, FloatArray, emg_columns

# Rows read at a time: seconds of signal, and no more than some 10 ms of work when they are played.
BLOCK_ROWS = 5000
# The names stand within so many lines, or the file is no table.
HEAD_LINES = 60
# Rates outside are those of a time column in another unit.
RATES_HZ = (20.0, 100000.0)
# A longer hole is two recordings.
LONGEST_HOLE_S = 600.0
# A step is a hole when it is longer than this many usual ones.
HOLE_STEPS = 1.5

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
            emg = rows[:, chosen]
            yield emg if clock is None else clock.with_holes(rows[:, clock.column], emg)
        if clock is not None and clock.missing:
            notes.append(f"{clock.missing} samples are missing by the time column and stand as NaN")

    labels, units = (tuple(values[i] for i in chosen) for values in (table.labels, table.units))
    return Contents(labels, units, rate, time0, blocks, notes)


class _Clock:
    """The time column: the rate, and rows of NaN where samples are missing."""

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
        # Times are often rounded to fewer digits than the rate needs: usual steps then differ, their mean is right.
        usual = float(np.percentile(steps, 75.0))
        self._period = float(np.mean(steps[(steps >= 0.0) & (steps <= HOLE_STEPS * usual)]))
        self._hole_s = HOLE_STEPS * max(usual, self._period)
        self.rate_hz = _round_rate(1.0 / self._period) if self._period > 0.0 else 0.0
        self.start_s = float(times[0])
        if not RATES_HZ[0] <= self.rate_hz <= RATES_HZ[1]:
            better = next((u for u, s in TIME_UNITS.items() if s < 1.0 and RATES_HZ[0] <= self.rate_hz / s < 2e4), "")
            hint = f"; it looks like {better}: call the column 'time [{better}]'" if better else "; correct the times"
            raise ExoError(f"{table.path}: its time column means {self.rate_hz:.3g} Hz, no rate of EMG{hint}")
        self.begin()

    def begin(self) -> None:
        """Read from the start again."""
        self._last: float | None = None
        self.missing = 0

    def with_holes(self, times: FloatArray, rows: FloatArray) -> FloatArray:
        """The (n, k) rows of these times, with rows of NaN for the samples missing before or between them."""
        times = times * self._scale
        before = self._last if self._last is not None else times[0] - self._period
        self._last = float(times[-1])
        steps = np.diff(times, prepend=before)
        if not np.isfinite(steps).all() or np.any(steps < 0.0):
            at = times[int(np.argmax(~(steps >= 0.0)))]
            raise ExoError(f"{self._path}: time runs backwards or is missing near {at:g} s; export it again")
        holes = np.flatnonzero(steps > self._hole_s)
        if not len(holes):
            return rows
        lengths = np.maximum(0, np.round(steps[holes] * self.rate_hz).astype(int) - 1)
        if lengths.max() > LONGEST_HOLE_S * self.rate_hz:
            raise ExoError(
                f"{self._path}: its time jumps by {lengths.max() / self.rate_hz:.0f} s; cut it into two recordings"
            )
        self.missing += int(lengths.sum())
        return np.insert(rows, np.repeat(holes, lengths), np.nan, axis=0)


def _round_rate(rate: float) -> float:
    """A rate without the noise of rounded times, where it is one of a whole number of Hz."""
    return float(round(rate)) if abs(rate / max(1, round(rate)) - 1.0) < 1e-4 else rate


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
