"""The envelope: what the exo may do to this wearer, side by side, frozen and readable.

The twin computes an envelope; the supervisor and the device enforce it. Nothing
learns it, and no file can exceed :data:`HARD_CAPS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exo_common.errors import ExoError

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class SideEnvelope:
    """Limits of one hip; flexion positive.

    Attributes
    ----------
    angle_min_rad, angle_max_rad : comfortable hip flexion range, rad.
    velocity_max_rad_s : hip speed in either direction, rad/s.
    torque_max_nm : torque on the wearer in either direction, Nm.
    torque_rate_max_nm_s : change of torque in normal use, Nm/s.
    power_max_w : mechanical power in either direction, W.

    Raises
    ------
    ExoError : if a number is not finite, a limit is not positive or the range is empty.
    """

    angle_min_rad: float
    angle_max_rad: float
    velocity_max_rad_s: float
    torque_max_nm: float
    torque_rate_max_nm_s: float
    power_max_w: float

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ExoError(f"{field.name} must be a finite number, not {value!r}; make the twin again")
            object.__setattr__(self, field.name, float(value))
            if not field.name.startswith("angle") and value <= 0.0:
                raise ExoError(f"{field.name} must be positive, not {value}; make the twin again")
        if self.angle_min_rad >= self.angle_max_rad:
            raise ExoError(
                f"angle_min_rad {self.angle_min_rad} is not below angle_max_rad {self.angle_max_rad}; "
                "make the twin again"
            )


# Absolute limits of the design, independent of the wearer.
# Angles: the widest published passive hip range of healthy adults (about -30..125 deg)
# plus the 15 deg by which pelvis-tilt conventions differ on the extension side.
# Velocity: twice the hip speed of fast walking (5-6 rad/s). Torque: strongest portable
# hip exos apply 15-25 Nm. Rate: full torque in 50 ms. Power: hip bursts of fast walking.
HARD_CAPS = SideEnvelope(
    angle_min_rad=-0.79,
    angle_max_rad=2.27,
    velocity_max_rad_s=12.0,
    torque_max_nm=25.0,
    torque_rate_max_nm_s=500.0,
    power_max_w=150.0,
)


@dataclasses.dataclass(frozen=True)
class Envelope:
    """The envelope of one wearer.

    Attributes
    ----------
    wearer : whose envelope this is.
    left, right : the limits of each hip.
    source : how the limits were found, in words.

    Raises
    ------
    ExoError : if a limit lies beyond :data:`HARD_CAPS`.
    """

    wearer: str
    left: SideEnvelope
    right: SideEnvelope
    source: str

    def __post_init__(self) -> None:
        for name, side in (("left", self.left), ("right", self.right)):
            for key, limit in dataclasses.asdict(HARD_CAPS).items():
                value = getattr(side, key)
                beyond = value < limit if key == "angle_min_rad" else value > limit
                if beyond:
                    raise ExoError(
                        f"{name}.{key} = {value} lies beyond the hard cap {limit}; choose a limit inside the cap"
                    )

    @property
    def sides(self) -> tuple[SideEnvelope, SideEnvelope]:
        """Left and right, the order of every message."""
        return (self.left, self.right)

    def save(self, path: Path) -> None:
        """Write as YAML that a person can read."""
        raw = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Envelope:
        """Read a file written by :meth:`save`.

        Raises
        ------
        ExoError : if the file is missing or no envelope, a key is missing,
            unknown or broken, or a limit lies beyond the hard caps.
        """
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            raw = None
        if not isinstance(raw, dict):
            raise ExoError(f"{path} is missing or no envelope; make the twin again with ./exo personalise <session>")
        if raw.pop("schema_version", None) != SCHEMA_VERSION:
            raise ExoError(f"{path} has another schema version than {SCHEMA_VERSION}; make the twin again")
        _only(raw, Envelope, str(path))
        try:
            sides = {}
            for name in ("left", "right"):
                _only(raw[name], SideEnvelope, f"side {name}")
                sides[name] = SideEnvelope(**raw[name])
            return Envelope(str(raw["wearer"]), sides["left"], sides["right"], str(raw["source"]))
        except ExoError as error:
            raise ExoError(f"{path}: {error}") from None


def _only(raw: Any, cls: type, where: str) -> None:
    """Refuse anything but a mapping with exactly the fields of `cls`."""
    names = {field.name for field in dataclasses.fields(cls)}
    if not isinstance(raw, Mapping):
        raise ExoError(f"{where} must hold {', '.join(sorted(names))}; make the twin again")
    for word, keys in (("unknown", set(raw) - names), ("missing", names - set(raw))):
        if keys:
            raise ExoError(f"{where}: {word} key '{sorted(map(str, keys))[0]}'; make the twin again")
