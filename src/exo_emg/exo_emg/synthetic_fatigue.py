"""EMG of a walk during which muscles tire, with the truth known.

Fatigue slows the conduction velocity of muscle fibres; the spectrum of surface EMG
is compressed in proportion (Lindstrom & Magnusson 1977). Here the compression is
programmed so that the median frequency of the signal falls on a straight line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy.signal import sosfilt

from exo_common.clock import NS_PER_S
from exo_common.parameters import Parameters, parameter
from exo_emg.chunks import Chunk, Layout
from exo_emg.synthesis import FloatArray, interference_filter, median_frequency_hz

# The spectrum changes in steps of this length, s: 0.02 % at a time when it is halved in half an hour.
STEP_S = 1.0
# Conduction velocities looked at, as shares of the rested, to find the one with the wanted median frequency.
VELOCITIES = np.linspace(0.2, 1.3, 56)
# Between contractions a muscle is never quite silent.
REST = 0.02


@dataclasses.dataclass(frozen=True)
class WalkFatigue(Parameters):
    """The walk, the contraction in each stride and how it tires."""

    seconds: float = parameter(1800.0, "s", "length of the walk", minimum=1.0, maximum=36000.0)
    sampling_rate_hz: float = parameter(1000.0, "Hz", "sampling rate", minimum=500.0, maximum=4000.0)
    end_pct: float = parameter(
        80.0, "%", "median frequency at the end, of that at the start", minimum=30.0, maximum=120.0
    )
    end_amplitude_pct: float = parameter(
        100.0, "%", "amplitude at the end, of that at the start", minimum=30.0, maximum=300.0
    )
    stride_s: float = parameter(1.1, "s", "mean stride time", minimum=0.5, maximum=3.0)
    stride_sd_s: float = parameter(0.02, "s", "standard deviation of the stride time", minimum=0.0, maximum=0.1)
    active_share: float = parameter(0.4, "", "share of the stride with contraction", minimum=0.1, maximum=1.0)
    level_sd: float = parameter(
        0.1, "", "standard deviation of the contraction from stride to stride, of its mean", minimum=0.0, maximum=0.3
    )
    gain_v: float = parameter(2e-4, "V", "RMS at the height of the contraction, rested", minimum=1e-6, maximum=5e-3)
    noise_v: float = parameter(5e-6, "V", "RMS of electrode and amplifier noise", minimum=0.0, maximum=1e-3)


class TiringWalk:
    """A seeded walk, generated a second at a time; iterate as often as needed, each time the same.

    Attributes
    ----------
    layout : channels and rate.
    strikes_s : (strides + 1,) heel strikes, s after the start; the contraction of a stride is a raised cosine that
        begins at its strike.
    slope_pct_per_min : true slope of the median frequency, % of its initial value per minute.
    initial_median_hz : true median frequency at the start, Hz (of the muscle, without the amplifier's noise).
    """

    def __init__(self, muscles: tuple[str, ...], seed: int, config: WalkFatigue | None = None) -> None:
        self.config = config = config or WalkFatigue()
        self.layout = Layout(muscles, config.sampling_rate_hz)
        self.slope_pct_per_min = (config.end_pct - 100.0) / (config.seconds / 60.0)
        self._seed = seed
        strides = np.random.default_rng((seed, 0))
        count = int(1.5 * config.seconds / config.stride_s) + 10
        times = np.maximum(0.5 * config.stride_s, config.stride_s + config.stride_sd_s * strides.standard_normal(count))
        self.strikes_s = np.concatenate([[0.0], np.cumsum(times)])
        self.strikes_s = self.strikes_s[: int(np.searchsorted(self.strikes_s, config.seconds)) + 1]
        self._levels = np.maximum(
            0.1, 1.0 + config.level_sd * strides.standard_normal((len(self.strikes_s), len(muscles)))
        )
        rate = config.sampling_rate_hz
        medians = [median_frequency_hz(interference_filter(rate, float(v)), rate) for v in VELOCITIES]
        self._medians_hz = np.array(medians)
        self.initial_median_hz = median_frequency_hz(interference_filter(rate), rate)

    def median_frequency_pct(self, time_s: FloatArray) -> FloatArray:
        """True median frequency, % of the initial."""
        truth: FloatArray = 100.0 + self.slope_pct_per_min * np.asarray(time_s) / 60.0
        return truth

    def chunks(self) -> Iterator[Chunk]:
        """The walk, one chunk per second; stamps count from zero."""
        config, rate, channels = self.config, self.config.sampling_rate_hz, self.layout.channels
        muscle, amplifier = (np.random.default_rng((self._seed, stream)) for stream in (1, 2))
        state: FloatArray | None = None
        total, step = round(config.seconds * rate), round(STEP_S * rate)
        for first in range(0, total, step):
            time = np.arange(first, min(first + step, total)) / rate
            sos = interference_filter(rate, self._velocity(float(time.mean())))
            if state is None:
                state = np.zeros((len(sos), 2, channels))
                _, state = sosfilt(sos, muscle.standard_normal((step, channels)), axis=0, zi=state)
            carrier, state = sosfilt(sos, muscle.standard_normal((len(time), channels)), axis=0, zi=state)
            noise = config.noise_v * amplifier.standard_normal((len(time), channels))
            growth = 1.0 + (config.end_amplitude_pct / 100.0 - 1.0) * time[:, None] / config.seconds
            samples = config.gain_v * growth * self._excitation(time) * carrier + noise
            yield Chunk(first, round(first * NS_PER_S / rate), samples)

    def _velocity(self, time_s: float) -> float:
        wanted = self.initial_median_hz * float(self.median_frequency_pct(np.array(time_s))) / 100.0
        return float(np.interp(wanted, self._medians_hz, VELOCITIES))

    def _excitation(self, time: FloatArray) -> FloatArray:
        """(n, channels): one at the height of an average contraction."""
        stride = np.clip(np.searchsorted(self.strikes_s, time, side="right") - 1, 0, len(self.strikes_s) - 2)
        start, end = self.strikes_s[stride], self.strikes_s[stride + 1]
        place = (time - start) / (end - start) / self.config.active_share
        burst = np.where(place < 1.0, 0.5 - 0.5 * np.cos(2.0 * np.pi * place), 0.0)
        excitation: FloatArray = np.maximum(REST, burst[:, None] * self._levels[stride])
        return excitation
