"""Muscles as numbers: a Hill-type muscle's parameters and its own curves, without opensim.

A fibre pulls at a pennation angle on a tendon (constant-height pennation, Zajac 1989). Everything is vectorised over
n frames and m muscles. A muscle's curves are those of its OpenSim class, tabulated by `muscles_from_opensim`.

Left out: the fibre damping of Millard's muscle, which is there to let forward integration through points where the
velocity equation is singular, and is of no use when velocities are known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.muscle_curves import Curves

FloatArray = NDArray[np.float64]

PREFIX = "muscle_model_"
CURVES = ("active_force_length", "force_velocity", "passive_force_length", "tendon_strain")
NUMBERS = (
    "max_isometric_force",
    "optimal_fiber_length",
    "tendon_slack_length",
    "pennation_angle_at_optimal",
    "max_contraction_velocity",
    "min_activation",
)

# Fibres more oblique than this (84 degrees) pull nowhere; OpenSim's muscles stop at the same cosine.
COS_PENNATION_MIN = 0.1


@dataclasses.dataclass(frozen=True)
class FibreState:
    """Fibres of m muscles in n frames, all (n, m). A muscle pulls with `active * activation + passive`.

    Attributes
    ----------
    active : N along the tendon per unit of activation.
    passive : N along the tendon.
    length : optimal fibre lengths.
    velocity : of lengthening, in units of the largest contraction velocity.
    cos_pennation : between fibre and tendon.
    """

    active: FloatArray
    passive: FloatArray
    length: FloatArray
    velocity: FloatArray
    cos_pennation: FloatArray


@dataclasses.dataclass(frozen=True)
class MuscleModel:
    """m muscles.

    Attributes
    ----------
    names : in the order of every (m,) array.
    max_isometric_force : N.
    optimal_fiber_length, tendon_slack_length : m.
    pennation_angle_at_optimal : rad, at the optimal fibre length.
    max_contraction_velocity : optimal fibre lengths per s.
    min_activation : the lowest activation the model allows.
    active_force_length, passive_force_length : force / max isometric force over fibre length / optimal fibre length.
    force_velocity : factor over normalised velocity, lengthening positive; at full activation where it depends on it.
    tendon_strain : the tendon's strain over the square root of force / max isometric force (the root, because the toe
        of a tendon's curve makes strain rise like it).
    """

    names: tuple[str, ...]
    max_isometric_force: FloatArray
    optimal_fiber_length: FloatArray
    tendon_slack_length: FloatArray
    pennation_angle_at_optimal: FloatArray
    max_contraction_velocity: FloatArray
    min_activation: FloatArray
    active_force_length: Curves
    force_velocity: Curves
    passive_force_length: Curves
    tendon_strain: Curves

    @cached_property
    def height(self) -> FloatArray:
        """(m,) m, of the fibres across the tendon's line, the same at every length."""
        return np.asarray(self.optimal_fiber_length * np.sin(self.pennation_angle_at_optimal))

    def fibres(
        self,
        length: FloatArray,
        velocity: FloatArray,
        tendon_force: FloatArray | None = None,
        tendon_velocity: FloatArray | float = 0.0,
    ) -> FibreState:
        """Fibres of muscles whose whole path is so long and lengthens so fast.

        Parameters
        ----------
        length, velocity : (n, m) m and m/s, of the path.
        tendon_force : (n, m) N that stretch the tendon; None: a rigid tendon at its slack length.
        tendon_velocity : (n, m) m/s at which the tendon lengthens.
        """
        tendon = self.tendon_slack_length if tendon_force is None else self.tendon_length(tendon_force)
        shortest = self.height * (COS_PENNATION_MIN / np.sqrt(1.0 - COS_PENNATION_MIN**2))
        along = np.maximum(length - tendon, shortest)
        fibre = np.hypot(along, self.height)
        cosine = along / fibre
        speed = (velocity - tendon_velocity) * cosine / (self.optimal_fiber_length * self.max_contraction_velocity)
        stretch = fibre / self.optimal_fiber_length
        active = self.active_force_length.at(stretch)[0] * self.force_velocity.at(speed)[0]
        passive = self.passive_force_length.at(stretch)[0]
        along_tendon = self.max_isometric_force * cosine
        return FibreState(
            along_tendon * np.maximum(active, 0.0), along_tendon * np.maximum(passive, 0.0), stretch, speed, cosine
        )

    def tendon_length(self, force: FloatArray) -> FloatArray:
        """Length (n, m) m of tendons pulled with (n, m) N; slack length without force."""
        root = np.sqrt(np.maximum(force, 0.0) / self.max_isometric_force)
        return np.asarray(self.tendon_slack_length * (1.0 + self.tendon_strain.at(root)[0]))

    def scaled(
        self,
        strength: FloatArray | float = 1.0,
        optimal_fiber_length: FloatArray | float = 1.0,
        tendon_slack_length: FloatArray | float = 1.0,
    ) -> MuscleModel:
        """The same muscles with their numbers multiplied by factors, (m,) or one for all."""
        return dataclasses.replace(
            self,
            max_isometric_force=self.max_isometric_force * strength,
            optimal_fiber_length=self.optimal_fiber_length * optimal_fiber_length,
            tendon_slack_length=self.tendon_slack_length * tendon_slack_length,
        )

    def select(self, muscles: NDArray[np.int64]) -> MuscleModel:
        """Some of the muscles, by index."""
        names = tuple(self.names[i] for i in muscles)
        parts: dict[str, Any] = {name: getattr(self, name)[muscles] for name in NUMBERS}
        parts |= {name: getattr(self, name).of(muscles) for name in CURVES}
        return MuscleModel(names, **parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays under names that begin with "muscle_model_"."""
        found: dict[str, NDArray[Any]] = {"names": np.array(self.names, dtype=np.str_)}
        found |= {name: getattr(self, name) for name in NUMBERS}
        for name in CURVES:
            curves: Curves = getattr(self, name)
            found[f"{name}_grid"] = np.array([curves.start, curves.step])
            found[f"{name}_value"], found[f"{name}_slope"] = curves.value, curves.slope
            found[f"{name}_row"] = curves.row
        return {f"{PREFIX}{name}": value for name, value in found.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> MuscleModel:
        """The muscles written by :meth:`arrays`, e.g. from `Twin.model`.

        Raises
        ------
        ExoError : if they are missing, do not fit together or are no numbers.
        """
        try:
            a = {name[len(PREFIX) :]: value for name, value in arrays.items() if name.startswith(PREFIX)}
            names = tuple(map(str, a["names"]))
            numbers = {name: np.asarray(a[name], float) for name in NUMBERS}
            curves: dict[str, Curves] = {}
            for name in CURVES:
                start, step = map(float, a[f"{name}_grid"])
                row = np.asarray(a[f"{name}_row"], np.int64)
                curves[name] = Curves(start, step, a[f"{name}_value"], a[f"{name}_slope"], row)
                fits = curves[name].value.shape == curves[name].slope.shape and row.max() < len(curves[name].value)
                if not fits or not np.all(np.isfinite(curves[name].value)) or row.shape != (len(names),):
                    raise ValueError(f"the curves '{name}'")
            for name, value in numbers.items():
                if value.shape != (len(names),) or not np.all(np.isfinite(value)):
                    raise ValueError(name)
            parts: dict[str, Any] = {**numbers, **curves}
            return MuscleModel(names, **parts)
        except (KeyError, ValueError, IndexError) as error:
            raise ExoError(
                f"the twin's muscles are missing or damaged ({error}); make the twin again with ./exo personalise"
            ) from None
