"""From the envelope (neural excitation) to muscle activation.

Two things lie between the electrical signal and the force: a delay, the electromechanical delay of
30-50 ms (Cavanagh & Komi 1979), and a first-order lag that rises faster than it falls (Zajac 1989; the time constants
of Thelen 2003). The causal envelope is late already; only what is left of the delay is added to it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_common.parameters import Parameters, parameter


@dataclasses.dataclass(frozen=True)
class ActivationConfig(Parameters):
    """Excitation to activation."""

    rise_s: float = parameter(0.010, "s", "time constant of activation", minimum=0.001, maximum=0.2)
    fall_s: float = parameter(0.040, "s", "time constant of deactivation", minimum=0.001, maximum=0.4)
    electromechanical_delay_s: float = parameter(
        0.040, "s", "pure delay from the electrical signal to the onset of force", minimum=0.0, maximum=0.2
    )
    shape: float = parameter(
        0.0,
        "",
        "curvature A of activation against excitation: (exp(A u) - 1) / (exp(A) - 1), 0 for a line "
        "(Lloyd & Besier 2003: -3 to 0)",
        minimum=-5.0,
        maximum=0.0,
    )
    least: float = parameter(0.01, "", "activation of a resting muscle", minimum=0.0, maximum=0.1)


def activation_after(
    before: NDArray[np.float64], excitation: NDArray[np.float64], seconds: float, config: ActivationConfig
) -> NDArray[np.float64]:
    """Activation after `seconds` of constant excitation; arrays of one shape.

    Notes
    -----
    da/dt = (u - a) / tau with tau = rise (0.5 + 1.5 a) while u > a, else fall / (0.5 + 1.5 a), solved
    exactly over a step with tau held: stable for any step.
    """
    speed = 0.5 + 1.5 * np.clip(before, 0.0, 1.0)
    tau = np.where(excitation > before, config.rise_s * speed, config.fall_s / speed)
    return np.asarray(excitation + (before - excitation) * np.exp(-seconds / tau))


class ActivationStream:
    """Activation of every channel, sample by sample; cutting the excitation differently changes nothing.

    Parameters
    ----------
    rate_hz : of the excitation.
    delay_s : how late the excitation is already: `group_delay_s` for the causal envelope, 0 offline.
    """

    def __init__(
        self, rate_hz: float, channels: int, config: ActivationConfig | None = None, delay_s: float = 0.0
    ) -> None:
        self.config = config or ActivationConfig()
        self._step_s = 1.0 / rate_hz
        left = max(0.0, self.config.electromechanical_delay_s - delay_s)
        self._waiting = np.full((round(left * rate_hz), channels), self.config.least)
        self._activation = np.full(channels, self.config.least)

    @property
    def delay_s(self) -> float:
        """Delay that this stream adds, s."""
        return len(self._waiting) * self._step_s

    def process(self, excitation: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, channels) activation, `least`..1, of (n, channels) excitation; above 1 counts as 1, NaN as rest."""
        least, shape = self.config.least, self.config.shape
        u = np.clip(np.nan_to_num(excitation, nan=least), least, 1.0)
        if shape != 0.0:
            u = np.maximum(np.expm1(shape * u) / np.expm1(shape), least)
        line = np.concatenate([self._waiting, u])
        delayed, self._waiting = line[: len(u)], line[len(u) :]
        out = np.empty_like(u)
        for k, target in enumerate(delayed):
            out[k] = self._activation = activation_after(self._activation, target, self._step_s, self.config)
        return out
