"""What a calibration may change of a wearer's muscles: which numbers, how far, and how far it is believed to.

Muscles that cannot be told apart by joint moments share their numbers: those of one leg that cross the same joints and
pull the same way. A number is a factor on the generic one (its logarithm is what is solved for), or the shape of
activation, which is not a factor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from exo_common.frames import SIDES
from exo_twin.inverse.muscle_model import MuscleModel

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of number: its bounds, and the standard deviation among people about the generic (or first) one."""

    low: float
    high: float
    sd: float


# Factors. Bounds as EMG-driven models have them: strength between half and twice (Lloyd and Besier 2003), optimal fibre
# and tendon slack length within 15 % (Pizzolato et al. 2015, J Biomech 48:3929). Strength after scaling by mass and
# height still differs by a quarter among healthy adults (Handsfield et al. 2014, J Biomech 47:631). Fibre lengths
# differ by a tenth (Ward et al. 2009, Clin Orthop 467:1074), but together with the limb and the tendon, so that fibres
# keep their working range: what is left to each alone is believed to be half of that, and of the tendon, which shifts
# that range several times as far per percent, a fiftieth. A first gain is known to a factor of 1.4.
STRENGTH = Kind(0.5, 2.0, 0.25)
FIBRE = Kind(0.85, 1.15, 0.05)
TENDON = Kind(0.85, 1.15, 0.02)
GAIN = Kind(0.05, 2.0, 0.35)
# A, not a factor (Lloyd and Besier 2003).
SHAPE = Kind(-3.0, 0.0, 1.0)
KINDS = ("strength", "fibre", "tendon", "gain", "shape")
# A moment arm below this on average pulls neither way, m.
SMALL_ARM_M = 0.01


@dataclasses.dataclass(frozen=True)
class Unknowns:
    """The numbers solved for, in one vector: strength, fibre and tendon per group, gain per channel, shape.

    Attributes
    ----------
    group : (m,) group of every muscle, -1 for those that stay generic.
    generic : (p,) where the solution begins and is drawn back to.
    sd, low, high : (p,).
    channels : k.
    """

    group: NDArray[np.int64]
    generic: FloatArray
    sd: FloatArray
    low: FloatArray
    high: FloatArray
    channels: int

    @staticmethod
    def of(group: NDArray[np.int64], gain: FloatArray, kinds: Sequence[str] = KINDS) -> Unknowns:
        """Unknowns that begin at generic muscles and a first gain (k,) of every channel; other `kinds` stay there."""
        groups = int(group.max()) + 1
        rows = [(np.zeros(groups), np.log(kind.low), np.log(kind.high), kind.sd) for kind in (STRENGTH, FIBRE, TENDON)]
        rows.append((np.log(gain), np.log(GAIN.low), np.log(GAIN.high), GAIN.sd))
        rows.append((np.zeros(1), SHAPE.low, SHAPE.high, SHAPE.sd))
        columns = [np.concatenate([np.broadcast_to(row[i], row[0].shape) for row in rows]) for i in range(4)]
        found = Unknowns(group, columns[0], columns[3], columns[1], columns[2], len(gain))
        for kind in KINDS:
            if kind not in kinds:
                found.low[found.part(kind)] = found.high[found.part(kind)] = found.generic[found.part(kind)]
        return found

    @property
    def groups(self) -> int:
        """Of muscles."""
        return int(self.group.max()) + 1

    def part(self, kind: str) -> slice:
        """Where one of KINDS stands in the vector."""
        g, k = self.groups, self.channels
        starts = {"strength": 0, "fibre": g, "tendon": 2 * g, "gain": 3 * g, "shape": 3 * g + k}
        length = {"gain": k, "shape": 1}.get(kind, g)
        return slice(starts[kind], starts[kind] + length)

    def factor(self, x: FloatArray, kind: str) -> FloatArray:
        """(m,) factors of the muscles: of their strength, fibre or tendon."""
        return np.where(self.group >= 0, np.exp(x[self.part(kind)])[self.group], 1.0)

    def gain(self, x: FloatArray) -> FloatArray:
        """(k,) of the channels."""
        return np.asarray(np.exp(x[self.part("gain")]))

    def shape(self, x: FloatArray) -> float:
        """A of all muscles."""
        return float(x[self.part("shape")][0])

    def model(self, x: FloatArray, generic: MuscleModel) -> MuscleModel:
        """The muscles with these numbers."""
        return generic.scaled(*(self.factor(x, kind) for kind in ("strength", "fibre", "tendon")))


def functional_groups(
    arms: FloatArray, coordinates: tuple[str, ...], muscles: tuple[str, ...], told: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Group (m,) of every muscle: those that pull the same joints the same way, left and right apart.

    Parameters
    ----------
    arms : (m, c) m, mean over the walk.
    told : (m,) of which muscles EMG tells. The others get -1: moments say what they add up to beside the measured
        ones, but whether they are strong or work hard is one to them.
    """
    side = np.array([[name.endswith(f"_{side}") for side in SIDES] for name in muscles], dtype=int)
    wanted = [name.startswith(("hip_flexion", "hip_adduction", "knee_angle", "ankle_angle")) for name in coordinates]
    pull = np.where(np.abs(arms) > SMALL_ARM_M, np.sign(arms), 0.0)[:, wanted].astype(int)
    group = np.full(len(muscles), -1)
    group[told] = np.unique(np.hstack([side, pull])[told], axis=0, return_inverse=True)[1].reshape(-1)
    return group
