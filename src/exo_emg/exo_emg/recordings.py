"""EMG out of files: tables (CSV, STO, MOT), C3D and rosbag2, all as one kind of recording in V.

    recording = read_recording(Path("walk.c3d"))
    for block in open_recording(Path("hour.csv"), FileOptions(unit="mV")).blocks(): ...

A file is described when it is opened and read when it is iterated, a block at a
time, so that its length does not matter (a C3D file is small: it is read at once).
Channels get the names of `exo_emg.muscles`, numbers become V, and samples that are
missing in the middle become NaN rows, so that row k is always k periods after the start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from exo_common.c3d import VOLT_UNITS
from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError
from exo_emg.chunks import Chunk, Layout
from exo_emg.muscles import channel_name
from exo_emg.recording_bags import open_bag
from exo_emg.recording_c3d import open_c3d
from exo_emg.recording_format import PERCENT_UNITS, TRIGGER, Contents, FileOptions, FloatArray
from exo_emg.recording_tables import open_table

__all__ = ["FileOptions", "Recording", "RecordingFile", "open_recording", "read_recording"]

# The largest surface EMG: peaks of the strongest muscles stay below 10 mV (Merletti & Farina 2016, ch. 1).
# Looked at is the 99th percentile of the absolute value, so that single spikes do not count.
LARGEST_V = 0.01
# A wrong unit makes every channel too loud; one that is open, or two, are for the quality of channels to mark.
LOUD_SHARE = 0.8
# The ground electrode that falls off makes all channels loud as well, but not for so large a part of a recording.
LOUD_BLOCKS = 0.2
# Electrode and amplifier alone make 1 uV RMS, which 1 % of the samples exceed 2.6 times; muscles that do anything make
# ten times as much. A file without a louder second is in the wrong unit, or nothing was connected.
QUIETEST_V = 2e-6
# Raw EMG has as much below zero as above; an envelope at most what its filter undershoots.
UNDERSHOOT = 0.1


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording in memory.

    Attributes
    ----------
    layout : channels and rate.
    time0_s : of the first sample, s on the file's own clock; in a bag since the epoch of ROS time.
    samples : (n, channels) V, or fractions of a maximum where `raw` is False; NaN where samples are missing.
    source : the file.
    notes : what was left out, assumed or mended, in sentences.
    raw : False for envelopes: they have hardly a negative number and cannot be processed as EMG.
    """

    layout: Layout
    time0_s: float
    samples: FloatArray
    source: str
    notes: tuple[str, ...] = ()
    raw: bool = True

    @property
    def time_s(self) -> FloatArray:
        """(n,) time of every sample, s."""
        return self.time0_s + np.arange(len(self.samples)) / self.layout.rate_hz

    def chunks(self, seconds: float = 1.0) -> Iterator[Chunk]:
        """The recording piece by piece; the stamps count from `time0_s`."""
        yield from _chunks(iter([self.samples]), self.layout, self.time0_s, seconds)


