"""Message classes by their names."""

from __future__ import annotations

import importlib
from typing import Any

from exo_common.errors import ExoError


def message_class(type_name: str) -> Any:
    """The class of a type such as `sensor_msgs/msg/Imu`.

    Raises
    ------
    ExoError : if its package is not installed.
    """
    try:
        package, kind, name = type_name.split("/")
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ValueError, ImportError, AttributeError):
        raise ExoError(f"message type {type_name} is not installed; build its package first") from None
