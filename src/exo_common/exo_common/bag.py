"""Bags: every recording of the system is written and read here.

With a ROS 2 installation the work is done by its own `rosbag2_py`; from wheels
by `rosbags`, which writes the same rosbag2 folders (mcap or sqlite3) and needs
no ROS import. Both give the same results through this one door.

What survives `kill -9`: an mcap bag up to the last :meth:`BagWriter.flush`
(the recorder flushes once a second); :class:`BagReader` reads such a bag up to
the damage and says so in `damage`. An sqlite3 bag that was not closed may be lost.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from exo_common.errors import ExoError

STORAGES = ("mcap", "sqlite3")
BACKENDS = ("rosbag2_py", "rosbags")


@dataclasses.dataclass(frozen=True)
class TopicQos:
    """What a publisher of a recorded topic offered."""

    reliability: str = "reliable"  # or best_effort
    durability: str = "volatile"  # or transient_local
    depth: int = 0  # messages; 0 where the graph does not tell


@dataclasses.dataclass(frozen=True)
class Topic:
    """One recorded topic."""

    type: str  # such as sensor_msgs/msg/Imu
    count: int  # messages in the bag
    qos: tuple[TopicQos, ...] = ()


@dataclasses.dataclass(frozen=True)
class RawMessage:
    """One recorded message as it came off the wire."""

    topic: str
    type: str
    received_ns: int  # recorder's clock, ns since the epoch
    data: bytes  # CDR


@dataclasses.dataclass(frozen=True)
class BagMessage:
    """One recorded message, decoded: `message.header.stamp.sec` and so on."""

    topic: str
    type: str
    received_ns: int
    message: Any


class WriterBackend(Protocol):
    """What a library must do to write a bag."""

    def add_topic(self, topic: str, type_name: str, qos: Sequence[TopicQos]) -> None: ...
    def write(self, topic: str, data: bytes, received_ns: int) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class ReaderBackend(Protocol):
    """What a library must do to read a bag."""

    topics: dict[str, Topic]
    damage: str

    def raw(self, topics: Collection[str]) -> Iterator[RawMessage]: ...
    def decode(self, message: RawMessage) -> Any: ...
    def close(self) -> None: ...


def default_backend() -> str:
    """`rosbag2_py` where a ROS 2 installation provides it, otherwise `rosbags`."""
    return BACKENDS[0] if importlib.util.find_spec("rosbag2_py") else BACKENDS[1]


class BagWriter:
    """Writes one new bag.

    Parameters
    ----------
    folder : the bag; must not exist, its parents are made.
    storage : `mcap` or `sqlite3`.
    backend : library to use; the default is :func:`default_backend`.

    Raises
    ------
    ExoError : if the folder exists, cannot be made, or the storage is unknown;
        later on if the disk is full.
    """

    def __init__(self, folder: Path, storage: str = "mcap", backend: str | None = None) -> None:
        if storage not in STORAGES:
            raise ExoError(f"bag storage '{storage}' is unknown; choose one of {', '.join(STORAGES)}")
        if folder.exists():
            raise ExoError(f"{folder} exists already and is not overwritten; choose another folder for the bag")
        self.folder = folder
        self.counts: dict[str, int] = {}
        self._backend: WriterBackend
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if (backend or default_backend()) == "rosbag2_py":
                from exo_common.bag_rosbag2 import Rosbag2Writer

                self._backend = Rosbag2Writer(folder, storage)
            else:
                from exo_common.bag_rosbags import RosbagsWriter

                self._backend = RosbagsWriter(folder, storage)
        except OSError as error:
            raise self._disk_error(error) from None

    def add_topic(self, topic: str, type_name: str, qos: Sequence[TopicQos] = ()) -> None:
        """Announce a topic; :meth:`write` does it by itself, but then no QoS is stored.

        Raises
        ------
        ExoError : if no installed package defines the type.
        """
        if topic not in self.counts:
            self._backend.add_topic(topic, type_name, qos)
            self.counts[topic] = 0

    def write(self, topic: str, type_name: str, data: bytes, received_ns: int) -> None:
        """Append one serialized (CDR) message."""
        self.add_topic(topic, type_name)
        try:
            self._backend.write(topic, data, received_ns)
        except OSError as error:
            raise self._disk_error(error) from None
        self.counts[topic] += 1

    def flush(self) -> None:
        """Hand everything written so far to the operating system, safe from the death of this process."""
        try:
            self._backend.flush()
        except OSError as error:
            raise self._disk_error(error) from None

    def close(self) -> None:
        """Write the index and the metadata."""
        try:
            self._backend.close()
        except OSError as error:
            raise self._disk_error(error) from None

    def _disk_error(self, error: OSError) -> ExoError:
        return ExoError(
            f"{self.folder} cannot be written ({error.strerror or error}); free some space or choose another folder, "
            f"what was recorded until now stays readable"
        )

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BagReader:
    """Reads one bag, finished or not.

    Attributes
    ----------
    topics : topic name -> :class:`Topic`.
    damage : empty for a whole bag, otherwise one sentence on what is missing.

    Raises
    ------
    ExoError : if there is no bag or nothing of it can be read.
    """

    def __init__(self, folder: Path, backend: str | None = None) -> None:
        if not folder.exists():
            raise ExoError(f"{folder} does not exist; give the folder of a recording")
        self.folder = folder
        self._backend: ReaderBackend
        whole = folder.is_dir() and (folder / "metadata.yaml").is_file()
        if (backend or default_backend()) == "rosbag2_py" and whole:
            from exo_common.bag_rosbag2 import Rosbag2Reader

            self._backend = Rosbag2Reader(folder)
        else:
            from exo_common.bag_rosbags import open_reader

            self._backend = open_reader(folder)
        self.topics = self._backend.topics
        self.damage = self._backend.damage

    def raw(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages of the given topics (default: all) in the order of arrival, undecoded."""
        wanted = self.topics.keys() if topics is None else topics
        return self._backend.raw([topic for topic in wanted if topic in self.topics])

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Messages of the given topics (default: all) in the order of arrival, decoded."""
        for raw in self.raw(topics):
            yield BagMessage(raw.topic, raw.type, raw.received_ns, self._backend.decode(raw))

    def close(self) -> None:
        """Release the files."""
        self._backend.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
