"""Landmarks that another tool found: OpenPose-style JSON folders (2-D) and TRC files of keypoints (3-D)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exo_capture.landmarks import MARKERS, Detections
from exo_capture.pose import N_LANDMARKS
from exo_common.errors import ExoError
from exo_common.opensim_files import Markers, read_trc


def _slots(names: str) -> dict[int, int]:
    """BlazePose's slot of each keypoint that has one, from the names in the order of the tool's output."""
    known = {**MARKERS, "LEar": 7, "REar": 8}
    return {index: known[name] for index, name in enumerate(names.split()) if name in known}


_COCO = "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee RKnee LAnkle RAnkle "
# Of each layout the number of keypoints per person, and the slot of each keypoint that has one ("-": no slot fits).
LAYOUTS: dict[str, tuple[int, dict[int, int]]] = {
    "BODY_25": (
        25,
        _slots(
            "Nose - RShoulder RElbow RWrist LShoulder LElbow LWrist - RHip RKnee RAnkle LHip LKnee LAnkle "
            "REye LEye REar LEar LBigToe - LHeel RBigToe - RHeel"
        ),
    ),
    "BODY_25B": (25, _slots(_COCO + "- - LBigToe - LHeel RBigToe - RHeel")),
    "HALPE_26": (26, _slots(_COCO + "- - - LBigToe RBigToe - - LHeel RHeel")),
    "COCO_17": (17, _slots(_COCO)),
    "COCO_133": (133, _slots(_COCO + "LBigToe - LHeel RBigToe - RHeel")),
    "BLAZEPOSE": (N_LANDMARKS, {slot: slot for slot in range(N_LANDMARKS)}),
}
# OpenPose's own layout wins over its rare successor of the same length; the user can name the other.
BY_LENGTH = {length: name for name, (length, _) in reversed(list(LAYOUTS.items()))}

FILES = "*.json"
MAX_PICTURES_PER_FILE = 10  # somebody is in at least a tenth of the pictures; times as numbers span far more
FOLDER_SUFFIX = "_json"

# Other tools' words for our marker names, letters only and in lower case.
ALIASES = {"footindex": "bigtoe", "toe": "bigtoe", "foot": "bigtoe"}
NEEDED = ("LHip", "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle")
# Height over the ankles as a share of stature (Winter 2009, fig. 4.1), best known part first.
HEIGHT_SHARE = {("LEye", "REye"): 0.897, ("Nose",): 0.87, ("LShoulder", "RShoulder"): 0.779, ("LHip", "RHip"): 0.491}
STATURE_M = (1.0, 2.3)
UPRIGHT = 0.9  # cosine of the body axis to the vertical: a walking trunk leans less than 25 degrees


def read_json_folder(
    folder: Path, rate_hz: float, size: tuple[int, int], layout: str | None = None, camera: str | None = None
) -> Detections:
    """Everybody in a folder of OpenPose-style files, one per picture (`people[].pose_keypoints_2d`: x, y, confidence).

    The last number in a file's name is the picture's number; pictures without a file are pictures without people.

    Parameters
    ----------
    rate_hz : frame rate of the recording; the files do not tell.
    size : (width, height) px of the pictures.
    layout : one of LAYOUTS; by default the one of the files' number of keypoints.
    camera : its name; by default the folder's, without "_json".

    Raises
    ------
    ExoError : if the folder holds no such files, a file is damaged, two files have the same number, the numbers do
        not count pictures, or the layout does not fit.
    """
    if not np.isfinite(rate_hz) or rate_hz <= 0.0:
        raise ExoError(f"{rate_hz:g} is no frame rate; give the pictures per second of the recording, e.g. 60")
    numbered = _numbered_files(folder)
    numbers = np.array(sorted(numbered))
    frames: list[int] = []
    people: list[NDArray[np.float64]] = []
    for number in numbers:
        for keypoints in _people(numbered[int(number)]):
            landmarks = _to_slots(keypoints, layout, numbered[int(number)])
            if np.isfinite(landmarks[:, 0]).any():
                frames.append(int(number - numbers[0]))
                people.append(landmarks)
    return Detections(
        camera=camera or folder.name.removesuffix(FOLDER_SUFFIX),
        size=size,
        time=np.arange(numbers[0], numbers[-1] + 1) / rate_hz,
        frame=np.array(frames, dtype=np.int64),
        landmarks=np.array(people, dtype=float).reshape(-1, N_LANDMARKS, 3),
    )


def keypoints_from_trc(path: Path) -> Markers:
    """Keypoints (not skin markers) of another tool's TRC file, under our marker names; others are left out.

    Raises
    ------
    ExoError : if hips, knees or ankles are missing, or the numbers are not those of an upright person in metres in
        a frame whose y axis points up.
    """
    source = read_trc(path)
    columns: dict[str, int] = {}
    for column, name in enumerate(source.names):
        known = _MARKER_OF.get(_canonical(name))
        if known is not None:
            columns.setdefault(known, column)
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise ExoError(
            f"{path} has no keypoint called {', '.join(missing)} (it has {', '.join(source.names[:8])} ...); "
            "give a file of joint keypoints, or name skin markers by a marker set"
        )
    names = tuple(name for name in MARKERS if name in columns)
    markers = Markers(source.time, names, source.position[:, [columns[name] for name in names]])
    _require_upright_person(path, markers)
    return markers


def _numbered_files(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        raise ExoError(f"the folder {folder} of landmark files is missing; check its name")
    numbered: dict[int, Path] = {}
    for path in sorted(folder.glob(FILES)):
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            continue
        number = int(digits[-1])
        if number in numbered:
            raise ExoError(
                f"{numbered[number].name} and {path.name} in {folder} both belong to picture {number}; "
                "keep the files of one recording per folder"
            )
        numbered[number] = path
    if len(numbered) < 2:
        raise ExoError(
            f"{folder} holds {len(numbered)} landmark files with a picture number in their name; "
            "give the folder of one camera with a *.json file per picture"
        )
    if max(numbered) - min(numbered) > MAX_PICTURES_PER_FILE * len(numbered):
        raise ExoError(
            f"the {len(numbered)} landmark files in {folder} are numbered from {min(numbered)} to {max(numbered)}, "
            "which are times rather than pictures; number the files 0, 1, 2, ... by picture"
        )
    return numbered


def _people(path: Path) -> list[NDArray[np.float64]]:
    """Keypoints (k, 3) of each person of one file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        flat = [np.array(person["pose_keypoints_2d"], dtype=float) for person in document["people"]]
        return [keypoints.reshape(-1, 3) for keypoints in flat if keypoints.size]
    except OSError as error:
        raise ExoError(f"{path} cannot be read ({error.strerror}); check the rights") from None
    except (ValueError, KeyError, TypeError):
        raise ExoError(
            f"{path} is not an OpenPose-style landmark file (people with pose_keypoints_2d); export it again"
        ) from None


