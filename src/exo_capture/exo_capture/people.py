"""Who is who: per-frame pose candidates become tracks of people, and one of them is the walker.

A pose estimator asked for several people returns duplicates, chimeras (the legs of
one person under the trunk of another) and gaps. A track is the chain of candidates
with the most frames and the smoothest size and height above the floor; duplicates
and chimeras are what the chain leaves out.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import ANKLES, HIPS, KNEES, NOSE, SHOULDERS, body_height, hip_centre
from exo_common.errors import ExoError

# Lengths are in body heights of the person in the picture (nose to foot), times in s.
MAX_GAP_S = 1.0  # a person hidden for longer starts a new track
MAX_SPEED = 2.0  # body heights/s; a fast walk is about 1.3
POSITION_NOISE = 0.15  # jitter of a hip centre between two frames
MAX_RISE = 0.3  # a hip rises and falls 0.03 in walking; more than this is another person
MAX_SIZE_STEP = 0.25  # |log| change of apparent height over one link
SAME_PERSON = 0.35  # candidates nearer than this to a track's hip are its duplicates
MIN_TRACK_S = 0.5
TRUNK_SHARE = (0.15, 0.5)  # of the nose-to-foot height; people have 0.27-0.36
CHIMERA_SIZE = 0.12  # |log| deviation of height from the running median
CHIMERA_SHIFT = 0.15  # deviation of the hip from the running median path
MEDIAN_WINDOW_S = 0.7
MIN_WALKING_SPEED = 0.12  # body heights/s, about 0.2 m/s
SMOOTHING_S = 0.8  # about one step, so that speed changes within a step do not count
MIN_TRAVEL = 1.0  # body heights; two strides of a slow walker
RIVAL_SHARE = 0.5  # a second walker who travels more than this share of the first makes the choice open


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Pose candidates of all frames: `frame` (n,) ascending, `landmarks` (n, 33, 3) px, px, visibility."""

    frame: NDArray[np.int64]
    landmarks: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Track:
    """One person: `frame` (m,) strictly ascending, `hip` (m, 2) px, `height` (m,) px."""

    frame: NDArray[np.int64]
    hip: NDArray[np.float64]
    height: NDArray[np.float64]

    @property
    def travel(self) -> float:
        """Horizontal distance between the ends, in body heights."""
        ends = max(1, len(self.frame) // 10)
        distance = self.hip[-ends:, 0].mean() - self.hip[:ends, 0].mean()
        return float(abs(distance) / np.median(self.height))


def upright(landmarks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (n, 33, 3) candidates look upright: head over shoulders over hips over knees over feet."""
    y = landmarks[..., 1]
    levels = [y[:, NOSE], *(y[:, pair].mean(axis=1) for pair in (SHOULDERS, HIPS, KNEES, ANKLES))]
    ordered = np.all(np.diff(np.array(levels), axis=0) > 0.0, axis=0)
    share = (levels[2] - levels[1]) / np.maximum(body_height(landmarks), 1.0)
    return ordered & (share > TRUNK_SHARE[0]) & (share < TRUNK_SHARE[1])


def find_tracks(candidates: Candidates, rate_hz: float) -> list[Track]:
    """People in the candidates, the one seen in most frames first; duplicates and chimeras left out."""
    keep = upright(candidates.landmarks)
    frame = candidates.frame[keep]
    hip, height = hip_centre(candidates.landmarks[keep]), body_height(candidates.landmarks[keep])
    tracks = []
    while len(frame):
        chain = _best_chain(frame, hip, height, rate_hz)
        if len(chain) < MIN_TRACK_S * rate_hz:
            break
        tracks.append(_without_chimeras(Track(frame[chain], hip[chain], height[chain]), rate_hz))
        centre = np.column_stack([np.interp(frame, frame[chain], hip[chain, axis]) for axis in (0, 1)])
        within = (frame >= frame[chain[0]]) & (frame <= frame[chain[-1]])
        near = np.linalg.norm(hip - centre, axis=1) < SAME_PERSON * np.median(height[chain])
        rest = ~(within & near)
        rest[chain] = False
        frame, hip, height = frame[rest], hip[rest], height[rest]
    return tracks


def choose_walker(tracks: list[Track], rate_hz: float, person: int | None = None) -> Track:
    """The person who walks furthest across the picture, cut to the steady walk.

    Parameters
    ----------
    person : chooses among the people who walk, 1 for the first to appear.

    Raises
    ------
    ExoError : if nobody walks across, two people do so about equally and none is chosen, or there is no such person.
    """
    if not tracks:
        raise ExoError("no person was found in the video; film the wearer from the side, whole body in the picture")
    walks = [steady_walk(track, rate_hz) for track in tracks]
    furthest = max(walks, key=lambda walk: walk.travel)
    if furthest.travel < MIN_TRAVEL:
        raise ExoError(
            f"nobody walks across the picture (found {_count(len(tracks), 'person', 'people')}, the longest way is "
            f"{furthest.travel:.1f} body heights); film at least two strides from the side with a standing camera"
        )
    walkers = sorted((walk for walk in walks if walk.travel >= MIN_TRAVEL), key=lambda walk: int(walk.frame[0]))
    listed = "; ".join(f"person {i}: {_describe(walk, rate_hz)}" for i, walk in enumerate(walkers, 1))
    if person is not None:
        if not 1 <= person <= len(walkers):
            raise ExoError(f"there is no person {person}; choose one of: {listed}")
        return walkers[person - 1]
    if any(walk is not furthest and walk.travel > RIVAL_SHARE * furthest.travel for walk in walkers):
        raise ExoError(
            f"{_count(len(walkers), 'person', 'people')} walk across the picture and any could be the wearer; choose "
            f"by --person N, by person: N in session.yaml, or by start and end of the walk ({listed})"
        )
    return furthest


def steady_walk(track: Track, rate_hz: float) -> Track:
    """The longest part of a track in which the person keeps moving horizontally in one direction."""
    frames = np.arange(track.frame[0], track.frame[-1] + 1)
    x = np.interp(frames, track.frame, track.hip[:, 0]) / np.median(track.height)
    width = max(3, round(SMOOTHING_S * rate_hz))
    if len(frames) <= width:
        return track
    padded = np.pad(x, (width // 2, width - 1 - width // 2), mode="reflect", reflect_type="odd")
    speed = np.gradient(np.convolve(padded, np.ones(width) / width, mode="valid")) * rate_hz
    direction = np.where(np.abs(speed) > MIN_WALKING_SPEED, np.sign(speed), 0.0)
    edges = np.flatnonzero(np.diff(direction)) + 1
    runs = [run for run in np.split(np.arange(len(frames)), edges) if direction[run[0]] != 0.0]
    if not runs:
        return track
    longest = max(runs, key=lambda run: abs(x[run[-1]] - x[run[0]]))
    inside = (track.frame >= frames[longest[0]]) & (track.frame <= frames[longest[-1]])
    return Track(track.frame[inside], track.hip[inside], track.height[inside])


def _best_chain(
    frame: NDArray[np.int64], hip: NDArray[np.float64], height: NDArray[np.float64], rate_hz: float
) -> NDArray[np.int64]:
    """Indices of the best chain: one point per candidate, less what its links cost in size and height changes."""
    score, back = np.ones(len(frame)), np.full(len(frame), -1)
    for j in range(len(frame)):
        lo = int(np.searchsorted(frame, frame[j] - MAX_GAP_S * rate_hz))
        hi = int(np.searchsorted(frame, frame[j]))
        if lo == hi:
            continue
        step = np.abs(hip[lo:hi] - hip[j]) / height[j]
        size = np.abs(np.log(height[lo:hi] / height[j])) / MAX_SIZE_STEP
        reach = POSITION_NOISE + MAX_SPEED * (frame[j] - frame[lo:hi]) / rate_hz
        possible = (step[:, 0] < reach) & (step[:, 1] < MAX_RISE) & (size < 1.0)
        gain = np.where(possible, score[lo:hi] - 0.5 * (size + step[:, 1] / MAX_RISE), -np.inf)
        best = int(np.argmax(gain))
        if gain[best] > 0.0:
            score[j], back[j] = 1.0 + gain[best], lo + best
    chain = [int(np.argmax(score))]
    while back[chain[-1]] >= 0:
        chain.append(int(back[chain[-1]]))
    return np.array(chain[::-1])


def _without_chimeras(track: Track, rate_hz: float) -> Track:
    """Drop the frames whose size or place jumps away from the running median."""
    half = MEDIAN_WINDOW_S * rate_hz / 2.0
    good = np.zeros(len(track.frame), dtype=bool)
    for i, frame in enumerate(track.frame):
        near = np.abs(track.frame - frame) <= half
        size = np.log(track.height[i] / np.median(track.height[near]))
        path = [np.polyval(np.polyfit(track.frame[near] - frame, track.hip[near, a], 1), 0.0) for a in (0, 1)]
        shift = np.hypot(*(track.hip[i] - path)) / track.height[i] if near.sum() > 3 else 0.0
        good[i] = abs(size) < CHIMERA_SIZE and shift < CHIMERA_SHIFT
    return Track(track.frame[good], track.hip[good], track.height[good])


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _describe(walk: Track, rate_hz: float) -> str:
    way = "right" if walk.hip[-1, 0] > walk.hip[0, 0] else "left"
    start, end = walk.frame[[0, -1]] / rate_hz
    return f"{start:.1f}-{end:.1f} s, walking to the {way} from x = {walk.hip[0, 0]:.0f} px"
