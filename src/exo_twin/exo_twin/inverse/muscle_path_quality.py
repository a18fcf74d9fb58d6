"""How good fitted muscle paths are, and a file that keeps them."""

from __future__ import annotations

import dataclasses
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_twin.inverse.muscle_path_samples import PathSamples
from exo_twin.inverse.muscle_paths import MusclePaths

FloatArray = NDArray[np.float64]

LENGTH_LIMIT_MM, ARM_LIMIT_MM = 1.0, 2.0  # RMS on held-out poses, beyond which a muscle is named in a warning
PLACE_PCT = (5.0, 95.0)  # of the jumped poses, what is told as their range


@dataclasses.dataclass(frozen=True)
class PathQuality:
    """How well one muscle's polynomial follows the model, on poses that neither fit nor choice of degree have seen.

    Attributes
    ----------
    rms_length_mm, worst_length_mm : of the path length, where the model's own path has not jumped.
    rms_arm_mm : of the moment arm about the coordinate where it is worst; worst_arm_mm : at the worst pose. Likewise.
    jumps : share of the poses in which the model's own path has jumped (`muscle_path_jumps`).
    jumps_at : where, e.g. "hip_flexion_r -30 to -17 deg"; empty without jumps.
    rms_length_all_mm, rms_arm_all_mm : with those poses.
    from_solver : whether OpenSim's lengths and moment arms contradict each other, so that its solver's arms were used.
    separate : whether its length and its moment arms are two polynomials, for no single one follows both.
    """

    rms_length_mm: float
    worst_length_mm: float
    rms_arm_mm: float
    worst_arm_mm: float
    jumps: float
    jumps_at: str
    rms_length_all_mm: float
    rms_arm_all_mm: float
    from_solver: bool
    separate: bool

    def within_limits(self) -> bool:
        """Whether both RMS errors are acceptable where the model's own path has not jumped."""
        return self.rms_length_mm <= LENGTH_LIMIT_MM and self.rms_arm_mm <= ARM_LIMIT_MM

    def torn(self) -> bool:
        """Whether jumps of the model's own path take the errors beyond the limits."""
        return self.jumps > 0.0 and (self.rms_length_all_mm > LENGTH_LIMIT_MM or self.rms_arm_all_mm > ARM_LIMIT_MM)


@dataclasses.dataclass(frozen=True)
class PathFit:
    """Paths, and the quality of each by muscle."""

    paths: MusclePaths
    quality: dict[str, PathQuality]

    @property
    def warnings(self) -> list[str]:
        """A sentence on muscles whose paths jump in the model, one on those that no polynomial follows well."""
        found = []
        jumping = [
            f"{name} (in {100.0 * own.jumps:.1f} % of poses, at {own.jumps_at})"
            for name, own in self.quality.items()
            if own.torn()
        ]
        if jumping:
            found.append(
                f"the model's own paths of {', '.join(jumping)} jump, off a wrapping surface or onto a point; they are "
                "continued as in most poses, so do not read much into these muscles there"
            )
        bad = {name: own for name, own in self.quality.items() if not own.within_limits()}
        if bad:
            length = max(own.rms_length_mm for own in bad.values())
            arm = max(own.rms_arm_mm for own in bad.values())
            found.append(
                f"no smooth path follows {', '.join(bad)} closely: lengths are known to {length:.1f} mm "
                f"and moment arms to {arm:.1f} mm RMS (limits {LENGTH_LIMIT_MM:g} and {ARM_LIMIT_MM:g}); do not read "
                "much into these muscles in deep or unusual postures"
            )
        return found

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


def errors(paths: MusclePaths, samples: PathSamples) -> FloatArray:
    """(n, m): the larger of the errors of length and moment arms, in units of the limits."""
    state = paths.evaluate(samples.q)
    arms = np.abs(state.arms - samples.arms).max(axis=2)
    return 1e3 * np.maximum(np.abs(state.length - samples.length) / LENGTH_LIMIT_MM, arms / ARM_LIMIT_MM)


def judged(
    paths: MusclePaths, held_out: PathSamples, jumped: NDArray[np.bool_], from_solver: NDArray[np.bool_]
) -> PathFit:
    """The paths with their quality on held-out samples, of which `jumped` (n, m) are off the model's main branch."""
    state = paths.evaluate(held_out.q)
    length = 1e3 * np.abs(state.length - held_out.length)
    arms = 1e3 * np.abs(state.arms - held_out.arms)
    separate = (paths.coefficients != paths.arm_coefficients).any(axis=1)
    quality = {}
    for i, name in enumerate(paths.muscles):
        steady = ~jumped[:, i]
        quality[name] = PathQuality(
            _rms(length[steady, i]),
            float(length[steady, i].max(initial=0.0)),
            max(map(_rms, arms[steady, i].T)),
            float(arms[steady, i].max(initial=0.0)),
            float(jumped[:, i].mean()),
            _place(paths, i, held_out.q[~steady]),
            _rms(length[:, i]),
            max(map(_rms, arms[:, i].T)),
            bool(from_solver[i]),
            bool(separate[i]),
        )
    return PathFit(paths, quality)


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def _place(paths: MusclePaths, muscle: int, q: FloatArray) -> str:
    """The coordinate whose range the poses (n, c) fill least, and the part that they fill."""
    if not len(q):
        return ""
    own = np.flatnonzero(paths.crosses[muscle])
    low, high = np.percentile(q[:, own], PLACE_PCT, axis=0)
    k = int(np.argmin((high - low) / np.ptp(paths.ranges[own], axis=1)))
    return f"{paths.coordinates[own[k]]} {np.rad2deg(low[k]):.0f} to {np.rad2deg(high[k]):.0f} deg"
