"""Guides a calibration live: listens to /emg/raw, records what it hears, writes the session's calibration."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from exo_common.artefact import sha256
from exo_common.bag import BagWriter, TopicQos
from exo_common.diagnostics import Diagnostics
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import declare, parameter
from exo_common.qos import EVERY_SAMPLE
from exo_common.session import load_wearer
from exo_emg.assistant import REST_S, STRIDES, Guide, MvcGuide, WalkingGuide, sourced
from exo_emg.calibrate import RECORDINGS, Outcome, bar, earlier_calibration, store
from exo_emg.calibration import DYNAMIC_PEAK, METHODS, MVC
from exo_emg.chunks import Layout
from exo_emg.processing import ChainConfig
from exo_interfaces.msg import EmgFrame

TOPIC, TYPE = "/emg/raw", "exo_interfaces/msg/EmgFrame"
# How often the page is drawn anew, and the bag handed to the operating system.
DRAW_S, FLUSH_S = 0.1, 1.0


@dataclasses.dataclass(frozen=True)
class CalibratorConfig(ChainConfig):
    """What is calibrated, and how; the chain that the maxima are to be used with."""

    session: str = parameter("", "", "the session's folder")
    method: str = parameter(MVC, "", "held efforts or walking", choices=METHODS)
    muscles: list[str] = parameter([], "", "muscles to ask for, in this order; empty asks for every channel")
    strides: int = parameter(STRIDES, "", "strides of walking to wait for", minimum=5, maximum=200)
    rest: float = parameter(REST_S, "s", "rest before an effort is repeated", minimum=2.0, maximum=300.0)
    silence: float = parameter(15.0, "s", "how long /emg/raw may be silent", minimum=1.0, maximum=600.0)


class EmgCalibrator(Node):
    """Records every frame, feeds the guide, shows its prompt.

    Attributes
    ----------
    complete : whether every muscle asked for has its maximum.
    """

    def __init__(self) -> None:
        super().__init__("emg_calibrator")
        self._config = declare(self, CalibratorConfig)
        self._folder = Path(self._config.session).expanduser()
        self._wearer = load_wearer(self._folder)
        # Refused now rather than after the efforts.
        earlier_calibration(self._folder, self._wearer.id, self._config)
        self._guide: Guide | None = None
        self._layout: Layout | None = None
        self._next_sample = 0
        self._lost = self._frames = 0
        self._ended = False
        self.complete = False
        self._bag = BagWriter(_free(self._folder / RECORDINGS / self._config.method))
        self._bag.add_topic(TOPIC, TYPE, [TopicQos()])
        self._console = Console()
        self._live = Live("waiting for /emg/raw ...", console=self._console, auto_refresh=False)
        self._shown = ""
        if self._console.is_terminal:
            self._live.start()
        self._heard = self._flushed = time.monotonic()
        self._diagnostics = Diagnostics(self)
        self.create_subscription(EmgFrame, TOPIC, self._on_frame, EVERY_SAMPLE, raw=True)
        self.create_timer(DRAW_S, self._draw)

    def _on_frame(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard = time.monotonic()
        # On disk before anything may go wrong with it.
        self._bag.write(TOPIC, TYPE, bytes(data), time.time_ns())
        frame = deserialize_message(data, EmgFrame)
        guide, layout = self._guide_for(frame)
        samples = np.asarray(frame.samples, dtype=float).reshape(-1, layout.channels)
        lost = max(0, int(frame.first_sample) - self._next_sample) if self._frames else 0
        # A driver that started anew has lost nobody knows how much.
        lost = 1 if self._frames and frame.first_sample < self._next_sample else lost
        self._next_sample = int(frame.first_sample) + len(samples)
        self._frames += 1
        self._lost += lost
        guide.add(samples, lost)
        if guide.done:
            self._ended = True
            rclpy.try_shutdown()

    def _guide_for(self, frame: EmgFrame) -> tuple[Guide, Layout]:
        layout = Layout(tuple(frame.muscles), float(frame.sampling_rate_hz))
        if self._guide is None or self._layout is None:
            self._layout = layout
            if self._config.method == DYNAMIC_PEAK:
                self._guide = WalkingGuide(layout, self._config, self._config.strides)
            else:
                muscles = self._config.muscles or layout.muscles
                self._guide = MvcGuide(layout, muscles, self._config, self._config.rest)
        elif layout != self._layout:
            raise ExoError("the EMG's channels changed during the calibration; start it again with the final channels")
        return self._guide, self._layout

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._heard > self._config.silence:
            raise ExoError(
                f"{TOPIC} was silent for {self._config.silence:.0f} s; start the EMG driver (emg_driver) and calibrate "
                f"again, what was heard is in {self._bag.folder}"
            )
        if self.count_publishers(TOPIC) > 1:
            raise ExoError(f"two nodes publish {TOPIC} and their samples mix; stop one of the EMG drivers")
        if now - self._flushed > FLUSH_S:
            self._flushed = now
            self._bag.flush()
        self._diagnostics.values = {"frames": self._frames, "lost_samples": self._lost, "bag": self._bag.folder}
        self._diagnostics.level = DiagnosticStatus.WARN if self._lost else DiagnosticStatus.OK
        if self._guide is not None:
            self._show(self._guide)

    def _show(self, guide: Guide) -> None:
        """A page with a bar in a terminal; elsewhere a line whenever the task or the verdict changes."""
        prompt = guide.prompt
        if self._console.is_terminal:
            word = "[bold green]NOW[/] " if prompt.effort else "[bold]relax[/]"
            left = f"{prompt.left_s:4.1f} s" if prompt.left_s else ""
            words = escape(f"{prompt.said}\n{prompt.task}")
            self._live.update(f"{words}\n{word} {bar(prompt.level)} {left}", refresh=True)
            return
        text = f"{prompt.said}\n" if prompt.said else ""
        text += f"{'now' if prompt.effort else 'relax'}: {prompt.task}"
        if text != self._shown:
            self._shown = text
            print(text, flush=True)

    def on_stop(self) -> None:
        """Close the bag, whatever happened; write what was accepted."""
        if self._live.is_started:
            self._live.stop()
        self._bag.close()
        guide = self._guide
        print(f"recorded: {self._bag.folder} ({self._frames} frames, {self._lost} samples lost)", flush=True)
        if guide is None:
            return
        try:
            if isinstance(guide, WalkingGuide):
                guide.finish()
            source = str(self._bag.folder.relative_to(self._folder))
            found = Outcome(sourced(guide.accepted, source, sha256(self._bag.folder)), guide.refused)
            path = store(self._folder, self._wearer.id, found, self._config)
        except ExoError as error:
            print(f"not calibrated: {error}", file=sys.stderr, flush=True)
            return
        self.complete = self._ended and not found.refused
        print("\n".join([*found.lines(), f"written: {path}"]), flush=True)


def _free(folder: Path) -> Path:
    """The folder, or the first of its numbered successors that does not exist: nothing is overwritten."""
    return next(
        path
        for number in itertools.count(1)
        if not (path := folder if number == 1 else folder.with_name(f"{folder.name}_{number}")).exists()
    )


def calibrate_live(arguments: Sequence[str]) -> int:
    """Run the node with `--ros-args` arguments; 0 when every muscle was calibrated, 1 when some were not."""
    made: list[EmgCalibrator] = []

    def make() -> EmgCalibrator:
        made.append(EmgCalibrator())
        return made[0]

    make.__name__ = "emg_calibrator"
    code = run(make, arguments)
    return code or int(not made[0].complete)


def main() -> None:
    """Entry point."""
    sys.exit(calibrate_live(sys.argv))


if __name__ == "__main__":
    main()
