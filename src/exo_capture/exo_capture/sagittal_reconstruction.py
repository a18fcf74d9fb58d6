"""From one walker's landmarks in one side view to markers, events and a quality report; no pictures needed.

The landmarks may come from any estimator, or from a made-up camera: repair of the
legs, gap filling, filtering, scale from stature, events, verdict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exo_capture.filtering import CUTOFF_HZ, fill_gaps, smooth
from exo_capture.gait_events import GaitEvents, find_events, spatio_temporal
from exo_capture.landmarks import BODY, HIPS, LEG_L, LEG_R, LOWER_L, LOWER_R, MARKERS, SHOULDERS
from exo_capture.leg_repair import Repair, repair_legs
from exo_capture.planar_legs import constant_bones
from exo_capture.quality import Quality, bone_length_cv_pct, judge
from exo_capture.sagittal import (
    MIN_FRAMES,
    View,
    apparent_height,
    camera_roll,
    fit_view,
    lean_drift,
    to_markers,
    turned,
)
from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

HEIGHT_M = (1.0, 2.3)
MAX_BREAK_S = 0.2  # a longer absence ends the usable window
LEAVING = 0.2  # of the body height: with the hips nearer to the edge, half of a step lies outside
BORDER = 0.02  # of the body height: a joint this near the edge of the picture is half outside
MIN_STRIDES = 2
EVEN_FRAMES = 0.25  # frames this near to an even beat, in frame intervals, are taken as even
HIDDEN_MARGIN = 0.05  # of confidence: a near leg known this much worse than the far one is probably the far one
SIDE_NAMES = {"l": "left", "r": "right"}
LEG_JOINTS = (*LEG_L, *LEG_R)
TRUNK = (*SHOULDERS, *HIPS)
BoolArray = NDArray[np.bool_]
FEET = (*LOWER_L[1:], *LOWER_R[1:])

# How far to trust what was not plainly measured, as factors on the estimator's own confidence.
FOOT_CONFIDENCE = 0.5  # a foot is small, blurred in swing, and its ankle angle rides on three nearby points
MERGED_CONFIDENCE = 0.5  # both legs on one: which of them was measured is known by its motion alone
INTERPOLATED_CONFIDENCE = 0.2


@dataclasses.dataclass(frozen=True)
class SagittalReconstruction:
    """A walk in metres.

    Attributes
    ----------
    markers : repaired, short gaps filled, low-passed; OpenSim's frame, walking +x; with confidence.
    raw : the same places repaired but neither filled nor filtered; NaN where nothing was measured.
    pixels : (n, 33, 2) px behind `markers`.
    window : the entries of the landmarks given that were used.
    """

    markers: Markers
    raw: Markers
    pixels: NDArray[np.float64]
    window: slice
    events: GaitEvents
    quality: Quality
    view: View


def check_height(height: float) -> None:
    """Raise ExoError unless a standing height is plausible in m."""
    if not HEIGHT_M[0] <= height <= HEIGHT_M[1]:
        raise ExoError(f"height {height:g} is not a person's in m; give the wearer's standing height in m, e.g. 1.72")


def reconstruct_sagittal(
    landmarks: NDArray[np.float64],
    time: NDArray[np.float64],
    size: tuple[int, int],
    height: float,
    *,
    cutoff_hz: float | None = CUTOFF_HZ,
    min_strides: int = MIN_STRIDES,
    figures: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> SagittalReconstruction:
    """Markers, events and quality of one person who walks across a side view.

    Parameters
    ----------
    landmarks : (n, 33, 3) px, px, confidence 0..1 in consecutive frames; NaN where a landmark or the person is
        missing. Slots that no frame knows (e.g. eyes) are allowed; shoulders or eyes, and both legs are needed.
    time : (n,) s, ascending, of the frames.
    size : (width, height) of the picture, px.
    height : the wearer's standing height, m.
    cutoff_hz : of the zero-phase low-pass; None leaves it out.
    min_strides : fewer complete strides of both legs together are refused, and so is none of either leg; 0 accepts
        any recording.
    figures : known from the video (e.g. of the camera's motion), to be judged with the others.
    notes : warnings known from the video, for the report.

    Raises
    ------
    ExoError : if the height is not in m, the person is never wholly in the picture, walks backwards, or too few
        strides are complete.
    """
    check_height(height)
    body_px = apparent_height(landmarks[:, :, :2])
    inside = _inside(landmarks, size, body_px, BORDER)
    window = _usable_window(inside, time)
    made_up = ~_inside(landmarks, size, body_px)[window]
    time, body_px = time[window], body_px[window]
    rate_hz = float((len(time) - 1) / (time[-1] - time[0]))
    seen = landmarks[window].copy()
    seen[made_up, :2] = np.nan
    repaired, repair = repair_legs(seen[:, :, :2], body_px, rate_hz)
    flat, added = fill_gaps(repaired.reshape(len(seen), -1), rate_hz)
    filled, interpolated = flat.reshape(repaired.shape), added.reshape(repaired.shape)[:, :, 0]
    roll = camera_roll(filled)
    level = turned(filled, roll)
    view = fit_view(_smooth(level, time, cutoff_hz), height)
    scale = view.metre_per_px[:, None, None]
    steady = _smooth(constant_bones(level * scale, interpolated) / scale, time, cutoff_hz)
    confidence = _confidence(seen, repair, interpolated)
    markers = to_markers(steady, steady, time, view, height, confidence)
    raw = to_markers(turned(repaired, roll), steady, time, view, height, np.where(interpolated, 0.0, confidence))
    events = find_events(_part(markers, _whole_span(inside[window])))
    _require_strides(events, markers, min_strides)
    quality = judge(
        dict(figures or {}) | _figures(seen, repair, interpolated, raw, view, roll),
        {side: len(events.of(side)) for side in SIDES},
        spatio_temporal(events, markers),
        {
            "part_used": f"{time[0]:.2f}-{time[-1]:.2f} s",
            "direction": "to the right" if view.direction > 0 else "to the left",
            "near_leg": SIDE_NAMES[view.near_side],
        },
        notes=[*notes, *events.notes, *_near_leg_note(seen, view)],
    )
    return SagittalReconstruction(markers, raw, turned(steady, -roll), window, events, quality, view)


def _inside(
    landmarks: NDArray[np.float64], size: tuple[int, int], body_px: NDArray[np.float64], border: float = 0.0
) -> BoolArray:
    """Landmarks (n, 33) that lie in the picture, clear of its edge by `border` body heights; slots that no frame knows
    count as inside.

    None does while the walker is so far out that an estimator would squeeze the body into what is left of it.
    """
    x, y, margin = landmarks[:, :, 0], landmarks[:, :, 1], border * body_px[:, None]
    unknown = ~np.isfinite(x).any(axis=0)
    inside = unknown | ((x > margin) & (x < size[0] - margin) & (y > margin) & (y < size[1] - margin))
    hip = x[:, HIPS].mean(axis=1)
    leaving = (hip < LEAVING * body_px) | (hip > size[0] - LEAVING * body_px)
    return np.asarray(inside & ~leaving[:, None], dtype=bool)


def _usable_window(inside: BoolArray, time: NDArray[np.float64]) -> slice:
    """The longest part with the whole body in the picture, and what follows on either side while half of it is.

    Parameters
    ----------
    inside : (n, 33), see _inside.
    """
    whole, trunk, left, right = (np.asarray(inside[:, part].all(axis=1)) for part in (BODY, TRUNK, LEG_L, LEG_R))
    half = trunk & (left | right)
    interval = float(np.median(np.diff(time)))
    index = np.flatnonzero(whole | half)
    runs = np.split(index, np.flatnonzero(np.diff(time[index]) > MAX_BREAK_S + 1.5 * interval) + 1)
    longest = max(runs, key=lambda run: int(whole[run].sum()))
    if whole[longest].sum() < MIN_FRAMES:
        raise ExoError("the walker is never in the picture from head to foot for long enough; film from further away")
    return slice(int(longest[0]), int(longest[-1]) + 1)


def _whole_span(inside: BoolArray) -> slice:
    """From the first to the last frame with the whole body in the picture.

    Beyond, a foot that leaves the picture is seen pulled back to its edge, which looks like a heel strike.
    """
    whole = np.flatnonzero(inside[:, BODY].all(axis=1))
    return slice(int(whole[0]), int(whole[-1]) + 1)


def _part(markers: Markers, span: slice) -> Markers:
    return Markers(markers.time[span], markers.names, markers.position[span])


def _near_leg_note(seen: NDArray[np.float64], view: View) -> list[str]:
    """A warning if the leg that should be near to the camera is the one that the estimator sees worse."""
    confidence = {side: np.nanmean(seen[:, leg[1:], 2]) for side, leg in (("l", LEG_L), ("r", LEG_R))}
    far = "l" if view.near_side == "r" else "r"
    if not confidence[view.near_side] < confidence[far] - HIDDEN_MARGIN:
        return []
    return [
        f"the {SIDE_NAMES[view.near_side]} leg should be near the camera but is seen worse than the other; "
        "if the video is mirrored, left and right are exchanged in everything that follows"
    ]


def _smooth(pixels: NDArray[np.float64], time: NDArray[np.float64], cutoff_hz: float | None) -> NDArray[np.float64]:
    """Low-passed (n, 33, 2) pixels; if the frames are unevenly spaced, on even times in between."""
    if cutoff_hz is None:
        return pixels
    flat = pixels.reshape(len(pixels), -1)
    even = np.linspace(time[0], time[-1], len(time))
    rate_hz = 1.0 / (even[1] - even[0])
    if np.abs(time - even).max() * rate_hz <= EVEN_FRAMES:
        return smooth(flat, rate_hz, cutoff_hz).reshape(pixels.shape)
    result = np.full(flat.shape, np.nan)
    for column in range(flat.shape[1]):
        known = np.isfinite(flat[:, column])
        if known.any():
            # Gaps are bridged for the filter and opened again.
            regular = np.interp(even, time[known], flat[known, column])
            result[known, column] = np.interp(time[known], even, smooth(regular[:, None], rate_hz, cutoff_hz)[:, 0])
    return result.reshape(pixels.shape)


def _confidence(seen: NDArray[np.float64], repair: Repair, interpolated: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, 33) trust in each landmark: the estimator's, lowered for feet, merged legs and interpolated samples."""
    own = np.where(np.isfinite(seen[:, :, 2]), seen[:, :, 2], 1.0).clip(0.0, 1.0)
    own[:, FEET] *= FOOT_CONFIDENCE
    own[np.ix_(np.flatnonzero(repair.merged), np.array(LEG_JOINTS))] *= MERGED_CONFIDENCE
    measured = np.isfinite(seen[:, :, 0]) & ~repair.rejected
    return np.where(interpolated, INTERPOLATED_CONFIDENCE * own, np.where(measured, own, 0.0))


def _require_strides(events: GaitEvents, markers: Markers, wanted: int) -> None:
    counts = {side: len(events.of(side)) for side in SIDES}
    if sum(counts.values()) < wanted or min(counts.values()) < min(wanted, 1):
        raise ExoError(
            f"only {counts['l']} complete left and {counts['r']} right stride(s) were found in the "
            f"{markers.time[-1] - markers.time[0]:.1f} s in which the whole body is in the picture; "
            "film at least two strides of each leg from the side"
        )


def _figures(
    seen: NDArray[np.float64], repair: Repair, interpolated: NDArray[np.bool_], raw: Markers, view: View, roll: float
) -> dict[str, float]:
    found = np.isfinite(seen[:, MARKERS["LHip"], 0])
    bones = bone_length_cv_pct(raw, planar=True)
    return {
        "frames_used": float(len(seen)),
        "frame_rate_hz": raw.rate_hz,
        "person_found_pct": 100.0 * float(found.mean()),
        "missed_pct": 100.0 * float(1.0 - found.mean()),
        "legs_exchanged_frames": float(repair.exchanged.sum()),
        "legs_exchanged_pct": 100.0 * float(repair.exchanged.mean()),
        "legs_merged_frames": float(repair.merged.sum()),
        "joints_rejected_pct": 100.0 * float(repair.rejected[:, LEG_JOINTS].mean()),
        "leg_interpolated_pct": 100.0 * float(interpolated[:, LEG_JOINTS].mean()),
        "bone_length_cv_pct": float(np.mean(list(bones.values()))),
        **{f"bone_length_cv_{name}_pct": value for name, value in bones.items()},
        "scale_mm_per_px": 1000.0 * float(np.median(view.metre_per_px)),
        "scale_change_pct": 100.0 * view.scale_change,
        "camera_roll_deg": float(np.degrees(abs(roll))),
        "lean_drift_deg": float(np.degrees(abs(lean_drift(seen[:, :, :2])))),
    }
