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
    config: VirtualConfig

    def __init__(self, config: VirtualConfig) -> None:
        super().__init__(config)
        self._states: deque[State] = deque(maxlen=KEPT)
        self._muscles: tuple[str, ...] = ()
        self._heard_at = 0.0
        self._drive: Drive | None = None
        self._synthesizer: EmgSynthesizer | None = None

    @staticmethod
    def message_type() -> type:
        """The state of the wearer."""
        from exo_interfaces.msg import TwinState

        kind: type = TwinState
        return kind

    def receive(self, message: Any) -> None:
        """Keep one state."""
        muscles, excitation = tuple(message.muscles), np.asarray(message.excitation, dtype=float)
        if muscles != self._muscles:
            self._states.clear()
            self._muscles = muscles
        self._heard_at = time.monotonic()
        phase = (float(message.phase_left), float(message.phase_right))
        self._states.append(State(to_ns(message.header.stamp), excitation, phase))

    def open(self) -> Signal:
        """The wearer's muscles."""
        if not self._states:
            raise DeviceLost(f"no virtual wearer is heard on {TOPIC}; start the virtual device")
        if len(self._states[-1].excitation) != len(self._muscles) or not self._muscles:
            raise ExoError(f"{TOPIC} tells no excitation of the muscles; use the virtual device of the same release")
        return Signal(self._muscles, self.config.sampling_rate_hz, Stamps.EXACT)

    def start(self) -> None:
        """Begin again: a new count and the first random numbers."""
        self._drive = Drive(self._muscles, self.config.sampling_rate_hz)
        self._synthesizer = EmgSynthesizer(self._muscles, self.config.seed, self.config)

    def read(self) -> list[Reading]:
        """The EMG up to the newest state."""
        assert self._drive is not None and self._synthesizer is not None, "start first"
        if not self._states and time.monotonic() - self._heard_at > SILENCE_S:
            raise DeviceLost(f"the virtual wearer is silent on {TOPIC}; start the virtual device again")
        readings = []
        while self._states:
            state = self._states.popleft()
            if len(state.excitation) != len(self._muscles):
                raise ExoError(f"{TOPIC} stopped telling the excitation; only one virtual device may publish it")
            stretch = self._drive.until(state)
            if stretch is not None:
                samples = self._synthesizer.frame(stretch.excitation, stretch.strikes)
                readings.append(Reading(stretch.first, samples, stretch.stamp_ns))
        return readings

    def stop(self) -> None:
        """Nothing flows that would have to be stopped; what is left belongs to this recording."""
        self._states.clear()

    def close(self) -> None:
        """States that came meanwhile stay: they are the first of the next recording."""
        self._drive = self._synthesizer = None


DRIVER = VirtualDriver
