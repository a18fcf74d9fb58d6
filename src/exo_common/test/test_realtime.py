"""Real-time scheduling is asked for, never required."""

import subprocess
import sys
from unittest import mock

import exo_common.realtime
from exo_common.realtime import NICE, prefer


def test_what_is_granted_is_inherited_by_threads_made_later() -> None:
    code = (
        "import os, threading; from exo_common.realtime import prefer; granted = prefer(7); seen = [];"
        "t = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0) == os.SCHED_FIFO));"
        "t.start(); t.join();"
        "assert seen == [granted.startswith('real-time 7')], granted; print(granted)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.startswith(("real-time 7", f"nice {NICE}", "ordinary")), done.stderr


def test_without_the_right_nothing_fails() -> None:
    with (
        mock.patch.object(exo_common.realtime, "_lock_memory", return_value=False),
        mock.patch("os.sched_setscheduler", side_effect=PermissionError),
        mock.patch("os.setpriority") as nice,
    ):
        assert prefer(7) == f"nice {NICE}, memory not locked"
        nice.side_effect = PermissionError
        assert prefer(7) == "ordinary, memory not locked"


def test_a_limit_on_locked_memory_is_respected() -> None:
    with (
        mock.patch("resource.getrlimit", return_value=(8 << 20, 8 << 20)),
        mock.patch("os.geteuid", return_value=1000),
    ):
        assert not exo_common.realtime._lock_memory()
