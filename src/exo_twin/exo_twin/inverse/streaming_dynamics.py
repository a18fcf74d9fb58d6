"""Joint moments frame by frame, a stated delay behind the newest frame; needs no opensim."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_twin.inverse.body_inertia import BodyInertia
from exo_twin.inverse.external_forces import ExternalForce
from exo_twin.inverse.inverse_dynamics import Dynamics, InverseDynamics
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.streaming_derivatives import Moving, StreamingConfig, StreamingDerivatives

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class LiveDynamics:
    """Moments at one time.

    Attributes
    ----------
    time : s, the acquisition time that the moments belong to (an earlier frame's than the one just pushed).
    motion : the coordinates then.
    dynamics : of one frame.
    """

    time: float
    motion: Moving
    dynamics: Dynamics


class StreamingDynamics:
    """Inverse dynamics of coordinates and external forces as they arrive.

    Parameters
    ----------
    tree, inertia : of the wearer's model.
    """

    def __init__(self, tree: KinematicTree, inertia: BodyInertia, config: StreamingConfig | None = None) -> None:
        self.config = config or StreamingConfig()
        self._solver = InverseDynamics(tree, inertia)
        self._derivatives = StreamingDerivatives(self.config)
        self._external: collections.deque[tuple[float, tuple[ExternalForce, ...]]] = collections.deque(
            maxlen=self.config.frames_behind + 1
        )

    def push(self, time: float, q: FloatArray, external: Sequence[ExternalForce] = ()) -> LiveDynamics | None:
        """Take a frame; gives the moments `config.frames_behind` frames ago, or None while the filter settles.

        Parameters
        ----------
        time : s, of acquisition; a frame that is not newer than the last is ignored.
        q : (n_coordinates,) in the tree's order, rad and m.
        external : forces at that time, each of one frame.

        Raises
        ------
        ExoError : if a coordinate is not finite or a force does not fit the model.
        """
        if self._external and time <= self._external[-1][0]:
            return None
        motion = self._derivatives.push(time, q)
        self._external.append((time, tuple(external)))
        if motion is None:
            return None
        forces = next(known for stamp, known in self._external if stamp == motion.time)
        solved = self._solver.solve(motion.q[None], motion.speed[None], motion.acceleration[None], forces)
        return LiveDynamics(motion.time, motion, solved)
