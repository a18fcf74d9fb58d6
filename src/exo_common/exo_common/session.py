"""The session: a folder that holds everything recorded of one wearer on one day.

    session.yaml
      wearer:       {id: w01, height: 1.72, mass: 68.0, sex: female, affected_side: none}   # m, kg
      cameras:      [{name: side, video: side.mp4}]    # one side view, or several with a calibration
      walking:      {start: 1.8, end: 6.3}             # optional, s: the part of the recording to use
      person:       2                                  # optional: which of several people, 1 is the first
      pose_model:   heavy                              # optional, of videos: full (default), heavy or lite
      calibration:  calibration.toml                   # of several cameras: Pose2Sim's .toml or Qualisys' .qca.txt

A camera may bring another tool's landmarks in place of a video, a folder of OpenPose-style JSON files:

      cameras:      [{name: side, landmarks: side_json, rate: 60, size: [1920, 1080]}]      # Hz, px

In place of cameras there may be skin markers, or 3-D keypoints of another tool:

      markers:      {file: walk.c3d, static: static.c3d, set: gait_speeds_52}   # static, set: optional; C3D or TRC
      markers:      {file: walk.trc, forces: plates.xml, model: generic.osim}   # OpenSim's ExternalLoads; any .osim
      keypoints:    {file: walk.trc}

Beside any of them there may be EMG of the same walk; `emg: {}` takes that of the markers' own C3D file:

      emg:          {file: emg.csv, unit: mV, muscles: {CH1: tibialis_anterior_r}, sync: {method: taps}}

`muscles` names the channels whose labels do not (`trigger` for one that is no muscle); `unit` is needed where the file
does not tell it. `sync` says how the EMG's clock is related to that of the recording; it is left out for the markers'
own file, which has one clock:

      sync: {method: offset, offset: 0.12, uncertainty: 0.004}      # s to add to the EMG's times, and how sure that is
      sync: {method: trigger, channel: SYNC, reference: pulses.csv} # pulses on a channel; their times (s) on the other
                                                                    # clock, or a C3D file with reference_channel: SYNC
                                                                    # edge: rising | falling where pulses are long
      sync: {method: lsl, reference: corrections.csv}               # time, offset, uncertainty (s) that LSL measured;
                                                                    # only for a walk whose times are LSL's own clock
                                                                    # (a video or C3D begins at 0: trigger or taps)
      sync: {method: taps, start: 1, end: 6}                        # heel taps that the recording and the EMG saw

File names are relative to the session folder. Height and mass are the wearer's own; every other key has a default.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exo_common.errors import ExoError
from exo_common.parameters import P, Parameters, from_mapping, parameter

FILE = "session.yaml"
EXAMPLE = "README, 'A session'"


class Source(enum.Enum):
    """What kind of recording a session holds."""

    SIDE_VIEW = "one camera"
    CAMERAS = "several cameras"
    MARKERS = "markers"
    KEYPOINTS = "keypoints"


# The keys that say how to use a recording, and the kinds of recording that they can be said of.
USES = {
    "walking": (Source.SIDE_VIEW, Source.CAMERAS, Source.KEYPOINTS),
    "person": (Source.SIDE_VIEW, Source.CAMERAS),
    "pose_model": (Source.SIDE_VIEW, Source.CAMERAS),
}
KEYS = ("wearer", "cameras", "calibration", "markers", "keypoints", "emg", *USES)
EDGES = ("", "rising", "falling")
EMG_UNITS = ("V", "mV", "uV")
SAME_CLOCK, OFFSET, TRIGGER, LSL, TAPS = "same_clock", "offset", "trigger", "lsl", "taps"
# What each way of relating two clocks needs to be told, beside its name.
SYNC_NEEDS = {
    SAME_CLOCK: (),
    OFFSET: ("offset", "uncertainty"),
    TRIGGER: ("channel", "reference"),
    LSL: ("reference",),
    TAPS: (),
}


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
    """One camera of a session: a video, or landmarks that another tool found in one."""

    name: str = parameter("", "", "name of the camera; with a calibration, the name it has there")
    video: str = parameter("", "", "video file, relative to the session folder")
    landmarks: str = parameter("", "", "folder of OpenPose-style JSON files, relative to the session folder")
    rate: float = parameter(0.0, "Hz", "pictures per second behind the landmarks", minimum=0.0, maximum=1000.0)
    size: list[int] = parameter([], "px", "width and height of those pictures", minimum=1, maximum=20000)


@dataclasses.dataclass(frozen=True)
class MarkerFiles(Parameters):
    """A marker recording of a walk."""

    file: str = parameter("", "", "the walk, C3D or TRC, relative to the session folder")
    static: str = parameter("", "", "quiet stance with the same markers, if there is one")
    set: str = parameter("", "", "marker set: a shipped one's name or a YAML file; recognised if not given")
    forces: str = parameter("", "", "ExternalLoads (.xml) of the walk, where its own file holds no force plates")
    model: str = parameter("", "", "unscaled OpenSim model (.osim), wherever it is; the usual one if not given")


@dataclasses.dataclass(frozen=True)
class KeypointFile(Parameters):
    """Joint keypoints in 3-D that another tool found."""

    file: str = parameter("", "", "TRC file, relative to the session folder")
    convention: str = parameter(
        "joint_centres",
        "",
        "what the keypoints mean: joint centres, or BlazePose's places",
        choices=("joint_centres", "blazepose"),
    )


@dataclasses.dataclass(frozen=True)
class EmgSync(Parameters):
    """How the clock of the EMG is related to that of the recording."""

    method: str = parameter("", "", "what both clocks have in common", choices=tuple(SYNC_NEEDS))
    offset: float = parameter(0.0, "s", "what to add to the EMG's times to have the recording's")
    uncertainty: float = parameter(0.0, "s", "half width of the offset's 95 % interval", minimum=0.0, maximum=10.0)
    channel: str = parameter("", "", "label of the EMG file's channel with the trigger's pulses")
    reference: str = parameter("", "", "file with the recording's side of the matter, relative to the session folder")
    reference_channel: str = parameter("", "", "label of the pulses' channel, where the reference is a C3D file")
    edge: str = parameter("", "", "edge that the other side saw; empty: away from rest", choices=EDGES)
    reference_edge: str = parameter("", "", "the same of the reference's channel", choices=EDGES)
    within: float = parameter(0.0, "s", "the clocks differ by no more than this; 0: nothing is known", minimum=0.0)
    start: float = parameter(0.0, "s", "start of the heel taps on the recording's clock", minimum=0.0)
    end: float = parameter(1e9, "s", "end of the heel taps on the recording's clock", minimum=0.0)
    emg_start: float = parameter(0.0, "s", "start of the heel taps on the EMG's clock")
    emg_end: float = parameter(1e9, "s", "end of the heel taps on the EMG's clock")


@dataclasses.dataclass(frozen=True)
class EmgFile:
    """EMG of the walk.

    Attributes
    ----------
    file : C3D, CSV, STO or MOT file, or rosbag2 folder, relative to the session folder.
    muscles : channel label -> muscle, where the labels do not say it themselves.
    unit : V, mV or uV; empty where the file tells.
    sync : how its clock is related to the recording's.
    """

    file: str
    muscles: Mapping[str, str]
    unit: str
    sync: EmgSync


@dataclasses.dataclass(frozen=True)
class Walking(Parameters):
    """The part of the recording to use."""

    start: float = parameter(0.0, "s", "start of the walk in the recording", minimum=0.0)
    end: float = parameter(1e9, "s", "end of the walk in the recording", minimum=0.0)


@dataclasses.dataclass(frozen=True)
class Use(Parameters):
    """How people are found in the recording."""

    person: int = parameter(0, "", "which of several people, 1 is the first; 0 finds the wearer", minimum=0, maximum=99)
    pose_model: str = parameter("full", "", "pose model for videos", choices=("full", "heavy", "lite"))


@dataclasses.dataclass(frozen=True)
class Session:
    """A validated session. Of `cameras`, `markers` and `keypoints` one is there, the others are empty or None."""

    folder: Path
    wearer: Wearer
    cameras: tuple[Camera, ...] = ()
    calibration: Path | None = None
    markers: MarkerFiles | None = None
    keypoints: KeypointFile | None = None
    emg: EmgFile | None = None
    walking: Walking = dataclasses.field(default_factory=Walking)
    use: Use = dataclasses.field(default_factory=Use)

    @property
    def source(self) -> Source:
        """The kind of recording."""
        if self.markers is not None:
            return Source.MARKERS
        if self.keypoints is not None:
            return Source.KEYPOINTS
        return Source.SIDE_VIEW if self.calibration is None else Source.CAMERAS

    @property
    def person(self) -> int | None:
        """Which of several people, 1 is the first; None leaves the choice to the capture."""
        return self.use.person or None

    def path(self, name: str) -> Path:
        """Path of a file that the session names."""
        return self.folder / name


def load(folder: Path) -> Session:
    """Load and validate a session folder.

    Raises
    ------
    ExoError : naming the file, the key and the cure.
    """
    path = folder / FILE
    raw = _read(path)
    wearer = _wearer(path, raw.get("wearer"))
    _require_one_recording(path, raw)
    session = Session(
        folder,
        wearer,
        cameras=_cameras(path, raw["cameras"]) if "cameras" in raw else (),
        calibration=_file(path, "calibration", raw["calibration"]) if "calibration" in raw else None,
        markers=_section(path, "markers", raw, MarkerFiles) if "markers" in raw else None,
        keypoints=_section(path, "keypoints", raw, KeypointFile) if "keypoints" in raw else None,
        emg=_emg(path, raw) if "emg" in raw else None,
        walking=_section(path, "walking", raw, Walking),
        use=from_mapping(Use, {key: raw[key] for key in ("person", "pose_model") if key in raw}, str(path)),
    )
    _check_cameras(path, session)
    _check_files(path, session)
    for key, sources in USES.items():
        if key in raw and session.source not in sources:
            raise ExoError(f"{path}: '{key}' says nothing about {session.source.value}; remove the key")
    if "pose_model" in raw and not any(camera.video for camera in session.cameras):
        raise ExoError(f"{path}: 'pose_model' says nothing about landmarks that are found already; remove the key")
    if session.walking.end <= session.walking.start:
        raise ExoError(f"{path}: walking.end must be later than walking.start; correct the times")
    return session


def load_wearer(folder: Path) -> Wearer:
    """The wearer of a session whose recording may still be to come.

    Raises
    ------
    ExoError : naming the file, the key and the cure.
    """
    path = folder / FILE
    return _wearer(path, _read(path).get("wearer"))


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ExoError(f"{path} is missing; a session is a folder with a {FILE} (see {EXAMPLE})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExoError(f"{path} is not valid YAML ({str(error).splitlines()[0]}); mend that line") from None
    if not isinstance(raw, dict):
        raise ExoError(f"{path} is empty or not a mapping; start from the example in {EXAMPLE}")
    unknown = sorted(map(str, set(raw) - set(KEYS)))
    if unknown:
        raise ExoError(f"{path}: unknown key '{unknown[0]}'; known keys are {', '.join(KEYS)}")
    return raw


def _require_one_recording(path: Path, raw: Mapping[str, Any]) -> None:
    kinds = [key for key in ("cameras", "markers", "keypoints") if key in raw]
    if len(kinds) > 1:
        raise ExoError(f"{path} lists {' and '.join(kinds)}, but a twin is made of one recording; keep one of them")
    if not kinds:
        raise ExoError(f"{path} names no recording; add 'cameras', 'markers' or 'keypoints' (see {EXAMPLE})")
    if "calibration" in raw and "cameras" not in raw:
        raise ExoError(f"{path}: 'calibration' belongs to cameras, but there are {kinds[0]}; remove the key")


def _emg(path: Path, raw: Mapping[str, Any]) -> EmgFile:
    """The EMG of a session; that of the markers' own C3D file has their clock and needs no name."""
    where, values = f"{path}, emg", _mapping(path, "emg", raw["emg"])
    unknown = sorted(map(str, set(values) - {"file", "muscles", "unit", "sync"}))
    if unknown:
        raise ExoError(f"{where}: unknown key '{unknown[0]}'; known keys are file, muscles, unit, sync")
    markers = raw["markers"].get("file") if isinstance(raw.get("markers"), dict) else None
    own = isinstance(markers, str) and markers.lower().endswith(".c3d")
    if "file" not in values and not own:
        raise ExoError(f"{where} names no file; add 'file', or leave it out only beside markers in a C3D file")
    file = values.get("file", markers)
    if not isinstance(file, str) or not file or not (path.parent / file).exists():
        raise ExoError(
            f"{path}: emg.file '{file}' is not in {path.parent}; copy the recording there or correct the name"
        )
    muscles = _mapping(path, "emg.muscles", values.get("muscles", {}))
    bad = next((label for label, muscle in muscles.items() if not isinstance(muscle, str) or not muscle), None)
    if bad is not None:
        raise ExoError(f"{where}: channel '{bad}' has no muscle's name; give one such as tibialis_anterior_r")
    unit = values.get("unit", "")
    if unit not in ("", *EMG_UNITS):
        raise ExoError(f"{where}: unit '{unit}' is unknown; choose one of {', '.join(EMG_UNITS)}")
    sync = _emg_sync(path, values.get("sync"), shared=own and file == markers)
    return EmgFile(file, {str(label): muscle for label, muscle in muscles.items()}, unit, sync)


