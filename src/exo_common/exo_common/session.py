"""The session: a folder that holds everything recorded of one wearer on one day.

    session.yaml
      wearer:   {id: w01, height: 1.72, mass: 68.0, sex: female, affected_side: none}   # m, kg
      cameras:  [{name: side, video: side.mp4, view: sagittal}]
      walking:  {start: 1.8, end: 6.3}        # optional, s within the video

Height and mass are the wearer's own; every other key has a default.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from exo_common.errors import ExoError
from exo_common.parameters import Parameters, from_mapping, parameter

FILE = "session.yaml"


@dataclasses.dataclass(frozen=True)
class Wearer(Parameters):
    """The person of a session."""

    id: str = parameter("", "", "short name of the wearer, used in file names and manifests")
    height: float = parameter(0.0, "m", "standing height", minimum=1.0, maximum=2.3)
    mass: float = parameter(0.0, "kg", "body mass", minimum=20.0, maximum=250.0)
    sex: str = parameter("unknown", "", "sex", choices=("female", "male", "unknown"))
    affected_side: str = parameter("none", "", "side affected by disease", choices=("none", "left", "right", "both"))


@dataclasses.dataclass(frozen=True)
class Camera(Parameters):
    """One camera of a session."""

    name: str = parameter("", "", "name of the camera")
    video: str = parameter("", "", "video file, relative to the session folder")
    view: str = parameter("sagittal", "", "how the camera sees the walk", choices=("sagittal",))


@dataclasses.dataclass(frozen=True)
class Walking(Parameters):
    """The part of the video to use."""

    start: float = parameter(0.0, "s", "start of the walk in the video", minimum=0.0)
    end: float = parameter(1e9, "s", "end of the walk in the video", minimum=0.0)


@dataclasses.dataclass(frozen=True)
class Session:
    """A validated session."""

    folder: Path
    wearer: Wearer
    cameras: tuple[Camera, ...]
    walking: Walking

    def video(self, camera: Camera) -> Path:
        """Path of a camera's video."""
        return self.folder / camera.video


def load(folder: Path) -> Session:
    """Load and validate a session folder.

    Raises
    ------
    ExoError : naming the file, the key and the cure.
    """
    path = folder / FILE
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ExoError(f"{path} is missing; a session is a folder with a {FILE} (see README, 'A session')") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExoError(f"{path} is not valid YAML ({str(error).splitlines()[0]}); mend that line") from None
    if not isinstance(raw, dict):
        raise ExoError(f"{path} is empty or not a mapping; start from the example in README, 'A session'")
    unknown = sorted(map(str, set(raw) - {"wearer", "cameras", "walking"}))
    if unknown:
        raise ExoError(f"{path}: unknown key '{unknown[0]}'; known keys are wearer, cameras, walking")
    wearer = _wearer(path, raw.get("wearer"))
    cameras = raw.get("cameras")
    if not isinstance(cameras, list) or not cameras:
        raise ExoError(f"{path}: key 'cameras' must list at least one camera; add one with name and video")
    session = Session(
        folder,
        wearer,
        tuple(
            from_mapping(Camera, _mapping(path, "cameras", c), f"{path}, cameras[{i}]") for i, c in enumerate(cameras)
        ),
        from_mapping(Walking, _mapping(path, "walking", raw.get("walking", {})), f"{path}, walking"),
    )
    if session.walking.end <= session.walking.start:
        raise ExoError(f"{path}: walking.end must be later than walking.start; correct the times")
    for i, camera in enumerate(session.cameras):
        if not camera.video or not session.video(camera).is_file():
            raise ExoError(
                f"{path}: cameras[{i}].video '{camera.video}' is not a file in {folder}; "
                "copy the video there or correct the name"
            )
    return session


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ExoError(f"{path}: key '{key}' must hold names and values, not {value!r}; see README, 'A session'")
    return value


def _wearer(path: Path, raw: Any) -> Wearer:
    values = _mapping(path, "wearer", raw)
    source = f"{path}, wearer"
    for key, unit in (("id", "a short name"), ("height", "m"), ("mass", "kg")):
        if key not in values:
            raise ExoError(f"{source}: key '{key}' is missing; give the wearer's {key} ({unit})")
    height = values["height"]
    if isinstance(height, int | float) and 100 <= height <= 230:
        raise ExoError(f"{source}: height {height} looks like cm; give it in m, e.g. {height / 100:.2f}")
    if isinstance(height, int | float) and 1000 <= height <= 2300:
        raise ExoError(f"{source}: height {height} looks like mm; give it in m, e.g. {height / 1000:.2f}")
    if not isinstance(values["id"], str | int) or not str(values["id"]).strip():
        raise ExoError(f"{source}: id {values['id']!r} is no name; give a short name such as w01")
    return from_mapping(Wearer, dict(values, id=str(values["id"])), source)
