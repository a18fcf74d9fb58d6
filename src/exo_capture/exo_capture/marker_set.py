"""Maps of skin-marker sets: which marker sits where on the body, and which keypoints follow from them.

A map is a YAML file (see marker_sets/); `MarkerSet.load` reads one, `recognise`
finds the shipped one that fits a recording.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from exo_common.errors import ExoError
from exo_common.frames import SIDES
from exo_common.opensim_files import Markers

FloatArray = NDArray[np.float64]

FOLDER = Path(__file__).parent / "marker_sets"
UP = np.array([0.0, 1.0, 0.0])
# Hip joint centre from pelvis width and depth (Harrington et al. 2007, J Biomech 40:595; OpenSim's axes, m):
# forward of mid-ASIS, above it, and to the side.
HARRINGTON = ((-0.24, "depth", -0.0099), (-0.30, "width", -0.0109), (0.33, "width", 0.0073))
RECOGNISED_SHARE = 0.6  # of a map's markers in a recording; fewer means another marker set


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a marker sits: OpenSim body, rough location on it (3,) m or None, weight in kinematics."""

    landmark: str
    body: str
    location: tuple[float, float, float] | None
    weight: float


@dataclasses.dataclass(frozen=True)
class KeypointRule:
    """A keypoint from markers, and how far to move it.

    Attributes
    ----------
    midpoint : of these markers; none for a hip centre, which follows from the pelvis.
    beyond, by : away from marker `beyond`, by this share of the distance to it.
    inward : m, towards the body's midline and at right angles to the limb.
    down : m.
    """

    midpoint: tuple[str, ...] = ()
    beyond: str | None = None
    by: float = 0.0
    inward: float = 0.0
    down: float = 0.0
    hip_centre: bool = False


