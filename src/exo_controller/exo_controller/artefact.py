"""The controller artefact: `policy.yaml` with everything the live policy needs, `evaluation.json` beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_common.artefact import MANIFEST, read_manifest, sha256
from exo_common.errors import ExoError
from exo_common.frames import HIPS
from exo_common.parameters import from_mapping
from exo_controller.profile import CURVE_POINTS, Assist, Release
from exo_safety.envelope import HARD_CAPS

KIND = "controller"
POLICY_FILE, EVALUATION_FILE = "policy.yaml", "evaluation.json"
POLICY_SCHEMA = 1
POLICY_TYPE = "phase_profile"
# What the policy looks at, in order; a file that names other features is for another policy.
FEATURES = tuple(f"{hip}/{quantity}" for quantity in ("position", "velocity") for hip in HIPS)
RATE_HZ = 100
REMAKE = "make it again with ./exo personalise <session>"


@dataclasses.dataclass(frozen=True)
class Policy:
    """A phase-based controller.

    Attributes
    ----------
    wearer : whom it was made for.
    assist, release : how much help, and when it is let through.
    left_nm, right_nm : (101,) hip flexion torque over 0..100 % of each leg's own gait cycle, Nm.
    """

    wearer: str
    assist: Assist
    release: Release
    left_nm: NDArray[np.float64]
    right_nm: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write as YAML that a person can read."""
        raw = {
            "schema_version": POLICY_SCHEMA,
            "type": POLICY_TYPE,
            "wearer": self.wearer,
            "features": list(FEATURES),
            "rate_hz": RATE_HZ,
            "assist": dataclasses.asdict(self.assist),
            "release": dataclasses.asdict(self.release),
            "profile_nm": {
                "left": [round(float(v), 5) for v in self.left_nm],
                "right": [round(float(v), 5) for v in self.right_nm],
            },
        }
        path.write_text(yaml.safe_dump(raw, sort_keys=False, default_flow_style=None, width=120), encoding="utf-8")

    @staticmethod
    def load(folder: Path, wearer: str, twin: Path | None = None) -> Policy:
        """Read a controller folder for this wearer, and for this very `twin` folder where one is given.

        Raises
        ------
        ExoError : if the folder is no controller or damaged, or its wearer, twin, schema,
            features, rate or profile do not fit.
        """
        made_for = read_manifest(folder, KIND, wearer).get("inputs", {}).get("twin")
        if twin is not None and made_for != sha256(twin / MANIFEST):
            raise ExoError(f"{folder} was made for another twin than {twin}; {REMAKE}")
        path = folder / POLICY_FILE
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8"))
            named = {key: raw[key] for key in ("schema_version", "type", "wearer", "features", "rate_hz")}
            curves = [np.array(raw["profile_nm"][side], dtype=float) for side in ("left", "right")]
            assist, release = raw["assist"], raw["release"]
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
            raise ExoError(f"{path} is missing or damaged; {REMAKE}") from None
        wanted = {
            "schema_version": POLICY_SCHEMA,
            "type": POLICY_TYPE,
            "wearer": wearer,
            "features": list(FEATURES),
            "rate_hz": RATE_HZ,
        }
        for key, value in wanted.items():
            if named[key] != value:
                raise ExoError(f"{path}: {key} is {named[key]!r}, this policy needs {value!r}; {REMAKE}")
        for side, curve in zip(("left", "right"), curves, strict=True):
            if curve.shape != (CURVE_POINTS,) or not np.all(np.abs(curve) <= HARD_CAPS.torque_max_nm):
                raise ExoError(
                    f"{path}: profile_nm.{side} must hold {CURVE_POINTS} torques within "
                    f"±{HARD_CAPS.torque_max_nm} Nm; {REMAKE}"
                )
        return Policy(
            wearer, from_mapping(Assist, assist, str(path)), from_mapping(Release, release, str(path)), *curves
        )
