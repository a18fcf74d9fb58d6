import subprocess
import sys
from unittest import mock

from exo_common.realtime import NICE, prefer


def test_what_is_granted_is_inherited_by_threads_made_later() -> None:
    code = (
        "import os, threading; from exo_common.realtime import prefer; granted = prefer(7); seen = [];"
        "t = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0) == os.SCHED_FIFO));"
        "t.start(); t.join();"
        "assert seen == [granted == 'real-time 7'], granted; print(granted)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() in ("real-time 7", f"nice {NICE}", "ordinary"), done.stderr


def test_without_the_right_nothing_fails() -> None:
    with mock.patch("os.sched_setscheduler", side_effect=PermissionError), mock.patch("os.setpriority") as nice:
        assert prefer(7) == f"nice {NICE}"
        nice.side_effect = PermissionError
        assert prefer(7) == "ordinary"
