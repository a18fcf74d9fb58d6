"""How tired each muscle is, from the EMG of a cyclic movement.

Muscle fibres conduct more slowly as they tire: the spectrum is compressed
towards low frequencies, while more and larger units are recruited to hold the
force. :class:`FatigueMonitor` measures both in the part of each stride in which
the muscle works (:mod:`exo_emg.stride_windows`), follows them with robust lines
(:mod:`exo_emg.trend`), and joins them in an index in the way of JASA, the joint
analysis of spectrum and amplitude (Luttmann, Jaeger & Laurig 2000, Int J Ind
Ergon 25:645): in the plane of relative changes, amplitude up with frequency down
is fatigue, both up more force, both down less force, amplitude down with
frequency up recovery.

The index. With a = ln(amplitude now / initially), f = -ln(median frequency now /
initially), h_a and h_f the half-widths of their intervals (99.5 %, not the reported
95 %: the index looks again at every window) and f_x = -ln(exhausted fraction),
a drop f > 0 scores::

    s(f) = min(1, f / f_x  f^2 / (f^2 + a'^2))       a' = min(0, a + h_a), amplitude certainly lost

the last factor being the squared cosine between the point (f, a') and the pure
spectral shift: 1 anywhere in the quadrant of fatigue, falling towards the
quadrant of less force. The index starts at 0 and moves no further than it must to
stay inside [s(f - h_f), s(f + h_f)]: noise does not move it, fatigue raises it,
certain recovery lowers it. Luttmann's method names quadrants; the grading, the
end point f_x and the caution are ours.

What it cannot do. It compares a muscle with itself earlier in the same session,
never with other muscles or days. The noise of electrodes that settle or dry is
subtracted (:mod:`exo_emg.stride_windows`), but those that slip or warm up shift the
spectrum without fatigue, and so do a change of movement (other muscle lengths and
fibre velocities under the electrode), of speed, slope or assistance: judge at a
steady task. Recovery is followed, but with a lag of half `trend_span_s`. Without
a rhythm (standing, turning) nothing is judged. Movement artefacts are removed
only as far as they are bursts or lie below the band. A tired muscle that is
relieved by others may show no spectral shift at all: no sign of fatigue is no
proof of freshness. The intervals assume that windows vary as a first-order
autoregression; slower wandering than that is taken for a trend.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_emg.chunks import Layout
from exo_emg.processing import BAND_HIGH_HZ, BAND_LOW_HZ
from exo_emg.rhythm import StrideClock
from exo_emg.spectrum import BINS_PER_HOP, Tiling, compression
from exo_emg.stride_windows import Activity, PhaseWindows
from exo_emg.trend import VALUES_MIN, Estimate, Line, change, robust_line

# Tiles are transformed in batches, so that a node works a little twice a second and not a lot at once.
BATCH_HOPS = 8
# A closed window is judged in steps of so many channels, one step per batch.
CHANNELS_PER_STEP = 4
# Up to this many seconds of loss, the rhythm is carried across the gap; longer ones start it anew.
BRIDGED_GAP_S = 1.0
# The measure behind the median frequency's change: see exo_emg.spectrum.compression.
COMPRESSION = "compression"
# Its reference is the mean spectrum of this many windows. It need not be rested: its own error is the same throughout.
REFERENCE_WINDOWS = 4
# Half-width of the median frequency's interval at which nothing is known any more, %.
HALF_WIDTH_MAX_PCT = 15.0
# Confidence of the interval that the index stays in.
INDEX_CONFIDENCE = 0.995
# Index from which a muscle counts as tired: 5 % off the median frequency, and certain. Less is within what changes of
# speed, posture and skin do.
TIRED_INDEX = 0.1


@dataclasses.dataclass(frozen=True)
class FatigueConfig(Parameters):
    """How fatigue is judged."""

    band_low_hz: float = parameter(BAND_LOW_HZ, "Hz", "lower edge of the band-pass behind", minimum=5.0, maximum=60.0)
    band_high_hz: float = parameter(
        BAND_HIGH_HZ, "Hz", "upper edge of the band-pass behind", minimum=80.0, maximum=500.0
    )
    window_s: float = parameter(15.0, "s", "strides are judged together over this time", minimum=8.0, maximum=120.0)
    trend_span_s: float = parameter(
        600.0, "s", "time over which the initial and the present state are each fitted", minimum=60.0, maximum=3600.0
    )
    stride_min_s: float = parameter(0.7, "s", "shortest stride", minimum=0.3, maximum=2.0)
    stride_max_s: float = parameter(2.0, "s", "longest stride", minimum=0.8, maximum=4.0)
    exhausted_pct: float = parameter(
        60.0, "%", "median frequency, of the initial one, that counts as exhaustion", minimum=20.0, maximum=90.0
    )


@dataclasses.dataclass(frozen=True)
class MuscleFatigue:
    """One muscle's state; maps one to one to a channel of exo_interfaces/msg/Fatigue. NaN where not judged."""

    muscle: str
    index: float
    confidence: float
    median_frequency_pct: float
    median_frequency_low_pct: float
    median_frequency_high_pct: float
    amplitude_pct: float

    @property
    def fatigued(self) -> bool:
        """Whether the muscle is certainly tired enough to mean anything."""
        return self.index >= TIRED_INDEX


