"""A device to /emg/raw: lifecycle node around whichever driver its parameter names."""

from __future__ import annotations

import dataclasses
import functools
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy._rclpy_pybind11 import RCLError
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from exo_common.clock import NS_PER_S, to_stamp
from exo_common.diagnostics import Diagnostics
from exo_common.discovery import when_heard
from exo_common.errors import ExoError
from exo_common.node import run
from exo_common.parameters import Parameters, declare, parameter
from exo_common.qos import EVERY_SAMPLE, PUBLISH
from exo_emg.acquisition import BACK_OFF_FIRST_S, BACK_OFF_MAX_S, Acquisition
from exo_emg.chunks import Chunk, Layout, frame_id
from exo_emg.drivers.interface import DeviceLost, Driver, TopicDriver, Trouble, find, names
from exo_emg.processing import signal_band
from exo_emg.pump import Pump
from exo_interfaces import msg
from exo_interfaces.msg import EmgFrame

# How soon the end of a stream or a failure is acted upon.
WATCH_S = 0.1
# At the usual 1 kHz the band ends here; below, a good part of EMG is missing.
USUAL_BAND_HZ = 400.0
# Newest samples of a live device are not from the future, nor older than this, or their stamps are no acquisition.
LATENCY_MIN_MS, LATENCY_MAX_MS = -100.0, 1000.0
SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


@dataclasses.dataclass(frozen=True)
class EmgDriverConfig(Parameters):
    """Parameters of the node; those of the driver come on top."""

    driver: str = parameter("virtual", "", "which device: a folder of exo_emg/drivers", choices=names())
    autostart: bool = parameter(True, "", "configure and activate by itself, and wait for a device that is not there")
    muscles: list[str] = parameter(
        [],
        "",
        "muscle of each channel in the device's order ('-': unused), or 'label=muscle' entries; "
        "empty if the device's own labels name muscles",
    )
    wait_for_subscribers: int = parameter(
        0, "", "subscribers of /emg/raw to wait for before starting by itself", minimum=0, maximum=20
    )


def _told(transition: Callable[[Any, LifecycleState], TransitionCallbackReturn]) -> Any:
    """A transition whose defects are logged: rclpy turns an exception into ERROR without a word.

    One that somebody else asks for ends the starting by itself.
    """

    @functools.wraps(transition)
    def wrapped(self: EmgDriver, state: LifecycleState) -> TransitionCallbackReturn:
        if not self._by_itself:
            self._leave_to_user()
        try:
            return transition(self, state)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            return ERROR

    return wrapped


