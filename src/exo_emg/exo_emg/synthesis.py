"""Synthetic surface EMG with a known truth behind it.

The interference pattern of many motor units is close to Gaussian noise whose
standard deviation follows the excitation (Hogan & Mann 1980) and whose spectrum
is that of the motor unit potentials under the electrode (Shwedyk et al. 1977).
Each muscle is exactly that: seeded noise with that spectrum, times excitation.
An electrode sees its own muscle, a little of the neighbours' (crosstalk), the
noise of skin and amplifier, a burst of movement artefact at each heel strike of
its leg, and the mains.

Feed it neural *excitation*, not activation. Muscle force follows the
electrical signal by the electromechanical delay (30-50 ms); in the twin that
delay is the excitation-activation dynamics, so excitation already leads the
force as EMG does.

What is simpler than life: crosstalk is instantaneous, as large between all
neighbours and does not lose its high frequencies on the way through fat;
artefacts of a strike differ in size and phase, not in shape.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import bilinear_zpk, sosfilt, sosfreqz, zpk2sos

from exo_common.parameters import Parameters, parameter
from exo_emg.muscles import group_of, side_of
from exo_emg.processing import RECTIFIED_MEAN_OF_GAUSSIAN

FloatArray = NDArray[np.float64]

# Power spectrum f^2 / ((f^2 + low^2) (f^2 + high^2)^2) of surface EMG (Shwedyk, Balasubramanian & Scott 1977; the usual
# 60 and 120 Hz, e.g. Farina & Merletti 2000). Both frequencies are proportional to muscle fibre conduction velocity.
SPECTRUM_LOW_HZ, SPECTRUM_HIGH_HZ = 60.0, 120.0
# Long enough for the slowest of these poles to die away, at any rate allowed.
IMPULSE_S = 1.0
# Movement artefacts are slow: cables and skin swing at some Hz and are damped.
ARTEFACT_HZ, ARTEFACT_DECAY_S, ARTEFACT_LENGTH_S = 12.0, 0.06, 0.4
# Which groups lie side by side in one leg.
NEIGHBOURS = frozenset(
    frozenset(pair)
    for pair in (
        ("GLU", "HAM"), ("HFL", "RF"), ("RF", "VAS"), ("HAM", "BFSH"), ("HAM", "VAS"), ("BFSH", "GAS"), ("GAS", "SOL"),
        ("SOL", "TA"),
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SynthesisConfig(Parameters):
    """How the synthetic signal looks."""

    sampling_rate_hz: float = parameter(1000.0, "Hz", "sampling rate", minimum=200.0, maximum=4000.0)
    gain_v: float = parameter(5e-4, "V", "RMS of the signal at full excitation", minimum=1e-6, maximum=5e-3)
    noise_v: float = parameter(5e-6, "V", "RMS of electrode and amplifier noise", minimum=0.0, maximum=1e-3)
    crosstalk: float = parameter(
        0.0, "", "amplitude of a neighbouring muscle as a share of its own electrode's", minimum=0.0, maximum=0.5
    )
    artefact_v: float = parameter(
        0.0, "V", "typical peak of the movement artefact at a heel strike", minimum=0.0, maximum=1e-2
    )
    mains_v: float = parameter(0.0, "V", "amplitude of the mains hum", minimum=0.0, maximum=1e-2)
    mains_hz: float = parameter(50.0, "Hz", "frequency of the mains", minimum=40.0, maximum=70.0)

    def maximum_v(self) -> float:
        """Rectified mean at full excitation, V: the calibrated maximum that belongs to this signal."""
        return self.gain_v * RECTIFIED_MEAN_OF_GAUSSIAN


@dataclasses.dataclass(frozen=True)
class Strike:
    """A heel strike at sample `at` of a frame, shaking the (channels,) `shaken`."""

    at: int
    shaken: NDArray[np.bool_]


class EmgSynthesizer:
    """A stream of synthetic surface EMG, the same for the same seed however it is cut into frames.

    Parameters
    ----------
    muscles : names of the channels, or only how many there are: then no electrode has neighbours.
    """

    def __init__(self, muscles: Sequence[str] | int, seed: int, config: SynthesisConfig | None = None) -> None:
        self.config = config or SynthesisConfig()
        channels = muscles if isinstance(muscles, int) else len(muscles)
        rate = self.config.sampling_rate_hz
        self._muscle, self._amplifier, self._shake = (np.random.default_rng((seed, stream)) for stream in range(3))
        self._sos = interference_filter(rate)
        self._state = np.zeros((len(self._sos), 2, channels))
        self._mixing = np.eye(channels) if isinstance(muscles, int) else crosstalk(muscles, self.config.crosstalk)
        self._swing = _swing(rate)
        # What artefacts that began already still add to the coming samples.
        self._shaking = np.zeros((0, channels))
        self._samples = 0
        # Let the filter forget its zero start.
        self._noise(round(rate), channels)

    def frame(self, excitation: FloatArray, strikes: Sequence[Strike] = ()) -> FloatArray:
        """The next samples, V.

        Parameters
        ----------
        excitation : (samples, channels) neural excitation, 0..1, sampled at the EMG's rate.
        strikes : heel strikes within these samples, in order.
        """
        config, (samples, channels) = self.config, excitation.shape
        signal = (config.gain_v * excitation * self._noise(samples, channels)) @ self._mixing.T
        signal += config.noise_v * self._amplifier.standard_normal((samples, channels))
        if config.mains_v:
            time = (self._samples + np.arange(samples)) / config.sampling_rate_hz
            signal += config.mains_v * np.sin(2.0 * math.pi * config.mains_hz * time)[:, None]
        for strike in strikes:
            self._begin(strike, channels)
        shaking, self._shaking = self._shaking[:samples], self._shaking[samples:]
        signal[: len(shaking)] += shaking
        self._samples += samples
        return signal

    def _begin(self, strike: Strike, channels: int) -> None:
        size = self.config.artefact_v * self._shake.standard_normal((1, channels)) * strike.shaken
        end = strike.at + len(self._swing)
        if end > len(self._shaking):
            self._shaking = np.vstack([self._shaking, np.zeros((end - len(self._shaking), channels))])
        self._shaking[strike.at : end] += self._swing[:, None] * size

    def _noise(self, samples: int, channels: int) -> FloatArray:
        white = self._muscle.standard_normal((samples, channels))
        filtered, self._state = sosfilt(self._sos, white, axis=0, zi=self._state)
        return filtered


def interference_filter(sampling_rate_hz: float, velocity: float = 1.0) -> FloatArray:
    """Second-order sections that give white noise of variance one the spectrum of EMG, and variance one.

    Parameters
    ----------
    velocity : conduction velocity of the muscle fibres as a share of the rested; the whole spectrum goes with it.
    """
    low, high = (2.0 * math.pi * velocity * f for f in (SPECTRUM_LOW_HZ, SPECTRUM_HIGH_HZ))
    zeros, poles, gain = bilinear_zpk([0.0], [-low, -high, -high], 1.0, fs=sampling_rate_hz)
    sos: FloatArray = zpk2sos(zeros, poles, gain)
    impulse = np.zeros(math.ceil(IMPULSE_S * sampling_rate_hz))
    impulse[0] = 1.0
    sos[0, :3] /= math.sqrt(float(np.sum(sosfilt(sos, impulse) ** 2)))
    return sos


def median_frequency_hz(sos: FloatArray, sampling_rate_hz: float) -> float:
    """The frequency below which half the power of filtered white noise lies, Hz."""
    frequency, response = sosfreqz(sos, worN=8192, fs=sampling_rate_hz)
    power = np.cumsum(np.abs(response) ** 2)
    return float(np.interp(0.5 * power[-1], power, frequency))


def crosstalk(muscles: Sequence[str], share: float) -> FloatArray:
    """(channels, channels) what each electrode (row) sees of each muscle (column): its own, and `share` of neighbours.

    Muscles are neighbours within a leg when their groups are (:data:`NEIGHBOURS`) or are the same.
    """
    mixing = np.eye(len(muscles))
    for (i, one), (j, other) in itertools.combinations(enumerate(muscles), 2):
        groups = [side_of(group)[0] if group else None for group in (group_of(one), group_of(other))]
        near = None not in groups and (groups[0] == groups[1] or frozenset(groups) in NEIGHBOURS)
        if near and side_of(one)[1] == side_of(other)[1]:
            mixing[i, j] = mixing[j, i] = share
    return mixing


def _swing(sampling_rate_hz: float) -> FloatArray:
    """A movement artefact over time: a damped swing that peaks near one."""
    time = np.arange(1, round(ARTEFACT_LENGTH_S * sampling_rate_hz)) / sampling_rate_hz
    swing = np.exp(-time / ARTEFACT_DECAY_S) * np.sin(2.0 * math.pi * ARTEFACT_HZ * time)
    normal: FloatArray = swing / np.max(np.abs(swing))
    return normal
