"""How one clock is related to another, how sure that is, and when it is too unsure to merge two recordings.

EMG, video and exo each stamp with their own clock. What both saw (pulses of a
trigger, taps of a heel, exchanges of an LSL clock) gives pairs of times; a line
through the pairs gives offset and drift. Every figure of uncertainty is the half
width of a 95 % interval.

Pairs are not given: either side may miss an event or see one too many, and a train of
equal intervals fits itself one interval later almost as well. Such a train is refused
rather than guessed at; see :func:`match_events`.

The drift between two crystals is known beforehand to be small. It enters as a
prior, so that one event already gives an offset whose uncertainty grows with the time
from that event, and many events over a long time measure the drift itself.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

# Two recordings are not merged when their clocks are less sure than this: 2 % of a stride, half an
# electromechanical delay.
MERGE_LIMIT_S = 0.020
# Standard deviation of the drift between two quartz clocks before it is measured: each is within 20-50 ppm.
PRIOR_DRIFT = 50e-6
# No two quartz clocks are further apart; pairs that would need more do not belong together.
MAX_DRIFT = 300e-6
# Another offset that explains this share of the pairs of the best is a rival, and the train ambiguous.
RIVAL_SHARE = 0.7
# Of the events that both sides should have seen, so many must be pairs.
MIN_PAIRED_SHARE = 0.5
# Where nobody knows how near the clocks are, an offset must explain so many pairs more than any other does: trains that
# have nothing in common agree in two or three events by chance.
LEAST_LEAD = 3
# The search begins with so many events: few enough that drift does not matter, enough to be unmistakable.
SEED_EVENTS = 40
# Times nearer than this are equal: rounding.
EXACT_S = 1e-9
# Two quartz clocks leave a straight line by a few ms in an hour of warming up. An LSL exchange that is further off than
# this and its own half round trip was made after somebody had set a clock.
LSL_BEND_S = 0.003
# Pairs below which none is called an outlier.
OUTLIERS_FROM = 10
SAME = "same clock"
BOOTSTRAPS = 500
SEED = 0
TWO_SIDED_95 = 0.975
NORMAL_95 = 1.96


@dataclasses.dataclass(frozen=True)
class ClockRelation:
    """t_reference = t + offset_s + drift (t - at_s).

    Attributes
    ----------
    method : what both clocks had in common.
    offset_s : what to add at `at_s` (on the clock that is to be corrected), s.
    uncertainty_s : half width of its 95 % interval, s.
    at_s : time at which the offset is known best, s.
    drift_ppm, drift_uncertainty_ppm : how much faster the reference runs, and the 95 % half width, ppm.
    pairs : events behind it; 0 where it was told.
    unpaired : events that only one side saw, in the time that both were watching.
    """

    method: str
    offset_s: float
    uncertainty_s: float
    at_s: float = 0.0
    drift_ppm: float = 0.0
    drift_uncertainty_ppm: float = 0.0
    pairs: int = 0
    unpaired: int = 0

    def to_reference(self, time: FloatArray) -> FloatArray:
        """Times (n,) of the clock, on the reference's, s."""
        return time + self.offset_s + 1e-6 * self.drift_ppm * (time - self.at_s)

    def from_reference(self, time: FloatArray) -> FloatArray:
        """Times (n,) of the reference, on the clock, s."""
        slope = 1.0 + 1e-6 * self.drift_ppm
        return self.at_s + (time - self.at_s - self.offset_s) / slope

    def uncertainty_at(self, time: float) -> float:
        """Half width of the offset's 95 % interval at a time on the clock, s: drift adds to it."""
        return math.hypot(self.uncertainty_s, 1e-6 * self.drift_uncertainty_ppm * (time - self.at_s))

    def require(self, start: float, end: float, limit_s: float = MERGE_LIMIT_S) -> None:
        """Raise ExoError unless the offset is surer than `limit_s` from `start` to `end` (s, on the clock)."""
        worst = max(self.uncertainty_at(start), self.uncertainty_at(end))
        if not worst <= limit_s:
            raise ExoError(
                f"the clocks are only known to ±{1e3 * worst:.0f} ms of each other ({self.method}), but recordings are "
                f"merged up to ±{1e3 * limit_s:.0f} ms; record a trigger on both, or more taps close to the walk"
            )

    def describe(self) -> str:
        """Half a sentence: method, offset, uncertainty, drift."""
        if self.method == SAME:
            return "one clock sampled both"
        text = f"{self.method}: offset {1e3 * self.offset_s:+.1f} ± {1e3 * self.uncertainty_s:.1f} ms"
        if self.pairs > 1:
            text += f" from {self.pairs} events, drift {self.drift_ppm:+.0f} ± {self.drift_uncertainty_ppm:.0f} ppm"
        return text


