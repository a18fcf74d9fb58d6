"""Real time for a loop with a fixed period: when to run, how late it is, when to give up catching up."""

from __future__ import annotations

import time
from collections.abc import Callable

from exo_common.clock import NS_PER_S


class Pacer:
    """A monotonic schedule.

    A loop that falls behind runs its missed periods at once, without sleeping.
    Behind by more than `give_up_ns` it lets them go and starts a new schedule:
    data of a stalled second are of no use to anyone, and running them would
    stall the next one too.

    Attributes
    ----------
    late : periods that began more than half a period after their time.
    skipped : periods let go.
    """

    def __init__(
        self,
        period_ns: int,
        give_up_ns: int,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._period_ns, self._give_up_ns = period_ns, give_up_ns
        self._now_ns, self._sleep = now_ns, sleep
        self.start_ns = now_ns()
        self._periods = 0
        self.late = 0
        self.skipped = 0

    def wait(self) -> tuple[int, int]:
        """Wait for the next period; returns its due time after the start and how late it is, both ns."""
        self._periods += 1
        due = self._periods * self._period_ns
        behind = self._now_ns() - self.start_ns - due
        if behind < 0:
            self._sleep(-behind / NS_PER_S)
            behind = max(0, self._now_ns() - self.start_ns - due)
        elif behind > self._give_up_ns:
            missed = behind // self._period_ns
            self.skipped += missed
            self._periods += missed
            due += missed * self._period_ns
            behind -= missed * self._period_ns
        if behind > self._period_ns // 2:
            self.late += 1
        return due, behind
