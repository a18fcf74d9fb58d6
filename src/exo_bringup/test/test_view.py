"""The web view: served on this machine only, complete in itself, fed by the graph."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from exo_bringup.nodes.view import PLOT_S, History, View
from exo_common.qos import PUBLISH
from exo_interfaces.msg import DeviceState, SafetyState

DOMAIN = 75
PATIENCE_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "exo_bringup.nodes.view", "--ros-args", "-p", f"port:={port}"]
    environment = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN))
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_page_is_local_and_complete() -> None:
    port = free_port()
    process = start(port)
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as answer:
            page = answer.read().decode()
        assert answer.status == 200 and "<html" in page
        # Nothing is loaded from elsewhere: every src and href is on this server or in the page.
        assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//[^>]+>""", page)
        listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
        local = [line.split()[1] for line in listening.splitlines()[1:] if line.split()[3] == "0A"]  # in state LISTEN
        bound = [address for address in local if address.endswith(f":{port:04X}")]
        assert bound and all(address.startswith("0100007F") for address in bound), "only the loopback address"
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_it_follows_the_graph_and_stops_it() -> None:
    rclpy.init(domain_id=DOMAIN, args=["--ros-args", "-p", f"port:={free_port()}"])
    view, graph = View(), Node("graph")
    stops: list[str] = []

    def stop(_: Trigger.Request, answer: Trigger.Response) -> Trigger.Response:
        stops.append("stop")
        answer.success = True
        return answer

    graph.create_service(Trigger, "/safety/stop", stop)
    joints = graph.create_publisher(JointState, "/twin/joint_states", PUBLISH)
    safety = graph.create_publisher(SafetyState, "/safety/state", PUBLISH)
    device = graph.create_publisher(DeviceState, "/device/state", PUBLISH)
    executor = SingleThreadedExecutor()
    executor.add_node(view)
    executor.add_node(graph)
    try:
        assert "waiting" in view.words()
        view.press_stop()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not (stops and "+4.0 Nm" in view.words() and "armed" in view.words()):
            joints.publish(JointState(name=["hip_flexion_l", "knee_angle_l"], position=[0.3, 0.6]))
            safety.publish(SafetyState(level=SafetyState.ARMED, sentence="all is well"))
            device.publish(DeviceState(torque_nm=[4.0, -2.0]))
            executor.spin_once(0.02)
        words = view.words()
        assert stops and "**armed** all is well" in words and "left +4.0 Nm, right -2.0 Nm" in words
        assert view.angles["knee_angle_l"] == 0.6
        stopped = len(stops)
        for _ in range(30):
            executor.spin_once(0.02)
        assert len(stops) <= stopped + 1, "an answered stop is not repeated"
    finally:
        executor.shutdown()
        view.on_stop()
        view.destroy_node()
        graph.destroy_node()
        rclpy.try_shutdown()


def test_history_keeps_the_newest_seconds() -> None:
    history = History()
    assert [column.shape for column in history.columns()] == [(1,), (1,), (1,)]
    for i in range(2000):
        history.add(0.01 * i, float(i), -float(i))
    seconds, left, right = history.columns()
    assert seconds[-1] == 0.0 and -PLOT_S <= seconds[0] < -PLOT_S + 0.02
    assert left[-1] == 1999.0
    np.testing.assert_array_equal(right, -left)
