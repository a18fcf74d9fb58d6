"""The wearer's eighteen sagittal muscle groups in plain NumPy, fast enough for a live node.

Path lengths are polynomials fitted to the scaled OpenSim model, forces follow
the muscle curves of MuJoCo (a rigid tendon, no pennation) whose parameters were
fitted to OpenSim's fibres: the estimator and the simulated walker share one muscle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES, SIDES

FloatArray = NDArray[np.float64]

GROUPS = ("GLU", "HFL", "HAM", "RF", "VAS", "BFSH", "GAS", "SOL", "TA")
MUSCLES = tuple(f"{group}_{side}" for side in SIDES for group in GROUPS)
# group -> (OpenSim muscles of the Rajagopal family without side, joints crossed in the sagittal plane)
MEMBERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "GLU": (("glmax1", "glmax2", "glmax3", "glmed3", "addmagIsch"), ("hip_flexion",)),
    "HFL": (("iliacus", "psoas"), ("hip_flexion",)),
    "HAM": (("bflh", "semimem", "semiten"), ("hip_flexion", "knee_angle")),
    "RF": (("recfem",), ("hip_flexion", "knee_angle")),
    "VAS": (("vasint", "vaslat", "vasmed"), ("knee_angle",)),
    "BFSH": (("bfsh",), ("knee_angle",)),
    "GAS": (("gaslat", "gasmed"), ("knee_angle", "ankle_angle")),
    "SOL": (("soleus", "tibpost", "perlong", "perbrev", "fdl", "fhl"), ("ankle_angle",)),
    "TA": (("tibant", "edl", "ehl"), ("ankle_angle",)),
}
# Degree of the path polynomials; a muscle crosses one or two coordinates.
DEGREE = 5
# Columns of `muscle_curves` in model.npz.
CURVE_COLUMNS = (
    "peak_force",  # N
    "slack_length",  # m, path length at fibre length zero
    "optimal_length",  # m
    "shortest",  # optimal lengths; no active force below
    "longest",  # optimal lengths; no active force above
    "velocity_max",  # optimal lengths per s
    "passive_max",  # passive force at `longest`, of the peak force
    "eccentric_max",  # active force when stretched fast, of the isometric force
)


def active_force_length(length: FloatArray, shortest: FloatArray, longest: FloatArray) -> FloatArray:
    """MuJoCo's active force-length curve: four parabolas, one at `length` 1, zero outside (shortest, longest).

    Notes
    -----
    As documented for `mju_muscleGain`, mujoco 3.x. Arguments in optimal lengths, broadcast together.
    """
    below, above = 0.5 * (shortest + 1.0), 0.5 * (1.0 + longest)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = 0.5 * ((length - shortest) / (below - shortest)) ** 2
        crest_left = 1.0 - 0.5 * ((1.0 - length) / (1.0 - below)) ** 2
        crest_right = 1.0 - 0.5 * ((length - 1.0) / (above - 1.0)) ** 2
        fall = 0.5 * ((longest - length) / (longest - above)) ** 2
    left = np.where(length <= below, rise, crest_left)
    right = np.where(length <= above, crest_right, fall)
    inside = (length > shortest) & (length < longest)
    return np.where(inside, np.where(length <= 1.0, left, right), 0.0)


def passive_force_length(length: FloatArray, longest: FloatArray, passive_max: FloatArray) -> FloatArray:
    """MuJoCo's passive force (of the peak force): a parabola from optimal length, then a straight line."""
    half = 0.5 * (longest - 1.0)
    x = np.maximum(length - 1.0, 0.0) / half
    return passive_max * np.where(x <= 1.0, 0.5 * x**2, x - 0.5)


def force_velocity(velocity: FloatArray, eccentric_max: FloatArray) -> FloatArray:
    """MuJoCo's force-velocity curve; `velocity` in units of the maximum one, lengthening positive."""
    excess = eccentric_max - 1.0
    shortening = np.maximum(velocity + 1.0, 0.0) ** 2
    lengthening = np.where(velocity <= excess, eccentric_max - (excess - velocity) ** 2 / excess, eccentric_max)
    return np.where(velocity <= 0.0, shortening, lengthening)


