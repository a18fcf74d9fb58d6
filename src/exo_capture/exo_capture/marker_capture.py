"""A marker recording of a walk in; markers and keypoints for the twin, strides and a quality report out."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import fill_gaps, smooth_markers, stretches
from exo_capture.gait_events import (
    STANCE_SHARE,
    STRIDE_S,
    GaitEvents,
    Stride,
    faces_forward,
    find_events,
    spatio_temporal,
)
from exo_capture.marker_files import FootEvent, Recording, Subject, read_recording
from exo_capture.marker_frame import to_opensim, walks
from exo_capture.marker_set import MarkerSet, recognise
from exo_capture.quality import GOOD, NOT_USABLE, USABLE, Quality, bone_length_cv_pct
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

MISSING_PCT = (5.0, 25.0)  # of the samples of the markers that keypoints are made of: good up to, usable up to
BONE_CV_PCT = (3.0, 8.0)  # skin moves on the bone by about 2 % of a segment's length
MATCH_S = 0.15  # an event of the file and one of ours further apart are different events
HEIGHT_OFF_M, MASS_OFF_KG = 0.03, 5.0  # between the file and the session, beyond which one of them is wrong
ASSUMPTIONS = (
    "hip joint centres follow from the pelvis markers by regression (Harrington et al. 2007)",
    "skin markers move against the bone, most at the thigh and the scapula",
)


@dataclasses.dataclass(frozen=True)
class MarkerCapture:
    """Result of a marker capture, in OpenSim's frame, walking along +x.

    Attributes
    ----------
    recording : the walk as read, turned and mended, with force plates, EMG and the file's own events.
    marker_set : the map that fits it.
    markers : the set's markers, gaps up to 0.25 s filled, and after them the keypoints, m.
    static : the same of the static trial; None without one.
    events, strides : heel strikes and toe-offs of the motion; complete strides, of the file's events if it has them.
    quality : figures, warnings, verdict.
    """

    recording: Recording
    marker_set: MarkerSet
    markers: Markers
    static: Markers | None
    events: GaitEvents
    strides: tuple[Stride, ...]
    quality: Quality

    @property
    def keypoints(self) -> Markers:
        """Joint centres, heels and toes under BlazePose's names."""
        return self.marker_set.keypoints_of(self.markers)

    @property
    def subject(self) -> Subject:
        """What the file says about the person."""
        return self.recording.subject

    def disagreements(self, height: float, mass: float) -> tuple[str, ...]:
        """Sentences where the file's height (m) or mass (kg) is not the session's."""
        found = []
        for what, said, given, unit, limit in (
            ("height", self.subject.height, height, "m", HEIGHT_OFF_M),
            ("mass", self.subject.mass, mass, "kg", MASS_OFF_KG),
        ):
            if said is not None and abs(said - given) > limit:
                found.append(
                    f"the recording says a {what} of {said:g} {unit}, the session {given:g}; correct one of them"
                )
        return tuple(found)


def capture_markers(walk: Path, static: Path | None = None, marker_set: MarkerSet | None = None) -> MarkerCapture:
    """Read a marker recording of a walk and, if there is one, the static trial of the same session.

    Parameters
    ----------
    walk, static : C3D or TRC files.
    marker_set : the map of their markers; by default the shipped one that fits.

    Raises
    ------
    ExoError : if a file cannot be read, its labels fit no map, the person does not walk,
        or a leg has no complete stride.
    """
    recording = read_recording(walk)
    chosen = marker_set or recognise(recording.markers.names)
    if missing := [name for name in chosen.used() if name not in recording.markers.names]:
        raise ExoError(f"{walk} lacks marker {', '.join(missing[:6])} of the set {chosen.name}; label it")
    recording = to_opensim(recording, chosen)  # refuses a wrong unit, in which nobody seems to walk
    if not walks(recording.markers, chosen):
        raise ExoError(f"{walk} holds no walk (the heels stay under the pelvis); give a walking trial")
    recording = _filled(recording)
    markers = chosen.with_keypoints(recording.markers)
    stance, notes = None, list(recording.notes)
    if static is not None:
        standing = to_opensim(read_recording(static), chosen)
        if walks(standing.markers, chosen):
            raise ExoError(f"{static} holds a walk, not a quiet stance; give the static trial")
        stance = chosen.with_keypoints(standing.markers)
        notes += [f"static: {note}" for note in standing.notes]
    keypoints = chosen.keypoints_of(recording.markers)
    events = find_events(smooth_markers(keypoints))
    said = file_strides(recording.events, keypoints)
    strides = said if all(any(s.side == side for s in said) for side in SIDES) else events.strides
    by_side = {side: sum(stride.side == side for stride in strides) for side in SIDES}
    if not all(by_side.values()):
        raise ExoError(
            f"{walk} holds no complete stride of both legs ({by_side['l']} left, {by_side['r']} right); "
            "record a longer walk"
        )
    quality = _judge(recording, chosen, keypoints, strides, strides is said, events, notes)
    if quality.verdict == NOT_USABLE:
        raise ExoError(f"{walk} cannot be used: {'; '.join(quality.warnings)}")
    return MarkerCapture(recording, chosen, markers, stance, events, strides, quality)


