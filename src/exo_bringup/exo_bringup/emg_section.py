"""The EMG of a session beside its walk: envelopes on the walk's clock, over its strides, with a verdict per channel.

Writes `emg/` into the session: `emg.sto` (OpenSim; envelopes as fractions of the calibrated maximum on the clock
of the walk, good channels only, nan in their bad seconds), `emg_quality.yaml` (clock, normalisation, and every channel
with its verdict, reason and cure), `report.html` (the same as a picture).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_capture.session_capture import SessionCapture
from exo_common.artefact import writing
from exo_common.errors import ExoError
from exo_common.opensim_files import Storage, write_storage
from exo_common.session import FILE, Session
from exo_emg import calibration
from exo_emg.calibration import DYNAMIC_PEAK, MVC
from exo_emg.gait_profile import Profile, gait_profiles, stride_peaks
from exo_emg.muscles import side_of
from exo_emg.normalisation import RATE_OFF_SHARE
from exo_emg.offline import ChannelReport, process_recording
from exo_emg.processing import ChainConfig
from exo_emg.reasons import explain
from exo_emg.session_emg import Heels, SessionEmg, load_session_emg
from exo_emg.time_base import MERGE_LIMIT_S, ClockRelation

FloatArray = NDArray[np.float64]

FOLDER, STORAGE, QUALITY = "emg", "emg.sto", "emg_quality.yaml"
HEELS = ("LHeel", "RHeel")
# Maxima of fewer strides are those of chance; the calibration assistant asks for as many.
STRIDES_FOR_PEAK = 10
REFERENCES = {MVC: "held contractions of full effort", DYNAMIC_PEAK: "the peak of walking strides"}


class EnvelopesGivenError(ExoError):
    """The recording holds envelopes, of which no verdict can be had."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """One EMG channel of the walk.

    Attributes
    ----------
    profile : over its own leg's gait cycle; None where no stride of that leg was recorded.
    reason : '' when good, else one of :data:`exo_emg.quality.REASONS`.
    figures : what the verdict stands on.
    maximum_v, method : the maximum that it was divided by, and how it was found.
    """

    name: str
    profile: Profile | None
    reason: str
    figures: Mapping[str, float | None]
    maximum_v: float
    method: str

    @property
    def verdict(self) -> str:
        """Sentence on a bad channel: what was seen and what to do; empty when good."""
        return explain(self.name, self.reason) if self.reason else ""


@dataclasses.dataclass(frozen=True)
class EmgWalk:
    """The EMG of a walk, analysed.

    Attributes
    ----------
    time, envelope : (n,) s on the walk's clock, (n, channels) fraction of the maximum, NaN where a good channel was
        bad for a while.
    channels : in the order of the columns.
    toe_off_pct : side -> where its stance ends, % of the gait cycle.
    normalisation : half a sentence on the maxima.
    warnings : what a reader must know.
    """

    time: FloatArray
    envelope: FloatArray
    channels: tuple[Channel, ...]
    clock: ClockRelation
    toe_off_pct: Mapping[str, float]
    normalisation: str
    warnings: tuple[str, ...]

    @property
    def bad(self) -> list[Channel]:
        """Channels that must not be used."""
        return [channel for channel in self.channels if channel.reason]


def analyse_emg(session: Session, capture: SessionCapture) -> EmgWalk:
    """Envelopes and strides of the session's EMG.

    Raises
    ------
    EnvelopesGivenError : if it is no raw EMG.
    ExoError : if it cannot be read, or its clock is not known well enough to merge it with the walk.
    """
    emg, strides = merged_emg(session, capture)
    rate, muscles = emg.recording.layout.rate_hz, emg.recording.layout.muscles
    if not emg.recording.raw:
        raise EnvelopesGivenError(
            f"{emg.recording.source} holds envelopes, but quality shows in raw EMG only; give the raw EMG"
        )
    # Before and after the walk there may be taps, or electrodes that are still being taped.
    of_walk = np.flatnonzero((emg.time_s >= capture.markers.time[0]) & (emg.time_s <= capture.markers.time[-1]))
    path = session.folder / calibration.FILE
    known = calibration.read_calibration(path, session.wearer.id) if path.exists() else None
    chain = ChainConfig() if known is None else known.chain
    done = process_recording([emg.recording.samples[of_walk]], rate, chain)
    own_time = emg.recording.time_s[of_walk[0]] + np.arange(len(done.envelope)) / done.rate_hz
    time = emg.clock.to_reference(own_time)
    # Of a channel that is bad as a whole nothing is used; it is drawn, so that one can see why.
    bad = np.array([bool(report.reason) for report in done.channels])
    envelope_v = np.where(bad, done.envelope, done.known())
    maxima, methods, warnings = _maxima(known.muscles if known else {}, muscles, rate, time, envelope_v, strides)
    # A channel without any signal has no peak either; its zeros stay zeros.
    envelope = envelope_v / np.where(maxima > 0.0, maxima, 1.0)
    profiles = gait_profiles(envelope, time, muscles, strides)
    channels = tuple(
        Channel(name, profiles.get(name), report.reason, _figures(report), float(maximum), method)
        for name, report, maximum, method in zip(muscles, done.channels, maxima, methods, strict=True)
    )
    warnings += [f"EMG: {note}" for note in emg.recording.notes]
    warnings += [channel.verdict for channel in channels if channel.reason]
    counted = ", ".join(f"{len(own)} {'left' if side == 'l' else 'right'}" for side, own in strides.items())
    how = " and ".join(REFERENCES[method] for method in dict.fromkeys(methods))
    return EmgWalk(
        time,
        envelope,
        channels,
        emg.clock,
        {side: _toe_off_pct(capture, side) for side in "lr"},
        f"fractions of {how}; strides: {counted}",
        tuple(warnings),
    )


def merged_emg(session: Session, capture: SessionCapture) -> tuple[SessionEmg, dict[str, list[tuple[float, float]]]]:
    """The session's EMG on the walk's clock, and the strides (start, end in s) that it covers of every leg.

    Raises
    ------
    ExoError : if it cannot be read, covers no stride, or its clock is not known well enough.
    """
    emg = load_session_emg(session, _heels(capture))
    strides = _covered(capture, emg)
    if not any(strides.values()):
        raise ExoError(
            f"{emg.recording.source} and the walk share no complete stride (the EMG lasts from {emg.time_s[0]:.2f} to "
            f"{emg.time_s[-1]:.2f} s of the walk); correct emg.sync in {FILE}, or record both for longer"
        )
    spans = np.array([time for own in strides.values() for stride in own for time in stride])
    emg.clock.require(*emg.clock.from_reference(np.array([spans.min(), spans.max()])))
    return emg, strides


def save_emg(walk: EmgWalk, session: Session, page: str) -> Path:
    """Write the folder `emg` of a session, whole or not at all; returns it.

    Parameters
    ----------
    page : the content of `report.html`.

    Raises
    ------
    ExoError : if it cannot be written.
    """
    assert session.emg is not None
    names = (FILE, session.emg.file, session.emg.sync.reference, calibration.FILE)
    inputs = {name: session.path(name) for name in names if name and session.path(name).exists()}
    good = [i for i, channel in enumerate(walk.channels) if not channel.reason]
    with writing(session.folder / FOLDER, FOLDER, session.wearer.id, inputs, list(walk.warnings)) as folder:
        muscles = tuple(walk.channels[i].name for i in good)
        write_storage(folder / STORAGE, Storage(walk.time, muscles, walk.envelope[:, good], in_degrees=False))
        (folder / QUALITY).write_text(yaml.safe_dump(_report(walk), sort_keys=False), encoding="utf-8")
        (folder / "report.html").write_text(page, encoding="utf-8")
    return session.folder / FOLDER


def _heels(capture: SessionCapture) -> Heels | None:
    names = capture.raw.names
    if not all(heel in names for heel in HEELS):
        return None
    return Heels(capture.raw.time, capture.raw.position[:, [names.index(heel) for heel in HEELS]])


def _covered(capture: SessionCapture, emg: SessionEmg) -> dict[str, list[tuple[float, float]]]:
    """Strides of the legs that carry electrodes, as far as the EMG lasts."""
    start, end = emg.time_s[0], emg.time_s[-1]
    sides = {side_of(name)[1] for name in emg.recording.layout.muscles}
    return {
        side: [(s.start, s.end) for s in capture.strides if s.side == side and start <= s.start and s.end <= end]
        for side in "lr"
        if side in sides
    }


def _maxima(
    known: Mapping[str, calibration.Maximum],
    muscles: Sequence[str],
    rate_hz: float,
    time: FloatArray,
    envelope_v: FloatArray,
    strides: Mapping[str, Sequence[tuple[float, float]]],
) -> tuple[FloatArray, list[str], list[str]]:
    """What to divide by: the wearer's calibration where it has the muscle, else the peak of these strides."""
    peaks = stride_peaks(envelope_v, time, muscles, strides)
    warnings = []
    missing = [name for name in muscles if name not in known]
    if missing:
        what = f"of {', '.join(missing)}" if known else "of this wearer's EMG"
        count = max(len(own) for own in strides.values())
        few = f" of {count} stride{'s' if count > 1 else ''}" if count < STRIDES_FOR_PEAK else ""
        warnings.append(
            f"there is no calibration {what}: these envelopes are fractions of the peak in this walk{few}, so levels "
            f"of muscles and of days do not compare; run python -m exo_emg calibrate <session>"
        )
    other = sorted(n for n in muscles if n in known and abs(known[n].sampling_rate_hz / rate_hz - 1) > RATE_OFF_SHARE)
    if other:
        warnings.append(
            f"{', '.join(other)} were calibrated at another sampling rate than {rate_hz:g} Hz, so their levels are off "
            "by some percent; calibrate at the rate of the walk"
        )
    maxima = np.array([known[n].maximum_v if n in known else peak for n, peak in zip(muscles, peaks, strict=True)])
    return maxima, [known[n].method if n in known else DYNAMIC_PEAK for n in muscles], warnings


