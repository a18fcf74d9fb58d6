"""The wearer's muscles: paths, forces, calibration, worn sensors and the live estimator, each beside a named peer.

walking_3d: activations beside OpenSim's StaticOptimization on the same motion and loads, EMG of ten muscles, the live
estimator, a session of ten seconds. gait_speeds: twelve wearers at two speeds, eight EMG channels each: static
optimisation beside EMG, EMG assistance judged on muscles left out, muscles calibrated on one walk and judged on the
other, worn sensors slipped by up to 30 degrees.

What was seen of these recordings while exo was made stands in the modules that measure.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import live_estimator
import muscle_activation
import muscle_calibration
import muscle_emg
import muscle_paths
import twin_build
import wearable_imus
from results import report

from exo_common.errors import ExoError
from exo_twin.opensim_runtime import logging_to

# What the peers measured is told apart in the report.
PEER = "opensim_"


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(
        prog="./exo bench muscles", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recordings = Path(os.environ["EXO_ROOT"]).parent / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=recordings,
        help="folder with walking_3d, gait_speeds and models (default: %(default)s)",
    )
    parser.add_argument("--generic", type=Path, help="unscaled model (default: <data>/models/LaiUhlrich2022.osim)")
    parser.add_argument("--only", action="append", metavar="PART", help="measure this part alone (may be repeated)")
    options = parser.parse_args()
    data, generic = options.data, options.generic or options.data / "models" / "LaiUhlrich2022.osim"
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "paths": lambda: muscle_paths.measure(data),
        "activation": lambda: muscle_activation.measure(data),
        "emg": lambda: muscle_emg.measure(data, generic),
        "calibration": lambda: muscle_calibration.measure(data, generic),
        "imus": lambda: wearable_imus.measure(data, generic),
        "live": lambda: live_estimator.measure(data),
        "build": lambda: twin_build.measure(data, generic),
    }
    wanted = options.only or list(parts)
    if unknown := set(wanted) - set(parts):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; parts are {', '.join(parts)}")
    started, figures = time.monotonic(), {}
    try:
        with logging_to(Path(os.environ["EXO_HOME"]) / "bench_muscles.log"):
            for part in wanted:
                began = time.monotonic()
                print(f"{part} ...", file=sys.stderr, flush=True)
                figures.update(parts[part]())
                print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    except ExoError as error:
        print(f"./exo bench muscles: {error}", file=sys.stderr)
        return 2
    peers = {name: figures.pop(name) for name in list(figures) if name.startswith(PEER)}
    source = "walking_3d (one wearer, one walk); gait_speeds (12 wearers, 24 walks, right legs' EMG), seen while made"
    report("muscles", figures, peers, source, [], time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
