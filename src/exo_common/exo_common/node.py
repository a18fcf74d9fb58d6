"""What every node's `main` does: start, spin in one thread, stop cleanly."""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from exo_common.errors import ExoError
from exo_common.executor import DirectExecutor

# How soon a stop is noticed at the latest, s: Python sees a signal only when the executor wakes up, and in simulated
# time nothing else may wake it.
WAKE_S = 0.2


def run(make: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """Create a node, spin it until SIGINT or SIGTERM, destroy it; return the exit code.

    A node that has something to say before it dies (fade out, final counts)
    defines `on_stop()`, which is called while publishing still works.
    """
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)

    stopping = False

    def interrupt(*_: object) -> None:
        nonlocal stopping
        stopping = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    node: Node | None = None
    executor = DirectExecutor(WAKE_S)
    code = 0
    try:
        node = make()
        executor.add_node(node)
        # Everything alive now lives as long as the process: keep the collector from scanning it.
        gc.collect()
        gc.freeze()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except ExoError as error:
        print(f"{make.__name__}: {error}", file=sys.stderr)
        code = 2
    except Exception:
        # The interrupt may come while rclpy builds a message, which then fails with an error of its own.
        if not stopping:
            # A defect: say where, but still fade out and close what is open below.
            traceback.print_exc()
            code = 1
    # From here on a second signal must not tear the fade-out apart.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if node is not None:
        on_stop = getattr(node, "on_stop", None)
        if on_stop is not None:
            on_stop()
        executor.shutdown()
        node.destroy_node()
    rclpy.try_shutdown()
    return code
