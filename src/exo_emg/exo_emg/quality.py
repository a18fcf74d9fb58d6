"""Whether an EMG channel may be used: judged over the last half second of signal."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

# A channel is judged over this window, and stays invalid until a fault has left it.
WINDOW_S = 0.5
# Peaks may touch the rail; a channel that spends more of the window there is saturated.
SATURATED_FRACTION = 0.01
SATURATED_LEVEL = 0.99
# Ordered by which reason is told when several hold.
REASONS = ("", "settling", "flat", "saturated", "nan")


class ChannelQuality:
    """Running judgement of every channel; as after a loss, nothing is valid until a first window has passed.

    Parameters
    ----------
    full_scale_v : amplifier range, V.
    flat_v : standard deviation below which a channel is flat, V.
    """

    def __init__(self, sampling_rate_hz: float, channels: int, full_scale_v: float, flat_v: float) -> None:
        self._window = max(2, round(WINDOW_S * sampling_rate_hz))
        self._rail_v, self._flat_v = SATURATED_LEVEL * full_scale_v, flat_v
        # Per frame in the window: samples, and sums over them (broken, at the rail, x, x^2).
        self._frames: deque[tuple[int, NDArray[np.float64]]] = deque()
        self._samples = 0
        self._sums = np.zeros((4, channels))
        self._settling = self._window

    def add(self, clean: NDArray[np.float64], finite: NDArray[np.bool_]) -> None:
        """Take in (n, channels) samples in V, bounded, and which of them were numbers at all."""
        rail = np.abs(clean) >= self._rail_v
        sums = np.stack([(~finite).sum(axis=0), rail.sum(axis=0), clean.sum(axis=0), np.square(clean).sum(axis=0)])
        self._frames.append((len(clean), sums))
        self._samples += len(clean)
        self._sums += sums
        while self._samples - self._frames[0][0] >= self._window:
            n, old = self._frames.popleft()
            self._samples -= n
            self._sums -= old
        self._settling = max(0, self._settling - len(clean))

    def lose(self) -> None:
        """Samples were lost: nothing is valid until a window of good ones has passed."""
        self._settling = self._window

    def codes(self) -> NDArray[np.int64]:
        """(channels,) index into :data:`REASONS`; zero is good."""
        n = max(1, self._samples)
        broken, rail, x, xx = self._sums
        variance = xx / n - (x / n) ** 2
        codes = np.full(len(variance), int(self._settling > 0), dtype=np.int64)
        faults = (variance < self._flat_v**2, rail > SATURATED_FRACTION * n, broken > 0)
        for code, fault in enumerate(faults, start=2):
            codes[fault] = code
        return codes
