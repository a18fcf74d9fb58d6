"""How good fitted muscle paths are, and a file that keeps them."""

from __future__ import annotations

import dataclasses
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from exo_common.errors import ExoError
from exo_twin.inverse.muscle_path_samples import PathSamples
from exo_twin.inverse.muscle_paths import MusclePaths

LENGTH_LIMIT_MM, ARM_LIMIT_MM = 1.0, 2.0  # RMS on held-out poses, beyond which a muscle is named in a warning


@dataclasses.dataclass(frozen=True)
class PathQuality:
    """How well one muscle's polynomial follows the model, on poses that neither fit nor choice of degree have seen.

    Attributes
    ----------
    rms_length_mm, worst_length_mm : of the path length.
    rms_arm_mm : of the moment arm about the coordinate where it is worst; worst_arm_mm : at the worst pose.
    from_solver : whether OpenSim's lengths and moment arms contradict each other, so that its solver's arms were used.
    separate : whether its length and its moment arms are two polynomials, for no single one follows both.
    """

    rms_length_mm: float
    worst_length_mm: float
    rms_arm_mm: float
    worst_arm_mm: float
    from_solver: bool
    separate: bool

    def within_limits(self) -> bool:
        """Whether both RMS errors are acceptable."""
        return self.rms_length_mm <= LENGTH_LIMIT_MM and self.rms_arm_mm <= ARM_LIMIT_MM


@dataclasses.dataclass(frozen=True)
class PathFit:
    """Paths, and the quality of each by muscle."""

    paths: MusclePaths
    quality: dict[str, PathQuality]

    @property
    def warnings(self) -> list[str]:
        """One sentence for every muscle beyond the limits."""
        return [
            f"the length of {name} is known to {found.rms_length_mm:.1f} mm and its moment arm to "
            f"{found.rms_arm_mm:.1f} mm RMS (limits {LENGTH_LIMIT_MM:g} and {ARM_LIMIT_MM:g}), because its path jumps "
            "over a wrapping surface of the model; do not read much into this muscle in deep or unusual postures"
            for name, found in self.quality.items()
            if not found.within_limits()
        ]

    def save(self, path: Path) -> None:
        """Write an .npz whole or not at all, whoever else writes the same."""
        columns = {
            f"quality_{field.name}": np.array([getattr(row, field.name) for row in self.quality.values()])
            for field in dataclasses.fields(PathQuality)
        }
        arrays: dict[str, Any] = {**self.paths.arrays(), **columns}
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez_compressed(file, **arrays)
        Path(file.name).replace(path)

    @staticmethod
    def load(path: Path) -> PathFit | None:
        """What :meth:`save` wrote; None if there is nothing, or it is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            paths = MusclePaths.from_arrays(arrays)
            columns = [arrays[f"quality_{field.name}"].tolist() for field in dataclasses.fields(PathQuality)]
            rows = [PathQuality(*row) for row in zip(*columns, strict=True)]
            return PathFit(paths, dict(zip(paths.muscles, rows, strict=True)))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, ExoError):
            return None


def judged(paths: MusclePaths, held_out: PathSamples, from_solver: np.ndarray[Any, np.dtype[np.bool_]]) -> PathFit:
    """The paths with their quality on held-out samples."""
    state = paths.evaluate(held_out.q)
    length = 1e3 * np.abs(state.length - held_out.length)
    arms = 1e3 * np.abs(state.arms - held_out.arms)
    separate = (paths.coefficients != paths.arm_coefficients).any(axis=1)
    quality = {
        name: PathQuality(
            float(np.sqrt(np.mean(length[:, i] ** 2))),
            float(length[:, i].max()),
            float(np.sqrt(np.mean(arms[:, i] ** 2, axis=0)).max()),
            float(arms[:, i].max()),
            bool(from_solver[i]),
            bool(separate[i]),
        )
        for i, name in enumerate(paths.muscles)
    }
    return PathFit(paths, quality)
