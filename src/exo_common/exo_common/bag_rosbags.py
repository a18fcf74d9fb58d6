"""Bags through the `rosbags` library: no ROS import, used where no ROS 2 is installed."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from exo_common.bag import RawMessage, Topic, TopicQos
from exo_common.errors import ExoError
from exo_common.mcap_salvage import salvage

FORMAT_VERSION = 9  # of rosbag2's metadata, as ROS 2 Kilted writes it
CDR_HEAD = 4  # bytes of encapsulation before the data; the second tells the byte order
FOREVER = QosTime(2147483647, 4294967295)  # rmw's "infinite" duration


def definition_path(type_name: str) -> Path:
    """The installed `.msg` file of a type such as `exo_interfaces/msg/TwinState`.

    Raises
    ------
    ExoError : if no package on AMENT_PREFIX_PATH has it.
    """
    package, kind, name = type_name.split("/")
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix, "share", package, kind, f"{name}.msg")
        if prefix and path.is_file():
            return path
    raise ExoError(f"message type {type_name} is not installed; build its package before recording it")


class RosbagsWriter:
    """See :class:`exo_common.bag.BagWriter`."""

    def __init__(self, folder: Path, storage: str) -> None:
        self._types = get_typestore(Stores.ROS2_KILTED)
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        self._writer = Writer(folder, version=FORMAT_VERSION, storage_plugin=plugin)
        self._writer.open()
        self._connections: dict[str, Any] = {}

    def _learn(self, type_name: str) -> None:
        """Register a type and everything it is made of from the installed definitions."""
        if type_name in self._types.fielddefs:
            return
        found = get_types_from_msg(definition_path(type_name).read_text(encoding="utf-8"), type_name)
        for _, fields in found.values():
            for _, field in fields:
                for part in _names(field):
                    self._learn(part)
        self._types.register(found)

    def add_topic(self, topic: str, type_name: str, qos: Sequence[TopicQos]) -> None:
        self._learn(type_name)
        self._connections[topic] = self._writer.add_connection(
            topic, type_name, typestore=self._types, offered_qos_profiles=[_to_rosbags(q) for q in qos]
        )

    def write(self, topic: str, data: bytes, received_ns: int) -> None:
        self._writer.write(self._connections[topic], received_ns, data)

    def flush(self) -> None:
        # rosbags keeps up to 1 MB in memory and has no flush of its own: end the mcap chunk early.
        storage = self._writer.storage
        if storage is not None and hasattr(storage, "close_chunk"):
            if storage.chunk.msgs:
                storage.close_chunk()
            storage.bio.flush()

    def close(self) -> None:
        if self._writer.storage is None:
            return
        try:
            self._writer.close()
        except OSError:
            self._writer.abort()
            raise


def _names(field: Any) -> Iterator[str]:
    """Message types named in a field description of rosbags, which nests (kind, details) pairs."""
    if isinstance(field, tuple):
        for part in field:
            yield from _names(part)
    elif isinstance(field, str) and "/msg/" in field:
        yield field


def _to_rosbags(qos: TopicQos) -> Qos:
    history = QosHistory.KEEP_LAST if qos.depth else QosHistory.UNKNOWN
    return Qos(
        history,
        qos.depth,
        QosReliability[qos.reliability.upper()],
        QosDurability[qos.durability.upper()],
        FOREVER,
        FOREVER,
        QosLiveliness.AUTOMATIC,
        FOREVER,
        False,
    )


def _from_rosbags(qos: Qos) -> TopicQos:
    return TopicQos(qos.reliability.name.lower(), qos.durability.name.lower(), qos.depth)


class _Decoder:
    """Decodes with the definitions the bag itself carries; the installed ones only fill gaps."""

    def __init__(self) -> None:
        self._types = get_typestore(Stores.EMPTY)

    def learn(self, type_name: str, definition: str, is_idl: bool) -> None:
        found = get_types_from_idl(definition) if is_idl else get_types_from_msg(definition, type_name)
        self._types.register({name: fields for name, fields in found.items() if name not in self._types.fielddefs})

    def decode(self, message: RawMessage) -> Any:
        if message.type not in self._types.fielddefs:
            raise ExoError(f"the bag does not say how {message.type} ({message.topic}) is built; record it again")
        # Not `deserialize_cdr`: it refuses trailing bytes, but Fast DDS sends its size estimate, which is generous.
        definition = self._types.get_msgdef(message.type)
        little_endian = message.data[1:2] == b"\x01"
        read = definition.deserialize_cdr_le if little_endian else definition.deserialize_cdr_be
        try:
            return read(message.data[CDR_HEAD:], 0, definition.cls, self._types)[0]
        except (struct.error, ValueError, IndexError) as error:
            raise ExoError(
                f"a {message.type} on {message.topic} in the bag is damaged ({error}); use what came before"
            ) from None


class RosbagsReader(_Decoder):
    """A finished bag."""

    damage = ""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._reader = Reader(folder)
        self._reader.open()
        self.topics: dict[str, Topic] = {}
        for connection in self._reader.connections:
            qos = tuple(_from_rosbags(q) for q in connection.ext.offered_qos_profiles)
            self.topics[connection.topic] = Topic(connection.msgtype, connection.msgcount, qos)
            if connection.msgdef.data:
                self.learn(connection.msgtype, connection.msgdef.data, connection.msgdef.format.name == "IDL")

    def raw(self, topics: Collection[str]) -> Iterator[RawMessage]:
        wanted = [connection for connection in self._reader.connections if connection.topic in topics]
        if not wanted:
            return
        try:
            for connection, received, data in self._reader.messages(wanted):
                yield RawMessage(connection.topic, connection.msgtype, received, data)
        except ReaderError as error:
            raise ExoError(f"{self._folder} is damaged ({str(error).rstrip('.')}); use what came before") from None

    def close(self) -> None:
        self._reader.close()


class SalvageReader(_Decoder):
    """The mcap file of a bag that was never closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        counts: Counter[str] = Counter()
        types: dict[str, tuple[str, tuple[TopicQos, ...]]] = {}
        for message in salvage(path):
            channel = message.channel
            if channel.topic not in types:
                self.learn(channel.type, channel.definition, channel.encoding != "ros2msg")
                types[channel.topic] = (channel.type, _parse_qos(channel.qos))
            counts[channel.topic] += 1
        self.topics = {topic: Topic(kind, counts[topic], qos) for topic, (kind, qos) in types.items()}
        if not self.topics:
            raise ExoError(f"{path.parent} was not closed and holds no complete message; record again")
        self.damage = f"{path.parent} was not closed properly: {counts.total()} messages up to the damage are read"

    def raw(self, topics: Collection[str]) -> Iterator[RawMessage]:
        for message in salvage(self._path):
            if message.channel.topic in topics:
                yield RawMessage(message.channel.topic, message.channel.type, message.received_ns, message.data)

    def close(self) -> None:
        """Nothing stays open between reads."""


def _parse_qos(text: str) -> tuple[TopicQos, ...]:
    import yaml

    profiles = yaml.safe_load(text) if text else None
    return tuple(
        TopicQos(str(profile["reliability"]), str(profile["durability"]), int(profile["depth"]))
        for profile in profiles or []
    )


def open_reader(folder: Path) -> RosbagsReader | SalvageReader:
    """The reader that fits the state the bag is in.

    Raises
    ------
    ExoError : in one sentence, if nothing can be read.
    """
    try:
        return RosbagsReader(folder)
    except (ReaderError, OSError, ValueError, IndexError, TypeError) as error:
        reason = str(error).rstrip(".")
    files = sorted(folder.glob("*.mcap")) if folder.is_dir() else [folder] if folder.suffix == ".mcap" else []
    if not files:
        raise ExoError(f"{folder} is no readable bag ({reason}); give the folder of a recording")
    return SalvageReader(files[0])
