"""A clockwork of healthy ticks that tests disturb."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from exo_safety.envelope import Envelope, SideEnvelope
from exo_safety.rules import SIDE_RULES, SYSTEM_RULES
from exo_safety.state_machine import Command, Operator, Request, SafetyStatus, StateMachine, StateSample

LEFT = SideEnvelope(-0.4, 1.0, 6.0, 12.0, 200.0, 50.0)
RIGHT = SideEnvelope(-0.3, 0.8, 5.0, 8.0, 150.0, 30.0)
ENVELOPE = Envelope("w1", LEFT, RIGHT, "a test")
TICK_NS = 10_000_000
MS = 1_000_000


@dataclasses.dataclass
class Bench:
    """Feeds a machine one tick after another; every input can be overridden."""

    disabled: Sequence[str] = ()
    now: int = 1_000_000_000
    torque: tuple[float, float] = (0.0, 0.0)
    position: tuple[float, float] = (0.2, 0.2)
    velocity: tuple[float, float] = (0.0, 0.0)
    applied: tuple[float, float] | None = (0.0, 0.0)
    state_age: int = 2 * MS
    request_age: int = 2 * MS

    def __post_init__(self) -> None:
        self.machine = StateMachine(
            ENVELOPE,
            first_session=7,
            system_rules=[r for r in SYSTEM_RULES if r.code not in self.disabled],
            side_rules=[r for r in SIDE_RULES if r.code not in self.disabled],
        )
        self.last: tuple[Command, SafetyStatus] | None = None

    def tick(self, ns: int = TICK_NS, **operator: bool) -> tuple[Command, SafetyStatus]:
        self.now += ns
        state = StateSample(self.now - self.state_age, self.position, self.velocity, self.applied)
        request = Request(self.now - self.request_age, self.torque)
        self.last = self.machine.step(self.now, state, request, Operator(**operator))
        return self.last

    def arm(self) -> Bench:
        self.tick()
        _, status = self.tick(arm=True)
        assert status.level == 1, status.sentence
        return self

    def flow(self, torque: tuple[float, float] = (6.0, -4.0), ticks: int = 130) -> Bench:
        """Armed, with torque grown smoothly to `torque` and past the start."""
        self.arm()
        for k in range(ticks):
            share = 0.5 - 0.5 * math.cos(math.pi * min(1.0, k / 100))
            self.torque = (share * torque[0], share * torque[1])
            self.tick()
        return self