@dataclasses.dataclass(frozen=True)
class MarkerSet:
    """One map.

    Attributes
    ----------
    name : of the map.
    markers : marker -> place on the body.
    keypoints : BlazePose keypoint (a name in exo_capture.landmarks.MARKERS) -> rule.
    scaling : segment -> (pairs of markers or keypoints, "a+b" a midpoint; OpenSim bodies, sides stripped).
    order : "above", "ahead of" or "outside of" -> marker pairs in that order on an upright person.
    sizes : body (side stripped) -> distance to its next joint on the model that the locations belong to, m.
    pelvis : "asis_l", "asis_r", "psis_l", "psis_r" -> marker.
    """

    name: str
    markers: dict[str, Place]
    keypoints: dict[str, KeypointRule]
    scaling: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]]
    order: dict[str, tuple[tuple[str, str], ...]]
    sizes: dict[str, float]
    pelvis: dict[str, str]

    @classmethod
    def load(cls, name: str | Path) -> MarkerSet:
        """A shipped map by its name, or any YAML file of the same form.

        Raises
        ------
        ExoError : if there is no such map or it is damaged.
        """
        path = Path(name) if Path(name).suffix else FOLDER / f"{name}.yaml"
        if not path.is_file():
            raise ExoError(f"there is no marker-set map {name}; give one of {', '.join(shipped())} or a YAML file")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(
                str(content["name"]),
                {key: _place(key, value) for key, value in _both_sides(content["markers"]).items()},
                {key: _rule(value) for key, value in _both_sides(content["keypoints"]).items()},
                {key: _segment(value) for key, value in content["scaling"].items()},
                {key: _pairs(value) for key, value in content["order"].items()},
                {key: float(value) for key, value in content["model"]["sizes"].items()},
                {
                    f"{key}_{side}": _sided(template, side)
                    for key, template in content["pelvis"].items()
                    for side in SIDES
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise ExoError(f"{path} is not a marker-set map ({error}); compare it with {FOLDER}") from None

    def side_of(self, marker: str) -> str:
        """ "l" or "r" by the body that carries the marker or by its name's first letter; "" in the middle."""
        body = self.markers[marker].body
        return _side(marker, body)

    def used(self) -> tuple[str, ...]:
        """Markers that keypoints are made of."""
        names = [name for rule in self.keypoints.values() for name in (*rule.midpoint, rule.beyond) if name]
        return tuple(dict.fromkeys([*self.pelvis.values(), *names]))

    def with_keypoints(self, markers: Markers) -> Markers:
        """The markers of this set and, after them, the keypoints made of them; OpenSim's frame, m.

        Keypoints whose markers are missing are left out.
        """
        keypoints = self.keypoints_of(markers)
        known = [i for i, name in enumerate(markers.names) if name in self.markers]
        return Markers(
            markers.time,
            tuple(markers.names[i] for i in known) + keypoints.names,
            np.concatenate([markers.position[:, known], keypoints.position], axis=1),
        )

    def keypoints_of(self, markers: Markers) -> Markers:
        """BlazePose-named keypoints (joint centres, heels, toes) from markers in OpenSim's frame."""
        at = {name: markers.position[:, i] for i, name in enumerate(markers.names)}
        found: dict[str, FloatArray] = {}
        for name, rule in self.keypoints.items():
            needed = [*rule.midpoint, *([rule.beyond] if rule.beyond else [])]
            needed += list(self.pelvis.values()) if rule.hip_centre or rule.inward else []
            if all(marker in at for marker in needed):
                found[name] = self._keypoint(rule, name[0].lower(), at)
        if not found:
            return Markers(markers.time, (), np.empty((len(markers.time), 0, 3)))
        return Markers(markers.time, tuple(found), np.stack(list(found.values()), axis=1))

    def _keypoint(self, rule: KeypointRule, side: str, at: Mapping[str, FloatArray]) -> FloatArray:
        if rule.hip_centre:
            return self._hip_centre(side, at)
        point: FloatArray = np.mean([at[name] for name in rule.midpoint], axis=0)
        if rule.beyond:
            point = point + rule.by * (point - at[rule.beyond])
        if rule.inward:
            towards_right = at[self.pelvis["asis_r"]] - at[self.pelvis["asis_l"]]
            inward = towards_right if side == "l" else -towards_right
            limb = _unit(self._hip_centre(side, at) - point)
            point = point + rule.inward * _unit(inward - np.sum(inward * limb, axis=1, keepdims=True) * limb)
        return point - rule.down * UP

    def _hip_centre(self, side: str, at: Mapping[str, FloatArray]) -> FloatArray:
        asis = {s: at[self.pelvis[f"asis_{s}"]] for s in SIDES}
        front = (asis["l"] + asis["r"]) / 2.0
        back = (at[self.pelvis["psis_l"]] + at[self.pelvis["psis_r"]]) / 2.0
        size = {
            "width": np.linalg.norm(asis["r"] - asis["l"], axis=1, keepdims=True),
            "depth": np.linalg.norm(front - back, axis=1, keepdims=True),
        }
        right = _unit(asis["r"] - asis["l"])
        up = _unit(np.cross(right, front - back))
        forward = np.cross(up, right)
        ahead, above, aside = (slope * size[measure] + constant for slope, measure, constant in HARRINGTON)
        return np.asarray(front + ahead * forward + above * up + (aside if side == "r" else -aside) * right)


def shipped() -> tuple[str, ...]:
    """Names of the maps that come with this package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def recognise(names: Iterable[str]) -> MarkerSet:
    """The shipped map that fits a recording's marker names.

    Raises
    ------
    ExoError : if none fits; names the nearest map and what it misses.
    """
    present = set(names)
    maps = [MarkerSet.load(name) for name in shipped()]
    best = max(maps, key=lambda one: len(present & set(one.markers)) / len(one.markers))
    missing = [name for name in best.used() if name not in present]
    if len(present & set(best.markers)) < RECOGNISED_SHARE * len(best.markers):
        close = [f"{name} for {hit[0]}" for name in missing if (hit := difflib.get_close_matches(name, present, 1))]
        raise ExoError(
            f"the marker names fit none of the maps {', '.join(shipped())}; nearest is {best.name}, of which "
            f"{', '.join(missing[:6])}{' ...' if len(missing) > 6 else ''} are missing"
            f"{' (rename ' + ', '.join(close[:3]) + '?)' if close else ''}; give your own map as a YAML file"
        )
    if missing:
        raise ExoError(
            f"marker {', '.join(missing[:6])} of the set {best.name} is missing; label it or write a map without it"
        )
    return best


def _both_sides(templates: Mapping[str, Any]) -> dict[str, Any]:
    result = {}
    for key, value in templates.items():
        for side in SIDES:
            result[_sided(key, side)] = _sided_value(value, side)
    return result


def _sided(text: str, side: str) -> str:
    return text.replace("{S}", side.upper()).replace("{s}", side)


def _sided_value(value: Any, side: str) -> Any:
    if isinstance(value, str):
        return _sided(value, side)
    if isinstance(value, Mapping):
        return {key: _sided_value(item, side) for key, item in value.items()}
    if isinstance(value, list):
        return [_sided_value(item, side) for item in value]
    return value


def _place(name: str, value: Mapping[str, Any]) -> Place:
    location = value.get("location")
    if location is not None:
        x, y, z = map(float, location)
        location = (x, y, -z if _side(name, value["body"]) == "l" else z)
    return Place(str(value["is"]), str(value["body"]), location, float(value["weight"]))


def _side(marker: str, body: str) -> str:
    if body[-2:] in ("_l", "_r"):
        return body[-1]
    return marker[0].lower() if marker[:2] in ("L_", "R_", "L.", "R.") else ""


def _rule(value: Mapping[str, Any]) -> KeypointRule:
    return KeypointRule(**{**value, "midpoint": tuple(value.get("midpoint", ()))})


def _segment(value: Mapping[str, Any]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    return _pairs(value["pairs"]), tuple(value["bodies"])


def _pairs(templates: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(dict.fromkeys((_sided(a, side), _sided(b, side)) for a, b in templates for side in SIDES))


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
