"""The URDF of one wearer in the exo, from the twin's own lengths and masses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xacro
from ament_index_python.packages import get_package_share_directory
from numpy.typing import NDArray

from exo_common.errors import ExoError

FOOT_LENGTH_TO_HEIGHT = 0.152  # Winter, Biomechanics and Motor Control, 2009, table 4.1
TORSO_LENGTH_TO_HEIGHT = 0.288  # hip to shoulder, same source


@dataclasses.dataclass(frozen=True)
class Wearer:
    """Lengths (m) and masses (kg) of the wearer; both legs alike. The defaults are a generic adult."""

    pelvis_mass: float = 9.94
    torso_mass: float = 37.52
    thigh_mass: float = 7.0
    shank_mass: float = 3.255
    foot_mass: float = 1.015
    hip_forward: float = -0.056
    hip_half_width: float = 0.084
    hip_height: float = -0.078
    torso_length: float = 0.5
    thigh_length: float = 0.429
    shank_length: float = 0.431
    foot_length: float = 0.266
    ankle_height: float = 0.068

    @property
    def mass(self) -> float:
        """Total mass, kg."""
        return self.pelvis_mass + self.torso_mass + 2 * (self.thigh_mass + self.shank_mass + self.foot_mass)

    @property
    def pelvis_above_ground(self) -> float:
        """Height of the pelvis frame when standing straight, m."""
        return self.thigh_length + self.shank_length + self.ankle_height - self.hip_height

    @staticmethod
    def from_model(model: Mapping[str, NDArray[Any]]) -> Wearer:
        """Lengths and masses from a twin's `model.npz`; the two legs are averaged.

        Raises
        ------
        ExoError : if the arrays hold no segments.
        """
        try:
            names = [str(name) for name in model["segments"]]
            positions = dict(zip(names, np.asarray(model["segment_position"], dtype=float), strict=True))
            masses = dict(zip(names, (float(m) for m in model["segment_mass"]), strict=True))
            height, sole = float(model["height"]), np.asarray(model["sole"], dtype=float)

            def mass(part: str) -> float:
                return (masses[f"{part}_l"] + masses[f"{part}_r"]) / 2

            def length(child: str) -> float:
                return float(np.linalg.norm(positions[f"{child}_l"]) + np.linalg.norm(positions[f"{child}_r"])) / 2

            left, right = positions["thigh_l"], positions["thigh_r"]
            return Wearer(
                pelvis_mass=masses["pelvis"],
                torso_mass=masses["torso"],
                thigh_mass=mass("thigh"),
                shank_mass=mass("shank"),
                foot_mass=mass("foot"),
                hip_forward=float(left[0] + right[0]) / 2,
                hip_half_width=float(left[1] - right[1]) / 2,
                hip_height=float(left[2] + right[2]) / 2,
                torso_length=TORSO_LENGTH_TO_HEIGHT * height,
                thigh_length=length("shank"),
                shank_length=length("foot"),
                foot_length=FOOT_LENGTH_TO_HEIGHT * height,
                ankle_height=float(-sole[:, 2].min()),
            )
        except (KeyError, ValueError, IndexError):
            raise ExoError(
                "the twin's model.npz holds no segments; make the twin again with ./exo personalise"
            ) from None


def load_wearer(twin: Path | None) -> Wearer:
    """The wearer of a twin folder, or the generic adult when there is none.

    Raises
    ------
    ExoError : if the folder holds no readable model.
    """
    if twin is None:
        return Wearer()
    try:
        with np.load(twin / "model.npz", allow_pickle=False) as arrays:
            return Wearer.from_model({name: arrays[name] for name in arrays.files})
    except (OSError, ValueError):
        raise ExoError(f"{twin} holds no readable model.npz; give the folder of a twin") from None


def describe(wearer: Wearer) -> str:
    """The URDF of a wearer in the exo.

    Raises
    ------
    ExoError : if exo_description is not installed.
    """
    try:
        path = Path(get_package_share_directory("exo_description"), "urdf", "exo.urdf.xacro")
    except LookupError:
        raise ExoError("package exo_description is not installed; build the workspace") from None
    values = {name: repr(float(value)) for name, value in dataclasses.asdict(wearer).items()}
    return str(xacro.process_file(str(path), mappings=values).toxml())
