"""A node's health on /diagnostics once a second, standing on what it counted itself."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from exo_common.qos import PUBLISH


class Diagnostics:
    """Publishes one status per second for `node`.

    The node sets `level` and `message` and changes `values`, a mapping of what
    it counts (processed, dropped, latency in ms ...) to numbers or short texts.
    """

    def __init__(self, node: Node) -> None:
        self.level: bytes = DiagnosticStatus.OK
        self.message = "running"
        self.values: dict[str, object] = {}
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", PUBLISH)
        node.create_timer(1.0, self.publish)

    def publish(self) -> None:
        """Publish now; the timer does so once a second."""
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        values = [KeyValue(key=k, value=str(v)) for k, v in self.values.items()]
        array.status = [
            DiagnosticStatus(level=self.level, name=self._node.get_name(), message=self.message, values=values)
        ]
        self._publisher.publish(array)
