"""What this wearer tolerates: strength against angle and velocity, passive moment and passive range of every leg joint.

From the wearer's own muscles, calibrated where there was something to calibrate with, and published passive tissue.
Arrays only, so that whoever limits an exo has them from `model.npz` without opensim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_safety.envelope import HARD_CAPS
from exo_twin.inverse.kinematic_tree import KinematicTree
from exo_twin.inverse.loads import flexion_sign
from exo_twin.inverse.muscle_model import MuscleModel
from exo_twin.inverse.muscle_paths import MusclePaths
from exo_twin.inverse.passive_moment import passive_moments
from exo_twin.twin import Gait

FloatArray = NDArray[np.float64]

PREFIX = "tolerance_"
ANGLES = 31  # over a joint's range of some 150 deg: every 5 deg, where moments are smooth
REFINE = 10  # the passive range is read off ten times as finely
# rad/s. The hip's hard cap bounds what an exo may follow; denser around zero, where force-velocity curves bend most.
VELOCITIES = HARD_CAPS.velocity_max_rad_s * np.linspace(-1.0, 1.0, 13) ** 3
STILL = len(VELOCITIES) // 2
EXTENSION, FLEXION = 0, 1
# What adults reach on a dynamometer at a joint's best angle, extension and flexion, of body weight x height: hip, knee,
# ankle (men of 18 to 25 years; means of other ages and of women lie within a third). C1 in table 3 of Anderson et al.
# 2007, J Biomech 40:3105.
DYNAMOMETER_PEAK = {"hip_flexion": (0.161, 0.113), "knee_angle": (0.163, 0.087), "ankle_angle": (0.095, 0.033)}
# Passive range: to where the relaxed joint resists with this share of the strongest isometric effort that the wearer
# can make in that direction. The active range ends where the two are equal, for nobody moves further on their own;
# half of it leaves out the part in which most of an effort goes into stretching one's own tissue.
PASSIVE_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Per leg coordinate, order LEG_COORDINATES, flexion and dorsiflexion positive, in Nm, rad and rad/s.

    Attributes
    ----------
    angle : (6, ANGLES) over each joint's range in the model.
    velocity : (len(VELOCITIES),) common to all.
    posture : (6,) where the other joints rest while one moves: the wearer's mean posture in walking.
    strength : (6, 2, ANGLES, len(VELOCITIES)) moments >= 0 of all fully active extensors (0) and of all fully
        active flexors (1) times `dynamometer`, without passive force, with rigid tendons.
    dynamometer : (6, 2) <= 1, by which the model's strength was brought down: the uncalibrated model's to what adults
        of this size reach on a dynamometer, for a model that walks with plausible activations is up to three times as
        strong as people; but not below what the wearer does in walking.
    passive_fibres : (6, ANGLES) moment of the model's relaxed fibres.
    passive_published : (6, ANGLES) moment of a relaxed adult's joint, see passive_moment.
    passive_range : (6, 2) lowest and highest angle inside PASSIVE_SHARE, by whichever passive moment is larger, and
        inside the model's own range. Generic models' fibres resist more than people do where they are long, but only
        fibres can be this wearer's own, and a limit must not rest on the softer of two answers.
    """

    angle: FloatArray
    velocity: FloatArray
    posture: FloatArray
    strength: FloatArray
    dynamometer: FloatArray
    passive_fibres: FloatArray
    passive_published: FloatArray
    passive_range: FloatArray

    def capacity(self, coordinate: str, angle: FloatArray, velocity: FloatArray) -> FloatArray:
        """Strength, (2, n) Nm of extensors and flexors, at angles and velocities (n,); that of the border beyond it."""
        row = LEG_COORDINATES.index(coordinate)
        return _look_up(self.strength[row], self.angle[row], angle, velocity)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that :meth:`from_arrays` reads; single precision, an error of a ten-millionth."""
        return {f"{PREFIX}{name}": value.astype(np.float32) for name, value in dataclasses.asdict(self).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Tolerance:
        """Read what :meth:`arrays` wrote, e.g. from `Twin.model`.

        Raises
        ------
        ExoError : if an array is missing, has a wrong shape or is not finite.
        """
        n = len(LEG_COORDINATES)
        shapes = {
            "angle": (n, ANGLES),
            "velocity": (len(VELOCITIES),),
            "posture": (n,),
            "strength": (n, 2, ANGLES, len(VELOCITIES)),
            "dynamometer": (n, 2),
            "passive_fibres": (n, ANGLES),
            "passive_published": (n, ANGLES),
            "passive_range": (n, 2),
        }
        for name, shape in shapes.items():
            value = arrays.get(f"{PREFIX}{name}")
            if value is None or value.shape != shape or not np.all(np.isfinite(value)):
                raise ExoError(
                    f"model.npz: '{PREFIX}{name}' must hold finite numbers of shape {shape}; make the twin again"
                )
        return Tolerance(**{name: np.asarray(arrays[f"{PREFIX}{name}"], float) for name in shapes})


def compute_tolerance(
    tree: KinematicTree,
    paths: MusclePaths,
    generic: MuscleModel,
    muscles: MuscleModel,
    gait: Gait,
    posture: Mapping[str, float],
    weight_height: float,
) -> Tolerance:
    """Tolerance data of a wearer.

    Parameters
    ----------
    tree, paths : of the wearer's scaled model.
    generic, muscles : before and after calibration to the wearer; the same where there was nothing to calibrate with.
        Calibration from a walk may lower strength, but not raise it.
    gait : the mean stride; moments of it, if there are any, are within the wearer's strength.
    posture : coordinate -> rad, the model's signs: mean posture in walking; others stand at the model's default.
    weight_height : Nm, body weight (N) times height (m).

    Raises
    ------
    ExoError : naming a leg coordinate that no muscle crosses.
    """
    for name in LEG_COORDINATES:
        if name not in paths.coordinates:
            raise ExoError(f"no muscle of the model crosses '{name}'; use a full-body model with leg muscles")
    n = len(LEG_COORDINATES)
    # Walking takes a part of anybody's strength: it can show that somebody is weak, not that they are strong.
    weaker = dataclasses.replace(
        muscles, max_isometric_force=np.minimum(muscles.max_isometric_force, generic.max_isometric_force)
    )
    rest = np.array([posture.get(name, tree.default[tree.index(name)]) for name in paths.coordinates])
    sign = np.array([flexion_sign(tree, name) for name in LEG_COORDINATES])
    column = [paths.coordinates.index(name) for name in LEG_COORDINATES]
    rest_flexion = sign * rest[column]
    angle = np.array([_grid(tree, name, own) for name, own in zip(LEG_COORDINATES, sign, strict=True)])
    strength, dynamometer = np.empty((n, 2, ANGLES, len(VELOCITIES))), np.empty((n, 2))
    fibres, published, limits = np.empty((n, ANGLES)), np.empty((n, ANGLES)), np.empty((n, 2))
    for row, name in enumerate(LEG_COORDINATES):
        before = _moments(paths, generic, rest, column[row], sign[row], angle[row])[0]
        after, fibres[row] = _moments(paths, weaker, rest, column[row], sign[row], angle[row])
        after = np.minimum(after, before)
        reached = weight_height * np.array(DYNAMOMETER_PEAK[name[:-2]])
        strongest = before[:, :, STILL].max(axis=1)
        dynamometer[row] = np.maximum(reached / np.maximum(strongest, reached), _effort(gait, name, angle[row], after))
        strength[row] = dynamometer[row][:, None, None] * after
        published[row] = _published(row, angle[row], rest_flexion)
        start = float(np.clip(rest_flexion[row], angle[row, 0], angle[row, -1]))
        bearable = PASSIVE_SHARE * strength[row, :, :, STILL]
        limits[row] = _range(angle[row], start, np.array([fibres[row], published[row]]), bearable)
    return Tolerance(angle, VELOCITIES, rest_flexion, strength, dynamometer, fibres, published, limits)


def _grid(tree: KinematicTree, coordinate: str, sign: float) -> FloatArray:
    """(ANGLES,) rad over the coordinate's range, rising, flexion positive."""
    i = tree.index(coordinate)
    low, high = sorted((sign * tree.lower[i], sign * tree.upper[i]))
    return np.linspace(low, high, ANGLES)