class RecordingFile:
    """A recording on disk, read as often as it is iterated.

    Attributes
    ----------
    layout, time0_s, source, raw : as of :class:`Recording`.
    """

    def __init__(self, path: Path, contents: Contents, options: FileOptions, names: Mapping[str, str]) -> None:
        self.source = str(path)
        self.time0_s = contents.time0_s
        self._contents = contents
        muscles = tuple(_name(path, label, options, names) for label in contents.labels)
        try:
            self.layout = Layout(muscles, contents.rate_hz)
        except ExoError as error:
            raise ExoError(f"{path}: {error}") from None
        self._judged = np.array([muscle != TRIGGER for muscle in muscles])
        self.raw, self._scale = self._units(options)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, assumed or mended; complete after the file has been read."""
        return tuple(dict.fromkeys(self._contents.notes))

    def blocks(self, judge: bool = True) -> Iterator[FloatArray]:
        """Consecutive (n, channels) pieces in V, or fractions where `raw` is False; NaN where samples are missing.

        Parameters
        ----------
        judge : whether amplitudes that are impossible in this unit are refused, at the end; no for what is played to
            a running system, which marks channels by itself.

        Raises
        ------
        ExoError : if the file is damaged or truncated, or its amplitudes cannot be those of muscles in this unit.
        """
        loudest, loud, count = np.zeros(self.layout.channels), np.zeros(self.layout.channels), 0
        for block in self._contents.blocks():
            scaled = block * self._scale
            if self.raw and judge and np.isfinite(scaled).any():
                size = self._loudness(scaled)
                loudest, loud, count = np.maximum(loudest, size), loud + (size > LARGEST_V), count + 1
            yield scaled
        if count and self._judged.any():
            self._judge(loudest, loud / count)

    def chunks(self, seconds: float = 1.0) -> Iterator[Chunk]:
        """The file piece by piece; the stamps count from `time0_s`."""
        yield from _chunks(self.blocks(), self.layout, self.time0_s, seconds)

    def read(self) -> Recording:
        """Everything at once."""
        samples = list(self.blocks())
        if not samples:
            raise ExoError(f"{self.source} holds no sample; record or export it again")
        return Recording(self.layout, self.time0_s, np.concatenate(samples), self.source, self.notes, self.raw)

    def _units(self, options: FileOptions) -> tuple[bool, FloatArray]:
        """Whether these are signals, and the factor of every channel to V or to fractions."""
        contents = self._contents
        stated = tuple(unit.strip() for unit in contents.units)
        percent = [unit in PERCENT_UNITS for unit in stated]
        if all(percent):
            return False, np.array([PERCENT_UNITS[unit] for unit in stated])
        silent = [not unit for unit in stated]
        if all(silent) and not options.unit:
            first = next(self._contents.blocks(), np.zeros((0, len(stated))))[:, self._judged]
            if -np.sum(first, where=first < 0.0) < UNDERSHOOT * np.sum(first, where=first > 0.0):
                contents.notes.append("no unit and hardly a negative number: taken as envelopes, not as raw EMG")
                return False, np.ones(len(stated))
            contents.notes.append("no unit is stated: taken as V")
        for label, unit in zip(contents.labels, stated, strict=True):
            if unit and unit not in VOLT_UNITS:
                raise ExoError(f"{self.source}: EMG channel '{label}' is in '{unit}'; export it in V, mV or uV")
        return True, np.array([VOLT_UNITS[unit or options.unit or "V"] for unit in stated])

    def _loudness(self, block: FloatArray) -> FloatArray:
        """(channels,) 99th percentile of the absolute value, V; 0 where no muscle is measured."""
        finite = np.isfinite(block)
        # Some amplifiers put EMG on an offset.
        centre = np.sum(block, axis=0, where=finite) / np.maximum(1, finite.sum(axis=0))
        size = np.where(finite, np.abs(block - centre), 0.0)
        return np.where(self._judged, np.percentile(size, 99.0, axis=0), 0.0)

    def _judge(self, loudest: FloatArray, loud: FloatArray) -> None:
        """Refuse a wrong unit by each channel's (channels,) loudness, V, and share of blocks that are too loud."""
        worst = int(np.argmax(loudest))
        name = self.layout.muscles[worst]
        if np.mean(loud[self._judged] > LOUD_BLOCKS) >= LOUD_SHARE:
            scale = float(self._scale[worst])
            smaller = [unit for unit in ("mV", "uV") if loudest[worst] / scale * VOLT_UNITS[unit] <= LARGEST_V]
            guess = f"it looks like {smaller[0]}" if smaller and VOLT_UNITS[smaller[0]] < scale else "it is no EMG"
            raise ExoError(
                f"{self.source}: {name} reaches {loudest[worst]:.3g} V, more than a muscle gives (10 mV), and nearly "
                f"all others do: {guess}, or the amplifier's gain was not divided out; give the unit of the numbers"
            )
        if loudest[worst] < QUIETEST_V:
            raise ExoError(
                f"{self.source}: no EMG reaches {QUIETEST_V:g} V, which is an amplifier's own noise; "
                "the unit is wrong or nothing was connected: give the unit of the numbers (V, mV or uV)"
            )
        for channel in np.flatnonzero(loudest > LARGEST_V):
            self._contents.notes.append(
                f"{self.layout.muscles[channel]} reaches {1e3 * loudest[channel]:.0f} mV, more than a muscle gives: "
                "an open electrode, by the look of it"
            )


def open_recording(
    path: Path, options: FileOptions | None = None, names: Mapping[str, str] | None = None
) -> RecordingFile:
    """Open the EMG of a CSV, STO, MOT or C3D file or of a rosbag2 folder.

    Parameters
    ----------
    options : what the file leaves open.
    names : label in the file -> `<muscle>_<side>`, `trigger` for a synchronisation signal or `-` to leave it out;
        for labels that are not understood by themselves.

    Raises
    ------
    ExoError : naming the file, the cause and the cure.
    """
    options, names = options or FileOptions(), dict(names or {})
    if not path.exists():
        raise ExoError(f"{path} does not exist; check the file name")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in (".mcap", ".db3"):
        contents = open_bag(path)
    elif suffix == ".c3d":
        contents = open_c3d(path, names)
    elif suffix in (".sto", ".mot", ".csv", ".txt", ".tsv"):
        contents = open_table(path, options, names)
    else:
        raise ExoError(f"{path} is no EMG file that can be read; give CSV, STO, MOT, C3D or a rosbag2 folder")
    return RecordingFile(path, contents, options, names)


def read_recording(path: Path, options: FileOptions | None = None, names: Mapping[str, str] | None = None) -> Recording:
    """The whole of a recording at once; parameters and errors as of :func:`open_recording` and its blocks."""
    return open_recording(path, options, names).read()


def _name(path: Path, label: str, options: FileOptions, names: Mapping[str, str]) -> str:
    given = names.get(label, label)
    if given == TRIGGER:
        return given
    try:
        return channel_name(given, options.side or None)
    except ExoError as error:
        raise ExoError(f"{path}: {error}") from None


def _chunks(blocks: Iterator[FloatArray], layout: Layout, time0_s: float, seconds: float) -> Iterator[Chunk]:
    start_ns, first = round(time0_s * NS_PER_S), 0
    length = max(1, round(seconds * layout.rate_hz))
    for block in blocks:
        for at in range(0, len(block), length):
            piece = block[at : at + length]
            yield Chunk(first, start_ns + round(first * NS_PER_S / layout.rate_hz), piece)
            first += len(piece)
