"""Surface EMG of the virtual wearer, made of the excitation that the simulation tells."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from typing import Any

import numpy as np

from exo_common.clock import to_ns
from exo_common.errors import ExoError
from exo_common.parameters import parameter
from exo_emg.drivers.interface import DeviceLost, Reading, Signal, Stamps, TopicDriver
from exo_emg.drivers.virtual.drive import Drive, State
from exo_emg.muscles import GROUP_CHANNELS
from exo_emg.synthesis import EmgSynthesizer, SynthesisConfig

TOPIC = "/virtual/wearer"
# States kept until they are asked for: what comes in while the driver is being set up, 20 s.
KEPT = 2000
# The wearer tells its state a hundred times a second; this long without any, and it is gone.
SILENCE_S = 1.0


@dataclasses.dataclass(frozen=True)
class VirtualConfig(SynthesisConfig):
    """How the wearer's EMG looks."""

    seed: int = parameter(0, "", "seed of every random number", minimum=0)
    crosstalk: float = parameter(
        0.05, "", "amplitude of a neighbouring muscle as a share of its own electrode's", minimum=0.0, maximum=0.5
    )
    artefact_v: float = parameter(
        2e-5, "V", "typical peak of the movement artefact at a heel strike", minimum=0.0, maximum=1e-2
    )


class VirtualDriver(TopicDriver):
    """The same seed and the same wearer give the same EMG, whatever the timing of the messages."""

    config_type = VirtualConfig
    topic = TOPIC
    message_name = "TwinState"
    config: VirtualConfig

    def __init__(self, config: VirtualConfig) -> None:
        super().__init__(config)
        self._states: deque[State] = deque(maxlen=KEPT)
        self._strange = ""
        self._heard_at = 0.0
        self._silent = False
        self._drive: Drive | None = None
        self._synthesizer: EmgSynthesizer | None = None

    def receive(self, message: Any) -> None:
        """Keep one state."""
        excitation = np.asarray(message.excitation, dtype=float)
        if tuple(message.muscles) != GROUP_CHANNELS or len(excitation) != len(GROUP_CHANNELS):
            self._strange = f"{len(excitation)} excitations of {len(message.muscles)} muscles"
            return
        self._heard_at, self._silent = time.monotonic(), False
        phase = (float(message.phase_left), float(message.phase_right))
        self._states.append(State(to_ns(message.header.stamp), excitation, phase))

    def open(self) -> Signal:
        """The muscle groups of the twin, known before the wearer says its first word, so that none is lost."""
        if self._silent:
            raise self._gone()
        return Signal(GROUP_CHANNELS, self.config.sampling_rate_hz, Stamps.EXACT)

    def start(self) -> None:
        """Begin again: a new count and the first random numbers."""
        self._drive = Drive(GROUP_CHANNELS, self.config.sampling_rate_hz)
        self._synthesizer = EmgSynthesizer(GROUP_CHANNELS, self.config.seed, self.config)

    def read(self) -> list[Reading]:
        """The EMG up to the newest state."""
        assert self._drive is not None and self._synthesizer is not None, "start first"
        if self._strange:
            raise ExoError(f"{TOPIC} tells {self._strange}, not those of the twin; use this release's virtual device")
        if self._heard_at and not self._states and time.monotonic() - self._heard_at > SILENCE_S:
            self._silent = True
            raise self._gone()
        readings = []
        while self._states:
            state = self._states.popleft()
            stretch = self._drive.until(state)
            if stretch is not None:
                samples = self._synthesizer.frame(stretch.excitation, stretch.strikes)
                readings.append(Reading(stretch.first, samples, stretch.stamp_ns))
        return readings

    def status(self) -> dict[str, object]:
        """How often the wearer's time went back."""
        return {"device_clock_jumps": self._drive.jumps if self._drive is not None else 0}

    def stop(self) -> None:
        """Nothing flows that would have to be stopped; what is left belongs to this recording."""
        self._states.clear()

    def close(self) -> None:
        """States that came meanwhile stay: they are the first of the next recording."""
        self._drive = self._synthesizer = None

    @staticmethod
    def _gone() -> DeviceLost:
        return DeviceLost(f"the virtual wearer is silent on {TOPIC}; start the virtual device again")


DRIVER = VirtualDriver
