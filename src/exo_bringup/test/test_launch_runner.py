"""The launch runner with real processes: names, parameters and remaps over DDS, and a certain end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from exo_bringup import launch_runner
from exo_bringup.launch_runner import LaunchRunner, describe_arguments, find_launch_file, main
from exo_common.errors import ExoError

DOMAIN = 72
PATIENCE_S = 10.0
ENVIRONMENT = {"ROS_DOMAIN_ID": str(DOMAIN)}


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.02)


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "test.launch.xml"
    path.write_text(f"<launch>{body}</launch>", encoding="utf-8")
    return path


def script(tmp_path: Path, text: str) -> str:
    """A node that is a Python script: handed to the stand-in package `scripts`."""
    path = tmp_path / "lib" / "scripts" / "node"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "scripts"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return '<node pkg="scripts" exec="node" name="{}" {}/>'


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    return tmp_path


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def parameters_of(node: Node, name: str, names: list[str]) -> list[object]:
    client = node.create_client(GetParameters, f"{name}/get_parameters")
    assert client.wait_for_service(PATIENCE_S), f"{name} did not come up"
    future = client.call_async(GetParameters.Request(names=names))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    executor.spin_until_future_complete(future, PATIENCE_S)
    return [value.string_value or value.double_value for value in future.result().values]


def test_names_parameters_and_remaps_arrive(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        <arg name="prefix" default="none/"/>
        <group>
          <push_ros_namespace namespace="twin"/>
          <node pkg="exo_bringup" exec="robot_state_publisher" name="body">
            <param name="frame_prefix" value="$(var prefix)"/>
            <param name="rate" value="25.0"/>
            <remap from="joint_states" to="/elsewhere"/>
          </node>
        </group>
        """,
    )
    context = Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = Node("asker", context=context)
    try:
        with LaunchRunner(path, {"prefix": "twin/"}, ENVIRONMENT, tmp_path / "nodes.log") as runner:
            assert parameters_of(node, "/twin/body", ["frame_prefix", "rate"]) == ["twin/", 25.0]
            wait_for(lambda: node.count_subscribers("/elsewhere") == 1, "the remapped subscription")
            assert node.count_publishers("/twin/robot_description") == 1
            pid = runner.processes["twin/body"]
            runner.require_alive()
        assert gone(pid) and runner.exit_code == 0, runner.deaths
    finally:
        node.destroy_node()
        context.try_shutdown()


def test_a_death_is_told_and_changes_the_exit_code(prefix: Path) -> None:
    node = script(prefix, "import time\nprint('here', flush=True)\ntime.sleep(60)")
    log = prefix / "logs" / "nodes.log"
    with LaunchRunner(write(prefix, node.format("a", "") + node.format("b", "")), log=log) as runner:
        wait_for(lambda: log.exists() and log.read_text().count("here") == 2, "both nodes")
        os.kill(runner.processes["a"], signal.SIGKILL)
        wait_for(lambda: runner.alive() and runner.deaths, "the death")
        with pytest.raises(ExoError, match=r"a ended by itself \(signal SIGKILL\)"):
            runner.require_alive()
        assert not gone(runner.processes["b"])
    assert runner.exit_code == 1 and runner.deaths == ["a ended by itself (signal SIGKILL)"]
    assert "[b] here" in log.read_text()
    assert gone(runner.processes["b"])


def test_a_node_that_ignores_int_and_term_is_killed(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_runner, "INT_PATIENCE_S", 0.3)
    monkeypatch.setattr(launch_runner, "TERM_PATIENCE_S", 0.3)
    deaf = """import signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)"""
    log = prefix / "nodes.log"
    with LaunchRunner(write(prefix, script(prefix, deaf).format("a", "")), log=log) as runner:
        wait_for(lambda: log.exists() and "deaf" in log.read_text(), "the node")
    assert gone(runner.processes["a"])
    assert runner.deaths == ["a did not stop cleanly (signal SIGKILL)"]
    runner.stop()  # again does nothing
    assert len(runner.deaths) == 1


def test_the_end_of_one_node_can_end_all(prefix: Path) -> None:
    nodes = script(prefix, "import sys, time\ntime.sleep(0.2 if '--short' in sys.argv else 60)")
    body = nodes.format("long", "") + nodes.format("short", 'args="--short" on_exit="shutdown"')
    with LaunchRunner(write(prefix, body), log=prefix / "nodes.log") as runner:
        assert runner.wait(PATIENCE_S)
    assert runner.exit_code == 0 and gone(runner.processes["long"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_one_signal_to_the_runner_leaves_no_process(prefix: Path, number: signal.Signals) -> None:
    node = script(prefix, "import os, time\nprint('pid', os.getpid(), flush=True)\ntime.sleep(60)")
    command = [
        sys.executable,
        "-m",
        "exo_bringup.launch_runner",
        str(write(prefix, node.format("a", "") + node.format("b", ""))),
    ]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    try:
        pids = [int(runner.stdout.readline().split()[-1]) for _ in range(2)]
        runner.send_signal(number)
        assert runner.wait(PATIENCE_S) == (0 if number == signal.SIGINT else -signal.SIGKILL)
        wait_for(lambda: all(gone(pid) for pid in pids), "the nodes' end")
    finally:
        runner.kill()


def test_arguments_are_shown_and_mistakes_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exo_bringup", "exo", "--show-args"]) == 0
    shown = capsys.readouterr().out
    assert "device:=" in shown and "virtual | hardware" in shown and "required" in shown
    assert describe_arguments([]) == "  no arguments"
    with pytest.raises(ExoError, match=r"has no launch file 'nothing'; it has:.*exo.launch.xml"):
        find_launch_file("exo_bringup", "nothing")
    with pytest.raises(ExoError, match="package 'nowhere' is not installed"):
        main(["nowhere", "exo"])
    with pytest.raises(ExoError, match="give a package and a launch file"):
        main([])
