"""Plays the inputs of a recording back: original stamps, original spacing (or x times faster), and /clock."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from exo_common.bag import BagReader, RawMessage
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import LATCHED, PUBLISH
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from exo_bringup.message_types import message_class
from exo_bringup.replay import INPUT_TOPICS

# /clock steps at the sensors' rate and once more for every message between.
TICK_S = 0.005
# After the last message: time for the listeners to answer it, s.
AFTERGLOW_S = 0.5


@dataclasses.dataclass(frozen=True)
class PlayerParameters(Parameters):
    """What is played, and how fast."""

    bag: str = parameter("", "", "folder of the recording")
    rate: float = parameter(1.0, "", "speed, 1 is as recorded", minimum=0.05, maximum=20.0)
    topics: list[str] = parameter(list(INPUT_TOPICS), "", "topics to play: those no node of the replay makes again")
    listener: str = parameter("/joint_states", "", "playing starts when somebody listens to this topic; empty: at once")
    patience: float = parameter(10.0, "s", "longest wait for that listener", minimum=0.0, maximum=60.0)


class Player(Node):
    """A bag in, its topics and /clock out; ends by itself."""

    def __init__(self) -> None:
        super().__init__("player")
        self.parameters = declare(self, PlayerParameters)
        if not self.parameters.bag:
            raise ExoError("no recording was given; set the parameter bag to its folder")
        bag = BagReader(Path(self.parameters.bag).expanduser())
        topics = [topic for topic in self.parameters.topics if topic in bag.topics]
        if not topics:
            raise ExoError(f"{bag.folder} holds none of {', '.join(self.parameters.topics)}; record the whole graph")
        if bag.damage:
            self.get_logger().warning(bag.damage)
        self._outputs = {topic: self._publisher(topic, bag) for topic in topics}
        self._clock_publisher = self.create_publisher(Clock, "/clock", PUBLISH)
        self._messages = bag.raw(topics)
        self._next: RawMessage | None = next(self._messages, None)
        self._waiting_since = time.monotonic()
        self._started: tuple[float, int] | None = None  # monotonic s, bag ns
        self._last_ns = 0
        self._finished_at: float | None = None
        self.failed = ""
        self._played = 0
        self._diagnostics = Diagnostics(self)
        self.create_timer(TICK_S, self._tick)

    def _publisher(self, topic: str, bag: BagReader) -> Any:
        latched = any(qos.durability == "transient_local" for qos in bag.topics[topic].qos)
        return self.create_publisher(message_class(bag.topics[topic].type), topic, LATCHED if latched else PUBLISH)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._finished_at is not None:
            if now > self._finished_at + AFTERGLOW_S:
                rclpy.try_shutdown()
            return
        if self._started is None:
            if not self._heard(now):
                return
            assert self._next is not None
            self._started = now, self._next.received_ns
        start, first_ns = self._started
        bag_now = first_ns + round((now - start) * self.parameters.rate * 1e9)
        while self._next is not None and self._next.received_ns <= bag_now:
            self._show_clock(self._next.received_ns)
            self._outputs[self._next.topic].publish(self._next.data)
            self._played += 1
            self._next = next(self._messages, None)
        self._show_clock(bag_now)
        self._diagnostics.values = {"played": self._played, "rate": self.parameters.rate}
        if self._next is None:
            for publisher in self._outputs.values():
                publisher.wait_for_all_acked(Duration(seconds=1.0))
            self._finished_at = now
            self.get_logger().info(f"{self._played} messages played")

    def _heard(self, now: float) -> bool:
        if not self.parameters.listener or self._outputs[self.parameters.listener].get_subscription_count():
            return True
        if now > self._waiting_since + self.parameters.patience:
            self.failed = (
                f"nobody listened to {self.parameters.listener} for {self.parameters.patience:g} s; start the estimator"
            )
            rclpy.try_shutdown()
        return False

    def _show_clock(self, ns: int) -> None:
        if ns <= self._last_ns:
            return
        self._last_ns = ns
        self._clock_publisher.publish(Clock(clock=Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)))


def main() -> None:
    """Entry point."""
    players: list[Player] = []

    def make() -> Player:
        players.append(Player())
        return players[0]

    make.__name__ = "player"
    code = run(make)
    if players and players[0].failed:
        print(f"player: {players[0].failed}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
