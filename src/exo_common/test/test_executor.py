"""The executor of every node: what rclpy's own runs, it runs; it is quicker because it wakes once a message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from exo_common.executor import DirectExecutor
from exo_common.qos import EVERY_SAMPLE, LATCHED, PUBLISH

DOMAIN = 82
TIMEOUT_S = 10.0


class Rig:
    """A node on the executor, run in this thread until something is so."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = Node("rig", context=self.context)
        self.executor = DirectExecutor(0.02, context=self.context)
        self.executor.add_node(self.node)

    def spin_until(self, done: Callable[[], bool], seconds: float = TIMEOUT_S) -> bool:
        until = time.monotonic() + seconds
        while not done() and time.monotonic() < until:
            self.executor._spin_round()
        return done()


@pytest.fixture
def rig() -> Iterator[Rig]:
    own = Rig()
    yield own
    own.executor.shutdown()
    own.node.destroy_node()
    own.context.try_shutdown()


def test_every_message_is_heard_in_order_and_one_wakes_it_once(rig: Rig) -> None:
    heard: list[int] = []
    rig.node.create_subscription(Int32, "numbers", lambda message: heard.append(message.data), EVERY_SAMPLE)
    publisher = rig.node.create_publisher(Int32, "numbers", PUBLISH)
    assert rig.spin_until(lambda: publisher.get_subscription_count() == 1)
    for number in range(40):
        publisher.publish(Int32(data=number))
    rounds = 0
    while len(heard) < 40 and rounds < 60:
        rig.executor._spin_round()
        rounds += 1
    assert heard == list(range(40))


def test_what_is_created_and_destroyed_while_it_runs_is_noticed(rig: Rig) -> None:
    heard: list[int] = []
    ticks: list[float] = []
    publisher = rig.node.create_publisher(Int32, "numbers", LATCHED)
    publisher.publish(Int32(data=1))
    held: list = []

    def once() -> None:
        timer.cancel()
        held.append(rig.node.create_subscription(Int32, "numbers", lambda m: heard.append(m.data), LATCHED))

    timer = rig.node.create_timer(0.01, once)
    ticking = rig.node.create_timer(0.01, lambda: ticks.append(time.monotonic()))
    assert rig.spin_until(lambda: heard == [1] and len(ticks) >= 3)
    rig.node.destroy_subscription(held[0])
    rig.node.destroy_timer(ticking)
    before = len(ticks)
    publisher.publish(Int32(data=2))
    rig.spin_until(lambda: False, 0.2)
    assert heard == [1] and len(ticks) == before and len(held) == 1


def test_services_answer_clients_and_what_waits_for_the_answer_runs(rig: Rig) -> None:
    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = "here"
        return response

    rig.node.create_service(Trigger, "call", answer)
    client = rig.node.create_client(Trigger, "call")
    assert rig.spin_until(client.service_is_ready)
    said: list[str] = []
    begun = time.monotonic()
    client.call_async(Trigger.Request()).add_done_callback(lambda future: said.append(future.result().message))
    assert rig.spin_until(lambda: said == ["here"])
    # Not left for the round that looks for rare events.
    assert time.monotonic() - begun < 0.5


def test_events_of_the_middleware_are_heard_of(rig: Rig) -> None:
    rig.node.create_publisher(Int32, "numbers", PUBLISH)
    missed: list[object] = []
    events = rclpy.event_handler.SubscriptionEventCallbacks(incompatible_qos=missed.append)
    rig.node.create_subscription(Int32, "numbers", lambda _: None, LATCHED, event_callbacks=events)
    assert rig.spin_until(lambda: len(missed) == 1)


def test_another_thread_wakes_it_and_stops_it() -> None:
    rig = Rig()
    rig.executor._wake_ns = round(60e9)
    ran: list[int] = []
    thread = threading.Thread(target=rig.executor.spin, daemon=True)
    thread.start()
    time.sleep(0.2)
    rig.executor.create_task(lambda: ran.append(1))
    until = time.monotonic() + TIMEOUT_S
    while not ran and time.monotonic() < until:
        time.sleep(0.01)
    rig.context.shutdown()
    thread.join(TIMEOUT_S)
    assert ran and not thread.is_alive()
    rig.executor.shutdown()


def test_a_defect_in_a_callback_comes_out_and_one_that_awaits_is_refused(rig: Rig) -> None:
    def broken() -> None:
        timer.cancel()
        raise ValueError("broken")

    timer = rig.node.create_timer(0.001, broken)
    with pytest.raises(ValueError, match="broken"):
        rig.spin_until(lambda: False, 1.0)

    class Never:
        def __await__(self) -> Iterator[None]:
            yield

    async def awaits() -> None:
        second.cancel()
        await Never()

    second = rig.node.create_timer(0.001, awaits)
    with pytest.raises(TypeError, match="awaits"):
        rig.spin_until(lambda: False, 1.0)
