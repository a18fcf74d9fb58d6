"""What some of the tests need of the machine."""

import os

import pytest


@pytest.fixture
def pseudo_terminals() -> None:
    """Skips where the machine has none (a chroot without /dev/pts): serial ports cannot be emulated there."""
    try:
        ends = os.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals for the emulated serial port ({error.strerror})")
    for end in ends:
        os.close(end)
