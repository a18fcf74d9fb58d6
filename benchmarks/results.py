"""How every bench reports: a table for people, a JSON file for tools."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table


def report(
    name: str,
    figures: Mapping[str, float],
    peers: Mapping[str, float],
    data: str,
    seeds: Sequence[int],
    seconds: float,
) -> Path:
    """Print the figures of bench `name` and write benchmarks/results/<name>.json; returns its path."""
    table = Table(title=f"bench {name}", caption=f"{data}; seeds {list(seeds)}; {seconds:.0f} s")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in {**figures, **{f"peer: {k}": v for k, v in peers.items()}}.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
    Console().print(table)
    path = Path(os.environ["EXO_ROOT"]) / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {
        "figures": dict(figures), "peers": dict(peers), "data": data, "seeds": list(seeds), "seconds": seconds,
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
