"""What quality.yaml of a twin says: every step's figures, and all warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from exo_twin.forward.compiler.compile import Compiled
from exo_twin.inverse.analysis import WalkAnalysis
from exo_twin.inverse.muscle_analysis import MuscleAnalysis
from exo_twin.inverse.muscle_tuning import Retuned
from exo_twin.inverse.segment_masses import RULE
from exo_twin.twin import Gait


def twin_quality(
    analysis: WalkAnalysis,
    gait: Gait,
    retuned: Sequence[Retuned],
    muscles: MuscleAnalysis,
    compiled: Compiled,
    capture: Mapping[str, Any] | None,
    warnings: list[str],
) -> dict[str, Any]:
    """The mapping that becomes quality.yaml."""
    scaling, kinematics, refined = analysis.fit.scaling, analysis.fit.kinematics, analysis.fit.refined
    rms = 1e3 * kinematics.marker_rms
    return {
        "warnings": warnings,
        "capture": _plain(capture),
        "scaling": {
            "mass_kg": scaling.mass,
            "mass_rule": RULE,
            "strength_factor": round(scaling.strength_factor, 3),
            "strength_rule": "F_max scaled by (mass / generic mass)^(2/3)",
            "segments": scaling.lengths,
        },
        "refinement": None if refined is None else refined.quality(),
        "inverse_kinematics": {
            "frames": len(rms),
            "marker_rms_mm": round(float(np.sqrt(np.mean(rms**2))), 1),
            "marker_rms_mm_p95": round(float(np.percentile(rms, 95)), 1),
            "marker_rms_each_mm": {name: round(1e3 * error, 1) for name, error in kinematics.marker_error.items()},
            "saturated_share": kinematics.saturated,
            "angle_sd_deg": kinematics.angle_sd_deg,
            "dropped_share": kinematics.dropped_share,
        },
        "loads": None if analysis.loads is None else analysis.loads.quality(),
        "gait": {
            "strides_left": sum(s["side"] == "l" for s in gait.strides),
            "strides_right": sum(s["side"] == "r" for s in gait.strides),
            "rom_deg": gait.rom_deg,
        },
        "tendons_retuned": {
            item.muscle: {
                "mean_fibre_before": round(item.mean_before, 2),
                "mean_fibre_after": round(item.mean_after, 2),
                "slack_m_before": round(item.slack_before, 4),
                "slack_m_after": round(item.slack_after, 4),
            }
            for item in retuned
        },
        "muscles": muscles.quality(),
        "muscles_vs_opensim": compiled.agreement.as_dict(),
    }


class _Readable(yaml.SafeDumper):
    """Names and numbers side by side, sentences one below the other."""


def _sequence(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    sentences = any(isinstance(item, str) and " " in item for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=False if sentences else None)


_Readable.add_representer(list, _sequence)


def quality_text(report: Mapping[str, Any]) -> str:
    """The report as YAML that a person can read."""
    return yaml.dump(report, Dumper=_Readable, sort_keys=False, width=120, default_flow_style=None, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Mappings, sequences and NumPy numbers as YAML's own types, numbers to four digits."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value
