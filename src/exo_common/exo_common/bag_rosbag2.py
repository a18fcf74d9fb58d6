"""Bags through `rosbag2_py`, where a ROS 2 installation (Jazzy or newer) provides it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import rosbag2_py  # type: ignore[import-not-found]
import yaml
from rclpy.serialization import deserialize_message
from rosidl_runtime_py.utilities import get_message  # type: ignore[import-not-found]

from exo_common.bag import RawMessage, Topic, TopicQos
from exo_common.errors import ExoError

CDR = rosbag2_py.ConverterOptions("cdr", "cdr")
# rosbag2 keeps this much in memory; small, so that little is lost when the process is killed.
CACHE_BYTES = 256 * 1024


class Rosbag2Writer:
    """See :class:`exo_common.bag.BagWriter`."""

    def __init__(self, folder: Path, storage: str) -> None:
        self._writer: Any = rosbag2_py.SequentialWriter()
        try:
            self._writer.open(
                rosbag2_py.StorageOptions(uri=str(folder), storage_id=storage, max_cache_size=CACHE_BYTES), CDR
            )
        except RuntimeError as error:
            raise OSError(str(error)) from None
        self._topics = 0

    def add_topic(self, topic: str, type_name: str, qos: Sequence[TopicQos]) -> None:
        try:
            get_message(type_name)
        except (AttributeError, ModuleNotFoundError, ValueError):
            raise ExoError(
                f"message type {type_name} is not installed; build its package before recording it"
            ) from None
        self._topics += 1
        self._writer.create_topic(
            rosbag2_py.TopicMetadata(
                id=self._topics,
                name=topic,
                type=type_name,
                serialization_format="cdr",
                offered_qos_profiles=[_to_rosbag2(q) for q in qos],
            )
        )

    def write(self, topic: str, data: bytes, received_ns: int) -> None:
        try:
            self._writer.write(topic, data, received_ns)
        except RuntimeError as error:
            raise OSError(str(error)) from None

    def flush(self) -> None:
        """rosbag2's own cache thread writes on; there is nothing to call."""

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Rosbag2Reader:
    """A finished bag."""

    damage = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            information = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))[
                "rosbag2_bagfile_information"
            ]
            self.topics = {
                entry["topic_metadata"]["name"]: Topic(
                    entry["topic_metadata"]["type"],
                    int(entry["message_count"]),
                    _parse_qos(entry["topic_metadata"].get("offered_qos_profiles")),
                )
                for entry in information["topics_with_message_count"]
            }
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
            raise ExoError(
                f"{folder} is no readable bag (damaged metadata.yaml); run 'ros2 bag reindex' on it"
            ) from None

    def raw(self, topics: Collection[str]) -> Iterator[RawMessage]:
        if not topics:
            return
        reader = rosbag2_py.SequentialReader()
        try:
            reader.open(rosbag2_py.StorageOptions(uri=str(self._folder)), CDR)
            reader.set_filter(rosbag2_py.StorageFilter(topics=list(topics)))
            while reader.has_next():
                topic, data, received = reader.read_next()
                yield RawMessage(topic, self.topics[topic].type, received, data)
        except RuntimeError as error:
            raise ExoError(f"{self._folder} is damaged ({str(error).rstrip('.')}); use what came before") from None

    def decode(self, message: RawMessage) -> Any:
        return deserialize_message(message.data, get_message(message.type))

    def close(self) -> None:
        """Nothing stays open between reads."""


def _to_rosbag2(qos: TopicQos) -> Any:
    profile = rosbag2_py._storage.QoS(max(qos.depth, 1))
    profile = profile.reliable() if qos.reliability == "reliable" else profile.best_effort()
    return profile.transient_local() if qos.durability == "transient_local" else profile.durability_volatile()


def _parse_qos(stored: Any) -> tuple[TopicQos, ...]:
    profiles = yaml.safe_load(stored) if isinstance(stored, str) else stored
    return tuple(TopicQos(str(q["reliability"]), str(q["durability"]), int(q["depth"])) for q in profiles or [])
