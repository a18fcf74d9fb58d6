"""The quiet stance and the strides in a calibration recording, by encoders and gyros."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from exo_common.errors import ExoError
from exo_twin.inverse.wearable_recording import EvenRecording
from exo_twin.inverse.wearable_reference import GRID, ReferenceStride

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

STILL_S = 2.0  # of quiet stance that gyros' biases and gravity need; the wearer is asked for three
STANCE_S = 6.0  # of a longer stance the end: a gyro's bias wanders
WALK_S = 15.0  # after the stance; a gyro's heading wanders, and ten steps take 6 s
STILL_RAD_S = 0.12  # RMS about the mean of every gyro while standing: sway is below 0.03, noise of cheap gyros 0.05
# A first step is prepared for half a second before it shows in the gyros: that much of the stance's end is left out.
LEAN_S = 0.6
STILL_HIP_RAD = np.deg2rad(3.0)  # range of the hips while standing
RHYTHM_HZ = 2.5  # of the hips' difference; a stride takes 0.7 s or longer
STRIDE_S = (0.7, 2.2)
EVEN = 0.15  # of the median stride time, within which a stride is a steady one
LEAST_STRIDES = 3
SWING_RAD = np.deg2rad(12.0)  # amplitude of the hips' difference in walking: half that of slow walkers
LIKENESS = 0.7  # correlation of the hips' curves with the twin's


@dataclasses.dataclass(frozen=True)
class Strides:
    """Stance and steady strides, in phase with the reference stride.

    Attributes
    ----------
    still : (n,) frames of the quiet stance.
    begin, end : (strides,) s, at the reference's phase 0.
    hips : (strides, 2, GRID) rad, the encoders' readings.
    """

    still: BoolArray
    begin: FloatArray
    end: FloatArray
    hips: FloatArray

    def times(self) -> FloatArray:
        """(strides, GRID) s."""
        return self.begin[:, None] + (self.end - self.begin)[:, None] * np.arange(GRID) / GRID

    def window(self, time: FloatArray) -> FloatArray:
        """(n,) weights of sum one over the steady strides, under which what repeats with the stride vanishes."""
        return _faded(time, self.begin[0], self.end[-1], float(np.median(self.end - self.begin)))

    def early_window(self, time: FloatArray) -> FloatArray:
        """The same over the first two."""
        stride = float(np.median(self.end - self.begin))
        return _faded(time, self.begin[0], self.begin[0] + 2.0 * stride, stride)

    def early(self) -> float:
        """Middle of the early window, s."""
        return float(self.begin[0] + np.median(self.end - self.begin))


def _faded(time: FloatArray, begin: float, end: float, stride: float) -> FloatArray:
    """A window that rises and falls over one stride each: a box convolved with a box of one stride."""
    weight = np.clip(np.minimum(time - begin, end - time) / stride, 0.0, 1.0)
    return weight / weight.sum()


def find_strides(even: EvenRecording, still: BoolArray, reference: ReferenceStride) -> Strides:
    """The steady strides after the stance, in phase with the reference.

    Raises
    ------
    ExoError : if nobody walked, or not long enough, or an encoder counts the wrong way, or it is somebody else.
    """
    time, rate = even.time, even.rate_hz
    difference = even.hips[:, 0] - even.hips[:, 1]
    rhythm = sosfiltfilt(butter(2, RHYTHM_HZ, fs=rate, output="sos"), difference)
    after = np.flatnonzero(still)[-1]
    until = after + int(WALK_S * even.rate_hz)
    low, high = np.percentile(rhythm[after:until], [5, 95])
    walking, swing = rhythm[after:until] - 0.5 * (low + high), 0.5 * float(high - low)
    together = 0.5 * float(np.ptp(np.percentile(even.hips[after:until].sum(axis=1), [5, 95])))
    if together > max(swing, SWING_RAD):
        raise ExoError(
            "both hips swing together: one of the encoders counts backwards; make flexion positive on both sides and "
            "calibrate again"
        )
    rising = np.flatnonzero((walking[:-1] < 0.0) & (walking[1:] >= 0.0))
    share = walking[rising] / (walking[rising] - walking[rising + 1])
    crossing = time[after + rising] + share / rate
    spans = [(a, b) for a, b in itertools.pairwise(crossing) if STRIDE_S[0] <= b - a <= STRIDE_S[1]]
    swings = [float(np.ptp(difference[(time >= a) & (time < b)])) for a, b in spans]
    if swing < SWING_RAD or not spans:
        raise ExoError("no walking was seen in the hip encoders; stand for 3 s, then walk ten steps straight ahead")
    usual, usual_swing = float(np.median([b - a for a, b in spans])), float(np.median(swings))
    steady = [
        span
        for span, own in zip(spans, swings, strict=True)
        if abs(span[1] - span[0] - usual) <= EVEN * usual and abs(own - usual_swing) <= 2.0 * EVEN * usual_swing
    ]
    if len(steady) < LEAST_STRIDES:
        raise ExoError(
            f"only {2 * len(steady)} steady steps were seen, {2 * LEAST_STRIDES} are needed; stand for 3 s, then walk "
            "ten steps straight ahead without stopping"
        )
    begin, end = np.array(steady).T
    shift = _shift(_cycles(even, begin, end), reference)
    begin, end = (edge - shift * usual for edge in (begin, end))
    inside = (begin >= time[after]) & (end <= time[-1])
    begin, end = begin[inside], end[inside]
    return Strides(still, begin, end, _cycles(even, begin, end))


def find_stance(even: EvenRecording) -> BoolArray:
    """(n,) frames of the quiet stance, STILL_S or longer, that walking came after.

    Raises
    ------
    ExoError : if there is none.
    """
    span = int(STILL_S * even.rate_hz)
    restless = np.zeros(len(even.time) - span)
    for imu in even.imus.values():
        restless = np.maximum(restless, _moving_sd(imu.gyro, span))
    moved = np.max([np.ptp(np.lib.stride_tricks.sliding_window_view(h, span + 1), axis=1) for h in even.hips.T], axis=0)
    quiet = (restless < STILL_RAD_S) & (moved < STILL_HIP_RAD)
    if not quiet.any():
        raise ExoError(
            f"nobody stood still for {STILL_S:.0f} s; stand quietly for 3 s before the first step and calibrate again"
        )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    difference, ahead = even.hips[:, 0] - even.hips[:, 1], int(WALK_S * even.rate_hz)

    def swing_after(run: NDArray[np.int64]) -> float:
        return float(np.std(difference[run[1] + span - 1 :][:ahead]))

    # Whoever stands more than once: the stance that the walk came after.
    first, last = max(edges.reshape(-1, 2), key=swing_after)
    end = last - 1 + span - int(LEAN_S * even.rate_hz)
    still = np.zeros(len(even.time), dtype=bool)
    still[max(first, end - int(STANCE_S * even.rate_hz)) : end] = True
    return still


def _moving_sd(values: FloatArray, span: int) -> FloatArray:
    """(n - span,) root of the summed variances of (n, 3) values over windows of span + 1."""
    view = np.lib.stride_tricks.sliding_window_view(values, span + 1, axis=0)
    return np.sqrt(view.var(axis=2).sum(axis=1))


def _cycles(even: EvenRecording, begin: FloatArray, end: FloatArray) -> FloatArray:
    at = begin[:, None] + (end - begin)[:, None] * np.arange(GRID) / GRID
    return np.stack([np.interp(at, even.time, hip) for hip in even.hips.T], axis=1)


def _shift(cycles: FloatArray, reference: ReferenceStride) -> float:
    """How much of a stride before the cycles' begin the reference's phase 0 lies."""
    seen = cycles.mean(axis=0)
    seen, known = (a - a.mean(axis=1, keepdims=True) for a in (seen, reference.hips))
    spectrum = np.sum(np.fft.fft(seen) * np.conj(np.fft.fft(known)), axis=0)
    like = np.real(np.fft.ifft(spectrum))
    top = int(np.argmax(like))
    below, at, above = like[top - 1], like[top], like[(top + 1) % GRID]
    place = top + 0.5 * (below - above) / (below - 2.0 * at + above)
    if like[top] < LIKENESS * np.linalg.norm(seen) * np.linalg.norm(known):
        raise ExoError(
            "the hip encoders' curves are unlike the twin's walk; check that this is the twin's wearer, that both "
            "encoders turn the same way (flexion positive) and that left and right are not exchanged"
        )
    return -((place + GRID / 2) % GRID - GRID / 2) / GRID
