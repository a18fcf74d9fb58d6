"""The operator's hand on a running graph: wait, arm, stop, and see what the device applies."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from std_srvs.srv import Trigger

from exo_common.errors import ExoError
from exo_common.qos import CONTROL
from exo_interfaces.msg import AssistRequest, DeviceState, SafetyState

DISCOVERY_TIMEOUT_S = 20.0


class Operator:
    """Talks to the graph from a thread of its own; a context manager.

    Attributes
    ----------
    device, safety, request : the newest message of each kind, None before the first.
    """

    def __init__(self, domain_id: int | None = None) -> None:
        self.device: DeviceState | None = None
        self.safety: SafetyState | None = None
        self.request: AssistRequest | None = None
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = rclpy.create_node("operator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for kind, topic, name in (
            (DeviceState, "/device/state", "device"),
            (SafetyState, "/safety/state", "safety"),
            (AssistRequest, "/assist/request", "request"),
        ):
            self._node.create_subscription(kind, topic, self._keep(name), CONTROL)
        self._services = {name: self._node.create_client(Trigger, f"/safety/{name}") for name in ("arm", "stop")}
        self._thread = threading.Thread(target=self._spin, name="operator", daemon=True)

    def __enter__(self) -> Operator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = DISCOVERY_TIMEOUT_S) -> float:
        """Wait for a condition; return the seconds it took.

        Raises
        ------
        ExoError : naming `what` did not happen within `timeout_s`.
        """
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > timeout_s:
                said = f"; the supervisor says: {self.safety.sentence}" if self.safety and self.safety.sentence else ""
                raise ExoError(f"{what} did not happen within {timeout_s:.0f} s{said}; look at what the nodes printed")
            time.sleep(0.002)
        return time.monotonic() - started

    def arm(self, timeout_s: float = DISCOVERY_TIMEOUT_S) -> None:
        """Arm; repeats while the supervisor refuses, for it may still wait for fresh inputs.

        Raises
        ------
        ExoError : with the supervisor's own sentence if it keeps refusing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            reply = self._call("arm")
            if reply.success:
                return
            if time.monotonic() > deadline:
                raise ExoError(f"the supervisor refuses to arm: {reply.message}")
            time.sleep(0.2)

    def keep_armed(self) -> None:
        """Arm again where the supervisor has tripped, as an operator beside the wearer would."""
        if self.safety is not None and self.safety.level == SafetyState.TRIPPED:
            self.arm()

    def stop(self) -> None:
        """Latch the stop."""
        self._call("stop")

    def _call(self, name: str) -> Any:
        client = self._services[name]
        if not client.wait_for_service(timeout_sec=DISCOVERY_TIMEOUT_S):
            raise ExoError(f"/safety/{name} does not answer; is the supervisor running?")
        future = client.call_async(Trigger.Request())
        self.wait_until(future.done, f"an answer of /safety/{name}", 5.0)
        return future.result()

    def _keep(self, name: str) -> Callable[[Any], None]:
        def callback(message: Any) -> None:
            setattr(self, name, message)

        return callback

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
