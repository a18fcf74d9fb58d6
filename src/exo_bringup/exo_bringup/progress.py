"""Stages of long work: a bar in a terminal, plain lines elsewhere, a timing for the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Report = Callable[[float, str], None]


class Stages:
    """Runs named stages and remembers how long each took.

    Attributes
    ----------
    seconds : stage name -> wall-clock seconds, in order.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Run one stage; yields a function taking (fraction 0..1, short text)."""
        started = time.monotonic()
        if self.console.is_terminal:
            columns = (TextColumn("  {task.description}"), BarColumn(24), TextColumn("{task.fields[text]}"))
            with Progress(*columns, TimeElapsedColumn(), console=self.console) as bar:
                task = bar.add_task(name, total=1.0, text="")
                yield lambda fraction, text: bar.update(task, completed=fraction, text=text)
                bar.update(task, completed=1.0, text="")
        else:
            self.console.print(f"  {name} ...", highlight=False)
            yield lambda fraction, text: None
        self.seconds[name] = time.monotonic() - started
        if not self.console.is_terminal:
            self.console.print(f"  {name}: {self.seconds[name]:.1f} s", highlight=False)