def file_strides(events: tuple[FootEvent, ...], keypoints: Markers) -> tuple[Stride, ...]:
    """Complete strides between the foot events that a file carries."""
    found = []
    for side in SIDES:
        strikes = [event.time for event in events if event.side == side and event.kind == "strike"]
        offs = [event.time for event in events if event.side == side and event.kind == "off"]
        heel = keypoints.position[:, keypoints.names.index(f"{side.upper()}Heel"), 0]
        for start, end in itertools.pairwise(strikes):
            between = [time for time in offs if start < time < end]
            if len(between) == 1 and STRIDE_S[0] <= end - start <= STRIDE_S[1]:
                at = np.interp([start, end], keypoints.time, heel)
                stride = Stride(side, start, between[0], end, float(at[1] - at[0]))
                if STANCE_SHARE[0] <= stride.stance_share <= STANCE_SHARE[1] and faces_forward(stride, keypoints):
                    found.append(stride)
    return tuple(sorted(found, key=lambda stride: stride.start))


def event_differences(said: tuple[FootEvent, ...], events: GaitEvents) -> dict[str, list[float]]:
    """Our event minus the file's nearest one, s, of "strike" and "off"; events without a partner are left out."""
    ours = {"strike": events.heel_strikes, "off": events.toe_offs}
    result: dict[str, list[float]] = {"strike": [], "off": []}
    for event in said:
        near = [time - event.time for time in ours[event.kind][event.side] if abs(time - event.time) < MATCH_S]
        if near:
            result[event.kind].append(min(near, key=abs))
    return result


def lost_markers(markers: Markers, marker_set: MarkerSet) -> list[str]:
    """Sentences about markers that disappear for longer than is filled, and come back; one per marker."""
    sentences = []
    for i, name in enumerate(markers.names):
        seen: NDArray[np.bool_] = np.asarray(np.isfinite(markers.position[:, i]).all(axis=1))
        if name not in marker_set.markers or not seen.any():
            continue
        first, last = np.flatnonzero(seen)[[0, -1]]
        gaps = stretches(~seen[first : last + 1])
        if gaps:
            longest = max(gaps, key=len) + first
            others = f" (longest of {len(gaps)} gaps)" if len(gaps) > 1 else ""
            sentences.append(
                f"marker {name} is missing from {markers.time[longest[0]]:.2f} to {markers.time[longest[-1]]:.2f} s"
                f"{others}, too long to be filled; the other markers must tell what it would"
            )
    return sentences


def _filled(recording: Recording) -> Recording:
    markers = recording.markers
    flat = markers.position.reshape(len(markers.time), -1)
    filled = fill_gaps(flat, markers.rate_hz)[0].reshape(markers.position.shape)
    return dataclasses.replace(recording, markers=dataclasses.replace(markers, position=filled))


def _judge(
    recording: Recording,
    marker_set: MarkerSet,
    keypoints: Markers,
    strides: tuple[Stride, ...],
    from_file: bool,
    events: GaitEvents,
    notes: list[str],
) -> Quality:
    used = [recording.markers.names.index(name) for name in marker_set.used()]
    missing = 100.0 * float(np.isnan(recording.markers.position[:, used]).any(axis=2).mean())
    bone_cv = max(bone_length_cv_pct(keypoints, planar=False).values())
    figures = {"markers_missing_pct": missing, "bone_length_cv_pct": bone_cv}
    for kind, differences in event_differences(recording.events, events).items():
        if differences:
            figures[f"{kind}_minus_file_ms"] = 1e3 * float(np.mean(differences))
    warnings, verdict = [note for note in notes if note.endswith("mended")], GOOD
    warnings += lost_markers(recording.markers, marker_set)
    for key, (good, usable), cure in (
        ("markers_missing_pct", MISSING_PCT, "fill the gaps in the lab's software or add cameras"),
        ("bone_length_cv_pct", BONE_CV_PCT, "fix the markers at knees and ankles better, or check their labels"),
    ):
        if figures[key] > good:
            warnings.append(f"{key} is {figures[key]:.1f} (good up to {good:g}): {cure}")
            verdict = NOT_USABLE if figures[key] > usable or verdict == NOT_USABLE else USABLE
    counts = {side: sum(stride.side == side for stride in strides) for side in SIDES}
    if min(counts.values()) < 2:
        warnings.append("only 1 complete stride on one leg: record a longer walk for a trustworthy mean")
        verdict = USABLE if verdict == GOOD else verdict
    facts = {"marker set": marker_set.name, "frame": "; ".join(notes)}
    facts["events"] = "of the file" if from_file else "from the motion"
    counted = dataclasses.replace(events, strides=strides)
    gait = spatio_temporal(counted, keypoints)
    return Quality(verdict, (*warnings, *counted.notes), figures, counts, gait, facts, ASSUMPTIONS)
