"""Synthetic surface EMG with a known truth behind it.

The interference pattern of many motor units is close to band-limited Gaussian
noise whose standard deviation follows the excitation (Hogan & Mann 1980). Each
channel is exactly that: seeded noise, band-limited, times excitation, plus the
noise of electrode and amplifier.

Feed it neural *excitation*, not activation. Muscle force follows the
electrical signal by the electromechanical delay (30-50 ms); in the twin that
delay is the excitation-activation dynamics, so excitation already leads the
force as EMG does. Crosstalk and movement artefact are not modelled.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from exo_common.parameters import Parameters, parameter
from exo_emg.processing import RECTIFIED_MEAN_OF_GAUSSIAN, signal_band


@dataclasses.dataclass(frozen=True)
class SynthesisConfig(Parameters):
    """How the synthetic signal looks."""

    sampling_rate_hz: float = parameter(1000.0, "Hz", "sampling rate", minimum=200.0, maximum=4000.0)
    gain_v: float = parameter(5e-4, "V", "RMS of the signal at full excitation", minimum=1e-6, maximum=5e-3)
    noise_v: float = parameter(5e-6, "V", "RMS of electrode and amplifier noise", minimum=0.0, maximum=1e-3)

    def maximum_v(self) -> float:
        """Rectified mean at full excitation, V: the calibrated maximum that belongs to this signal."""
        return self.gain_v * RECTIFIED_MEAN_OF_GAUSSIAN


class EmgSynthesizer:
    """A stream of synthetic surface EMG, the same for the same seed however it is cut into frames."""

    def __init__(self, channels: int, seed: int, config: SynthesisConfig | None = None) -> None:
        self.config = config or SynthesisConfig()
        self._muscle, self._amplifier = (np.random.default_rng((seed, stream)) for stream in (0, 1))
        low, high = signal_band(self.config.sampling_rate_hz)
        self._sos = butter(2, (low, high), "bandpass", fs=self.config.sampling_rate_hz, output="sos")
        self._state = np.zeros((len(self._sos), 2, channels))
        impulse = np.zeros(4096)
        impulse[0] = 1.0
        # Unit variance after the band-pass: the energy of its impulse response.
        self._scale = 1.0 / float(np.sqrt(np.sum(sosfilt(self._sos, impulse) ** 2)))
        # Let the filter forget its zero start.
        self._noise(int(self.config.sampling_rate_hz), channels)

    def frame(self, excitation: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next samples, V.

        Parameters
        ----------
        excitation : (samples, channels) neural excitation, 0..1, sampled at the EMG's rate.
        """
        noise = self._noise(*excitation.shape)
        amplifier = self._amplifier.standard_normal(excitation.shape)
        return self.config.gain_v * excitation * noise + self.config.noise_v * amplifier

    def _noise(self, samples: int, channels: int) -> NDArray[np.float64]:
        white = self._scale * self._muscle.standard_normal((samples, channels))
        filtered, self._state = sosfilt(self._sos, white, axis=0, zi=self._state)
        return filtered
