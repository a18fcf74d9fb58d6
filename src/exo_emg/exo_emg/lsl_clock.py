"""Exchanges of clocks with the sender of an LSL stream, written down for a session's `sync: {method: lsl}`.

It relates the EMG to LSL's clock on this machine: only a walk whose times are of that clock (frames stamped by LSL
here) can be merged by it. A video or a C3D file counts from its own start and needs a trigger or taps.

The file has rows of time (on the sender's clock), offset (to add, to have this machine's) and
uncertainty (half the round trip), all in s: what :func:`exo_emg.time_base.from_lsl` reads.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from exo_common.errors import ExoError

HEADER = "time,offset,uncertainty"
# LSL itself renews its estimate every few seconds; asking more often brings nothing new.
EVERY_S = 2.0
FIND_S, ANSWER_S = 5.0, 5.0


def record_clock(stream: str, path: Path, seconds: float) -> int:
    """Append exchanges with the named stream's sender to a file until the time is over or Ctrl-C; returns how many.

    Each row is on disk before the next exchange, so an interrupted recording is a whole one.

    Raises
    ------
    ExoError : if there is no such stream, it does not answer, or the file cannot be written.
    """
    import pylsl
    from pylsl.lib import lib
    from pylsl.util import handle_error

    found = pylsl.resolve_byprop("name", stream, 1, FIND_S)
    if not found:
        raise ExoError(f"no LSL stream called '{stream}' is in sight; start its sender, check name and network")
    inlet = pylsl.StreamInlet(found[0], recover=False)
    exchange = lib.lsl_time_correction_ex
    exchange.restype = ctypes.c_double
    remote, uncertainty, code = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
    end, rows = time.monotonic() + seconds, 0
    try:
        new = not path.exists()
        with path.open("a", encoding="utf-8") as file:
            if new:
                file.write(f"{HEADER}\n")
            while True:
                offset = exchange(
                    inlet.obj, ctypes.byref(remote), ctypes.byref(uncertainty), ctypes.c_double(ANSWER_S),
                    ctypes.byref(code),
                )  # fmt: skip
                handle_error(code)
                file.write(f"{remote.value:.6f},{offset:.9f},{uncertainty.value:.9f}\n")
                file.flush()
                rows += 1
                if time.monotonic() + EVERY_S > end:
                    return rows
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        return rows
    except OSError as error:
        raise ExoError(f"{path} could not be written ({error.strerror}); choose another file") from None
    except RuntimeError as error:
        raise ExoError(
            f"the sender of '{stream}' no longer answers ({type(error).__name__}); {rows} exchanges are in {path}"
        ) from None
