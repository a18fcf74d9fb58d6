"""What the muscle solver is given, checked: sentences instead of nonsense."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

FloatArray = NDArray[np.float64]


def checked(
    coordinates: tuple[str, ...], time: FloatArray, q: FloatArray, qd: FloatArray, moment: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Angles, speeds and moments as arrays (n, c).

    Raises
    ------
    ExoError : for shapes that do not belong together, times that do not rise, or values that are not finite (a NaN
        moment is not wanted).
    """
    if time.ndim != 1 or not len(time):
        raise ExoError("there are no frames to find muscle forces in; give the times of at least one")
    if not np.all(np.isfinite(time)) or not np.all(np.diff(time) > 0.0):
        raise ExoError("the times of the frames do not rise from one to the next; sort them and drop repeated ones")
    shape = (len(time), len(coordinates))
    found = []
    for what, values in (("coordinates", q), ("speeds", qd), ("moments", moment)):
        array = np.asarray(values, float)
        if array.shape != shape:
            raise ExoError(
                f"the {what} have shape {array.shape} where {shape} is needed: "
                f"one row per frame, columns {', '.join(coordinates)}"
            )
        bad = ~np.isfinite(array) if what != "moments" else np.isinf(array)
        if np.any(bad):
            frame, column = np.argwhere(bad)[0]
            raise ExoError(
                f"the {what} hold {array[frame, column]} for {coordinates[column]} at "
                f"{time[frame]:.3f} s; fill gaps before muscles are solved"
            )
        found.append(array)
    return found[0], found[1], found[2]


def targets(
    names: tuple[str, ...], n: int, emg: FloatArray | Mapping[str, FloatArray] | None
) -> tuple[FloatArray, tuple[str, ...]]:
    """Targets (n, m) of the named muscles, NaN where not measured, and warnings.

    A muscle whose signal is zero throughout counts as not measured: it is a dead channel, not a resting muscle.

    Raises
    ------
    ExoError : for a muscle that the model lacks, a shape that does not fit, or an infinite target.
    """
    target = np.full((n, len(names)), np.nan)
    if isinstance(emg, Mapping):
        for name, values in emg.items():
            if name not in names:
                raise ExoError(f"EMG is given for muscle '{name}', which the model lacks; map the channel to another")
            target[:, names.index(name)] = values
    elif emg is not None:
        if np.shape(emg) != target.shape:
            raise ExoError(
                f"EMG targets have shape {np.shape(emg)} where {target.shape} is needed: "
                "one row per frame, one column per muscle of the paths"
            )
        target = np.array(emg, float)
    if np.any(np.isinf(target)):
        name = names[np.argwhere(np.isinf(target))[0][1]]
        raise ExoError(f"the EMG target of {name} is infinite; check its gain")
    dead = (n > 1) & np.all(target == 0.0, axis=0)
    if not np.any(dead):
        return target, ()
    target[:, dead] = np.nan
    silent = ", ".join(name for name, zero in zip(names, dead, strict=True) if zero)
    return target, (f"the EMG of {silent} is zero throughout; it counts as not measured",)