def _emg_sync(path: Path, raw: Any, shared: bool) -> EmgSync:
    where = f"{path}, emg.sync"
    if raw is None:
        if not shared:
            raise ExoError(
                f"{path}: emg comes from another file than the walk, so its clock must be related to it; add 'sync' "
                f"with method {', '.join(SYNC_NEEDS)} (see {EXAMPLE})"
            )
        return EmgSync(method=SAME_CLOCK)
    values = _mapping(path, "emg.sync", raw)
    if "method" not in values:
        raise ExoError(f"{where}: key 'method' is missing; choose one of {', '.join(SYNC_NEEDS)}")
    sync = from_mapping(EmgSync, values, where)
    missing = [key for key in SYNC_NEEDS[sync.method] if key not in values]
    if missing:
        raise ExoError(f"{where}: method {sync.method} needs '{missing[0]}'; add it")
    if sync.reference:
        _file(path, "emg.sync.reference", sync.reference)
    if sync.end <= sync.start or sync.emg_end <= sync.emg_start:
        raise ExoError(f"{where}: the taps must end later than they start; correct the times")
    return sync


def _cameras(path: Path, raw: Any) -> tuple[Camera, ...]:
    if not isinstance(raw, list) or not raw:
        raise ExoError(f"{path}: key 'cameras' must list at least one camera; add one with name and video")
    return tuple(
        from_mapping(Camera, _mapping(path, "cameras", value), f"{path}, cameras[{i}]") for i, value in enumerate(raw)
    )


