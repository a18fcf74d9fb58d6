"""A recording played as if its device were there: its samples at their own rate, or faster or slower."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from exo_common.clock import NS_PER_S
from exo_common.errors import ExoError
from exo_common.parameters import parameter
from exo_emg.drivers.interface import Driver, EndOfStream, Reading, Signal, Stamps
from exo_emg.drivers.runs import readings
from exo_emg.recording_format import FileOptions, FloatArray
from exo_emg.recordings import RecordingFile, open_recording


@dataclasses.dataclass(frozen=True)
class PlaybackConfig(FileOptions):
    """Which recording, and how."""

    file: str = parameter("", "", "the recording: CSV, STO, MOT, C3D or a rosbag2 folder")
    names: list[str] = parameter([], "", "for labels that are not understood: 'label=muscle_side'")
    speed: float = parameter(
        1.0, "", "1 is as recorded; the stamps keep the recording's own spacing", minimum=0.05, maximum=20.0
    )
    loop: bool = parameter(False, "", "begin again at the end; the sample count goes on")


class PlaybackDriver(Driver):
    """Plays one recording. Samples that are missing in it are lost samples here.

    The first sample is stamped with the time at which it is played, those after it in the
    recording's own spacing: at another speed than 1 the stamps leave the clock behind, or fall behind it.
    """

    config_type = PlaybackConfig
    live = False
    config: PlaybackConfig

    def __init__(self, config: PlaybackConfig, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__(config)
        self._now_ns = now_ns
        self._file: RecordingFile | None = None
        self._rate_hz = 1.0
        self._blocks: Iterator[FloatArray] = iter(())
        self._rest: FloatArray | None = None
        self._start_ns = self._start_stamp_ns = 0
        self._played = 0
        self._round_at = 0
        self._rounds = 0
        self._ended = False

    def open(self) -> Signal:
        """Look into the file."""
        if not self.config.file:
            raise ExoError("parameter file is empty; name the recording to play, e.g. file:=walk.csv")
        wrong = [entry for entry in self.config.names if "=" not in entry]
        if wrong:
            raise ExoError(f"parameter names holds '{wrong[0]}'; write 'label=muscle_side'")
        names = dict(entry.split("=", 1) for entry in self.config.names)
        self._file = open_recording(Path(self.config.file).expanduser(), self.config, names)
        if not self._file.raw:
            raise ExoError(f"{self.config.file} holds envelopes, which are no EMG to play; give the raw recording")
        self._rate_hz = self._file.layout.rate_hz
        return Signal(self._file.layout.muscles, self._rate_hz, Stamps.EXACT)

    def start(self) -> None:
        """From the beginning."""
        self._played = self._rounds = 0
        self._ended = False
        self._begin_round()
        self._start_ns, self._start_stamp_ns = self._now_ns(), time.time_ns()

    def read(self) -> list[Reading]:
        """The samples whose time has come since the last call."""
        if self._ended:
            raise EndOfStream
        passed_s = (self._now_ns() - self._start_ns) / NS_PER_S
        due = math.floor(passed_s * self.config.speed * self._rate_hz) - self._played
        first, pieces = self._played, []
        while due > 0 and (piece := self._next(due)) is not None:
            pieces.append(piece)
            self._played += len(piece)
            due -= len(piece)
        if not pieces:
            return []
        samples = np.concatenate(pieces)
        there = np.flatnonzero(np.isfinite(samples).any(axis=1))
        if not len(there):
            return []
        index = first + there
        stamp_ns = self._start_stamp_ns + round(int(index[-1]) * NS_PER_S / self._rate_hz)
        return readings(index, samples[there], stamp_ns, self._rate_hz)

    def stop(self) -> None:
        """Forget the place."""
        self._blocks, self._rest = iter(()), None

    def close(self) -> None:
        """Let go of the file."""
        self.stop()
        self._file = None

    def status(self) -> dict[str, object]:
        """How far it is."""
        return {"file": self.config.file, "played_s": f"{self._played / self._rate_hz:.1f}", "rounds": self._rounds}

    def _begin_round(self) -> None:
        assert self._file is not None, "open first"
        self._blocks, self._rest = self._file.blocks(judge=False), None
        self._round_at = self._played
        self._rounds += 1

    def _next(self, most: int) -> FloatArray | None:
        """Up to `most` of the coming samples; None, and `_ended`, when there are no more."""
        while self._rest is None or not len(self._rest):
            self._rest = next(self._blocks, None)
            if self._rest is None:
                if not self.config.loop or self._played == self._round_at:
                    self._ended = True
                    return None
                self._begin_round()
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece


DRIVER = PlaybackDriver
