"""/emg/raw to /emg/envelope, frame by frame as they arrive, and to /emg/fatigue once a second."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node

from exo_common.clock import NS_PER_S, to_ns, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import declare, parameter
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.calibration import Calibration, read_calibration
from exo_emg.chunks import Layout
from exo_emg.fatigue import FatigueMonitor
from exo_emg.normalisation import DynamicPeak
from exo_emg.processing import ChainConfig, EnvelopeStream, group_delay_s
from exo_emg.synthesis import SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame, Fatigue

# Stamps that differ from the sample count by more than this are a jump of the clock, not jitter of the driver.
JUMP_S = 0.05


@dataclasses.dataclass(frozen=True)
class ProcessorConfig(ChainConfig):
    """Parameters of the node: the chain and the calibration."""

    normalisation: str = parameter(
        "maximum",
        "",
        "what the envelope is a fraction of: the calibrated maximum, or the peak of this walk so far (no channel is "
        "valid before it is known)",
        choices=("maximum", "dynamic_peak"),
    )
    calibration: str = parameter("", "", "the wearer's emg_calibration.yaml; takes the place of maxima_v")
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
        # Its parameters are read-only; their six services would cost each frame a fifth of its time in the wait set.
        super().__init__("emg_processor", start_parameter_services=False)
        self._config = declare(self, ProcessorConfig)
        self._calibration: Calibration | None = None
        if self._config.calibration:
            self._calibration = read_calibration(Path(self._config.calibration))
        self._stream: EnvelopeStream | None = None
        self._fatigue: FatigueMonitor | None = None
        self._peak: DynamicPeak | None = None
        self._muscles: list[str] = []
        self._next_sample = 0
        self._next_ns = 0
        self._newest_ns = 0
        self._refusal = ""
        self._diagnostics = Diagnostics(self)
        self._count = {"frames": 0, "lost_samples": 0, "refused_frames": 0, "stream_restarts": 0, "clock_jumps": 0}
        self._busiest_ms = 0.0
        self._publisher = self.create_publisher(EmgEnvelope, "/emg/envelope", PUBLISH)
        self._fatigue_publisher = self.create_publisher(Fatigue, "/emg/fatigue", PUBLISH)
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
            self._refuse(f"a frame of {len(frame.samples)} samples for {channels} channels; correct the driver")
            return
        stream = self._stream_for(frame)
        if stream is None:
            return
        samples = np.asarray(frame.samples, dtype=float).reshape(-1, channels)
        lost = frame.first_sample - self._next_sample
        if lost > 0:
            self._count["lost_samples"] += lost
            stream.lose(lost)
        self._check_clock(frame, lost)
        self._next_sample = frame.first_sample + len(samples)
        envelope = stream.process(samples)
        valid = stream.valid
        if self._fatigue is not None:
            self._fatigue.add(stream.carrier, valid, lost_before=max(0, lost))
        fraction, valid = self._normalised(envelope, valid)
        message = EmgEnvelope()
        newest_ns = to_ns(frame.header.stamp) + round((len(samples) - 1) * NS_PER_S / frame.sampling_rate_hz)
        message.header.stamp = to_stamp(newest_ns)
        message.header.frame_id = frame.header.frame_id
        message.muscles = frame.muscles
        message.envelope = fraction.astype(np.float32)
        message.valid = valid.tolist()
        self._publisher.publish(message)
        self._newest_ns = newest_ns
        self._count["frames"] += 1
        self._busiest_ms = max(self._busiest_ms, 1e3 * (time.perf_counter() - start))

    def _normalised(
        self, envelope: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Newest fraction of every channel, and whether it may be used."""
        if self._peak is None:
            return envelope[-1], valid
        self._peak.add(envelope, valid)
        peak_v = self._peak.peak_v()
        known = np.isfinite(peak_v)
        return envelope[-1] / np.where(known, peak_v, 1.0), valid & known

    def _check_clock(self, frame: EmgFrame, lost: int) -> None:
        """The driver's stamps must follow its sample count."""
        stamp_ns = to_ns(frame.header.stamp)
        samples = len(frame.samples) // len(frame.muscles)
        expected_ns = self._next_ns + round(max(0, lost) * NS_PER_S / frame.sampling_rate_hz)
        if self._next_ns and abs(stamp_ns - expected_ns) > JUMP_S * NS_PER_S:
            self._count["clock_jumps"] += 1
            self.get_logger().warning(
                f"the EMG clock jumped by {(stamp_ns - expected_ns) / NS_PER_S:+.3f} s; envelopes carry the new time"
            )
        self._next_ns = stamp_ns + round(samples * NS_PER_S / frame.sampling_rate_hz)

    def _refuse(self, why: str) -> None:
        self._count["refused_frames"] += 1
        if why != self._refusal:
            self.get_logger().error(why)
        self._refusal = why

    def _stream_for(self, frame: EmgFrame) -> EnvelopeStream | None:
        """The running chain, or a new one when the driver restarted or changed its channels; None if impossible."""
        same_channels = (
            self._stream is not None
            and frame.sampling_rate_hz == self._stream.sampling_rate_hz
            and frame.muscles == self._muscles
        )
        if same_channels and frame.first_sample >= self._next_sample:
            return self._stream
        try:
            maxima_v = self._maxima_v(frame.muscles)
            self._stream = EnvelopeStream(frame.sampling_rate_hz, maxima_v, self._config)
            if not same_channels:
                # What is known of a muscle outlives a restart of its driver.
                self._fatigue = FatigueMonitor(Layout(tuple(frame.muscles), frame.sampling_rate_hz))
                if self._config.normalisation == "dynamic_peak":
                    self._peak = DynamicPeak(len(maxima_v), frame.sampling_rate_hz)
        except ExoError as error:
            self._stream = None
            self._refuse(str(error))
            return None
        self._count["stream_restarts"] += int(bool(self._muscles))
        self._muscles = list(frame.muscles)
        self._next_sample, self._next_ns = frame.first_sample, 0
        self._refusal = ""
        return self._stream

    def _maxima_v(self, muscles: list[str]) -> NDArray[np.float64]:
        """(channels,) V.

        Raises
        ------
        ExoError : if they do not belong to these channels.
        """
        if self._config.normalisation == "dynamic_peak":
            return np.ones(len(muscles))
        if self._calibration is not None:
            return self._calibration.maxima_v(muscles)
        maxima = self._config.maxima_v
        if len(maxima) not in (1, len(muscles)):
            raise ExoError(
                f"parameter maxima_v holds {len(maxima)} numbers for {len(muscles)} EMG channels; "
                "give one number or one per channel"
            )
        return np.array(np.broadcast_to(np.asarray(maxima, dtype=float), (len(muscles),)))

    def _report(self) -> None:
        self._diagnostics.values.update(self._count, busiest_ms=f"{self._busiest_ms:.2f}")
        self._busiest_ms = 0.0
        bad = []
        if self._stream is not None:
            bad = [f"{m} {why}" for m, why in zip(self._muscles, self._stream.reasons(), strict=True) if why]
            self._diagnostics.values.update(
                mains_hz=f"{self._stream.mains_hz:.0f}",
                delay_ms=f"{1e3 * group_delay_s(self._config, self._stream.sampling_rate_hz):.1f}",
            )
        told = [self._refusal] if self._refusal else []
        told += [f"bad channels: {', '.join(bad)}"] if bad else []
        self._diagnostics.level = DiagnosticStatus.WARN if told else DiagnosticStatus.OK
        self._diagnostics.message = "; ".join(told) or "running"
        self._publish_fatigue()

    def _publish_fatigue(self) -> None:
        if self._fatigue is None or self._newest_ns == 0:
            return
        message = Fatigue()
        message.header.stamp = to_stamp(self._newest_ns)
        message.muscles = list(self._muscles)
        judged = self._fatigue.report()
        message.index = [own.index for own in judged]
        message.confidence = [0.0 if math.isnan(own.confidence) else own.confidence for own in judged]
        message.median_frequency = [own.median_frequency_pct for own in judged]
        message.median_frequency_low = [own.median_frequency_low_pct for own in judged]
        message.median_frequency_high = [own.median_frequency_high_pct for own in judged]
        message.amplitude = [own.amplitude_pct for own in judged]
        self._fatigue_publisher.publish(message)


def main() -> None:
    """Entry point."""
    sys.exit(run(EmgProcessor))


if __name__ == "__main__":
    main()