def _moments(
    paths: MusclePaths, muscles: MuscleModel, rest: FloatArray, column: int, sign: float, angle: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Strength (2, ANGLES, velocities) and the fibres' passive moment (ANGLES,) about one coordinate, Nm."""
    q = np.tile(rest, (ANGLES * len(VELOCITIES), 1))
    q[:, column] = sign * np.repeat(angle, len(VELOCITIES))
    qd = np.zeros_like(q)
    qd[:, column] = sign * np.tile(VELOCITIES, ANGLES)
    path = paths.evaluate(q, qd)
    fibres = muscles.fibres(path.length, path.velocity)
    arms = sign * path.arms[:, :, column]
    active = fibres.active * arms
    strength = np.array([np.maximum(-active, 0.0).sum(axis=1), np.maximum(active, 0.0).sum(axis=1)])
    shape = (ANGLES, len(VELOCITIES))
    # Passive force does not depend on velocity.
    return strength.reshape(2, *shape), (fibres.passive * arms).sum(axis=1).reshape(shape)[:, 0]


def _effort(gait: Gait, coordinate: str, grid: FloatArray, strength: FloatArray) -> FloatArray:
    """(2,) largest share, at most 1, of a strength (2, angles, velocities) at rest that the mean stride needs.

    At rest, because elastic tendons take up most of the joint's movement: calf fibres shorten little in push-off
    (Fukunaga et al. 2001, Proc R Soc B 268:229), while a rigid tendon would pass all of it on to them.
    """
    if not gait.moment_curves:
        return np.zeros(2)
    moment = gait.moment_curves[coordinate]
    able = _look_up(strength, grid, gait.curves[coordinate], np.zeros(len(moment)))
    needed = np.array([np.maximum(-moment, 0.0), np.maximum(moment, 0.0)])
    return np.asarray(np.minimum(1.0, (needed / np.maximum(able, 1e-9)).max(axis=1)))


def closed_velocity(curve: FloatArray, stride_time: float) -> FloatArray:
    """Angular velocity (101,) rad/s of a mean stride's closed curve."""
    step = stride_time / (len(curve) - 1)
    inner = np.gradient(np.concatenate([curve[-2:-1], curve, curve[1:2]]), step)
    return np.asarray(inner[1:-1])


def _look_up(table: FloatArray, grid: FloatArray, angle: FloatArray, velocity: FloatArray) -> FloatArray:
    """(2, n) of a table (2, angles, velocities) between its points; its border's values beyond."""
    i, u = _place(grid, angle)
    j, v = _place(VELOCITIES, velocity)
    near = (1.0 - v) * table[:, i, j] + v * table[:, i, j + 1]
    far = (1.0 - v) * table[:, i + 1, j] + v * table[:, i + 1, j + 1]
    return np.asarray((1.0 - u) * near + u * far)


def _published(row: int, angle: FloatArray, rest: FloatArray) -> FloatArray:
    """Published passive moment, (ANGLES,) Nm, about LEG_COORDINATES[row], the leg's other joints at rest."""
    first = row - row % 3
    posture = np.repeat(rest[first : first + 3, None], len(angle), axis=1)
    posture[row % 3] = angle
    return passive_moments(*posture)[row % 3]


def _range(angle: FloatArray, start: float, passive: FloatArray, bearable: FloatArray) -> tuple[float, float]:
    """Angles, rad, beside `start` where a passive moment (k, ANGLES) begins to exceed what is bearable (2, ANGLES)."""
    fine = np.linspace(angle[0], angle[-1], REFINE * len(angle))
    low, high = (np.interp(fine, angle, extreme(passive, axis=0)) for extreme in (np.min, np.max))
    into_extension = high > np.interp(fine, angle, bearable[EXTENSION])
    into_flexion = -low > np.interp(fine, angle, bearable[FLEXION])
    below, above = fine[into_extension & (fine < start)], fine[into_flexion & (fine > start)]
    return float(below.max(initial=angle[0])), float(above.min(initial=angle[-1]))


def _place(grid: FloatArray, values: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Cell of a rising grid, and the share of it, in which every value lies; the ends' for values beyond."""
    cell = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 2)
    return cell, np.clip((values - grid[cell]) / (grid[cell + 1] - grid[cell]), 0.0, 1.0)
