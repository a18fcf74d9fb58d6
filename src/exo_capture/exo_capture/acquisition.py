"""Who is the wearer, decided while the pictures come in: short tracks of everybody, until one of them qualifies."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import body_height, hip_centre
from exo_capture.people import MAX_RISE, MAX_SIZE_STEP, MAX_SPEED, POSITION_NOISE, SAME_PERSON, upright

WALKS, LARGEST = "walks", "largest"
RULES = (WALKS, LARGEST)

# Lengths in body heights of the person (nose to foot), times in s.
WINDOW_S = 2.0  # sightings older than this no longer count; a slow machine needs that long for three
MIN_SIGHTINGS = 3
MIN_SPAN_S = 0.2
MIN_TRAVEL = 0.15  # about 23 cm, three times
MAX_SWAY = 0.05  # which is how far people who stand or exercise on the spot sway
MIN_SPEED = 0.3  # per s, about 0.5 m/s
MAX_RESIDUAL = 0.03  # of the hip about a straight steady way: a walker's is 0.01, a false track's 0.1
MAX_SIZE_SPREAD = 0.12  # standard deviation of the log of the size; chimeras change size
RIVAL_SIZE = 0.8  # of the chosen one's size: another person at least this large could be meant as well


@dataclasses.dataclass(frozen=True)
class Person:
    """Somebody found in a picture: `hip` (2,) px, `velocity` (2,) px/s, `size` px, `landmarks` (33, 3) px."""

    hip: NDArray[np.float64]
    velocity: NDArray[np.float64]
    size: float
    landmarks: NDArray[np.float64]


@dataclasses.dataclass
class _Track:
    time: list[float]
    hip: list[NDArray[np.float64]]
    height: list[float]
    landmarks: NDArray[np.float64]

    def reaches(self, time: float, hip: NDArray[np.float64], height: float) -> bool:
        step = np.abs(hip - self.hip[-1]) / height
        far = POSITION_NOISE + MAX_SPEED * (time - self.time[-1])
        return bool(step[0] < far and step[1] < MAX_RISE and abs(np.log(height / self.height[-1])) < MAX_SIZE_STEP)

    def forget(self, before: float) -> None:
        while self.time and self.time[0] < before:
            del self.time[0], self.hip[0], self.height[0]

    def way(self) -> tuple[NDArray[np.float64], float]:
        """Velocity (2,) px/s of the straight steady way through the sightings, and the largest rms about it, px."""
        time, hip = np.array(self.time), np.array(self.hip)
        line = np.polyfit(time - time[-1], hip, 1)
        residual = hip - np.outer(time - time[-1], line[0]) - line[1]
        return line[0], float(np.sqrt(np.mean(residual[:, 0] ** 2)))

    def known(self) -> bool:
        return len(self.time) >= MIN_SIGHTINGS and self.time[-1] - self.time[0] >= MIN_SPAN_S

    def moves(self) -> bool:
        return bool(abs(self.hip[-1][0] - self.hip[0][0]) > MAX_SWAY * np.median(self.height))

    def walks(self) -> bool:
        if not self.known() or float(np.std(np.log(self.height))) > MAX_SIZE_SPREAD:
            return False
        height = float(np.median(self.height))
        velocity, residual = self.way()
        travel = abs(velocity[0]) * (self.time[-1] - self.time[0])
        return (
            travel > MIN_TRAVEL * height
            and abs(velocity[0]) > MIN_SPEED * height
            and residual < (MAX_RESIDUAL * height)
        )


class Acquisition:
    """Collects sightings of everybody until somebody qualifies as the wearer.

    Parameters
    ----------
    rule : "walks" takes the first who walks across the picture, "largest" whoever is nearest to the camera.

    Attributes
    ----------
    rivals : how many others of about her size were walking too at the last decision, or about to.
    """

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._tracks: list[_Track] = []
        self.rivals = 0

    def add(self, people: NDArray[np.float64], time: float) -> Person | None:
        """Take the (n, 33, 3) people seen at `time` s; returns the wearer when one of *them* qualifies."""
        seen = [track for row in people[upright(people)] if (track := self._sight(row, time)) is not None]
        for track in self._tracks:
            track.forget(time - WINDOW_S)
        self._tracks = [track for track in self._tracks if track.time]
        walking = self._rule == WALKS
        fit = [t for t in self._tracks if (t.walks() if walking else t.known())]
        if not fit:
            return None
        best = max(fit, key=lambda track: float(np.median(track.height)))
        if not any(best is track for track in seen):
            return None
        others = [t for t in self._tracks if t is not best and (t.moves() or not walking)]
        self.rivals = sum(bool(np.median(t.height) > RIVAL_SIZE * np.median(best.height)) for t in others)
        velocity, _ = best.way()
        return Person(best.hip[-1], velocity, float(np.median(best.height)), best.landmarks)

    def _sight(self, landmarks: NDArray[np.float64], time: float) -> _Track | None:
        """The track this person belongs to; None for a second look at somebody seen in the same picture."""
        hip, height = hip_centre(landmarks), float(body_height(landmarks))
        for track in self._tracks:
            if track.time[-1] == time and np.linalg.norm(hip - track.hip[-1]) < SAME_PERSON * height:
                return None
        near = [t for t in self._tracks if t.time[-1] < time and t.reaches(time, hip, height)]
        if not near:
            self._tracks.append(_Track([time], [hip], [height], landmarks))
            return self._tracks[-1]
        track = min(near, key=lambda t: float(np.linalg.norm(t.hip[-1] - hip)))
        track.time.append(time)
        track.hip.append(hip)
        track.height.append(height)
        track.landmarks = landmarks
        return track