def _figures(report: ChannelReport) -> dict[str, float | None]:
    return {
        field.name: float(f"{value:.4g}") if math.isfinite(value) else None
        for field in dataclasses.fields(report)
        if isinstance(value := getattr(report, field.name), float)
    }


def _toe_off_pct(capture: SessionCapture, side: str) -> float:
    return 100.0 * float(np.mean([stride.stance_share for stride in capture.strides if stride.side == side]))


def _report(walk: EmgWalk) -> dict[str, Any]:
    clock = walk.clock
    return {
        "clock": {
            "method": clock.method,
            "offset_s": round(clock.offset_s, 5),
            "uncertainty_s": round(clock.uncertainty_s, 5),
            "drift_ppm": round(clock.drift_ppm, 1),
            "events": clock.pairs,
            "events_seen_by_one_side": clock.unpaired,
            "merged_up_to_s": MERGE_LIMIT_S,
        },
        "normalisation": walk.normalisation,
        "channels": {
            channel.name: {
                "verdict": "not used" if channel.reason else "good",
                "reason": channel.reason,
                "strides": channel.profile.strides if channel.profile else 0,
                "maximum_v": float(f"{channel.maximum_v:.6g}"),
                "method": channel.method,
                **channel.figures,
            }
            for channel in walk.channels
        },
        "warnings": list(walk.warnings),
    }
