"""Velocities and accelerations of coordinates as they arrive: the causal counterpart of the recorded filter.

Coordinates are modelled as thrice integrated white noise seen through white
noise. The smoother of that model has the gain 1 / (1 + (f / cutoff)^6) of a
third-order Butterworth run forwards and backwards (Woltring 1986): what
OpenSim's inverse dynamics tool, and `motion_derivatives`, do to a recording. A
Kalman filter followed by a smoother over the last few frames comes as near to it
as a delay allows, and takes the time between frames as it is.
"""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, parameter
from exo_twin.inverse.motion_derivatives import CUTOFF_HZ

FloatArray = NDArray[np.float64]

UNKNOWN = 1e6  # variance of a first state over that of a measurement: the first frames decide alone
SETTLING_PERIODS = 1.5  # of the cut-off, until the guess of the first velocities is forgotten
LONGEST_GAP_S = 0.25  # half a swing; after a longer silence the motion between is unknown and the filter starts anew


@dataclasses.dataclass(frozen=True)
class StreamingConfig(Parameters):
    """How coordinates are differentiated live."""

    rate_hz: float = parameter(100.0, "Hz", "rate at which coordinates usually arrive", minimum=10.0, maximum=1000.0)
    cutoff_hz: float = parameter(CUTOFF_HZ, "Hz", "of the low-pass before differentiating", minimum=1.0, maximum=30.0)
    delay_s: float = parameter(
        0.06, "s", "how far behind the newest frame moments are given; more is smoother", minimum=0.0, maximum=0.5
    )

    @property
    def frames_behind(self) -> int:
        """The delay as a number of frames."""
        return round(self.delay_s * self.rate_hz)


@dataclasses.dataclass(frozen=True)
class Moving:
    """Coordinates at one time with their derivatives: each (n_coordinates,), per s and per s2."""

    time: float
    q: FloatArray
    speed: FloatArray
    acceleration: FloatArray


@dataclasses.dataclass(frozen=True)
class _Frame:
    """One step of the filter: what it knew then, and how knowing later frames better mends it."""

    time: float
    state: FloatArray  # (3, n_coordinates): value, velocity, acceleration
    covariance: FloatArray  # (3, 3), the same for all coordinates, in variances of a measurement
    predicted: FloatArray  # of `state`, before this frame's measurement
    gain: FloatArray  # (3, 3) of the smoother, from this frame to the one before


class StreamingDerivatives:
    """Filters coordinates frame by frame."""

    def __init__(self, config: StreamingConfig | None = None) -> None:
        self.config = config or StreamingConfig()
        omega = 2.0 * np.pi * self.config.cutoff_hz
        self._jerk = omega**6 / self.config.rate_hz  # spectral density, in variances of a measurement
        self._unknown = UNKNOWN * np.diag([1.0, omega**2, omega**4])
        self._settling = SETTLING_PERIODS / self.config.cutoff_hz
        self._frames: collections.deque[_Frame] = collections.deque(maxlen=self.config.frames_behind + 1)
        self._started = 0.0

    def push(self, time: float, q: FloatArray) -> Moving | None:
        """Take a frame; gives the motion `frames_behind` frames ago, or None while the filter settles.

        Parameters
        ----------
        time : s, of acquisition; a frame that is not newer than the last is ignored.
        q : (n_coordinates,) rad and m.

        Raises
        ------
        ExoError : if a coordinate is not finite.
        """
        if not np.isfinite(q).all():
            raise ExoError(f"coordinate {int(np.argmin(np.isfinite(q)))} at {time:.3f} s is not finite; skip the frame")
        if self._frames and time <= self._frames[-1].time:
            return None
        if not self._frames or time - self._frames[-1].time > LONGEST_GAP_S:
            self._start(time, q)
        else:
            self._advance(time, q)
        full = len(self._frames) == self._frames.maxlen
        if not full or self._frames[0].time - self._started < self._settling:
            return None
        return self._smoothed()

    def _start(self, time: float, q: FloatArray) -> None:
        self._frames.clear()
        self._started = time
        state = np.vstack([q, np.zeros((2, len(q)))])
        self._frames.append(_Frame(time, state, _updated(self._unknown)[0], state, np.zeros((3, 3))))

    def _advance(self, time: float, q: FloatArray) -> None:
        last = self._frames[-1]
        step = time - last.time
        move = np.array([[1.0, step, 0.5 * step**2], [0.0, 1.0, step], [0.0, 0.0, 1.0]])
        spread = np.array(  # of thrice integrated white noise over one step
            [
                [step**5 / 20.0, step**4 / 8.0, step**3 / 6.0],
                [step**4 / 8.0, step**3 / 3.0, step**2 / 2.0],
                [step**3 / 6.0, step**2 / 2.0, step],
            ]
        )
        covariance = move @ last.covariance @ move.T + self._jerk * spread
        back = np.linalg.solve(covariance, move @ last.covariance).T
        predicted = move @ last.state
        covariance, trust = _updated(covariance)
        state = predicted + trust[:, None] * (q - predicted[0])
        self._frames.append(_Frame(time, state, covariance, predicted, back))

    def _smoothed(self) -> Moving:
        """The oldest frame kept, as all later ones see it."""
        state = self._frames[-1].state
        for i in range(len(self._frames) - 1, 0, -1):
            later = self._frames[i]
            state = self._frames[i - 1].state + later.gain @ (state - later.predicted)
        return Moving(self._frames[0].time, state[0], state[1], state[2])


def _updated(covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Covariance (3, 3) after a measurement of the value with variance one, and the gain (3,) on it."""
    trust = covariance[:, 0] / (covariance[0, 0] + 1.0)
    return covariance - np.outer(trust, covariance[0]), trust
