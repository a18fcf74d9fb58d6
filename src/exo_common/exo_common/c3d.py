"""C3D files as `ezc3d` gives them: parameters, whether the file is whole, and its EMG channels."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.errors import ExoError

VOLT_UNITS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "µV": 1e-6, "μV": 1e-6}  # two characters look like mu
# What else people write, in lower case, with any mu as u.
VOLT_WORDS = {
    **dict.fromkeys(("v", "volt", "volts"), "V"),
    **dict.fromkeys(("mv", "mvolt", "mvolts", "millivolt", "millivolts"), "mV"),
    **dict.fromkeys(("uv", "uvolt", "uvolts", "microvolt", "microvolts"), "uV"),
}
# What reading a damaged file may raise, in the library or behind it.
DAMAGE = (RuntimeError, ValueError, TypeError, LookupError, OSError, MemoryError, struct.error)
# C3D's header: sections are counted in blocks; bytes 6 to 9 hold the first and last frame; the parameter section,
# whose block is byte 0, tells the byte order in its fourth byte.
BLOCK, FRAMES_AT, BIG_ENDIAN, LARGEST, MAX_BLOCKS = 512, 6, 86, 65535, 256
# A force plate's output as it is usually called: Fx1, Force.Fz2, Mx, FP1_Fz, Cx1.
PLATE_LABEL = re.compile(r"(^|[^A-Za-z])(F|M|C|Force|Moment|COP)\.?_?[xyz]\d*$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Analog:
    """Surface EMG: `values` (n, k) V, sampled at `rate_hz` from the first marker frame on.

    `others` are the analog channels in other units that belong to no force plate, as "name (unit)".
    """

    names: tuple[str, ...]
    rate_hz: float
    values: NDArray[np.float64]
    others: tuple[str, ...] = ()


def volt_unit(unit: str) -> str:
    """V, mV or uV in any spelling ("volts", "UV", "µV"); another unit without blanks and brackets, as it is."""
    plain = unit.strip().strip("[]()").strip()
    return VOLT_WORDS.get(plain.replace("µ", "u").replace("μ", "u").lower(), plain)


def emg(content: Mapping[str, Any]) -> Analog | None:
    """The channels in volts that belong to no force plate; None where there are none."""
    parameters = content["parameters"]
    samples = np.asarray(content["data"]["analogs"][0], dtype=float)
    names, units = text(parameters, "ANALOG", "LABELS"), text(parameters, "ANALOG", "UNITS")
    rate = float(np.ravel(values(parameters, "ANALOG", "RATE", [0.0]))[0])
    # Plates count their channels from one; zero fills the table up.
    wired = {int(i) - 1 for i in np.ravel(values(parameters, "FORCE_PLATFORM", "CHANNEL", []))}
    plain = [volt_unit(unit) for unit in units]
    own = [
        i
        for i, (name, _) in enumerate(zip(names, plain, strict=False))
        if i < len(samples) and i not in wired and not PLATE_LABEL.search(name.strip())
    ]
    chosen = [i for i in own if plain[i] in VOLT_UNITS]
    if not chosen or not rate > 0.0:
        return None
    scale = np.array([VOLT_UNITS[plain[i]] for i in chosen])
    others = tuple(f"{names[i].strip()} ({plain[i] or 'no unit'})" for i in own if i not in chosen)
    return Analog(tuple(names[i].strip() for i in chosen), rate, scale * samples[chosen].T, others)


def read_emg(path: Path) -> Analog:
    """The EMG of a C3D file.

    Raises
    ------
    ExoError : if the file is missing, damaged or truncated, or holds no channel in volts.
    """
    import ezc3d  # type: ignore[import-untyped]

    if not path.is_file():
        raise ExoError(f"{path} does not exist; check the file name")
    check_parameters(path)
    try:
        content = ezc3d.c3d(str(path), extract_forceplat_data=False)
        check_whole(path, np.asarray(content["data"]["points"]).shape[2])
        found = emg(content)
        units = sorted({unit.strip() for unit in text(content["parameters"], "ANALOG", "UNITS")})
    except DAMAGE as error:
        raise ExoError(f"{path} is not a whole C3D file ({reason(error)}); copy or export it again") from None
    if found is None:
        raise ExoError(
            f"{path} holds no analog channel in V, mV or uV (units there: {', '.join(units) or 'none'}); "
            "export the EMG with its units"
        )
    return found


def check_parameters(path: Path) -> None:
    """To be called before the library reads: it never ends where the parameters are cut.

    Raises
    ------
    ExoError : if the file ends before its data.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_BLOCKS * BLOCK)
    parameters = (raw[0] - 1) * BLOCK if raw else 0
    # The parameter section begins with its own block, its length in blocks and the byte order.
    if parameters < BLOCK or len(raw) < parameters + 4:
        raise ExoError(f"{path} is not a whole C3D file (its header is cut or damaged); copy or export it again")
    if path.stat().st_size < parameters + raw[parameters + 2] * BLOCK:
        raise ExoError(f"{path} is truncated: it ends before its data; copy it again")


def check_whole(path: Path, frames: int) -> None:
    """The library reads as many frames as are there; the file's header says how many there were.

    Raises
    ------
    ExoError : if frames are missing.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_BLOCKS * BLOCK)
    parameters = (raw[0] - 1) * BLOCK
    order = ">" if len(raw) > parameters + 3 and raw[parameters + 3] == BIG_ENDIAN else "<"
    first, last = struct.unpack_from(f"{order}HH", raw, FRAMES_AT)
    declared = last - first + 1
    # Longer recordings than a 16-bit number can count put the largest one there.
    if last != LARGEST and frames < declared:
        raise ExoError(f"{path} is truncated: {frames} of {declared} frames are there; copy it again")


def values(parameters: Mapping[str, Any], group: str, name: str, otherwise: Any = None) -> Any:
    """A parameter's value; `otherwise` where it is missing, or KeyError without one."""
    if group not in parameters or name not in parameters[group]:
        if otherwise is None:
            raise KeyError(f"{group}:{name} is missing")
        return otherwise
    return parameters[group][name]["value"]


def text(parameters: Mapping[str, Any], group: str, name: str) -> Sequence[str]:
    """A text parameter with its continuations (LABELS, LABELS2, ...)."""
    found: list[str] = list(values(parameters, group, name, []))
    number = 2
    while group in parameters and f"{name}{number}" in parameters[group]:
        found += list(parameters[group][f"{name}{number}"]["value"])
        number += 1
    return found


def reason(error: BaseException) -> str:
    """The first line of an error, for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
