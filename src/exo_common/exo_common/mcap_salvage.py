"""Reads an mcap file whose writer died: everything before the damage, nothing invented.

A finished mcap file ends in an index. Without it the records can still be read
one after the other (https://mcap.dev/spec): each is an opcode byte, a 64-bit
length and a body; messages sit in chunks together with the schemas and
channels they need.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from exo_common.errors import ExoError

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
RECORD_HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
CHUNK_HEAD = struct.Struct("<QQQI")  # start time, end time, size, checksum


@dataclasses.dataclass(frozen=True)
class Channel:
    """One recorded topic with the definition of its type."""

    topic: str
    type: str
    definition: str
    encoding: str  # of the definition: ros2msg or ros2idl
    qos: str  # YAML as rosbag2 stores it


@dataclasses.dataclass(frozen=True)
class Message:
    """One message; `data` is CDR."""

    channel: Channel
    received_ns: int
    data: bytes


def salvage(path: Path) -> Iterator[Message]:
    """Every complete message of an unfinished mcap file, in the order it was written.

    Raises
    ------
    ExoError : if this is no mcap file, or its chunks are compressed.
    """
    schemas: dict[int, tuple[str, str, str]] = {}
    channels: dict[int, Channel] = {}
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ExoError(f"{path} is no mcap file; nothing can be read from it")
        for opcode, body in _flatten(_records(file), path):
            if opcode == SCHEMA:
                number, rest = struct.unpack_from("<H", body)[0], body[2:]
                name, rest = _text(rest)
                encoding, rest = _text(rest)
                schemas[number] = (name, encoding, _text(rest)[0])
            elif opcode == CHANNEL:
                number, schema = struct.unpack_from("<HH", body)
                topic, rest = _text(body[4:])
                _, rest = _text(rest)
                name, encoding, definition = schemas[schema]
                channels[number] = Channel(
                    topic, name, definition, encoding, _mapping(rest).get("offered_qos_profiles", "")
                )
            elif opcode == MESSAGE:
                number, _, received, _ = MESSAGE_HEAD.unpack_from(body)
                yield Message(channels[number], received, body[MESSAGE_HEAD.size :])


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Records up to the end of the data or the damage; a chunk cut short is handed on as it is."""
    while len(head := file.read(RECORD_HEAD.size)) == RECORD_HEAD.size:
        opcode, length = RECORD_HEAD.unpack(head)
        if opcode in (0, DATA_END):
            return
        body = file.read(length)
        if len(body) == length or (opcode == CHUNK and len(body) > CHUNK_HEAD.size + 12):
            yield opcode, body
        if len(body) < length:
            return


def _flatten(records: Iterator[tuple[int, bytes]], path: Path) -> Iterator[tuple[int, bytes]]:
    """The same records with every chunk replaced by what it holds."""
    for opcode, body in records:
        if opcode != CHUNK:
            yield opcode, body
            continue
        compression, rest = _text(body[CHUNK_HEAD.size :])
        if compression:
            raise ExoError(
                f"{path} was not closed and its chunks are compressed ({compression}); mend it with 'mcap recover'"
            )
        inner, at = rest[8:], 0
        while at + RECORD_HEAD.size <= len(inner):
            inner_opcode, length = RECORD_HEAD.unpack_from(inner, at)
            start, end = at + RECORD_HEAD.size, at + RECORD_HEAD.size + length
            if end > len(inner):
                break
            yield inner_opcode, inner[start:end]
            at = end


def _text(body: bytes) -> tuple[str, bytes]:
    (length,) = struct.unpack_from("<I", body)
    return body[4 : 4 + length].decode(), body[4 + length :]


def _mapping(body: bytes) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", body)
    rest, mapping = body[4 : 4 + length], {}
    while rest:
        key, rest = _text(rest)
        mapping[key], rest = _text(rest)
    return mapping
