"""How good the EMG package is: envelopes against known truth, fatigue, real EMG, every driver, speed.

Truth is what synthetic signals were made from. Real EMG has none: there, bad channels are named with the reason, and
the muscles' timing is held against a table of norms. Peers run in the same minute: the usual SciPy chain, and least
squares on whole-signal median frequencies.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import emg_drivers
import emg_fatigue
import emg_processing
import emg_real
import numpy as np
from results import report
from rich.console import Console
from rich.table import Table

from exo_common.errors import ExoError

DRIVER_S = 60.0
SEEDS = 10
FATIGUE_SEEDS = 100


def drivers(pool: ProcessPoolExecutor, seconds: float) -> dict[str, Future[dict[str, dict[str, object]]]]:
    """Start every driver's live test at once, each in its own DDS domain."""
    return {
        name: pool.submit(emg_drivers.run, seconds, (name,), emg_drivers.DOMAIN + k)
        for k, name in enumerate(emg_drivers.DRIVERS)
    }


def driver_figures(found: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """Samples lost without being counted, over all drivers; and what each driver met."""
    figures = {"lost_unaccounted": float(sum(own["unaccounted"] for own in found.values()))}
    for name, own in found.items():
        if not own["stamps_monotone"]:
            raise ExoError(f"the stamps of driver {name} go back; see src/exo_emg/exo_emg/drivers/{name}")
        figures[f"{name}_samples"] = own["samples"]
        figures[f"{name}_lost_and_counted"] = own["lost_true"]
        figures[f"{name}_latency_p95_ms"] = own["latency_p95_ms"]
    return figures


def real_figures(data: Path, console: Console) -> dict[str, float]:
    """Bad channels and timing of the real recordings, printed; and the figures."""
    sets = {"gait_speeds": emg_real.gait_speeds(data), "emg_walking": emg_real.treadmill(data)}
    bad = Table(title="real EMG: channels that must not be used")
    for column in ("recording", "muscle", "reason", "seconds marked, %"):
        bad.add_column(column)
    on = Table(title="real EMG: share of the gait cycle in which a muscle is on or off as the norm says, %")
    for column in ("recordings", "muscle", "agrees", "never changing", "edges off by", "strides"):
        on.add_column(column)
    figures: dict[str, float] = {}
    for name, found in sets.items():
        for flag in found.flags:
            bad.add_row(flag.recording, flag.muscle, flag.reason, f"{flag.bad_pct:.0f}")
        timing = emg_real.timing(data, found.cycles)
        for muscle, own in timing.items():
            on.add_row(
                name,
                muscle,
                f"{own.agrees_pct:.0f}",
                f"{own.constant_pct:.0f}",
                f"{own.edge_pct:.0f}",
                f"{own.strides}",
            )
        figures[f"{name}_channels"] = found.channels
        figures[f"{name}_channels_flagged"] = len(found.flags)
        figures[f"{name}_timing_agrees_pct"] = float(np.mean([own.agrees_pct for own in timing.values()]))
        figures[f"{name}_timing_never_changing_pct"] = float(np.mean([own.constant_pct for own in timing.values()]))
        figures[f"{name}_timing_edge_pct"] = float(np.median([own.edge_pct for own in timing.values()]))
    console.print(bad)
    console.print(on)
    return figures


def fatigue_tables(found: Mapping[str, float]) -> list[Table]:
    """Medians beside the worst, and every kind of noise, ours and the peer's."""
    slope = Table(title="slope of the median frequency: error, % of the true slope")
    for column in ("signal", "median", "worst of all seeds and muscles", "peer, median"):
        slope.add_column(column)
    for name, key in (("plain", ""), ("hard", "_hard")):
        keys = (f"fatigue_slope_error_pct{key}", f"fatigue_slope_error_pct{key}_worst", f"peer_slope_error_pct{key}")
        slope.add_row(name, *(f"{found[key]:.1f}" for key in keys))
    rested = Table(title="rested: seeds with false fatigue, %; muscles whose 95 % interval misses the truth, %")
    for column in ("noise", "ours", "peer by the same rule", "interval misses"):
        rested.add_column(column)
    for name, key in (("steady", ""), *((noise, f"_{noise}") for noise in emg_fatigue.NOISES)):
        keys = ("false_fatigue_pct", "peer_false_fatigue_pct", "false_fatigue_interval_misses_pct")
        rested.add_row(name, *(f"{found[f'{own}{key}']:.1f}" for own in keys))
    return [slope, rested]


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="./exo bench emg", description=__doc__)
    recordings = Path(os.environ["EXO_ROOT"]).parent / "shared" / "data"
    parser.add_argument(
        "--data",
        type=Path,
        default=recordings,
        help="folder with walking_3d, gait_speeds, emg_walking and norms (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of the envelopes (default: %(default)s)")
    parser.add_argument(
        "--fatigue-seeds", type=int, default=FATIGUE_SEEDS, help="seeds without fatigue (default: %(default)s)"
    )
    parser.add_argument("--driver-seconds", type=float, default=DRIVER_S, help="per driver (default: %(default)s)")
    options = parser.parse_args()
    started, console = time.monotonic(), Console()
    try:
        with ProcessPoolExecutor(len(emg_drivers.DRIVERS), get_context("spawn")) as pool:
            # Nothing else runs beside the drivers: their peers, too, are processes that must keep up.
            running = drivers(pool, options.driver_seconds)
            found = {name: future.result()[name] for name, future in running.items()}
            slope = pool.submit(emg_fatigue.slope_error)
            rested = pool.submit(emg_fatigue.false_fatigue, options.fatigue_seeds)
            fatigue = slope.result() | rested.result()
        figures, peers = emg_processing.accuracy(options.data, range(options.seeds))
        muscles = emg_processing.per_muscle(options.data, range(options.seeds))
        figures |= {key: value for key, value in fatigue.items() if not key.startswith("peer_")}
        peers |= {key.removeprefix("peer_"): value for key, value in fatigue.items() if key.startswith("peer_")}
        figures |= real_figures(options.data, console)
        figures |= driver_figures(found)
        # Last, when nothing else of this bench runs.
        own, theirs = emg_processing.speed()
        figures |= own | emg_processing.live()
        peers |= theirs
    except ExoError as error:
        print(f"./exo bench emg: {error}", file=sys.stderr)
        return 2
    table = Table(title="walking_3d at 10 dB: correlation of the envelope with the activation")
    for column in ("muscle", "ours", "SciPy chain"):
        table.add_column(column)
    for name, (ours, peer) in muscles.items():
        table.add_row(name, f"{ours:.3f}", f"{peer:.3f}")
    for own_table in (table, *fatigue_tables(fatigue)):
        console.print(own_table)
    data = (
        "synthetic EMG from the 10 envelopes of walking_3d and 8 walking patterns; 30 min of programmed fatigue; raw "
        "EMG of 12 wearers (gait_speeds) and one (emg_walking); three drivers over their protocols. "
        "Keys without _worst are medians (fatigue) or means (envelopes)"
    )
    report("emg", figures, peers, data, list(range(options.seeds)), time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