def _to_slots(keypoints: NDArray[np.float64], layout: str | None, path: Path) -> NDArray[np.float64]:
    """Landmarks (33, 3) of one person's keypoints (k, 3); what is missing or has no confidence is NaN."""
    if layout is None and len(keypoints) not in BY_LENGTH:
        raise ExoError(
            f"{path} has {len(keypoints)} keypoints per person, which fits no layout of {', '.join(LAYOUTS)}"
        )
    name = layout or BY_LENGTH[len(keypoints)]
    if name not in LAYOUTS:
        raise ExoError(f"there is no keypoint layout '{name}'; choose one of {', '.join(LAYOUTS)}")
    length, slots = LAYOUTS[name]
    if len(keypoints) != length:
        raise ExoError(
            f"{path} has {len(keypoints)} keypoints per person but {name} has {length}; name the right layout"
        )
    landmarks = np.full((N_LANDMARKS, 3), np.nan)
    for index, slot in slots.items():
        # Some estimators' scores exceed 1 a little.
        if np.isfinite(keypoints[index]).all() and keypoints[index, 2] > 0.0:
            landmarks[slot] = (*keypoints[index, :2], min(keypoints[index, 2], 1.0))
    return landmarks


def _canonical(name: str) -> str:
    """A marker name as side letter and part: "LEFT_FOOT_INDEX" and "LBigToe" are both "lbigtoe"."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    for word in ("left", "right"):
        if letters.startswith(word):
            letters = word[0] + letters.removeprefix(word)
    return letters[:1] + ALIASES[letters[1:]] if letters[1:] in ALIASES else letters


_MARKER_OF = {_canonical(name): name for name in MARKERS}


def _require_upright_person(path: Path, markers: Markers) -> None:
    def middle(*names: str) -> NDArray[np.float64]:
        return np.asarray(markers.position[:, [markers.names.index(name) for name in names]].mean(axis=1))

    top, share = next((names, s) for names, s in HEIGHT_SHARE.items() if set(names) <= set(markers.names))
    axis = middle(*top) - middle("LAnkle", "RAnkle")
    seen = np.isfinite(axis).all(axis=1)
    if not seen.any():
        raise ExoError(f"{path} has no frame with {top[0]} and both ankles; export the gaps filled")
    body = np.median(axis[seen], axis=0)
    length = float(np.linalg.norm(body))
    stature = length / share
    for factor, advice in ((1e-3, "Units must be mm"), (1e-2, "Units must be cm"), (1e3, "Units must be m")):
        if not STATURE_M[0] <= stature <= STATURE_M[1] and STATURE_M[0] <= stature * factor <= STATURE_M[1]:
            raise ExoError(f"the person in {path} would be {stature:.3g} m tall; mend its header: {advice}")
    if not STATURE_M[0] <= stature <= STATURE_M[1]:
        raise ExoError(
            f"the person in {path} would be {stature:.3g} m tall; check its units and that it holds one standing person"
        )
    if body[1] < UPRIGHT * length:
        largest = int(np.argmax(np.abs(body)))
        direction = f"{'-' if body[largest] < 0.0 else '+'}{'xyz'[largest]}"
        raise ExoError(
            f"the person in {path} stands along {direction}; turn the data so that y points up, as OpenSim expects"
        )
