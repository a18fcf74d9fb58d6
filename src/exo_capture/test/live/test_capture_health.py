"""What the live capture says of itself when pictures come and nothing becomes of them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from exo_capture.live_sources import Picture, Source
from exo_capture.nodes import capture_health
from exo_capture.nodes.capture_health import CaptureHealth
from exo_common.clock import NS_PER_S

IMAGE = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> tuple[Source, CaptureHealth, Any]:
    """A source, the health of its capture, and the diagnostics."""
    diagnostics = SimpleNamespace(values={}, message="", level=b"")
    monkeypatch.setattr(capture_health, "Diagnostics", lambda node: diagnostics)
    node = Mock()
    node.get_clock().now().nanoseconds = time.time_ns()
    follower = SimpleNamespace(following=True, found=1, lost=0, rivals=0)
    view = SimpleNamespace(follower=follower, legs=SimpleNamespace(exchanged=0, rejected=0))
    source = Source("/cam")
    tracker: Any = SimpleNamespace(cameras=[view])
    health = CaptureHealth(node, [source], tracker)
    health.begin()
    return source, health, diagnostics


def work(source: Source, health: CaptureHealth) -> None:
    """A picture that is taken and becomes keypoints."""
    stamp = time.time_ns()
    source.mailbox.put(Picture(IMAGE, stamp))
    source.mailbox.take(0.0)
    health.published(Mock(stamp_ns=stamp, problem=""))


def test_all_is_well_while_pictures_become_keypoints(camera: Any) -> None:
    source, health, said = camera
    work(source, health)
    health.report()
    assert (said.level, said.message) == (DiagnosticStatus.OK, "running")


def test_refusals_are_counted_from_the_last_report_on(camera: Any) -> None:
    source, health, said = camera
    work(source, health)
    health.report()
    for _ in range(3):
        source.mailbox.put(Picture(IMAGE, time.time_ns() - 5 * NS_PER_S))
    health.report()
    assert said.level == DiagnosticStatus.ERROR
    assert "all pictures of /cam are stamped too old" in said.message
    work(source, health)
    health.report()
    assert said.level == DiagnosticStatus.OK


def test_pictures_that_nobody_works_on_are_a_warning(camera: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, health, said = camera
    monkeypatch.setattr(capture_health, "SILENCE_S", 0.0)
    work(source, health)
    health.report()
    for _ in range(3):
        source.mailbox.put(Picture(IMAGE, time.time_ns()))
    time.sleep(0.01)
    health.report()
    assert said.values["fps"] == 0.0
    assert said.level == DiagnosticStatus.WARN
    assert "pictures come from /cam, but none is worked on" in said.message
