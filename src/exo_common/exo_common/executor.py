"""An executor for plain callbacks in one thread, for a fraction of the processor time of rclpy's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from rclpy.context import Context
from rclpy.event_handler import EventHandler
from rclpy.executors import ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.waitable import NumberOfEntities

from exo_common.clock import NS_PER_S

# How often events of the middleware (somebody offers another quality of service ...) are looked for, s. Every topic
# has two or more, and each would cost every message its part of the wait.
EVENTS_S = 1.0


class DirectExecutor(SingleThreadedExecutor):
    """Calls subscriptions and timers straight from one wait set that it keeps.

    rclpy 9.1 wraps each message into a task, wakes itself twice for it and builds its wait set anew each time: three
    rounds a message. Here a message is one. Services, clients and tasks, which are rare, go rclpy's way, and so do
    events, once in :data:`EVENTS_S`.

    Callbacks are plain functions; one that awaits is refused.

    Parameters
    ----------
    wake_s : after so long without anything to do, s, the interpreter runs all the same, as it must to see a signal.
    """

    def __init__(self, wake_s: float, *, context: Context | None = None) -> None:
        super().__init__(context=context)
        self._wake_ns = round(wake_s * NS_PER_S)
        self._events_due = 0.0
        self._held = ExitStack()
        # None: to be built, because something was created or destroyed.
        self._wait_set: Any = None

    def spin(self) -> None:
        """Run callbacks until this executor or its context shuts down."""
        while self._context.ok() and not self._is_shutdown:
            self._spin_round()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop, and let go of everything waited for."""
        self._wait_set = None
        self._held.close()
        return bool(super().shutdown(timeout_sec))

    def _spin_round(self) -> None:
        """Wait, and run what is ready: at most one message of each subscription."""
        if self._wait_set is None:
            try:
                self._gather()
            except _rclpy.InvalidHandle:
                # Destroyed by another thread between the list and the look; it says so to the guard.
                return
        wait_set = self._wait_set
        wait_set.clear_entities()
        for add, handle in self._entities:
            add(handle)
        for waitable in self._waitables:
            waitable.add_to_wait_set(wait_set)
        wait_set.wait(self._wake_ns)
        if wait_set.get_ready_entities("guard_condition"):
            self._wait_set = None
        for pointer in wait_set.get_ready_entities("timer"):
            timer = self._timers[pointer]
            # rcl counts a cancelled timer as ready.
            if timer.handle.is_timer_ready():
                self._call(self._take_timer(timer))
        for pointer in wait_set.get_ready_entities("subscription"):
            self._call(self._take_subscription(self._subscriptions[pointer]))
        if not self._context.ok():
            return
        now = time.monotonic()
        if (
            self._tasks
            or now >= self._events_due
            or wait_set.get_ready_entities("service")
            or wait_set.get_ready_entities("client")
            or any([waitable.is_ready(wait_set) for waitable in self._waitables])
        ):
            self._events_due = now + EVENTS_S
            self._spin_others()

    def _gather(self) -> None:
        """Build the wait set; what is in it is not destroyed while it is held."""
        self._held.close()
        nodes = self.get_nodes()
        subscriptions, timers, services, clients = (
            [own for node in nodes for own in getattr(node, kind)]
            for kind in ("subscriptions", "timers", "services", "clients")
        )
        self._waitables = [own for node in nodes for own in node.waitables if not isinstance(own, EventHandler)]
        count = NumberOfEntities(len(subscriptions), 1, len(timers), len(clients), len(services))
        for waitable in self._waitables:
            self._held.enter_context(waitable)
            count += waitable.get_num_entities()
        for own in (*subscriptions, *timers, *services, *clients, self._guard):
            self._held.enter_context(own.handle)
        wait_set = _rclpy.WaitSet(
            count.num_subscriptions,
            count.num_guard_conditions,
            count.num_timers,
            count.num_clients,
            count.num_services,
            count.num_events,
            self._context.handle,
        )
        self._entities = [
            (add, own.handle)
            for add, entities in (
                (wait_set.add_subscription, subscriptions),
                (wait_set.add_timer, timers),
                (wait_set.add_service, services),
                (wait_set.add_client, clients),
                # Triggered by whatever is created, destroyed or put off with a task.
                (wait_set.add_guard_condition, (self._guard,)),
            )
            for own in entities
        ]
        self._subscriptions = {own.handle.pointer: own for own in subscriptions}
        self._timers = {own.handle.pointer: own for own in timers}
        self._wait_set = wait_set

    @staticmethod
    def _call(execute: Callable[[], Coroutine[None, None, None]] | None) -> None:
        if execute is None:
            return
        try:
            execute().send(None)
        except StopIteration:
            return
        raise TypeError("a callback awaits; this executor runs plain functions only")

    def _spin_others(self) -> None:
        """One round of rclpy's own, without waiting."""
        while True:
            try:
                handler, _, _ = self.wait_for_ready_callbacks(timeout_sec=0.0)
            except (TimeoutException, ShutdownException):
                return
            handler()
            handler.result()
