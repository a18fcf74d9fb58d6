"""Which channel of a device is which muscle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exo_common.errors import ExoError
from exo_emg.muscles import channel_name

# A channel so named is left out.
UNUSED = "-"


def assign(labels: Sequence[str], muscles: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """The columns to use and the muscle of each.

    Parameters
    ----------
    labels : what the device calls its channels.
    muscles : one entry per channel in the device's order, each a muscle as laboratories write it or `-` to leave
        the channel out; or `label=muscle` entries, and channels not mentioned or called `-` are left out; or nothing,
        if the labels themselves name muscles.

    Raises
    ------
    ExoError : if number or labels do not fit the device, a label does not tell one channel, or a muscle is unknown.
    """
    if not muscles:
        return list(range(len(labels))), tuple(_named(label) for label in labels)
    if any("=" in entry for entry in muscles):
        return _by_label(labels, muscles)
    if len(muscles) != len(labels):
        raise ExoError(
            f"parameter muscles names {len(muscles)} channels but the device has {len(labels)} "
            f"({', '.join(labels)}); give one muscle per channel, '{UNUSED}' for an unused one"
        )
    return _used(range(len(muscles)), muscles)


def _used(columns: Iterable[int], muscles: Iterable[str]) -> tuple[list[int], tuple[str, ...]]:
    """Columns and names without the unused."""
    used = [(column, muscle) for column, muscle in zip(columns, muscles, strict=True) if muscle.strip() != UNUSED]
    if not used:
        raise ExoError("parameter muscles leaves every channel out; name at least one muscle")
    return [column for column, _ in used], tuple(channel_name(muscle) for _, muscle in used)


def _by_label(labels: Sequence[str], muscles: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    columns: list[int] = []
    names = []
    for entry in muscles:
        label, equals, muscle = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ExoError(f"parameter muscles mixes 'label=muscle' with '{entry}'; write every entry the same way")
        if label not in labels:
            raise ExoError(
                f"parameter muscles names channel '{label}', which the device does not have; it has {', '.join(labels)}"
            )
        if list(labels).count(label) > 1:
            raise ExoError(
                f"the device calls several channels '{label}'; list the muscles in the device's order, without labels"
            )
        column = list(labels).index(label)
        if column in columns:
            raise ExoError(f"parameter muscles names channel '{label}' twice; give every channel one muscle")
        columns.append(column)
        names.append(muscle)
    return _used(columns, names)


def _named(label: str) -> str:
    try:
        return channel_name(label)
    except ExoError as error:
        raise ExoError(f"{error}, or list the muscles in parameter muscles") from None
