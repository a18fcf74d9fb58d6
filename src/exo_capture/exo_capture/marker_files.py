"""Recordings of a motion-capture lab, C3D or TRC: markers, force plates, EMG, foot events, the subject."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exo_common.c3d import DAMAGE, Analog, check_parameters, check_whole, emg, reason, text, values
from exo_common.errors import ExoError
from exo_common.opensim_files import UNITS_TO_M, Markers, read_trc

FloatArray = NDArray[np.float64]

FORCE_UNITS = {"N": 1.0}
MOMENT_UNITS = {"Nm": 1.0, "N.m": 1.0, "Nmm": 1e-3, "N.mm": 1e-3}
MASS_UNITS = {"kg": 1.0, "g": 1e-3, "lb": 0.45359237, "lbs": 0.45359237}
EVENT_NAMES = {"strike": ("strike", "contact"), "off": ("off",)}
# What people call the same thing in the SUBJECT group.
SUBJECT_NAMES = {
    "age": ("age",),
    "sex": ("gender", "sex"),
    "mass": ("weight", "mass", "bodymass"),
    "height": ("height", "stature"),
    "leg_length_l": ("l_leglength", "leftleglength", "leg_length_l"),
    "leg_length_r": ("r_leglength", "rightleglength", "leg_length_r"),
}
SEXES = {word: sex for sex, words in (("female", "f female w woman"), ("male", "m male man")) for word in words.split()}
VICON_SUBJECT = {
    "Bodymass": ("mass", 1.0),
    "Height": ("height", 1e-3),
    "LLegLength": ("leg_length_l", 1e-3),
    "RLegLength": ("leg_length_r", 1e-3),
}
LOADED_N = 20.0  # vertical force below which a plate's centre of pressure means nothing


@dataclasses.dataclass(frozen=True)
class ForcePlate:
    """One plate, in the frame of the markers, at `rate_hz` from the first marker frame on.

    Attributes
    ----------
    reaction : (n, 3) N, of the ground on the foot.
    centre_of_pressure : (n, 3) m; NaN while unloaded.
    free_moment : (n, 3) Nm, about the centre of pressure.
    """

    rate_hz: float
    reaction: FloatArray
    centre_of_pressure: FloatArray
    free_moment: FloatArray


@dataclasses.dataclass(frozen=True)
class FootEvent:
    """`kind` "strike" or "off" of the foot of `side` "l" or "r" at `time` s on the markers' clock."""

    side: str
    kind: str
    time: float


@dataclasses.dataclass(frozen=True)
class Subject:
    """What the file says about the person; None where it is silent. m, kg, years; sex is "female" or "male"."""

    mass: float | None = None
    height: float | None = None
    age: float | None = None
    sex: str | None = None
    leg_length_l: float | None = None
    leg_length_r: float | None = None


@dataclasses.dataclass(frozen=True)
class Recording:
    """One marker recording.

    Attributes
    ----------
    markers : trajectories, m, NaN where a marker is missing; in the lab's frame as
        read, in OpenSim's after `marker_frame.to_opensim`.
    emg, plates, events, subject : None or empty where the file has none.
    notes : what was detected, turned or mended, in sentences.
    """

    markers: Markers
    emg: Analog | None = None
    plates: tuple[ForcePlate, ...] = ()
    events: tuple[FootEvent, ...] = ()
    subject: Subject = Subject()
    notes: tuple[str, ...] = ()