def same_clock() -> ClockRelation:
    """Of two signals that one clock sampled."""
    return ClockRelation(SAME, 0.0, 0.0)


def told(offset_s: float, uncertainty_s: float, at_s: float = 0.0) -> ClockRelation:
    """An offset that somebody measured otherwise; its drift is what two quartz clocks may have."""
    return ClockRelation("stated in the session", offset_s, uncertainty_s, at_s, 0.0, 1e6 * NORMAL_95 * PRIOR_DRIFT)


def from_lsl(measurements: FloatArray) -> ClockRelation:
    """Of Lab Streaming Layer's clock exchanges.

    Parameters
    ----------
    measurements : (n, 3) s: time on the stream's clock, offset to add (`time_correction`), its uncertainty
        (half the round trip).

    Raises
    ------
    ExoError : if there is none, one is not a number, or the sender's clock was set in between.

    Notes
    -----
    The exchange with the shortest round trip bounds the error that a slower way there than back makes; unlike noise,
    it does not average out, so it is added to the line's own uncertainty. So is what any short exchange lies off the
    line, which may be as much elsewhere.
    """
    rows = np.atleast_2d(measurements)
    if rows.size == 0 or rows.shape[1] != 3 or not np.isfinite(rows).all() or np.any(rows[:, 2] < 0.0):
        raise ExoError(
            "LSL's clock corrections are not rows of time, offset and uncertainty (s); record time_correction() again"
        )
    shortest = float(rows[:, 2].min())
    # Exchanges of long round trips say little: those within twice the shortest carry the line.
    good = rows[rows[:, 2] <= 2.0 * shortest]
    times, reference = good[:, 0], good[:, 0] + good[:, 1]
    relation = _line("LSL clock", times, reference, systematic_s=shortest)
    off = np.abs(relation.to_reference(rows[:, 0]) - rows[:, 0] - rows[:, 1]) - rows[:, 2]
    if off.max() > LSL_BEND_S:
        order = np.argsort(rows[:, 0], kind="stable")
        step = int(np.argmax(np.abs(np.diff(rows[order, 1]))))
        before, after = rows[order[step]], rows[order[step + 1]]
        raise ExoError(
            f"the sender's clock was set at t = {after[0]:.6g} s: LSL's offset went from {before[1]:.6g} to "
            f"{after[1]:.6g} s; use the part before or after it, or record again with clocks that nobody sets"
        )
    bend = float(np.abs(relation.to_reference(times) - reference).max())
    return dataclasses.replace(relation, uncertainty_s=math.hypot(relation.uncertainty_s, bend))


def align(
    method: str,
    events: FloatArray,
    reference: FloatArray,
    tolerance_s: float,
    systematic_s: float,
    within_s: float = math.inf,
    least: int = 1,
) -> ClockRelation:
    """The relation of two clocks from events that both saw.

    Parameters
    ----------
    method : what the events are, for people to read.
    events, reference : (n,), (m,) times of the events on the clock and on the reference, s, rising.
    tolerance_s : how far two times of one event may be apart once the clocks agree.
    systematic_s : 95 % bound of a delay that all events share and that therefore no average removes, s.
    within_s : how far apart the clocks are at most, where that is known.
    least : the least number of pairs that is believed.

    Raises
    ------
    ExoError : if there are no events, too few of them are pairs, or another offset explains them as well.
    """
    pairs = match_events(method, events, reference, tolerance_s, within_s)
    if len(pairs) < least:
        raise ExoError(
            f"only {len(pairs)} {method} were seen by both recordings, {least} are the least; "
            "repeat them where both see them"
        )
    relation = _line(method, events[pairs[:, 0]], reference[pairs[:, 1]], systematic_s)
    shared = _shared(relation.to_reference(events), reference, tolerance_s)
    return dataclasses.replace(relation, unpaired=sum(shared) - 2 * len(pairs))


