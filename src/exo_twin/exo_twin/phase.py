"""Where in the stride the wearer is, from both hips alone: causal, deterministic, NumPy only.

Each tick matches both hip angles and velocities against the wearer's reference
curves at every phase at once, so no start is a wrong start. A phase-locked loop
then carries phase and cadence between the matches; amplitude and offset of each
hip adapt slowly, so that a shifted encoder zero or a longer step does not pull
the phase.

A pose held still can match the curves as well as a walk does, and its match may even
leap between phases of similar pose. So confidence also asks for progress: matches that
move on through the stride, and hips that move.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque

import numpy as np

from exo_common.clock import NS_PER_S
from exo_twin.periodic import GRID, PeriodicCurve
from exo_twin.twin import Gait

STANDING, WALKING = "standing", "walking"

# Standing or walking: rms hip speed over the last moments, as a share of that in the reference stride.
SPEED_MEMORY_S = 0.4
WALK_ABOVE, STAND_BELOW = 0.35, 0.2
# Bandwidth of the loop: slow against noise, fast against a stride (about 1 s).
LOOP_RAD_S = 6.0
LOOP_DAMPING = 1.0
# Cadence may differ from the reference stride by this factor.
CADENCE_RANGE = (0.5, 1.8)
# Out of step by more than this share of a stride for this long: start again at the match.
LOST_PHASE, LOST_S = 0.15, 0.25
# Amplitude and offset adapt over about two strides.
SHAPE_MEMORY_S = 2.5
AMPLITUDE_RANGE = (0.6, 1.5)
OFFSET_MAX_RAD = 0.35
# Memory of the mismatch behind the confidence; what mismatch (of the curve's own rms)
# and what step-to-step error (of a stride) leave a confidence of exp(-1).
FIT_MEMORY_S = 0.25
FIT_SCALE = 0.45
STEP_SCALE = 0.06
# Progress, judged over the last moments: a longer time averages more noise and sees a stop later.
# Even at the fastest cadence it must hold less than half a stride.
PROGRESS_S = 0.2
# Below this advance of the matches (share of what the loop expects) and below this rms hip speed (share of
# that in the reference stride) confidence falls, to 0 at a standstill. Even where both hips turn at once,
# walking at 0.8 of the reference's cadence and excursion stays above both.
FULL_ADVANCE, FULL_SPEED = 0.3, 0.15
# Without samples the confidence in the phase falls with this time constant.
UNSEEN_S = 0.2
# A gap between samples longer than this is not bridged.
LONGEST_GAP_S = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class PhaseEstimate:
    """One estimate.

    Attributes
    ----------
    left, right : phase of each leg in [0, 1), 0 at its heel strike.
    rate : strides per s, 0 while standing.
    stride_time : s, the present one (that of the reference while standing).
    confidence : 0..1; 0 while standing.
    mode : "standing" or "walking".
    phase_sd : one standard deviation of the phase, in strides, as the loop sees it.
    """

    left: float
    right: float
    rate: float
    stride_time: float
    confidence: float
    mode: str
    phase_sd: float


class PhaseEstimator:
    """Phase of both legs from hip encoders.

    Parameters
    ----------
    gait : the wearer's mean stride.
    """

    def __init__(self, gait: Gait) -> None:
        self._offset_right = gait.phase_offset_right
        self._reference_rate = 1.0 / gait.stride_time
        left = PeriodicCurve(gait.curves["hip_flexion_l"])
        right = PeriodicCurve(gait.curves["hip_flexion_r"])
        # Row: what both hips do when the LEFT leg is at phase k / GRID.
        shifted = [right.at(k / GRID + self._offset_right) for k in range(GRID)]
        curves = np.array([left.table, [value for value, _ in shifted]])
        slopes = np.array([left.slope, [slope for _, slope in shifted]])
        self._mean = curves.mean(axis=1)
        rms = np.sqrt(np.mean((curves - self._mean[:, None]) ** 2, axis=1))
        rms = np.maximum(rms, math.radians(2.0))
        slope_rms = np.maximum(np.sqrt(np.mean(slopes**2, axis=1)), 1e-6)
        self._power = rms**2
        self._scale = np.concatenate([1.0 / rms, 1.0 / slope_rms])
        # (4, GRID): both angles, both slopes, each of unit rms.
        self._features = np.vstack([(curves - self._mean[:, None]) / rms[:, None], slopes / slope_rms[:, None]])
        self._features_power = np.sum(self._features**2, axis=0)
        self._shape = (curves - self._mean[:, None]).T
        self._speed_power = float(np.mean(slopes**2)) * self._reference_rate**2
        self._stamp: int | None = None
        self._mode = STANDING
        self._phase = 0.0
        self._rate = self._reference_rate
        self._speed = 0.0
        self._offset = np.zeros(2)
        self._numerator = np.ones(2) * self._power
        self._denominator = self._power.copy()
        self._lost_s = 0.0
        self._mismatch = self._step_error = 1.0
        # Of the last moments: stamp in ns, match, mean square hip speed.
        self._recent: deque[tuple[int, float, float]] = deque()
        self._progress = 0.0

    def step(self, stamp_ns: int, position: tuple[float, float], velocity: tuple[float, float]) -> PhaseEstimate:
        """Process one sample.

        Parameters
        ----------
        stamp_ns : acquisition time, ns. A sample not newer than the last one changes nothing.
        position, velocity : (left, right) hip flexion, rad and rad/s. With a value that is
            no number the phase goes on at the present cadence and confidence falls.
        """
        if self._stamp is not None and stamp_ns <= self._stamp:
            return self._estimate()
        gap = 0.0 if self._stamp is None else (stamp_ns - self._stamp) / NS_PER_S
        self._stamp = stamp_ns
        dt = min(gap, LONGEST_GAP_S)
        if not all(map(math.isfinite, (*position, *velocity))):
            if self._mode == WALKING:
                self._phase = (self._phase + self._rate * dt) % 1.0
                self._progress *= math.exp(-dt / UNSEEN_S)
            return self._estimate()
        angle, speed = np.array(position), np.array(velocity)
        self._watch_speed(speed, dt)
        if self._mode == STANDING:
            return self._estimate()
        match, mismatch = self._match(angle, speed)
        self._follow(match, dt)
        self._watch_progress(stamp_ns, match, speed)
        share = 1.0 - math.exp(-dt / FIT_MEMORY_S)
        self._mismatch += share * (mismatch - self._mismatch)
        self._adapt(angle, dt)
        return self._estimate()

    def _watch_speed(self, speed: np.ndarray, dt: float) -> None:
        share = 1.0 - math.exp(-dt / SPEED_MEMORY_S)
        self._speed += share * (float(np.mean(speed**2)) / self._speed_power - self._speed)
        if self._mode == STANDING and self._speed > WALK_ABOVE**2:
            self._mode = WALKING
            self._rate = self._reference_rate
            self._lost_s = LOST_S
            self._mismatch = self._step_error = 1.0
            self._recent.clear()
            self._progress = 0.0
        elif self._mode == WALKING and self._speed < STAND_BELOW**2:
            self._mode = STANDING

    def _match(self, angle: np.ndarray, speed: np.ndarray) -> tuple[float, float]:
        """Left phase that fits this sample best, and how badly it fits (rms, 1 = the curve's own)."""
        amplitude = np.clip(self._numerator / self._denominator, *AMPLITUDE_RANGE)
        sample = np.concatenate([angle - self._mean - self._offset, speed / self._rate])
        sample *= self._scale
        sample[:2] /= amplitude
        sample[2:] /= amplitude
        # Summed by hand: a library's matrix product may order its sums by machine, replay must not.
        a, b, c, d = self._features
        cost = self._features_power - 2.0 * (sample[0] * a + sample[1] * b + sample[2] * c + sample[3] * d)
        best = int(np.argmin(cost))
        before, here, after = float(cost[best - 1]), float(cost[best]), float(cost[(best + 1) % GRID])
        bend = before - 2.0 * here + after
        shift = 0.5 * (before - after) / bend if bend > 1e-12 else 0.0
        mismatch = math.sqrt(max(0.0, here + float(np.sum(sample**2))) / 4.0)
        return ((best + shift) / GRID) % 1.0, mismatch

    def _follow(self, match: float, dt: float) -> None:
        """Second-order phase-locked loop around the matches."""
        self._phase += self._rate * dt
        error = (match - self._phase + 0.5) % 1.0 - 0.5
        self._lost_s = self._lost_s + dt if abs(error) > LOST_PHASE else max(0.0, self._lost_s - dt)
        if abs(error) > LOST_PHASE and self._lost_s >= LOST_S:
            self._phase, self._lost_s = match, 0.0
            self._step_error = 1.0
        else:
            error = max(-LOST_PHASE, min(LOST_PHASE, error))
            self._phase += (1.0 - math.exp(-2.0 * LOOP_DAMPING * LOOP_RAD_S * dt)) * error
            rate = self._rate + LOOP_RAD_S**2 * dt * error
            low, high = CADENCE_RANGE
            self._rate = max(low * self._reference_rate, min(high * self._reference_rate, rate))
            self._step_error += (1.0 - math.exp(-dt / FIT_MEMORY_S)) * (abs(error) - self._step_error)
        self._phase %= 1.0

    def _watch_progress(self, stamp_ns: int, match: float, speed: np.ndarray) -> None:
        """Whether the wearer moves on through the stride, 0..1; 0 until samples span :data:`PROGRESS_S`."""
        recent = self._recent
        if recent and stamp_ns - recent[-1][0] > LONGEST_GAP_S * NS_PER_S:
            recent.clear()
        recent.append((stamp_ns, match, float(np.mean(speed**2))))
        while len(recent) > 1 and stamp_ns - recent[1][0] >= PROGRESS_S * NS_PER_S:
            recent.popleft()
        first_ns, first, _ = recent[0]
        span = (stamp_ns - first_ns) / NS_PER_S
        if span < PROGRESS_S:
            self._progress = 0.0
            return
        advance = ((match - first + 0.5) % 1.0 - 0.5) / (self._rate * span)
        power = sum(sample[2] for sample in recent) / (len(recent) * self._speed_power)
        self._progress = max(0.0, min(1.0, advance / FULL_ADVANCE, math.sqrt(power) / FULL_SPEED))

    def _adapt(self, angle: np.ndarray, dt: float) -> None:
        """Amplitude and offset of each hip, by regression on the curve with exponential memory."""
        share = 1.0 - math.exp(-dt / SHAPE_MEMORY_S)
        shape = self._shape[int(self._phase * GRID) % GRID]
        moved = angle - self._mean - self._offset
        self._numerator += share * (moved * shape - self._numerator)
        self._denominator += share * (shape**2 - self._denominator)
        amplitude = np.clip(self._numerator / self._denominator, *AMPLITUDE_RANGE)
        self._offset = np.clip(self._offset + share * (moved - amplitude * shape), -OFFSET_MAX_RAD, OFFSET_MAX_RAD)

    def _estimate(self) -> PhaseEstimate:
        left, right = self._phase % 1.0, (self._phase + self._offset_right) % 1.0
        if self._mode == STANDING:
            return PhaseEstimate(left, right, 0.0, 1.0 / self._reference_rate, 0.0, STANDING, 0.5)
        quality = (self._mismatch / FIT_SCALE) ** 2 + (self._step_error / STEP_SCALE) ** 2
        confidence = self._progress * math.exp(-quality)
        return PhaseEstimate(left, right, self._rate, 1.0 / self._rate, confidence, WALKING, min(0.5, self._step_error))