def _check_cameras(path: Path, session: Session) -> None:
    cameras, several = session.cameras, session.calibration is not None
    if len(cameras) > 1 and not several:
        raise ExoError(
            f"{path} lists {len(cameras)} cameras without a calibration; add 'calibration: calibration.toml', "
            "or keep the one that films from the side"
        )
    if len(cameras) == 1 and several:
        raise ExoError(
            f"{path}: a calibration needs two or more cameras, there is one; add the others, "
            "or remove the key for one camera that films from the side"
        )
    for i, camera in enumerate(cameras):
        where = f"{path}, cameras[{i}]"
        if bool(camera.video) == bool(camera.landmarks):
            raise ExoError(f"{where} needs either 'video' or 'landmarks'; name one of them")
        if camera.landmarks and (camera.rate <= 0.0 or len(camera.size) != 2):
            raise ExoError(
                f"{where}: the landmarks do not tell of their video; give 'rate' (Hz) and 'size' ([width, height] px)"
            )
        if camera.video and (camera.rate or camera.size):
            raise ExoError(f"{where}: a video tells its rate and size itself; remove 'rate' and 'size'")
        if several and not camera.name:
            raise ExoError(f"{where} has no name; give it the name that the calibration gives the camera")
        if camera.name in {other.name for other in cameras[:i]}:
            raise ExoError(f"{where}: there are two cameras '{camera.name}'; name each as the calibration does")
    if any(camera.video for camera in cameras) and any(camera.landmarks for camera in cameras):
        raise ExoError(f"{path}: some cameras bring a video and others landmarks; bring the same of every camera")


