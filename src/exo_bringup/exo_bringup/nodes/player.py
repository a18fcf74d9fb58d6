"""Plays the inputs of a recording back: original stamps, original spacing (or x times faster), and /clock."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from exo_bringup.message_types import message_class
from exo_bringup.replay import INPUT_TOPICS, JOINT_TOPIC, skipped_live
from exo_common.bag import BagReader
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import LATCHED, PUBLISH

POLL_S = 0.02
# /clock goes on at least this often, and with every message.
CLOCK_STEP_S = 0.005
# After the last message: time for the listeners to answer it, s.
AFTERGLOW_S = 0.5


@dataclasses.dataclass(frozen=True)
class PlayerParameters(Parameters):
    """What is played, and how fast."""

    bag: str = parameter("", "", "folder of the recording")
    rate: float = parameter(1.0, "", "speed, 1 is as recorded", minimum=0.05, maximum=20.0)
    topics: list[str] = parameter(list(INPUT_TOPICS), "", "topics to play: those no node of the replay makes again")
    listener: str = parameter("/joint_states", "", "playing starts when somebody listens to this topic; empty: at once")
    listeners: int = parameter(1, "", "how many must listen to it", minimum=1, maximum=20)
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
        self._skipped = skipped_live(bag)
        self._last_ns = 0
        self._done = False
        self.failed = ""
        self._played = 0
        self._diagnostics = Diagnostics(self)
        self._over = threading.Event()
        # A thread, not a timer: a timer's grid would send in bursts what was recorded evenly.
        self._thread = threading.Thread(target=self._play, name="player")
        self._thread.start()
        self.create_timer(POLL_S, self._poll)

    def _publisher(self, topic: str, bag: BagReader) -> Any:
        latched = any(qos.durability == "transient_local" for qos in bag.topics[topic].qos)
        return self.create_publisher(message_class(bag.topics[topic].type), topic, LATCHED if latched else PUBLISH)

    def _poll(self) -> None:
        self._diagnostics.values = {"played": self._played, "rate": self.parameters.rate}
        if self._done:
            rclpy.try_shutdown()

    def _play(self) -> None:
        try:
            if self._heard():
                self._play_all()
        except ExoError as error:
            self.failed = str(error)
        finally:
            self._done = True

    def _heard(self) -> bool:
        """Wait for the listener."""
        listener = self.parameters.listener
        if listener and listener not in self._outputs:
            raise ExoError(
                f"{listener} is not played, so nobody can be waited for on it; set listener to a played topic"
            )
        deadline = time.monotonic() + self.parameters.patience
        wanted = self.parameters.listeners
        while listener and (heard := self._outputs[listener].get_subscription_count()) < wanted:
            if time.monotonic() > deadline:
                who = "nobody" if not heard else f"only {heard} of {wanted}"
                raise ExoError(
                    f"{who} listened to {listener} for {self.parameters.patience:g} s; start the estimator first"
                )
            if self._over.wait(POLL_S):
                return False
        return True

    def _play_all(self) -> None:
        start, first_ns = time.monotonic(), 0
        for message in self._messages:
            first_ns = first_ns or message.received_ns
            due = start + (message.received_ns - first_ns) / 1e9 / self.parameters.rate
            while (ahead := due - time.monotonic()) > 0:
                if self._over.wait(min(ahead, CLOCK_STEP_S)):
                    return
                self._show_clock(first_ns + round((time.monotonic() - start) * self.parameters.rate * 1e9))
            self._show_clock(message.received_ns)
            if message.topic == JOINT_TOPIC and message.received_ns in self._skipped:
                continue
            self._outputs[message.topic].publish(message.data)
            self._played += 1
        for publisher in self._outputs.values():
            publisher.wait_for_all_acked(Duration(seconds=1.0))
        self._over.wait(AFTERGLOW_S)

    def _show_clock(self, ns: int) -> None:
        if ns > self._last_ns:
            self._last_ns = ns
            self._clock_publisher.publish(Clock(clock=Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)))

    def on_stop(self) -> None:
        """End playing before the publishers go."""
        self._over.set()
        self._thread.join()


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
