"""OpenSim, imported once and made quiet: its messages go to a file of our choice, never to the terminal.

Import it from here (`from exo_twin.opensim_runtime import opensim`). It takes
about two seconds; live nodes never do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

# Importing opensim overwrites the library path, and children of this process would no longer find ROS 2.
_LIBRARY_PATH = os.environ.get("LD_LIBRARY_PATH")
import opensim  # noqa: E402

if _LIBRARY_PATH is None:
    os.environ.pop("LD_LIBRARY_PATH", None)
else:
    os.environ["LD_LIBRARY_PATH"] = _LIBRARY_PATH

__all__ = ["logging_to", "opensim"]

# Importing opensim opens `opensim.log` in whatever folder the user stands in.
opensim.Logger.removeFileSink()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send everything OpenSim's C++ code prints in this block to `path`; Python's own prints stay on the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    streams = (sys.stdout, sys.stderr)
    with path.open("ab") as log:
        try:
            sys.stdout, sys.stderr = (
                _follow(stream, descriptor, saved[descriptor])
                for stream, descriptor in zip(streams, (1, 2), strict=True)
            )
            for descriptor in saved:
                os.dup2(log.fileno(), descriptor)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = streams
            for descriptor, copy in saved.items():
                os.dup2(copy, descriptor)
                os.close(copy)


def _follow(stream: TextIO, descriptor: int, copy: int) -> TextIO:
    """A stream that keeps writing where `stream` wrote; the same one if it does not use the descriptor."""
    try:
        if stream.fileno() != descriptor:
            return stream
    except (OSError, ValueError, AttributeError):
        return stream
    return os.fdopen(os.dup(copy), "w", buffering=1, encoding="utf-8")
