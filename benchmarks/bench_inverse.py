"""The inverse analysis: scaled, moving, loaded; each figure beside OpenSim's own tool where there is one.

walking_3d: kinematics and dynamics beside OpenSim's tools on the same input in the same run. gait_speeds: twelve
wearers at two speeds from C3D through the unattended batch, judged against force plates, the pelvis' own landmarks
and normative data (of children). Kinds of bad input. Two videos through the same code.

The walks of gait_speeds are no unseen test: see inverse_batch.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import inverse_bad_input
import inverse_batch
import inverse_dynamics
import inverse_kinematics
import inverse_video
from results import report

from exo_common.errors import ExoError
from exo_twin.opensim_runtime import logging_to


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="./exo bench inverse", description=__doc__)
    recordings = Path(os.environ["EXO_ROOT"]).parent / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=recordings,
        help="folder with walking_3d, gait_speeds and norms (default: %(default)s)",
    )
    parser.add_argument("--generic", type=Path, help="unscaled model (default: <data>/models/LaiUhlrich2022.osim)")
    parser.add_argument("--out", type=Path, help="keep the batch's results in this new folder")
    parser.add_argument("--no-video", action="store_true", help="leave the two videos out")
    options = parser.parse_args()
    generic = options.generic or options.data / "models" / "LaiUhlrich2022.osim"
    started = time.monotonic()
    try:
        with logging_to(Path(os.environ["EXO_HOME"]) / "bench_inverse.log"):
            kinematics = inverse_kinematics.measure(options.data)
            dynamics = inverse_dynamics.measure(options.data)
            ten_seconds = inverse_batch.ten_seconds_s(options.data, generic)
            refused = inverse_bad_input.measure(options.data, generic)
        with tempfile.TemporaryDirectory(prefix="exo_bench_") as scratch:
            batch, peers = inverse_batch.measure(options.data, generic, options.out or Path(scratch) / "batch")
        video = {} if options.no_video else inverse_video.measure()
    except ExoError as error:
        print(f"./exo bench inverse: {error}", file=sys.stderr)
        return 2
    tool_ms = {
        "opensim_ik_ms_per_frame": kinematics.pop("ik_tool_ms_per_frame"),
        "opensim_id_ms_per_frame": dynamics.pop("id_tool_ms_per_frame"),
    }
    # OpenSim's scaling and marker placement are not in it, nor could its tools refine.
    tool_ms["opensim_ik_id_10s_s"] = 1e-3 * inverse_batch.LONG_FRAMES * sum(tool_ms.values())
    figures = {**kinematics, **dynamics, "scale_ik_id_10s_s": ten_seconds, **batch, **refused, **video}
    data = (
        f"walking_3d (one wearer, {inverse_kinematics.WINDOW_S[0]}-{inverse_kinematics.WINDOW_S[1]} s); gait_speeds "
        f"({batch['batch_wearers']:.0f} wearers, {batch['batch_walks']:.0f} walks, seen while the lag's rule, the "
        "prediction's constants, the refinement's deviations, the pelvis' weights and the source of segment masses "
        "were chosen); norms of children; two videos"
    )
    report("inverse", figures, peers | tool_ms, data, [], time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
