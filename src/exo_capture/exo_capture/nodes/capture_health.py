"""How the live capture is doing: rates, delays and losses on /diagnostics, what changes in the log."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node

from exo_capture.live import LiveKeypoints, LiveTracker
from exo_capture.live_sources import Counts, Source
from exo_common.diagnostics import Diagnostics

SILENCE_S = 2.0  # without pictures after which a camera is said to be silent, or without keypoints the computer slow
MS_PER_NS = 1e-6


class CaptureHealth:
    """Diagnostics and log of a capture node. `published` may be called from any thread, the rest from the node's."""

    def __init__(self, node: Node, sources: Sequence[Source], tracker: LiveTracker) -> None:
        self._node, self._sources, self._tracker = node, sources, tracker
        self._diagnostics = Diagnostics(node)
        self._count = 0
        self._latency_ms: deque[float] = deque()
        self._problem = self._said = ""
        self._followed = [(0, 0)] * len(sources)
        self._counted = [Counts()] * len(sources)
        self._heard_at = [np.inf] * len(sources)
        self._reported_at = time.monotonic()
        self._worked_at = np.inf

    def begin(self) -> None:
        """From now on pictures are expected."""
        self._worked_at = time.monotonic()
        self._heard_at = [self._worked_at] * len(self._sources)

    def published(self, keypoints: LiveKeypoints) -> None:
        """Count a set of keypoints and its delay since the pictures were taken."""
        self._count += 1
        self._latency_ms.append((self._node.get_clock().now().nanoseconds - keypoints.stamp_ns) * MS_PER_NS)
        self._problem = keypoints.problem

    def report(self) -> None:
        """Bring the diagnostics up to date; to be called about once a second."""
        now = time.monotonic()
        latency = [self._latency_ms.popleft() for _ in range(len(self._latency_ms))]
        values: dict[str, object] = {
            "keypoints": self._count,
            "fps": round(len(latency) / (now - self._reported_at), 1),
            "latency_p50_ms": round(float(np.quantile(latency, 0.5)), 1) if latency else "",
            "latency_p95_ms": round(float(np.quantile(latency, 0.95)), 1) if latency else "",
        }
        self._reported_at = now
        if latency:
            self._worked_at = now
        for camera in range(len(self._sources)):
            values.update(self._counts(camera))
            self._tell_of_wearer(camera)
        self._diagnostics.values = values
        troubles = [self._trouble(camera, now) for camera in range(len(self._sources))]
        message = "; ".join(text for _, text in troubles if text) or (self._problem if latency else "")
        self._diagnostics.message = message or "running"
        self._diagnostics.level = DiagnosticStatus.WARN if message else DiagnosticStatus.OK
        if all(level == DiagnosticStatus.ERROR for level, _ in troubles):
            self._diagnostics.level = DiagnosticStatus.ERROR
        if message and message != self._said:
            self._node.get_logger().warning(message)
        self._said = message

    def _counts(self, camera: int) -> dict[str, object]:
        view, source = self._tracker.cameras[camera], self._sources[camera]
        values = {
            "name": source.name,
            **dataclasses.asdict(source.mailbox.counts),
            "following": view.follower.following,
            "wearer_found": view.follower.found,
            "wearer_lost": view.follower.lost,
            "legs_exchanged": view.legs.exchanged,
            "joints_rejected": view.legs.rejected,
        }
        return {f"camera{camera}_{key}": value for key, value in values.items()}

    def _tell_of_wearer(self, camera: int) -> None:
        """Log a wearer found or lost since the last time: never is the person changed in silence."""
        name, follower = self._sources[camera].name, self._tracker.cameras[camera].follower
        before, self._followed[camera] = self._followed[camera], (follower.found, follower.lost)
        if follower.lost > before[1]:
            self._node.get_logger().warning(f"{name}: the wearer was lost")
        if follower.found > before[0]:
            rivals = f"; {follower.rivals} other person(s) could be meant" if follower.rivals else ""
            self._node.get_logger().info(f"{name}: following a wearer{rivals}")

    def _trouble(self, camera: int, now: float) -> tuple[bytes, str]:
        """Level of a camera and one sentence on why nothing came of it since the last report; empty if all is well."""
        source = self._sources[camera]
        before, counts = self._counted[camera], dataclasses.replace(source.mailbox.counts)
        self._counted[camera] = counts
        received, refused = counts.received - before.received, counts.refused - before.refused
        if received:
            self._heard_at[camera] = now
        if source.problem:
            return DiagnosticStatus.ERROR, source.problem
        if source.finished:
            return DiagnosticStatus.WARN, f"{source.name} is over"
        if now - self._heard_at[camera] > SILENCE_S:
            return (
                DiagnosticStatus.ERROR,
                f"no pictures come from {source.name}; check that the camera or its driver runs",
            )
        if received and refused == received:
            return (
                DiagnosticStatus.ERROR,
                f"all pictures of {source.name} are stamped too old, too new or out of order; "
                "let its driver use this computer's time",
            )
        if received > refused and now - self._worked_at > SILENCE_S:
            return (
                DiagnosticStatus.WARN,
                f"pictures come from {source.name}, but none is worked on; free the processor for this node",
            )
        return DiagnosticStatus.OK, ""
