"""Records the topics of the running graph to a bag, and counts what it could not get."""

from __future__ import annotations

import dataclasses
import functools
import signal
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from exo_bringup.message_types import message_class
from exo_bringup.recording import Recording
from exo_common.bag import STORAGES, TopicQos
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import EVERY_SAMPLE

POLL_S = 0.05  # how soon a stop is noticed; discovery runs every few polls


@dataclasses.dataclass(frozen=True)
class RecorderParameters(Parameters):
    """What is recorded, and where to."""

    folder: str = parameter("recording", "", "folder of the bag; a suffix is added when it exists")
    storage: str = parameter("mcap", "", "storage format of the bag", choices=STORAGES)
    topics: list[str] = parameter([], "", "topics to record; empty records every topic of the graph")
    expected: list[str] = parameter(
        [], "", "topics listened to before anybody publishes them, each as '/topic package/msg/Type'"
    )
    discovery_period: float = parameter(0.25, "s", "how often new topics are looked for", minimum=0.05, maximum=5.0)
    drain: float = parameter(
        1.5,
        "s",
        "how long recording goes on after a stop, for the last words of stopping nodes",
        minimum=0.0,
        maximum=5.0,
    )


class Recorder(Node):
    """Raw subscriptions to everything; a thread of :class:`Recording` writes."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.parameters = declare(self, RecorderParameters)
        self.recording = Recording(Path(self.parameters.folder).expanduser(), self.parameters.storage)
        self._refused: set[str] = set()
        self._stop_at: float | None = None
        self._next_discovery = 0.0
        self.diagnostics = Diagnostics(self)
        for entry in self.parameters.expected:
            topic, _, type_name = entry.partition(" ")
            self._subscribe(topic, type_name.strip(), [])
        # Not KeyboardInterrupt in the middle of a callback: a message in hand would be lost.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask_to_stop)
        self.create_timer(POLL_S, self._poll)
        self.get_logger().info(f"recording to {self.recording.folder}")

    def _ask_to_stop(self, *_: object) -> None:
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self.parameters.drain

    def _poll(self) -> None:
        now = time.monotonic()
        if self._stop_at is not None and now >= self._stop_at:
            rclpy.try_shutdown()
            return
        if self.recording.error and self._stop_at is None:
            self.get_logger().error(self.recording.error)
            self._stop_at = now
            return
        if now >= self._next_discovery:
            self._next_discovery = now + self.parameters.discovery_period
            self._discover()
            self._report()

    def _discover(self) -> None:
        for topic, types in self.get_topic_names_and_types():
            wanted = not self.parameters.topics or topic in self.parameters.topics
            if not wanted or topic in self.recording.counts or topic in self._refused:
                continue
            offers = self.get_publishers_info_by_topic(topic)
            if offers:
                self._subscribe(topic, types[0], [offer.qos_profile for offer in offers])

    def _subscribe(self, topic: str, type_name: str, offers: list[QoSProfile]) -> None:
        try:
            cls = message_class(type_name)
        except ExoError as error:
            self._refused.add(topic)
            self.get_logger().warning(f"{topic} is not recorded: {error}")
            return
        self.recording.add_topic(topic, type_name, [_stored(offer) for offer in offers])
        self.create_subscription(cls, topic, functools.partial(self._receive, topic), _requested(offers), raw=True)

    def _receive(self, topic: str, data: bytes, info: dict[str, Any]) -> None:
        publisher = info.get("publisher_gid", {}).get("data", b"")
        self.recording.add(topic, bytes(data), time.time_ns(), publisher, info.get("publication_sequence_number"))

    def _report(self) -> None:
        counts = self.recording.counts.values()
        missing = sum(count.missing for count in counts)
        self.diagnostics.values = {
            "folder": self.recording.folder,
            "topics": len(counts),
            "received": sum(count.received for count in counts),
            "missing": missing,
            "waiting": self.recording.waiting,
        }
        if self.recording.error:
            self.diagnostics.level, self.diagnostics.message = DiagnosticStatus.ERROR, self.recording.error
        elif missing:
            self.diagnostics.level = DiagnosticStatus.WARN
            self.diagnostics.message = f"{missing} messages were published but never arrived"

    def on_stop(self) -> None:
        """Close the bag; the drain is over."""
        self.recording.close()
        received = sum(count.received for count in self.recording.counts.values())
        if not self.recording.error:
            print(f"{received} messages recorded to {self.recording.folder}", flush=True)


def _stored(offer: QoSProfile) -> TopicQos:
    return TopicQos(
        "best_effort" if offer.reliability == ReliabilityPolicy.BEST_EFFORT else "reliable",
        "transient_local" if offer.durability == DurabilityPolicy.TRANSIENT_LOCAL else "volatile",
        offer.depth,
    )


def _requested(offers: list[QoSProfile]) -> QoSProfile:
    """Every sample, and no more than all publishers of the topic offer: asking for more would get nothing."""
    profile = QoSProfile(depth=EVERY_SAMPLE.depth, history=EVERY_SAMPLE.history, reliability=EVERY_SAMPLE.reliability)
    if any(offer.reliability == ReliabilityPolicy.BEST_EFFORT for offer in offers):
        profile.reliability = ReliabilityPolicy.BEST_EFFORT
    if offers and all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers):
        profile.durability = DurabilityPolicy.TRANSIENT_LOCAL
    return profile


def main() -> None:
    """Entry point."""
    recorder: list[Recorder] = []

    def make() -> Recorder:
        recorder.append(Recorder())
        return recorder[0]

    make.__name__ = "recorder"
    code = run(make)
    sys.exit(2 if recorder and recorder[0].recording.error else code)


if __name__ == "__main__":
    main()