def read_recording(path: Path) -> Recording:
    """Read a C3D or TRC file, in the lab's own frame; a person's name before the labels ("Anna:LASI") is taken off.

    Raises
    ------
    ExoError : if the file is missing, damaged, empty or in unknown units.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ExoError(f"{path} does not exist; check the file name")
    if suffix == ".trc":
        found = Recording(read_trc(path))
    elif suffix == ".c3d":
        found = _read_c3d(path)
    else:
        raise ExoError(f"{path} is neither a C3D nor a TRC file; export the markers as one of them")
    names = tuple(name.rpartition(":")[2] for name in found.markers.names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExoError(f"{path} holds marker {twice[0]} more than once, of two people perhaps; export one person")
    return dataclasses.replace(found, markers=dataclasses.replace(found.markers, names=names))


def _read_c3d(path: Path) -> Recording:
    check_parameters(path)
    try:
        notes: tuple[str, ...] = ()
        try:
            content = _load(path, with_plates=True)
        except RuntimeError as error:
            # A plate of an unknown kind must not cost the markers; a damaged file fails again.
            content = _load(path, with_plates=False)
            notes = (f"the force plates were left out ({reason(error)})",)
        return _recording(path, content, notes)
    except DAMAGE as error:
        raise ExoError(f"{path} is not a whole C3D file ({reason(error)}); copy or export it again") from None


def _recording(path: Path, content: Mapping[str, Any], notes: tuple[str, ...]) -> Recording:
    parameters, data = content["parameters"], content["data"]
    points = np.asarray(data["points"][:3], dtype=float)
    residual = np.asarray(data["meta_points"]["residuals"][0])
    labels = tuple(name.strip() for name in text(parameters, "POINT", "LABELS"))
    rate = float(values(parameters, "POINT", "RATE")[0])
    units = (text(parameters, "POINT", "UNITS") or ("mm",))[0].strip()
    if points.shape[1] == 0 or points.shape[2] == 0:
        raise ExoError(f"{path} holds no marker trajectories; export the labelled markers, not only analog data")
    if units not in UNITS_TO_M:
        raise ExoError(f"{path} has its points in '{units}'; export them in mm or m")
    if not rate > 0.0:
        raise ExoError(f"{path} states no frame rate; export it again with POINT:RATE")
    check_whole(path, points.shape[2])
    position = UNITS_TO_M[units] * points.transpose(2, 1, 0)
    position[(residual.T < 0.0) | (position == 0.0).all(axis=2)] = np.nan
    if not np.isfinite(position).any():
        raise ExoError(f"{path} holds no visible marker; label and reconstruct the trajectories before export")
    start = _first_frame(content) / rate
    labelled = [i for i, name in enumerate(labels[: position.shape[1]]) if name]
    markers = Markers(np.arange(position.shape[0]) / rate, tuple(labels[i] for i in labelled), position[:, labelled])
    analog_rate = float(values(parameters, "ANALOG", "RATE", [0.0])[0])
    return Recording(
        markers,
        emg(content),
        tuple(_plate(plate, analog_rate or rate) for plate in data.get("platform", ())),
        _events(parameters, start),
        _subject(parameters, path),
        notes,
    )


def _load(path: Path, with_plates: bool) -> Mapping[str, Any]:
    import ezc3d  # type: ignore[import-untyped]

    content: Mapping[str, Any] = ezc3d.c3d(str(path), extract_forceplat_data=with_plates)
    return content


def _plate(plate: Mapping[str, Any], rate: float) -> ForcePlate:
    for key, known in (("unit_force", FORCE_UNITS), ("unit_moment", MOMENT_UNITS), ("unit_position", UNITS_TO_M)):
        if plate[key] not in known:
            raise ExoError(f"a force plate is in '{plate[key]}'; export forces in N, moments in Nm or Nmm")
    length = UNITS_TO_M[plate["unit_position"]]
    force = FORCE_UNITS[plate["unit_force"]] * np.asarray(plate["force"], dtype=float).T
    pressure = length * np.asarray(plate["center_of_pressure"], dtype=float).T
    pressure[np.linalg.norm(force, axis=1) < LOADED_N] = np.nan
    return ForcePlate(
        rate, force, pressure, MOMENT_UNITS[plate["unit_moment"]] * np.asarray(plate["Tz"], dtype=float).T
    )


def _events(parameters: Mapping[str, Any], start: float) -> tuple[FootEvent, ...]:
    """Foot strikes and offs; their times count from frame 0 of the original recording, `start` s before ours."""
    # Some programs write the pairs of minutes and seconds as one row.
    times = np.reshape(values(parameters, "EVENT", "TIMES", np.zeros((2, 0))), (2, -1), order="F")
    found = []
    for (minutes, seconds), context, label in zip(
        times.T, text(parameters, "EVENT", "CONTEXTS"), text(parameters, "EVENT", "LABELS"), strict=False
    ):
        side, kind = context.strip().lower()[:1], label.strip().lower()
        known = next((key for key, words in EVENT_NAMES.items() if any(word in kind for word in words)), None)
        if side in ("l", "r") and known:
            found.append(FootEvent(side, known, 60.0 * float(minutes) + float(seconds) - start))
    return tuple(sorted(found, key=lambda event: event.time))


def _subject(parameters: Mapping[str, Any], path: Path) -> Subject:
    labels = [label.strip().lower() for label in text(parameters, "SUBJECT", "LABELS")]
    units = [unit.strip() for unit in text(parameters, "SUBJECT", "UNITS")]
    numbers = np.ravel(values(parameters, "SUBJECT", "VALUES", []))
    if not labels and "PROCESSING" in parameters:
        return _vicon_subject(parameters)
    said: dict[str, Any] = {}
    for key, names in SUBJECT_NAMES.items():
        at = next((labels.index(name) for name in names if name in labels), None)
        if at is None or at >= len(numbers):
            continue
        unit = units[at] if at < len(units) else ""
        if key == "sex":
            said[key] = _sex(numbers[at], unit)
            continue
        value = _number(numbers[at])
        if not np.isfinite(value):
            continue
        if key == "age":
            said[key] = value
        else:
            known = MASS_UNITS if key == "mass" else UNITS_TO_M
            if unit not in known:
                raise ExoError(f"{path} gives the subject's {key.replace('_', ' ')} in '{unit}'; use kg, m, cm or mm")
            said[key] = round(known[unit] * value, 4)
    return Subject(**said)


def _number(value: Any) -> float:
    """A parameter's value, which some programs write as text; NaN if it is no number."""
    try:
        return float(value)
    except ValueError:
        return np.nan


def _sex(value: Any, unit: str) -> str | None:
    """Of a word, or of a number whose unit says what it means, e.g. "0: woman, 1: man"; None if that is not clear."""
    word = str(value).strip().lower()
    number = _number(word)
    if np.isfinite(number):
        meaning = re.search(rf"(?<!\d){round(number)}\s*[:=]\s*([a-z]+)", unit.lower())
        word = meaning.group(1) if meaning else ""
    return SEXES.get(word)


def _vicon_subject(parameters: Mapping[str, Any]) -> Subject:
    """Vicon's Plug-in Gait writes kg and mm, without saying so."""
    given = {name: values(parameters, "PROCESSING", name, []) for name in VICON_SUBJECT}
    known: dict[str, Any] = {
        VICON_SUBJECT[name][0]: VICON_SUBJECT[name][1] * float(np.ravel(value)[0])
        for name, value in given.items()
        if len(np.ravel(value))
    }
    return Subject(**known)


def _first_frame(content: Mapping[str, Any]) -> int:
    return int(content["header"]["points"]["first_frame"])
