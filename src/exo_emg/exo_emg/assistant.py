"""Guides a wearer through a calibration, on the clock of the samples themselves.

:class:`MvcGuide` asks for one held contraction of full effort per muscle and repeats those that
cannot serve; :class:`WalkingGuide` waits for enough strides. Both are fed samples as they arrive and
say at any time what to do (:class:`Prompt`); neither knows where samples come from or who reads the prompt.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from exo_common.errors import ExoError
from exo_emg.calibration import DYNAMIC_PEAK, MVC, Maximum
from exo_emg.chunks import Layout
from exo_emg.contraction import judge_contractions, offset_problems
from exo_emg.muscles import GROUPS, group_of, side_of
from exo_emg.normalisation import MOVING_LEAST_S, dynamic_peak
from exo_emg.offline import OUTPUT_HZ, Processed, process_recording
from exo_emg.processing import ChainConfig, EnvelopeStream
from exo_emg.reasons import explain
from exo_emg.rhythm import StrideClock

FloatArray = NDArray[np.float64]

# Time to read and get into position, time of effort, and how often a muscle is asked.
READY_S, EFFORT_S, ATTEMPTS = 6.0, 4.0, 3
# A muscle rests between efforts: full effort within some seconds of the last is less than full.
REST_S = 15.0
# Rest behind the effort that is judged along with it.
REST_JUDGED_S = 3.0
STRIDES = 10
# Range of stride times of walking.
STRIDE_S = (0.7, 2.2)
# Strides are counted again so often, and walking for longer than this brings nothing new.
COUNT_EVERY_S, LONGEST_WALK_S = 1.0, 300.0
# What lies so many periods of the envelope's low-pass beside a disturbance is free of it but for 0.5 %.
FORGETS_PERIODS = 1.2
# Beside a muscle's best of the session, the bar shows an effort; before one is known, this is full.
FIRST_BAR_V = 2e-4

# How to load each muscle group while the leg cannot move.
HOW = {
    "GLU": "lie on your belly, knee bent, and lift the thigh against a hand that holds it down",
    "HFL": "sit and lift the knee against a hand on the thigh",
    "HAM": "lie on your belly, knee a little bent, and bend it against a hand on the heel",
    "RF": "sit and stretch the knee against a hand on the shin",
    "VAS": "sit and stretch the knee against a hand on the shin",
    "BFSH": "lie on your belly, knee a little bent, and bend it against a hand on the heel",
    "GAS": "stand on this leg, knee straight, and push up on the toes against a load on the shoulders",
    "SOL": "sit, knee bent, and push the toes down against a load on the knee",
    "TA": "sit and pull the toes up against a hand on the foot",
    None: "tense this muscle against something that does not give way",
}


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What the wearer should know now.

    Attributes
    ----------
    task : what to do, one line.
    effort : whether effort is wanted now.
    left_s : until that changes, s.
    level : the bar, 0..1 and above.
    said : the verdict on the last attempt; '' before one.
    """

    task: str
    effort: bool
    left_s: float
    level: float
    said: str


