"""Sharing joint torque among muscles: bounded, effort-minimal, one leg at a time.

    minimise  sum a^2 + w |A a - b|^2     subject to  low <= a <= high

`b` (3,) Nm is what the muscles of a leg should add at hip, knee and ankle, `A`
(3, 9) Nm per unit of activation: for a given length and velocity MuJoCo's muscle
force is linear in activation. What the muscles cannot or, at this price, do not
supply is the reserve b - A a.
"""

from __future__ import annotations

import numpy as np
import quadprog
from numpy.typing import NDArray

# Cost of one Nm^2 of reserve against one muscle at full activation: reserves are a last resort.
RESERVE_WEIGHT = 1.0


class MuscleSharing:
    """The problem for a fixed number of muscles, with its constraint matrix made once."""

    def __init__(self, muscles: int) -> None:
        identity = np.eye(muscles)
        self._identity = 2.0 * identity
        self._constraints = np.hstack([identity, -identity])

    def solve(
        self, A: NDArray[np.float64], b: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Activations (muscles,) within [low, high]."""
        weighted = (2.0 * RESERVE_WEIGHT) * A.T
        bounds = np.concatenate([low, -high])
        solution = quadprog.solve_qp(self._identity + weighted @ A, weighted @ b, self._constraints, bounds)[0]
        # The solver keeps bounds to rounding only.
        return np.clip(solution, low, high)
