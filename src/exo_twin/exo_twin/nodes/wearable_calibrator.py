"""Guides the calibration of encoders and IMUs live and writes it into the twin."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import rclpy
from rclpy.node import Node
from rich.console import Console
from rich.live import Live
from sensor_msgs.msg import Imu, JointState

from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import EVERY_SAMPLE
from exo_twin.calibration import CALIBRATION_FILE, TwinCalibration
from exo_twin.inverse.wearable_reference import reference_of_twin
from exo_twin.twin import Twin
from exo_twin.wearable_guide import IMU_TOPICS, JOINT_STATES, WearableGuide
from exo_twin.wearable_session import calibrate_twin, lines

DRAW_S = 0.1
ATTEMPTS = 3
BAR = 30


@dataclasses.dataclass(frozen=True)
class CalibratorParameters(Parameters):
    """Whose sensors are calibrated."""

    twin: str = parameter("", "", "folder of the wearer's twin")
    silence: float = parameter(10.0, "s", "how long a topic may be silent", minimum=1.0, maximum=600.0)


class WearableCalibrator(Node):
    """Feeds the guide, shows its prompt, calibrates when it is done.

    Attributes
    ----------
    complete : whether the twin was calibrated.
    """

    def __init__(self) -> None:
        super().__init__("wearable_calibrator")
        self._config = declare(self, CalibratorParameters)
        if not self._config.twin:
            raise ExoError("parameter twin is empty; give the folder of the wearer's twin with twin:=<folder>")
        self._twin = Twin.load(Path(self._config.twin))
        # Refused now rather than after the walk.
        reference_of_twin(self._twin)
        TwinCalibration.of_twin(self._twin.folder, self._twin.wearer)
        self.complete = False
        self._guide = WearableGuide()
        self._attempt = 1
        self._shown, self._said = "", ""
        self._heard = dict.fromkeys((JOINT_STATES, *IMU_TOPICS.values()), time.monotonic())
        self._console = Console()
        self._live = Live("waiting for the exo ...", console=self._console, auto_refresh=False)
        if self._console.is_terminal:
            self._live.start()
        self.create_subscription(JointState, JOINT_STATES, self._on_joints, EVERY_SAMPLE)
        for name, topic in IMU_TOPICS.items():
            self.create_subscription(Imu, topic, partial(self._on_imu, name, topic), EVERY_SAMPLE)
        self.create_timer(DRAW_S, self._draw)

    def _on_imu(self, name: str, topic: str, message: Imu) -> None:
        self._heard[topic] = time.monotonic()
        self._guide.collected.imu(name, message)

    def _on_joints(self, message: JointState) -> None:
        self._heard[JOINT_STATES] = time.monotonic()
        if self.complete:
            return
        self._guide.joints(message)
        if self._guide.done:
            self._finish()

    def _finish(self) -> None:
        try:
            fit = calibrate_twin(self._twin, self._guide.collected.recording(), "live")
        except ExoError as error:
            self._said = f"not calibrated: {error}"
            if self._attempt == ATTEMPTS:
                raise
            self._attempt += 1
            self._guide = WearableGuide()
            return
        self.complete = True
        self._stop_page()
        print("\n".join([*lines(fit), f"written: {self._twin.folder / CALIBRATION_FILE}"]), flush=True)
        rclpy.try_shutdown()

    def _draw(self) -> None:
        silent = [topic for topic, at in self._heard.items() if time.monotonic() - at > self._config.silence]
        if silent:
            raise ExoError(
                f"{' and '.join(silent)} sent nothing for {self._config.silence:.0f} s; switch the exo on, check the "
                "sensors' cables and calibrate again"
            )
        prompt = self._guide.prompt
        if self._console.is_terminal:
            filled = round(BAR * prompt.done)
            page = f"{self._said}\n{prompt.task}\n{'#' * filled}{'-' * (BAR - filled)}"
            self._live.update(page, refresh=True)
            return
        text = f"{self._said}\n{prompt.task}".strip()
        if text != self._shown:
            self._shown = text
            print(text, flush=True)

    def _stop_page(self) -> None:
        if self._live.is_started:
            self._live.stop()

    def on_stop(self) -> None:
        """Leave the terminal as it was."""
        self._stop_page()
        if not self.complete:
            print("the twin's calibration is as it was", flush=True)


def calibrate_live(arguments: Sequence[str]) -> int:
    """Run the node with `--ros-args` arguments; 0 when the twin was calibrated, 1 when it was stopped before."""
    made: list[WearableCalibrator] = []

    def wearable_calibrator() -> WearableCalibrator:
        made.append(WearableCalibrator())
        return made[0]

    code = run(wearable_calibrator, arguments)
    return code or int(not made[0].complete)


def main() -> None:
    """Entry point."""
    sys.exit(calibrate_live(sys.argv))


if __name__ == "__main__":
    main()
