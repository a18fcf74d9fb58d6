"""Launch XML: the grammar of ros2 launch, and one sentence for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from exo_bringup.launch_file import Plan, declared_arguments, read
from exo_common.errors import ExoError

NODE = '<node pkg="exo_bringup" exec="recorder" name="{}"/>'


def plan(tmp_path: Path, body: str, **arguments: str) -> Plan:
    path = tmp_path / "test.launch.xml"
    path.write_text(f"<launch>{body}</launch>", encoding="utf-8")
    return read(path, arguments)


def ros_arguments(result: Plan, index: int = 0) -> list[str]:
    command = result.nodes[index].command
    return command[command.index("--ros-args") + 1 :]


def test_a_node_gets_name_namespace_parameters_and_remaps(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("/**: {ros__parameters: {x: 1}}", encoding="utf-8")
    result = plan(
        tmp_path,
        """
        <arg name="rate" default="2"/>
        <group>
          <push-ros-namespace namespace="a"/>
          <push_ros_namespace namespace="b"/>
          <node pkg="exo_bringup" exec="recorder" name="n" namespace="c" args="--one 'two words' $(var rate)">
            <param from="$(dirname)/values.yaml"/>
            <param name="rate" value="$(var rate)"/>
            <param name="text" value="$(var rate)" type="str"/>
            <param name="real" value="$(var rate)" type="float"/>
            <param name="flag" value="true"/>
            <param name="list" value="[1.0, 2.5]"/>
            <param name="empty" value=""/>
            <remap from="in" to="/out"/>
            <env name="KEY" value="value"/>
          </node>
        </group>
        <node pkg="exo_bringup" exec="player" on_exit="shutdown"/>
        """,
    )
    first, second = result.nodes
    assert (first.name, first.namespace, first.environment, first.stops_all) == ("n", "/a/b/c", {"KEY": "value"}, False)
    executable, *words = first.command[: first.command.index("--ros-args")]
    assert executable.endswith("lib/exo_bringup/recorder") and words == ["--one", "two words", "2"]
    assert ros_arguments(result) == [
        "-r", "__node:=n", "-r", "__ns:=/a/b/c", "--params-file", f"{tmp_path}/values.yaml",
        "-p", "rate:=2", "-p", 'text:="2"', "-p", "real:=2.0", "-p", "flag:=true", "-p", "list:=[1.0, 2.5]",
        "-p", 'empty:=""', "-r", "in:=/out",
    ]  # fmt: skip
    assert (second.name, second.namespace, second.stops_all) == ("player", "/", True)
    assert ros_arguments(result, 1) == []


def test_a_scoped_group_forgets_and_an_include_does_not(tmp_path: Path) -> None:
    (tmp_path / "inner.launch.xml").write_text(
        '<launch><arg name="who"/><let name="seen" value="$(var who)"/></launch>', encoding="utf-8"
    )
    result = plan(
        tmp_path,
        f"""
        <let name="x" value="outer"/>
        <group><let name="x" value="inner"/>{NODE.format("$(var x)")}</group>
        {NODE.format("$(var x)")}
        <group scoped="false"><let name="x" value="kept"/></group>
        {NODE.format("$(var x)")}
        <include file="$(dirname)/inner.launch.xml"><arg name="who" value="me"/></include>
        {NODE.format("$(var seen)")}
        """,
    )
    assert [node.name for node in result.nodes] == ["inner", "outer", "kept", "me"]


@pytest.mark.parametrize(
    ("condition", "started"),
    [
        ('if="true"', True),
        ('if="0"', False),
        ('unless="False"', True),
        ('if="$(equals $(var device) hardware)"', False),
        ('if="$(not-equals x$(var record) x)"', False),
        ("if=\"$(equals '$(var device)' 'virtual')\"", True),
        ('if="$(equals 1.0 1)"', True),
        ('if="$(equals true 1)"', True),
    ],
)
def test_conditions(tmp_path: Path, condition: str, started: bool) -> None:
    body = f"""<arg name="device" default="virtual"/><arg name="record" default=""/>
               <group {condition}>{NODE.format("n")}</group>"""
    assert bool(plan(tmp_path, body).nodes) is started


def test_substitutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXO_TEST", "from_env")
    monkeypatch.delenv("EXO_UNSET", raising=False)
    body = '<arg name="inner" default="EXO_TEST"/>' + "".join(
        NODE.format(name) for name in ("$(env EXO_TEST)", "$(env EXO_UNSET other)", "a_$(env $(var inner))_$(var no z)")
    )
    assert [node.name for node in plan(tmp_path, body).nodes] == ["from_env", "other", "a_from_env_z"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<executable cmd='ls'/>", "<executable> inside <launch> is not supported"),
        ("<node pkg='exo_bringup' exec='recorder' respawn='true'/>", "attribute 'respawn' of <node>"),
        ("<node pkg='exo_bringup' exec='recorder'><other/></node>", "<other> inside <node>"),
        ("<node pkg='exo_bringup' exec='nothing'/>", "has no executable 'nothing'"),
        ("<node pkg='nowhere' exec='x'/>", "needs the package 'nowhere'"),
        ("<node pkg='exo_bringup'/>", "<node> needs the attribute 'exec'"),
        ("<node pkg='exo_bringup' exec='recorder' on_exit='explode'/>", "on_exit"),
        ("<node pkg='exo_bringup' exec='recorder'><param name='a' value='b' type='odd'/></node>", "type 'odd'"),
        ("<node pkg='exo_bringup' exec='recorder'><param name='a' value='x' type='int'/></node>", "not of type int"),
        ("<node pkg='exo_bringup' exec='recorder'><param name='a' value='{b: 1}'/></node>", "no number, text or list"),
        ("<node pkg='exo_bringup' exec='recorder'><param from='/nowhere.yaml'/></node>", "parameter file"),
        ("<let name='a' value='$(eval 1 + 1)'/>", "substitution $(eval ...) is not supported"),
        ("<let name='a' value='$(var b)'/>", "variable 'b' is not set"),
        ("<let name='a' value='$(var b'/>", "a bracket is missing"),
        ("<let name='a' value='$(dirname x)'/>", "wrong number of arguments"),
        ("<group if='maybe'/>", "must be true, 1, false or 0"),
        ("<group if='1' unless='1'/>", "keep one of them"),
        ("<arg name='a'/>", "needs the argument a:="),
        ("<arg name='a' default='x'><choice value='y'/></arg>", "choose one of y"),
        ("<include file='$(dirname)/x.launch.py'/>", "only XML"),
        ("<include file='$(find-pkg-share exo_hardware)/launch/hardware.launch.xml'/>", "'exo_hardware', which is not"),
        ("<let", "no valid XML"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_sentence(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(ExoError) as refused:
        plan(tmp_path, body)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_an_argument_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExoError, match=r"no argument 'devise'; its arguments are: device"):
        plan(tmp_path, '<arg name="device" default="virtual"/>', devise="hardware")


def test_the_systems_own_files_are_understood(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "launch"
    values = {"twin": str(tmp_path), "controller": str(tmp_path)}
    assert [a.name for a in declared_arguments(folder / "exo.launch.xml")][:3] == ["device", "twin", "controller"]
    with pytest.raises(ExoError, match="exo_hardware"):
        read(folder / "exo.launch.xml", {**values, "device": "hardware"})
    live = read(folder / "exo.launch.xml", {**values, "record": str(tmp_path / "bag")})
    assert [(node.namespace, node.name) for node in live.nodes] == [
        ("/", "recorder"),
        ("/", "virtual_device"),
        ("/", "supervisor"),
        ("/", "emg_driver"),
        ("/", "emg_processor"),
        ("/", "estimator"),
        ("/", "policy"),
        ("/", "robot_state_publisher"),
        ("/twin", "robot_state_publisher"),
    ]
    started = {node.name: node.command for node in live.nodes}
    assert {'driver:="virtual"', "wait_for_subscribers:=2"} <= set(started["emg_driver"])
    assert "wait_for_watchers:=2" in started["virtual_device"]
    worn = read(folder / "exo.launch.xml", {**values, "emg": "lsl"})
    started = {node.name: node.command for node in worn.nodes}
    assert {'driver:="lsl"', "wait_for_subscribers:=1"} <= set(started["emg_driver"])
    assert "wait_for_watchers:=0" in started["virtual_device"]
    without = read(folder / "exo.launch.xml", {**values, "emg": "none"})
    assert "emg_driver" not in {node.name for node in without.nodes}
    assert [node.name for node in read(folder / "view.launch.xml").nodes] == ["robot_state_publisher"]
    replayed = read(folder / "replay.launch.xml", {"bag": "b", "twin": "t", "rate": "2"})
    assert [node.name for node in replayed.nodes] == ["estimator", "supervisor", "player"]
    assert all("use_sim_time:=true" in node.command for node in replayed.nodes[:2])
    assert replayed.nodes[2].stops_all
