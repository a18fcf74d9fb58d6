"""/emg/raw to /emg/envelope, frame by frame as they arrive."""

from __future__ import annotations

import dataclasses
import sys
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from exo_common.clock import NS_PER_S, to_ns, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import declare, parameter
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.processing import ChainConfig, EnvelopeStream
from exo_emg.synthesis import SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame


@dataclasses.dataclass(frozen=True)
class ProcessorConfig(ChainConfig):
    """Parameters of the node: the chain and the calibration."""

    maxima_v: list[float] = parameter(
        [SynthesisConfig().maximum_v()],
        "V",
        "rectified mean at maximal contraction: one number for all channels or one per channel; "
        "the default belongs to the virtual wearer",
        minimum=1e-7,
        maximum=1.0,
    )
    wait_for_subscribers: int = parameter(
        0, "", "subscribers of /emg/envelope to wait for before listening", minimum=0, maximum=20
    )


class EmgProcessor(Node):
    """Publishes one envelope per EMG frame, stamped with the frame's newest sample."""

    def __init__(self) -> None:
        super().__init__("emg_processor")
        self._config = declare(self, ProcessorConfig)
        self._stream: EnvelopeStream | None = None
        self._muscles: list[str] = []
        self._next_sample = 0
        self._diagnostics = Diagnostics(self)
        self._count = {"frames": 0, "lost_samples": 0, "refused_frames": 0, "stream_restarts": 0}
        self._busiest_ms = 0.0
        self._publisher = self.create_publisher(EmgEnvelope, "/emg/envelope", PUBLISH)
        when_heard(
            self,
            self._publisher,
            self._config.wait_for_subscribers,
            lambda: self.create_subscription(EmgFrame, "/emg/raw", self._on_frame, EVERY_SAMPLE),
        )
        self.create_timer(1.0, self._report)

    def _on_frame(self, frame: EmgFrame) -> None:
        start = time.perf_counter()
        channels = len(frame.muscles)
        if channels == 0 or len(frame.samples) == 0 or len(frame.samples) % channels:
            self._count["refused_frames"] += 1
            return
        stream = self._stream_for(frame)
        if stream is None:
            self._count["refused_frames"] += 1
            return
        samples = np.asarray(frame.samples, dtype=float).reshape(-1, channels)
        lost = frame.first_sample - self._next_sample
        if lost > 0:
            self._count["lost_samples"] += lost
            stream.lose(lost)
        self._next_sample = frame.first_sample + len(samples)
        envelope = stream.process(samples)[-1]
        message = EmgEnvelope()
        newest_ns = to_ns(frame.header.stamp) + round((len(samples) - 1) * NS_PER_S / frame.sampling_rate_hz)
        message.header.stamp = to_stamp(newest_ns)
        message.header.frame_id = frame.header.frame_id
        message.muscles = frame.muscles
        message.envelope = envelope.astype(np.float32)
        message.valid = stream.valid.tolist()
        self._publisher.publish(message)
        self._count["frames"] += 1
        self._busiest_ms = max(self._busiest_ms, 1e3 * (time.perf_counter() - start))

    def _stream_for(self, frame: EmgFrame) -> EnvelopeStream | None:
        """The running chain, or a new one when the driver restarted or changed its channels; None if impossible."""
        same = (
            self._stream is not None
            and frame.sampling_rate_hz == self._stream.sampling_rate_hz
            and frame.muscles == self._muscles
            and frame.first_sample >= self._next_sample
        )
        if not same:
            maxima = self._config.maxima_v
            if len(maxima) not in (1, len(frame.muscles)):
                raise ExoError(
                    f"parameter maxima_v holds {len(maxima)} numbers for {len(frame.muscles)} EMG channels; "
                    "give one number or one per channel"
                )
            try:
                self._stream = EnvelopeStream(
                    frame.sampling_rate_hz, np.broadcast_to(np.asarray(maxima), (len(frame.muscles),)), self._config
                )
            except ExoError as error:
                self.get_logger().error(str(error), once=True)
                return None
            self._count["stream_restarts"] += int(bool(self._muscles))
            self._muscles = list(frame.muscles)
            self._next_sample = frame.first_sample
        return self._stream

    def _report(self) -> None:
        self._diagnostics.values.update(self._count, busiest_ms=f"{self._busiest_ms:.2f}")
        self._busiest_ms = 0.0
        bad = []
        if self._stream is not None:
            bad = [f"{m} {why}" for m, why in zip(self._muscles, self._stream.reasons(), strict=True) if why]
        self._diagnostics.level = DiagnosticStatus.WARN if bad else DiagnosticStatus.OK
        self._diagnostics.message = f"bad channels: {', '.join(bad)}" if bad else "running"


def main() -> None:
    """Entry point."""
    sys.exit(run(EmgProcessor))
