"""Begin only when those who must hear are there: DDS discovery takes a tenth of a second, sometimes three."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher

PATIENCE_S = 8.0
POLL_S = 0.05


def when_heard(node: Node, publisher: Publisher, wanted: int, begin: Callable[[], object]) -> None:
    """Call `begin` once `publisher` has `wanted` subscribers, at the latest after :data:`PATIENCE_S`.

    A recording that lacks a node's first messages cannot be reproduced; a node that
    waits this way before it subscribes to its own inputs sends nothing unheard.
    """
    until = time.monotonic() + PATIENCE_S

    def look() -> None:
        if publisher.get_subscription_count() >= wanted or time.monotonic() > until:
            timer.cancel()
            begin()

    # In simulated time nothing moves the node's own clock before somebody is heard.
    timer = node.create_timer(POLL_S, look, clock=Clock(clock_type=ClockType.STEADY_TIME))
    look()