def match_events(
    method: str, events: FloatArray, reference: FloatArray, tolerance_s: float, within_s: float = math.inf
) -> NDArray[np.int64]:
    """Which events of two clocks are the same.

    Returns
    -------
    (k, 2) indices into `events` and `reference`.

    Raises
    ------
    ExoError : if one side has no events, too few agree at any offset, or another offset agrees almost as well.
    """
    if not len(events) or not len(reference):
        side = "the EMG" if not len(events) else "the other recording"
        raise ExoError(f"{side} shows no {method}; check the channel and that the recording covers them")
    scored: list[tuple[int, float, NDArray[np.int64]]] = []
    for offset in _candidates(events, reference, tolerance_s, within_s):
        pairs = _grow(events, reference, offset, tolerance_s)
        scored.append((len(pairs), offset, pairs))
    if not scored:
        raise ExoError(
            f"no offset within ±{within_s:g} s makes the {method} of both recordings agree; correct 'within'"
        )
    scored.sort(key=lambda item: -item[0])
    count, offset, pairs = scored[0]
    rival = max((n for n, other, _ in scored[1:] if abs(other - offset) > 2.0 * tolerance_s), default=0)
    if rival > RIVAL_SHARE * count:
        raise ExoError(
            f"the {method} fit at more than one offset ({count} and {rival} of them agree); give them unequal "
            "intervals, or say with 'within' how far apart the clocks can be"
        )
    expected = min(_shared(events + offset, reference, tolerance_s))
    if count < MIN_PAIRED_SHARE * expected:
        raise ExoError(
            f"only {count} of {expected} {method} agree at any offset; check that both recordings show the same ones"
        )
    # Any two events agree at some offset, so there always is a rival of one pair.
    needed = max(rival, 1) + LEAST_LEAD
    if math.isinf(within_s) and count < needed:
        raise ExoError(
            f"only {count} {method} agree at any offset, where {needed} are the least that is no chance; repeat them "
            "where both see them, or say with 'within' how far apart the clocks can be"
        )
    return pairs


