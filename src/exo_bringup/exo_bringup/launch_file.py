"""Launch XML, read the way `ros2 launch` reads it: a file and arguments in, nodes to start out.

The elements the system uses are understood (arg, let, group, push_ros_namespace,
include, node with param, remap and env; if and unless everywhere); anything else
is refused in one sentence, so that a file which starts here also means the same to
`ros2 launch`. Semantics follow launch, launch_xml and launch_ros: a variable set in
a group ends with the group, one set by an include does not, and values of
parameters are typed by YAML's rules.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix, get_package_share_directory

from exo_common.errors import ExoError

TRUE, FALSE = ("true", "1"), ("false", "0")
# Attributes and children each element may have here.
GRAMMAR: dict[str, tuple[set[str], set[str]]] = {
    "launch": ({"version"}, {"*"}),
    "arg": ({"name", "default", "description", "if", "unless"}, {"choice"}),
    "let": ({"name", "value", "if", "unless"}, set()),
    "group": ({"scoped", "if", "unless"}, {"*"}),
    "push_ros_namespace": ({"namespace", "if", "unless"}, set()),
    "push-ros-namespace": ({"namespace", "if", "unless"}, set()),
    "include": ({"file", "if", "unless"}, {"arg"}),
    "node": (
        {"pkg", "exec", "name", "namespace", "args", "output", "on_exit", "if", "unless"},
        {"param", "remap", "env"},
    ),
    "param": ({"name", "value", "type", "from"}, set()),
    "remap": ({"from", "to"}, set()),
    "env": ({"name", "value"}, set()),
    "choice": ({"value"}, set()),
}
ACTIONS = ("arg", "let", "group", "push_ros_namespace", "push-ros-namespace", "include", "node")
TYPES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: _boolean(text),
}
SUBSTITUTION = re.compile(r"\$\(")


@dataclasses.dataclass(frozen=True)
class Argument:
    """One declared launch argument; `default` is None where a value must be given."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class NodeToStart:
    """One process: its label, command line, additions to the environment, and what its end means."""

    name: str  # node name, or the executable's where the file gives none
    namespace: str  # absolute, "/" by default
    command: list[str]
    environment: dict[str, str]
    stops_all: bool  # on_exit="shutdown"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a launch file amounts to."""

    arguments: list[Argument]
    nodes: list[NodeToStart]


def read(path: Path, arguments: Mapping[str, str] | None = None) -> Plan:
    """Evaluate a launch file with the given arguments.

    Raises
    ------
    ExoError : naming the file and what is wrong with it or with an argument.
    """
    evaluation = _Evaluation(dict(arguments or {}))
    evaluation.file(path)
    unknown = sorted(set(arguments or {}) - evaluation.declared.keys())
    if unknown:
        known = ", ".join(evaluation.declared) or "none"
        raise ExoError(f"{path.name} has no argument '{unknown[0]}'; its arguments are: {known}")
    return Plan(list(evaluation.declared.values()), evaluation.nodes)


def declared_arguments(path: Path) -> list[Argument]:
    """The arguments a launch file declares itself, without evaluating it.

    Raises
    ------
    ExoError : if the file cannot be read.
    """
    return [_argument(element, path) for element in _parse(path).iter("arg") if "value" not in element.attrib]


def _argument(element: ET.Element, path: Path) -> Argument:
    if "name" not in element.attrib or any("value" not in choice.attrib for choice in element.findall("choice")):
        raise ExoError(f"{path.name}: an <arg> lacks its name, or a <choice> its value; add it")
    return Argument(
        element.attrib["name"],
        element.get("default"),
        element.get("description", ""),
        tuple(choice.attrib["value"] for choice in element.findall("choice")),
    )


def _parse(path: Path) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except OSError:
        raise ExoError(f"launch file {path} does not exist; check its name") from None
    except ET.ParseError as error:
        raise ExoError(f"launch file {path} is no valid XML ({error}); correct it") from None
    if root.tag != "launch":
        raise ExoError(f"launch file {path} must start with <launch>, not <{root.tag}>")
    _check(root, path)
    return root


def _check(element: ET.Element, path: Path) -> None:
    """Refuse what is not in the grammar, so that nothing is silently left out."""
    attributes, children = GRAMMAR[element.tag]
    if element.tag == "arg" and "value" in element.attrib:
        attributes = {"name", "value"}
    extra = sorted(set(element.attrib) - attributes)
    if extra:
        raise ExoError(f"{path.name}: attribute '{extra[0]}' of <{element.tag}> is not supported; remove it")
    if "if" in element.attrib and "unless" in element.attrib:
        raise ExoError(f"{path.name}: <{element.tag}> has both 'if' and 'unless'; keep one of them")
    for child in element:
        allowed = ACTIONS if "*" in children else children
        if child.tag not in allowed:
            raise ExoError(f"{path.name}: <{child.tag}> inside <{element.tag}> is not supported; remove it")
        _check(child, path)


