"""What BITalino (r)evolution says on the wire: commands, frames, checksum, and volts at the electrode.

One frame per sample: the lower end of a little-endian 64-bit number is cut off
as far as fewer channels allow. From the top, bit 63 downwards:

    sequence number (4), checksum (4), digital I1 I2 O1 O2 (4),
    first channel (10), second (10), third (10), fourth (10), fifth (6), sixth (6)

The first four channels have 10 bits, a fifth and sixth 6. The checksum is a CRC
with the polynomial x^4 + x + 1 over the frame without itself, nibble by nibble.
(Protocol as in the maker's firmware and Python interface; EMG transfer function
from the data sheet of the EMG sensor.)
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

BAUD = 115200
CHANNELS_MAX = 6
SEQUENCE = 16
IDLE = bytes([0xFF])
STOP = bytes([0x00])
VERSION = bytes([0x07])
RATE_CODES = {1: 0, 10: 1, 100: 2, 1000: 3}
# Bytes of a frame by number of channels.
FRAME_BYTES = (0, 3, 4, 6, 7, 8, 8)
_NUMBER_BYTES = 8
# Lowest bit of each channel in the 64-bit number, and how many it has.
_PLACES = ((42, 10), (32, 10), (22, 10), (12, 10), (6, 6), (0, 6))
_SEQUENCE_BIT = 60

SUPPLY_V = 3.3
EMG_GAIN = 1009.0
# Frames in a row that must fit together before a place in the byte stream is believed after a disturbance:
# one frame of noise in 16 has a right checksum, three in a row with rising numbers one in a million.
CONFIRM = 3
# So soon after a disturbance the next frame is known by its place and its number.
NEAR_FRAMES = 3

_CRC = (0, 3, 6, 5, 12, 15, 10, 9, 11, 8, 13, 14, 7, 4, 1, 2)
# Checksum after one more byte, by checksum before and byte.
_CRC_OF_BYTE = [[_CRC[_CRC[crc] ^ (byte >> 4)] ^ (byte & 15) for byte in range(256)] for crc in range(16)]


def rate_command(rate_hz: float) -> bytes:
    """Set the sampling rate, Hz; to be sent while idle.

    Raises
    ------
    ExoError : if the device has no such rate.
    """
    if rate_hz not in RATE_CODES:
        raise ExoError(f"BITalino cannot sample at {rate_hz:g} Hz; choose one of {', '.join(map(str, RATE_CODES))}")
    return bytes([RATE_CODES[int(rate_hz)] << 6 | 0x03])


def start_command(channels: tuple[int, ...]) -> bytes:
    """Start sampling the analogue channels, 1 to 6."""
    return bytes([0x01 | sum(1 << (channel + 1) for channel in channels)])


def checksum(frame: bytes) -> int:
    """The checksum that a frame should have."""
    crc = 0
    for byte in frame[:-1]:
        crc = _CRC_OF_BYTE[crc][byte]
    return _CRC[_CRC[crc] ^ (frame[-1] >> 4)]


def encode(sequence: int, values: tuple[int, ...]) -> bytes:
    """The frame of one sample; `values` are counts of the converter, 10 bits or 6 by place."""
    number = (sequence % SEQUENCE) << _SEQUENCE_BIT
    for value, (lowest, bits) in zip(values, _PLACES, strict=False):
        number |= (value & ((1 << bits) - 1)) << lowest
    frame = bytearray(number.to_bytes(_NUMBER_BYTES, "little")[-FRAME_BYTES[len(values)] :])
    frame[-1] |= checksum(bytes(frame))
    return bytes(frame)


def volts(frames: NDArray[np.uint8], channels: int) -> NDArray[np.float64]:
    """What the EMG sensors saw.

    Parameters
    ----------
    frames : (n, bytes) whole frames.

    Returns
    -------
    (n, channels) V at the electrodes: (counts / 2^bits - 1/2) * 3.3 V / 1009.
    """
    wide = np.zeros((len(frames), _NUMBER_BYTES), dtype=np.uint8)
    wide[:, _NUMBER_BYTES - frames.shape[1] :] = frames
    number = wide.view("<u8")[:, 0]
    out = np.empty((len(frames), channels))
    for c, (lowest, bits) in enumerate(_PLACES[:channels]):
        counts = (number >> np.uint64(lowest)) & np.uint64((1 << bits) - 1)
        out[:, c] = (counts.astype(float) / (1 << bits) - 0.5) * SUPPLY_V / EMG_GAIN
    return out


@dataclasses.dataclass
class Decoder:
    """Finds the frames in a byte stream and counts samples over every gap that 4 bits can show.

    Attributes
    ----------
    disturbances : times that bytes had to be skipped.
    skipped_bytes : how many in all.
    """

    channels: int
    disturbances: int = 0
    skipped_bytes: int = 0

    def __post_init__(self) -> None:
        self._size = FRAME_BYTES[self.channels]
        self._buffer = bytearray()
        # A recording begins with sequence number 0; what came before it was lost too.
        self._count = 0
        self._skipped = 0

    def feed(self, data: bytes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Take in bytes; return count (n,) and volts (n, channels) of the samples that are certain now."""
        self._buffer += data
        buffer, size, position = bytes(self._buffer), self._size, 0
        counts: list[int] = []
        frames: list[bytes] = []
        while position + size <= len(buffer):
            frame = buffer[position : position + size]
            sequence = self._sequence(frame)
            if sequence != self._expected():
                if position + CONFIRM * size > len(buffer):
                    break
                if not self._fits(buffer, position):
                    self._skip()
                    position += 1
                    continue
            self._resume(sequence)
            counts.append(self._count)
            frames.append(frame)
            self._count += 1
            position += size
        del self._buffer[:position]
        raw = np.frombuffer(b"".join(frames), dtype=np.uint8).reshape(-1, size)
        return np.array(counts, dtype=np.int64), volts(raw, self.channels)

    def _sequence(self, frame: bytes) -> int:
        """Sequence number of a frame, -1 if its checksum is wrong."""
        return frame[-1] >> 4 if checksum(frame) == frame[-1] & 15 else -1

    def _expected(self) -> int:
        """The number that the next frame has if no byte was lost, -2 if that cannot be."""
        whole, part = divmod(self._skipped, self._size)
        return (self._count + whole) % SEQUENCE if part == 0 and whole <= NEAR_FRAMES else -2

    def _fits(self, buffer: bytes, position: int) -> bool:
        """Whether frames begin here that follow each other."""
        ends = range(position, position + CONFIRM * self._size, self._size)
        found = [self._sequence(buffer[a : a + self._size]) for a in ends]
        return found[0] >= 0 and all(found[k] == (found[0] + k) % SEQUENCE for k in range(CONFIRM))

    def _skip(self) -> None:
        self.disturbances += self._skipped == 0
        self._skipped += 1
        self.skipped_bytes += 1

    def _resume(self, sequence: int) -> None:
        """Count on behind a gap: what the numbers tell, and at least as many frames as bytes were thrown away."""
        missing = (sequence - self._count) % SEQUENCE
        at_least = self._skipped // self._size
        while missing < at_least:
            missing += SEQUENCE
        self._count += missing
        self._skipped = 0
