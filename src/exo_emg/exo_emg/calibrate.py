"""From recordings to the calibration in a session: what the assistant does live, done with files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from exo_common.artefact import sha256
from exo_common.errors import ExoError
from exo_common.session import load_wearer
from exo_emg.assistant import STRIDES, count_strides, walking_maxima
from exo_emg.calibration import CHAIN, FILE, MVC, Calibration, Maximum, read_calibration, write_calibration
from exo_emg.contraction import judge_contractions
from exo_emg.offline import process_recording
from exo_emg.processing import ChainConfig
from exo_emg.recording_format import TRIGGER, FileOptions
from exo_emg.recordings import Recording, read_recording

# Where live recordings of a calibration are kept, inside the session.
RECORDINGS = "emg_calibration"


@dataclasses.dataclass
class Outcome:
    """Muscles whose maximum was found, and why the others' was not."""

    accepted: dict[str, Maximum]
    refused: dict[str, str]

    def lines(self) -> list[str]:
        """One line per muscle, for people."""
        good = [f"{name:28s} {1e6 * own.maximum_v:8.1f} uV" for name, own in self.accepted.items()]
        return good + [f"{name:28s} not calibrated: {why}" for name, why in self.refused.items()]


def calibrate_files(
    folder: Path,
    files: Sequence[Path],
    method: str,
    unit: str = "",
    names: Mapping[str, str] | None = None,
    strides: int = STRIDES,
    config: ChainConfig | None = None,
) -> Outcome:
    """Calibrate a session's wearer from recorded files and write the session's calibration.

    Parameters
    ----------
    files : of held efforts (each of one or several muscles; the best of each counts), or of walking.
    method : `mvc` or `dynamic_peak`.
    unit, names : what the files leave open: their unit, and label -> muscle.
    config : the chain that the maxima are to be used with; by default the usual one.

    Raises
    ------
    ExoError : if a file cannot be read, or no muscle at all has a maximum.
    """
    config = config or ChainConfig()
    wearer = load_wearer(folder)
    earlier_calibration(folder, wearer.id, config)
    found = Outcome({}, {})
    for file in files:
        recording = read_recording(file, FileOptions(unit=unit), names)
        if not recording.raw:
            raise ExoError(f"{file} holds envelopes; a calibration needs the raw EMG that they were made of")
        own = _held(recording, config) if method == MVC else _walk(recording, strides, config)
        digest = sha256(file)
        for name, maximum in own.accepted.items():
            better = name not in found.accepted or maximum.maximum_v > found.accepted[name].maximum_v
            if better:
                found.accepted[name] = dataclasses.replace(maximum, source=_place(folder, file), sha256=digest)
        found.refused.update(own.refused)
    found.refused = {name: why for name, why in found.refused.items() if name not in found.accepted}
    store(folder, wearer.id, found, config)
    return found


def earlier_calibration(folder: Path, wearer: str, config: ChainConfig) -> Calibration:
    """The session's calibration so far, perhaps of no muscle; new maxima must belong to the same chain.

    Raises
    ------
    ExoError : if it is another wearer's or another chain's.
    """
    path = folder / FILE
    if path.exists():
        return read_calibration(path, wearer, config)
    return Calibration(wearer, {}, ChainConfig(**{name: getattr(config, name) for name in CHAIN}))


def store(folder: Path, wearer: str, found: Outcome, config: ChainConfig) -> Path:
    """Write the accepted maxima into the session's calibration; other muscles keep theirs.

    Raises
    ------
    ExoError : if nothing was accepted, or the earlier calibration is another wearer's or another chain's.
    """
    if not found.accepted:
        why = "; ".join(f"{name}: {reason}" for name, reason in found.refused.items()) or "there was no signal"
        raise ExoError(f"no muscle has a maximum ({why}); repeat the calibration")
    path = folder / FILE
    write_calibration(path, earlier_calibration(folder, wearer, config).with_muscles(found.accepted))
    return path


def _held(recording: Recording, config: ChainConfig) -> Outcome:
    """Held efforts: a channel may be quiet in one file and at its best in another."""
    found = Outcome({}, {})
    layout = recording.layout
    judged = judge_contractions(recording.samples, layout.rate_hz, config)
    for name, own in zip(layout.muscles, judged, strict=True):
        if name == TRIGGER:
            continue
        if own.problem:
            found.refused[name] = own.problem
            continue
        try:
            found.accepted[name] = Maximum(own.maximum_v, MVC, layout.rate_hz)
        except ExoError as error:
            found.refused[name] = str(error)
    return found


def _walk(recording: Recording, least: int, config: ChainConfig) -> Outcome:
    layout = recording.layout
    done = process_recording((chunk.samples for chunk in recording.chunks(60.0)), layout.rate_hz, config)
    counted = count_strides(done.envelope, done.rate_hz)
    if counted < least:
        raise ExoError(
            f"{recording.source} shows {counted:.0f} strides in the rhythm of its EMG, {least} are needed; record a "
            "longer walk"
        )
    accepted, refused = walking_maxima(done, layout, config, recording.samples)
    return Outcome({n: m for n, m in accepted.items() if n != TRIGGER}, refused)


def _place(folder: Path, file: Path) -> str:
    """A file's name relative to the session, where it lies inside."""
    whole, base = file.resolve(), folder.resolve()
    return str(whole.relative_to(base)) if whole.is_relative_to(base) else str(whole)


def bar(level: float, width: int = 30) -> str:
    """A level 0..1 as a bar of text; what exceeds 1 is marked."""
    filled = int(np.clip(round(level * width), 0, width))
    return "#" * filled + "-" * (width - filled) + ("+" if level > 1.0 else " ")