def _check_files(path: Path, session: Session) -> None:
    for i, camera in enumerate(session.cameras):
        if camera.video:
            _file(path, f"cameras[{i}].video", camera.video)
        elif not session.path(camera.landmarks).is_dir():
            raise ExoError(
                f"{path}: cameras[{i}].landmarks '{camera.landmarks}' is not a folder in {session.folder}; "
                "copy the folder of JSON files there or correct the name"
            )
    if session.markers is not None:
        _file(path, "markers.file", session.markers.file)
        for key in ("static", "forces", "model"):
            if name := getattr(session.markers, key):
                _file(path, f"markers.{key}", name)
        if Path(session.markers.set).suffix:
            _file(path, "markers.set", session.markers.set)
    if session.keypoints is not None:
        _file(path, "keypoints.file", session.keypoints.file)


def _file(path: Path, key: str, name: Any) -> Path:
    if not isinstance(name, str) or not name or not (path.parent / name).is_file():
        raise ExoError(
            f"{path}: {key} '{name}' is not a file in {path.parent}; copy the file there or correct the name"
        )
    return path.parent / name


def _section(path: Path, key: str, raw: Mapping[str, Any], cls: type[P]) -> P:
    return from_mapping(cls, _mapping(path, key, raw.get(key, {})), f"{path}, {key}")


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ExoError(f"{path}: key '{key}' must hold names and values, not {value!r}; see {EXAMPLE}")
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
