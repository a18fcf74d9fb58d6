"""Knees and ankles from live keypoints: how far the wearer departs from the reference stride, by acquisition time.

Keypoints come 30-60 ms after the pictures they were found in. So what they say is compared with the reference stride
at the time of the picture, the departure is kept as of that time, and fades from there to now.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping

from exo_common.clock import NS_PER_S
from exo_common.frames import SIDES
from exo_twin.live.samples import LEG_KEYPOINTS, KeypointSample, Triple

# Joint with side -> (angle, standard deviation) by the reference stride, rad.
Reference = Mapping[str, tuple[float, float]]

KNEES_AND_ANKLES = tuple(f"{joint}_{side}" for side in SIDES for joint in ("knee_angle", "ankle_angle"))
# A departure is forgotten with this time constant: half a stride later it is another one.
FADE_S = 0.5
FORGOTTEN_S = 4.0 * FADE_S
# How large departures usually are is remembered for about a stride.
USUAL_S = 1.0
# Older pictures tell nothing about now; the reference of this many seconds is kept.
LONGEST_DELAY_S = 0.3
# A picture counts as taken at the tick nearest to it, if that is no further away than this (two ticks).
NEAREST_NS = 20_000_000
# One standard deviation of an angle between keypoints: several calibrated cameras (3-4 degrees on synthetic ones);
# one camera, whose heel and toe are its weakest points (2-5 degrees between two sizes of one pose estimator).
SPACE_SD = {"knee_angle": math.radians(4.0), "ankle_angle": math.radians(4.5)}
PLANE_SD = {"knee_angle": math.radians(6.0), "ankle_angle": math.radians(9.0)}
# A departure of more standard deviations than this is a wrong keypoint ...
GATE = 3.0
# ... unless keypoints insist on it for so long: then the reference is wrong.
INSIST_S = 0.5
# What legs can do, rad, and thigh and shank of people of any size: m, and one over the other.
POSSIBLE = {"knee_angle": (-0.4, 2.8), "ankle_angle": (-1.4, 1.2)}
LENGTH_M, RATIO = (0.15, 0.75), (0.5, 2.0)
# Hips nearer to each other than this give no direction across the body, m.
LEAST_HIP_WIDTH_M = 0.05
# Legs are exchanged when crosswise they fit the reference by this factor better (mean square).
EXCHANGED = 4.0
NOWHERE: Triple = (math.nan, math.nan, math.nan)


@dataclasses.dataclass(slots=True)
class _Departure:
    """From the reference: value rad and variance rad2 as of the last picture; `usual` mean square rad2 lately;
    `insisting` since ns (0: not)."""

    value: float = 0.0
    variance: float = math.inf
    usual: float = 0.0
    insisting: int = 0

    def after(self, seconds: float, spread: float) -> tuple[float, float]:
        """Value and variance later: what is forgotten becomes uncertain by the reference's `spread` or the usual."""
        prior = max(spread**2, self.usual)
        if not math.isfinite(self.variance):
            return 0.0, prior
        left = math.exp(-max(0.0, seconds) / FADE_S)
        return left * self.value, left**2 * min(self.variance, prior) + (1.0 - left**2) * prior


class KeypointFusion:
    """Corrects knees and ankles.

    Parameters
    ----------
    offsets : joint with side -> rad that the angle between the wearer's keypoints is above the model's coordinate.
    offset_sd : rad, of these.
    """

    def __init__(self, offsets: Mapping[str, float], offset_sd: float) -> None:
        self._offsets, self._offset_sd = dict(offsets), offset_sd
        self._departures = {name: _Departure() for name in KNEES_AND_ANKLES}
        self._reference: deque[tuple[int, Reference]] = deque()
        self._picture_ns = 0
        self.complaint = ""

    def step(self, now_ns: int, sample: KeypointSample | None, reference: Reference) -> Reference:
        """Correct the reference of this tick; what keypoints do not tell stays as it is."""
        kept = self._reference
        if kept and now_ns <= kept[-1][0]:
            kept.clear()
        kept.append((now_ns, dict(reference)))
        while now_ns - kept[0][0] > LONGEST_DELAY_S * NS_PER_S:
            kept.popleft()
        if sample is not None and sample.stamp_ns != self._picture_ns:
            elapsed_s = (sample.stamp_ns - self._picture_ns) / NS_PER_S
            self._picture_ns = sample.stamp_ns
            self._look(sample, elapsed_s)
        fade_s = (now_ns - self._picture_ns) / NS_PER_S
        if fade_s > FORGOTTEN_S:
            self.complaint = ""
            return dict(reference)
        found = {}
        for name, (angle, spread) in reference.items():
            own = self._departures[name]
            value, variance = own.after(fade_s, spread)
            known = math.isfinite(own.variance)
            found[name] = (angle + value, math.sqrt(variance)) if known else (angle, spread)
        return found

    def _look(self, sample: KeypointSample, elapsed_s: float) -> None:
        """Take a new picture's keypoints, as of the time it was taken."""
        self.complaint = ""
        past = self._at(sample.stamp_ns)
        begin_ns, now_ns = self._reference[0][0], self._reference[-1][0]
        kept_for_s, late_s = (now_ns - begin_ns) / NS_PER_S, (now_ns - sample.stamp_ns) / NS_PER_S
        if past is None or elapsed_s > FORGOTTEN_S or elapsed_s < 0.0:
            self._departures = {name: _Departure() for name in KNEES_AND_ANKLES}
        if past is None:
            # What the first pictures show was before the estimate began.
            if kept_for_s < LONGEST_DELAY_S and 0.0 <= late_s <= LONGEST_DELAY_S:
                return
            self.complaint = f"keypoints are older than {LONGEST_DELAY_S} s or stamped ahead, and not used"
            return
        for name, own in self._departures.items():
            if math.isfinite(own.variance):
                own.value, own.variance = own.after(elapsed_s, past[name][1])
        angles = leg_angles(sample.points, sample.depth_measured)
        if not angles and set(LEG_KEYPOINTS) <= sample.points.keys():
            self.complaint = "keypoints show no legs that people can have, and are not used; are they in metres, z up?"
        measured = {name: angle - self._offsets.get(name, 0.0) for name, angle in angles.items()}
        if _exchanged(measured, past):
            self.complaint = "the keypoints' legs are exchanged; such pictures are not used"
            return
        noise = SPACE_SD if sample.depth_measured else PLANE_SD
        for name, angle in measured.items():
            variance = noise[name[:-2]] ** 2 + self._offset_sd**2
            if not self._update(self._departures[name], angle, variance, past[name], elapsed_s):
                self.complaint = "keypoints contradict the rest of the estimate and are left out"

    def _update(
        self, own: _Departure, angle: float, noise: float, reference: tuple[float, float], elapsed_s: float
    ) -> bool:
        """Kalman step; False if the keypoint is left out."""
        expected, spread = reference
        value, variance = (own.value, own.variance) if math.isfinite(own.variance) else own.after(0.0, spread)
        surprise = angle - expected - value
        if surprise**2 > GATE**2 * (variance + noise):
            own.insisting = own.insisting or self._picture_ns
            if self._picture_ns - own.insisting < INSIST_S * NS_PER_S:
                return False
            variance = own.usual = surprise**2
        own.insisting = 0
        share = 1.0 - math.exp(-max(0.0, min(elapsed_s, USUAL_S)) / USUAL_S)
        own.usual += share * (max(0.0, (angle - expected) ** 2 - noise) - own.usual)
        gain = variance / (variance + noise)
        own.value, own.variance = value + gain * surprise, (1.0 - gain) * variance
        return True

    def _at(self, stamp_ns: int) -> Reference | None:
        """The reference at an earlier time, of the nearest tick; None before the kept ones or after now."""
        kept = self._reference
        if not kept[0][0] - NEAREST_NS <= stamp_ns <= kept[-1][0] + NEAREST_NS:
            return None
        return min(kept, key=lambda tick: abs(tick[0] - stamp_ns))[1]