def _candidates(events: FloatArray, reference: FloatArray, tolerance: float, within: float) -> list[float]:
    """Offsets at which many pairs of a stretch of events agree, best first, each once."""
    middle = max(0, (len(events) - SEED_EVENTS) // 2)
    stretch = events[middle : middle + SEED_EVENTS]
    differences = np.sort((reference[None, :] - stretch[:, None]).ravel())
    differences = differences[np.abs(differences) <= within]
    if not len(differences):
        return []
    # Two errors of up to half the tolerance each: a window as wide as the tolerance holds all pairs of one offset.
    ends = np.searchsorted(differences, differences + tolerance, side="right")
    counts = ends - np.arange(len(differences))
    found: list[float] = []
    for start in np.argsort(-counts, kind="stable"):
        offset = float(np.mean(differences[start : ends[start]]))
        if counts[start] < 0.5 * counts.max() or len(found) == 20:
            break
        if all(abs(offset - other) > tolerance for other in found):
            found.append(offset)
    return found


def _grow(events: FloatArray, reference: FloatArray, offset: float, tolerance: float) -> NDArray[np.int64]:
    """Pairs at an offset, first near the middle, then over the whole time with the drift that those show."""
    centre, drift = float(events[len(events) // 2]), 0.0
    reach = tolerance / MAX_DRIFT
    pairs = np.zeros((0, 2), dtype=np.int64)
    while True:
        near = np.flatnonzero(np.abs(events - centre) <= reach)
        predicted = events[near] + offset + drift * (events[near] - centre)
        hits = _mutual_nearest(predicted, reference, tolerance)
        pairs = np.column_stack([near[hits[:, 0]], hits[:, 1]])
        if len(pairs) >= 2:
            x = events[pairs[:, 0]] - centre
            residual = reference[pairs[:, 1]] - events[pairs[:, 0]]
            # The prior keeps few pairs from bending the line.
            shrink = np.var(x) / (np.var(x) + (tolerance / PRIOR_DRIFT) ** 2 / len(x))
            slope = float(np.polyfit(x, residual, 1)[0]) if np.ptp(x) > 0.0 else 0.0
            drift = float(np.clip(shrink * slope, -MAX_DRIFT, MAX_DRIFT))
            offset = float(np.median(residual - drift * x))
        if reach >= max(centre - events[0], events[-1] - centre):
            return pairs
        reach *= 2.0


def _mutual_nearest(a: FloatArray, b: FloatArray, tolerance: float) -> NDArray[np.int64]:
    """(k, 2) pairs that are each other's nearest and no further apart than the tolerance."""
    if not len(a):
        return np.zeros((0, 2), dtype=np.int64)
    to_b, to_a = _nearest(a, b), _nearest(b, a)
    own = np.arange(len(a))
    good = (to_a[to_b] == own) & (np.abs(b[to_b] - a) <= tolerance)
    return np.column_stack([own[good], to_b[good]])


def _nearest(a: FloatArray, b: FloatArray) -> NDArray[np.int64]:
    """(len(a),) index of the nearest of the rising times `b`."""
    right = np.clip(np.searchsorted(b, a), 0, len(b) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(b[left] - a) <= np.abs(b[right] - a), left, right)


def _shared(mapped: FloatArray, reference: FloatArray, tolerance: float) -> tuple[int, int]:
    """How many events each side has in the time that both were watching, on the reference's clock."""
    start = max(mapped[0], reference[0]) - tolerance
    end = min(mapped[-1], reference[-1]) + tolerance
    return (
        int(np.count_nonzero((mapped >= start) & (mapped <= end))),
        int(np.count_nonzero((reference >= start) & (reference <= end))),
    )


def _line(method: str, times: FloatArray, reference: FloatArray, systematic_s: float) -> ClockRelation:
    """Offset and drift of pairs, drift with its prior; uncertainty by bootstrap over the pairs.

    The bootstrap of few pairs is too sure of itself: its spread is enlarged by sqrt(n / (n - 1)) and by Student's
    quantile. Of many pairs, those far from the line (more than 4 robust deviations) are left out; of few, what looks
    far may be the spread itself. What the prior takes from the
    measured drift stays in the drift's uncertainty.
    """
    centre = float(np.median(times))
    x, y = times - centre, reference - times
    if len(x) >= OUTLIERS_FROM:
        offset, drift, _ = _ridge(x, y)
        residual = y - offset - drift * x
        residual -= np.median(residual)
        keep = np.abs(residual) <= max(4.0 * _deviation(residual), EXACT_S)
        x, y = x[keep], y[keep]
    n = len(x)
    centre, x = centre + float(x.mean()), x - x.mean()
    offset, drift, shrink = _ridge(x, y)
    spread = np.zeros(2)
    if n > 1:
        draws = np.random.default_rng(SEED).integers(0, n, (BOOTSTRAPS, n))
        fits = np.array([_ridge(x[draw], y[draw], shrink)[:2] for draw in draws])
        spread = fits.std(axis=0) * math.sqrt(n / (n - 1)) * float(student.ppf(TWO_SIDED_95, n - 1))
    prior = NORMAL_95 * (1.0 - shrink) * PRIOR_DRIFT
    return ClockRelation(
        method,
        offset,
        math.hypot(float(spread[0]), systematic_s),
        centre,
        1e6 * drift,
        1e6 * math.hypot(float(spread[1]), prior),
        n,
    )


def _ridge(x: FloatArray, y: FloatArray, shrink: float | None = None) -> tuple[float, float, float]:
    """Offset at x = 0, drift, and how much of the measured drift was kept against the prior (0..1)."""
    variance = float(np.sum((x - x.mean()) ** 2))
    if variance <= 0.0:
        return float(y.mean()), 0.0, 0.0 if shrink is None else shrink
    slope = float(np.sum((x - x.mean()) * (y - y.mean())) / variance)
    if shrink is None:
        residual = y - y.mean() - slope * (x - x.mean())
        noise = float(np.sum(residual**2) / (len(x) - 2)) if len(x) > 2 else math.inf
        shrink = variance / (variance + noise / PRIOR_DRIFT**2) if math.isfinite(noise) else 0.0
    drift = shrink * slope
    return float(y.mean() - drift * x.mean()), drift, shrink


def _deviation(values: FloatArray) -> float:
    """Robust standard deviation, from the median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
