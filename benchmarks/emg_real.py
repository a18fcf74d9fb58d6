"""Real EMG through the same chain, for bench emg: which channels are bad and why, and when muscles are on.

gait_speeds: 12 wearers, 8 muscles of the right leg at 1500 Hz, comfortable and fast, one right stride per trial.
emg_walking: 13 muscles of one adult on a treadmill at 1000 Hz, five strides. Timing is held against the norms' on/off
table, in percent of the gait cycle; a muscle is on above a quarter of the way from its floor to its peak. That
threshold is the usual choice, not fitted; norms differ among themselves and wearers among each other by ten percent.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import lzma
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_capture.marker_files import read_recording as read_markers
from exo_emg.muscles import side_of
from exo_emg.offline import Processed, process_recording
from exo_emg.processing import ChainConfig
from exo_emg.recordings import read_recording

FloatArray = NDArray[np.float64]

CONFIG = ChainConfig()
POINTS = 100
ON_SHARE = 0.25
# Keys of the norms' table for our names.
NORMS = {
    "tibialis_anterior": "TIBANT", "soleus": "SOLEUS", "gastrocnemius_medialis": "GASTRO",
    "gastrocnemius_lateralis": "GASTRO", "vastus_medialis": "VASMEDLON", "vastus_lateralis": "VASLAT",
    "rectus_femoris": "RECFEM", "semitendinosus": "SEMITE", "biceps_femoris": "BICFEM", "gluteus_maximus": "GLUMAX",
    "gluteus_medius": "GLUMED", "peroneus_longus": "PERLON", "tensor_fasciae_latae": "TENFACLAT",
}  # fmt: skip
# Abbreviations of musclesyneRgies.
TREADMILL = {
    "ME": "gluteus_medius", "MA": "gluteus_maximus", "FL": "tensor_fasciae_latae", "RF": "rectus_femoris",
    "VM": "vastus_medialis", "VL": "vastus_lateralis", "ST": "semitendinosus", "BF": "biceps_femoris",
    "TA": "tibialis_anterior", "PL": "peroneus_longus", "GM": "gastrocnemius_medialis",
    "GL": "gastrocnemius_lateralis", "SO": "soleus",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Flag:
    """A channel that must not be used."""

    recording: str
    muscle: str
    reason: str
    bad_pct: float  # of the recording's seconds in which something was wrong, the last begun one included


@dataclasses.dataclass(frozen=True)
class Found:
    """What the recordings of one data set gave: mean cycles of the sound channels, by muscle."""

    channels: int
    flags: tuple[Flag, ...]
    cycles: dict[str, list[FloatArray]]


def gait_speeds(data: Path) -> Found:
    """The C3D files of 12 wearers, a comfortable and a fast trial each."""
    channels, flags = 0, list[Flag]()
    cycles: dict[str, list[FloatArray]] = {}
    for path in sorted((data / "gait_speeds").glob("*/*_C[45]_*.c3d")):
        recording = read_recording(path)
        processed = process_recording([recording.samples], recording.layout.rate_hz, CONFIG)
        strikes = sorted(e.time for e in read_markers(path).events if (e.side, e.kind) == ("r", "strike"))
        names = [side_of(name)[0] for name in recording.layout.muscles]
        channels += len(names)
        flags += _collect(path.stem, names, processed, recording.time0_s, strikes, cycles)
    return Found(channels, tuple(flags), cycles)


def treadmill(data: Path) -> Found:
    """The R file of emg_walking: uV at 1000 Hz, and the times of heel strikes."""
    ((name, trial),) = read_rdata(data / "emg_walking" / "RAW_DATA.RData")["RAW_DATA"].items()
    time_s = trial["emg"]["time"]
    samples = 1e-6 * np.column_stack([values for key, values in trial["emg"].items() if key != "time"])
    rate_hz = 1.0 / float(np.median(np.diff(time_s)))
    processed = process_recording([samples], rate_hz, CONFIG)
    names = [TREADMILL[key] for key in trial["emg"] if key != "time"]
    cycles: dict[str, list[FloatArray]] = {}
    flags = _collect(name, names, processed, float(time_s[0]), trial["cycles"]["V1"], cycles)
    return Found(len(names), tuple(flags), cycles)


def _collect(
    source: str,
    names: Sequence[str],
    processed: Processed,
    time0_s: float,
    strikes: Sequence[float],
    cycles: dict[str, list[FloatArray]],
) -> list[Flag]:
    time_s = time0_s + np.arange(len(processed.envelope)) / processed.rate_hz
    flags = []
    for column, (name, report) in enumerate(zip(names, processed.channels, strict=True)):
        if report.reason:
            flags.append(Flag(source, name, report.reason, 100.0 * float(np.mean(processed.codes[:, column] > 0))))
            continue
        for begin, end in itertools.pairwise(strikes):
            at = begin + (np.arange(POINTS) + 0.5) / POINTS * (end - begin)
            if at[0] >= time_s[0] and at[-1] <= time_s[-1]:
                cycles.setdefault(name, []).append(np.interp(at, time_s, processed.envelope[:, column]))
    return flags


@dataclasses.dataclass(frozen=True)
class Timing:
    """A muscle's on and off against the norm.

    Attributes
    ----------
    agrees_pct : share of the cycle in which it is on or off as the norm says.
    constant_pct : the same for a muscle that is always on, or always off, whichever is better.
    edge_pct : median distance from each of the norm's onsets and offsets to the nearest of ours, % of the cycle.
    """

    agrees_pct: float
    constant_pct: float
    edge_pct: float
    strides: int


def timing(data: Path, cycles: dict[str, list[FloatArray]]) -> dict[str, Timing]:
    """Muscle -> its timing, mean over strides."""
    table = json.loads((data / "norms" / "normalActivation.json").read_text(encoding="utf-8"))["Activation"]
    result = {}
    for name, strides in sorted(cycles.items()):
        norm = _norm(table[NORMS[name]])
        agrees = [100.0 * float(np.mean(_on(stride) == norm)) for stride in strides]
        edges = [distance for stride in strides for distance in _edge_distances(_on(stride), norm)]
        constant = 100.0 * float(max(norm.mean(), 1.0 - norm.mean()))
        result[name] = Timing(float(np.mean(agrees)), constant, float(np.median(edges)), len(strides))
    return result


def _edge_distances(found: NDArray[np.bool_], norm: NDArray[np.bool_]) -> list[float]:
    """From every onset and offset of the norm to the nearest found one of the same kind, % of the (round) cycle."""
    distances = []
    for sign in (1, -1):
        ours = np.flatnonzero(np.diff(found.astype(int), prepend=int(found[-1])) == sign)
        for edge in np.flatnonzero(np.diff(norm.astype(int), prepend=int(norm[-1])) == sign):
            away = np.abs(ours - edge)
            distances += [float(np.min(np.minimum(away, POINTS - away)))] if len(ours) else [POINTS / 2.0]
    return distances


def _on(envelope: FloatArray) -> NDArray[np.bool_]:
    low, high = np.percentile(envelope, [5.0, 99.0])
    return envelope > low + ON_SHARE * (high - low)


def _norm(row: Sequence[Any]) -> NDArray[np.bool_]:
    edges = [float(edge) for edge in row if edge != "na"]
    percent = np.arange(POINTS) + 0.5
    spans = zip(edges[::2], edges[1::2], strict=True)
    return np.any([(percent >= begin) & (percent <= end) for begin, end in spans], axis=0)


def read_rdata(path: Path) -> Any:
    """Lists, data frames, numbers and texts of an R workspace (XDR serialisation, version 3), as dicts and arrays.

    pyreadr reads no nested lists, which this file is. Format: "R Internals", section 1.8.
    """
    return _Xdr(lzma.decompress(path.read_bytes())).workspace()


class _Xdr:
    SYMBOL, PAIRS, TEXT, LOGICAL, INTEGER, REAL, STRINGS, LIST = 1, 2, 9, 10, 13, 14, 16, 19
    NIL, REFERENCE = 254, 255
    HAS_ATTRIBUTES, HAS_TAG = 0x200, 0x400

    def __init__(self, content: bytes) -> None:
        magic = b"RDX3\nX\n"
        assert content.startswith(magic), "no R workspace of version 3"
        self._content, self._at = content, len(magic)
        self._symbols: list[str] = []

    def workspace(self) -> Any:
        for _ in range(3):  # versions of the format, of the writer and of the oldest reader
            self._int()
        encoding = self._int()  # length of the encoding's name
        self._at += encoding
        return self._item()

    def _int(self) -> int:
        self._at += 4
        return int(struct.unpack_from(">i", self._content, self._at - 4)[0])

    def _array(self, kind: str, size: int) -> NDArray[Any]:
        count = self._int()
        self._at += size * count
        return np.frombuffer(self._content, kind, count, self._at - size * count).astype(kind[1:])

    def _item(self) -> Any:
        flags = self._int()
        kind = flags & 0xFF
        if kind == self.NIL:
            return None
        if kind == self.REFERENCE:
            return self._symbols[(flags >> 8) - 1]
        if kind == self.SYMBOL:
            self._symbols.append(self._item())
            return self._symbols[-1]
        if kind == self.TEXT:
            length = max(0, self._int())
            self._at += length
            return self._content[self._at - length : self._at].decode()
        if kind == self.PAIRS:
            if flags & self.HAS_ATTRIBUTES:
                self._item()
            name = self._item() if flags & self.HAS_TAG else None
            return {name: self._item()} | (self._item() or {})
        if kind == self.REAL:
            value: Any = self._array(">f8", 8)
        elif kind in (self.INTEGER, self.LOGICAL):
            value = self._array(">i4", 4)
        else:
            assert kind in (self.STRINGS, self.LIST), f"R type {kind} is not read"
            value = [self._item() for _ in range(self._int())]
        if flags & self.HAS_ATTRIBUTES:
            attributes = self._item()
            if kind == self.LIST and "names" in attributes:
                return dict(zip(attributes["names"], value, strict=True))
        return value