def leg_angles(points: Mapping[str, Triple], depth_measured: bool) -> dict[str, float]:
    """Sagittal knee and ankle angles (rad, flexion and dorsiflexion positive) of the legs whose keypoints can be true.

    Parameters
    ----------
    points : keypoint -> m, x along the walk, z up, such as RHip.
    depth_measured : the sagittal plane is then across the hips, else x and z.
    """
    forward = _forward(points) if depth_measured else (1.0, 0.0)
    found = {}
    for side in SIDES:
        letter = side.upper()
        flat = [
            (x * forward[0] + y * forward[1], z)
            for x, y, z in (
                points.get(f"{letter}{part}", NOWHERE) for part in ("Hip", "Knee", "Ankle", "Heel", "BigToe")
            )
        ]
        thigh, shank, foot = (_line(flat[a], flat[b]) for a, b in ((0, 1), (1, 2), (3, 4)))
        lengths_possible = all(LENGTH_M[0] < math.hypot(*line) < LENGTH_M[1] for line in (thigh, shank))
        if not lengths_possible or not RATIO[0] < math.hypot(*thigh) / math.hypot(*shank) < RATIO[1]:
            continue
        # How far thigh and shank point forward of straight down, the foot above level.
        thigh_forward, shank_forward = (math.atan2(x, -z) for x, z in (thigh, shank))
        angles = {
            "knee_angle": thigh_forward - shank_forward,
            "ankle_angle": math.atan2(foot[1], foot[0]) - shank_forward,
        }
        for joint, angle in angles.items():
            turned = math.remainder(angle, math.tau)
            if POSSIBLE[joint][0] < turned < POSSIBLE[joint][1]:
                found[f"{joint}_{side}"] = turned
    return found


def _forward(points: Mapping[str, Triple]) -> tuple[float, float]:
    """Unit vector (x, y) that the body faces: square to the line of its hips, to the side where its toes point, which
    also holds when left and right are exchanged; x where that is not seen."""
    if not {"LHip", "RHip"} <= points.keys():
        return (1.0, 0.0)
    across = [left - right for left, right in zip(points["LHip"], points["RHip"], strict=True)]
    width = math.hypot(across[0], across[1])
    if width < LEAST_HIP_WIDTH_M:
        return (1.0, 0.0)
    ahead = 0.0
    for letter in "LR":
        heel, toe = points.get(f"{letter}Heel", NOWHERE), points.get(f"{letter}BigToe", NOWHERE)
        step = (toe[0] - heel[0]) * across[1] - (toe[1] - heel[1]) * across[0]
        ahead += step if math.isfinite(step) else 0.0
    facing = math.copysign(1.0, ahead) / width
    return (facing * across[1], -facing * across[0])


def _line(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


def _exchanged(measured: Mapping[str, float], reference: Reference) -> bool:
    """Whether both legs fit the reference much better when they are taken for each other."""
    if len(measured) < len(KNEES_AND_ANKLES):
        return False
    other = {"l": "r", "r": "l"}
    straight = crosswise = 0.0
    for name, angle in measured.items():
        joint, side = name[:-1], name[-1]
        straight += (angle - reference[name][0]) ** 2
        crosswise += (angle - reference[joint + other[side]][0]) ** 2
    least = 2.0 * len(measured) * PLANE_SD["knee_angle"] ** 2
    return straight > max(least, EXCHANGED * crosswise)