class EmgDriver(LifecycleNode):
    """configure opens the device, activate lets samples flow, deactivate stops them, cleanup lets go of the device.

    A device that goes away while active is waited for; the node stays active, says so in its diagnostics, and
    counts what was lost. What cannot be mended by waiting (the device came back as another one) raises the
    lifecycle's error transition, which lets go of the device and ends unconfigured; with autostart the node ends.
    Whoever asks for a transition takes over from autostart.
    """

    def __init__(self) -> None:
        super().__init__("emg_driver")
        self._config = declare(self, EmgDriverConfig)
        self._driver_type = find(self._config.driver)
        self._driver_config = declare(self, self._driver_type.config_type)
        self._publisher = self.create_lifecycle_publisher(EmgFrame, "/emg/raw", PUBLISH)
        self._acquisition: Acquisition | None = None
        self._layout: Layout | None = None
        self._driver: Driver | None = None
        self._subscription: Subscription | None = None
        self._pump: Pump | None = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._fault: ExoError | None = None
        self._hopeless = self._final = False
        self._sent = 0
        self._lost_told = 0
        self._latency_ms: list[float] = []
        # Of starting by itself: when, and how long until a device that was not there is looked for again.
        self._autostart = self._config.autostart
        self._by_itself = False
        self._begin: Timer | None = None
        self._patience_s = BACK_OFF_FIRST_S
        self._diagnostics = Diagnostics(self)
        self.create_timer(1.0, self._report, clock=self._steady)
        self.create_timer(WATCH_S, self._watch, clock=self._steady)
        if self._autostart:
            when_heard(self, self._publisher, self._config.wait_for_subscribers, self._autostart_soon)

    @_told
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the device; FAILURE (and unconfigured) if it is not there or cannot be used so."""
        try:
            acquisition = Acquisition(self._made(), self._config.muscles)
            self._layout = acquisition.connect()
        except ExoError as error:
            if str(error) != str(self._fault):
                self.get_logger().error(str(error))
            self._fault, self._hopeless = error, not isinstance(error, DeviceLost)
            return FAILURE
        self._acquisition = acquisition
        self._fault = None
        rate = self._layout.rate_hz
        if signal_band(rate)[1] < USUAL_BAND_HZ:
            self.get_logger().warning(
                f"{rate:g} Hz carries EMG up to {signal_band(rate)[1]:g} Hz only; sample at 1000 Hz or faster"
            )
        return super().on_configure(state)

    @_told
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let samples flow, counted from 0."""
        assert self._acquisition is not None and self._layout is not None
        try:
            self._acquisition.reopen()
        except ExoError as error:
            self.get_logger().error(str(error))
            self._fault, self._hopeless = error, not isinstance(error, DeviceLost)
            return FAILURE
        self._fault = None
        self._sent = self._lost_told = 0
        self._acquisition.start()
        result = super().on_activate(state)
        self._pump = Pump(self._acquisition, self._send, self._layout.rate_hz)
        if self._subscription is None:
            self._pump.start()
        return result

    @_told
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, and send the last samples; ERROR if the device failed for good."""
        self._halt()
        return super().on_deactivate(state) if self._fault is None else ERROR

    @_told
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the device."""
        self._release()
        return super().on_cleanup(state)

    @_told
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and let go of the device, whatever the state."""
        self._halt()
        self._release()
        self._final = True
        return super().on_shutdown(state)

    @_told
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the device and be unconfigured again."""
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        self._release()
        super().on_deactivate(state)
        return SUCCESS

    def on_stop(self) -> None:
        """The process ends, maybe in the middle of a transition, which then cannot be followed by another."""
        if self._final:
            return
        try:
            self.trigger_shutdown()
        except RCLError:
            self._halt()
            self._release()

    def _autostart_soon(self) -> None:
        if self._autostart:
            self._begin = self.create_timer(0.0, self._start, clock=self._steady)

    def _leave_to_user(self) -> None:
        self._autostart = False
        if self._begin is not None:
            self.destroy_timer(self._begin)
            self._begin = None

    def _trigger(self, transition: Callable[[], TransitionCallbackReturn]) -> bool:
        """A transition that the node itself wants; whether it succeeded."""
        self._by_itself = True
        try:
            return transition() == SUCCESS
        finally:
            self._by_itself = False

    def _start(self) -> None:
        """Configure and activate; again later while the device is not there."""
        if self._begin is not None:
            self.destroy_timer(self._begin)
            self._begin = None
        # Configured it stays, if only the activation failed.
        configured = self._acquisition is not None or self._trigger(self.trigger_configure)
        if configured and self._trigger(self.trigger_activate):
            return
        if self._hopeless and self._fault is not None:
            raise self._fault
        self._begin = self.create_timer(self._patience_s, self._start, clock=self._steady)
        self._patience_s = min(2.0 * self._patience_s, BACK_OFF_MAX_S)

    def _made(self) -> Driver:
        """The driver, listening already if it is fed by a topic; it outlives a configuration that failed."""
        if self._driver is not None:
            return self._driver
        driver = self._driver_type(self._driver_config)
        if isinstance(driver, TopicDriver):

            def receive(message: Any) -> None:
                driver.receive(message)
                if self._pump is not None:
                    self._poll(self._pump)
                elif self._begin is not None:
                    self._start()

            self._subscription = self.create_subscription(
                getattr(msg, driver.message_name), driver.topic, receive, EVERY_SAMPLE
            )
        self._driver = driver
        return driver

    def _poll(self, pump: Pump) -> None:
        """For a driver that is fed by a topic: each message is the moment to ask."""
        try:
            pump.poll()
        except Exception as error:  # acted upon in _watch
            pump.error = error

    def _watch(self) -> None:
        """Act upon what happened in the pump: a failure, or the end of a recording."""
        if self._pump is None or self._acquisition is None:
            return
        if self._subscription is not None and self._pump.error is None:
            self._poll(self._pump)
        if self._pump.error is not None:
            self._fail(self._pump.error)
        elif self._acquisition.ended:
            self.get_logger().info("the recording has been played to its end")
            self._trigger(self.trigger_deactivate)

    def _fail(self, error: Exception) -> None:
        """What waiting cannot mend: through the error transition to unconfigured, or to the end of the process."""
        self._fault = error if isinstance(error, ExoError) else ExoError(f"EMG driver failed: {error!r}; see its log")
        self.get_logger().error("".join(traceback.format_exception(error)) if self._fault is not error else str(error))
        self._trigger(self.trigger_deactivate)
        if self._autostart:
            raise error

    def _halt(self) -> None:
        """Stop polling, and the device; send what it still had."""
        if self._pump is None or self._acquisition is None:
            return
        self._pump.stop()
        self._pump = None
        self._send(self._acquisition.stop())

    def _release(self) -> None:
        if self._acquisition is not None:
            self._acquisition.close()
            self._acquisition = None
        elif self._driver is not None:
            self._driver.close()
        self._driver = None
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None

    def _send(self, chunks: list[Chunk]) -> None:
        assert self._layout is not None
        for chunk in chunks:
            frame = EmgFrame(first_sample=chunk.first_sample, sampling_rate_hz=self._layout.rate_hz)
            frame.header.stamp = to_stamp(chunk.stamp_ns)
            frame.header.frame_id = frame_id(self._config.driver)
            frame.lost_samples = chunk.first_sample - self._sent
            frame.muscles = list(self._layout.muscles)
            frame.samples = chunk.samples.astype(np.float32).ravel()
            self._publisher.publish(frame)
            self._sent += len(chunk.samples)
            age_ns = self.get_clock().now().nanoseconds - chunk.last_stamp_ns(self._layout.rate_hz)
            self._latency_ms.append(1e3 * age_ns / NS_PER_S)

    def _report(self) -> None:
        diagnostics, acquisition = self._diagnostics, self._acquisition
        diagnostics.level, diagnostics.message = DiagnosticStatus.OK, "running"
        if self._fault is not None:
            diagnostics.level, diagnostics.message = DiagnosticStatus.ERROR, str(self._fault)
        elif self._pump is None or acquisition is None:
            diagnostics.message = "inactive" if acquisition is not None else "unconfigured"
        if self._pump is None or acquisition is None:
            diagnostics.values = {}
            return
        with self._pump.lock:
            status, lost, trouble = acquisition.status(), acquisition.framer.lost, acquisition.trouble()
            latency_ms, self._latency_ms = self._latency_ms, []
        if latency_ms:
            status["latency_p95_ms"] = f"{np.percentile(latency_ms, 95):.2f}"
            middle_ms = float(np.median(latency_ms))
            if trouble is None and self._driver_type.live and not LATENCY_MIN_MS <= middle_ms <= LATENCY_MAX_MS:
                trouble = Trouble(f"samples are stamped {middle_ms / 1e3:.1f} s before now; check the device's clock")
        diagnostics.values = status
        if acquisition.away:
            diagnostics.level, diagnostics.message = DiagnosticStatus.ERROR, acquisition.away
        elif trouble is not None:
            diagnostics.level = DiagnosticStatus.ERROR if trouble.grave else DiagnosticStatus.WARN
            diagnostics.message = trouble.text
        elif lost > self._lost_told:
            diagnostics.level = DiagnosticStatus.WARN
            diagnostics.message = f"{lost - self._lost_told} samples lost in the last second"
        self._lost_told = lost


def main() -> None:
    """Entry point."""
    sys.exit(run(EmgDriver))


if __name__ == "__main__":
    main()