@dataclasses.dataclass(frozen=True)
class PlanarMuscles:
    """Eighteen muscles over the six leg coordinates, order `exo_common.frames.LEG_COORDINATES`.

    Attributes
    ----------
    names : the 18 names.
    max_isometric_force : (18,) N.
    coordinates : (18, 2) indices into LEG_COORDINATES; one-joint muscles repeat
        theirs, with no coefficient in the second variable.
    centre, half_range : (18, 2) rad; the polynomials' variable is (q - centre) / half_range
        and the paths were fitted for variables in [-1, 1].
    coefficients : (18, DEGREE+1, DEGREE+1) m; of variable_1^i variable_2^j.
    curves : (18, 8), columns CURVE_COLUMNS.
    """

    names: tuple[str, ...]
    max_isometric_force: FloatArray
    coordinates: NDArray[np.int64]
    centre: FloatArray
    half_range: FloatArray
    coefficients: FloatArray
    curves: FloatArray

    @staticmethod
    def from_arrays(model: Mapping[str, NDArray[Any]]) -> PlanarMuscles:
        """Build from the arrays of a twin's model.npz.

        Raises
        ------
        ExoError : if an array is missing, has a wrong shape or is not finite.
        """
        n = len(MUSCLES)
        shapes = {
            "max_isometric_force": (n,),
            "path_coordinates": (n, 2),
            "path_centre": (n, 2),
            "path_half_range": (n, 2),
            "path_coefficients": (n, DEGREE + 1, DEGREE + 1),
            "muscle_curves": (n, len(CURVE_COLUMNS)),
        }
        for name, shape in shapes.items():
            if name not in model or model[name].shape != shape or not np.all(np.isfinite(model[name])):
                raise ExoError(f"model.npz: '{name}' must hold finite numbers of shape {shape}; make the twin again")
        names = tuple(str(name) for name in model.get("muscles", ()))
        if names != MUSCLES:
            raise ExoError("model.npz: 'muscles' does not list the 18 muscle groups in order; make the twin again")
        return PlanarMuscles(
            names,
            np.asarray(model["max_isometric_force"], float),
            np.asarray(model["path_coordinates"], np.int64),
            np.asarray(model["path_centre"], float),
            np.asarray(model["path_half_range"], float),
            np.asarray(model["path_coefficients"], float),
            np.asarray(model["muscle_curves"], float),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays :meth:`from_arrays` reads."""
        return {
            "muscles": np.array(self.names),
            "max_isometric_force": self.max_isometric_force,
            "path_coordinates": self.coordinates,
            "path_centre": self.centre,
            "path_half_range": self.half_range,
            "path_coefficients": self.coefficients,
            "muscle_curves": self.curves,
        }

    def length(self, q: FloatArray) -> FloatArray:
        """Path lengths, (18,) m, at leg coordinates `q` (6,) rad."""
        return self._length_and_slopes(np.asarray(q, float))[0]

    def moment_arms(self, q: FloatArray) -> FloatArray:
        """Moment arm of every muscle about every coordinate.

        Parameters
        ----------
        q : (6,) rad. Outside the range the paths were fitted on, the moment arm
            at the border is kept, so that it never runs away.

        Returns
        -------
        (18, 6) m; positive where shortening the muscle increases the coordinate
        (OpenSim's sign).

        Notes
        -----
        r = -dL/dq on the fitted length polynomials (Sherman et al. 2013, eq. 4).
        """
        slopes = self._length_and_slopes(np.asarray(q, float))[1]
        arms = np.zeros((len(self.names), len(LEG_COORDINATES)))
        rows = np.arange(len(self.names))
        # One-joint muscles repeat their coordinate and have no second slope: adding twice is right.
        np.add.at(arms, (rows, self.coordinates[:, 0]), -slopes[:, 0])
        np.add.at(arms, (rows, self.coordinates[:, 1]), -slopes[:, 1])
        return arms

    def force(self, activation: FloatArray, q: FloatArray, qd: FloatArray) -> FloatArray:
        """Muscle forces, (18,) N, tension positive.

        Parameters
        ----------
        activation : (18,) in [0, 1].
        q, qd : (6,) rad and rad/s.
        """
        length, slopes = self._length_and_slopes(np.asarray(q, float))
        velocity = (slopes * np.asarray(qd, float)[self.coordinates]).sum(axis=1)
        return self.tension(activation, length, velocity)

    def tension(self, activation: FloatArray, length: FloatArray, velocity: FloatArray) -> FloatArray:
        """Muscle forces, (18,) N, at path lengths (m) and lengthening velocities (m/s)."""
        peak, slack, optimal, shortest, longest, fastest, passive, eccentric = self.curves.T
        fibre = (length - slack) / optimal
        active = active_force_length(fibre, shortest, longest) * force_velocity(
            velocity / (optimal * fastest), eccentric
        )
        return peak * (np.asarray(activation, float) * active + passive_force_length(fibre, longest, passive))

    def moments(self, activation: FloatArray, q: FloatArray, qd: FloatArray) -> FloatArray:
        """Net muscle moments, (6,) Nm, flexion positive."""
        return self.force(activation, q, qd) @ self.moment_arms(q)

    def _length_and_slopes(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lengths (18,) m and their slopes (18, 2) m/rad about each muscle's own coordinates."""
        own = q[self.coordinates]
        variable = np.clip((own - self.centre) / self.half_range, -1.0, 1.0)
        beyond = own - (self.centre + variable * self.half_range)
        exponents = np.arange(DEGREE + 1)
        powers = variable[:, :, None] ** exponents
        slopes_of_powers = np.zeros_like(powers)
        slopes_of_powers[:, :, 1:] = exponents[1:] * powers[:, :, :-1]
        rows = np.matmul(self.coefficients, powers[:, 1, :, None])[:, :, 0]
        length = (powers[:, 0] * rows).sum(axis=1)
        slope_1 = (slopes_of_powers[:, 0] * rows).sum(axis=1)
        columns = np.matmul(self.coefficients, slopes_of_powers[:, 1, :, None])[:, :, 0]
        slope_2 = (powers[:, 0] * columns).sum(axis=1)
        slopes = np.stack([slope_1, slope_2], axis=1) / self.half_range
        return length + (slopes * beyond).sum(axis=1), slopes
