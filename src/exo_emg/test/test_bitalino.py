"""BITalino: its frames, its losses, and the driver over a pseudo-terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from exo_common.errors import ExoError
from exo_emg.drivers.bitalino import wire
from exo_emg.drivers.bitalino.driver import BitalinoConfig, BitalinoDriver
from exo_emg.drivers.bitalino.emulator import Emulator
from exo_emg.drivers.interface import DeviceLost, Reading

# Frames with their sequence number and counts, packed by hand from the maker's table of bits.
KNOWN = [
    (bytes([0xFC, 0x0F, 0x50]), 5, (1023,)),
    (bytes([0x01, 0x00, 0x20, 0xA0]), 10, (0b1000000000, 0)),
]


def checksum_bit_by_bit(frame: bytes) -> int:
    """The same CRC as a shift register, x^4 + x + 1."""
    register = 0
    for byte in (*frame[:-1], frame[-1] & 0xF0):
        for bit in range(7, -1, -1):
            register = register << 1
            if register & 0x10:
                register ^= 0x13
            register ^= (byte >> bit) & 1
    return register & 15


def stream(count: int, channels: int = 2) -> list[bytes]:
    return [wire.encode(k, tuple((7 * k + c) % 64 for c in range(channels))) for k in range(count)]


@pytest.mark.parametrize("channels", range(1, 7))
def test_frames_hold_what_was_put_in(channels: int) -> None:
    rng = np.random.default_rng(channels)
    top = np.array([1024, 1024, 1024, 1024, 64, 64])[:channels]
    values = rng.integers(0, top, (300, channels))
    frames = [wire.encode(k, tuple(row)) for k, row in enumerate(values.tolist())]
    assert all(len(f) == wire.FRAME_BYTES[channels] and checksum_bit_by_bit(f) == f[-1] & 15 for f in frames)
    count, volts = wire.Decoder(channels).feed(b"".join(frames))
    np.testing.assert_array_equal(count, np.arange(300))
    np.testing.assert_allclose(volts, (values / top - 0.5) * 3.3 / 1009.0, atol=1e-12)


def test_first_channel_lies_where_the_maker_says() -> None:
    frame = wire.encode(5, (0b1111000011,))
    assert (frame[-2] & 15, frame[-3] >> 2, frame[-1] >> 4) == (0b1111, 0b000011, 5)
    frame = wire.encode(5, (0, 0b1000000001, 0, 0b1010101010))
    assert (frame[-3] & 3, frame[-4]) == (0b10, 0b00000001)
    assert (frame[-6] & 0x3F, frame[-7] >> 4) == (0b101010, 0b1010)


def test_commands() -> None:
    assert [wire.rate_command(rate)[0] for rate in (1, 10, 100, 1000)] == [0x03, 0x43, 0x83, 0xC3]
    assert wire.start_command((1, 3, 6)) == bytes([0b10010101])
    with pytest.raises(ExoError, match="1000"):
        wire.rate_command(2000)


@pytest.mark.parametrize("piece", [1, 3, 17, 4000])
def test_cutting_the_bytes_differently_changes_nothing(piece: int) -> None:
    data, decoder = b"".join(stream(200)), wire.Decoder(2)
    counts = [decoder.feed(data[k : k + piece])[0] for k in range(0, len(data), piece)]
    np.testing.assert_array_equal(np.concatenate(counts), np.arange(200))


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda f: f[:50] + f[53:], [50, 51, 52]),
        (lambda f: [*f[:50], bytes([f[50][0] ^ 8]) + f[50][1:], *f[51:]], [50]),
        (lambda f: [*f[:50], f[50][1:], *f[51:]], [50]),
        (lambda f: [*f[:50], b"\x55" + f[50], *f[51:]], []),
        (lambda f: [*f[:50], *(bytes([b[0] ^ 8]) + b[1:] for b in f[50:90]), *f[90:]], list(range(50, 90))),
    ],
    ids=["frames dropped", "bit flipped", "byte lost", "byte too many", "40 damaged"],
)
def test_every_loss_is_counted(damage: Callable[[list[bytes]], list[bytes]], lost: list[int]) -> None:
    count, volts = wire.Decoder(2).feed(b"".join(damage(stream(200))))
    assert sorted(set(range(200)) - set(count.tolist())) == lost
    counts = np.rint((volts[:, 0] * 1009.0 / 3.3 + 0.5) * 1024).astype(int)
    np.testing.assert_array_equal(counts, 7 * count % 64, "a sample is not where its count says")


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_single_frames_between_few_damaged_ones_are_known_by_place_and_number(damaged: int) -> None:
    good = [k for k in range(200) if not 40 <= k < 160 or k % (damaged + 1) == 0]
    frames = [f if k in good else bytes([f[0] ^ 8]) + f[1:] for k, f in enumerate(stream(200))]
    assert wire.Decoder(2).feed(b"".join(frames))[0].tolist() == good


@pytest.mark.parametrize("channels", [[3, 1], [1, 1, 2]])
def test_channels_that_the_device_cannot_send_so_are_refused(channels: list[int]) -> None:
    with pytest.raises(ExoError, match=r"rising order; write \[1, [23]\]"):
        BitalinoDriver(BitalinoConfig(channels=channels))


def test_noise_is_never_taken_for_samples() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    assert len(wire.Decoder(4).feed(noise)[0]) <= 5


def read_for(driver: BitalinoDriver, seconds: float) -> list[Reading]:
    out, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        out += driver.read()
        time.sleep(0.002)
    return out


@pytest.mark.usefixtures("pseudo_terminals")
def test_the_driver_over_a_serial_port() -> None:
    emulator = Emulator(disturb=lambda sample, frame: b"" if 300 <= sample < 305 else frame)
    driver = BitalinoDriver(BitalinoConfig(port=emulator.port, channels=[1, 2, 5]))
    try:
        signal = driver.open()
        assert (signal.channels, signal.rate_hz) == (("A1", "A2", "A5"), 1000.0)
        driver.start()
        got = read_for(driver, 1.0)
        driver.stop()
        index = np.concatenate([np.arange(r.index, r.index + len(r.samples)) for r in got])
        samples = np.concatenate([r.samples for r in got])
        assert len(index) > 900
        assert sorted(set(range(index[-1])) - set(index.tolist())) == [300, 301, 302, 303, 304]
        counts = np.rint((samples * 1009.0 / 3.3 + 0.5) * 1024)
        np.testing.assert_array_equal(counts[:, 0], index % 1024)
        np.testing.assert_array_equal(counts[:, 1], (index + 100) % 1024)
        driver.start()
        assert read_for(driver, 0.3)[0].index == 0, "a new start counts anew"
    finally:
        driver.close()
        emulator.close()


@pytest.mark.usefixtures("pseudo_terminals")
def test_a_port_that_is_none_and_one_that_vanishes_are_told() -> None:
    with pytest.raises(DeviceLost, match="no BITalino at /dev/nowhere"):
        BitalinoDriver(BitalinoConfig(port="/dev/nowhere")).open()
    emulator = Emulator()
    driver = BitalinoDriver(BitalinoConfig(port=emulator.port))
    driver.open()
    driver.start()
    emulator.close()
    with pytest.raises(DeviceLost, match="is gone"):
        read_for(driver, 1.0)
    driver.close()
