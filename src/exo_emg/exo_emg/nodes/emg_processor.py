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

from exo_common.artefact import read_manifest
from exo_common.clock import NS_PER_S, to_ns, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import declare, parameter
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.calibration import Calibration, read_calibration
from exo_emg.chunks import VIRTUAL, Layout, frame_id
from exo_emg.fatigue import FatigueConfig, FatigueMonitor
from exo_emg.normalisation import RATE_OFF_SHARE, DynamicPeak
from exo_emg.processing import ChainConfig, EnvelopeStream, group_delay_s, signal_band
from exo_emg.quality import QUIET_S
from exo_emg.synthesis import SynthesisConfig
from exo_interfaces.msg import EmgEnvelope, EmgFrame, Fatigue

# Stamps that differ from the sample count by more than this are a jump of the clock, not jitter of the driver.
JUMP_S = 0.05


@dataclasses.dataclass(frozen=True)
class ProcessorConfig(ChainConfig, FatigueConfig):
    """Parameters of the node: the chain, the calibration, and how fatigue is judged behind the same band-pass."""

    normalisation: str = parameter(
        "maximum",
        "",
        "what the envelope is a fraction of: the calibrated maximum, or the peak of this walk so far (no channel is "
        "valid before it is known)",
        choices=("maximum", "dynamic_peak"),
    )
    calibration: str = parameter("", "", "the wearer's emg_calibration.yaml; takes the place of maxima_v")
    twin: str = parameter("", "", "folder of the wearer's twin, whose calibration it must be; empty takes anybody's")
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
            twin = self._config.twin
            wearer = str(read_manifest(Path(twin), "twin")["wearer"]) if twin else None
            self._calibration = read_calibration(Path(self._config.calibration), wearer, self._config)
        self._stream: EnvelopeStream | None = None
        self._fatigue: FatigueMonitor | None = None
        self._peak: DynamicPeak | None = None
        self._muscles: list[str] = []
        # Rate and mains, Hz, that the delay was told for.
        self._filters = (0.0, 0.0)
        self._next_sample = 0
        self._next_ns = 0
        self._newest_ns = 0
        self._refusal = ""
        self._driver = ""
        self._diagnostics = Diagnostics(self)
        counted = ("frames", "lost_samples", "refused_frames", "repeated_samples", "stream_restarts", "clock_jumps")
        self._count = dict.fromkeys(counted, 0)
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
        samples = np.asarray(frame.samples, dtype=float).reshape(-1, channels)
        known = self._known(frame, len(samples))
        self._count["repeated_samples"] += known
        if known == len(samples):
            return
        samples = samples[known:]
        first, first_ns = frame.first_sample + known, to_ns(frame.header.stamp) + self._ns(known, frame)
        stream, away = self._stream_for(frame, first, first_ns)
        if stream is None:
            return
        lost = first - self._next_sample
        if lost > 0:
            self._count["lost_samples"] += lost
            stream.lose(lost)
        self._check_clock(first_ns, self._ns(lost, frame))
        self._next_sample, self._next_ns = first + len(samples), first_ns + self._ns(len(samples), frame)
        envelope = stream.process(samples)
        valid = stream.valid
        if self._fatigue is not None:
            self._fatigue.add(stream.carrier, valid, lost_before=away or lost)
        fraction, valid = self._normalised(stream, envelope, valid)
        message = EmgEnvelope()
        newest_ns = first_ns + self._ns(len(samples) - 1, frame)
        message.header.stamp = to_stamp(newest_ns)
        message.header.frame_id = self._driver = frame.header.frame_id
        message.muscles = frame.muscles
        message.envelope = fraction.astype(np.float32)
        message.valid = valid.tolist()
        self._publisher.publish(message)
        self._newest_ns = newest_ns
        self._count["frames"] += 1
        self._busiest_ms = max(self._busiest_ms, 1e3 * (time.perf_counter() - start))

    @staticmethod
    def _ns(samples: int, frame: EmgFrame) -> int:
        return round(samples * NS_PER_S / frame.sampling_rate_hz)

    def _known(self, frame: EmgFrame, samples: int) -> int:
        """How many of a frame's samples came before: its count and its stamp agree that they lie in the past.

        A frame whose count goes back while its stamp does not is that of a driver which started anew.
        """
        back = self._next_sample - frame.first_sample
        if not self._continues(frame) or back <= 0:
            return 0
        then_ns = self._next_ns - self._ns(back, frame)
        return min(back, samples) if abs(to_ns(frame.header.stamp) - then_ns) < JUMP_S * NS_PER_S else 0

    def _continues(self, frame: EmgFrame) -> bool:
        """Whether the running chain is for such frames."""
        return (
            self._stream is not None
            and frame.sampling_rate_hz == self._stream.sampling_rate_hz
            and frame.muscles == self._muscles
        )

    def _normalised(
        self, stream: EnvelopeStream, envelope: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Newest fraction of every channel, and whether it may be used."""
        if self._peak is None:
            return envelope[-1], valid
        self._peak.add(envelope, valid)
        peak_v = self._peak.peak_v()
        known = np.isfinite(peak_v)
        stream.quality.reference_v = np.where(known, peak_v, np.inf)
        return envelope[-1] / np.where(known, peak_v, 1.0), valid & known

    def _check_clock(self, first_ns: int, lost_ns: int) -> None:
        """The driver's stamps must follow its sample count."""
        jump_ns = first_ns - self._next_ns - max(0, lost_ns)
        if self._next_ns and abs(jump_ns) > JUMP_S * NS_PER_S:
            self._count["clock_jumps"] += 1
            self.get_logger().warning(
                f"the EMG clock jumped by {jump_ns / NS_PER_S:+.3f} s; envelopes carry the new time"
            )

    def _refuse(self, why: str) -> None:
        self._count["refused_frames"] += 1
        if why != self._refusal:
            self.get_logger().error(why)
        self._refusal = why

    def _stream_for(self, frame: EmgFrame, first: int, first_ns: int) -> tuple[EnvelopeStream | None, int]:
        """The running chain, or a new one when the driver restarted or changed its channels; None if impossible.

        The second is for how many samples the driver was away, by its stamps; 0 where its own count tells.
        """
        continues = self._continues(frame)
        if continues and first >= self._next_sample:
            return self._stream, 0
        try:
            signal_band(frame.sampling_rate_hz, self._config.band_low_hz, self._config.band_high_hz)
            maxima_v = self._maxima_v(frame.muscles, frame.sampling_rate_hz)
            self._stream = EnvelopeStream(frame.sampling_rate_hz, maxima_v, self._config)
            if not continues:
                # What is known of a muscle outlives a restart of its driver.
                self._fatigue = FatigueMonitor(Layout(tuple(frame.muscles), frame.sampling_rate_hz), self._config)
                if self._config.normalisation == "dynamic_peak":
                    self._peak = DynamicPeak(len(maxima_v), frame.sampling_rate_hz)
        except ExoError as error:
            self._stream = None
            self._refuse(str(error))
            return None, 0
        self._count["stream_restarts"] += int(bool(self._muscles))
        away_ns = first_ns - self._next_ns if continues and self._next_ns else 0
        self._muscles = list(frame.muscles)
        self._next_sample, self._next_ns = first, 0
        self._refusal = ""
        return self._stream, max(0, round(away_ns * frame.sampling_rate_hz / NS_PER_S))

    def _maxima_v(self, muscles: list[str], rate_hz: float) -> NDArray[np.float64]:
        """(channels,) V.

        Raises
        ------
        ExoError : if they do not belong to these channels.
        """
        if self._config.normalisation == "dynamic_peak":
            return np.ones(len(muscles))
        if self._calibration is not None:
            maxima_v = self._calibration.maxima_v(muscles)
            rates = {self._calibration.muscles[name].sampling_rate_hz for name in muscles}
            off = [rate for rate in rates if abs(rate / rate_hz - 1.0) > RATE_OFF_SHARE]
            if off:
                raise ExoError(
                    f"the EMG calibration of {self._calibration.wearer} was made at {off[0]:g} Hz, the driver sends "
                    f"{rate_hz:g} Hz, and another rate passes another band; calibrate at this rate"
                )
            return maxima_v
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
        told = [self._refusal] if self._refusal else []
        if self._stream is not None:
            filters = (self._stream.sampling_rate_hz, self._stream.mains_hz)
            if filters != self._filters:
                self._filters, delay_s = filters, group_delay_s(self._config, *filters)
                self._diagnostics.values.update(mains_hz=f"{filters[1]:.0f}", delay_ms=f"{1e3 * delay_s:.1f}")
            told += self._warnings(self._stream)
        self._diagnostics.level = DiagnosticStatus.WARN if told else DiagnosticStatus.OK
        self._diagnostics.message = "; ".join(told) or "running"
        self._publish_fatigue()

    def _warnings(self, stream: EnvelopeStream) -> list[str]:
        told = []
        bad = [f"{m} {why}" for m, why in zip(self._muscles, stream.reasons(), strict=True) if why]
        if bad:
            told.append(f"bad channels: {', '.join(bad)}")
        quiet = [name for name, none in zip(self._muscles, stream.quality.quiet(), strict=True) if none]
        # While all rest, no electrode is suspected.
        if 0 < len(quiet) < len(self._muscles):
            told.append(
                f"no activity seen in {QUIET_S:.0f} s on {', '.join(quiet)}; check that the electrode is on the muscle"
            )
        guessed = self._calibration is None and self._config.normalisation == "maximum"
        if guessed and self._config.maxima_v == ProcessorConfig().maxima_v and self._driver != frame_id(VIRTUAL):
            told.append(
                "envelopes are fractions of the virtual wearer's maximum; give calibration, maxima_v or "
                "normalisation:=dynamic_peak"
            )
        return told

    def _publish_fatigue(self) -> None:
        if self._fatigue is None or self._newest_ns == 0:
            return
        message = Fatigue()
        message.header.stamp = to_stamp(self._newest_ns)
        message.muscles = list(self._muscles)
        judged = self._fatigue.report()
        known = sum(math.isfinite(own.median_frequency_pct) for own in judged)
        self._diagnostics.values["fatigue"] = f"{known} of {len(judged)} muscles judged" + (
            "" if known == len(judged) else "; the others need minutes of steady strides on a good channel"
        )
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
