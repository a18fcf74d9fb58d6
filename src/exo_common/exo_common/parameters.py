"""Parameters declared once: type, unit, default, range and description.

A package's configuration is a frozen dataclass whose fields are made by
:func:`parameter`. The same declaration validates YAML and
generates ROS parameters (:func:`declare`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from exo_common.errors import ExoError

if TYPE_CHECKING:
    from rclpy.node import Node


def parameter(
    default: Any,
    unit: str,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare one field of a :class:`Parameters` dataclass."""
    metadata = {
        "unit": unit,
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
    }
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Base of every configuration; validates itself on construction.

    Fields hold `bool`, `int`, `float`, `str` or `list[int]`, `list[float]`, `list[str]`.

    Raises
    ------
    ExoError : if a value has the wrong type, is not finite, or is out of range.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = hints[field.name]
            if wanted is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, field.name, value)
            self._check(field, value, wanted)

    def _check(self, field: dataclasses.Field[Any], value: Any, wanted: Any) -> None:
        limits = field.metadata
        expected = getattr(wanted, "__origin__", wanted)
        (inner,) = getattr(wanted, "__args__", (expected,))
        # Numbers without a decimal point are read as int.
        allowed = (int, float) if inner is float and expected is list else (inner,)
        if type(value) is not expected or (expected is list and any(type(item) not in allowed for item in value)):
            raise ExoError(
                f"parameter {field.name} must be of type {wanted.__name__ if expected is wanted else wanted}, "
                f"not {value!r}; {limits['description']}"
            )
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, float) and not math.isfinite(item):
                raise ExoError(f"parameter {field.name} must be finite, not {item}; give a number in {limits['unit']}")
            low, high = limits["minimum"], limits["maximum"]
            if (low is not None and item < low) or (high is not None and item > high):
                raise ExoError(
                    f"parameter {field.name} = {item} {limits['unit']} is outside "
                    f"[{low}, {high}]; choose a value inside"
                )
            if limits["choices"] and item not in limits["choices"]:
                raise ExoError(
                    f"parameter {field.name} = {item!r} is unknown; choose one of {', '.join(limits['choices'])}"
                )


P = TypeVar("P", bound=Parameters)


def from_mapping(cls: type[P], values: Mapping[str, Any], source: str) -> P:
    """Build a configuration from a mapping read from `source` (a file name).

    Raises
    ------
    ExoError : naming `source`, for an unknown key or a bad value.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(map(str, set(values) - set(names)))
    if unknown:
        raise ExoError(f"{source}: unknown key '{unknown[0]}'; known keys are {', '.join(names)}")
    try:
        return cls(**values)
    except ExoError as error:
        raise ExoError(f"{source}: {error}") from None


def declare(node: Node, cls: type[P]) -> P:
    """Declare every field of `cls` as a parameter of `node` and return the configuration."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    values = {}
    for field in dataclasses.fields(cls):
        limits = field.metadata
        unit = f" [{limits['unit']}]" if limits["unit"] else ""
        descriptor = ParameterDescriptor(description=f"{limits['description']}{unit}", read_only=True)
        default = field.default_factory() if callable(field.default_factory) else field.default
        low, high = limits["minimum"], limits["maximum"]
        if low is not None and high is not None:
            if isinstance(default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
            elif type(default) is int:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        if isinstance(default, list):
            # An empty list has no type on the wire; the declaration says which one it is.
            descriptor.dynamic_typing = True
        try:
            value = node.declare_parameter(field.name, default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ExoError(f"node {node.get_name()}: {error}; {limits['description']}{unit}") from None
        values[field.name] = list(value) if isinstance(default, list) else value
    return from_mapping(cls, values, f"node {node.get_name()}")
