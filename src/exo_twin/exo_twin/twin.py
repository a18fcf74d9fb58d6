"""The twin artefact as live nodes read it: no opensim, no mujoco."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_common.artefact import read_manifest
from exo_common.errors import ExoError
from exo_common.frames import LEG_COORDINATES
from exo_safety.envelope import Envelope

KIND = "twin"
GAIT_FILE = "gait.yaml"
CURVE_POINTS = 101
CURVE_KEYS = ("curves", "curves_sd", "moment_curves", "moment_curves_sd")


@dataclasses.dataclass(frozen=True)
class Gait:
    """The wearer's mean stride.

    Attributes
    ----------
    stride_time : s.
    speed : m/s; None where the recording does not tell.
    duty_factor : stance as a fraction of the stride.
    phase_offset_right : right leg's phase minus the left's, in strides (about 0.5).
    strides : one mapping per complete stride found: side, start s, end s.
    rom_deg : range of motion per coordinate, deg.
    curves, curves_sd : coordinate -> (101,) rad over 0..100 % of that leg's own
        gait cycle; coordinates without a side follow the left leg's cycle.
    source : where the curves come from, in words.
    moment_curves, moment_curves_sd : leg coordinate -> (101,) Nm, flexion and dorsiflexion positive, over that leg's
        own gait cycle; empty where the recording tells no moments. Hip adduction and the like in the model's signs.
    """

    stride_time: float
    speed: float | None
    duty_factor: float
    phase_offset_right: float
    strides: list[dict[str, Any]]
    rom_deg: dict[str, float]
    curves: dict[str, NDArray[np.float64]]
    curves_sd: dict[str, NDArray[np.float64]]
    source: str
    moment_curves: dict[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    moment_curves_sd: dict[str, NDArray[np.float64]] = dataclasses.field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write as YAML that a person can read."""
        raw = dataclasses.asdict(self)
        for key in CURVE_KEYS:
            raw[key] = {name: [round(float(v), 6) for v in curve] for name, curve in raw[key].items()}
        path.write_text(yaml.safe_dump(raw, sort_keys=False, default_flow_style=None, width=120), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Gait:
        """Read a file written by :meth:`save`.

        Raises
        ------
        ExoError : if the file is missing, lacks a leg coordinate or holds a broken curve.
        """
        try:
            raw = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            for key in CURVE_KEYS:
                raw[key] = {name: np.asarray(curve, dtype=float) for name, curve in raw.get(key, {}).items()}
            gait = Gait(**raw)
        except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError):
            raise ExoError(
                f"{path} is missing or damaged; make the twin again with ./exo personalise <session>"
            ) from None
        told = [(gait.curves, name) for name in LEG_COORDINATES]
        told += [
            (own, name)
            for own in (gait.moment_curves, gait.moment_curves_sd)
            if own
            for name in dict.fromkeys((*LEG_COORDINATES, *own))
        ]
        for own, name in told:
            curve = own.get(name)
            if curve is None or curve.shape != (CURVE_POINTS,) or not np.all(np.isfinite(curve)):
                raise ExoError(
                    f"{path}: curve '{name}' must hold {CURVE_POINTS} finite numbers; "
                    "make the twin again with ./exo personalise"
                )
        return gait


@dataclasses.dataclass(frozen=True)
class Twin:
    """A wearer's twin, loaded from its folder."""

    folder: Path
    wearer: str
    gait: Gait
    model: dict[str, NDArray[Any]]
    envelope: Envelope
    warnings: list[str]

    @property
    def walker(self) -> Path:
        """The MuJoCo walker."""
        return self.folder / "walker.xml"

    @staticmethod
    def load(folder: Path, wearer: str | None = None) -> Twin:
        """Load a twin and verify its files against the manifest.

        Raises
        ------
        ExoError : if it is no twin, damaged, or of another wearer.
        """
        manifest = read_manifest(folder, KIND, wearer)
        with np.load(folder / "model.npz", allow_pickle=False) as arrays:
            model = {name: arrays[name] for name in arrays.files}
        return Twin(
            folder,
            str(manifest["wearer"]),
            Gait.load(folder / GAIT_FILE),
            model,
            Envelope.load(folder / "envelope.yaml"),
            list(manifest["warnings"]),
        )