class MvcGuide:
    """One held contraction of full effort per muscle.

    Attributes
    ----------
    accepted : muscle -> its maximum.
    refused : muscle -> why its last attempt was none.

    Parameters
    ----------
    layout : of the samples to come.
    muscles : which to ask for, in this order.
    """

    method = MVC

    def __init__(self, layout: Layout, muscles: Sequence[str], config: ChainConfig, rest_s: float = REST_S) -> None:
        unknown = [name for name in muscles if name not in layout.muscles]
        if unknown or not muscles:
            raise ExoError(
                f"muscle {', '.join(unknown) or 'none'} is not among the channels {', '.join(layout.muscles)}; "
                "choose among those"
            )
        self.accepted: dict[str, Maximum] = {}
        self.refused: dict[str, str] = {}
        self._layout, self._config, self._rest_s = layout, config, rest_s
        self._queue, self._attempt = list(muscles), 1
        self._stream = EnvelopeStream(layout.rate_hz, np.ones(layout.channels), config)
        self._level_v = np.zeros(layout.channels)
        self._best_v = np.full(layout.channels, FIRST_BAR_V)
        self._ready = self._count(READY_S)
        self._held: list[FloatArray] = []
        self._gap = False
        self._said = ""

    @property
    def done(self) -> bool:
        """Whether every muscle was accepted or asked often enough."""
        return not self._queue

    @property
    def prompt(self) -> Prompt:
        """What to do now."""
        if self.done:
            return Prompt("done", False, 0.0, 0.0, self._said)
        name = self._queue[0]
        channel = self._layout.muscles.index(name)
        effort = self._ready <= 0
        left = self._ready if not effort else self._count(EFFORT_S) + self._ready
        level = float(self._level_v[channel] / self._best_v[channel])
        try_ = f" (attempt {self._attempt} of {ATTEMPTS})" if self._attempt > 1 else ""
        return Prompt(f"{name}{try_}: {how(name)}", effort, left / self._layout.rate_hz, level, self._said)

    def add(self, samples: FloatArray, lost_before: int = 0) -> None:
        """Take in the next (n, channels) samples, V, and how many were lost before them."""
        self._gap |= lost_before > 0
        while len(samples) and not self.done:
            # Attempts begin and end on a sample, however the signal is cut.
            end = self._ready if self._ready > 0 else self._count(EFFORT_S) + self._ready
            piece, samples = samples[:end], samples[end:]
            self._level_v = self._stream.process(piece)[-1]
            self._held.append(piece)
            self._ready -= len(piece)
            if self._ready == -self._count(EFFORT_S):
                self._judge()

    def _judge(self) -> None:
        name = self._queue[0]
        channel = self._layout.muscles.index(name)
        window = np.concatenate(self._held)[-self._count(REST_JUDGED_S + EFFORT_S) :]
        found = judge_contractions(window, self._layout.rate_hz, self._config)[channel]
        problem = "samples were lost on the way; check the connection" if self._gap else found.problem
        if not problem:
            try:
                self.accepted[name] = Maximum(found.maximum_v, MVC, self._layout.rate_hz)
            except ExoError as error:
                problem = str(error)
        self._held, self._gap = [], False
        if not problem:
            self._best_v[channel] = found.maximum_v
            self.refused.pop(name, None)
            self._said = f"{name}: {1e6 * found.maximum_v:.0f} uV, held for {found.held_s:.1f} s"
            self._next()
            return
        self._said = f"{name} was not taken: {problem}"
        self.refused[name] = problem
        if self._attempt < ATTEMPTS:
            self._attempt += 1
            self._ready = self._count(self._rest_s)
        else:
            self._next()

    def _next(self) -> None:
        self._queue.pop(0)
        self._attempt = 1
        self._ready = self._count(READY_S)

    def _count(self, seconds: float) -> int:
        return round(seconds * self._layout.rate_hz)


class WalkingGuide:
    """The robust peak of walking, over at least :data:`STRIDES` strides.

    Attributes
    ----------
    accepted, refused : as of :class:`MvcGuide`, filled by :meth:`finish`.
    strides : counted so far, from the rhythm of the EMG.
    """

    method = DYNAMIC_PEAK

    def __init__(self, layout: Layout, config: ChainConfig, strides: int = STRIDES) -> None:
        self.accepted: dict[str, Maximum] = {}
        self.refused: dict[str, str] = {}
        self.strides = 0.0
        self._layout, self._config, self._wanted = layout, config, strides
        self._held: list[FloatArray] = []
        # First sample and length of each hole.
        self._holes: list[tuple[int, int]] = []
        self._stream = EnvelopeStream(layout.rate_hz, np.ones(layout.channels), config)
        self._envelope: list[FloatArray] = []
        self._step = max(1, round(layout.rate_hz / OUTPUT_HZ))
        self._samples, self._next_count = 0, round(MOVING_LEAST_S * layout.rate_hz)
        self._lost = 0

    @property
    def done(self) -> bool:
        """Whether there are enough strides, or there was time enough for them."""
        return self.strides >= self._wanted or self._samples > LONGEST_WALK_S * self._layout.rate_hz

    @property
    def prompt(self) -> Prompt:
        """What to do now."""
        task = f"walk at your own pace: {self.strides:.0f} of {self._wanted} strides"
        said = "samples are lost on the way; check the connection" if self._lost else ""
        return Prompt(task, True, 0.0, self.strides / self._wanted, said)

    def add(self, samples: FloatArray, lost_before: int = 0) -> None:
        """Take in the next (n, channels) samples, V, and how many were lost before them."""
        if self.done or len(samples) == 0:
            return
        # The last sample is held through a hole, or an offset would ring in the filters; the hole counts for no peak.
        hole = min(lost_before, round(COUNT_EVERY_S * self._layout.rate_hz))
        last = self._held[-1][-1] if self._held else samples[0]
        whole = np.vstack([np.tile(last, (hole, 1)), samples])
        if hole:
            self._holes.append((self._samples, hole))
        self._held.append(whole)
        self._envelope.append(self._stream.process(whole)[-self._samples % self._step :: self._step])
        self._lost += lost_before
        self._samples += len(whole)
        if self._samples >= self._next_count:
            self._next_count = self._samples + round(COUNT_EVERY_S * self._layout.rate_hz)
            self.strides = count_strides(np.concatenate(self._envelope), self._layout.rate_hz / self._step)

    def finish(self) -> None:
        """Judge what was recorded.

        Raises
        ------
        ExoError : if there are too few strides.
        """
        rate = self._layout.rate_hz
        whole = np.concatenate(self._held) if self._held else np.zeros((0, self._layout.channels))
        done = process_recording([whole], rate, self._config) if self._samples > MOVING_LEAST_S * rate else None
        self.strides = count_strides(done.envelope, done.rate_hz) if done is not None else 0.0
        if done is None or self.strides < self._wanted:
            raise ExoError(
                f"only {self.strides:.0f} strides are seen in the rhythm of the EMG, {self._wanted} are needed; walk "
                "longer at an even pace, or calibrate with --mvc"
            )
        self.accepted, self.refused = walking_maxima(done, self._layout, self._config, whole, self._holes)