@dataclasses.dataclass(frozen=True)
class Window:
    """All channels in one window; `time_s` is its middle, counted from the first sample, lost ones included."""

    time_s: float
    activities: tuple[Activity, ...]


@dataclasses.dataclass(frozen=True)
class Stride:
    """One channel in one stride; `time_s` is the middle of its active part."""

    time_s: float
    channel: int
    activity: Activity


@dataclasses.dataclass(frozen=True)
class SessionTrend:
    """Slope of one measure over a whole recording, % of its initial value per minute, with its 95 % interval."""

    pct_per_minute: float
    low: float
    high: float


class FatigueMonitor:
    """Fed with cleaned EMG as it comes, tells how tired each muscle is.

    Parameters
    ----------
    layout : muscles and sampling rate.
    keep_strides : keep every stride's values in :attr:`strides`; for recordings, as it grows without end.

    Raises
    ------
    ExoError : if the sampling rate is too low for EMG, or strides are asked for that do not fit a window.
    """

    def __init__(self, layout: Layout, config: FatigueConfig | None = None, keep_strides: bool = False) -> None:
        self.layout, self.config = layout, config or FatigueConfig()
        if self.config.stride_min_s >= self.config.stride_max_s:
            raise ExoError(
                f"strides from {self.config.stride_min_s} to {self.config.stride_max_s} s are no range; "
                "make stride_min_s the smaller one"
            )
        self.windows: list[Window] = []
        self.strides: list[Stride] = []
        self._keep_strides = keep_strides
        c = self.config
        self._tiling = Tiling(layout.rate_hz, c.band_low_hz, c.band_high_hz)
        self._margin = math.ceil(self.config.stride_max_s / self._tiling.bin_s)
        self._window_bins = max(math.ceil(self.config.window_s / self._tiling.bin_s), 3 * self._margin)
        self._clock = StrideClock(
            self._tiling.bin_s, layout.channels, self.config.stride_min_s, self.config.stride_max_s
        )
        self._channels = [PhaseWindows(self._tiling.frequency_hz) for _ in layout.muscles]
        self._compression: list[list[float]] = [[] for _ in layout.muscles]
        self._initial: dict[tuple[str, int], Line] = {}
        self._index = [0.0 for _ in layout.muscles]
        self._judgement = [MuscleFatigue(muscle, 0.0, 0.0, *(4 * (math.nan,))) for muscle in layout.muscles]
        self._samples = 0
        self._work: Iterator[None] = iter(())
        self._restart()

    def add(
        self,
        carrier: NDArray[np.float64],
        valid: NDArray[np.bool_] | None = None,
        lost_before: int = 0,
        phase: NDArray[np.float64] | None = None,
    ) -> None:
        """Take in the next samples.

        Parameters
        ----------
        carrier : (n, channels) V, band-passed and freed of mains, not rectified. What is no number is left out.
        valid : (channels,) or (n, channels) whether a channel may be used; all by default.
        lost_before : samples lost since the last call. They are counted in time and bridged or left out.
        phase : gait phase 0..1 of every sample, (n,) for all channels or (n, channels) for the leg of each; NaN
            where unknown. By default it is read from the rhythm of the EMG. Give it always or never.

        Raises
        ------
        ExoError : if the samples are not those of the layout's channels.
        """
        shape = carrier.shape
        if carrier.ndim != 2 or shape[1] != self.layout.channels:
            raise ExoError(
                f"fatigue was given samples of shape {shape} for {self.layout.channels} channels; give (n, channels)"
            )
        if lost_before > 0:
            self._lose(lost_before)
        usable = np.ones(shape, dtype=bool) if valid is None else np.broadcast_to(valid, shape)
        if phase is None:
            given = np.full(shape, np.nan)
        else:
            given = np.broadcast_to(phase if phase.ndim == 2 else phase[:, None], shape)
        self._take(carrier, usable, given)

    def finish(self) -> None:
        """Judge what is left at the end of a recording."""
        self._transform()
        self._finish_work()
        self._work = self._close()
        self._finish_work()
        self._restart()

    def report(self) -> list[MuscleFatigue]:
        """The present state of every muscle, relative to the first minutes."""
        return list(self._judgement)

    def session_trend(self, channel: int, measure: str = COMPRESSION) -> SessionTrend | None:
        """Slope over everything so far of a field of :class:`~exo_emg.stride_windows.Activity`; None if too little.

        Relative to the line's value at the first window.
        """
        times, values = self._history(measure, channel)
        line = robust_line(times, values)
        if line is None:
            return None
        initial = line.at(float(times[0]))
        per_minute = 6000.0 / initial
        half = line.slope_estimate().half_width()
        slopes = (line.slope, line.slope - half, line.slope + half)
        return SessionTrend(*(per_minute * slope for slope in slopes)) if initial > 0.0 else None

    # -- signal -------------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Forget unfinished signal; what was learnt stays."""
        channels, bins = self.layout.channels, len(self._tiling.frequency_hz)
        # (carrier, usable, given phase) not yet cut into tiles, and how many samples of it are new.
        self._pending: list[tuple[NDArray, NDArray, NDArray]] = []
        self._waiting = 0
        self._envelope = np.empty((0, channels))
        self._heard = np.empty((0, channels), dtype=bool)
        self._spectra = np.empty((0, channels, bins), dtype=np.float32)
        self._arv = np.empty((0, channels))
        self._usable = np.empty((0, channels), dtype=bool)
        self._given = np.empty((0, channels))
        self._bin = np.empty(0, dtype=np.int64)
        # Sample at the start of the envelope.
        self._origin = self._samples

    def _lose(self, samples: int) -> None:
        if samples <= BRIDGED_GAP_S * self.layout.rate_hz:
            shape = (samples, self.layout.channels)
            self._take(np.zeros(shape), np.zeros(shape, dtype=bool), np.full(shape, np.nan))
            return
        self._transform()
        self._finish_work()
        self._work = self._close()
        self._finish_work()
        self._samples += samples
        self._restart()

    def _take(self, carrier: NDArray[np.float64], usable: NDArray[np.bool_], given: NDArray[np.float64]) -> None:
        """Queue samples; work starts at the same samples however the signal is cut."""
        batch, start = BATCH_HOPS * self._tiling.hop, 0
        while start < len(carrier):
            part = slice(start, start + batch - self._waiting)
            self._pending.append((carrier[part], usable[part], given[part]))
            taken = len(carrier[part])
            start += taken
            self._waiting += taken
            self._samples += taken
            if self._waiting == batch:
                self._transform()
                next(self._work, None)
                if len(self._envelope) >= self._window_bins + 2 * self._margin:
                    self._finish_work()
                    self._work = self._close()

    def _transform(self) -> None:
        """Turn waiting samples into tiles and envelope bins; the last hop is kept for the next tile."""
        hop = self._tiling.hop
        hops = sum(len(part[0]) for part in self._pending) // hop - 1
        if hops < 1:
            return
        carrier, usable, given = (np.concatenate([part[k] for part in self._pending]) for k in range(3))
        rest = hops * hop
        self._pending = [(carrier[rest:], usable[rest:], given[rest:])]
        self._waiting = len(carrier) - rest - hop
        used = slice(0, rest + hop)
        finite = np.isfinite(carrier[used])
        carrier = np.where(finite, carrier[used], 0.0)
        rectified = np.abs(carrier).reshape(hops + 1, hop, -1).mean(axis=1)
        usable = (usable[used] & finite).reshape(hops + 1, hop, -1).all(axis=1)
        first_bin = len(self._envelope)
        bins = np.abs(carrier[:rest]).reshape(hops * BINS_PER_HOP, self._tiling.bin_samples, -1).mean(axis=1)
        middle = hop * np.arange(1, hops + 1)
        self._envelope = np.concatenate([self._envelope, bins])
        self._heard = np.concatenate([self._heard, np.repeat(usable[:-1], BINS_PER_HOP, axis=0)])
        self._spectra = np.concatenate([self._spectra, self._tiling.spectra(carrier).astype(np.float32)])
        self._arv = np.concatenate([self._arv, 0.5 * (rectified[1:] + rectified[:-1])])
        self._usable = np.concatenate([self._usable, usable[1:] & usable[:-1]])
        self._given = np.concatenate([self._given, given[middle]])
        self._bin = np.concatenate([self._bin, first_bin + middle // self._tiling.bin_samples])

    # -- windows ------------------------------------------------------------------------------------------------

    def _finish_work(self) -> None:
        for _ in self._work:
            pass

    def _close(self) -> Iterator[None]:
        """Judge the collected window, some channels at each step, so that no frame waits for all of them.

        The window's last part stays for the next one, because the rhythm needs a stride on either side.
        """
        bins = len(self._envelope)
        now = self._bin <= bins - self._margin
        if not now.any():
            return
        phase = self._phase(now)
        tile_s = self._origin / self.layout.rate_hz + self._tiling.bin_s * self._bin[now]
        spectra, arv, usable = self._spectra[now], self._arv[now], self._usable[now] & np.isfinite(phase)
        self._keep_tail(bins - 2 * self._margin, ~now)
        yield
        activities = []
        for channel, learnt in enumerate(self._channels):
            use = usable[:, channel]
            channel_phase, times = phase[use, channel], tile_s[use]
            activity, strides = learnt.window(
                channel_phase, spectra[use, channel].astype(float), arv[use, channel], self._keep_strides
            )
            activities.append(activity)
            self.strides += [
                Stride(float(np.interp(start + 0.5, channel_phase, times)), channel, stride)
                for start, stride in strides
            ]
            if channel % CHANNELS_PER_STEP == CHANNELS_PER_STEP - 1:
                yield
        self.windows.append(Window(float(0.5 * (tile_s[0] + tile_s[-1])), tuple(activities)))
        for channel in range(self.layout.channels):
            self._judgement[channel] = self._judge(channel)
            if channel % CHANNELS_PER_STEP == CHANNELS_PER_STEP - 1:
                yield

    def _phase(self, now: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(tiles, channels) rising phase in strides."""
        given = self._given[now]
        if np.isfinite(given).any():
            return _unwrapped(given)
        usable = self._heard.mean(axis=0) > 0.5
        envelope = np.where(self._heard, self._envelope, 0.0)
        phase = self._clock.phase(envelope, usable, self._bin[now])
        return np.broadcast_to(phase[:, None], given.shape)

    def _keep_tail(self, bins_gone: int, tiles: NDArray[np.bool_]) -> None:
        bins_gone = max(0, bins_gone)
        self._envelope, self._heard = self._envelope[bins_gone:], self._heard[bins_gone:]
        self._spectra, self._arv, self._usable = self._spectra[tiles], self._arv[tiles], self._usable[tiles]
        self._given, self._bin = self._given[tiles], self._bin[tiles] - bins_gone
        self._origin += bins_gone * self._tiling.bin_samples

    # -- judgement ----------------------------------------------------------------------------------------------

    def _history(self, measure: str, channel: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        times = np.array([window.time_s for window in self.windows])
        if measure == COMPRESSION:
            return times, self._compressions(channel)
        values = np.array([getattr(window.activities[channel], measure) for window in self.windows])
        return times, np.where(values > 0.0, values, np.nan)

    def _compressions(self, channel: int) -> NDArray[np.float64]:
        """(windows,) compression against the mean spectrum of the first windows; NaN where unknown."""
        known = self._compression[channel]
        judged = [k for k, window in enumerate(self.windows) if window.activities[channel].strides > 0]
        if len(judged) > 0 and judged[:REFERENCE_WINDOWS][-1] >= len(known):
            # The reference has grown: everything is measured against the new one.
            known.clear()
        reference = [self.windows[k].activities[channel].spectrum for k in judged[:REFERENCE_WINDOWS]]
        for window in self.windows[len(known) :]:
            activity = window.activities[channel]
            known.append(
                compression(self._tiling.frequency_hz, np.mean(reference, axis=0), activity.spectrum)
                if activity.strides
                else math.nan
            )
        return np.array(known)

    def _judge(self, channel: int) -> MuscleFatigue:
        muscle = self.layout.muscles[channel]
        frequency, amplitude = (self._change(measure, channel) for measure in (COMPRESSION, "arv_v"))
        if frequency is None or amplitude is None:
            return MuscleFatigue(muscle, 0.0, 0.0, *(4 * (math.nan,)))
        fell, coverage = frequency
        louder, _ = amplitude
        lost = min(0.0, louder.value + louder.half_width(INDEX_CONFIDENCE))
        reach = fell.half_width(INDEX_CONFIDENCE)
        low, high = (score(-fell.value + side, lost, self.config.exhausted_pct) for side in (-reach, reach))
        self._index[channel] = min(max(self._index[channel], low), high)
        half = fell.half_width()
        median, lowest, highest = (100.0 * math.exp(fell.value + side) for side in (0.0, -half, half))
        judged_now = self.windows[-1].activities[channel].strides > 0
        precision = max(0.0, 1.0 - 0.5 * (highest - lowest) / HALF_WIDTH_MAX_PCT)
        return MuscleFatigue(
            muscle,
            self._index[channel],
            coverage * precision if judged_now else 0.0,
            median,
            lowest,
            highest,
            100.0 * math.exp(louder.value),
        )

    def _change(self, measure: str, channel: int) -> tuple[Estimate, float] | None:
        """Logarithmic change since the start, and which part of the present was judged.

        The first and the last half of the session, at most `trend_span_s` each,
        are fitted apart: nothing is assumed about what lies between.
        """
        times, values = self._history(measure, channel)
        judged = np.flatnonzero(np.isfinite(values))
        if len(judged) < 2 * VALUES_MIN:
            return None
        start, end = times[judged[0]], times[judged[-1]]
        span = min(self.config.trend_span_s, 0.5 * (end - start))
        early, late = times <= start + span, times > end - span
        first = self._first_line(measure, channel, times[early], np.log(values[early]))
        last = robust_line(times[late], np.log(values[late]))
        if first is None or last is None:
            return None
        return change(first, float(start), last, float(end)), float(np.isfinite(values[late]).mean())

    def _first_line(
        self, measure: str, channel: int, times: NDArray[np.float64], values: NDArray[np.float64]
    ) -> Line | None:
        """The line through the first part; kept once that part is complete."""
        known = self._initial.get((measure, channel))
        if known is not None and len(known.residuals) == np.count_nonzero(np.isfinite(values)):
            return known
        line = robust_line(times, values)
        if line is not None:
            self._initial[measure, channel] = line
        return line


def score(drop: float, lost: float, exhausted_pct: float) -> float:
    """Joint amplitude-frequency score, 0 rested .. 1 exhausted; the formula is in this module's description.

    Parameters
    ----------
    drop : f, logarithmic drop of the median frequency.
    lost : a', logarithmic change of the amplitude as far as it is certainly negative; 0 otherwise.
    exhausted_pct : median frequency that counts as exhaustion, % of the initial one.
    """
    if drop <= 0.0:
        return 0.0
    return min(1.0, drop / -math.log(exhausted_pct / 100.0) * drop**2 / (drop**2 + lost**2))


def fatigue_of(
    chunks: Iterable[tuple[NDArray[np.float64], NDArray[np.bool_] | None]],
    layout: Layout,
    config: FatigueConfig | None = None,
) -> FatigueMonitor:
    """Judge a whole recording, cut into (carrier, valid) chunks as for :meth:`FatigueMonitor.add`.

    Returns
    -------
    The monitor, with `windows`, `strides`, `report()` and `session_trend()`. Memory grows by strides, not samples.
    """
    monitor = FatigueMonitor(layout, config, keep_strides=True)
    for carrier, valid in chunks:
        monitor.add(carrier, valid)
    monitor.finish()
    return monitor


def phase_of(times_s: NDArray[np.float64], strikes_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gait phase 0..1 at (n,) times from rising heel strikes of one leg; NaN before the first and after the last."""
    if len(strikes_s) < 2:
        return np.full(len(times_s), np.nan)
    count = np.interp(times_s, strikes_s, np.arange(len(strikes_s), dtype=float), left=np.nan, right=np.nan)
    return np.mod(count, 1.0)


def _unwrapped(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """(tiles, channels) phase 0..1 made rising, whatever is unknown left out."""
    result = np.full(phase.shape, np.nan)
    for channel in range(phase.shape[1]):
        known = np.isfinite(phase[:, channel])
        result[known, channel] = np.unwrap(phase[known, channel], period=1.0)
    return result
