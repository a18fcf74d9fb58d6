"""A state of muscle fatigue for the twin, driven by activation: the three-compartment model 3CC-r.

Motor units are resting, active or fatigued (fractions m_r + m_a + m_f = 1)::

    dm_r/dt = -c + R' m_f        dm_a/dt = c - F m_a        dm_f/dt = F m_a - R' m_f

c recruits towards the wanted activation (bounded by the units at rest) or lets go
of it; R' is R under load and r R at rest, when blood flows freely (Xia & Frey-Law
2008, J Biomech 41:3046; r by Looft, Herkert & Frey-Law 2018, J Biomech 77:16).

The model rests at zero activation, which real activation never reaches; here R'
falls from r R to R between two small ones, by equal factors. Between bursts a
walking muscle lies just there, and what is told of it hangs on where: with bursts
to 0.5 in 40 % of the stride, half an hour leaves 0.10, 0.16, 0.33 or 0.89 of an
ankle muscle's units fatigued for 0.01, 0.03, 0.05 or 0.10 between the bursts. Do
not trust the size of such numbers unless the floor of the activation is known.

It predicts from use, where :mod:`exo_emg.fatigue` measures: the two may check one
another. Its parameters are means of healthy adults' *isometric* endurance per
joint; walking loads a muscle for tenths of a second, people differ severalfold,
and no value was fitted for the hip. Take it as a state that rises and recovers
plausibly, not as this wearer's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_emg.muscles import group_of, side_of

# Speed of recruiting and of letting go, 1/s (Xia & Frey-Law 2008).
DRIVE_PER_S = 10.0
# Activation up to which a muscle rests, and from which on it is under load. The model has zero for both. No threshold:
# the residual of an envelope decides nothing by lying on one side of a hundredth.
REST_ACTIVATION, LOAD_ACTIVATION = 0.02, 0.10
# Activation may leave 0..1 by what floating-point numbers round.
ROUND_OFF = 1e-6
# One Euler step must not empty a compartment: far below 1 / DRIVE_PER_S.
STEP_MAX_S = 0.02


@dataclasses.dataclass(frozen=True)
class Endurance:
    """How fast units tire and recover.

    Parameters
    ----------
    fatigue, recovery : F and R, 1/s.
    rest_factor : r, by which recovery is faster at rest.
    """

    fatigue: float
    recovery: float
    rest_factor: float


# F and R: Frey-Law, Looft & Heitsman 2012 (J Biomech 45:1803), table 1; r: Looft et al. 2018.
ANKLE = Endurance(0.00589, 0.00058, 15.0)
KNEE = Endurance(0.01500, 0.00149, 15.0)
# No hip in either: their values over all joints.
GENERAL = Endurance(0.00970, 0.00091, 15.0)
# Muscles of two joints go with the one whose endurance tests load them most.
ENDURANCE = {
    "GLU": GENERAL, "HFL": GENERAL, "HAM": KNEE, "RF": KNEE, "VAS": KNEE, "BFSH": KNEE, "GAS": ANKLE, "SOL": ANKLE,
    "TA": ANKLE,
}  # fmt: skip


def endurance_of(muscle: str) -> Endurance:
    """Parameters of a muscle or muscle group by name; those over all joints where its group is none of the exo's."""
    group = group_of(muscle)
    return ENDURANCE[side_of(group)[0]] if group else GENERAL


class FatigueState:
    """The compartments of several muscles.

    Parameters
    ----------
    muscles : names, of muscles or of groups.
    endurance : parameters of each; by default by name.

    Attributes
    ----------
    rested, active, fatigued : (muscles,) fractions of the units; they add up to one.
    """

    def __init__(self, muscles: Sequence[str], endurance: Sequence[Endurance] | None = None) -> None:
        chosen = [endurance_of(muscle) for muscle in muscles] if endurance is None else list(endurance)
        if len(chosen) != len(muscles):
            raise ExoError(f"{len(chosen)} endurances for {len(muscles)} muscles; give one for each")
        self.muscles = tuple(muscles)
        self._fatigue = np.array([own.fatigue for own in chosen])
        self._recovery = np.array([own.recovery for own in chosen])
        self._rest_factor = np.array([own.rest_factor for own in chosen])
        self.rested = np.ones(len(chosen))
        self.active = np.zeros(len(chosen))
        self.fatigued = np.zeros(len(chosen))

    @property
    def capacity(self) -> NDArray[np.float64]:
        """(muscles,) part of the rested strength that is left: units that are not fatigued."""
        return 1.0 - self.fatigued

    def step(self, activation: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        """Advance by `dt` s under constant wanted activation; returns the fatigued fractions.

        Parameters
        ----------
        activation : (muscles,) wanted activation, 0..1 of the rested muscle's strength.

        Raises
        ------
        ExoError : if activation or time are no usable numbers.
        """
        wanted = np.asarray(activation, dtype=float)
        bounded = (wanted >= -ROUND_OFF) & (wanted <= 1.0 + ROUND_OFF)
        if wanted.shape != self.active.shape or not np.all(bounded):
            raise ExoError(f"fatigue needs {len(self.active)} activations from 0 to 1, not {wanted}; clip them first")
        if not (math.isfinite(dt) and dt >= 0.0):
            raise ExoError(f"fatigue cannot advance by {dt} s; give a time of zero or more")
        wanted = np.clip(wanted, 0.0, 1.0)
        resting = np.clip((LOAD_ACTIVATION - wanted) / (LOAD_ACTIVATION - REST_ACTIVATION), 0.0, 1.0)
        recovery = self._recovery * self._rest_factor**resting
        steps = math.ceil(dt / STEP_MAX_S)
        for _ in range(steps):
            self._euler(wanted, recovery, dt / steps)
        return self.fatigued

    def _euler(self, wanted: NDArray[np.float64], recovery: NDArray[np.float64], dt: float) -> None:
        # Letting go is as fast as recruiting; recruiting is limited by the units at rest.
        recruited = dt * DRIVE_PER_S * np.minimum(wanted - self.active, self.rested)
        tired = dt * self._fatigue * self.active
        recovered = dt * recovery * self.fatigued
        self.active = self.active + recruited - tired
        self.fatigued = self.fatigued + tired - recovered
        self.rested = 1.0 - self.active - self.fatigued
