"""Recording without ROS: what was received, what went missing, and the thread that writes it down."""

from __future__ import annotations

import dataclasses
import json
import queue
import threading
import time
from pathlib import Path

from exo_common.bag import BagWriter, TopicQos
from exo_common.errors import ExoError

# A killed recorder loses at most this much, s.
FLUSH_PERIOD_S = 1.0
SUMMARY_FILE = "recording.json"


def free_folder(wanted: Path) -> Path:
    """`wanted`, or with the first suffix `_2`, `_3` ... that is free: a recording is never overwritten."""
    folder, number = wanted, 2
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}_{number}"), number + 1
    return folder


@dataclasses.dataclass
class TopicCount:
    """What became of the messages of one topic, by the publishers' own DDS sequence numbers.

    Attributes
    ----------
    received : messages written to the bag.
    missing : messages published while the recorder was listening that never arrived.
    before : messages each publisher had sent before its first one arrived, in sum.
    """

    type: str
    received: int = 0
    missing: int = 0
    before: int = 0
    _last: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def add(self, publisher: bytes, sequence: int | None) -> None:
        """Count one message; `sequence` rises by one per message of a publisher, from 1."""
        self.received += 1
        if sequence is None:
            return
        last = self._last.get(publisher)
        if last is None:
            self.before += sequence - 1
        elif sequence > last + 1:
            self.missing += sequence - last - 1
        elif sequence < last:
            self.missing -= 1  # it was counted as missing and is only late
        self._last[publisher] = sequence if last is None else max(last, sequence)

    def summary(self) -> dict[str, object]:
        """For `recording.json`."""
        return {
            "type": self.type,
            "received": self.received,
            "missing": self.missing,
            "before": self.before,
            "publishers": len(self._last),
        }


@dataclasses.dataclass(frozen=True)
class _Item:
    topic: str
    type: str
    data: bytes
    received_ns: int


class Recording:
    """One bag being written by a thread of its own, so that the disk never holds up the receiver.

    Attributes
    ----------
    folder : the bag.
    counts : topic -> :class:`TopicCount`.
    error : empty, or one sentence on why writing has ended early.

    Raises
    ------
    ExoError : if the bag cannot be made.
    """

    def __init__(self, folder: Path, storage: str = "mcap") -> None:
        self.folder = free_folder(folder)
        self.counts: dict[str, TopicCount] = {}
        self.error = ""
        self._bag = BagWriter(self.folder, storage)
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._qos: dict[str, list[TopicQos]] = {}
        self._thread = threading.Thread(target=self._write, name="bag writer", daemon=True)
        self._thread.start()

    def add_topic(self, topic: str, type_name: str, qos: list[TopicQos]) -> None:
        """Announce a topic before its first message."""
        self._qos[topic] = qos
        self.counts[topic] = TopicCount(type_name)

    def add(self, topic: str, data: bytes, received_ns: int, publisher: bytes, sequence: int | None) -> None:
        """Take one message; returns at once."""
        count = self.counts[topic]
        count.add(publisher, sequence)
        self._queue.put(_Item(topic, count.type, data, received_ns))

    @property
    def waiting(self) -> int:
        """Messages received but not written yet."""
        return self._queue.qsize()

    def _write(self) -> None:
        flushed = time.monotonic()
        try:
            while True:
                try:
                    item = self._queue.get(timeout=FLUSH_PERIOD_S)
                except queue.Empty:
                    self._bag.flush()
                    continue
                if item is None:
                    break
                if item.topic not in self._bag.counts:
                    self._bag.add_topic(item.topic, item.type, self._qos[item.topic])
                self._bag.write(item.topic, item.type, item.data, item.received_ns)
                if time.monotonic() - flushed > FLUSH_PERIOD_S:
                    self._bag.flush()
                    flushed = time.monotonic()
            self._bag.close()
        except ExoError as error:
            self.error = str(error)

    def close(self) -> None:
        """Write what waits, close the bag and put `recording.json` into its folder."""
        self._queue.put(None)
        self._thread.join()
        written = self._bag.counts
        summary = {topic: count.summary() for topic, count in sorted(self.counts.items()) if topic in written}
        try:
            (self.folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            self.error = (
                self.error or f"{self.folder / SUMMARY_FILE} cannot be written ({error.strerror}); free some space"
            )
