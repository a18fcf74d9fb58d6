"""Control before comfort: run a control process ahead of ordinary ones where the system allows it."""

from __future__ import annotations

import ctypes
import os
import resource

# The chain in the order in which a tick passes it; the last writer before the motors comes first.
SUPERVISOR, DEVICE, POLICY = 30, 20, 10
# Beside the chain, which does not wait for it: after all of it, before ordinary processes.
ESTIMATOR = 5
# <sys/mman.h>: pages stay in memory from their first use on, now and in future mappings.
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
# What an unprivileged user may be granted instead.
NICE = -10


def prefer(priority: int) -> str:
    """Ask for real-time scheduling of this thread and those it starts, and lock memory; return what was granted.

    Call it before the node is made, so that the threads of DDS inherit it.
    Without the right to do so (an ordinary user without `rtprio` in
    /etc/security/limits.conf) the process stays as it is; nothing fails.

    Parameters
    ----------
    priority : of SCHED_FIFO, 1..99; higher runs first.
    """
    memory = "memory locked" if _lock_memory() else "memory not locked"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        return f"real-time {priority}, {memory}"
    except OSError:
        pass
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        return f"nice {NICE}, {memory}"
    except OSError:
        return f"ordinary, {memory}"


def _lock_memory() -> bool:
    """Keep every page once used: one taken away is read from disk again in the middle of a tick.

    Only where no limit applies: under a limit all later mappings, also never
    used ones, would count, and threads or allocations would fail in the middle of a run.
    """
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    if not (unlimited or os.geteuid() == 0):
        return False
    return ctypes.CDLL(None).mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0