Guide = MvcGuide | WalkingGuide


def how(name: str) -> str:
    """How to load a muscle, one line."""
    group = group_of(name)
    leg = {"l": "left leg", "r": "right leg"}.get(side_of(name)[1] or "", "")
    base = side_of(group)[0] if group else None
    return f"{leg}: {HOW[base if base in GROUPS else None]}"


def count_strides(envelope: FloatArray, rate_hz: float) -> float:
    """Strides in (n, channels) envelopes, read from their rhythm; 0 where there is none."""
    clock = StrideClock(1.0 / rate_hz, envelope.shape[1], *STRIDE_S)
    # Channels without a rhythm weigh nothing.
    phase = clock.phase(envelope, np.ones(envelope.shape[1], dtype=bool), np.arange(len(envelope)))
    known = phase[np.isfinite(phase)]
    return float(np.ptp(known)) if len(known) else 0.0


def walking_maxima(
    done: Processed,
    layout: Layout,
    config: ChainConfig,
    samples: FloatArray,
    holes: Sequence[tuple[int, int]] = (),
) -> tuple[dict[str, Maximum], dict[str, str]]:
    """Maxima of the good channels of a walk, from the time in which each was good; and why the others have none.

    Parameters
    ----------
    done : the walk, processed with `config`.
    samples : (n, channels) V, the walk itself.
    holes : first sample and length of what was lost and filled.
    """
    bad = ~done.valid
    for first, length in holes:
        start, end = (at / layout.rate_hz * done.rate_hz for at in (first, first + length))
        bad[int(start) : int(end) + 1] = True
    # Filters carry what is bad to both sides of it.
    reach = round(FORGETS_PERIODS / config.envelope_hz * done.rate_hz)
    good = ~binary_dilation(bad, np.ones((2 * reach + 1, 1)))
    offsets = offset_problems(samples, config)
    accepted: dict[str, Maximum] = {}
    refused: dict[str, str] = {}
    for channel, (name, report) in enumerate(zip(layout.muscles, done.channels, strict=True)):
        if report.reason:
            refused[name] = offsets[channel] or explain(name, report.reason)
            continue
        own = good[:, channel]
        good_s = np.count_nonzero(own) / done.rate_hz
        if good_s < MOVING_LEAST_S:
            refused[name] = f"only {good_s:.1f} s of it were undisturbed, {MOVING_LEAST_S:.0f} s are needed; walk again"
            continue
        try:
            (peak,) = dynamic_peak(np.where(own, done.envelope[:, channel], np.nan)[:, None], done.rate_hz)
            accepted[name] = Maximum(float(peak), DYNAMIC_PEAK, layout.rate_hz)
        except ExoError as error:
            refused[name] = str(error)
    return accepted, refused


def sourced(maxima: Mapping[str, Maximum], source: str, sha256: str) -> dict[str, Maximum]:
    """The same maxima with the recording they were taken from."""
    return {name: dataclasses.replace(own, source=source, sha256=sha256) for name, own in maxima.items()}