class _Evaluation:
    """One pass through a launch file and everything it includes."""

    def __init__(self, arguments: dict[str, str]) -> None:
        self.variables = dict(arguments)
        self.namespace = "/"
        self.declared: dict[str, Argument] = {}
        self.nodes: list[NodeToStart] = []
        self._path = Path()

    def file(self, path: Path) -> None:
        outer, self._path = self._path, path
        self._actions(_parse(path))
        self._path = outer

    # ------------------------------------------------------------- elements

    def _actions(self, parent: ET.Element) -> None:
        handlers = {
            "arg": self._arg,
            "let": self._let,
            "group": self._group,
            "push_ros_namespace": self._push,
            "push-ros-namespace": self._push,
            "include": self._include,
            "node": self._node,
        }
        for element in parent:
            if element.tag in handlers and self._applies(element):
                handlers[element.tag](element)

    def _arg(self, element: ET.Element) -> None:
        argument = _argument(element, self._path)
        self.declared.setdefault(argument.name, argument)
        if argument.name not in self.variables:
            if argument.default is None:
                meaning = f" ({argument.description})" if argument.description else ""
                raise ExoError(f"{self._path.name} needs the argument {argument.name}:=...{meaning}")
            self.variables[argument.name] = self._perform(argument.default)
        value = self.variables[argument.name]
        if argument.choices and value not in argument.choices:
            raise ExoError(f"argument {argument.name}:={value} is unknown; choose one of {', '.join(argument.choices)}")

    def _let(self, element: ET.Element) -> None:
        self.variables[self._attribute(element, "name")] = self._attribute(element, "value")

    def _group(self, element: ET.Element) -> None:
        saved = dict(self.variables), self.namespace
        self._actions(element)
        if _boolean(element.get("scoped", "true")):
            self.variables, self.namespace = saved

    def _push(self, element: ET.Element) -> None:
        self.namespace = _join(self.namespace, self._attribute(element, "namespace"))

    def _include(self, element: ET.Element) -> None:
        path = Path(self._attribute(element, "file"))
        if not path.name.endswith((".launch.xml", ".xml")):
            raise ExoError(f"{self._path.name}: {path.name} is no launch XML; only XML can be included")
        for argument in element:
            self.variables[self._attribute(argument, "name")] = self._attribute(argument, "value")
        self.file(path)

    def _node(self, element: ET.Element) -> None:
        package, executable = self._attribute(element, "pkg"), self._attribute(element, "exec")
        name = self._attribute(element, "name") if "name" in element.attrib else ""
        own = self._attribute(element, "namespace") if "namespace" in element.attrib else ""
        namespace = _join(self.namespace, own)
        ros: list[str] = []
        if name:
            ros += ["-r", f"__node:={name}"]
        if namespace != "/":
            ros += ["-r", f"__ns:={namespace}"]
        environment = {}
        for child in element:
            if child.tag == "param":
                ros += self._param(child)
            elif child.tag == "env":
                environment[self._attribute(child, "name")] = self._attribute(child, "value")
        for child in element.findall("remap"):
            ros += ["-r", f"{self._attribute(child, 'from')}:={self._attribute(child, 'to')}"]
        on_exit = element.get("on_exit", "")
        if on_exit not in ("", "shutdown"):
            raise ExoError(f'{self._path.name}: on_exit="{on_exit}" is not supported; only "shutdown" is')
        command = [
            str(self._executable(package, executable)),
            *self._split(element.get("args", "")),
            "--ros-args",
            *ros,
        ]
        self.nodes.append(NodeToStart(name or executable, namespace, command, environment, bool(on_exit)))

    def _executable(self, package: str, executable: str) -> Path:
        path = Path(self._package(get_package_prefix, package), "lib", package, executable)
        if not path.is_file():
            raise ExoError(f"{self._path.name}: package {package} has no executable '{executable}'; check the spelling")
        return path

    def _param(self, element: ET.Element) -> list[str]:
        if "from" in element.attrib:
            path = Path(self._attribute(element, "from"))
            if not path.is_file():
                raise ExoError(f"{self._path.name}: parameter file {path} does not exist")
            return ["--params-file", str(path)]
        name, text = self._attribute(element, "name"), self._attribute(element, "value")
        kind = element.get("type")
        try:
            if kind is not None:
                value = TYPES[kind](text)
            else:
                value = yaml.safe_load(text) if text else ""
        except KeyError:
            raise ExoError(
                f"{self._path.name}: type '{kind}' of parameter {name} is unknown; choose one of {', '.join(TYPES)}"
            ) from None
        except (ValueError, yaml.YAMLError):
            raise ExoError(f"{self._path.name}: parameter {name} = '{text}' is not of type {kind or 'YAML'}") from None
        if not isinstance(value, (bool, int, float, str, list)):
            raise ExoError(
                f"{self._path.name}: parameter {name} = '{text}' is no number, text or list; add type=\"str\""
            )
        # JSON is YAML, and rcl reads it without guessing: "1" stays a text, 1.0 a float.
        return ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]

    # -------------------------------------------------------- substitutions

    def _attribute(self, element: ET.Element, name: str) -> str:
        if name not in element.attrib:
            raise ExoError(f"{self._path.name}: <{element.tag}> needs the attribute '{name}'")
        return self._perform(element.attrib[name])

    def _applies(self, element: ET.Element) -> bool:
        for name in ("if", "unless"):
            if name in element.attrib:
                text = self._attribute(element, name).strip().lower()
                if text not in TRUE + FALSE:
                    raise ExoError(f'{self._path.name}: {name}="{text}" must be true, 1, false or 0')
                return (text in TRUE) == (name == "if")
        return True

    def _split(self, text: str) -> list[str]:
        """Split a command line at blanks; what a substitution gives stays in one piece."""
        pieces, at = [], 0
        for start, end in _substitutions(text, self._path):
            pieces += [text[at:start], text[start:end]]
            at = end
        pieces.append(text[at:])
        marked = "".join(piece if i % 2 == 0 else f"\0{i}\0" for i, piece in enumerate(pieces))
        try:
            parts = shlex.split(marked)
        except ValueError as error:
            raise ExoError(f"{self._path.name}: '{text}' cannot be split ({error}); close the quotation") from None
        return [re.sub("\0(\\d+)\0", lambda match: self._perform(pieces[int(match[1])]), part) for part in parts]

    def _perform(self, text: str) -> str:
        """Replace every `$(...)` by its value, innermost first."""
        result, at = "", 0
        for start, end in _substitutions(text, self._path):
            result += text[at:start] + self._substitute(text[start + 2 : end - 1])
            at = end
        return result + text[at:]

    def _substitute(self, inside: str) -> str:
        name, *arguments = self._split(inside) or [""]
        known: dict[str, tuple[range, Callable[..., str]]] = {
            "var": (range(1, 3), self._variable),
            "env": (range(1, 3), self._environment),
            "find-pkg-share": (range(1, 2), lambda package: self._package(get_package_share_directory, package)),
            "dirname": (range(0, 1), lambda: str(self._path.parent.resolve())),
            "equals": (range(2, 3), lambda left, right: str(_equal(left, right)).lower()),
            "not-equals": (range(2, 3), lambda left, right: str(not _equal(left, right)).lower()),
        }
        if name not in known:
            raise ExoError(
                f"{self._path.name}: substitution $({name} ...) is not supported; known are {', '.join(known)}"
            )
        count, function = known[name]
        if len(arguments) not in count:
            raise ExoError(f"{self._path.name}: $({inside}) has the wrong number of arguments")
        return function(*arguments)

    def _variable(self, name: str, default: str | None = None) -> str:
        value = self.variables.get(name, default)
        if value is None:
            raise ExoError(f"{self._path.name}: variable '{name}' is not set; declare it with <arg> or <let>")
        return value

    def _environment(self, name: str, default: str | None = None) -> str:
        value = os.environ.get(name, default)
        if value is None:
            raise ExoError(f"{self._path.name}: environment variable {name} is not set; set it or give a default")
        return value

    def _package(self, find: Callable[[str], str], package: str) -> str:
        try:
            return find(package)
        except (PackageNotFoundError, ValueError):
            raise ExoError(
                f"{self._path.name} needs the package '{package}', which is not installed; build or install it first"
            ) from None


def _substitutions(text: str, path: Path) -> list[tuple[int, int]]:
    """Start and end of every outermost `$(...)` in `text`."""
    spans, at = [], 0
    while match := SUBSTITUTION.search(text, at):
        depth, end = 1, match.end()
        while depth:
            if end >= len(text):
                raise ExoError(f"{path.name}: a bracket is missing in '{text}'")
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        spans.append((match.start(), end))
        at = end
    return spans


def _join(outer: str, inner: str) -> str:
    """A namespace below another; an absolute one stands for itself."""
    if inner.startswith("/"):
        return inner
    return f"{outer.rstrip('/')}/{inner}" if inner else outer


def _boolean(text: str) -> bool:
    if text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    raise ExoError(f"'{text}' is neither true nor false; write true or false")


def _equal(left: str, right: str) -> bool:
    """Equality as launch's `equals` sees it: booleans and numbers by value, all else as text."""
    booleans = TRUE + FALSE
    if left.lower() in booleans and right.lower() in booleans:
        return _boolean(left) == _boolean(right)
    try:
        return math.isclose(float(left), float(right))
    except ValueError:
        return left == right
